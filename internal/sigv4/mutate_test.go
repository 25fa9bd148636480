package sigv4

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// sample is a request that is good, as it is on the wire.
type sample struct {
	name, service string
	head          []string // the request line and the headers
	body          string
	signed        []string // the headers that its signature covers
}

func (s sample) wire(head []string) string {
	return strings.Join(head, "\r\n") + "\r\n\r\n" + s.body
}

// read does what net/http's server does: it refuses what is not HTTP/1 before anybody verifies it.
func read(wire string) (*http.Request, []byte, bool) {
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(wire)))
	if err != nil {
		return nil, nil, false
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, nil, false
	}
	control := func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }
	for _, values := range r.Header {
		if slices.ContainsFunc(values, func(v string) bool { return strings.ContainsFunc(v, control) }) {
			return nil, nil, false
		}
	}
	return r, body, true
}

// sameMeaning is true if nothing differs that handlers may act on and that a signature covers. It
// knows nothing of how a signature is made.
func (s sample) sameMeaning(a, b *http.Request, aBody, bBody []byte) bool {
	path := func(r *http.Request) string {
		if s.service == "s3" {
			return r.URL.Path
		}
		return r.URL.EscapedPath()
	}
	aq, aerr := url.ParseQuery(a.URL.RawQuery)
	bq, berr := url.ParseQuery(b.URL.RawQuery)
	if a.Method != b.Method || a.Host != b.Host || path(a) != path(b) || aerr != nil || berr != nil || aq.Encode() != bq.Encode() {
		return false
	}
	names := slices.Clone(s.signed)
	for _, h := range []http.Header{a.Header, b.Header} {
		for name := range h {
			if strings.HasPrefix(name, "X-Amz-") || name == "Authorization" {
				names = append(names, name)
			}
		}
	}
	for _, n := range names {
		if !slices.Equal(a.Header.Values(n), b.Header.Values(n)) {
			return false
		}
	}
	return bytes.Equal(aBody, bBody)
}

// makeSample signs r, adds headers that are not signed, and writes it down.
func makeSample(t *testing.T, name, service string, r *http.Request, body string, sign func(*http.Request), unsigned ...string) sample {
	t.Helper()
	if body != "" {
		r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	sign(r)
	s := sample{name: name, service: service, body: body}
	s.head = []string{r.Method + " " + r.URL.RequestURI() + " HTTP/1.1", "Host: " + r.Host}
	for name, values := range r.Header {
		for _, v := range values {
			s.head = append(s.head, name+": "+v)
		}
	}
	slices.Sort(s.head[2:])
	s.head = append(s.head, unsigned...)
	if list, ok := parameter(r.Header.Get("Authorization"), "SignedHeaders"); ok {
		s.signed = strings.Split(list, ";")
	}
	return s
}

// samples are requests of the shapes that clients send.
func samples(t *testing.T) []sample {
	const base = "http://127.0.0.1:4566"
	put := `{"StreamName":"s","PartitionKey":"p","Data":"aGVsbG8="}`
	with := func(service, hash string) func(*http.Request) {
		return func(r *http.Request) { Sign(r, hash, docs, "eu-west-1", service, ourDay) }
	}
	kinesis := func(more ...string) *http.Request {
		return newRequest(t, "POST", base+"/", append([]string{"X-Amz-Target", "Kinesis_20131202.PutRecord"}, more...)...)
	}
	withoutLength := func(r *http.Request) { // botocore leaves the length to the HTTP library
		r.Header.Del("Content-Length")
		with("kinesis", digest(put))(r)
		r.Header.Set("Content-Length", strconv.Itoa(len(put)))
	}
	authority := func(r *http.Request) {
		names := ":authority;content-length;content-type;x-amz-date;x-amz-target"
		r.Header.Set("X-Amz-Date", "20260713T140506Z")
		lines := ":authority:127.0.0.1:4566\ncontent-length:55\ncontent-type:application/x-amz-json-1.1\nx-amz-date:20260713T140506Z\nx-amz-target:Kinesis_20131202.PutRecord\n"
		canonical := "POST\n/\n\n" + lines + "\n" + names + "\n" + digest(put)
		authorize(r, names, mac(signingKey(docs.SecretKey, "20260713", "eu-west-1", "kinesis"),
			"AWS4-HMAC-SHA256\n20260713T140506Z\n20260713/eu-west-1/kinesis/aws4_request\n"+digest(canonical)))
	}
	presign := func(service, hash string) func(*http.Request) {
		return func(r *http.Request) {
			signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = service == "s3" })
			creds := aws.Credentials{AccessKeyID: docs.AccessKey, SecretAccessKey: docs.SecretKey}
			signedURL, _, err := signer.PresignHTTP(t.Context(), creds, r, hash, service, "eu-west-1", ourDay)
			if err != nil {
				t.Fatal(err)
			}
			r.URL = parse(t, signedURL)
		}
	}
	const contentType = "application/x-amz-json-1.1"
	return []sample{
		makeSample(t, "botocore", "kinesis", kinesis("Content-Type", contentType), put, withoutLength, "User-Agent: Botocore/1.43.11", "Accept-Encoding: identity"),
		makeSample(t, "Go SDK", "kinesis", kinesis("Content-Type", contentType, "Amz-Sdk-Request", "attempt=1; max=3"), put, with("kinesis", digest(put)), "User-Agent: aws-sdk-go-v2/1.47.7", "Accept-Encoding: gzip"),
		makeSample(t, "JavaScript 2", "kinesis", kinesis("X-Amz-Content-Sha256", digest(put)), put, with("kinesis", digest(put)), "Content-Type: "+contentType),
		makeSample(t, "JavaScript 3", "kinesis", kinesis("Content-Type", contentType), put, authority),
		makeSample(t, "Lambda", "lambda", newRequest(t, "DELETE", base+"/2017-03-31/tags/arn%3Aaws%3Alambda?tagKeys=b&tagKeys=a+b"), "", with("lambda", EmptyPayload)),
		makeSample(t, "repeated header", "kinesis", kinesis("X-Amz-Meta", "one", "X-Amz-Meta", "two"), put, with("kinesis", digest(put))),
		makeSample(t, "S3", "s3", newRequest(t, "GET", base+"/bucket/dt%3D2026/a%20b%2Bc.gz?versionId=", "Range", "bytes=0-9"), "", with("s3", EmptyPayload)),
		makeSample(t, "presigned S3", "s3", newRequest(t, "GET", base+"/bucket/dt%3D2026/a%20b%2Bc.gz?x-id=GetObject&X-Amz-Expires=900"), "", presign("s3", UnsignedPayload)),
		makeSample(t, "presigned Lambda", "lambda", newRequest(t, "GET", base+"/2015-03-31/functions/fn%3Aprod/configuration?Qualifier=1"), "", presign("lambda", EmptyPayload)),
	}
}

// mutate calls try with every request that differs from s in one bit or in one header.
func (s sample) mutate(try func(what, wire string)) {
	wire := s.wire(s.head)
	for i := range len(wire) {
		for bit := range 8 {
			b := []byte(wire)
			b[i] ^= 1 << bit
			try("bit "+strconv.Itoa(bit)+" of byte "+strconv.Itoa(i), string(b))
		}
	}
	for i := 1; i < len(s.head); i++ {
		name, value, _ := strings.Cut(s.head[i], ": ")
		edits := map[string][]string{
			"dropped": nil, "emptied": {name + ": "}, "longer": {s.head[i] + "x"}, "shorter": {s.head[i][:len(s.head[i])-1]},
			"renamed": {"X-" + s.head[i]}, "with another before": {"X-Amz-Extra: 1", s.head[i]},
		}
		if name != "Host" { // a second one ends the connection
			edits["twice"] = []string{s.head[i], s.head[i]}
			edits["with an empty one before"] = []string{name + ": ", s.head[i]}
		}
		for what, lines := range edits {
			try(name+" "+what, s.wire(slices.Concat(s.head[:i], lines, s.head[i+1:])))
		}
		if i+1 < len(s.head) {
			nextName, nextValue, _ := strings.Cut(s.head[i+1], ": ")
			try(name+" with its neighbour's value", s.wire(slices.Concat(s.head[:i], []string{name + ": " + nextValue, nextName + ": " + value}, s.head[i+2:])))
		}
	}
}

// accepted runs all mutations of s through verify. It returns how many of them are requests of
// another meaning, and which of these were accepted.
func (s sample) accepted(t *testing.T, verify func(*http.Request, []byte) error) (tried int, wrong []string) {
	t.Helper()
	original, originalBody, ok := read(s.wire(s.head))
	if !ok {
		t.Fatalf("%s is no request", s.name)
	}
	if err := verify(original, originalBody); err != nil {
		t.Fatalf("%s itself is refused: %v", s.name, err)
	}
	s.mutate(func(what, wire string) {
		r, body, ok := read(wire)
		if !ok || s.sameMeaning(original, r, originalBody, body) {
			return
		}
		tried++
		if verify(r, body) == nil {
			wrong = append(wrong, what)
		}
	})
	return tried, wrong
}

func TestNoMutationIsAccepted(t *testing.T) {
	total := 0
	for _, s := range samples(t) {
		v := NewVerifier(s.service, docsKeys)
		tried, wrong := s.accepted(t, func(r *http.Request, body []byte) error {
			_, err := v.Verify(r, body, ourDay.Add(time.Minute))
			return err
		})
		for _, what := range wrong {
			t.Errorf("%s: accepted with %s", s.name, what)
		}
		total += tried
	}
	if total < 10_000 {
		t.Errorf("only %d mutations were tried", total)
	}
	t.Logf("%d mutations, all refused", total)
}

// The control: a verifier that does not look at one part of the request is caught.
func TestAVerifierThatOverlooksSomethingIsCaught(t *testing.T) {
	type received struct {
		*http.Request
		body []byte
	}
	all := samples(t)
	for name, c := range map[string]struct {
		sample   string
		overlook func(got, sent *received)
	}{
		"host":         {"Go SDK", func(got, sent *received) { got.Host = sent.Host }},
		"method":       {"S3", func(got, sent *received) { got.Method = sent.Method }},
		"path":         {"S3", func(got, sent *received) { got.URL.Path = sent.URL.Path }},
		"query":        {"Lambda", func(got, sent *received) { got.URL.RawQuery = sent.URL.RawQuery }},
		"body":         {"botocore", func(got, sent *received) { got.body = sent.body }},
		"target":       {"botocore", func(got, sent *received) { got.Header["X-Amz-Target"] = sent.Header["X-Amz-Target"] }},
		"extra header": {"Lambda", func(got, _ *received) { got.Header.Del("X-Amz-Extra") }},
		"signature":    {"S3", func(got, sent *received) { got.Header["Authorization"] = sent.Header["Authorization"] }},
	} {
		s := all[slices.IndexFunc(all, func(s sample) bool { return s.name == c.sample })]
		original, originalBody, _ := read(s.wire(s.head))
		v := NewVerifier(s.service, docsKeys)
		_, wrong := s.accepted(t, func(r *http.Request, body []byte) error {
			got := &received{r, body}
			c.overlook(got, &received{original, originalBody})
			body = got.body
			_, err := v.Verify(r, body, ourDay)
			return err
		})
		if len(wrong) == 0 {
			t.Errorf("a verifier that overlooks the %s passes", name)
		}
	}
}

// What differs in form alone is accepted: proxies may do that.
func TestFormDoesNotMatter(t *testing.T) {
	for _, s := range samples(t) {
		reversed := slices.Clone(s.head)
		slices.Reverse(reversed[1:])
		if s.name == "repeated header" { // whose order counts
			continue
		}
		lower := slices.Clone(s.head)
		for i := range lower[1:] {
			name, value, _ := strings.Cut(lower[1+i], ": ")
			lower[1+i] = strings.ToLower(name) + ":  " + value + "  "
		}
		for what, head := range map[string][]string{"headers in another order": reversed, "lower-case names and white space": lower} {
			r, body, ok := read(s.wire(head))
			if !ok {
				t.Fatalf("%s, %s, is no request", s.name, what)
			}
			if _, err := NewVerifier(s.service, docsKeys).Verify(r, body, ourDay); err != nil {
				t.Errorf("%s, %s: %v", s.name, what, err)
			}
		}
	}
}
