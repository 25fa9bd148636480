package journal

import (
	"context"
	"hash/crc32"
	"sync"
	"time"

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

	free []string // names of recycled bodies, owned by the writer and recycle under mu

	// The writer's own:
	current *volume
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
		g.frames = append(g.frames, pendingFrame{sh, ref{first: sh.next, arrival: now, number: uint32(g.segment),
			off: uint32(g.off + int64(at)), size: uint32(len(g.buf) - at), count: f.count}})
		g.lastAt, g.last = at, f
		sh.next += shards.Pos(n)
		entries = entries[n:]
	}
}
