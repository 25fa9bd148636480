package sigv4

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

var (
	// The keys that AWS prints in the examples of its S3 and its general signing documentation.
	s3Docs   = Credentials{AccessKey: "AKIAIOSFODNN7EXAMPLE", SecretKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
	docs     = Credentials{AccessKey: "AKIDEXAMPLE", SecretKey: "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}
	s3Day    = time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC)
	suiteDay = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	ourDay   = time.Date(2026, 7, 13, 14, 5, 6, 0, time.UTC)
)

func newRequest(t testing.TB, method, rawURL string, header ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, rawURL, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return req
}

func digest(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// The signatures without a note are AWS's published examples; those of "botocore" were made with
// botocore 1.43.11.
func TestSignMatchesKnownSignatures(t *testing.T) {
	withToken := docs
	withToken.SessionToken = "TOKEN/+="
	tests := []struct {
		name            string
		req             *http.Request
		body            string
		creds           Credentials
		region, service string
		now             time.Time
		signed, sig     string
	}{
		{"S3 GET with Range", newRequest(t, "GET", "https://examplebucket.s3.amazonaws.com/test.txt", "Range", "bytes=0-9"),
			"", s3Docs, "us-east-1", "s3", s3Day, "host;range;x-amz-content-sha256;x-amz-date",
			"f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
		{"S3 PUT", newRequest(t, "PUT", "https://examplebucket.s3.amazonaws.com/test$file.text",
			"Date", "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class", "REDUCED_REDUNDANCY"),
			"Welcome to Amazon S3.", s3Docs, "us-east-1", "s3", s3Day,
			"date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
			"98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
		{"S3 query without value", newRequest(t, "GET", "https://examplebucket.s3.amazonaws.com/?lifecycle"),
			"", s3Docs, "us-east-1", "s3", s3Day, "host;x-amz-content-sha256;x-amz-date",
			"fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
		{"S3 list", newRequest(t, "GET", "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J"),
			"", s3Docs, "us-east-1", "s3", s3Day, "host;x-amz-content-sha256;x-amz-date",
			"34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
		{"get-vanilla", newRequest(t, "GET", "https://example.amazonaws.com/"), "", docs, "us-east-1", "service", suiteDay,
			"host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"botocore: S3 PUT with an odd key", newRequest(t, "PUT", "http://127.0.0.1:9000/b/dt%3D2026/a%20b%2Bc%26d%25/%C3%A9~%2C.gz",
			"Content-Type", "application/octet-stream", "x-amz-meta-first", "1  2"), "hello", docs, "eu-central-1", "s3", ourDay,
			"content-type;host;x-amz-content-sha256;x-amz-date;x-amz-meta-first",
			"1ba9a640df9118a231d383a4ff52f658fcdcc1a5c6aca6b4a6e7a84a7fb93311"},
		{"botocore: S3 list with a token", newRequest(t, "GET",
			"https://b.s3.eu-central-1.amazonaws.com/?list-type=2&prefix=a%2Fb%20c&max-keys=10&max=1&start-after=%C3%A9%2B"),
			"", withToken, "eu-central-1", "s3", ourDay, "host;x-amz-content-sha256;x-amz-date;x-amz-security-token",
			"d88b19cebc61e0ecb6503e15cceaf30427d6702bacb5e0a9e574210235be3534"},
		{"botocore: S3 keeps dots and doubled slashes", newRequest(t, "GET", "http://localhost:4567/b//x/../y"),
			"", docs, "us-east-1", "s3", ourDay, "host;x-amz-content-sha256;x-amz-date",
			"1e1c70ff76087d80bb5b208724abf0be60bb27cb3ecf52d444c6d81cb656da93"},
		{"botocore: Kinesis", newRequest(t, "POST", "https://kinesis.us-east-1.amazonaws.com/",
			"X-Amz-Target", "Kinesis_20131202.ListStreams", "Content-Type", "application/x-amz-json-1.1"),
			"{}", docs, "us-east-1", "kinesis", ourDay, "content-type;host;x-amz-date;x-amz-target",
			"9e080ecc2f91e05691b409ccb37833c6bfc5e88d24121f3448d85bf3a7b2764f"},
		{"botocore: Lambda escapes the path twice", newRequest(t, "GET",
			"https://lambda.us-east-1.amazonaws.com/2015-03-31/functions/fn%3Aprod/configuration"),
			"", docs, "us-east-1", "lambda", ourDay, "host;x-amz-date",
			"55e504fb39abadf88e9cb67adf2ee0a0beaeb5d28548293ecbc0167725b69a23"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			Sign(tt.req, digest(tt.body), tt.creds, tt.region, tt.service, tt.now)
			want := "AWS4-HMAC-SHA256 Credential=" + tt.creds.AccessKey + "/" + tt.now.Format("20060102") + "/" + tt.region + "/" +
				tt.service + "/aws4_request, SignedHeaders=" + tt.signed + ", Signature=" + tt.sig
			if got := tt.req.Header.Get("Authorization"); got != want {
				t.Errorf("Authorization is\n%s, want\n%s", got, want)
			}
		})
	}
}

func TestSigningAgainReplacesTheFirstSignature(t *testing.T) {
	temporary := s3Docs
	temporary.SessionToken = "T"
	req := newRequest(t, "GET", "https://examplebucket.s3.amazonaws.com/test.txt", "Range", "bytes=0-9")
	Sign(req, EmptyPayload, temporary, "eu-west-1", "s3", s3Day.Add(time.Hour))
	Sign(req, EmptyPayload, s3Docs, "us-east-1", "s3", s3Day)
	const want = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
	if got := req.Header.Get("Authorization"); !strings.HasSuffix(got, "Signature="+want) {
		t.Errorf("Authorization is %s, want signature %s", got, want)
	}
}

// TestSignAgreesWithTheGoSDK signs random paths, queries and headers with both signers.
func TestSignAgreesWithTheGoSDK(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	const alphabet = "ab/A0-_.~ %+&=?#;,:@$!'()*é/\"<>|"
	text := func(n int) string {
		var b strings.Builder
		for range rnd.IntN(n) {
			b.WriteRune([]rune(alphabet)[rnd.IntN(len([]rune(alphabet)))])
		}
		return b.String()
	}
	signer := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	for range 500 {
		path := "/" + text(30)
		u := &url.URL{Scheme: "https", Host: "example.com", Path: path, RawPath: EscapePath(path)}
		u.RawQuery = url.Values{text(5): {text(9), text(9)}, text(5): {text(9)}}.Encode()
		req := &http.Request{Method: "GET", URL: u, Header: http.Header{"X-Amz-Meta-A": {"v " + strings.ReplaceAll(text(9), "é", "")}}}
		ours, theirs := req.Clone(context.Background()), req.Clone(context.Background())
		Sign(ours, EmptyPayload, docs, "us-east-1", "s3", ourDay)
		theirs.Header.Set("X-Amz-Content-Sha256", EmptyPayload)
		err := signer.SignHTTP(t.Context(), aws.Credentials{AccessKeyID: docs.AccessKey, SecretAccessKey: docs.SecretKey},
			theirs, EmptyPayload, "s3", "us-east-1", ourDay)
		if err != nil {
			t.Fatal(err)
		}
		if a, b := ours.Header.Get("Authorization"), theirs.Header.Get("Authorization"); a != b {
			t.Fatalf("%s:\nours   %s\ntheirs %s", u, a, b)
		}
	}
}

func TestSignatureChangesWithEveryPartOfTheRequest(t *testing.T) {
	sign := func(change func(*http.Request, *Credentials) string) string {
		req, c := newRequest(t, "GET", "https://b.example.com/k?a=1", "X-Amz-Meta-A", "1"), docs
		Sign(req, change(req, &c), c, "us-east-1", "s3", ourDay)
		return req.Header.Get("Authorization")
	}
	plain := sign(func(*http.Request, *Credentials) string { return EmptyPayload })
	changes := map[string]func(*http.Request, *Credentials) string{
		"method": func(r *http.Request, _ *Credentials) string { r.Method = "PUT"; return EmptyPayload },
		"path":   func(r *http.Request, _ *Credentials) string { r.URL.Path = "/l"; return EmptyPayload },
		"query":  func(r *http.Request, _ *Credentials) string { r.URL.RawQuery = "a=2"; return EmptyPayload },
		"host":   func(r *http.Request, _ *Credentials) string { r.Host = "c.example.com"; return EmptyPayload },
		"header": func(r *http.Request, _ *Credentials) string { r.Header.Set("X-Amz-Meta-A", "2"); return EmptyPayload },
		"body":   func(*http.Request, *Credentials) string { return digest("x") },
		"secret": func(_ *http.Request, c *Credentials) string { c.SecretKey = "other"; return EmptyPayload },
	}
	for name, change := range changes {
		if sign(change) == plain {
			t.Errorf("another %s gave the same signature", name)
		}
	}
	// The control: what proxies change is not signed.
	same := sign(func(r *http.Request, _ *Credentials) string { r.Header.Set("User-Agent", "x"); return EmptyPayload })
	if same != plain {
		t.Error("User-Agent is part of the signature")
	}
}

func TestParseScope(t *testing.T) {
	kinesis := Scope{AccessKey: "AK", Date: "20260713", Region: "eu-west-1", Service: "kinesis"}
	tests := []struct {
		in   string
		want Scope
		ok   bool
	}{
		{"AWS4-HMAC-SHA256 Credential=AK/20260713/eu-west-1/kinesis/aws4_request, SignedHeaders=host, Signature=00", kinesis, true},
		{"AWS4-HMAC-SHA256 SignedHeaders=host,Signature=00,Credential=AK/20260713/eu-west-1/kinesis/aws4_request", kinesis, true},
		{"AK/20260713/eu-west-1/kinesis/aws4_request", kinesis, true},
		{"", Scope{}, false},
		{"Bearer AK/20260713/eu-west-1/kinesis/aws4_request", Scope{}, false},
		{"AWS4-HMAC-SHA256 SignedHeaders=host", Scope{}, false},
		{"AK/20260713/eu-west-1/kinesis", Scope{}, false},
		{"AK/20260713/eu-west-1/kinesis/aws5_request", Scope{}, false},
		{"AK/2026713/eu-west-1/kinesis/aws4_request", Scope{}, false},
		{"AK/2026071x/eu-west-1/kinesis/aws4_request", Scope{}, false},
		{"/20260713/eu-west-1/kinesis/aws4_request", Scope{}, false},
		{"A\nK/20260713/eu-west-1/kinesis/aws4_request", Scope{}, false},
		{"A/K/20260713/eu-west-1/kinesis/aws4_request", Scope{}, false},
		{"AWS4-ECDSA-P256-SHA256 Credential=AK/20260713/kinesis/aws4_request, SignedHeaders=host, Signature=00", Scope{}, false},
	}
	for _, tt := range tests {
		if got, ok := ParseScope(tt.in); got != tt.want || ok != tt.ok {
			t.Errorf("ParseScope(%q) = %+v, %v; want %+v, %v", tt.in, got, ok, tt.want, tt.ok)
		}
	}
}

// FuzzParseScope: whatever is accepted is a scope that reads back as itself in both forms.
func FuzzParseScope(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AK/20260713/eu-west-1/kinesis/aws4_request, SignedHeaders=host, Signature=00")
	f.Add("AK/20260713/eu-west-1/s3/aws4_request")
	f.Add("AWS4-HMAC-SHA256 Credential=,Credential=")
	f.Add("////")
	f.Fuzz(func(t *testing.T, in string) {
		s, ok := ParseScope(in)
		if !ok {
			if s != (Scope{}) {
				t.Fatalf("refused %q but returned %+v", in, s)
			}
			return
		}
		credential := s.AccessKey + "/" + s.Date + "/" + s.Region + "/" + s.Service + "/aws4_request"
		for _, form := range []string{credential, "AWS4-HMAC-SHA256 Credential=" + credential + ", Signature=0"} {
			if again, ok := ParseScope(form); !ok || again != s {
				t.Fatalf("%q gave %+v, which reads back as %+v, %v", in, s, again, ok)
			}
		}
	})
}
