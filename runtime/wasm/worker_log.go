package wasm

import (
	"bytes"
	"os"
	"strconv"
)

// A log line travels on the worker's stderr as
//
//	0x1e, decimal id of the invocation, space, text, newline
//
// written with one system call before the guest goes on, so that it survives the guest's death.
// Lines that do not start with 0x1e come from the worker's own Go runtime.
const (
	logMark = 0x1e
	maxLine = 1024 // of text; the rest is cut
)

// guestLogWriter writes lines to stderr. As a Writer it is the guest's stderr and holds back an
// unfinished line, at most maxLine bytes of it.
type guestLogWriter struct {
	id      uint64
	partial []byte
	buf     []byte
}

// Write takes the guest's stderr.
func (l *guestLogWriter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, ended := bytes.Cut(p, []byte{'\n'})
		l.partial = append(l.partial, line[:min(len(line), maxLine-len(l.partial))]...)
		if ended {
			l.line(l.partial)
			l.partial = l.partial[:0]
		}
		p = rest
	}
	return n, nil
}

// flush ends an unfinished line.
func (l *guestLogWriter) flush() {
	if len(l.partial) > 0 {
		l.line(l.partial)
		l.partial = l.partial[:0]
	}
}

// text writes what the guest gave to shardmill.log, one line for each of its lines, 16 at most.
func (l *guestLogWriter) text(level string, text []byte) {
	for range 16 {
		line, rest, more := bytes.Cut(text, []byte{'\n'})
		l.line(append([]byte(level+" "), line[:min(len(line), maxLine)]...))
		if text = rest; !more || len(text) == 0 {
			return
		}
	}
}

func (l *guestLogWriter) line(text []byte) {
	l.buf = strconv.AppendUint(append(l.buf[:0], logMark), l.id, 10)
	l.buf = append(append(append(l.buf, ' '), text...), '\n')
	os.Stderr.Write(l.buf)
}
