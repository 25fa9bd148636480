package journal

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

const (
	maxGroup  = 8 << 20  // a group is closed when it has grown to this
	maxQueued = 64 << 20 // bytes that wait to be written before appenders wait
)

// commitState is the write side: appenders encode their runs into the open group under mu, the
// writer goroutine takes groups off the front, writes and syncs them.
type commitState struct {
	mu     sync.Mutex
	work   *sync.Cond      // signalled when a group can be taken, or on stop
	groups []*group        // the last one is open
	newest <-chan struct{} // closed when the group that was opened last is done
	queued int
	room   chan struct{} // closed and replaced when queued shrinks
	lastMs int64         // arrival times never go back

	number  uint64 // segment that the next group goes to
	off     int64  // where in it
	seq     uint32 // last group number used in it
	lastLen int    // bytes of the group written last
	stop    bool
	done    chan struct{}

	free []string // names of recycled bodies, owned by the writer and reclaim under mu

	// The writer's own:
	current *segment
}

// group is a set of frames written and synced together.
type group struct {
	segment uint64
	off     int64
	number  uint32
	seed    uint32
	buf     []byte
	frames  []pendingFrame
	lastAt  int // offset in buf of the last frame's header
	last    frame
	done    chan struct{}
	err     *errs.Error
}

type pendingFrame struct {
	shard *shardIndex
	ref   ref
}

// Append implements shards.Log.
func (s *Store) Append(ctx context.Context, runs []shards.Run, results []shards.Result) {
	size := 0
	for i := range runs {
		results[i] = shards.Result{}
		n := frameHeader
		for j := range runs[i].Entries {
			e := &runs[i].Entries[j]
			if len(e.Key) > maxKey {
				results[i].Err = errs.New(errs.Invalid, "a partition key of %d bytes is longer than %d", len(e.Key), maxKey)
			}
			n += recordSize(e)
		}
		if n > maxFrameBody {
			results[i].Err = errs.New(errs.Invalid, "a run of %d bytes is larger than %d", n, maxFrameBody)
		}
		size += n
	}
	g, err := s.enqueue(ctx, runs, results, size)
	if err == nil && g != nil {
		<-g.done
		if g.err != nil {
			err = g.err
		}
	}
	if err != nil {
		for i := range results {
			if results[i].Err == nil {
				results[i].Err = err
			}
		}
	}
}

// enqueue encodes runs into a group. It waits for room in the queue, and only there heeds ctx.
func (s *Store) enqueue(ctx context.Context, runs []shards.Run, results []shards.Result, size int) (*group, error) {
	if err := s.checkDisk(int64(size)); err != nil {
		return nil, err
	}
	c := &s.commit
	c.mu.Lock()
	for c.queued > 0 && c.queued+size > maxQueued && !c.stop {
		room := c.room
		c.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return nil, errs.Wrap(errs.Throttled, ctx.Err(), "the journal is behind: %d MiB wait to be written", maxQueued>>20)
		}
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	if c.stop {
		return nil, s.closing()
	}
	if err := s.Fault(); err != nil {
		return nil, err
	}
	logs := make([]*shardIndex, len(runs))
	if !s.lookUp(runs, results, logs) {
		return nil, nil
	}
	g := c.groupFor(s, size)
	before := len(g.buf)
	for i := range runs {
		if results[i].Err == nil {
			s.encodeRun(g, logs[i], &runs[i], &results[i])
		}
	}
	c.queued += len(g.buf) - before
	c.work.Signal()
	return g, nil
}

// lookUp finds the shards of runs, refuses those that do not exist, and reports whether anything is
// left to write.
func (s *Store) lookUp(runs []shards.Run, results []shards.Result, logs []*shardIndex) (any bool) {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	for i := range runs {
		if logs[i] = s.index.shards[runs[i].Shard]; logs[i] == nil {
			results[i].Err = errs.New(errs.NotFound, "shard log %d does not exist", runs[i].Shard)
		} else if logs[i].closing {
			results[i].Err = shards.ErrSealed
		}
		any = any || results[i].Err == nil && len(runs[i].Entries) > 0
	}
	return any
}

// groupFor returns the open group if size more bytes fit into it and its segment, else a new one.
func (c *commitState) groupFor(s *Store, size int) *group {
	if n := len(c.groups); n > 0 {
		g := c.groups[n-1]
		if len(g.buf)+size <= maxGroup && g.off+int64(len(g.buf)+size) <= s.opts.SegmentSize {
			return g
		}
		c.off = g.off + int64(len(g.buf))
	}
	if c.off+int64(size) > s.opts.SegmentSize && c.off > segmentHeader {
		c.number++
		c.off, c.seq = segmentHeader, 0
	}
	c.seq++
	g := &group{segment: c.number, off: c.off, number: c.seq, seed: seed(s.storeID, c.number), done: make(chan struct{}),
		buf: make([]byte, 0, max(size+4096, c.lastLen+c.lastLen/4))} // groups in a row are alike: growing them costs a copy
	c.groups = append(c.groups, g)
	c.newest = g.done
	return g
}

// encodeRun assigns positions and writes the run's frame into the group's buffer. A frame holds
// at most 65,535 records; longer runs become several frames.
func (s *Store) encodeRun(g *group, sh *shardIndex, run *shards.Run, res *shards.Result) {
	now := max(time.Now().UnixMilli(), s.commit.lastMs)
	s.commit.lastMs = now
	res.First, res.Arrived = sh.next, now
	for entries := run.Entries; len(entries) > 0; {
		n := min(len(entries), 1<<16-1)
		at := len(g.buf)
		g.buf = append(g.buf, make([]byte, frameHeader)...)
		for i := range entries[:n] {
			g.buf = appendRecord(g.buf, &entries[i])
		}
		body := g.buf[at+frameHeader:]
		f := frame{bodyLen: uint32(len(body)), bodyCRC: crc32.Update(g.seed, castagnoli, body), group: g.number,
			count: uint16(n), shard: run.Shard, firstPos: sh.next, arrival: now}
		f.encode(g.buf[at:], g.seed)
		g.frames = append(g.frames, pendingFrame{sh, ref{first: sh.next, arrival: now, segment: uint32(g.segment),
			off: uint32(g.off + int64(at)), bodyLen: f.bodyLen, count: f.count}})
		g.lastAt, g.last = at, f
		sh.next += shards.Pos(n)
		entries = entries[n:]
	}
}

// checkDisk refuses appends while the disk is nearly full, so that a write never meets a full
// disk. The disk is asked once for every few megabytes.
func (s *Store) checkDisk(size int64) error {
	if s.diskOK.Add(-size) > 0 {
		return nil
	}
	u, err := s.fs.GetDiskUsage(s.dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		s.diskOK.Store(1 << 62) // a file system in memory
		return nil
	}
	if err != nil {
		return errs.Wrap(errs.Unavailable, err, "the free space of %s is not known", s.dir)
	}
	if u.AvailBytes < s.opts.Reserve {
		return errs.New(errs.Unavailable, "the disk of %s is full: %d MiB are free and %d MiB are kept in reserve", s.dir, u.AvailBytes>>20, s.opts.Reserve>>20)
	}
	s.diskOK.Store(min(int64(u.AvailBytes-s.opts.Reserve), 16<<20))
	return nil
}

func (s *Store) startCommits() {
	c := &s.commit
	c.work = sync.NewCond(&c.mu)
	c.room = make(chan struct{})
	c.done = make(chan struct{})
	go s.writeLoop()
}

// stopCommits lets the writer finish what is queued and writes the mark of a clean close.
func (s *Store) stopCommits() error {
	c := &s.commit
	c.mu.Lock()
	c.stop = true
	c.work.Signal()
	c.mu.Unlock()
	<-c.done
	if s.Fault() != nil || c.current == nil {
		return nil
	}
	return s.writeMark()
}

// writeMark proves that everything before it was synced. It is the only group without records, and
// may make its segment a little larger than others.
func (s *Store) writeMark() error {
	c := &s.commit
	sd := c.current.seed
	f := frame{bodyCRC: sd, group: c.seq + 1, flags: flagEnd | flagMark}
	b := make([]byte, frameHeader)
	f.encode(b, sd)
	if _, err := c.current.file.WriteAt(b, c.off); err != nil {
		return err
	}
	return c.current.file.SyncData()
}

func (s *Store) writeLoop() {
	c := &s.commit
	defer close(c.done)
	for {
		g := c.take()
		if g == nil {
			return
		}
		if e := s.fault.Load(); e != nil {
			g.err = e // nothing of it was written
		} else if err := s.writeGroup(g); err != nil {
			s.fence(err)
			g.err = errs.Wrap(errs.Unknown, err, "the records may have been stored or not")
		}
		c.mu.Lock()
		c.queued -= len(g.buf)
		close(c.room)
		c.room = make(chan struct{})
		c.mu.Unlock()
		close(g.done)
	}
}

// take closes and removes the front group, waiting for one; nil when the store stops and nothing
// is left.
func (c *commitState) take() *group {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.groups) == 0 || len(c.groups[0].frames) == 0 {
		if c.stop {
			return nil
		}
		c.work.Wait()
	}
	g := c.groups[0]
	c.groups = c.groups[1:]
	c.lastLen = min(len(g.buf), maxGroup)
	if len(c.groups) == 0 {
		c.off = g.off + int64(len(g.buf))
	}
	g.last.flags |= flagEnd
	g.last.encode(g.buf[g.lastAt:], g.seed)
	return g
}

// writeGroup makes a group durable and then visible.
func (s *Store) writeGroup(g *group) error {
	if err := s.rollTo(g.segment); err != nil {
		return err
	}
	seg := s.commit.current
	start := time.Now()
	if _, err := seg.file.WriteAt(g.buf, g.off); err != nil {
		return err
	}
	if err := seg.file.SyncData(); err != nil {
		return err
	}
	if f := s.opts.Events.Synced; f != nil {
		f(len(g.buf), time.Since(start))
	}
	s.tail.add(tailGroup{seg.number, g.off, g.buf}, s.opts.TailBytes)
	s.index.mu.Lock()
	seg.live += len(g.frames)
	s.index.mu.Unlock()
	for _, f := range g.frames {
		if !f.shard.publish(f.ref) {
			s.dropFrames(map[uint32]int{f.ref.segment: 1})
		}
	}
	return nil
}

// rollTo makes the segment of that number the current one, from a recycled body if there is one.
// Its directory entry is durable when rollTo returns: the first group may be acknowledged.
func (s *Store) rollTo(number uint64) error {
	c := &s.commit
	if c.current != nil && c.current.number == number {
		return nil
	}
	name := s.fs.PathJoin(s.logDir, segmentName(number, segmentSuffix))
	file, err := s.newSegmentFile(name)
	if err != nil {
		return err
	}
	// The name first: if a recycled body got its new header while the old name could still come
	// back, the old segment would look damaged after a crash.
	err = s.logHandle.Sync()
	if err == nil {
		_, err = file.WriteAt(encodeSegmentHeader(s.storeID, number, time.Now().UnixMilli()), 0)
	}
	if err == nil {
		err = file.SyncData()
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	seg := &segment{number: number, file: file, seed: seed(s.storeID, number)}
	s.index.mu.Lock()
	s.index.segments[number] = seg
	if c.current != nil {
		c.current.closed = true
	}
	s.index.mu.Unlock()
	c.current = seg
	return nil
}

func (s *Store) newSegmentFile(name string) (vfs.File, error) {
	c := &s.commit
	c.mu.Lock()
	var recycled string
	if n := len(c.free); n > 0 {
		recycled, c.free = c.free[n-1], c.free[:n-1]
	}
	c.mu.Unlock()
	if recycled != "" {
		if err := s.fs.Rename(recycled, name); err != nil {
			return nil, err
		}
		return s.fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	}
	if _, err := s.fs.Stat(name); !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("segment %s exists already: %w", name, err)
	}
	f, err := s.fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	return s.fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
}
