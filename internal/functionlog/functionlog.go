// Package functionlog keeps what functions write, bounded, on the disk: for each function a folder
// with two files, current.log, which is written to, and previous.log, what was current before.
//
// A line is
//
//	2026-01-31T12:00:00.123Z <tab> request id, or - <tab> text
//
// Writing never waits for the disk: lines are gathered in memory and one goroutine writes them out.
// What comes faster than that, or cannot be written because the disk is full, is dropped and
// counted, and a line of its own tells how many were. A function's flood is its own loss only.
//
// Logs of functions that are gone stay until somebody removes their folder.
package functionlog

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

const (
	fileSize = 8 << 20 // bytes of current.log, from which on it becomes previous.log
	gathered = 1 << 20 // bytes of a function's lines that may wait to be written

	currentName  = "current.log"
	previousName = "previous.log"
)

var functionName = regexp.MustCompile(`^[a-zA-Z0-9-_]{1,64}$`)

// Store is the logs of all functions. Its methods are safe for concurrent use.
type Store struct {
	dir  string
	size int64 // fileSize, but in tests

	mu     sync.Mutex
	logs   map[string]*log
	closed bool

	dirty chan *log // logs with lines to write, each once
	ended chan struct{}
}

// log is one function's.
type log struct {
	dir   string
	store *Store

	mu      sync.Mutex
	pending []byte
	lines   int   // in pending
	queued  bool  // it is in dirty, or being written
	dropped int   // lines that were lost since the last notice
	fault   error // of writing, the last one; nil when lines only came too fast
	changed chan struct{}

	// of the writing goroutine, and of readers under file
	file       sync.Mutex
	current    *os.File // nil when it is not open
	written    int64    // bytes of current
	generation int      // counts up with every new current.log
}

// Open returns the store in dir, which is made if it is not there.
func Open(dir string) (*Store, error) {
	return open(dir, fileSize)
}

func open(dir string, size int64) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, errs.Wrap(errs.Unavailable, err, "the folder for the logs of functions cannot be made")
	}
	s := &Store{dir: dir, size: size, logs: map[string]*log{}, dirty: make(chan *log, 1024), ended: make(chan struct{})}
	go s.run()
	return s, nil
}

// log finds or makes the log of a function. It is nil for what is no function's name.
func (s *Store) log(function string) *log {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.logs[function]
	if l == nil && !s.closed && functionName.MatchString(function) {
		l = &log{dir: filepath.Join(s.dir, function), store: s, changed: make(chan struct{})}
		s.logs[function] = l
	}
	return l
}

// Write adds a line to a function's log. It never blocks. The text has no line break and is printable.
func (s *Store) Write(function, requestID, text string) {
	l := s.log(function)
	if l == nil {
		return
	}
	l.mu.Lock()
	if len(l.pending)+len(text) > gathered {
		l.dropped++
		l.mu.Unlock()
		return
	}
	l.append(requestID, text)
	wake := !l.queued
	l.queued = true
	l.mu.Unlock()
	if wake {
		s.enqueue(l)
	}
}

// append adds a line to pending. l.mu is held.
func (l *log) append(requestID, text string) {
	l.pending = time.Now().UTC().AppendFormat(l.pending, "2006-01-02T15:04:05.000Z")
	if requestID == "" {
		requestID = "-"
	}
	l.pending = append(append(append(l.pending, '\t'), requestID...), '\t')
	l.pending = append(append(l.pending, text...), '\n')
	l.lines++
}

// enqueue hands l to the writer. A store that is closed takes no more.
func (s *Store) enqueue(l *log) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	select {
	case s.dirty <- l:
	default: // over a thousand functions wait: this one's lines go with its next ones
		l.mu.Lock()
		l.queued = false
		l.mu.Unlock()
	}
}

// run is the writer.
func (s *Store) run() {
	defer close(s.ended)
	for l := range s.dirty {
		l.flush()
	}
}

// flush writes what is pending, until nothing is.
func (l *log) flush() {
	for {
		l.mu.Lock()
		text, lines := l.pending, l.lines
		if l.dropped > 0 {
			l.pending, l.lines = nil, 0
			l.append("", l.notice())
			text = append(text, l.pending...)
		}
		l.pending, l.lines = nil, 0
		if len(text) == 0 {
			l.queued = false
			l.mu.Unlock()
			return
		}
		told := l.dropped
		l.dropped = 0
		l.mu.Unlock()

		err := l.write(text)
		l.mu.Lock()
		l.fault = err
		if err != nil {
			l.dropped += told + lines
		}
		close(l.changed)
		l.changed = make(chan struct{})
		if err != nil && len(l.pending) == 0 { // tried again with the next line
			l.queued = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
	}
}

// notice tells of lines that were dropped. l.mu is held.
func (l *log) notice() string {
	why := "they came faster than they could be written"
	if l.fault != nil {
		why = "they could not be written: " + l.fault.Error()
	}
	return fmt.Sprintf("[shardmill: %d log lines dropped, %s]", l.dropped, why)
}

// write appends text, which ends with a line, to the file. What is written in part is taken back.
func (l *log) write(text []byte) error {
	l.file.Lock()
	defer l.file.Unlock()
	if err := l.ready(); err != nil {
		return plain(err)
	}
	n, err := l.current.Write(text)
	if err != nil {
		if n > 0 {
			l.current.Truncate(l.written) // the reader drops the rest of a line if this fails too
		}
		l.current.Close()
		l.current = nil
		return plain(err)
	}
	l.written += int64(n)
	return nil
}

// plain is an error without the path, which is no business of a function's log.
func plain(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// ready opens the current file and, when it is full, starts a new one. l.file is held.
func (l *log) ready() error {
	if l.current != nil && l.written < l.store.size {
		return nil
	}
	if l.current == nil {
		if err := l.open(); err != nil || l.written < l.store.size {
			return err
		}
	}
	l.current.Close()
	l.current = nil
	path := filepath.Join(l.dir, currentName)
	if err := os.Rename(path, filepath.Join(l.dir, previousName)); err != nil {
		return err
	}
	l.generation++
	return l.open()
}

func (l *log) open() error {
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(l.dir, currentName), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return err
	}
	l.current, l.written = f, info.Size()
	return nil
}

// Close writes what is pending and ends the store.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.ended
		return nil
	}
	s.closed = true
	logs := s.logs
	s.mu.Unlock()
	close(s.dirty)
	<-s.ended
	var all []error
	for _, l := range logs {
		l.flush()
		l.file.Lock()
		if l.current != nil {
			all = append(all, l.current.Close())
			l.current = nil
		}
		l.file.Unlock()
	}
	return errors.Join(all...)
}

// lastLines is the end of text from its last n lines on. A line without its end does not count.
func lastLines(text []byte, n int) []byte {
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	at := len(text)
	for ; n > 0 && at > 0; n-- {
		at = bytes.LastIndexByte(text[:at-1], '\n') + 1
	}
	return text[at:]
}
