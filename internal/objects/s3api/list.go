package s3api

import (
	"context"
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/shardmill/shardmill/internal/objects"
	"github.com/shardmill/shardmill/internal/sigv4"
)

const (
	timeFormat = "2006-01-02T15:04:05.000Z"
	maxKeys    = 1000
	maxBuckets = 10000
)

type owner struct{ ID, DisplayName string }

var self = &owner{ID: "shardmill", DisplayName: "shardmill"}

type bucketEntry struct{ Name, CreationDate, BucketRegion string }

func (h *handler) listBuckets(w http.ResponseWriter, r request) error {
	q := r.URL.Query()
	limit, err := number(q, "max-buckets", maxBuckets)
	if err != nil {
		return err
	}
	after, err := parseToken(q.Get("continuation-token"))
	if err != nil {
		return err
	}
	all, err := h.store.Buckets(r.Context())
	if err != nil {
		return err
	}
	var answer struct {
		XMLName           xml.Name      `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListAllMyBucketsResult"`
		Owner             *owner        `xml:"Owner"`
		Buckets           []bucketEntry `xml:"Buckets>Bucket"`
		ContinuationToken string        `xml:",omitempty"`
		Prefix            string        `xml:",omitempty"`
	}
	answer.Owner, answer.Prefix = self, q.Get("prefix")
	inRegion := q.Get("bucket-region") == "" || q.Get("bucket-region") == h.region
	for _, b := range all {
		if !inRegion || !strings.HasPrefix(b.Name, answer.Prefix) || b.Name <= after {
			continue
		}
		if n := len(answer.Buckets); n == limit {
			if n > 0 {
				answer.ContinuationToken = makeToken(answer.Buckets[n-1].Name)
			}
			break
		}
		answer.Buckets = append(answer.Buckets, bucketEntry{b.Name, b.Created.UTC().Format(timeFormat), h.region})
	}
	return writeXML(w, answer)
}

type objectEntry struct {
	Key, LastModified string
	ETag              string `xml:",omitempty"`
	Size              int64
	StorageClass      string
	Owner             *owner `xml:",omitempty"`
}

type prefixEntry struct{ Prefix string }

// listAnswer has the elements that both versions of the operation share.
type listAnswer struct {
	XMLName        xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ ListBucketResult"`
	Name           string
	Prefix         string
	Delimiter      string `xml:",omitempty"`
	MaxKeys        int
	EncodingType   string `xml:",omitempty"`
	IsTruncated    bool
	Contents       []objectEntry
	CommonPrefixes []prefixEntry
}

func (h *handler) listObjects(w http.ResponseWriter, r request) error {
	q := r.URL.Query()
	answer, last, err := h.list(r, q, q.Get("marker"), true)
	if err != nil {
		return err
	}
	text := encoding(q)
	v1 := struct {
		listAnswer
		Marker     string
		NextMarker string `xml:",omitempty"`
	}{listAnswer: answer, Marker: text(q.Get("marker"))}
	if answer.IsTruncated {
		v1.NextMarker = text(last)
	}
	return writeXML(w, v1)
}

func (h *handler) listObjectsV2(w http.ResponseWriter, r request) error {
	q := r.URL.Query()
	if q.Get("list-type") != "2" {
		return invalidArgument("list-type is %q; it is 2 or left out", q.Get("list-type"))
	}
	after := q.Get("start-after")
	if token := q.Get("continuation-token"); token != "" {
		var err error
		if after, err = parseToken(token); err != nil {
			return err
		}
	}
	answer, last, err := h.list(r, q, after, q.Get("fetch-owner") == "true")
	if err != nil {
		return err
	}
	v2 := struct {
		listAnswer
		KeyCount              int
		StartAfter            string `xml:",omitempty"`
		ContinuationToken     string `xml:",omitempty"`
		NextContinuationToken string `xml:",omitempty"`
	}{listAnswer: answer, KeyCount: len(answer.Contents) + len(answer.CommonPrefixes),
		StartAfter: encoding(q)(q.Get("start-after")), ContinuationToken: q.Get("continuation-token")}
	if answer.IsTruncated {
		v2.NextContinuationToken = makeToken(last)
	}
	return writeXML(w, v2)
}

// list answers what both versions ask, and returns the last key or common prefix of the page.
func (h *handler) list(r request, q url.Values, after string, withOwner bool) (listAnswer, string, error) {
	limit, err := number(q, "max-keys", maxKeys)
	if err != nil {
		return listAnswer{}, "", err
	}
	if e := q.Get("encoding-type"); e != "" && e != "url" {
		return listAnswer{}, "", invalidArgument("encoding-type is %q; it is url or left out", e)
	}
	p := &page{prefix: q.Get("prefix"), delimiter: q.Get("delimiter"), limit: limit}
	if err := p.fill(r.Context(), h.store, r.bucket, after); err != nil {
		return listAnswer{}, "", err
	}
	text := encoding(q)
	answer := listAnswer{Name: r.bucket, Prefix: text(p.prefix), Delimiter: text(p.delimiter), MaxKeys: limit,
		EncodingType: q.Get("encoding-type"), IsTruncated: p.truncated}
	for _, o := range p.objects {
		e := objectEntry{Key: text(o.Key), LastModified: o.Modified.UTC().Format(timeFormat), ETag: o.ETag, Size: o.Size, StorageClass: "STANDARD"}
		if withOwner {
			e.Owner = self
		}
		answer.Contents = append(answer.Contents, e)
	}
	for _, c := range p.prefixes {
		answer.CommonPrefixes = append(answer.CommonPrefixes, prefixEntry{text(c)})
	}
	return answer, p.last, nil
}

// page collects one page of a listing: objects, and for a delimiter the common prefixes, which
// stand for all keys with the delimiter behind the listing's prefix.
type page struct {
	prefix, delimiter string
	limit             int

	objects   []objects.Info
	prefixes  []string
	last      string // the last of either
	truncated bool
}

// beyond is behind every key of a common prefix: keys are UTF-8, and no character is greater.
const beyond = "\U0010FFFF"

func (p *page) fill(ctx context.Context, store objects.Store, bucket, after string) error {
	if p.group(after) == after && after != "" { // a page that ended in a common prefix
		after += beyond
	}
	// One object more tells whether the page is the last. A page of folders is read in smaller
	// bites, since a folder is left as soon as one of its keys was seen.
	bite := max(p.limit, 1) + 1
	if p.delimiter != "" {
		bite = min(bite, 100)
	}
	for {
		infos, err := store.List(ctx, bucket, p.prefix, after, bite)
		if err != nil {
			return err
		}
		for _, info := range infos {
			if !p.add(info) {
				p.truncated = p.limit > 0
				return nil
			}
			after = info.Key
		}
		if len(infos) < bite {
			return nil
		}
		if g := p.group(after); g != "" {
			after = g + beyond
		}
	}
}

// add puts an object, or its common prefix, on the page; false if there is no room.
func (p *page) add(info objects.Info) bool {
	item := p.group(info.Key)
	isPrefix := item != ""
	switch {
	case isPrefix && item == p.last:
		return true
	case len(p.objects)+len(p.prefixes) >= p.limit:
		return false
	case isPrefix:
		p.prefixes = append(p.prefixes, item)
	default:
		item = info.Key
		p.objects = append(p.objects, info)
	}
	p.last = item
	return true
}

// group is the common prefix that stands for a key, "" if the key stands for itself.
func (p *page) group(key string) string {
	rest, ok := strings.CutPrefix(key, p.prefix)
	i := strings.Index(rest, p.delimiter)
	if !ok || p.delimiter == "" || i < 0 {
		return ""
	}
	return p.prefix + rest[:i+len(p.delimiter)]
}

// encoding is how keys are written: as they are, or escaped for clients that cannot read every
// character in XML.
func encoding(q url.Values) func(string) string {
	if q.Get("encoding-type") == "url" {
		return sigv4.EscapePath
	}
	return func(s string) string { return s }
}

// number reads a page size; none, and what is beyond S3's limit, is the limit.
func number(q url.Values, name string, limit int) (int, error) {
	s := q.Get(name)
	if s == "" {
		return limit, nil
	}
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, invalidArgument("%s is %q; it is a number from 0 to %d", name, s, limit)
	}
	return min(int(n), limit), nil
}

// A continuation token is the last key or prefix of the page before. Clients must not read it.
func makeToken(last string) string { return base64.RawURLEncoding.EncodeToString([]byte(last)) }

func parseToken(token string) (string, error) {
	last, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", invalidArgument("the continuation token %.100q is not one of ours", token)
	}
	return string(last), nil
}
