package journal

import (
	"context"
	"sort"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// index says where each shard's records are. Readers hold a shard's lock only while they copy
// references; a volume's file is kept by its reference count.
type index struct {
	mu      sync.RWMutex
	left    *sync.Cond // on mu: a volume has lost its last reader
	shards  map[shards.ShardID]*shardIndex
	volumes map[volumeID]*volume // nil when the store is closed
	dead    []*volume            // closed ones that hold nothing any more, for reclaim
	reading sync.WaitGroup       // readers inside a volume; added to under mu
}

// shardIndex is one shard's records, oldest first. An idle shard costs about 200 bytes.
type shardIndex struct {
	mu      sync.RWMutex
	refs    []ref
	horizon shards.Pos // everything at or before it is gone
	last    shards.Pos // newest readable position
	deleted bool
	sealed  bool
	kept    floor // as metadata have it
	gaps    []gap // positions that a repair found to be lost; in order

	next    shards.Pos // next position to assign; owned by commitState.mu
	closing bool       // no position is assigned any more; owned by commitState.mu
	waiters map[chan<- struct{}]int
}

// ref is where records are: 32 bytes. In a segment it is one frame, in a chunk a row of up to
// 256 KiB of frames. The positions in it follow one another.
type ref struct {
	first   shards.Pos
	arrival int64  // of the first record
	number  uint32 // of the volume; 2^32 segments are 256 PiB
	off     uint32
	size    uint32 // with the frames' headers
	count   uint16
	gen     uint16 // of the volume
}

func (r *ref) last() shards.Pos { return r.first + shards.Pos(r.count) - 1 }
func (r *ref) volume() volumeID { return volumeID{uint64(r.number), r.gen} }

// volume is a file of records: a segment or a chunk.
type volume struct {
	volumeID
	seed        uint32   // of the checksums of its frames
	file        vfs.File // of a segment; chunks are opened for each read, there may be thousands
	lastArrival int64    // of all frames that ever were in it; owned by the writer until the volume is closed
	attempts    int      // to make a chunk of it; owned by the sealer

	// Guarded by index.mu:
	size    int64 // bytes of frames in it
	live    int64 // of which some shard's index still has
	users   int   // readers inside the file
	closed  bool  // nothing will be added any more
	sealing bool  // the sealer is rewriting it, and gives it up itself
	damaged bool  // the sealer met damage: it stays as it is
	broken  bool  // a write to it met a full disk: it must be sealed even if it holds nothing
}

// sparse reports whether a chunk is worth rewriting: more than half of it is trimmed.
func (v *volume) sparse() bool {
	return v.gen > 0 && v.closed && !v.sealing && !v.damaged && 2*v.live < v.size
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

// within returns the range of refs that lie in a volume. Refs are ordered by number as by position.
func (sh *shardIndex) within(id volumeID) (from, to int) {
	from = sort.Search(len(sh.refs), func(i int) bool { return uint64(sh.refs[i].number) >= id.number })
	for to = from; to < len(sh.refs) && sh.refs[to].volume() == id; to++ {
	}
	return from, to
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

// shrink lets go of memory that refs do not need any more. The caller holds mu.
func (sh *shardIndex) shrink() {
	if len(sh.refs) == 0 {
		sh.refs = nil
	} else if cap(sh.refs) > 4*len(sh.refs)+64 {
		sh.refs = append([]ref(nil), sh.refs...)
	}
}

// after is the position that follows everything that was ever given out and made known: lost ones
// count, they are not given out again. The caller holds mu.
func (sh *shardIndex) after() shards.Pos {
	last := sh.last
	if n := len(sh.gaps); n > 0 {
		last = max(last, sh.gaps[n-1].To)
	}
	return last + 1
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

// dropBytes takes what shards have given up off their volumes.
func (s *Store) dropBytes(gone map[volumeID]int64) {
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	for id, n := range gone {
		if v := s.index.volumes[id]; v != nil {
			v.live -= n
			s.judge(v)
		}
	}
}

// judge notes what is to become of a closed volume: reclaim takes those without a live byte, the
// sealer those that are mostly trimmed. index.mu is held.
func (s *Store) judge(v *volume) {
	switch {
	case !v.closed || v.sealing:
	case v.live == 0:
		s.index.dead = append(s.index.dead, v)
		s.seal.kick()
	case v.sparse():
		s.seal.compact(v)
	}
}

func (s *Store) pin(id volumeID) *volume {
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	v := s.index.volumes[id]
	if v != nil {
		v.users++
		s.index.reading.Add(1)
	}
	return v
}

func (s *Store) unpin(v *volume) {
	s.index.mu.Lock()
	if v.users--; v.users == 0 {
		s.index.left.Broadcast()
		if v.closed && v.live == 0 {
			s.seal.kick() // reclaim may have passed it by because of us
		}
	}
	s.index.mu.Unlock()
	s.index.reading.Done()
}

// path is where a volume's file is.
func (s *Store) path(id volumeID) string {
	if id.gen == 0 {
		return s.fs.PathJoin(s.logDir, id.name(segmentSuffix))
	}
	return s.fs.PathJoin(s.chunkDir, id.name(segmentSuffix))
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
