// Package journal is the store on the machine's own disk: one journal of segments that all
// shards share, and Pebble for metadata.
//
// The commit writer takes everything that waits, writes it as one group and calls fdatasync once;
// only then are the appends answered and the records visible. While it syncs, the next group
// forms. A group is a sequence of frames, a frame a run of records of one shard; an index in
// memory, rebuilt by Open, says where each shard's frames are.
//
//	DIR/LOCK            held while the store is open
//	DIR/FORMAT          format number and store id
//	DIR/meta/           Pebble: streams, checkpoints, the list of live shards and their floors
//	DIR/log/N.wal       segments; N only grows
//	DIR/log/N.free      bodies of segments that hold nothing any more, waiting to be recycled
//
// # Crash rules
//
// Acknowledged means: fdatasync returned for the frame, and the segment's directory entry was
// durable before. What was not acknowledged may survive or not; if it does, it is at the position
// it was given. The points at which a crash may fall, and what Open makes of them:
//
//   - inside a group's write or sync: the frames of that last group that are whole and in front
//     of the first hole stay, the rest is cut. Open never appends to a recovered segment, so
//     leftovers of a torn group can not line up with new frames.
//   - between creating (or renaming) a segment and its first group: the segment has a header and
//     no frames, or no valid header; nothing in it was acknowledged, since the directory is synced
//     before the first group is written.
//   - between giving up a segment (floors stored in metadata, then renamed to .free) and the next
//     directory sync: the .wal may be back; its records lie below their floors and are dropped.
//   - a damaged frame with a valid frame of a later group behind it is no torn tail: that later
//     group was only written after the damaged one was synced. Open refuses and names the place.
//
// Open gives up the segments of shards that metadata does not know, so it must know whether it can
// trust the metadata, and refuses when it can not: when they are missing, when they, FORMAT and the
// segments do not name the same store, when a segment has records of a shard id higher than any
// that was created, and when records are missing that the floors tell of. Floors are stored before
// segments are given up, and at an orderly close, from which on every record lost is missed.
//
// What Open finds after the kill of a process may lie in the page cache only; it syncs segments
// and directories before it believes them, because readers will see these records.
//
// A write or sync that fails fences the store: what was in flight is of unknown outcome, later
// appends are refused, reading goes on. An fsync is never tried twice: after a failure the kernel
// may have dropped the dirty pages.
package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// Options configure a store. The zero value of each field means its default.
type Options struct {
	FS          vfs.FS // default vfs.Default
	SegmentSize int64  // bytes, default 64 MiB; at least 32 MiB outside tests, so that every group fits
	TailBytes   int64  // recently written bytes kept in memory for readers, default 32 MiB
	Reserve     uint64 // free bytes of disk below which appends are refused, default 2 segments + 64 MiB
	Events      Events
}

// Events tells observers what the store does. Nil fields are skipped.
type Events struct {
	Recovered func(segments int, records int64, took time.Duration)
	TornTail  func(segment string, offset int64) // bytes of a group that was never acknowledged were cut
	Fenced    func(err error)
	Synced    func(bytes int, took time.Duration) // one commit group
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = 64 << 20
	}
	if o.TailBytes == 0 {
		o.TailBytes = 32 << 20
	}
	if o.Reserve == 0 {
		o.Reserve = 2*uint64(o.SegmentSize) + 64<<20
	}
	return o
}

// Store is an open store. It implements shards.Store, shards.Log and shards.Keeper.
type Store struct {
	opts      Options
	fs        vfs.FS
	dir       string
	logDir    string
	storeID   [16]byte
	lock      io.Closer
	logHandle vfs.File // the log directory, for syncing names
	meta      *meta

	index index
	tail  tail

	commit commitState
	fault  atomic.Pointer[errs.Error]
	diskOK atomic.Int64 // bytes that may be written before the disk is asked for its free space again

	maintain sync.Mutex // floors are changed, and segments given up, by one at a time
	closed   atomic.Bool
}

var (
	_ shards.Store  = (*Store)(nil)
	_ shards.Log    = (*Store)(nil)
	_ shards.Keeper = (*Store)(nil)
)

// Open opens the store in dir, making it if it is not there, and recovers it. A folder that
// another process has open, that is not a store, or whose acknowledged records are damaged is
// refused with an error that says so.
func Open(dir string, o Options) (s *Store, err error) {
	o = o.withDefaults()
	s = &Store{opts: o, fs: o.FS, dir: dir, logDir: o.FS.PathJoin(dir, "log")}
	defer func() {
		if err != nil {
			s.release()
			s = nil
		}
	}()
	if err := s.openDirs(); err != nil {
		return s, err
	}
	if err := s.readFormat(); err != nil {
		return s, err
	}
	if err := s.openMeta(); err != nil {
		return s, err
	}
	if err := s.recover(); err != nil {
		return s, err
	}
	s.startCommits()
	return s, nil
}

// openDirs makes and locks the folders and makes their names durable.
func (s *Store) openDirs() (err error) {
	names := s.missingNames()
	_, fresh := s.fs.Stat(s.dir)
	if err := s.fs.MkdirAll(s.logDir, 0o700); err != nil {
		return errs.Wrap(errs.Unavailable, err, "the data folder %s cannot be made", s.dir)
	}
	if s.lock, err = s.fs.Lock(s.fs.PathJoin(s.dir, "LOCK")); err != nil {
		return errs.Wrap(errs.InUse, err, "the data folder %s is in use by another shardmill: stop it, or choose another folder with --data", s.dir)
	}
	for _, d := range names {
		if err := s.syncDir(d); err != nil && (fresh != nil || !errors.Is(err, os.ErrPermission)) {
			return err // a folder made for us may stand in one that we may not open
		}
	}
	for _, d := range []string{s.dir, s.logDir} {
		if err := s.syncDir(d); err != nil {
			return err
		}
	}
	s.logHandle, err = s.fs.OpenDir(s.logDir)
	return err
}

// missingNames returns the folders above the data folder that hold a name which is still to be
// made: its parent always, further ones as far as they do not exist themselves.
func (s *Store) missingNames() (parents []string) {
	for d := s.dir; ; {
		parent := s.fs.PathDir(d)
		if parent == d {
			return parents
		}
		parents = append(parents, parent)
		if _, err := s.fs.Stat(parent); err == nil {
			return parents
		}
		d = parent
	}
}

func (s *Store) syncDir(dir string) error {
	d, err := s.fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open folder %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// readFormat reads DIR/FORMAT, or writes it into a new store.
func (s *Store) readFormat() error {
	name := s.fs.PathJoin(s.dir, "FORMAT")
	f, err := s.fs.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return s.writeFormat(name)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return err
	}
	var format formatFile
	if err := json.Unmarshal(b, &format); err != nil {
		return errs.Wrap(errs.Invalid, err, "%s is damaged", name)
	}
	if err := format.check(s.dir); err != nil {
		return err
	}
	id, err := uuid.Parse(format.StoreID)
	if err != nil {
		return errs.Wrap(errs.Invalid, err, "%s is damaged: its storeId is none", name)
	}
	s.storeID = id
	return nil
}

func (s *Store) writeFormat(name string) error {
	if names, err := s.fs.List(s.logDir); err != nil || len(names) > 0 {
		return errs.Wrap(errs.Invalid, err, "%s has journal segments but no FORMAT file: it is damaged, or not a data folder", s.dir)
	}
	s.storeID = uuid.New()
	b, err := json.Marshal(formatFile{formatVersion, uuid.UUID(s.storeID).String(), time.Now().UTC().Format(time.RFC3339)})
	if err != nil {
		return err
	}
	tmp := name + ".tmp"
	f, err := s.fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := s.fs.Rename(tmp, name); err != nil {
		return err
	}
	return s.syncDir(s.dir)
}

// openMeta opens the metadata. Without them, or with those of another store, the segments would
// look like the segments of shards that were deleted, so they must be there if there are segments.
func (s *Store) openMeta() (err error) {
	names, err := s.fs.List(s.logDir)
	if err != nil {
		return err
	}
	s.meta, err = openMeta(s.fs, s.fs.PathJoin(s.dir, "meta"), s.storeID, len(names) > 0, func(err error) {
		s.stopTaking(errs.Wrap(errs.Unavailable, err, "the metadata in %s are damaged: restore the folder from a copy", s.dir))
	})
	return err
}

// Log, Keeper and Meta are the store's three faces.
func (s *Store) Log() shards.Log       { return s }
func (s *Store) Keeper() shards.Keeper { return s }
func (s *Store) Meta() shards.Meta     { return s.meta }

// Fault is why the store takes no more records, nil while it does.
func (s *Store) Fault() error {
	if e := s.fault.Load(); e != nil {
		return e
	}
	return nil
}

// fence stops the store for good after a write that failed.
func (s *Store) fence(err error) *errs.Error {
	e := errs.Wrap(errs.Unavailable, err, "the journal in %s stopped taking records after a failed write: free or replace the disk, then restart", s.dir)
	s.stopTaking(e)
	return e
}

// stopTaking refuses all appends from now on. The first reason stays.
func (s *Store) stopTaking(why *errs.Error) {
	if s.fault.CompareAndSwap(nil, why) && s.opts.Events.Fenced != nil {
		s.opts.Events.Fenced(why.Err)
	}
}

// Close writes what is queued, marks the journal as cleanly closed and gives everything back. What
// is called during Close or after it is refused as Unavailable, or served from memory.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	err := s.stopCommits()
	if err == nil && s.Fault() == nil {
		err = s.keepFloors() // the next Open misses what it does not find
	}
	return errors.Join(err, s.release())
}

// closing is the answer of a store that is closed or about to be.
func (s *Store) closing() error {
	return errs.New(errs.Unavailable, "the journal in %s is closing", s.dir)
}

func (s *Store) release() error {
	s.maintain.Lock()
	defer s.maintain.Unlock()
	s.index.mu.Lock()
	segments := s.index.segments
	s.index.segments = nil
	s.index.mu.Unlock()
	s.index.reading.Wait()
	var all []error
	for _, seg := range segments {
		all = append(all, seg.file.Close())
	}
	if s.meta != nil {
		all = append(all, s.meta.Close())
	}
	for _, c := range []io.Closer{s.logHandle, s.lock} {
		if c != nil {
			all = append(all, c.Close())
		}
	}
	return errors.Join(all...)
}
