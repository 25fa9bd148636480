package sigv4

import (
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// guard is a server that verifies every request, for the service that its signature is for, and
// then once more after the request or the secret has been spoiled.
type guard struct {
	keys keyMap
	now  func() time.Time

	mu       sync.Mutex
	verified []string // "1.1 header kinesis eu-west-1"
	faults   []string
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	credential, form := r.Header.Get("Authorization"), "header"
	if credential == "" {
		credential, form = r.URL.Query().Get("X-Amz-Credential"), "query"
	}
	scope, _ := ParseScope(credential)
	v := NewVerifier(scope.Service, g.keys)
	id, verr := v.Verify(r, body, g.now())
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil || verr != nil {
		g.faults = append(g.faults, fmt.Sprintf("%s %s: %v, %v\n%v", r.Method, r.URL, err, verr, r.Header))
	}
	g.verified = append(g.verified, fmt.Sprintf("%d.%d %s %s %s", r.ProtoMajor, r.ProtoMinor, form, id.Service, id.Region))
	bodyCounts := r.Header.Get("X-Amz-Content-Sha256") != UnsignedPayload && (form == "header" || scope.Service != "s3")
	if _, err := v.Verify(r, append(body, ' '), g.now()); err == nil && bodyCounts {
		g.faults = append(g.faults, r.URL.String()+": accepted with a longer body")
	}
	wrong := keyMap{}
	for name, k := range g.keys {
		k.Secret += "x"
		wrong[name] = k
	}
	if _, err := NewVerifier(scope.Service, wrong).Verify(r, body, g.now()); err == nil {
		g.faults = append(g.faults, r.URL.String()+": accepted with another secret")
	}
	if scope.Service == "s3" {
		w.Header().Set("Content-Type", "application/xml")
		io.WriteString(w, `<?xml version="1.0"?><ListBucketResult></ListBucketResult>`)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	io.WriteString(w, "{}")
}

// check compares the requests that arrived with what the client was to send.
func (g *guard) check(t *testing.T, want ...string) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range g.faults {
		t.Error(f)
	}
	if got := strings.Join(g.verified, "\n"); got != strings.Join(want, "\n") {
		t.Errorf("verified\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func startGuard(t *testing.T, keys keyMap, now func() time.Time) (*guard, string) {
	g := &guard{keys: keys, now: now}
	s := httptest.NewUnstartedServer(g)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return g, s.URL
}

// What client-kinesis 3.1142.0 and signature-v4 5.7.5 of the JavaScript SDK put on the wire at
// 2026-07-13T14:05:06Z with the endpoint http://127.0.0.1:4566. Over HTTP/2 they sign :authority
// in the place of host; the presigned URL has x-amz-content-sha256 in its query in lower case.
func TestTheJavaScriptSDK(t *testing.T) {
	const auth = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260713/eu-west-1/kinesis/aws4_request, SignedHeaders="
	record := func(body, target string, more ...string) []string {
		return append([]string{"Content-Type", "application/x-amz-json-1.1", "X-Amz-Target", "Kinesis_20131202." + target, "X-Amz-User-Agent", "aws-sdk-js/3.1142.0",
			"Amz-Sdk-Request", "attempt=1; max=1", "X-Amz-Date", "20260713T140506Z", "X-Amz-Content-Sha256", digest(body)}, more...)
	}
	g, base := startGuard(t, docsKeys, func() time.Time { return ourDay })
	temporary, tokenBase := startGuard(t, keyMap{docs.AccessKey: {Secret: docs.SecretKey, SessionToken: "TOKEN/+="}}, g.now)
	for _, c := range []struct {
		base, protocol, method, target, body string
		header                               []string
	}{
		{base, "h2c", "POST", "/", `{"Data":"aGVsbG8=","StreamName":"s","PartitionKey":"p"}`,
			record(`{"Data":"aGVsbG8=","StreamName":"s","PartitionKey":"p"}`, "PutRecord", "Amz-Sdk-Invocation-Id", "317bcf4f-d541-4c37-b237-97318a547de5", "Authorization",
				auth+":authority;amz-sdk-invocation-id;amz-sdk-request;content-length;content-type;x-amz-content-sha256;x-amz-date;x-amz-target;x-amz-user-agent, Signature=02c67ee0453e410a75830ac382999ca7f985b77505cb88bf472e03c68fee7b95")},
		{tokenBase, "h2c", "POST", "/", "{}",
			record("{}", "ListStreams", "Amz-Sdk-Invocation-Id", "14c0ead8-1e71-4dc1-8f20-441502551dad", "X-Amz-Security-Token", "TOKEN/+=", "Authorization",
				auth+":authority;amz-sdk-invocation-id;amz-sdk-request;content-length;content-type;x-amz-content-sha256;x-amz-date;x-amz-security-token;x-amz-target;x-amz-user-agent, Signature=89a274dc733f29e6382ed6aa19959b1486c5d31d2f6d9b9665f13c26d43f4e19")},
		{base, "1.1", "POST", "/", `{"Limit":3}`,
			record(`{"Limit":3}`, "ListStreams", "Amz-Sdk-Invocation-Id", "7cd8d765-0b82-4bca-a271-416de4e1da0d", "Authorization",
				auth+"amz-sdk-invocation-id;amz-sdk-request;content-length;content-type;host;x-amz-content-sha256;x-amz-date;x-amz-target;x-amz-user-agent, Signature=7122d26ff5fc32086ce78b990bbce0d9679cebe58e07af7d1a4004eb7d9df31c")},
		{base, "1.1", "GET", "/bucket/dt%3D2026/a%20b%2Bc.gz?x-id=GetObject&x-amz-content-sha256=UNSIGNED-PAYLOAD&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20260713%2Feu-west-1%2Fs3%2Faws4_request&X-Amz-Date=20260713T140506Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Signature=b8cfe09ed3b5a2f33b6efe763d65415c6b096cfafc4fe35866763bb9ac6d2135",
			"", nil},
	} {
		r := newRequest(t, c.method, c.base+c.target, c.header...)
		r.Host = "127.0.0.1:4566"
		if c.body != "" {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(c.body)), int64(len(c.body))
		}
		send(t, c.protocol, r)
	}
	g.check(t, "2.0 header kinesis eu-west-1", "1.1 header kinesis eu-west-1", "1.1 query s3 eu-west-1")
	temporary.check(t, "2.0 header kinesis eu-west-1")
}

func send(t *testing.T, protocol string, r *http.Request) {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	transport.Protocols.SetHTTP1(protocol == "1.1")
	transport.Protocols.SetUnencryptedHTTP2(protocol == "h2c")
	transport.Protocols.SetHTTP2(protocol == "h2")
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// TestTheGoSDK signs random requests with the signer of the Go SDK and sends them.
func TestTheGoSDK(t *testing.T) {
	g, base := startGuard(t, docsKeys, time.Now)
	rnd := rand.New(rand.NewPCG(3, 4))
	creds := aws.Credentials{AccessKeyID: docs.AccessKey, SecretAccessKey: docs.SecretKey}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	var want []string
	for i := range 200 {
		service := []string{"kinesis", "lambda", "s3"}[i%3]
		path, query := "/", url.Values{}
		if service != "kinesis" {
			path += oddText(rnd, 20)
			query = url.Values{oddText(rnd, 5): {oddText(rnd, 9), oddText(rnd, 9)}}
		}
		// Lambda's names have no slashes and dots of which the signer would make segments.
		if service == "lambda" {
			path = "/2015-03-31/functions/" + url.PathEscape("f"+strings.ReplaceAll(path, "/", "-")) + "/invocations"
		} else {
			path = EscapePath(path)
		}
		body := strings.Repeat("x", rnd.IntN(100)) // net/http makes a body of no bytes a request without one
		presign := i%2 == 1
		r, err := http.NewRequest([]string{"PUT", "GET"}[i%2], base+path+"?"+query.Encode(), strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = service == "s3" })
		if presign {
			r = presignWithGo(t, signer, creds, r, service)
			want = append(want, "1.1 query "+service+" eu-west-1")
		} else {
			if service == "s3" {
				r.Header.Set("X-Amz-Content-Sha256", digest(body))
			}
			if err := signer.SignHTTP(t.Context(), creds, r, digest(body), service, "eu-west-1", time.Now()); err != nil {
				t.Fatal(err)
			}
			want = append(want, "1.1 header "+service+" eu-west-1")
		}
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	g.check(t, want...)
}

// presignWithGo makes a request of the URL that the Go SDK presigns for r without a body. Like the
// SDK's own client it gives a lifetime for S3 only.
func presignWithGo(t *testing.T, signer *v4.Signer, creds aws.Credentials, r *http.Request, service string) *http.Request {
	t.Helper()
	r.Body, r.ContentLength = nil, 0
	hash := EmptyPayload
	if service == "s3" {
		hash = UnsignedPayload
		r.URL.RawQuery += "&X-Amz-Expires=60"
	}
	signedURL, header, err := signer.PresignHTTP(t.Context(), creds, r, hash, service, "eu-west-1", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	out := newRequest(t, r.Method, signedURL)
	for name, values := range header {
		out.Header[name] = values
	}
	return out
}

func oddText(rnd *rand.Rand, n int) string {
	alphabet := []rune("ab/A0-_.~ %+&=?#;,:@$!'()*é/\"<>|")
	var b strings.Builder
	for range rnd.IntN(n) {
		b.WriteRune(alphabet[rnd.IntN(len(alphabet))])
	}
	return b.String()
}

// Over TLS a client may leave the body out of its signature.
func TestUnsignedPayloadOverTLS(t *testing.T) {
	g := &guard{keys: docsKeys, now: time.Now}
	s := httptest.NewUnstartedServer(g)
	s.EnableHTTP2 = true
	s.StartTLS()
	defer s.Close()
	for _, protocol := range []string{"1.1", "h2"} {
		r, err := http.NewRequest("POST", s.URL+"/", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Content-Sha256", UnsignedPayload)
		Sign(r, UnsignedPayload, docs, "eu-west-1", "kinesis", time.Now())
		send(t, protocol, r)
	}
	g.check(t, "1.1 header kinesis eu-west-1", "2.0 header kinesis eu-west-1")
}

// botocoreCalls are what boto3 and the AWS CLI send: both are botocore on the wire.
const botocoreCalls = `
import sys, urllib.request
import botocore.session, botocore.config
session = botocore.session.Session()
config = botocore.config.Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}, signature_version="v4", region_name="eu-west-1")
s3config = config.merge(botocore.config.Config(signature_version="s3v4"))

def calls(endpoint, key, secret, token):
    session.set_credentials(key, secret, token)
    def client(service):
        return session.create_client(service, endpoint_url=endpoint, config=s3config if service == "s3" else config)
    def get(url):
        urllib.request.urlopen(url).read()
    kinesis, functions, s3 = client("kinesis"), client("lambda"), client("s3")
    kinesis.list_streams()
    kinesis.put_record(StreamName="s", PartitionKey="\u00e9", Data=b"x" * 10000)
    functions.get_function_configuration(FunctionName="fn:prod")
    functions.untag_resource(Resource="arn:aws:lambda:eu-west-1:000000000000:function:f", TagKeys=["b", "a", "a b+c/d"])
    s3.list_objects_v2(Bucket="bucket", Prefix="a/b c+\u00e9", MaxKeys=10)
    for name in ["plain", "dt=2026/a b+c&d%.gz", "/x//y/../\u00e9~,", "a;b?c=d#e"]:
        s3.get_object(Bucket="bucket", Key=name, Range="bytes=0-9")
        get(s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": name, "ResponseContentType": "a/b; c"}))
    get(functions.generate_presigned_url("get_function_configuration", Params={"FunctionName": "fn:prod", "Qualifier": "1"}))

key, secret, longterm, temporary, token = sys.argv[1:]
calls(longterm, key, secret, None)
calls(temporary, key, secret, token)
`

func TestBotocore(t *testing.T) {
	if err := exec.Command("python3", "-c", "import botocore").Run(); err != nil {
		t.Skip("botocore is not installed: pip install botocore")
	}
	const token = "TOKEN/+="
	longTerm, base := startGuard(t, docsKeys, time.Now)
	temporary, tokenBase := startGuard(t, keyMap{docs.AccessKey: {Secret: docs.SecretKey, SessionToken: token}}, time.Now)
	cmd := exec.CommandContext(t.Context(), "python3", "-c", botocoreCalls, docs.AccessKey, docs.SecretKey, base, tokenBase, token)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	var want []string
	for _, sent := range strings.Fields("header/kinesis header/kinesis header/lambda header/lambda header/s3" +
		strings.Repeat(" header/s3 query/s3", 4) + " query/lambda") {
		form, service, _ := strings.Cut(sent, "/")
		want = append(want, "1.1 "+form+" "+service+" eu-west-1")
	}
	longTerm.check(t, want...)
	temporary.check(t, want...)
}
