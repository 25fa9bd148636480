package journal

import (
	"context"
	"sort"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// index says where each shard's frames are. Readers hold a shard's lock only while they copy
// references; a segment is kept open by its reference count.
type index struct {
	mu       sync.RWMutex
	shards   map[shards.ShardID]*shardIndex
	segments map[uint64]*segment // open ones; nil when the store is closed
	reading  sync.WaitGroup      // readers inside a segment; added to under mu
}

// shardIndex is one shard's frames, oldest first.
type shardIndex struct {
	mu      sync.RWMutex
	refs    []ref
	horizon shards.Pos // everything at or before it is gone
	last    shards.Pos // newest readable position
	deleted bool
	sealed  bool
	kept    floor // as metadata have it

	next    shards.Pos // next position to assign; owned by commitState.mu
	closing bool       // no position is assigned any more; owned by commitState.mu
	waiters map[chan<- struct{}]int
}

// ref is one frame: 32 bytes, one for every frame that is still readable.
type ref struct {
	first   shards.Pos
	arrival int64
	segment uint32 // number; 2^32 segments are 256 PiB
	off     uint32
	bodyLen uint32
	count   uint16
}

func (r *ref) last() shards.Pos { return r.first + shards.Pos(r.count) - 1 }

// segment is a file of the journal.
type segment struct {
	number uint64
	file   vfs.File
	seed   uint32

	// Guarded by index.mu:
	live   int  // frames that some shard's index still has
	users  int  // readers inside the file
	closed bool // no frame will be added any more
}

func (s *Store) shard(id shards.ShardID) (*shardIndex, error) {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	if sh := s.index.shards[id]; sh != nil {
		return sh, nil
	}
	return nil, errs.New(errs.NotFound, "shard log %d does not exist", id)
}

// find returns the place of the first ref that holds a position after p.
func (sh *shardIndex) find(p shards.Pos) int {
	return sort.Search(len(sh.refs), func(i int) bool { return sh.refs[i].last() > p })
}

// publish makes a frame readable; false if the shard was deleted meanwhile.
func (sh *shardIndex) publish(r ref) bool {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.deleted {
		return false
	}
	sh.refs = append(sh.refs, r)
	sh.last = r.last()
	sh.wake()
	return true
}

// wake signals those who wait for the shard. The caller holds mu.
func (sh *shardIndex) wake() {
	for ch := range sh.waiters {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// Bounds implements shards.Log.
func (s *Store) Bounds(_ context.Context, id shards.ShardID) (shards.Bounds, error) {
	sh, err := s.shard(id)
	if err != nil {
		return shards.Bounds{}, err
	}
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return shards.Bounds{Horizon: sh.horizon, Last: sh.last, Sealed: sh.sealed}, nil
}

// Notify implements shards.Log.
func (s *Store) Notify(ids []shards.ShardID, ch chan<- struct{}) (stop func()) {
	change := func(by int) {
		for _, id := range ids {
			sh, err := s.shard(id)
			if err != nil {
				continue
			}
			sh.mu.Lock()
			if sh.waiters == nil {
				sh.waiters = make(map[chan<- struct{}]int)
			}
			if sh.waiters[ch] += by; sh.waiters[ch] <= 0 {
				delete(sh.waiters, ch)
			}
			sh.mu.Unlock()
		}
	}
	change(1)
	return func() { change(-1) }
}

// tail keeps the newest commit groups in memory, where most readers find what they want. Groups
// are immutable once they are here.
type tail struct {
	mu     sync.RWMutex
	groups []tailGroup // oldest first: ordered by (segment, off)
	bytes  int64
}

type tailGroup struct {
	segment uint64
	off     int64
	buf     []byte
}

func (t *tail) add(g tailGroup, budget int64) {
	t.mu.Lock()
	t.groups = append(t.groups, g)
	t.bytes += int64(cap(g.buf))
	n := 0
	for t.bytes > budget && n < len(t.groups) {
		t.bytes -= int64(cap(t.groups[n].buf))
		t.groups[n].buf = nil
		n++
	}
	t.groups = t.groups[n:]
	t.mu.Unlock()
}

// get returns the bytes [off, off+n) of a segment if they are in memory.
func (t *tail) get(segment uint64, off int64, n int) []byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	i := sort.Search(len(t.groups), func(i int) bool {
		g := &t.groups[i]
		return g.segment > segment || g.segment == segment && g.off > off
	}) - 1
	if i < 0 || t.groups[i].segment != segment {
		return nil
	}
	g := &t.groups[i]
	if at := off - g.off; at+int64(n) <= int64(len(g.buf)) {
		return g.buf[at : at+int64(n) : at+int64(n)]
	}
	return nil
}
