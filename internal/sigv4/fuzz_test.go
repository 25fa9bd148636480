package sigv4

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// FuzzReadAuthorization: what is accepted is what it reads as when it is written down again.
func FuzzReadAuthorization(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AK/20260713/eu-west-1/kinesis/aws4_request, SignedHeaders=host;x-amz-date, Signature=00")
	f.Add("AWS4-HMAC-SHA256 Signature=00,Credential=AK,SignedHeaders=host")
	f.Add("AWS4-HMAC-SHA256 Credential=a,Credential=b")
	f.Add("Bearer x")
	f.Add(" ,=,,")
	f.Fuzz(func(t *testing.T, text string) {
		r := &http.Request{Method: "POST", URL: &url.URL{Path: "/"}, Header: http.Header{"Authorization": {text}, "X-Amz-Date": {"20260713T140506Z"}}}
		c, err := readClaim(r)
		if err != nil {
			return
		}
		again := new(claim)
		malformed := again.readAuthorization(c.algorithm + " Credential=" + c.credential + ", SignedHeaders=" + c.signedHeaders + ", Signature=" + c.signature)
		if malformed != "" || again.credential != c.credential || again.signedHeaders != c.signedHeaders || again.signature != c.signature {
			t.Fatalf("%q reads as %+v, which reads as %+v, %s", text, c, again, malformed)
		}
		if names, err := c.names(); err == nil && (!slices.IsSorted(names) || strings.ToLower(c.signedHeaders) != c.signedHeaders) {
			t.Fatalf("%q: names %q", text, names)
		}
	})
}

// FuzzQuery: the parameters are those that handlers see, and their canonical text says the same.
func FuzzQuery(f *testing.F) {
	f.Add("a=1&b=2&a=%20+")
	f.Add("X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AK%2F20260713&X-Amz-Date=d&X-Amz-SignedHeaders=host&X-Amz-Signature=00&X-Amz-Expires=60")
	f.Add("&&=&a&=b")
	f.Add("a=%zz;b")
	f.Fuzz(func(t *testing.T, raw string) {
		p, err := parseQuery(raw)
		seen, goErr := url.ParseQuery(raw)
		if (err == nil) != (goErr == nil) {
			t.Fatalf("%q: %v, but url.ParseQuery says %v", raw, err, goErr)
		}
		if err != nil {
			return
		}
		values := make(url.Values)
		for _, q := range p {
			values.Add(q.name, q.value)
		}
		if values.Encode() != seen.Encode() {
			t.Fatalf("%q: %q, but handlers see %q", raw, values.Encode(), seen.Encode())
		}
		canonical := p.canonical("")
		again, err := parseQuery(canonical)
		if err != nil || again.canonical("") != canonical {
			t.Fatalf("%q is %q, which is %q, %v", raw, canonical, again.canonical(""), err)
		}
	})
}

// FuzzVerify: no request that was not signed is accepted, whatever its header and query are.
func FuzzVerify(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260713/eu-west-1/s3/aws4_request, SignedHeaders=host;x-amz-date, Signature="+strings.Repeat("0", 64), "", "20260713T140506Z", EmptyPayload)
	f.Add("", "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20260713%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Date=20260713T140506Z&X-Amz-SignedHeaders=host&X-Amz-Expires=60&X-Amz-Signature="+strings.Repeat("0", 64), "", "")
	f.Add("AWS4-ECDSA-P256-SHA256 Credential=a", "X-Amz-Algorithm", "Mon, 13 Jul 2026 14:05:06 GMT", "STREAMING-")
	v := NewVerifier("s3", docsKeys)
	f.Fuzz(func(t *testing.T, authorization, query, date, hash string) {
		r := &http.Request{Method: "GET", Host: "h", URL: &url.URL{Path: "/b/k", RawQuery: query}, Header: http.Header{}}
		for name, value := range map[string]string{"Authorization": authorization, "X-Amz-Date": date, "X-Amz-Content-Sha256": hash} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		id, err := v.Verify(r, nil, ourDay)
		if err == nil || id != (Identity{}) {
			t.Fatalf("accepted as %+v, %v", id, err)
		}
		if _, ok := err.(*Error); !ok {
			t.Fatalf("the error is a %T", err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	body := []byte(strings.Repeat("x", 1024))
	r := newRequest(b, "POST", "http://127.0.0.1:4566/", "X-Amz-Target", "Kinesis_20131202.PutRecord", "Content-Type", "application/x-amz-json-1.1", "Content-Length", "1024")
	Sign(r, digest(string(body)), docs, "eu-west-1", "kinesis", ourDay)
	v := NewVerifier("kinesis", docsKeys)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(r, body, ourDay); err != nil {
			b.Fatal(err)
		}
	}
}
