package httpd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// teller answers with its name and the protocol of the request.
func teller(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, name, " ", r.Proto, " ", r.URL.Path) })
}

func ready() Routes {
	return Routes{API: teller("api"), S3: teller("s3"), Metrics: teller("metrics"), Health: func() Health {
		return Health{Status: "ready", Checks: map[string]string{"streams": "ok"}, Version: "v1"}
	}}
}

func listen(t *testing.T, routes func() Routes) *Server {
	t.Helper()
	s, err := Listen(t.Context(), "127.0.0.1:0", nil, routes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(context.Background()) }) // a second time does no harm
	return s
}

// client speaks HTTP/1.1, or HTTP/2 without TLS and without asking first.
func client(t *testing.T, http2 bool) *http.Client {
	p := new(http.Protocols)
	p.SetHTTP1(!http2)
	p.SetUnencryptedHTTP2(http2)
	tr := &http.Transport{Protocols: p}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

type request struct {
	method, path string
	header       map[string]string
}

func send(t *testing.T, c *http.Client, s *Server, q request) (status int, body string, header http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), q.method, "http://"+s.Addr()+q.path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range q.header {
		r.Header.Set(k, v)
	}
	answer, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(b), answer.Header
}

func TestOnePortForHTTP1AndHTTP2(t *testing.T) {
	s := listen(t, ready)
	for http2, want := range map[bool]string{false: "api HTTP/1.1 /", true: "api HTTP/2.0 /"} {
		if status, body, _ := send(t, client(t, http2), s, request{"POST", "/", nil}); status != 200 || body != want {
			t.Errorf("HTTP/2 %t: %d %q, want %q", http2, status, body, want)
		}
	}
}

// TestManyStreamsOnOneConnection: a consumer library holds one stream a shard.
func TestManyStreamsOnOneConnection(t *testing.T) {
	const streams = 900
	var inside sync.WaitGroup
	inside.Add(streams)
	routes := ready()
	routes.API = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		inside.Done()
		inside.Wait() // for all others: a stream that is not admitted hangs the test
	})
	s := listen(t, func() Routes { return routes })
	var conns atomic.Int32
	c := client(t, true)
	c.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conns.Add(1)
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	send(t, c, s, request{"GET", "/_shardmill/health", nil}) // the server's settings are known after it
	var all sync.WaitGroup
	for range streams {
		all.Go(func() { send(t, c, s, request{"POST", "/", nil}) })
	}
	all.Wait()
	if n := conns.Load(); n != 1 {
		t.Errorf("the streams took %d connections, want 1", n)
	}
}

func TestWhoGetsARequest(t *testing.T) {
	s := listen(t, ready)
	const s3 = "AWS4-HMAC-SHA256 Credential=AK/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=00"
	kinesis := strings.Replace(s3, "/s3/", "/kinesis/", 1)
	for _, c := range []struct {
		request
		want string
	}{
		{request{"POST", "/", map[string]string{"X-Amz-Target": "Kinesis_20131202.PutRecord"}}, "api HTTP/1.1 /"},
		{request{"POST", "/any/path", map[string]string{"X-Amz-Target": "Kinesis_20131202.PutRecord", "Authorization": kinesis}}, "api HTTP/1.1 /any/path"},
		{request{"GET", "/bucket/key", map[string]string{"X-Amz-Target": "x", "Authorization": s3}}, "api HTTP/1.1 /bucket/key"},
		{request{"GET", "/bucket//a/../b", map[string]string{"Authorization": s3}}, "s3 HTTP/1.1 /bucket//a/../b"},
		{request{"PUT", "/bucket/key", map[string]string{"Authorization": s3}}, "s3 HTTP/1.1 /bucket/key"},
		{request{"GET", "/bucket/key?X-Amz-Credential=AK/20260101/us-east-1/s3/aws4_request", nil}, "s3 HTTP/1.1 /bucket/key"},
		{request{"GET", "/bucket", map[string]string{"User-Agent": "aws-cli/1.45.11 md/Botocore"}}, "s3 HTTP/1.1 /bucket"},
		{request{"GET", "/_shardmill", map[string]string{"Authorization": s3}}, "s3 HTTP/1.1 /_shardmill"},
		{request{"GET", "/metrics", nil}, "metrics HTTP/1.1 /metrics"},
		{request{"GET", "/metrics", map[string]string{"Authorization": s3}}, "s3 HTTP/1.1 /metrics"}, // a bucket
		{request{"GET", "/metrics?list-type=2", map[string]string{"User-Agent": "aws-cli/1.45.11"}}, "s3 HTTP/1.1 /metrics"},
		{request{"GET", "/metrics", map[string]string{"X-Amz-Target": "x"}}, "api HTTP/1.1 /metrics"},
		{request{"POST", "/metrics", nil}, "api HTTP/1.1 /metrics"},
		{request{"GET", "/", map[string]string{"User-Agent": "curl/8"}}, "api HTTP/1.1 /"},
		{request{"DELETE", "/x", map[string]string{"Authorization": kinesis}}, "api HTTP/1.1 /x"},
		{request{"POST", "/", nil}, "api HTTP/1.1 /"},
	} {
		if _, body, _ := send(t, client(t, false), s, c.request); body != c.want {
			t.Errorf("%+v went to %q, want %q", c.request, body, c.want)
		}
	}
}

func TestLocalIsForThisMachineAlone(t *testing.T) {
	for from, want := range map[string]int{"127.0.0.1:1": 200, "127.9.9.9:1": 200, "[::1]:1": 200, "[::ffff:127.0.0.1]:1": 200, "10.0.0.1:1": 403, "[2001:db8::1]:1": 403, "": 403} {
		for _, header := range []string{"", "X-Forwarded-For", "Forwarded"} {
			r := httptest.NewRequest("GET", "/metrics", nil)
			r.RemoteAddr = from
			if header != "" {
				r.Header.Set(header, "for=10.0.0.1")
				want = 403
			}
			w := httptest.NewRecorder()
			Local(teller("metrics")).ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%s %s: %d, want %d", from, header, w.Code, want)
			}
		}
	}
}

func TestHealth(t *testing.T) {
	var now atomic.Pointer[Health]
	s := listen(t, func() Routes {
		r := ready()
		r.Health = func() Health { return *now.Load() }
		return r
	})
	c := client(t, false)
	for status, want := range map[string]int{"starting": 503, "ready": 200, "failing": 503, "stopping": 503} {
		now.Store(&Health{Status: status, Checks: map[string]string{"streams": "ok", "functions": status}, Version: "v1.2.3"})
		code, body, header := send(t, c, s, request{"GET", "/_shardmill/health", nil})
		wantBody := fmt.Sprintf(`{"status":%q,"checks":{"functions":%q,"streams":"ok"},"version":"v1.2.3"}`+"\n", status, status)
		if code != want || body != wantBody || header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %q of %s, want %d %q", status, code, body, header.Get("Content-Type"), want, wantBody)
		}
	}
	now.Store(&Health{Status: "ready"})
	// An X-Amz-Target does not take the host's own pages away.
	if code, _, _ := send(t, c, s, request{"HEAD", "/_shardmill/health", map[string]string{"X-Amz-Target": "x"}}); code != 200 {
		t.Errorf("HEAD: %d", code)
	}
	if code, body, header := send(t, c, s, request{"POST", "/_shardmill/health", nil}); code != 405 || header.Get("Allow") != "GET, HEAD" || body != `{"message":"/_shardmill/health answers GET and HEAD."}`+"\n" {
		t.Errorf("POST: %d %q, Allow %q", code, body, header.Get("Allow"))
	}
	if code, body, _ := send(t, c, s, request{"GET", "/_shardmill/nothing", nil}); code != 404 || body != `{"message":"There is no page /_shardmill/nothing; try /_shardmill/health or /_shardmill/function-metrics."}`+"\n" {
		t.Errorf("another page: %d %q", code, body)
	}
}

func TestTheRoutesMayComeLater(t *testing.T) {
	var routes atomic.Pointer[Routes]
	routes.Store(&Routes{Health: func() Health { return Health{Status: "starting"} }})
	s := listen(t, func() Routes { return *routes.Load() })
	c := client(t, false)
	code, body, header := send(t, c, s, request{"POST", "/", nil})
	if code != 503 || header.Get("Retry-After") != "1" || body != `{"__type":"ServiceUnavailableException","message":"The host is starting or stopping; see /_shardmill/health."}`+"\n" {
		t.Errorf("while the host starts: %d %q, Retry-After %q", code, body, header.Get("Retry-After"))
	}
	if code, _, _ := send(t, c, s, request{"GET", "/_shardmill/health", nil}); code != 503 {
		t.Errorf("health while the host starts: %d", code)
	}
	now := ready()
	routes.Store(&now)
	if code, _, _ := send(t, c, s, request{"POST", "/", nil}); code != 200 {
		t.Errorf("when the host is ready: %d", code)
	}
}

// TestCloseDrains: what is under way is finished, what comes later is refused.
func TestCloseDrains(t *testing.T) {
	for _, http2 := range []bool{false, true} {
		t.Run(fmt.Sprint("HTTP/2 ", http2), func(t *testing.T) {
			began, finish := make(chan struct{}), make(chan struct{})
			routes := ready()
			routes.API = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(began)
				<-finish
				io.WriteString(w, "done")
			})
			s := listen(t, func() Routes { return routes })
			c := client(t, http2)
			answer := make(chan string)
			go func() {
				_, body, _ := send(t, c, s, request{"POST", "/", nil})
				answer <- body
			}()
			<-began
			closed := make(chan error)
			go func() { closed <- s.Close(t.Context()) }()
			for refused := false; !refused; { // until the listener is gone
				conn, err := net.Dial("tcp", s.Addr())
				if refused = err != nil; !refused {
					conn.Close()
				}
			}
			select {
			case err := <-closed:
				t.Fatal("Close did not wait for the request:", err)
			default:
			}
			close(finish)
			if got := <-answer; got != "done" {
				t.Errorf("the request under way got %q", got)
			}
			if err := <-closed; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestCloseGivesUp: a request that does not end is cut off when the time is over.
func TestCloseGivesUp(t *testing.T) {
	began, ended := make(chan struct{}), make(chan struct{})
	routes := ready()
	routes.API = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done() // when the connection is cut
		close(ended)
	})
	s := listen(t, func() Routes { return routes })
	lost := make(chan error)
	go func() {
		_, err := client(t, false).Post("http://"+s.Addr(), "", nil)
		lost <- err
	}()
	<-began
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Close says %v", err)
	}
	<-ended
	if err := <-lost; err == nil {
		t.Error("the request that was cut off got an answer")
	}
}

func TestListenRefusesATakenAddress(t *testing.T) {
	s := listen(t, ready)
	if second, err := Listen(t.Context(), s.Addr(), nil, ready); err == nil {
		second.Close(t.Context())
		t.Error("two servers listen on " + s.Addr())
	}
}

// Where requests have to be signed, what functions report is for this machine alone.
func TestFunctionMetrics(t *testing.T) {
	routes := ready()
	routes.FunctionMetrics = func(w io.Writer) { io.WriteString(w, "a 1\n") }
	s := listen(t, func() Routes { return routes })
	c := client(t, false)
	page := func(header map[string]string) (int, string) {
		code, body, _ := send(t, c, s, request{"GET", "/_shardmill/function-metrics", header})
		return code, body
	}
	for _, verified := range []bool{false, true} {
		routes.Verified = verified
		if code, body := page(nil); code != 200 || body != "a 1\n" {
			t.Errorf("from this machine: %d %q", code, body)
		}
	}
	if code, body := page(map[string]string{"X-Forwarded-For": "192.0.2.1"}); code != 403 || body != `{"message":"/_shardmill/function-metrics is served to this machine alone where requests have to be signed."}`+"\n" {
		t.Errorf("by way of a proxy: %d %q", code, body)
	}
	routes.Verified = false
	if code, _ := page(map[string]string{"X-Forwarded-For": "192.0.2.1"}); code != 200 {
		t.Errorf("by way of a proxy, without signatures: %d", code)
	}
}
