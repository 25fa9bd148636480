// Package sigv4 signs requests with AWS Signature Version 4 and reads who a signature says it is
// from.
//
// A signature is an HMAC over a canonical text of the request: method, path, query, the signed
// headers and the SHA-256 of the body. Its key is derived from the secret for one day, one region
// and one service; these three and the access key are the signature's scope, which travels in
// clear. Sign writes the header form. A Verifier checks both forms, header and presigned query, and
// tells whose request it is. ParseScope reads the scope of either form without checking anything:
// routers use it to tell services apart, and a server without authentication to learn the region
// and account that a client means.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"

	// TimeFormat is the form of X-Amz-Date, always UTC.
	TimeFormat = "20060102T150405Z"

	// EmptyPayload is the payload hash of a request without a body.
	EmptyPayload = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// Credentials are what a request is signed with.
type Credentials struct {
	AccessKey, SecretKey string
	SessionToken         string // of temporary credentials; else empty
}

// Sign adds X-Amz-Date, X-Amz-Security-Token (if there is a token), X-Amz-Content-Sha256 (for
// S3) and Authorization to req, replacing what an earlier Sign has put there. It signs the host
// and all headers of req but those that proxies and net/http change on the way.
//
// payloadHash is the lower-case hex SHA-256 of the body, or UNSIGNED-PAYLOAD. S3 reads the path
// as escaped once; for all other services the escaped path is escaped once more.
func Sign(req *http.Request, payloadHash string, c Credentials, region, service string, now time.Time) {
	stamp := now.UTC().Format(TimeFormat)
	req.Header.Set("X-Amz-Date", stamp)
	req.Header.Del("X-Amz-Security-Token")
	if c.SessionToken != "" {
		req.Header.Set("X-Amz-Security-Token", c.SessionToken)
	}
	if service == "s3" {
		req.Header.Set("X-Amz-Content-Sha256", payloadHash)
	}
	headers, names := canonicalHeaders(req)
	canonical := strings.Join([]string{
		req.Method, canonicalPath(req, service), canonicalQuery(req), headers, names, payloadHash}, "\n")
	sum := sha256.Sum256([]byte(canonical))
	day := stamp[:8]
	scope := strings.Join([]string{day, region, service, terminator}, "/")
	text := strings.Join([]string{algorithm, stamp, scope, hex.EncodeToString(sum[:])}, "\n")
	key := signingKey(c.SecretKey, day, region, service)
	req.Header.Set("Authorization", algorithm+" Credential="+c.AccessKey+"/"+scope+
		", SignedHeaders="+names+", Signature="+hex.EncodeToString(mac(key, text)))
}

// signingKey is what signs for one day, region and service.
func signingKey(secret, day, region, service string) []byte {
	key := mac([]byte("AWS4"+secret), day)
	for _, part := range []string{region, service, terminator} {
		key = mac(key, part)
	}
	return key
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// unsigned are headers that are not part of a signature: proxies, storage front ends and net/http
// itself add, drop or rewrite them.
var unsigned = []string{"accept-encoding", "authorization", "connection", "expect", "transfer-encoding",
	"user-agent", "x-amzn-trace-id"}

// canonicalHeaders returns the signed headers as "name:value\n" lines in order of their names,
// and the names joined by semicolons.
func canonicalHeaders(req *http.Request) (lines, names string) {
	host := req.Host
	if host == "" {
		host = req.URL.Host
	}
	values := map[string]string{"host": host}
	for name, vs := range req.Header {
		name = strings.ToLower(name)
		if slices.Contains(unsigned, name) {
			continue
		}
		values[name] = canonicalValue(vs)
	}
	sorted := make([]string, 0, len(values))
	for name := range values {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	var b strings.Builder
	for _, name := range sorted {
		b.WriteString(name + ":" + values[name] + "\n")
	}
	return b.String(), strings.Join(sorted, ";")
}

// canonicalValue is the value of a header that was given once or more: white space trimmed, and
// runs of it made one space.
func canonicalValue(values []string) string {
	if len(values) == 1 && !strings.ContainsFunc(values[0], unicode.IsSpace) {
		return values[0]
	}
	trimmed := make([]string, len(values))
	for i, v := range values {
		trimmed[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(trimmed, ",")
}

func canonicalPath(req *http.Request, service string) string {
	switch {
	case req.URL.Path == "":
		return "/"
	case service == "s3":
		return EscapePath(req.URL.Path)
	}
	return escape(normalPath(req.URL.EscapedPath()), true)
}

// normalPath removes empty and dot segments, as RFC 3986 does. A final slash stays.
func normalPath(path string) string {
	if !strings.Contains(path, "//") && !strings.Contains(path, "/.") {
		return path
	}
	var out []string
	for segment := range strings.SplitSeq(path, "/") {
		switch segment {
		case "", ".":
		case "..":
			out = out[:max(len(out)-1, 0)]
		default:
			out = append(out, segment)
		}
	}
	if len(out) > 0 && strings.HasSuffix(path, "/") {
		out = append(out, "")
	}
	return "/" + strings.Join(out, "/")
}

// EscapePath is S3's canonical escaping of a path: every byte but letters, digits and "-_.~/"
// becomes %XX. A request whose URL.RawPath is escaped so arrives as it was signed.
func EscapePath(path string) string { return escape(path, true) }

func canonicalQuery(req *http.Request) string {
	var pairs []string
	for name, values := range req.URL.Query() {
		for _, v := range values {
			pairs = append(pairs, escape(name, false)+"="+escape(v, false))
		}
	}
	slices.SortFunc(pairs, comparePairs)
	return strings.Join(pairs, "&")
}

// comparePairs orders by name and then by value: "=" must not take part in the comparison, since
// "a=" sorts behind "a-b=" as text although "a" is the smaller name.
func comparePairs(a, b string) int {
	an, av, _ := strings.Cut(a, "=")
	bn, bv, _ := strings.Cut(b, "=")
	if c := strings.Compare(an, bn); c != 0 {
		return c
	}
	return strings.Compare(av, bv)
}

const upperHex = "0123456789ABCDEF"

func escape(s string, keepSlash bool) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			c == '-', c == '_', c == '.', c == '~', c == '/' && keepSlash:
			b.WriteByte(c)
		default:
			b.Write([]byte{'%', upperHex[c>>4], upperHex[c&15]})
		}
	}
	return b.String()
}
