package functionlog

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Has reports whether there is a log of the function.
func (s *Store) Has(function string) bool {
	if !functionName.MatchString(function) {
		return false
	}
	_, err := os.Stat(filepath.Join(s.dir, function))
	return err == nil
}

// Copy writes the last n lines of a function's log to w and, if follow is set, everything that comes
// after them until ctx ends, which is no error. A log that is not there has no lines. Readers never
// hold the writing up: one that is slower than two files fill misses lines.
func (s *Store) Copy(ctx context.Context, function string, n int, follow bool, w io.Writer) error {
	l := s.log(function)
	if l == nil {
		return nil
	}
	r := reader{log: l}
	defer r.close()
	text, changed, err := r.begin()
	if err != nil {
		return err
	}
	if _, err := w.Write(lastLines(text, n)); err != nil || !follow {
		return err
	}
	for {
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		case <-s.ended:
			return nil
		}
		if changed, err = r.more(w); err != nil {
			return err
		}
	}
}

// reader follows one log.
type reader struct {
	log        *log
	file       *os.File // nil when there was none
	generation int
	at         int64 // bytes of file that were given out, always whole lines
}

func (r *reader) close() {
	if r.file != nil {
		r.file.Close()
	}
}

// begin reads all there is. changed is closed when there is more.
func (r *reader) begin() (text []byte, changed chan struct{}, err error) {
	l := r.log
	l.mu.Lock()
	changed = l.changed
	l.mu.Unlock()
	l.file.Lock()
	defer l.file.Unlock()
	text, err = os.ReadFile(filepath.Join(l.dir, previousName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if err := r.open(); err != nil {
		return nil, nil, err
	}
	more, err := r.rest()
	return append(text, more...), changed, err
}

// open opens the current file. l.file is held.
func (r *reader) open() error {
	r.close()
	f, err := os.Open(filepath.Join(r.log.dir, currentName))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	r.file, r.at, r.generation = f, 0, r.log.generation
	if f == nil {
		r.generation-- // whatever comes is a new file
	}
	return err
}

// rest reads the whole lines of the file that were not read yet.
func (r *reader) rest() ([]byte, error) {
	if r.file == nil {
		return nil, nil
	}
	info, err := r.file.Stat()
	if err != nil || info.Size() <= r.at {
		return nil, err
	}
	text := make([]byte, info.Size()-r.at)
	n, err := r.file.ReadAt(text, r.at)
	if errors.Is(err, io.EOF) {
		err = nil // it was taken back meanwhile
	}
	text = text[:bytes.LastIndexByte(text[:n], '\n')+1]
	r.at += int64(len(text))
	return text, err
}

// more writes to w what has come. The lock is not held while w is written to.
func (r *reader) more(w io.Writer) (changed chan struct{}, err error) {
	l := r.log
	l.mu.Lock()
	changed = l.changed
	l.mu.Unlock()
	l.file.Lock()
	text, err := r.rest()
	if err == nil && r.generation != l.generation {
		if err = r.open(); err == nil {
			var next []byte
			next, err = r.rest()
			text = append(text, next...)
		}
	}
	l.file.Unlock()
	if err != nil || len(text) == 0 {
		return changed, err
	}
	_, err = w.Write(text)
	return changed, err
}
