package plugins

import (
	"errors"
	"hash/maphash"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/plugins/manifest"
)

// scanner looks at the directory and remembers what it saw. It reads metadata only, and takes
// the time from its caller.
type scanner struct {
	dir     string
	settle  time.Duration
	seed    maphash.Seed
	entries map[string]*entry // by file name
}

// entry is one file or folder of the directory.
type entry struct {
	file string
	name string // the function it claims; empty for foreign entries
	form form
	err  error // why a foreign entry is refused

	mode   fs.FileMode
	print  uint64        // fingerprint of the state last seen; of a manifest, with its layers
	newest time.Time     // the latest modification in it
	first  time.Time     // when the entry appeared
	since  time.Time     // when print was first seen
	seen   time.Time     // when print was last seen
	walk   time.Duration // what the last look at a folder took

	retry time.Time // not to be taken before
	done  uint64    // the whole fingerprint that was taken or refused; 0 when none was
	told  bool      // the refusal by name, of a clash of names, or of a manifest alone was announced

	layers []string // of a manifest
	parsed uint64   // the fingerprint of the manifest's file when layers was read

	// of an entry that is being taken
	manifest string   // the file of the manifest beside it; "" when there is none
	beside   []string // the layers that names
	whole    uint64   // fingerprint of all of them
}

// with notes the manifest that lies beside e, nil if none does.
func (e *entry) with(m *entry) {
	e.manifest, e.beside, e.whole = "", nil, e.print
	if m != nil {
		e.manifest, e.beside = m.file, m.layers
		e.whole = max(e.print+m.print, 1)
	}
}

func newScanner(dir string, settle time.Duration) *scanner {
	return &scanner{dir: dir, settle: settle, seed: maphash.MakeSeed(), entries: map[string]*entry{}}
}

// observe brings entries up to date. On an error it leaves them as they were: a directory that
// cannot be read says nothing about the plugins in it.
func (s *scanner) observe(now time.Time) error {
	dir, err := os.Open(s.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	present := map[string]bool{}
	err = eachEntry(dir, func(d fs.DirEntry) error {
		if len(present) == maxEntries {
			return errs.New(errs.Limit, "it has more than %d entries", maxEntries)
		}
		if name, f, err := classify(d.Name()); f != ignored {
			present[d.Name()] = true
			s.look(dir, d, now, name, f, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for file := range s.entries {
		if !present[file] {
			delete(s.entries, file)
		}
	}
	return nil
}

// look records the state of one entry.
func (s *scanner) look(dir *os.File, d fs.DirEntry, now time.Time, name string, f form, refusal error) {
	e := s.entries[d.Name()]
	if e == nil {
		e = &entry{file: d.Name(), name: name, form: f, err: refusal, first: now}
		s.entries[d.Name()] = e
	}
	if f == foreign {
		return
	}
	if now.Before(e.nextWalk()) {
		return
	}
	start := time.Now()
	print, newest, mode := s.fingerprint(dir, d.Name())
	if f == manifestFile {
		if print != e.parsed {
			e.parsed, e.layers = print, layersOf(dir, e.file)
		}
		sum, last := s.layers(dir, e.layers)
		print += sum
		if last.After(newest) {
			newest = last
		}
	}
	if e.walk = 0; mode.IsDir() || len(e.layers) > 0 {
		e.walk = time.Since(start)
	}
	if print != e.print {
		e.print, e.since = print, now
	}
	e.newest, e.mode, e.seen = newest, mode, now
}

// layersOf reads which layers a manifest names, none if it is wrong: that is told when it is taken.
func layersOf(dir *os.File, file string) []string {
	text, err := readManifest(dir, file)
	if err != nil {
		return nil
	}
	m, err := manifest.Parse(printable(file), text)
	if err != nil {
		return nil
	}
	return m.Layers
}

// layers sums up the fingerprints of layers.
func (s *scanner) layers(dir *os.File, layers []string) (sum uint64, newest time.Time) {
	for _, l := range layers {
		print, last, _ := s.fingerprint(dir, l)
		sum += print
		if last.After(newest) {
			newest = last
		}
	}
	return sum, newest
}

// whole is the fingerprint of an entry, its manifest and its layers as they are now.
func (s *scanner) whole(dir *os.File, e *entry) uint64 {
	print, _, _ := s.fingerprint(dir, e.file)
	if e.manifest == "" {
		return print
	}
	sum, _, _ := s.fingerprint(dir, e.manifest)
	layers, _ := s.layers(dir, e.beside)
	return max(print+sum+layers, 1)
}

// nextWalk is when e may be looked at again. A folder of many files takes time to walk: 20 times
// that must pass, which bounds the share of a core that the waiting for changes can use.
func (e *entry) nextWalk() time.Time { return e.seen.Add(20 * e.walk) }

// settled reports whether e was at rest when last seen: unchanged for the settling time, or
// modified longer ago than that. The second rule takes a finished file that is renamed into
// place at once.
func (s *scanner) settled(e *entry) bool {
	return e.seen.Sub(e.since) >= s.settle || e.seen.Sub(e.newest) >= s.settle
}

// fingerprint sums up the metadata of the entry name of dir and, for a folder, of everything
// below it. It changes whenever the entry is written to. It is never 0.
func (s *scanner) fingerprint(dir *os.File, name string) (print uint64, newest time.Time, mode fs.FileMode) {
	info, err := os.Lstat(path.Join(dir.Name(), name))
	if err != nil {
		return 1, time.Time{}, 0
	}
	print, newest, mode = s.stamp("", info), info.ModTime(), info.Mode()
	if mode.IsDir() {
		w := walker{s: s}
		if err := w.walk(dir, name, "", 0); err == nil {
			print += w.sum
			if w.newest.After(newest) {
				newest = w.newest
			}
		}
	}
	return max(print, 1), newest, mode
}

// stamp is one file's share of a fingerprint. Shares are added up, as the order in which a
// directory lists its entries means nothing.
func (s *scanner) stamp(rel string, info fs.FileInfo) uint64 {
	inode, changed := identity(info)
	return maphash.Comparable(s.seed, struct {
		rel                            string
		mode                           fs.FileMode
		size, modified, changed, inode int64
	}{rel, info.Mode(), info.Size(), info.ModTime().UnixNano(), int64(changed), int64(inode)})
}

// walker adds up the fingerprint of a folder's content.
type walker struct {
	s      *scanner
	sum    uint64
	newest time.Time
	count  int
}

// walk stops with an error at what the taking of the folder will refuse: more than maxEntries.
func (w *walker) walk(parent *os.File, name, rel string, depth int) error {
	dir, err := openChild(parent, name)
	if err != nil || depth > maxDepth {
		return err
	}
	defer dir.Close()
	return eachEntry(dir, func(d fs.DirEntry) error {
		if w.count++; w.count > maxEntries {
			return errs.New(errs.Limit, "too many entries")
		}
		info, err := d.Info()
		if err != nil {
			return nil // gone meanwhile; the directory's own times have changed with it
		}
		below := path.Join(rel, d.Name())
		w.sum += w.s.stamp(below, info)
		if info.ModTime().After(w.newest) {
			w.newest = info.ModTime()
		}
		if info.IsDir() {
			return w.walk(dir, d.Name(), below, depth+1)
		}
		return nil
	})
}

// eachEntry calls fn for the entries of an open directory, which it reads in small portions, as a
// directory may hold millions.
func eachEntry(dir *os.File, fn func(fs.DirEntry) error) error {
	for {
		list, err := dir.ReadDir(256)
		for _, d := range list {
			if err := fn(d); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
