package wasm

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/tetratelabs/wazero"
)

// serveStdio runs a WASI command that reads one event a line from stdin and answers each with
// one line on stdout. The guest's reads and writes drive everything: its first read is READY,
// and an invocation is over when the guest, having answered, reads again or exits.
func (w *worker) serveStdio(ctx context.Context, compiled wazero.CompiledModule) {
	s := &stdioGuest{w: w}
	_, err := w.engine.InstantiateModule(ctx, compiled, w.config().WithStdin(s).WithStdout(s).WithStartFunctions(exportCommand))
	if s.pending && s.answered() {
		w.reply(s.out[:len(s.out)-1], flagLast)
		os.Exit(0)
	}
	what := "before it answered the event"
	if !s.ready {
		what = "before it read its first event from stdin; a stdio module answers events in a loop until stdin ends"
	}
	if err != nil {
		w.stopped(err, what)
	}
	w.exited(0, what)
}

// stdioGuest is the guest's stdin and stdout.
type stdioGuest struct {
	w       *worker
	in      []byte // what the guest has not read yet of the event
	buf     []byte
	out     []byte // what the guest has written since the event
	ready   bool
	pending bool
}

func (s *stdioGuest) answered() bool { return len(s.out) > 0 && s.out[len(s.out)-1] == '\n' }

// Read gives the guest the rest of its event, or ends the invocation and waits for the next.
func (s *stdioGuest) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(s.in) == 0 {
		s.turn()
	}
	n := copy(p, s.in)
	s.in = s.in[n:]
	return n, nil
}

func (s *stdioGuest) turn() {
	switch {
	case !s.ready:
		s.ready = true
		s.w.ready()
	case s.answered():
		s.w.reply(s.out[:len(s.out)-1], 0)
		s.pending = false
	case s.pending:
		s.w.fault(faultProtocol, "the module asked for more input before it answered the event; write one JSON line to stdout for each event, and flush it")
	}
	event := s.w.next()
	s.out = s.out[:0]
	s.buf = append(append(s.buf[:0], event...), '\n')
	s.in, s.pending = s.buf, true
}

// Write collects the answer.
func (s *stdioGuest) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	w := s.w
	quote := func() string { return printable(bytes.TrimSpace(p), 200, false) }
	switch {
	case !s.pending:
		w.fault(faultProtocol, fmt.Sprintf("the module wrote to stdout without an event to answer: %q; write logs to stderr", quote()))
	case s.answered():
		w.fault(faultProtocol, fmt.Sprintf("the module wrote more than one line to stdout for one event: %q; write logs to stderr", quote()))
	case len(s.out)+len(p) > w.spec.MaxReply+1:
		w.fault(faultTooLarge, fmt.Sprintf("%d", len(s.out)+len(p)))
	}
	if i := bytes.IndexByte(p, '\n'); i >= 0 && i != len(p)-1 {
		p = p[i+1:]
		w.fault(faultProtocol, fmt.Sprintf("the module wrote more than one line to stdout for one event: %q; write logs to stderr", quote()))
	}
	s.out = append(s.out, p...)
	return len(p), nil
}

var _ io.ReadWriter = (*stdioGuest)(nil)
