package host

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/smithy-go"

	"github.com/shardmill/shardmill/internal/config"
)

// trusting is an HTTP client that trusts the host's authority and nobody else.
func trusting(t *testing.T, h *Host, http2 bool) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(h.Authority.File)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: http2}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// One port serves plain HTTP/1.1, HTTP/2 with prior knowledge, and TLS with either.
func TestEveryTransportOnOnePort(t *testing.T) {
	w := open(t, func(c *config.Config) { c.TLS.Mode = "self" })
	url := w.host.URL()
	secure := "https" + strings.TrimPrefix(url, "http")
	prior := new(http.Protocols)
	prior.SetUnencryptedHTTP2(true)
	h2c := &http.Transport{Protocols: prior}
	t.Cleanup(h2c.CloseIdleConnections)
	for name, c := range map[string]struct {
		client *http.Client
		url    string
		proto  string
		tls    bool
	}{
		"plain HTTP/1.1": {http.DefaultClient, url, "HTTP/1.1", false},
		"plain HTTP/2":   {&http.Client{Transport: h2c}, url, "HTTP/2.0", false},
		"TLS HTTP/1.1":   {trusting(t, w.host, false), secure, "HTTP/1.1", true},
		"TLS HTTP/2":     {trusting(t, w.host, true), secure, "HTTP/2.0", true},
	} {
		res, err := c.client.Get(c.url + "/_shardmill/health")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		res.Body.Close()
		if res.StatusCode != 200 || res.Proto != c.proto || (res.TLS != nil) != c.tls {
			t.Errorf("%s: %s over %s", name, res.Status, res.Proto)
		}
	}
	if _, err := http.Get(secure + "/_shardmill/health"); err == nil {
		t.Error("a client that does not trust the authority was content")
	}
}

// caller is a Kinesis client with a key.
func caller(w *world, access, secret string) *kinesis.Client {
	return kinesis.New(kinesis.Options{Region: "us-east-1", BaseEndpoint: aws.String(w.host.URL()), RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: access, SecretAccessKey: secret}, nil
		})})
}

func TestOnlySignedRequestsGetInWithAuthKeys(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keys.yaml")
	err := os.WriteFile(file, []byte(`keys:
  - {access-key: AKIDALICE000000001, secret-key: alice-alice-alice-alice, account: "111111111111"}
  - {access-key: AKIDBOB00000000002, secret-key: bob-bob-bob-bob-bob-bob, account: "222222222222"}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	w := open(t, func(c *config.Config) { c.Auth, c.KeyFile = "keys", file })
	alice, bob := caller(w, "AKIDALICE000000001", "alice-alice-alice-alice"), caller(w, "AKIDBOB00000000002", "bob-bob-bob-bob-bob-bob")
	if _, err := alice.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("hers"), ShardCount: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	d, err := alice.DescribeStreamSummary(t.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: aws.String("hers")})
	if err != nil || *d.StreamDescriptionSummary.StreamARN != "arn:aws:kinesis:us-east-1:111111111111:stream/hers" {
		t.Fatalf("the account of the key is not the account of its streams: %+v, %v", d, err)
	}
	if list, err := bob.ListStreams(t.Context(), &kinesis.ListStreamsInput{}); err != nil || len(list.StreamNames) != 0 {
		t.Fatalf("another account sees %v, %v", list, err)
	}
	for name, c := range map[string]*kinesis.Client{
		"InvalidSignatureException":   caller(w, "AKIDALICE000000001", "a wrong secret, long enough"),
		"UnrecognizedClientException": caller(w, "AKIDNOBODY00000003", "nobody-nobody-nobody"),
	} {
		_, err := c.ListStreams(t.Context(), &kinesis.ListStreamsInput{})
		var api smithy.APIError
		if !errors.As(err, &api) || api.ErrorCode() != name {
			t.Errorf("want %s, got %v", name, err)
		}
	}
	res, err := http.Get(w.host.URL() + "/bucket/key") // unsigned, and for S3 by its looks only with an AWS client's name
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	req, _ := http.NewRequest("GET", w.host.URL()+"/bucket/key", nil)
	req.Header.Set("User-Agent", "aws-cli/1")
	signed, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	signed.Body.Close()
	if res.StatusCode == 200 || signed.StatusCode != 403 {
		t.Errorf("unsigned reads of a bucket answered %d and %d", res.StatusCode, signed.StatusCode)
	}
}
