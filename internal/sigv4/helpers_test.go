package sigv4

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"testing"
)

func parse(t testing.TB, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// authorize sets the Authorization header of a request to Kinesis that was signed by hand.
func authorize(r *http.Request, names string, signature []byte) {
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+docs.AccessKey+"/20260713/eu-west-1/kinesis/aws4_request, SignedHeaders="+
		names+", Signature="+hex.EncodeToString(signature))
}
