package s3api

import (
	"context"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/objects"
)

// hello's MD5, which every Put below has as its ETag.
const helloTag = `"5d41402abc4b2a76b9719d911017c592"`

// newStore is a folder with the objects named, each "hello".
func newStore(t testing.TB, bucket string, keys ...string) *objects.Dir {
	t.Helper()
	d, err := objects.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	for _, key := range keys {
		m := objects.Attributes{ContentType: "text/plain", User: map[string]string{"first": "1"}}
		if strings.HasSuffix(key, ".gz") {
			m.ContentEncoding = "gzip"
		}
		if err := d.Put(t.Context(), bucket, key, strings.NewReader("hello"), 5, m); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// ask sends a request straight to the handler. Headers are name, value, name, value.
func ask(t testing.TB, h http.Handler, method, target string, header ...string) (*http.Response, string) {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	resp := w.Result()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// shown is a listing in short: keys, then common prefixes with a plus, then a token or "".
func shown(t testing.TB, body string) (items []string, next string) {
	t.Helper()
	var l struct {
		IsTruncated                       bool
		Contents                          []struct{ Key string }
		CommonPrefixes                    []struct{ Prefix string }
		NextContinuationToken, NextMarker string
	}
	if err := xml.Unmarshal([]byte(body), &l); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	for _, c := range l.Contents {
		items = append(items, c.Key)
	}
	for _, c := range l.CommonPrefixes {
		items = append(items, "+"+c.Prefix)
	}
	next = l.NextContinuationToken + l.NextMarker
	if l.IsTruncated != (next != "") {
		t.Errorf("IsTruncated is %v with the next page at %q", l.IsTruncated, next)
	}
	return items, next
}

func TestListObjects(t *testing.T) {
	keys := []string{"a-b", "a/1", "a/2", "a/x/3", "a0", "b/c/4", "ü é+&.txt"}
	h := New(newStore(t, "events", keys...), "us-east-1")
	tests := []struct {
		query string
		want  []string
	}{
		{"", keys},
		{"prefix=a/", []string{"a/1", "a/2", "a/x/3"}},
		{"delimiter=/", []string{"a-b", "a0", "ü é+&.txt", "+a/", "+b/"}},
		{"delimiter=/&prefix=a/", []string{"a/1", "a/2", "+a/x/"}},
		{"delimiter=/&prefix=a", []string{"a-b", "a0", "+a/"}},
		{"delimiter=/c/", []string{"a-b", "a/1", "a/2", "a/x/3", "a0", "ü é+&.txt", "+b/c/"}},
		{"delimiter=/&prefix=a/x/3", []string{"a/x/3"}},
		{"prefix=nothing", nil},
		{"max-keys=0", nil},
		{"encoding-type=url&prefix=%C3%BC", []string{"%C3%BC%20%C3%A9%2B%26.txt"}},
		{"start-after=a/2&marker=a/2", []string{"a/x/3", "a0", "b/c/4", "ü é+&.txt"}},
	}
	for _, version := range []string{"list-type=2&", ""} {
		for _, tt := range tests {
			resp, body := ask(t, h, "GET", "/events?"+version+tt.query)
			got, next := shown(t, body)
			if resp.StatusCode != 200 || !slices.Equal(got, tt.want) || next != "" {
				t.Errorf("?%s%s: %d, %q and more at %q; want %q", version, tt.query, resp.StatusCode, got, next, tt.want)
			}
		}
	}
}

func TestListObjectsInPages(t *testing.T) {
	var keys []string
	for i := range 250 { // more of one folder than one look at the store
		keys = append(keys, fmt.Sprintf("big/%03d", i))
	}
	keys = append(keys, "big0", "c/1", "c/2", "d", "e/", "e/f")
	h := New(newStore(t, "events", keys...), "us-east-1")
	folders := []string{"+big/", "big0", "+c/", "d", "+e/"}
	for _, version := range []struct{ query, next string }{{"list-type=2", "continuation-token"}, {"", "marker"}} {
		for _, tt := range []struct {
			query string
			size  int
			want  []string
		}{{"", 100, keys}, {"", 256, keys}, {"delimiter=/", 1, folders}, {"delimiter=/", 2, folders}, {"delimiter=/", 5, folders}, {"prefix=e/&delimiter=/", 1, []string{"e/", "e/f"}}} {
			var got []string
			for next, pages := "", 0; ; pages++ {
				q := fmt.Sprintf("/events?%s&%s&max-keys=%d", version.query, tt.query, tt.size)
				if next != "" {
					q += "&" + version.next + "=" + url.QueryEscape(next)
				}
				_, body := ask(t, h, "GET", q)
				var items []string
				items, next = shown(t, body)
				if len(items) > tt.size || pages > len(keys) {
					t.Fatalf("%s: page %d has %d items", q, pages, len(items))
				}
				got = append(got, items...)
				if next == "" {
					break
				}
			}
			inOrder := func(a, b string) int { return strings.Compare(strings.TrimPrefix(a, "+"), strings.TrimPrefix(b, "+")) }
			slices.SortStableFunc(got, inOrder) // a page lists prefixes behind objects
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q %q in pages of %d: %q, want %q", version.query, tt.query, tt.size, got, tt.want)
			}
		}
	}
}

func TestListIsWhatS3Writes(t *testing.T) {
	d := newStore(t, "events", "a/k", "b")
	at := time.Date(2026, 7, 13, 14, 5, 6, 7e6, time.UTC)
	h := New(fixedTime{d, at}, "us-east-1")
	want := `<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>events</Name><Prefix></Prefix><Delimiter>/</Delimiter>` +
		`<MaxKeys>5</MaxKeys><IsTruncated>false</IsTruncated><Contents><Key>b</Key><LastModified>2026-07-13T14:05:06.007Z</LastModified>` +
		`<ETag>&#34;5d41402abc4b2a76b9719d911017c592&#34;</ETag><Size>5</Size><StorageClass>STANDARD</StorageClass></Contents>` +
		`<CommonPrefixes><Prefix>a/</Prefix></CommonPrefixes><KeyCount>2</KeyCount></ListBucketResult>`
	resp, body := ask(t, h, "GET", "/events?list-type=2&delimiter=/&max-keys=5")
	if body != want || resp.Header.Get("Content-Type") != "application/xml" || len(resp.Header.Get("X-Amz-Request-Id")) != 16 {
		t.Errorf("got %v\n%s\nwant\n%s", resp.Header, body, want)
	}
	_, body = ask(t, h, "GET", "/events?list-type=2&fetch-owner=true")
	if !strings.Contains(body, "<Owner><ID>shardmill</ID>") {
		t.Errorf("fetch-owner gave no owner: %s", body)
	}
}

type fixedTime struct {
	objects.Store
	at time.Time
}

func (f fixedTime) List(ctx context.Context, bucket, prefix, after string, max int) ([]objects.Info, error) {
	infos, err := f.Store.List(ctx, bucket, prefix, after, max)
	for i := range infos {
		infos[i].Modified = f.at
	}
	return infos, err
}

func TestBuckets(t *testing.T) {
	d := newStore(t, "events", "k")
	for _, b := range []string{"ants", "zoo"} {
		if err := d.Put(t.Context(), b, "k", strings.NewReader(""), 0, objects.Attributes{}); err != nil {
			t.Fatal(err)
		}
	}
	h := New(d, "eu-west-1")
	names := func(target string) (all []string, token string) {
		_, body := ask(t, h, "GET", target)
		var l struct {
			Buckets struct {
				Bucket []struct{ Name, BucketRegion string }
			}
			ContinuationToken string
		}
		if err := xml.Unmarshal([]byte(body), &l); err != nil {
			t.Fatal(err)
		}
		for _, b := range l.Buckets.Bucket {
			all = append(all, b.Name+" "+b.BucketRegion)
		}
		return all, l.ContinuationToken
	}
	first, token := names("/?max-buckets=2")
	rest, end := names("/?max-buckets=2&continuation-token=" + token)
	if got := append(first, rest...); !slices.Equal(got, []string{"ants eu-west-1", "events eu-west-1", "zoo eu-west-1"}) || end != "" {
		t.Errorf("buckets are %q", got)
	}
	if got, _ := names("/?prefix=z"); !slices.Equal(got, []string{"zoo eu-west-1"}) {
		t.Errorf("with a prefix: %q", got)
	}
	if got, _ := names("/?bucket-region=us-east-1"); len(got) != 0 {
		t.Errorf("of another region: %q", got)
	}
	if resp, _ := ask(t, h, "HEAD", "/events"); resp.StatusCode != 200 || resp.Header.Get("X-Amz-Bucket-Region") != "eu-west-1" {
		t.Errorf("HeadBucket: %d %v", resp.StatusCode, resp.Header)
	}
	if resp, body := ask(t, h, "HEAD", "/none"); resp.StatusCode != 404 || body != "" {
		t.Errorf("HeadBucket of none: %d %q", resp.StatusCode, body)
	}
	const location = `<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">%s</LocationConstraint>`
	if _, body := ask(t, h, "GET", "/events?location"); !strings.HasSuffix(body, fmt.Sprintf(location, "eu-west-1")) {
		t.Errorf("location: %s", body)
	}
	if _, body := ask(t, New(d, "us-east-1"), "GET", "/events/?location"); !strings.HasSuffix(body, fmt.Sprintf(location, "")) {
		t.Errorf("location: %s", body)
	}
}

func TestGetObject(t *testing.T) {
	h := New(newStore(t, "events", "k.txt", "k.gz", "a//b"), "us-east-1")
	tests := []struct {
		method, target string
		header         []string
		status         int
		body           string
		want           []string // headers, "" for one that must not be there
	}{
		{"GET", "/events/k.txt", nil, 200, "hello", []string{"ETag", helloTag, "Content-Length", "5", "Content-Type", "text/plain",
			"Accept-Ranges", "bytes", "Content-Encoding", ""}},
		{"HEAD", "/events/k.txt", nil, 200, "", []string{"ETag", helloTag, "Content-Length", "5", "Content-Type", "text/plain"}},
		{"GET", "/events/k.gz", nil, 200, "hello", []string{"Content-Encoding", "gzip", "Content-Length", "5"}},
		{"HEAD", "/events/k.gz", nil, 200, "", []string{"Content-Encoding", "gzip", "Content-Length", "5"}},
		{"GET", "/events/a//b", nil, 200, "hello", nil},
		{"GET", "/events/a%2F%2Fb", nil, 200, "hello", nil},
		{"GET", "/events/k.txt?x-id=GetObject&versionId=null", nil, 200, "hello", nil},
		{"GET", "/events/k.txt", []string{"Range", "bytes=1-3"}, 206, "ell", []string{"Content-Range", "bytes 1-3/5", "Content-Length", "3", "ETag", helloTag}},
		{"GET", "/events/k.gz", []string{"Range", "bytes=-2"}, 206, "lo", []string{"Content-Range", "bytes 3-4/5", "Content-Length", "2"}},
		{"GET", "/events/k.txt", []string{"Range", "bytes=3-99"}, 206, "lo", nil},
		{"GET", "/events/k.txt", []string{"Range", "bytes=0-1,3-4"}, 200, "hello", nil},
		{"GET", "/events/k.txt", []string{"Range", "lines=1"}, 200, "hello", nil},
		{"GET", "/events/k.txt?partNumber=1", nil, 206, "hello", []string{"Content-Range", "bytes 0-4/5"}},
		{"GET", "/events/k.txt", []string{"If-None-Match", helloTag}, 304, "", []string{"ETag", helloTag}},
		{"GET", "/events/k.txt", []string{"If-None-Match", `"other"`}, 200, "hello", nil},
		{"GET", "/events/k.txt", []string{"If-Match", helloTag}, 200, "hello", nil},
		{"GET", "/events/k.txt", []string{"If-Modified-Since", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}, 304, "", nil},
		{"GET", "/events/k.txt", []string{"If-Modified-Since", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)}, 200, "hello", nil},
		{"GET", "/events/k.gz?response-content-type=text/csv&response-content-encoding=identity&response-content-disposition=attachment", nil, 200, "hello",
			[]string{"Content-Type", "text/csv", "Content-Encoding", "identity", "Content-Disposition", "attachment"}},
	}
	for _, tt := range tests {
		resp, body := ask(t, h, tt.method, tt.target, tt.header...)
		if resp.StatusCode != tt.status || body != tt.body {
			t.Errorf("%s %s %q: %d %q, want %d %q", tt.method, tt.target, tt.header, resp.StatusCode, body, tt.status, tt.body)
		}
		for i := 0; i < len(tt.want); i += 2 {
			if got := resp.Header.Get(tt.want[i]); got != tt.want[i+1] {
				t.Errorf("%s %s %q: %s is %q, want %q", tt.method, tt.target, tt.header, tt.want[i], got, tt.want[i+1])
			}
		}
	}
}

func TestMetadataIsInLowerCase(t *testing.T) {
	resp, _ := ask(t, New(newStore(t, "events", "k"), "us-east-1"), "GET", "/events/k")
	const inLowerCase = "x-amz-meta-first" // as it is on the wire, not in Go's canonical form
	if got := map[string][]string(resp.Header)[inLowerCase]; !slices.Equal(got, []string{"1"}) {
		t.Errorf("headers are %v", resp.Header)
	}
}

func TestRefusalsAreInS3sWords(t *testing.T) {
	d := newStore(t, "events", "k")
	const forReading = " is not implemented: buckets are served for reading, and objects are written by delivery streams"
	tests := []struct {
		method, target string
		header         []string
		status         int
		code, message  string
	}{
		{"GET", "/events/none", nil, 404, "NoSuchKey", "bucket events holds no object none"},
		{"GET", "/none/k", nil, 404, "NoSuchBucket", "there is no bucket none"},
		{"GET", "/none?list-type=2", nil, 404, "NoSuchBucket", "there is no bucket none"},
		{"GET", "/none?location", nil, 404, "NoSuchBucket", "there is no bucket none"},
		{"GET", "/Not_A_Bucket", nil, 400, "InvalidBucketName", `"Not_A_Bucket" is no bucket name`},
		{"GET", "/events/%FF", nil, 400, "InvalidArgument", "is not UTF-8"},
		{"GET", "/events?max-keys=-1", nil, 400, "InvalidArgument", `max-keys is "-1"`},
		{"GET", "/events?list-type=3", nil, 400, "InvalidArgument", `list-type is "3"`},
		{"GET", "/events?encoding-type=xml", nil, 400, "InvalidArgument", `encoding-type is "xml"`},
		{"GET", "/events?list-type=2&continuation-token=%21", nil, 400, "InvalidArgument", `the continuation token "!" is not one of ours`},
		{"GET", "/events/k", []string{"Range", "bytes=5-"}, 416, "InvalidRange", "the object has 5 bytes"},
		{"GET", "/events/k?partNumber=2", nil, 416, "InvalidPartNumber", "one part, number 1"},
		{"GET", "/events/k", []string{"If-Match", `"other"`}, 412, "PreconditionFailed", "conditions"},
		{"PUT", "/events/k", nil, 501, "NotImplemented", "PutObject" + forReading},
		{"PUT", "/events/k", []string{"X-Amz-Copy-Source", "/a/b"}, 501, "NotImplemented", "CopyObject" + forReading},
		{"PUT", "/events/k?partNumber=1&uploadId=x", nil, 501, "NotImplemented", "UploadPart" + forReading},
		{"POST", "/events/k?uploads", nil, 501, "NotImplemented", "CreateMultipartUpload" + forReading},
		{"POST", "/events?delete", nil, 501, "NotImplemented", "DeleteObjects" + forReading},
		{"DELETE", "/events/k", nil, 501, "NotImplemented", "DeleteObject" + forReading},
		{"PUT", "/events", nil, 501, "NotImplemented", "CreateBucket" + forReading},
		{"DELETE", "/events", nil, 501, "NotImplemented", "DeleteBucket" + forReading},
		{"PUT", "/events?policy", nil, 501, "NotImplemented", "PutBucketPolicy" + forReading},
		{"GET", "/events?versioning", nil, 501, "NotImplemented", "GetBucketVersioning" + forReading},
		{"GET", "/events?versions", nil, 501, "NotImplemented", "ListObjectVersions" + forReading},
		{"GET", "/events/k?acl", nil, 501, "NotImplemented", "GetObjectAcl" + forReading},
		{"GET", "/events/k?versionId=7", nil, 501, "NotImplemented", "GetObjectVersion" + forReading},
		{"PATCH", "/events/k", nil, 501, "NotImplemented", "PATCH of an object" + forReading},
		{"POST", "/", nil, 501, "NotImplemented", "POST without a bucket" + forReading},
	}
	for _, tt := range tests {
		resp, body := ask(t, New(d, "us-east-1"), tt.method, tt.target, tt.header...)
		var e struct{ Code, Message, RequestId string }
		if err := xml.Unmarshal([]byte(body), &e); err != nil {
			t.Errorf("%s %s: %v in %q", tt.method, tt.target, err, body)
		}
		if resp.StatusCode != tt.status || e.Code != tt.code || !strings.Contains(e.Message, tt.message) || e.RequestId == "" {
			t.Errorf("%s %s: %d %s: %s, want %d %s: %s", tt.method, tt.target, resp.StatusCode, e.Code, e.Message, tt.status, tt.code, tt.message)
		}
	}
}

type broken struct {
	objects.Store
	err error
}

func (b broken) Get(context.Context, string, string) (io.ReadSeekCloser, objects.Info, error) {
	return nil, objects.Info{}, b.err
}

func TestFaultsOfTheStore(t *testing.T) {
	for kind, want := range map[errs.Kind]string{errs.Unavailable: "503 ServiceUnavailable far", errs.Denied: "403 AccessDenied far",
		errs.Internal: "500 InternalError the object store failed in a way that it should not"} {
		resp, body := ask(t, New(broken{err: errs.New(kind, "far")}, "us-east-1"), "GET", "http://127.0.0.1/events/k")
		var e struct{ Code, Message string }
		if err := xml.Unmarshal([]byte(body), &e); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d %s %s", resp.StatusCode, e.Code, e.Message); got != want {
			t.Errorf("%s: %s, want %s", kind, got, want)
		}
	}
}

func TestHeadUsesStatWhereThereIsOne(t *testing.T) {
	s := onlyStat{info: objects.Info{Key: "k", Size: 7, ETag: `"e"`, Attributes: objects.Attributes{ContentType: "text/plain"}}}
	resp, _ := ask(t, New(s, "us-east-1"), "HEAD", "http://127.0.0.1/events/k")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Length") != "7" || resp.Header.Get("ETag") != `"e"` {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
}

type onlyStat struct {
	objects.Store
	info objects.Info
}

func (s onlyStat) Stat(context.Context, string, string) (objects.Info, error) { return s.info, nil }

func TestBucketsInHostNames(t *testing.T) {
	d := newStore(t, "events", "events/k", "k")
	h := New(d, "us-east-1")
	tests := []struct {
		host, path string
		status     int
	}{
		{"events.localhost:4567", "/k", 200},
		{"events.localhost:4567", "/events/k", 200},
		{"events.s3.localhost:4567", "/k", 200},
		{"events.s3.eu-west-1.example.com", "/k", 200},
		{"events.shardmill.internal", "/k", 200},
		{"none.localhost", "/", 404},
		{"none.s3.example.com", "/", 404},
		{"s3.localhost:4567", "/events/k", 200},
		{"localhost:4567", "/events/k", 200},
		{"shardmill.internal", "/events/k", 200},
		{"127.0.0.1:4567", "/events/k", 200},
		{"[::1]:4567", "/events/k", 200},
		{"127.0.0.1:4567", "/missing", 404},
		{"shardmill.internal", "/missing", 404},
	}
	for _, tt := range tests {
		resp, body := ask(t, h, "GET", "http://"+tt.host+tt.path)
		if resp.StatusCode != tt.status {
			t.Errorf("%s%s: %d %s, want %d", tt.host, tt.path, resp.StatusCode, body, tt.status)
		}
	}
}

func TestMatches(t *testing.T) {
	const credential = "AWS4-HMAC-SHA256 Credential=AK/20260713/us-east-1/%s/aws4_request, SignedHeaders=host, Signature=0"
	tests := []struct {
		method, target string
		header         []string
		want           bool
	}{
		{"GET", "/b/k", []string{"Authorization", fmt.Sprintf(credential, "s3")}, true},
		{"PUT", "/b/k", []string{"Authorization", fmt.Sprintf(credential, "s3")}, true},
		{"POST", "/", []string{"Authorization", fmt.Sprintf(credential, "kinesis"), "User-Agent", "aws-cli/1"}, false},
		{"GET", "/b/k?X-Amz-Credential=AK%2F20260713%2Fus-east-1%2Fs3%2Faws4_request", nil, true},
		{"GET", "/b/k?X-Amz-Credential=AK%2F20260713%2Fus-east-1%2Fsts%2Faws4_request", nil, false},
		{"GET", "/b/k", []string{"User-Agent", "aws-cli/1.45.11 md/Botocore#1.43.11"}, true},
		{"HEAD", "/b/k", []string{"User-Agent", "aws-sdk-go-v2/1.47.7"}, true},
		{"POST", "/b/k", []string{"User-Agent", "aws-sdk-go-v2/1.47.7"}, false},
		{"GET", "/b/k", []string{"User-Agent", "curl/8"}, false},
		{"GET", "/b/k", []string{"Authorization", "Bearer x", "User-Agent", "aws-cli/1"}, false},
	}
	for _, tt := range tests {
		r := httptest.NewRequest(tt.method, tt.target, nil)
		for i := 0; i < len(tt.header); i += 2 {
			r.Header.Set(tt.header[i], tt.header[i+1])
		}
		if got := Matches(r); got != tt.want {
			t.Errorf("Matches(%s %s %q) = %v", tt.method, tt.target, tt.header, got)
		}
	}
}

// FuzzRequests: no path and query make the handler panic, leave the store's root or answer
// without a status of its own.
func FuzzRequests(f *testing.F) {
	root := f.TempDir()
	d, err := objects.OpenDir(filepath.Join(root, "store"))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { d.Close() })
	if err := d.Put(f.Context(), "events", "a/b", strings.NewReader("hello"), 5, objects.Attributes{}); err != nil {
		f.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "secret"), []byte("SECRET"), 0o644); err != nil {
		f.Fatal(err)
	}
	f.Add("/events/a/b", "", "bytes=1-")
	f.Add("/events", "list-type=2&delimiter=/&prefix=a&continuation-token=YQ", "")
	f.Add("/events", "marker=a/&max-keys=1&encoding-type=url", "")
	f.Add("/events/../../secret", "partNumber=1", "bytes=-1")
	f.Add("/../secret", "", "")
	f.Fuzz(func(t *testing.T, path, query, byteRange string) {
		r := &http.Request{Method: "GET", URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{"Range": {byteRange}}, Host: "127.0.0.1"}
		w := httptest.NewRecorder()
		New(d, "us-east-1").ServeHTTP(w, r.WithContext(t.Context()))
		if strings.Contains(w.Body.String(), "SECRET") {
			t.Fatalf("%q left the root", path)
		}
		if !slices.Contains([]int{200, 206, 400, 404, 416, 501}, w.Code) {
			t.Fatalf("%q?%q with %q: status %d %s", path, query, byteRange, w.Code, w.Body)
		}
	})
}
