package awsapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/shardmill/shardmill/internal/awsapi/cbor"
	"github.com/shardmill/shardmill/internal/errs"
)

// newTestMux serves one service whose operations do what their names say.
func newTestMux(o Options) *Mux {
	type in struct{ Text *string }
	type out struct{ Text string }
	fail := func(err error) func(context.Context, *in) (*out, error) {
		return func(context.Context, *in) (*out, error) { return nil, err }
	}
	return NewMux(o, &Service{
		Name: "test", Target: "Test_20260101",
		Errors: map[errs.Kind]string{errs.Invalid: "InvalidArgumentException", errs.Unavailable: "ServiceUnavailableException"},
		Ops: []Op{
			Handle("Echo", func(_ context.Context, in *in) (*out, error) { return &out{*in.Text}, nil }),
			Handle("Nothing", func(context.Context, *in) (*out, error) { return nil, nil }),
			Handle("Who", func(ctx context.Context, _ *in) (*out, error) {
				c := CallerOf(ctx)
				return &out{c.Account + " " + c.Region + " " + c.RequestID}, nil
			}),
			Raw("Copy", func(_ context.Context, body, dst []byte) ([]byte, error) { return append(dst, body...), nil }),
			Handle("Panic", func(context.Context, *in) (*out, error) { panic("out of cheese") }),
			Handle("Invalid", fail(errs.Wrap(errs.Invalid, io.EOF, "Text is %q.", "x"))),
			Handle("Unavailable", fail(errs.New(errs.Unavailable, "The disk is full."))),
			Handle("Internal", fail(errors.New("secret"))),
			Handle("Unnamed", fail(errs.New(errs.Unknown, "It may have happened."))),
			Handle("Named", fail(&Error{"SpecialException", "Special."})),
			Handle("Wrong", fail(&ValidationError{"1 validation error detected: …"})),
		},
	})
}

// send makes a request of method, content type, target and body, each left out where it is empty.
func send(h http.Handler, method, kind, target, body string) *http.Response {
	r := httptest.NewRequest(method, "/any/path", strings.NewReader(body))
	if kind != "" {
		r.Header.Set("Content-Type", kind)
	}
	if target != "" {
		r.Header.Set("X-Amz-Target", target)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func bodyOf(t *testing.T, r *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// cborMap is a CBOR map of texts.
func cborMap(texts ...string) string {
	b := cbor.AppendMapHeader(nil, len(texts)/2)
	for _, s := range texts {
		b = cbor.AppendText(b, s)
	}
	return string(b)
}

// TestOrderOfChecks is what becomes of requests that are wrong in several ways at once: which wrong
// is told, and in which words.
func TestOrderOfChecks(t *testing.T) {
	const (
		json11 = "application/x-amz-json-1.1"
		plain  = "application/json"
		cbor   = "application/x-amz-cbor-1.1"
		known  = "Test_20260101.Echo"
		denied = "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized</Message>\n</AccessDeniedException>\n"
		noOp   = `{"__type":"UnknownOperationException"}`
		noBody = `{"__type":"SerializationException"}`
		coral  = `{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}`
	)
	noCBOR := cborMap("__type", "UnsupportedProtocolException", "message", "CBOR is not served here. Tell the SDK to send JSON: set CBOR_ENABLED=false or -Daws.cborEnabled=false (Java SDK 2), AWS_CBOR_DISABLE=true (Java SDK 1).")
	m := newTestMux(Options{})
	for _, c := range []struct {
		method, kind, target, body string
		status                     int
		answerKind, answer         string
	}{
		// 1. Only POST.
		{"GET", json11, known, `{}`, 403, "", denied},
		{"PUT", "", "", ``, 403, "", denied},
		// CBOR, which AWS would take here, is refused in CBOR whatever else is wrong.
		{"POST", cbor, known, "\xa0", 400, cbor, noCBOR},
		{"POST", cbor + "; v=1", "", ``, 400, cbor, cborMap("__type", "UnknownOperationException")},
		// 2. A body.
		{"POST", json11, known, ``, 400, json11, noBody},
		{"POST", json11 + "; charset=utf-8", "Test_20260101.None", ``, 400, json11, noOp},
		{"POST", json11, "", ``, 400, json11, noOp},
		{"POST", plain, known, ``, 400, cbor, cborMap("__type", "SerializationException")},
		{"POST", "", known, ``, 400, cbor, cborMap("__type", "SerializationException")},
		{"POST", "text/xml", "Other.Echo", ``, 400, cbor, cborMap("__type", "UnknownOperationException")},
		// 3. A content type that is served.
		{"POST", "", "", `{}`, 403, "", denied},
		{"POST", "text/xml", "Test_20260101", `{}`, 403, "", denied},
		{"POST", "text/xml", "Test_20260101.", `{}`, 403, "", denied},
		{"POST", "text/xml", ".Echo", `{}`, 403, "", denied},
		{"POST", "text/xml", known, `{}`, 404, "", "<UnknownOperationException/>\n"},
		{"POST", "application/x-amz-json-1.0", "Other.None", `nonsense`, 404, "", "<UnknownOperationException/>\n"},
		// 4. JSON, an object.
		{"POST", json11, known, `nonsense`, 400, json11, noBody},
		{"POST", json11, known, `[]`, 400, json11, noBody},
		{"POST", json11, "", `[]`, 400, json11, noBody},
		{"POST", json11, "Other.None", `{"a":}`, 400, json11, noBody},
		{"POST", plain, known, `null`, 400, json11, noBody},
		// 5. application/json never works.
		{"POST", plain, known, `{}`, 404, plain, coral},
		{"POST", plain + ";charset=utf-8", "", `{}`, 404, plain, coral},
		// 6. A service and an operation.
		{"POST", json11, "", `{}`, 400, json11, noOp},
		{"POST", json11, "Test_20260101", `{}`, 400, json11, noOp},
		{"POST", json11, "Test_20260101.None", `{}`, 400, json11, noOp},
		{"POST", json11, "Other.Echo", `{}`, 400, json11, noOp},
		{"POST", json11, "Test_20260101.Echo.Echo", `{}`, 400, json11, noOp},
		// 8. Types, 9. constraints, 10. the operation itself.
		{"POST", json11, known, `{"Text":1}`, 400, json11, `{"__type":"SerializationException","Message":"class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an String"}`},
		{"POST", json11, "Test_20260101.Wrong", `{}`, 400, json11, `{"__type":"ValidationException","message":"1 validation error detected: …"}`},
		{"POST", json11, "Test_20260101.Invalid", `{}`, 400, json11, `{"__type":"InvalidArgumentException","message":"Text is \"x\"."}`},
		{"POST", json11, "Test_20260101.Named", `{}`, 400, json11, `{"__type":"SpecialException","message":"Special."}`},
		{"POST", json11, "Test_20260101.Unavailable", `{}`, 503, json11, `{"__type":"ServiceUnavailableException","message":"The disk is full."}`},
		{"POST", json11, "Test_20260101.Unnamed", `{}`, 500, json11, `{"__type":"InternalFailure","message":"It may have happened."}`},
		{"POST", json11, "Test_20260101.Internal", `{}`, 500, json11, `{"__type":"InternalFailure"}`},
		{"POST", json11, "Test_20260101.Panic", `{}`, 500, json11, `{"__type":"InternalFailure"}`},
		// And what is right.
		{"POST", " " + json11 + " ; charset=utf-8", known, ` {"Text":"hi"}`, 200, json11, `{"Text":"hi"}`},
		{"POST", json11, "Test_20260101.Nothing", `{}`, 200, json11, ``},
	} {
		t.Run(strings.Join([]string{c.method, c.kind, c.target, c.body}, " "), func(t *testing.T) {
			r := send(m, c.method, c.kind, c.target, c.body)
			if body := bodyOf(t, r); r.StatusCode != c.status || body != c.answer {
				t.Errorf("got  %d %q\nwant %d %q", r.StatusCode, body, c.status, c.answer)
			}
			if got := r.Header.Get("Content-Type"); got != c.answerKind {
				t.Errorf("the content type is %q, want %q", got, c.answerKind)
			}
			if id := r.Header.Get("X-Amzn-Requestid"); uuid.Validate(id) != nil || r.Header.Get("X-Amz-Id-2") == "" {
				t.Errorf("the ids are %q and %q", id, r.Header.Get("X-Amz-Id-2"))
			}
		})
	}
}

func TestWhoIsTold(t *testing.T) {
	type failure struct{ id, operation, text string }
	var failed []failure
	var served []string
	m := newTestMux(Options{
		Failed: func(id, operation string, err error) {
			failed = append(failed, failure{id, operation, err.Error()})
		},
		Served: func(operation, name string) { served = append(served, operation+" "+name) },
	})
	var ids []string
	for _, op := range []string{"Echo", "Invalid", "Unavailable", "Internal", "Panic", "None"} {
		r := send(m, "POST", typeJSON, "Test_20260101."+op, `{"Text":""}`)
		ids = append(ids, r.Header.Get("X-Amzn-Requestid"))
	}
	if got, want := fmt.Sprintf("%q", served), `["Echo " "Invalid InvalidArgumentException" "Unavailable ServiceUnavailableException" "Internal InternalFailure" "Panic InternalFailure"]`; got != want {
		t.Errorf("served are %s, want %s", got, want)
	}
	if len(failed) != 2 || failed[0] != (failure{ids[3], "Internal", "secret"}) || failed[1].id != ids[4] || failed[1].operation != "Panic" {
		t.Fatalf("failed are %+v", failed)
	}
	if text := failed[1].text; !strings.HasPrefix(text, "panic in Panic: out of cheese\n") || !strings.Contains(text, "service_test.go") {
		t.Errorf("the panic is told as %q, without its place", text)
	}
}

func TestCaller(t *testing.T) {
	m := newTestMux(Options{Account: "000000000000", Region: "us-east-1"})
	who := func(header, query string) string {
		r := httptest.NewRequest("POST", "/?"+query, strings.NewReader(`{}`))
		r.Header.Set("Content-Type", typeJSON)
		r.Header.Set("X-Amz-Target", "Test_20260101.Who")
		if header != "" {
			r.Header.Set("Authorization", header)
		}
		w := httptest.NewRecorder()
		m.ServeHTTP(w, r)
		var out struct{ Text *string }
		if err := DecodeJSON(w.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		id := w.Result().Header.Get("X-Amzn-Requestid")
		text, found := strings.CutSuffix(*out.Text, " "+id)
		if !found {
			t.Errorf("the operation knows another request id than the caller: %q, %q", *out.Text, id)
		}
		return text
	}
	sigv4 := func(scope string) string {
		return "AWS4-HMAC-SHA256 Credential=" + scope + ", SignedHeaders=host;x-amz-date, Signature=00"
	}
	for _, c := range []struct{ header, query, want string }{
		{"", "", "000000000000 us-east-1"},
		{"Bearer token", "", "000000000000 us-east-1"},
		{sigv4("AKIAIOSFODNN7EXAMPLE/20260101/eu-west-1/kinesis/aws4_request"), "", "000000000000 eu-west-1"},
		{sigv4("123456789012/20260101/eu-west-1/kinesis/aws4_request"), "", "123456789012 eu-west-1"},
		{sigv4("123456789012/20260101/ap-south-1/firehose/aws4_request"), "", "123456789012 ap-south-1"}, // a foreign service
		{sigv4("12345678901/20260101/eu-west-1/kinesis/aws4_request"), "", "000000000000 eu-west-1"},
		{sigv4("12345678901x/20260101/eu-west-1/kinesis/aws4_request"), "", "000000000000 eu-west-1"},
		{sigv4("123456789012/eu-west-1/kinesis/aws4_request"), "", "000000000000 us-east-1"},
		{"", "X-Amz-Credential=123456789012%2F20260101%2Feu-west-1%2Fkinesis%2Faws4_request", "123456789012 eu-west-1"},
	} {
		if got := who(c.header, c.query); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.header, c.query, got, c.want)
		}
	}
	if a, b := send(m, "POST", typeJSON, "", "{}"), send(m, "POST", typeJSON, "", "{}"); a.Header.Get("X-Amzn-Requestid") == b.Header.Get("X-Amzn-Requestid") {
		t.Error("two requests have one id")
	}
}

func TestBodiesChunkedAndTooLarge(t *testing.T) {
	if testing.Short() {
		t.Skip("moves tens of MiB, which takes long under the race detector")
	}
	srv := httptest.NewServer(newTestMux(Options{}))
	defer srv.Close()
	post := func(body io.Reader) (int, string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), "POST", srv.URL, body)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", typeJSON)
		r.Header.Set("X-Amz-Target", "Test_20260101.Copy")
		answer, err := srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		return answer.StatusCode, bodyOf(t, answer)
	}
	chunked := func(s string) io.Reader { return io.MultiReader(strings.NewReader(s)) } // of unknown length
	largest := strings.Repeat("x", maxBody)
	for _, c := range []struct {
		what   string
		body   io.Reader
		status int
		answer string
	}{
		{"plain", strings.NewReader("abc"), 200, "abc"},
		{"chunked", chunked("abc"), 200, "abc"},
		{"chunked, empty", chunked(""), 400, `{"__type":"SerializationException"}`},
		{"the largest", strings.NewReader(largest), 200, largest},
		{"the largest, chunked", chunked(largest), 200, largest},
		{"a byte more, chunked", chunked(largest + "x"), 413, ""},
	} {
		if status, answer := post(c.body); status != c.status || answer != c.answer {
			t.Errorf("%s: %d with %d bytes, want %d with %d", c.what, status, len(answer), c.status, len(c.answer))
		}
	}

	// A length that is too large is refused before a byte of the body is read.
	r := httptest.NewRequest("POST", "/", untouchable{t})
	r.ContentLength = maxBody + 1
	r.Header.Set("Content-Type", typeJSON)
	r.Header.Set("X-Amz-Target", "Test_20260101.Copy")
	w := httptest.NewRecorder()
	newTestMux(Options{}).ServeHTTP(w, r)
	if w.Code != 413 || w.Body.Len() != 0 {
		t.Errorf("%d %q, want 413 without a body", w.Code, w.Body)
	}
}

type untouchable struct{ t *testing.T }

func (u untouchable) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

// TestBuffersDoNotLeakBetweenRequests: requests of many sizes share pooled buffers; none may ever see
// a byte of another, neither in what its operation reads nor in what it answers.
func TestBuffersDoNotLeakBetweenRequests(t *testing.T) {
	double := Raw("Double", func(_ context.Context, body, dst []byte) ([]byte, error) {
		mark := body[0]
		dst = append(append(dst, body...), body...)
		for i := range body { // an operation may change its body
			if body[i] != mark {
				return nil, fmt.Errorf("byte %d is %q in a body of %q", i, body[i], mark)
			}
			body[i] = '!'
		}
		return dst, nil
	})
	small := Handle("Small", func(_ context.Context, in *struct{ Text *string }) (*struct{ Text string }, error) {
		return &struct{ Text string }{*in.Text}, nil
	})
	m := NewMux(Options{Failed: func(_, _ string, err error) { t.Error(err) }}, &Service{Target: "Test_20260101", Ops: []Op{double, small, Handle("Panic", func(context.Context, *struct{}) (*struct{}, error) { panic("poison") })}})
	quiet := NewMux(Options{}, m.services["Test_20260101"])
	var clients sync.WaitGroup
	for c := range 8 {
		clients.Go(func() {
			mark := byte('a' + c)
			for i := range 200 {
				size := 1 + (i*7919+c*104729)%(40<<10)
				if i%50 == 0 {
					size = 2<<20 + 1<<10 // the answer outgrows its buffer
				}
				body := bytes.Repeat([]byte{mark}, size)
				w := httptest.NewRecorder()
				r := httptest.NewRequest("POST", "/", bytes.NewReader(body))
				r.Header.Set("Content-Type", typeJSON)
				r.Header.Set("X-Amz-Target", "Test_20260101.Double")
				m.ServeHTTP(w, r)
				if got := w.Body.Bytes(); len(got) != 2*size || bytes.Count(got, []byte{mark}) != 2*size {
					t.Errorf("the answer to %d bytes of %q has %d bytes, %d of them its own", size, mark, len(got), bytes.Count(got, []byte{mark}))
					return
				}
				text := string(body[:size%500])
				if got := bodyOfRecorder(send(m, "POST", typeJSON, "Test_20260101.Small", `{"Text":"`+text+`"}`)); got != `{"Text":"`+text+`"}` {
					t.Errorf("the answer to %q is %q", text, got)
				}
				send(quiet, "POST", typeJSON, "Test_20260101.Panic", `{}`)
			}
		})
	}
	clients.Wait()
}

func bodyOfRecorder(r *http.Response) string {
	b, _ := io.ReadAll(r.Body) // of a recorder: never fails
	return string(b)
}

// TestBuffersThatMayBeHeldAreNotUsedAgain: after a panic nobody knows who still holds the body, and
// after a write that failed HTTP/2 may still be sending the answer.
func TestBuffersThatMayBeHeldAreNotUsedAgain(t *testing.T) {
	var bodies, answers [][]byte
	m := NewMux(Options{}, &Service{Target: "Test_20260101", Ops: []Op{
		Raw("Panic", func(_ context.Context, body, dst []byte) ([]byte, error) {
			bodies = append(bodies, body)
			panic("poison")
		}),
		Raw("Keep", func(_ context.Context, body, dst []byte) ([]byte, error) {
			bodies = append(bodies, body)
			dst = append(dst, "answer"...)
			answers = append(answers, dst)
			return dst, nil
		}),
	}})
	r := func(op string) *http.Request {
		r := httptest.NewRequest("POST", "/", strings.NewReader(`{}`))
		r.Header.Set("Content-Type", typeJSON)
		r.Header.Set("X-Amz-Target", "Test_20260101."+op)
		return r
	}
	shared := func(all [][]byte) bool {
		for i := range all {
			for j := range i {
				if &all[i][:1][0] == &all[j][:1][0] {
					return true
				}
			}
		}
		return false
	}
	for range 10 {
		m.ServeHTTP(httptest.NewRecorder(), r("Panic"))
	}
	if shared(bodies) {
		t.Error("a body was used again after a panic")
	}
	bodies = nil
	for range 10 {
		m.ServeHTTP(brokenWriter{httptest.NewRecorder()}, r("Keep"))
	}
	if shared(answers) {
		t.Error("an answer was used again after its write failed")
	}
	// The control: this is how buffers that are used again look. The pool may drop some, but not all.
	bodies, answers = nil, nil
	for range 100 {
		m.ServeHTTP(httptest.NewRecorder(), r("Keep"))
	}
	if !shared(bodies) || !shared(answers) {
		t.Error("no buffer was ever used again")
	}
}

type brokenWriter struct{ *httptest.ResponseRecorder }

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("stream closed") }
