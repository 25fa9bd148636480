package httpd

import (
	"bufio"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	sniffTimeout = 5 * time.Second // a connection must say something within this time
	helloRecord  = 0x16            // the first byte of every TLS connection, and of no request
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
		out = tls.Server(out, s.config) // itself, not wrapped: net/http looks for this very type
	}
	select {
	case s.conns <- out:
	case <-s.closed:
		out.Close()
	}
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
