package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// modelShard is what a shard should hold, kept in the simplest way.
type modelShard struct {
	recs          []shards.Record // all ever appended: position i+1 is recs[i]
	horizon, last shards.Pos
	sealed        bool
}

func (m *modelShard) read(after shards.Pos, b shards.Budget) (out []shards.Record) {
	size := 0
	for i := max(after, m.horizon); i < m.last; i++ {
		r := m.recs[i]
		size += len(r.Key) + len(r.Data)
		if len(out) > 0 && (len(out) >= b.Records || size > b.Bytes) {
			break
		}
		out = append(out, r)
	}
	return out
}

func (m *modelShard) seek(ms int64) shards.Pos {
	for _, r := range m.read(0, everything) {
		if r.Arrived >= ms {
			return r.Pos - 1
		}
	}
	return m.last
}

// play is one random sequence of operations on a store and on the model.
type play struct {
	t      *testing.T
	rng    *rand.Rand
	fs     vfs.FS
	s      *Store
	shards map[shards.ShardID]*modelShard
	ids    []shards.ShardID // live ones
	nextID shards.ShardID
	lastMs int64
	n      int

	sealed, compacted atomic.Int32 // chunks made
}

// The store does what the model does, through hundreds of random operations: with restarts and
// shard seals among them, and with segments so small that the sealer is always at work.
func TestRandomOperationsAgreeWithTheModel(t *testing.T) {
	t.Parallel()
	seeds := uint64(100)
	if testing.Short() {
		seeds = 10
	}
	sealed, compacted := int32(0), int32(0)
	for seed := range seeds {
		p := &play{t: t, rng: rand.New(rand.NewPCG(seed, 1)), fs: vfs.NewMem(), shards: make(map[shards.ShardID]*modelShard)}
		p.reopen()
		for range 3 {
			p.create()
		}
		for step := range 200 {
			p.step()
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, step)
			}
		}
		settle(t, p.s)
		p.checkAll()
		p.s.Close()
		sealed += p.sealed.Load()
		compacted += p.compacted.Load()
	}
	if sealed == 0 || compacted == 0 {
		t.Fatalf("%d segments were sealed and %d chunks compacted: the suite does not reach what it is for", sealed, compacted)
	}
	t.Logf("%d segments sealed, %d chunks compacted", sealed, compacted)
}

func (p *play) step() {
	switch n := p.rng.IntN(100); {
	case n < 45:
		p.append()
	case n < 75:
		p.read(p.pick())
	case n < 83:
		p.seek(p.pick())
	case n < 93:
		p.trim(p.pick())
	case n < 94:
		p.delete(p.pick())
		p.create()
	case n < 95:
		p.seal(p.pick())
		p.create()
	case n < 98:
		p.reopen()
	case n < 99:
		settle(p.t, p.s)
	default:
		p.checkAll()
	}
}

func (p *play) pick() shards.ShardID { return p.ids[p.rng.IntN(len(p.ids))] }

func (p *play) create() {
	p.nextID++
	if err := p.s.Create(p.t.Context(), []shards.ShardID{p.nextID}); err != nil {
		p.t.Errorf("create: %v", err)
	}
	p.ids = append(p.ids, p.nextID)
	p.shards[p.nextID] = new(modelShard)
}

func (p *play) delete(id shards.ShardID) {
	if err := p.s.Delete(p.t.Context(), []shards.ShardID{id}); err != nil {
		p.t.Errorf("delete: %v", err)
	}
	delete(p.shards, id)
	for i := range p.ids {
		if p.ids[i] == id {
			p.ids = append(p.ids[:i], p.ids[i+1:]...)
			break
		}
	}
	if _, err := p.s.Read(p.t.Context(), id, 0, everything, nil); !errs.Is(err, errs.NotFound) {
		p.t.Errorf("a deleted shard reads as %v", err)
	}
}

func (p *play) seal(id shards.ShardID) {
	at, err := p.s.Seal(p.t.Context(), []shards.ShardID{id})
	if err != nil || at < p.lastMs {
		p.t.Errorf("seal of shard %d: at %d, the last arrival was %d; %v", id, at, p.lastMs, err)
	}
	p.shards[id].sealed = true
}

func (p *play) reopen() {
	if p.s != nil {
		if err := p.s.Close(); err != nil {
			p.t.Errorf("close: %v", err)
		}
	}
	s, err := Open("data", Options{FS: p.fs, SegmentSize: []int64{256, 4 << 10, 64 << 10}[p.rng.IntN(3)], TailBytes: []int64{1, 4 << 10, 1 << 20}[p.rng.IntN(3)],
		Events: Events{Sealed: func(compacted bool, _, _ int64) {
			if compacted {
				p.compacted.Add(1)
			} else {
				p.sealed.Add(1)
			}
		}}})
	if err != nil {
		p.t.Fatalf("open: %v", err)
	}
	p.s = s
}

func (p *play) append() {
	var runs []shards.Run
	for range 1 + p.rng.IntN(4) {
		run := shards.Run{Shard: p.pick()}
		if p.rng.IntN(20) == 0 {
			run.Shard = 1 << 40 // does not exist
		}
		for range p.rng.IntN(5) {
			p.n++
			run.Entries = append(run.Entries, shards.Entry{
				Key:  bytes.Repeat([]byte{'k'}, p.rng.IntN(9)),
				Data: fmt.Appendf(bytes.Repeat([]byte{'x'}, p.rng.IntN(1+1<<p.rng.IntN(11))), "%d", p.n)})
		}
		runs = append(runs, run)
	}
	res := make([]shards.Result, len(runs))
	p.s.Append(p.t.Context(), runs, res)
	for i, run := range runs {
		m := p.shards[run.Shard]
		if m == nil {
			if !errs.Is(res[i].Err, errs.NotFound) {
				p.t.Errorf("append to an unknown shard: %v", res[i].Err)
			}
			continue
		}
		if m.sealed {
			if !errors.Is(res[i].Err, shards.ErrSealed) {
				p.t.Errorf("append to a sealed shard: %v", res[i].Err)
			}
			continue
		}
		if res[i].Err != nil || len(run.Entries) > 0 && res[i].First != m.last+1 {
			p.t.Errorf("append: at %d, want %d; %v", res[i].First, m.last+1, res[i].Err)
		}
		if len(run.Entries) > 0 && res[i].Arrived < p.lastMs {
			p.t.Errorf("arrival went back from %d to %d", p.lastMs, res[i].Arrived)
		}
		p.lastMs = max(p.lastMs, res[i].Arrived)
		for _, e := range run.Entries {
			m.last++
			m.recs = append(m.recs, shards.Record{Pos: m.last, Arrived: res[i].Arrived, Key: e.Key, Data: e.Data})
		}
	}
}

func (p *play) compare(id shards.ShardID, after shards.Pos, b shards.Budget) {
	got, err := p.s.Read(p.t.Context(), id, after, b, nil)
	want := p.shards[id].read(after, b)
	if err != nil || len(got) != len(want) {
		p.t.Errorf("read of shard %d after %d, %+v: %d records, want %d; %v", id, after, b, len(got), len(want), err)
		return
	}
	for i := range got {
		g, w := &got[i], &want[i]
		if g.Pos != w.Pos || g.Arrived != w.Arrived || !bytes.Equal(g.Key, w.Key) || !bytes.Equal(g.Data, w.Data) {
			p.t.Errorf("read of shard %d after %d: record %d is %+v, want %+v", id, after, i, g, w)
			return
		}
	}
}

func (p *play) read(id shards.ShardID) {
	m := p.shards[id]
	p.compare(id, shards.Pos(p.rng.Uint64N(uint64(m.last)+2)), shards.Budget{Records: p.rng.IntN(80), Bytes: p.rng.IntN(4000)})
}

func (p *play) seek(id shards.ShardID) {
	m := p.shards[id]
	ms := p.lastMs + int64(p.rng.IntN(3)) - 1
	if len(m.recs) > 0 {
		ms = m.recs[p.rng.IntN(len(m.recs))].Arrived + int64(p.rng.IntN(3)) - 1
	}
	if got, err := p.s.Seek(p.t.Context(), id, ms); err != nil || got != m.seek(ms) {
		p.t.Errorf("seek in shard %d: %d, want %d; %v", id, got, m.seek(ms), err)
	}
}

func (p *play) trim(id shards.ShardID) {
	m := p.shards[id]
	to := shards.Pos(p.rng.Uint64N(uint64(m.last) + 3))
	if err := p.s.Trim(p.t.Context(), id, to); err != nil {
		p.t.Errorf("trim: %v", err)
	}
	m.horizon = max(m.horizon, min(to, m.last))
}

func (p *play) checkAll() {
	for _, id := range p.ids {
		m := p.shards[id]
		if b, err := p.s.Bounds(p.t.Context(), id); err != nil || b != (shards.Bounds{Horizon: m.horizon, Last: m.last, Sealed: m.sealed}) {
			p.t.Errorf("bounds of shard %d: %+v, want %d to %d; %v", id, b, m.horizon, m.last, err)
		}
		p.compare(id, 0, everything)
	}
}
