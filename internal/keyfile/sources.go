package keyfile

import (
	"bytes"
	"os"
	"slices"
	"syscall"

	"github.com/shardmill/shardmill/internal/errs"
)

// source is a file as it was read.
type source struct {
	text []byte
	mode os.FileMode
	err  error
}

// sources are the key file, under its path, and the files that secrets are in.
type sources struct {
	keyFile source
	secrets map[string]source
}

func readSources(path string, secretPaths []string) sources {
	s := sources{readSource(path), make(map[string]source)}
	for _, p := range secretPaths {
		s.secrets[p] = readSource(p)
	}
	return s
}

// secret is the text of a file that holds a secret.
func (s sources) secret(path string) ([]byte, error) {
	got, read := s.secrets[path]
	if !read {
		got = readSource(path)
		s.secrets[path] = got
	}
	return got.text, got.err
}

func (s sources) secretPaths() (paths []string) {
	for p := range s.secrets {
		paths = append(paths, p)
	}
	slices.Sort(paths)
	return paths
}

func (s sources) equal(t sources) bool {
	if !s.keyFile.equal(t.keyFile) || len(s.secrets) != len(t.secrets) {
		return false
	}
	for p, a := range s.secrets {
		if b, found := t.secrets[p]; !found || !a.equal(b) {
			return false
		}
	}
	return true
}

func (s source) equal(t source) bool {
	return s.mode == t.mode && bytes.Equal(s.text, t.text) && sentence(s.err) == sentence(t.err)
}

func sentence(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// maxSize bounds a file, in bytes: it is read once a second.
const maxSize = 1 << 20

func readSource(path string) (s source) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe must not block
	if err != nil {
		return source{err: err}
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return source{err: err}
	case !info.Mode().IsRegular():
		return source{err: errs.New(errs.Invalid, "%s is not a file", path)}
	case info.Size() > maxSize:
		return source{err: errs.New(errs.Invalid, "%s has %d bytes, the limit is %d", path, info.Size(), maxSize)}
	}
	text := make([]byte, info.Size())
	n, err := file.ReadAt(text, 0)
	if n < len(text) { // it is being written
		return source{mode: info.Mode(), text: text[:n], err: err}
	}
	return source{mode: info.Mode(), text: text}
}
