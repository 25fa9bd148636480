package objects_test

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shardmill/shardmill/internal/sigv4"
)

// fakeS3 is a server with path-style requests that keeps objects in memory. It answers the
// requests of S3 as AWS documents them, and refuses bodies that are not what their hash says.
type fakeS3 struct {
	mu      sync.Mutex
	buckets map[string]map[string]fakeObject
	maxPage int // keys a page, at most 1,000
	// fault, if set, sees each request before the server does; true means that it has answered.
	fault func(w http.ResponseWriter, r *http.Request) bool
}

type fakeObject struct {
	body     []byte
	header   http.Header
	modified time.Time
}

func newFakeS3() *fakeS3 { return &fakeS3{buckets: map[string]map[string]fakeObject{}, maxPage: 1000} }

func s3Refusal(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code><Message>%s</Message></Error>`, code, message)
}

func (f *fakeS3) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.fault != nil && f.fault(w, r) {
		return
	}
	body, err := io.ReadAll(r.Body)
	sum := sha256.Sum256(body)
	scope, ok := sigv4.ParseScope(r.Header.Get("Authorization"))
	switch {
	case err != nil:
		return
	case !ok || scope.Service != "s3" || scope.AccessKey != "AK":
		s3Refusal(w, 403, "InvalidAccessKeyId", "unknown key "+scope.AccessKey)
		return
	case r.Header.Get("X-Amz-Content-Sha256") != hex.EncodeToString(sum[:]):
		s3Refusal(w, 400, "XAmzContentSHA256Mismatch", "the body is another")
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	bucket, key, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	objects, exists := f.buckets[bucket]
	switch {
	case bucket == "":
		f.listBuckets(w)
	case key == "" && r.Method == "PUT":
		f.buckets[bucket] = map[string]fakeObject{}
	case !exists:
		s3Refusal(w, 404, "NoSuchBucket", "no bucket "+bucket)
	case key == "":
		f.list(w, objects, r.URL.Query())
	case r.Method == "PUT":
		objects[key] = fakeObject{body, r.Header, time.Now()}
	case r.Method == "DELETE":
		delete(objects, key)
		w.WriteHeader(204)
	default:
		f.get(w, r, objects, key)
	}
}

func (f *fakeS3) get(w http.ResponseWriter, r *http.Request, objects map[string]fakeObject, key string) {
	o, exists := objects[key]
	if !exists {
		s3Refusal(w, 404, "NoSuchKey", "no key")
		return
	}
	for name, v := range o.header {
		if strings.HasPrefix(name, "X-Amz-Meta-") || name == "Content-Type" || name == "Content-Encoding" {
			w.Header()[name] = v
		}
	}
	w.Header().Set("ETag", etag(o.body))
	if match := r.Header.Get("If-Match"); match != "" && match != etag(o.body) {
		s3Refusal(w, 412, "PreconditionFailed", "the object is another")
		return
	}
	w.Header().Set("Last-Modified", o.modified.UTC().Format(http.TimeFormat))
	from, status := 0, 200
	if r.Header.Get("Range") != "" {
		fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		status = 206
	}
	w.Header().Set("Content-Length", strconv.Itoa(len(o.body)-from))
	w.WriteHeader(status)
	w.Write(o.body[from:])
}

func etag(body []byte) string {
	sum := md5.Sum(body)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func (f *fakeS3) list(w http.ResponseWriter, objects map[string]fakeObject, q url.Values) {
	type content struct {
		Key, ETag    string
		Size         int
		LastModified time.Time
	}
	page := struct {
		XMLName      xml.Name `xml:"ListBucketResult"`
		EncodingType string
		IsTruncated  bool
		Contents     []content
	}{EncodingType: q.Get("encoding-type")}
	for key, o := range objects {
		if strings.HasPrefix(key, q.Get("prefix")) && key > q.Get("start-after") {
			page.Contents = append(page.Contents, content{key, etag(o.body), len(o.body), o.modified})
		}
	}
	slices.SortFunc(page.Contents, func(a, b content) int { return strings.Compare(a.Key, b.Key) })
	n, _ := strconv.Atoi(q.Get("max-keys"))
	if n = min(n, f.maxPage); len(page.Contents) > n {
		page.Contents, page.IsTruncated = page.Contents[:n], true
	}
	for i := range page.Contents {
		page.Contents[i].Key = url.QueryEscape(page.Contents[i].Key)
	}
	xml.NewEncoder(w).Encode(page)
}

func (f *fakeS3) listBuckets(w http.ResponseWriter) {
	fmt.Fprint(w, "<ListAllMyBucketsResult><Buckets>")
	for name := range f.buckets {
		fmt.Fprintf(w, "<Bucket><Name>%s</Name><CreationDate>%s</CreationDate></Bucket>", name, time.Now().UTC().Format(time.RFC3339))
	}
	fmt.Fprint(w, "</Buckets></ListAllMyBucketsResult>")
}

// RoundTrip serves a request without a socket, as inside a synctest bubble.
func (f *fakeS3) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	in := r.Clone(r.Context())
	if r.Body == nil {
		in.Body = http.NoBody
	} else {
		defer r.Body.Close()
	}
	f.ServeHTTP(w, in)
	resp := w.Result()
	resp.Request = r
	if n, err := strconv.ParseInt(resp.Header.Get("Content-Length"), 10, 64); err == nil {
		resp.ContentLength = n
	}
	return resp, nil
}
