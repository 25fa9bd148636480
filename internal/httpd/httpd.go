// Package httpd is the front door: one port for HTTP/1.1, for HTTP/2 without TLS (prior knowledge,
// which the JavaScript SDK sends) and for TLS with both, negotiated or not, and the router behind it.
//
// A request goes, by the first rule that fits,
//
//	/_shardmill/…                        to the host's own pages
//	/2015-03-31/…                        to the Lambda API
//	GET /metrics, not by an S3 client    to the metrics, in Prometheus's text format
//	with an X-Amz-Target header          to the JSON services
//	that looks like S3 (s3api.Matches)   to the buckets
//	else                                 to the JSON services, which know how to complain
package httpd

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/shardmill/shardmill/internal/objects/s3api"
)

// Health tells whether the host can be used.
type Health struct {
	Status  string            `json:"status"` // starting, ready, failing or stopping
	Checks  map[string]string `json:"checks"` // by part: "ok", or what keeps it from being so
	Version string            `json:"version"`
}

// Routes are the handlers behind the router.
type Routes struct {
	API     http.Handler
	S3      http.Handler
	Lambda  http.Handler // of /2015-03-31/…
	Metrics http.Handler
	Plugins http.Handler // of /_shardmill/plugins and all below it
	Health  func() Health
	// FunctionMetrics writes what functions reported, in Prometheus' text format. With Verified
	// set, only this machine itself may read it.
	FunctionMetrics func(io.Writer)
	Verified        bool
}

// Server is the listening front door.
type Server struct {
	http     *http.Server
	listener net.Listener
	done     chan struct{} // closed when serving has ended
	ended    error         // why
}

// Listen takes the address and starts to serve: plain connections, and with a config TLS as well,
// told apart by their first byte. The routes may be called at once.
func Listen(ctx context.Context, addr string, config *tls.Config, routes func() Routes) (*Server, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if config != nil {
		l = sniff(l, config)
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &Server{listener: l, done: make(chan struct{}), http: &http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { route(routes(), w, secured(r)) }),
		ConnContext:       withTLS,
		Protocols:         protocols,
		TLSConfig:         config,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          1000, // a consumer library holds one stream a shard
			MaxReadFrameSize:              1 << 20,
			MaxReceiveBufferPerStream:     2 << 20,
			MaxReceiveBufferPerConnection: 4<<20 - 1, // from 4 MiB on the setting is ignored
			SendPingTimeout:               30 * time.Second,
			WriteByteTimeout:              30 * time.Second,
		},
	}}
	go func() {
		s.ended = s.http.Serve(l)
		close(s.done)
	}()
	return s, nil
}

// Addr is the address that the server listens on.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Close refuses new requests and waits for those under way until ctx ends. It may be called again.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-s.done
	if !errors.Is(s.ended, http.ErrServerClosed) {
		err = errors.Join(err, s.ended)
	}
	return err
}

const (
	ownPages    = "/_shardmill/"
	metricsPage = "/metrics"
)

// lambdaPaths begins the paths of the Lambda API, whose version is part of them.
const lambdaPaths = "/2015-03-31/"

func route(to Routes, w http.ResponseWriter, r *http.Request) {
	switch {
	case len(r.URL.Path) >= len(ownPages) && r.URL.Path[:len(ownPages)] == ownPages:
		own(to, w, r)
	case to.API == nil || to.S3 == nil || to.Metrics == nil:
		w.Header().Set("Retry-After", "1")
		writeJSON(w, http.StatusServiceUnavailable, map[string]string{"__type": "ServiceUnavailableException", "message": "The host is starting or stopping; see " + ownPages + "health."})
	case to.Lambda != nil && strings.HasPrefix(r.URL.Path, lambdaPaths):
		to.Lambda.ServeHTTP(w, r)
	case isMetrics(r):
		to.Metrics.ServeHTTP(w, r)
	case r.Header.Get("X-Amz-Target") == "" && s3api.Matches(r):
		to.S3.ServeHTTP(w, r)
	default:
		to.API.ServeHTTP(w, r)
	}
}

// isMetrics leaves a bucket called metrics to S3 clients.
func isMetrics(r *http.Request) bool {
	return r.URL.Path == metricsPage && (r.Method == http.MethodGet || r.Method == http.MethodHead) &&
		r.Header.Get("X-Amz-Target") == "" && !s3api.Matches(r)
}

// Local lets only requests through that come from this machine itself, not by way of a proxy on it.
func Local(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !local(r) {
			writeJSON(w, http.StatusForbidden, map[string]string{"message": r.URL.Path + " is served to this machine alone where requests have to be signed: ask for it by a loopback address."})
			return
		}
		next.ServeHTTP(w, r)
	})
}

func own(to Routes, w http.ResponseWriter, r *http.Request) {
	const plugins = ownPages + "plugins"
	if to.Plugins != nil && (r.URL.Path == plugins || strings.HasPrefix(r.URL.Path, plugins+"/")) {
		to.Plugins.ServeHTTP(w, r)
		return
	}
	const health, functionMetrics = "health", "function-metrics"
	page := r.URL.Path[len(ownPages):]
	switch {
	case page != health && page != functionMetrics:
		writeJSON(w, http.StatusNotFound, map[string]string{"message": "There is no page " + r.URL.Path + "; try " + ownPages + health + " or " + ownPages + functionMetrics + "."})
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		writeJSON(w, http.StatusMethodNotAllowed, map[string]string{"message": r.URL.Path + " answers GET and HEAD."})
	case page == health:
		h := to.Health()
		status := http.StatusOK
		if h.Status != "ready" {
			status = http.StatusServiceUnavailable
		}
		writeJSON(w, status, h)
	case to.Verified && !local(r):
		writeJSON(w, http.StatusForbidden, map[string]string{"message": r.URL.Path + " is served to this machine alone where requests have to be signed."})
	default:
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		to.FunctionMetrics(w)
	}
}

// local reports whether a request comes from this machine, and not by way of a proxy on it.
func local(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && from.Addr().Unmap().IsLoopback() && r.Header.Get("Forwarded") == "" && r.Header.Get("X-Forwarded-For") == ""
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
