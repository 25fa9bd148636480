package plugins

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

// store is the host's own copies of versions. Its layout is
//
//	Versions/lock                 held by the host that uses the store
//	Versions/tmp-…                being written, or being removed
//	Versions/<sha256>/module.wasm the version of a WebAssembly module
//	Versions/<sha256>/task/…      the version of a task root
//	Versions/<sha256>/layer/…     a layer, which versions of several functions may use
//
// A version is written under tmp-… and renamed when it is complete, so a kill leaves at most a
// tmp-… that the next open removes. There is no fsync: after a power failure a directory may have
// the right name and the wrong content, so one that an earlier process left is never believed but
// replaced by the copy that was just hashed.
type store struct {
	dir  string
	lock *os.File

	mu     sync.Mutex
	pins   map[string]int  // users of a version: functions that hold it, loads under way
	known  map[string]bool // committed by this process
	closed bool

	removals sync.WaitGroup
}

const partial = "tmp-"

var versionName = regexp.MustCompile(`^[0-9a-f]{64}$`)

func openStore(dir string) (*store, error) {
	fail := func(err error, what string) (*store, error) {
		return nil, errs.Wrap(errs.Unavailable, cause(err), "the versions store %s cannot be %s", printable(dir), what)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fail(err, "made private")
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fail(err, "locked")
	}
	if err := lock(f); err != nil {
		f.Close()
		return nil, errs.Wrap(errs.InUse, err, "the versions store %s is in use by another host: give each host its own", printable(dir))
	}
	s := &store{dir: dir, lock: f, pins: map[string]int{}, known: map[string]bool{}}
	list, err := os.ReadDir(dir)
	if err != nil {
		f.Close()
		return fail(err, "read")
	}
	for _, d := range list {
		if strings.HasPrefix(d.Name(), partial) {
			if err := os.RemoveAll(filepath.Join(dir, d.Name())); err != nil {
				f.Close()
				return fail(err, "cleaned")
			}
		}
	}
	return s, nil
}

// aside is a fresh path for what is being written or removed.
func (s *store) aside() string { return filepath.Join(s.dir, partial+rand.Text()) }

// stage makes a directory for a version that is being written. The caller removes it; after
// commit there is nothing left to remove.
func (s *store) stage() (string, error) {
	dir := s.aside()
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", hostFault(err)
	}
	return dir, nil
}

// commit gives a finished directory its name and pins the version. If this process has the
// version already the directory is left for the caller to remove.
func (s *store) commit(staged, sha string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dir := filepath.Join(s.dir, sha)
	if !s.known[sha] {
		old := s.aside()
		switch err := os.Rename(dir, old); {
		case err == nil:
			s.removals.Go(func() { os.RemoveAll(old) }) // what stays is removed by the next open
		case !os.IsNotExist(err):
			return "", hostFault(err)
		}
		if err := os.Rename(staged, dir); err != nil {
			return "", hostFault(err)
		}
		s.known[sha] = true
	}
	s.pins[sha]++
	return dir, nil
}

// unpin ends one use of a version. The unused versions beyond the newest keepVersions go.
func (s *store) unpin(sha string) {
	s.mu.Lock()
	s.pins[sha]--
	last := s.pins[sha] == 0
	if last {
		delete(s.pins, sha)
		now := time.Now()
		os.Chtimes(filepath.Join(s.dir, sha), now, now) // only the order of removal hangs on it
	}
	s.mu.Unlock()
	if last {
		s.collect()
	}
}

// collect removes unused versions, all but the keepVersions that were used last.
func (s *store) collect() {
	for _, dir := range s.condemn() {
		os.RemoveAll(dir) // what stays is removed by the next open
	}
}

// condemn renames the versions that go, so that a commit of the same content does not meet them.
func (s *store) condemn() (dirs []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	list, err := os.ReadDir(s.dir)
	if err != nil || s.closed {
		return nil
	}
	type unused struct {
		sha  string
		last time.Time
	}
	var u []unused
	for _, d := range list {
		if info, err := d.Info(); err == nil && versionName.MatchString(d.Name()) && s.pins[d.Name()] == 0 {
			u = append(u, unused{d.Name(), info.ModTime()})
		}
	}
	slices.SortFunc(u, func(a, b unused) int { return b.last.Compare(a.last) })
	for _, v := range u[min(keepVersions, len(u)):] {
		dir := s.aside()
		if os.Rename(filepath.Join(s.dir, v.sha), dir) == nil {
			delete(s.known, v.sha)
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// stopCollecting lets every version stay from now on.
func (s *store) stopCollecting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// close gives the store back. Versions stay where they are.
func (s *store) close() error {
	s.removals.Wait()
	return s.lock.Close()
}

// hostFault is the error of a store that cannot be written. The plugin is not at fault.
func hostFault(err error) error {
	return errs.Wrap(errs.Unavailable, cause(err), "the plugin cannot be copied into the versions store; once that is put right, touch the plugin")
}
