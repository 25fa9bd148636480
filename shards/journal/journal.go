// Package journal is the store on the machine's own disk: one journal of segments that all shards
// share, the chunks that segments become, and Pebble for metadata.
//
// The commit writer takes everything that waits, writes it as one group and calls fdatasync once;
// only then are the appends answered and the records visible. While it syncs, the next group
// forms. A group is a sequence of frames, a frame a run of records of one shard.
//
// A segment that is full is sealed (seal.go): one goroutine rewrites it as a chunk, in which each
// shard's frames lie together, and recycles it. The journal is fast to write and slow to read - the
// frames of a shard are scattered over it - and a chunk is fast to read. Both are files of frames,
// here called volumes. An index in memory says where each shard's frames are.
//
//	DIR/LOCK            held while the store is open
//	DIR/FORMAT          format number and store id
//	DIR/meta/           Pebble: streams, checkpoints, the list of live shards and their floors
//	DIR/log/N.wal       segments; N only grows
//	DIR/log/N.free      bodies of segments that hold nothing any more, waiting to be recycled
//	DIR/chunks/N.G.chunk what segment N became; generation G grows with every rewriting
//	DIR/damaged/        what a repair put aside (repair.go)
//
// # Space
//
// Trimming deletes a chunk at once when none of its records is wanted any more. A chunk of which
// more than half is trimmed is rewritten without that half, so there are no classes of retention: a
// shard that is kept for long holds back at most as many bytes of others as it has itself. What is
// still in a segment goes when that is sealed. Write amplification is 2, and at most 1 more over
// the life of a chunk.
//
// # Memory
//
// A ref of 32 bytes stands for one frame in a segment, and in a chunk for a row: frames of one shard
// that follow one another, up to 256 KiB. Of G retained gigabytes in C chunks of 64 MiB that is
// 32 * C * (S + 256) bytes with S shards in each: 140 KB a gigabyte for 16 shards, 270 KB for 256,
// 660 KB for 1,000. Unsealed are at most the current segment and three that wait, 2 MiB of refs each
// at frames of 1 KB. An idle shard costs some 200 bytes and its floor in the metadata. To that come the
// tail (32 MiB), the sealer's buffer (a segment, while there is work), and rows kept for readers
// (20 MiB).
//
// # Back-pressure
//
// At most three closed segments wait for the sealer, then appends wait for it; while sealing fails,
// they are refused. On a disk that fills up, appends are refused below a reserve, sealing below a
// quarter of it; reading, trimming and metadata go on, and so does everything when there is space.
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
//     directory sync: the .wal may be back; its records lie below their floors and are dropped, or
//     a chunk has them.
//   - while a chunk is written: it has a temporary name, and is removed. The order is: write and sync
//     the chunk; store the floors of what it lacks; rename it; sync the folder; only then is the
//     segment, or the chunk of an earlier generation, given up. So a chunk that has its name is
//     whole, and where both are there the chunk wins, of two generations the newer one. A chunk
//     that is damaged all the same is passed over while what it was made of is still there.
//   - a damaged frame with a valid frame of a later group behind it is no torn tail: that later
//     group was only written after the damaged one was synced. Open refuses and names the place.
//   - while FORMAT is raised to 2: it says 2, durably, before the first chunk has its name.
//
// Open reads the indexes of chunks, not their frames: those are verified before they are written and
// whenever they are read. It scans the segments that were not sealed, at most four.
//
// Open gives up the records of shards that metadata does not know, so it must know whether it can
// trust the metadata, and refuses when it can not: when they are missing, when they, FORMAT and the
// volumes do not name the same store, when a volume has records of a shard id higher than any
// that was created, and when records are missing that the floors tell of. Floors are stored before
// records are given up, and at an orderly close, from which on every record lost is missed.
//
// What Open finds after the kill of a process may lie in the page cache only; it syncs segments
// and directories before it believes them, because readers will see these records.
//
// A write or sync that fails fences the store: what was in flight is of unknown outcome, later
// appends are refused, reading goes on. An fsync is never tried twice: after a failure the kernel
// may have dropped the dirty pages. A full disk (ENOSPC) only pauses the store (pause.go). A chunk
// that cannot be written is no loss: it is written again, under another name.
package journal

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

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

	// Repair, if it is set, has Open mend what it would refuse: what is damaged is left out and put
	// aside, and Repair is told what became of it, also when that is nothing. See repair.go.
	Repair func(Repaired)

	omit      omission      // safeguards that a test takes away to see it fail
	sealRetry time.Duration // the sealer's pause after a failure, default 1 s
}

// omission is a set of safeguards that negative controls take away.
type omission uint8

const (
	omitSealWait   omission = 1 << iota // Seal does not wait for appends under way
	omitFloors                          // records are given up before it is durable that they are trimmed
	omitReaders                         // a segment is recycled under its readers
	omitBrokenSeal                      // after a full disk appends go on at once
	omitGaps                            // a repair does not remember what is lost
	omitSealing                         // no chunk is made
)

func (o omission) has(one omission) bool { return o&one != 0 }

// Events tells observers what the store does. Nil fields are skipped.
type Events struct {
	Recovered  func(segments, chunks int, records int64, took time.Duration)
	Upgraded   func(from, to int)                 // of the folder's format
	TornTail   func(segment string, offset int64) // bytes of a group that was never acknowledged were cut
	Fenced     func(err error)
	Paused     func(err error)                      // a write met a full disk: appends are refused until there is space
	Resumed    func()                               // after Paused
	Synced     func(bytes int, took time.Duration)  // one commit group
	Sealed     func(compacted bool, from, to int64) // a chunk was made, of a segment or of another chunk; bytes of frames
	SealFailed func(err error)                      // tried again
	Damaged    func(err error)                      // the sealer met damage and leaves the file as it is
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.SegmentSize == 0 {
		o.SegmentSize = 64 << 20
	}
	if o.sealRetry == 0 {
		o.sealRetry = time.Second
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
	chunkDir  string
	format    formatFile
	storeID   [16]byte
	lock      io.Closer
	logHandle vfs.File // the log directory, for syncing names
	meta      *meta

	index  index
	tail   tail
	blocks *lru[block]
	tables *lru[[]frameAt]

	commit commitState
	seal   sealer
	fault  atomic.Pointer[errs.Error] // why no record is taken any more
	paused atomic.Pointer[errs.Error] // why none is taken for now; see pause.go
	diskOK atomic.Int64               // bytes that may be written before the disk is asked for its free space again

	maintain sync.Mutex // floors are changed, and volumes given up, by one at a time
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
	s = &Store{opts: o, fs: o.FS, dir: dir, logDir: o.FS.PathJoin(dir, "log"), chunkDir: o.FS.PathJoin(dir, "chunks"),
		blocks: newLRU[block](blockCache), tables: newLRU[[]frameAt](tableCache)}
	s.index.left = sync.NewCond(&s.index.mu)
	s.seal.init()
	defer func() {
		if err != nil {
			s.release()
			s = nil
		}
	}()
	for _, step := range []func() error{s.openDirs, s.readFormat, s.openMeta, s.recover, s.upgrade} {
		if err := step(); err != nil {
			return s, err
		}
	}
	s.startSealer()
	s.startCommits()
	return s, nil
}

// Log, Keeper and Meta are the store's three faces.
func (s *Store) Log() shards.Log       { return s }
func (s *Store) Keeper() shards.Keeper { return s }
func (s *Store) Meta() shards.Meta     { return s.meta }

// Fault is why the store takes no records, nil while it does. A full disk and a sealer that fails
// pass by themselves; after a failed write only a restart helps.
func (s *Store) Fault() error {
	if err := s.stopped(); err != nil {
		return err
	}
	if e := s.seal.behind(); e != nil {
		return e
	}
	return nil
}

// stopped is Fault without a sealer that is behind: then what is queued is still written.
func (s *Store) stopped() error {
	if e := s.fault.Load(); e != nil {
		return e
	}
	if e := s.paused.Load(); e != nil {
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
	s.stopSealer()
	err := s.stopCommits()
	if err == nil && s.stopped() == nil {
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
	volumes := s.index.volumes
	s.index.volumes = nil
	s.index.mu.Unlock()
	s.index.reading.Wait()
	var all []error
	for _, v := range volumes {
		if v.file != nil {
			all = append(all, v.file.Close())
		}
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
