package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
)

// UnsignedPayload stands in for the payload hash where the body is not signed.
const UnsignedPayload = "UNSIGNED-PAYLOAD"

// payload is the payload hash that the signature covers. Where the request names a digest, the
// body must have it.
func (v *Verifier) payload(r *http.Request, c *claim, body []byte) (string, error) {
	declared := r.Header.Values("X-Amz-Content-Sha256")
	for _, p := range c.query {
		if c.presigned && strings.EqualFold(p.name, "X-Amz-Content-Sha256") { // JavaScript writes it lower case
			declared = append([]string{p.value}, declared...)
		}
	}
	presignedS3 := c.presigned && v.service == "s3"
	switch {
	case len(declared) == 0 && presignedS3:
		return UnsignedPayload, nil
	case len(declared) == 0:
		return digestOf(body), nil
	case len(declared) > 1:
		return "", refuse(c.incomplete(), "There must be one 'X-Amz-Content-Sha256', got %d.", len(declared))
	}
	switch hash := declared[0]; {
	case hash == UnsignedPayload && !presignedS3 && r.TLS == nil:
		return "", refuse(NotSigned, "x-amz-content-sha256 may be UNSIGNED-PAYLOAD only over TLS or in a presigned URL of S3: tell the client to sign the payload, or use https.")
	case hash == UnsignedPayload:
		return hash, nil
	case strings.HasPrefix(hash, "STREAMING-"):
		return "", refuse(Unsupported, "x-amz-content-sha256 %s, a body signed in chunks, is not served: tell the client to sign the payload as a whole.", hash)
	case !isDigest(hash):
		return "", refuse(c.incomplete(), "x-amz-content-sha256 must be UNSIGNED-PAYLOAD or a SHA-256 in lower-case hexadecimal digits, got '%s'.", hash)
	case hash != digestOf(body):
		return "", refuse(WrongPayload, "The provided 'x-amz-content-sha256' header does not match what was computed.")
	default:
		return hash, nil
	}
}

func digestOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

func isDigest(s string) bool {
	return len(s) == 2*sha256.Size && strings.Trim(s, "0123456789abcdef") == ""
}

// signedHeaderLines returns the headers named, as "name:value\n" lines in that order.
//
// Host and :authority are the same thing to net/http, which keeps it out of the headers. It also
// drops the Content-Length of a body that has come in chunks; its signer meant the length all the
// same. Any other header that is signed must be there: its absence would look like an empty one.
func signedHeaderLines(r *http.Request, names []string, bodyLength int) (string, error) {
	var b strings.Builder
	for _, name := range names {
		values := r.Header.Values(name)
		switch {
		case name == "host" || name == ":authority":
			values = []string{r.Host}
		case name == "content-length" && len(values) == 0:
			values = []string{strconv.Itoa(bodyLength)}
		case len(values) == 0:
			return "", refuse(NotSigned, "'%s' is a 'SignedHeader' in the AWS Authorization, but the request has no such header. If a proxy removes it, tell the client not to sign it.", name)
		}
		b.WriteString(name + ":" + canonicalValue(values) + "\n")
	}
	return b.String(), nil
}
