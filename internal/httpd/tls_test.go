package httpd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/localca"
)

// secureServer serves TLS and returns what clients need to trust it.
func secureServer(t *testing.T) (*Server, *x509.CertPool) {
	t.Helper()
	ca, err := localca.Open(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(ca.File)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	routes := ready()
	routes.API = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, " over TLS: ", r.TLS != nil && r.TLS.HandshakeComplete)
	})
	s, err := Listen(t.Context(), "127.0.0.1:0", ca.Config(), func() Routes { return routes })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) })
	return s, roots
}

// A client may speak HTTP/2 over TLS as it does without: by prior knowledge. The Java SDK's Netty
// client offers no protocol in its handshake and begins with HTTP/2.
func TestEitherProtocolOverTLSNegotiatedOrNot(t *testing.T) {
	s, roots := secureServer(t)
	for _, c := range []struct {
		offered []string // by ALPN
		http2   bool
		want    string
	}{
		{nil, false, "HTTP/1.1 over TLS: true"},
		{nil, true, "HTTP/2.0 over TLS: true"},
		{[]string{"http/1.1"}, false, "HTTP/1.1 over TLS: true"},
		{[]string{"h2"}, true, "HTTP/2.0 over TLS: true"},
	} {
		plain := client(t, c.http2) // to it, what it dials is a plain connection
		plain.Transport.(*http.Transport).DialContext = func(_ context.Context, network, addr string) (net.Conn, error) {
			return tls.Dial(network, addr, &tls.Config{RootCAs: roots, NextProtos: c.offered})
		}
		if _, body, _ := send(t, plain, s, request{"POST", "/", nil}); body != c.want {
			t.Errorf("offered %q, HTTP/2 %t: %q, want %q", c.offered, c.http2, body, c.want)
		}
	}
}

// A client that stops in the middle of its handshake holds up nobody.
func TestAnUnfinishedHandshakeHoldsUpNobody(t *testing.T) {
	s, roots := secureServer(t)
	silent, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if _, err := silent.Write([]byte{helloRecord, 3, 1}); err != nil {
		t.Fatal(err)
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	answer, err := c.Post("https://"+s.Addr(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if b, _ := io.ReadAll(answer.Body); string(b) != "HTTP/1.1 over TLS: true" {
		t.Errorf("another client got %q", b)
	}
	silent.SetReadDeadline(time.Now().Add(time.Millisecond))
	if _, err := silent.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the other client had to wait until the silent one was given up: %v", err)
	}
}
