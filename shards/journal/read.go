package journal

import (
	"context"
	"sort"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// refsARead is how many refs a read looks up at a time: enough that the lock is no cost, few
// enough to lie on the stack.
const refsARead = 64

var errRecycled = errs.New(errs.Internal, "the volume was given up")

// reading is one call of Read.
type reading struct {
	s     *Store
	id    shards.ShardID
	max   shards.Budget
	dst   []shards.Record
	start int // len(dst) at the beginning
	size  int // bytes read
	after shards.Pos
	done  bool // the next record does not fit any more
	one   [1]frameAt
}

// full reports whether the budget is used up, or would be with next more bytes.
func (r *reading) full(next int) bool {
	n := len(r.dst) - r.start
	r.done = r.done || n > 0 && (n >= r.max.Records || r.size+next > r.max.Bytes)
	return r.done
}

// Read implements shards.Log. Damage is an error when it is the first thing met: what lies before
// it is returned, and a read from behind it goes on.
func (s *Store) Read(ctx context.Context, id shards.ShardID, after shards.Pos, max shards.Budget, dst []shards.Record) ([]shards.Record, error) {
	sh, err := s.shard(id)
	if err != nil {
		return dst, err
	}
	r := reading{s: s, id: id, max: max, dst: dst, start: len(dst), after: after}
	for !r.full(0) && ctx.Err() == nil {
		var refs [refsARead]ref
		n, from := sh.lookUp(r.after, refs[:])
		if n == 0 {
			break
		}
		r.after = from
		err := r.through(refs[:n])
		if err == errRecycled {
			continue // sealed or trimmed while we looked: look again
		}
		if err != nil {
			if len(r.dst) > r.start {
				return r.dst, nil
			}
			return r.dst, err
		}
	}
	return r.dst, ctx.Err()
}

// lookUp copies the refs that hold positions after p, and returns how many and the position after
// which reading goes on: p, or the horizon if that is beyond it.
func (sh *shardIndex) lookUp(p shards.Pos, refs []ref) (n int, after shards.Pos) {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	after = max(p, sh.horizon)
	return copy(refs, sh.refs[sh.find(after):]), after
}

// through reads refs until the budget is used up.
func (r *reading) through(refs []ref) error {
	ahead := 0 // refs before it were prefetched
	for i := range refs {
		if r.full(0) {
			return nil
		}
		f := &refs[i]
		if f.gen > 0 && (i > 0 || r.after+1 == f.first) { // in sequence
			to := min(i+1+rowsAhead, len(refs))
			if from := max(ahead, i+1); from < to && from-i <= rowsAhead/2+1 {
				r.s.prefetch(refs[from:to])
				ahead = to
			}
		}
		b, err := r.s.load(r.id, f, &r.one)
		if err != nil {
			return err
		}
		if err := r.take(f, &b); err != nil {
			return err
		}
	}
	return nil
}

// take reads a block from r.after on.
func (r *reading) take(f *ref, b *block) error {
	for k := b.find(r.after); r.after < f.last(); k++ {
		if k == len(b.frames) || b.frames[k].first > max(r.after+1, f.first) {
			return r.s.damage(f, b, k)
		}
		fr := &b.frames[k]
		pos := fr.first
		for body := b.body(fr); len(body) > 0; pos++ {
			e, rest, ok := decodeRecord(body)
			if !ok {
				return r.s.damage(f, b, k)
			}
			body = rest
			if pos <= r.after {
				continue
			}
			if r.full(len(e.Key) + len(e.Data)) {
				return nil
			}
			r.dst = append(r.dst, shards.Record{Pos: pos, Arrived: fr.arrival, Key: e.Key, Data: e.Data, Flags: e.Flags})
			r.size += len(e.Key) + len(e.Data)
			r.after = pos
			if r.full(0) {
				return nil
			}
		}
		if r.after < fr.last() {
			return r.s.damage(f, b, k) // fewer records than its header tells of
		}
	}
	return nil
}

// Seek implements shards.Log. All records of a frame arrived together, so frames are enough.
func (s *Store) Seek(_ context.Context, id shards.ShardID, ms int64) (shards.Pos, error) {
	sh, err := s.shard(id)
	if err != nil {
		return 0, err
	}
	for {
		p, within := sh.seek(ms)
		if within.count == 0 {
			return p, nil
		}
		frames, err := s.table(id, &within)
		if err == errRecycled {
			continue
		}
		if err != nil {
			return 0, err
		}
		if i := sort.Search(len(frames), func(i int) bool { return frames[i].arrival >= ms }); i < len(frames) {
			p = frames[i].first - 1
		}
		sh.mu.RLock()
		defer sh.mu.RUnlock()
		return max(p, sh.horizon), nil
	}
}

// seek returns the position before the first ref that begins at or after ms, and the ref before
// it if that holds several frames, some of which may be late enough.
func (sh *shardIndex) seek(ms int64) (p shards.Pos, within ref) {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	i := sort.Search(len(sh.refs), func(i int) bool { return sh.refs[i].arrival >= ms })
	p = sh.last
	if i < len(sh.refs) {
		p = max(sh.refs[i].first-1, sh.horizon)
	}
	if i > 0 && sh.refs[i-1].gen > 0 {
		within = sh.refs[i-1]
	}
	return p, within
}
