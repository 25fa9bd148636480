package objects_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/objects"
	"github.com/shardmill/shardmill/internal/objects/objectstest"
)

func newS3(t testing.TB, o objects.S3Options) *objects.S3 {
	t.Helper()
	if o.AccessKey == "" {
		o.AccessKey, o.SecretKey = "AK", "SK"
	}
	s, err := objects.NewS3(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func serve(t testing.TB, h http.Handler) string {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestS3Conforms(t *testing.T) {
	objectstest.Run(t, func(t *testing.T) objects.Store {
		return newS3(t, objects.S3Options{Endpoint: serve(t, newFakeS3())})
	})
}

// transport is a server without a socket.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestS3Addresses(t *testing.T) {
	tests := []struct {
		o           objects.S3Options
		bucket, key string
		want        string
	}{
		{objects.S3Options{}, "events", "a/b", "https://events.s3.us-east-1.amazonaws.com/a/b"},
		{objects.S3Options{Region: "eu-west-1"}, "events", "/a//b", "https://events.s3.eu-west-1.amazonaws.com//a//b"},
		{objects.S3Options{}, "my.events", "k", "https://s3.us-east-1.amazonaws.com/my.events/k"},
		{objects.S3Options{Endpoint: "http://minio:9000/"}, "events", "k", "http://events.minio:9000/k"},
		{objects.S3Options{Endpoint: "http://minio:9000", PathStyle: true}, "events", "k", "http://minio:9000/events/k"},
		{objects.S3Options{Endpoint: "http://127.0.0.1:9000"}, "events", "k", "http://127.0.0.1:9000/events/k"},
		{objects.S3Options{Endpoint: "http://[::1]:9000"}, "events", "dt=1/a+b %.gz", "http://[::1]:9000/events/dt%3D1/a%2Bb%20%25.gz"},
	}
	for _, tt := range tests {
		var got, host string
		tt.o.Transport = transport(func(r *http.Request) (*http.Response, error) {
			got, host = r.URL.String(), r.Host
			return &http.Response{StatusCode: 404, Header: http.Header{}, Body: http.NoBody, Request: r}, nil
		})
		if _, err := newS3(t, tt.o).Stat(t.Context(), tt.bucket, tt.key); !errs.Is(err, errs.NotFound) {
			t.Errorf("Stat: %v", err)
		}
		if got != tt.want || !strings.Contains(got, "//"+host+"/") {
			t.Errorf("%+v: request to %s with Host %s, want %s", tt.o, got, host, tt.want)
		}
	}
}

func TestS3OptionsThatCannotWorkAreRefused(t *testing.T) {
	for _, o := range []objects.S3Options{
		{}, {AccessKey: "AK"}, {SecretKey: "SK"},
		{AccessKey: "AK", SecretKey: "SK", Endpoint: "minio:9000"},
		{AccessKey: "AK", SecretKey: "SK", Endpoint: "http://minio:9000/bucket"},
		{AccessKey: "AK", SecretKey: "SK", Endpoint: "http://AK:SK@minio:9000"},
		{AccessKey: "AK", SecretKey: "SK", Endpoint: "ftp://minio"},
	} {
		if _, err := objects.NewS3(o); !errs.Is(err, errs.Invalid) {
			t.Errorf("NewS3(%+v): %v, want Invalid", o, err)
		}
	}
}

func TestS3RepeatsWhatMayWorkLater(t *testing.T) {
	answer := func(status int, code string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) { s3Refusal(w, status, code, "as the test wants") }
	}
	const forever = 100
	tests := []struct {
		name     string
		fails    int
		answer   func(http.ResponseWriter)
		requests int
		kind     errs.Kind // 0: the put works
		min, max time.Duration
	}{
		{"at once", 0, nil, 1, 0, 0, 0},
		{"after one 503", 1, answer(503, "SlowDown"), 2, 0, 50 * time.Millisecond, 150 * time.Millisecond},
		{"after a 500 of a proxy", 2, func(w http.ResponseWriter) { w.WriteHeader(500) }, 3, 0, 250 * time.Millisecond, 750 * time.Millisecond},
		{"after Retry-After", 1, func(w http.ResponseWriter) { w.Header().Set("Retry-After", "7"); w.WriteHeader(429) }, 2, 0, 7 * time.Second, 7 * time.Second},
		{"after a Retry-After beyond reason", 1, func(w http.ResponseWriter) { w.Header().Set("Retry-After", "86400"); w.WriteHeader(503) }, 2, 0, 20 * time.Second, 20 * time.Second},
		{"never", forever, answer(503, "SlowDown"), 4, errs.Unavailable, 1050 * time.Millisecond, 3150 * time.Millisecond},
		{"denied is final", forever, answer(403, "AccessDenied"), 1, errs.Denied, 0, 0},
		{"not implemented is final", forever, answer(501, "NotImplemented"), 1, errs.Invalid, 0, 0},
		{"a bad request is final", forever, answer(400, "InvalidArgument"), 1, errs.Invalid, 0, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				fake := newFakeS3()
				fake.buckets["events"] = map[string]fakeObject{}
				requests := 0
				fake.fault = func(w http.ResponseWriter, r *http.Request) bool {
					io.CopyN(io.Discard, r.Body, 3) // a retry has to start over
					if requests++; requests > tt.fails {
						r.Body = io.NopCloser(io.MultiReader(strings.NewReader("bod"), r.Body))
						return false
					}
					tt.answer(w)
					return true
				}
				s := newS3(t, objects.S3Options{Transport: fake, Endpoint: "http://10.0.0.1"})
				start := time.Now()
				err := s.Put(t.Context(), "events", "k", strings.NewReader("body"), 4, objects.Attributes{})
				if took := time.Since(start); took < tt.min || took > tt.max {
					t.Errorf("it took %v, want %v to %v", took, tt.min, tt.max)
				}
				if requests != tt.requests {
					t.Errorf("%d requests, want %d", requests, tt.requests)
				}
				if tt.kind == 0 && (err != nil || string(fake.buckets["events"]["k"].body) != "body") || tt.kind != 0 && !errs.Is(err, tt.kind) {
					t.Errorf("err = %v, want %v; stored is %q", err, tt.kind, fake.buckets["events"]["k"].body)
				}
			})
		})
	}
}

func TestS3RepeatsBrokenConnectionsUntilTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		requests := 0
		s := newS3(t, objects.S3Options{Transport: transport(func(r *http.Request) (*http.Response, error) {
			requests++
			return nil, errors.New("connection reset by peer")
		})})
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := s.Buckets(ctx)
		if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "cannot be reached for ListBuckets") {
			t.Errorf("err = %v", err)
		}
		if requests != 2 { // the second pause is 200 ms at least
			t.Errorf("%d requests, want 2", requests)
		}
	})
}

func TestS3SaysWhatTheServerSaid(t *testing.T) {
	tests := []struct {
		name   string
		status int
		header http.Header
		body   string
		kind   errs.Kind
		want   string
	}{
		{"message", 403, nil, "<Error><Code>RequestTimeTooSkewed</Code><Message>The clocks differ.</Message></Error>", errs.Denied,
			"the S3 server 10.0.0.1 refused PutObject of k in bucket events: 403 RequestTimeTooSkewed The clocks differ."},
		{"another region", 301, http.Header{"X-Amz-Bucket-Region": {"eu-west-3"}, "Location": {"http://elsewhere/"}}, "", errs.Invalid,
			"the bucket is in region eu-west-3, this client is set to us-east-1"},
		{"another region in the body", 400, nil, "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-3</Region></Error>", errs.Invalid,
			"the bucket is in region eu-west-3, this client is set to us-east-1"},
		{"redirect", 307, http.Header{"Location": {"http://elsewhere/"}}, "", errs.Invalid, `redirected to "http://elsewhere/", which is not followed`},
		{"a key in the way", 409, nil, "<Error><Code>ObjectParentIsFile</Code></Error>", errs.Invalid, "409 ObjectParentIsFile"},
		{"a page of a proxy", 404, nil, "<html>not found</html>", errs.NotFound, "refused PutObject of k in bucket events: 404"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fake := newFakeS3()
			fake.fault = func(w http.ResponseWriter, r *http.Request) bool {
				for name, v := range tt.header {
					w.Header()[name] = v
				}
				w.WriteHeader(tt.status)
				io.WriteString(w, tt.body)
				return true
			}
			s := newS3(t, objects.S3Options{Transport: transport(func(r *http.Request) (*http.Response, error) {
				if r.URL.Host != "10.0.0.1" {
					t.Errorf("a request went to %s", r.URL.Host)
				}
				return fake.RoundTrip(r)
			}), Endpoint: "http://10.0.0.1"})
			err := s.Put(t.Context(), "events", "k", strings.NewReader("x"), 1, objects.Attributes{})
			if !errs.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("err = %v (%s), want %s with %q", err, errs.KindOf(err), tt.kind, tt.want)
			}
		})
	}
}

func TestS3MakesTheBucketInItsRegion(t *testing.T) {
	fake := newFakeS3()
	var created string
	fake.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "PUT" && r.URL.Path == "/events" {
			body, _ := io.ReadAll(r.Body)
			created = string(body)
			r.Body = io.NopCloser(strings.NewReader(created))
		}
		return false
	}
	s := newS3(t, objects.S3Options{Transport: fake, Endpoint: "http://10.0.0.1", Region: "eu-west-3"})
	put(t, s, "events", "k", "x")
	if !strings.Contains(created, "<LocationConstraint>eu-west-3</LocationConstraint>") {
		t.Errorf("CreateBucket said %q", created)
	}
}

func TestS3ListsInPages(t *testing.T) {
	fake := newFakeS3()
	fake.maxPage = 7
	fake.buckets["events"] = map[string]fakeObject{}
	for i := range 30 {
		fake.buckets["events"][fmt.Sprintf("k+%02d é", i)] = fakeObject{}
	}
	requests := 0
	fake.fault = func(http.ResponseWriter, *http.Request) bool { requests++; return false }
	s := newS3(t, objects.S3Options{Transport: fake, Endpoint: "http://10.0.0.1"})
	infos, err := s.List(t.Context(), "events", "k+", "k+00 é", 25)
	if err != nil || len(infos) != 25 || infos[0].Key != "k+01 é" || infos[24].Key != "k+25 é" || requests != 4 {
		t.Fatalf("%d objects in %d requests, %v: %v", len(infos), requests, err, infos)
	}

	// A server that ignores start-after would be asked for its first page for ever.
	s = newS3(t, objects.S3Options{Endpoint: "http://10.0.0.1", Transport: transport(func(r *http.Request) (*http.Response, error) {
		q := r.URL.Query()
		q.Del("start-after")
		r.URL.RawQuery = q.Encode()
		return fake.RoundTrip(r)
	})})
	_, err = s.List(t.Context(), "events", "", "", 25)
	if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "does not list bucket events in pages by key") {
		t.Errorf("err = %v", err)
	}
}

func TestS3ReaderNoticesWhatIsNotTheObject(t *testing.T) {
	fake := newFakeS3()
	s := newS3(t, objects.S3Options{Endpoint: serve(t, fake)})
	put(t, s, "events", "k", "0123456789")
	open := func() io.ReadSeekCloser {
		r, _, err := s.Get(t.Context(), "events", "k")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close() })
		return r
	}

	r := open()
	put(t, s, "events", "k", "abcdefghij")
	r.Seek(5, io.SeekStart)
	if n, err := r.Read(make([]byte, 5)); n != 0 || !errs.Is(err, errs.Conflict) {
		t.Errorf("overwritten meanwhile: read %d bytes, %v; want Conflict", n, err)
	}

	fake.fault = func(w http.ResponseWriter, _ *http.Request) bool {
		w.Header().Set("Content-Length", "10")
		io.WriteString(w, "0123")
		return true
	}
	if data, err := io.ReadAll(open()); string(data) != "0123" || !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "broke off after 4 of 10 bytes") {
		t.Errorf("broken off: %q, %v", data, err)
	}

	fake.fault = func(w http.ResponseWriter, r *http.Request) bool { r.Header.Del("Range"); return false }
	r = open()
	r.Seek(5, io.SeekStart)
	if _, err := r.Read(make([]byte, 5)); !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "does not serve parts") {
		t.Errorf("without ranges: %v", err)
	}

	fake.fault = nil // the control
	r = open()
	r.Seek(5, io.SeekStart)
	if data, err := io.ReadAll(r); string(data) != "fghij" || err != nil {
		t.Errorf("read %q, %v", data, err)
	}
}

func TestS3ListBoundsTheAnswer(t *testing.T) {
	s := newS3(t, objects.S3Options{Endpoint: "http://10.0.0.1", Transport: transport(func(r *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Header: http.Header{}, Request: r, Body: io.NopCloser(endless{})}, nil
	})})
	if _, err := s.List(t.Context(), "events", "", "", 1); err == nil || !strings.Contains(err.Error(), "more than 16777216 bytes") {
		t.Errorf("err = %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}
