package lambda

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/runtime"
)

// puppet is an environment whose process does nothing: the test speaks to its Runtime API.
type puppet struct {
	t    *testing.T
	rec  recorder
	addr string
	load chan error // what Load returned
	fn   runtime.Function
}

func newPuppet(t *testing.T, l runtime.Limits) *puppet {
	t.Helper()
	p := &puppet{t: t, load: make(chan error, 1)}
	engine := New(Options{Dir: t.TempDir(), Events: p.rec.events()})
	a := artifact(root(t), map[string]string{"INIT": "hang"})
	ctx, cancel := context.WithCancel(context.Background())
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		f, err := engine.Load(ctx, a, l)
		p.fn = f
		p.load <- err
	}()
	p.rec.wait(t, "the address", func() bool {
		for _, l := range p.rec.lines {
			if addr, ok := strings.CutPrefix(l, ": API "); ok {
				p.addr = addr
			}
		}
		return p.addr != ""
	})
	t.Cleanup(func() {
		cancel()
		<-loaded
		if p.fn != nil {
			p.fn.Close()
		}
	})
	return p
}

// reply is what the API answered, with its body read.
type reply struct {
	status int
	header http.Header
	body   string
}

// do sends a request on a connection of its own.
func (p *puppet) do(method, path, body string, header ...string) reply {
	p.t.Helper()
	req, err := http.NewRequest(method, "http://"+p.addr+path, strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return p.send(req)
}

func (p *puppet) send(req *http.Request) reply {
	p.t.Helper()
	got, err := try(req)
	if err != nil {
		p.t.Fatal(err)
	}
	return got
}

func try(req *http.Request) (reply, error) {
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, string(text)}, err
}

// refused checks the status and the error document.
func (p *puppet) refused(got reply, status int, errorType string) {
	p.t.Helper()
	var doc errorDocument
	json.Unmarshal([]byte(got.body), &doc)
	if got.status != status || doc.Type != errorType || doc.Message == "" || got.header.Get("Content-Type") != "application/json" {
		p.t.Errorf("got %d %s; want %d %s", got.status, got.body, status, errorType)
	}
}

func (p *puppet) accepted(got reply) {
	p.t.Helper()
	if got.status != 202 || got.body != "{\"status\":\"OK\"}\n" {
		p.t.Errorf("got %d %q, want 202 with status OK", got.status, got.body)
	}
}

const next = "/2018-06-01/runtime/invocation/next"

// next polls. The reply is empty when the environment ended first.
func (p *puppet) next() <-chan reply {
	ch := make(chan reply, 1)
	go func() {
		req, _ := http.NewRequest("GET", "http://"+p.addr+next, nil)
		got, _ := try(req)
		ch <- got
	}()
	return ch
}

// ready ends the init phase and returns the poll that did.
func (p *puppet) ready() <-chan reply {
	p.t.Helper()
	poll := p.next()
	if err := <-p.load; err != nil {
		p.t.Fatal(err)
	}
	return poll
}

func (p *puppet) invoke(id, payload string) <-chan runtime.Result {
	ch := make(chan runtime.Result, 1)
	go func() {
		res, err := p.fn.Invoke(context.Background(), runtime.Invocation{RequestID: id, Payload: []byte(payload)})
		if err != nil {
			p.t.Error(err)
		}
		ch <- res
	}()
	return ch
}

// running brings the puppet to work on event id.
func (p *puppet) running(id string) <-chan runtime.Result {
	p.t.Helper()
	poll := p.ready()
	result := p.invoke(id, `{}`)
	<-poll
	return result
}

// connections waits until the API has n of them.
func (p *puppet) connections(n int) {
	p.t.Helper()
	f := p.fn.(*function)
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		f.mu.Lock()
		open := 0
		for env := range f.live {
			env.api.mu.Lock()
			open += env.api.conns
			env.api.mu.Unlock()
		}
		f.mu.Unlock()
		if open == n {
			return
		}
		if time.Now().After(end) {
			p.t.Fatalf("%d connections, want %d", open, n)
		}
	}
}

func answerPath(id string) string { return "/2018-06-01/runtime/invocation/" + id + "/response" }

func errorPath(id string) string { return "/2018-06-01/runtime/invocation/" + id + "/error" }

// raw sends text as it is and returns all that comes back until the connection is closed.
func (p *puppet) raw(text string) string {
	p.t.Helper()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, text)
	conn.(*net.TCPConn).CloseWrite()
	got, _ := io.ReadAll(conn)
	return string(got)
}
