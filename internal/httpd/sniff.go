package httpd

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	sniffTimeout     = 5 * time.Second // a connection must say something within this time
	handshakeTimeout = 10 * time.Second
	helloRecord      = 0x16 // the first byte of every TLS connection, and of no request
)

// sniffer is a listener that serves TLS and plain connections on one port: the first byte tells
// which. A connection that says nothing holds up nobody, since each is looked at on its own.
type sniffer struct {
	net.Listener
	config *tls.Config
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	failed error // why accepting ended; set before closed is
}

func sniff(l net.Listener, config *tls.Config) *sniffer {
	s := &sniffer{Listener: l, config: config, conns: make(chan net.Conn), closed: make(chan struct{})}
	go s.acceptLoop()
	return s
}

func (s *sniffer) acceptLoop() {
	for {
		c, err := s.Listener.Accept()
		var temporary interface{ Temporary() bool }
		if err != nil && errors.As(err, &temporary) && temporary.Temporary() {
			time.Sleep(10 * time.Millisecond) // out of file descriptors, perhaps: not the end
			continue
		}
		if err != nil {
			s.end(err)
			return
		}
		go s.look(c)
	}
}

// look peeks the first byte and hands the connection on.
func (s *sniffer) look(c net.Conn) {
	r := bufio.NewReaderSize(c, 4096)
	c.SetReadDeadline(time.Now().Add(sniffTimeout))
	first, err := r.Peek(1)
	c.SetReadDeadline(time.Time{})
	if err != nil {
		c.Close()
		return
	}
	var out net.Conn = &peeked{c, r}
	if first[0] == helloRecord {
		out = s.secure(out)
	}
	select {
	case s.conns <- out:
	case <-s.closed:
		out.Close()
	}
}

// secure shakes hands. A client that negotiates no protocol (ALPN) may all the same begin with
// HTTP/2: the asynchronous client of the Java SDK does, and every consumer library on top of it.
// net/http takes such a connection for HTTP/1.1 if it is a *tls.Conn, and else looks at how it begins.
func (s *sniffer) secure(c net.Conn) net.Conn {
	conn := tls.Server(c, s.config)
	c.SetDeadline(time.Now().Add(handshakeTimeout))
	err := conn.Handshake()
	c.SetDeadline(time.Time{})
	if err != nil || conn.ConnectionState().NegotiatedProtocol != "" {
		return conn // net/http looks for this very type, and reports the error
	}
	return &unnegotiated{conn}
}

// unnegotiated is a TLS connection on which no protocol was agreed.
type unnegotiated struct{ net.Conn }

type stateKey struct{}

// withTLS keeps the state of an unnegotiated connection for secured.
func withTLS(ctx context.Context, c net.Conn) context.Context {
	if u, ok := c.(*unnegotiated); ok {
		state := u.Conn.(*tls.Conn).ConnectionState()
		return context.WithValue(ctx, stateKey{}, &state)
	}
	return ctx
}

// secured gives a request the TLS state of its connection, where net/http did not see it.
func secured(r *http.Request) *http.Request {
	if r.TLS == nil {
		r.TLS, _ = r.Context().Value(stateKey{}).(*tls.ConnectionState)
	}
	return r
}

// Accept implements net.Listener.
func (s *sniffer) Accept() (net.Conn, error) {
	select {
	case c := <-s.conns:
		return c, nil
	case <-s.closed:
		return nil, s.failed
	}
}

// Close implements net.Listener.
func (s *sniffer) Close() error {
	err := s.Listener.Close()
	s.end(net.ErrClosed)
	return err
}

func (s *sniffer) end(why error) {
	s.once.Do(func() {
		s.failed = why
		close(s.closed)
	})
}

// peeked is a connection whose first bytes have been read already.
type peeked struct {
	net.Conn
	r *bufio.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }
