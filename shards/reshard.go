package shards

import (
	"context"
	"slices"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

// Resharding: shards are split and merged while records keep coming. A change goes through four
// durable steps, each of which may be repeated, so that a crash anywhere is made good by Open:
//
//  1. the plan is stored in the stream's record: which shards end, which begin
//  2. the logs of the new shards are made
//  3. the logs of the old ones are sealed; from here on puts to them wait
//  4. the ends and the beginnings are stored, at one time for all, and the plan is removed
//
// Then the new layout takes the place of the old one, and the puts that waited go where it says.
//
// A stream on its way to another number of shards is changed step by step towards that number; what
// the next step is follows from the shards alone.

// reshard is the plan of one change.
type reshard struct {
	Close []uint32 `json:"close"`
	Open  []*Shard `json:"open"` // their times are not known yet
}

// MaxShards is how many open shards a stream may have.
const MaxShards = 10_000

// shardsAStep bounds the plan of one step, so that its last transaction fits every store: each new
// shard is one write, and so is each shard that ends.
const shardsAStep = 60

// Split cuts a shard in two; the second begins with the hash key at.
func (ss *Streams) Split(ctx context.Context, s *Stream, number uint32, at Hash) error {
	return ss.reshape(ctx, s, func(l *layout) (*reshard, error) {
		sh, err := s.eligible(l, number)
		if err != nil {
			return nil, err
		}
		if !sh.Start.Next().Less(at) || !at.Less(sh.End) {
			return nil, errs.New(errs.Invalid, "NewStartingHashKey %s used in SplitShard() on shard %s in stream %s under account %s is not both greater than one plus the shard's StartingHashKey %s and less than the shard's EndingHashKey %s.", at, sh, s.Name, s.Account, sh.Start, sh.End)
		}
		if len(l.open) >= MaxShards {
			return nil, errs.New(errs.Limit, "Stream %s under account %s has %d open shards, which is as many as a stream may have.", s.Name, s.Account, len(l.open))
		}
		r := new(reshard)
		r.split(sh, at)
		return r, nil
	})
}

// Merge makes one shard of two whose ranges meet; the first one's must be the lower.
func (ss *Streams) Merge(ctx context.Context, s *Stream, lower, upper uint32) error {
	return ss.reshape(ctx, s, func(l *layout) (*reshard, error) {
		a, err := s.eligible(l, lower)
		if err != nil {
			return nil, err
		}
		b, err := s.eligible(l, upper)
		if err != nil {
			return nil, err
		}
		if a.End == MaxHash || a.End.Next() != b.Start {
			return nil, errs.New(errs.Invalid, "Shards %s and %s in stream %s under account %s are not an adjacent pair of shards eligible for merging", a, b, s.Name, s.Account)
		}
		r := new(reshard)
		r.merge(a, b)
		return r, nil
	})
}

// eligible finds a shard that may be split or merged.
func (s *Stream) eligible(l *layout, number uint32) (*Shard, error) {
	sh := l.shard(number)
	if sh == nil {
		return nil, errs.New(errs.NotFound, "Could not find shard %s in stream %s under account %s.", FormatShardID(number), s.Name, s.Account)
	}
	if !sh.Open() {
		return nil, errs.New(errs.Invalid, "Shard %s in stream %s under account %s has already been merged or split, and thus is not eligible for merging or splitting.", sh, s.Name, s.Account)
	}
	return sh, nil
}

func (r *reshard) split(sh *Shard, at Hash) {
	r.Close = append(r.Close, sh.Number)
	r.Open = append(r.Open, &Shard{Start: sh.Start, End: at.prev(), Parents: []uint32{sh.Number}}, &Shard{Start: at, End: sh.End, Parents: []uint32{sh.Number}})
}

func (r *reshard) merge(a, b *Shard) {
	r.Close = append(r.Close, a.Number, b.Number)
	r.Open = append(r.Open, &Shard{Start: a.Start, End: b.End, Parents: []uint32{a.Number, b.Number}})
}

func (r *reshard) size() int { return len(r.Close) + len(r.Open) }

// reshape begins a change and finishes it, now or after the stream's time in UPDATING.
func (ss *Streams) reshape(ctx context.Context, s *Stream, plan func(*layout) (*reshard, error)) error {
	if !s.state.CompareAndSwap(Active, Updating) {
		return s.NotActive()
	}
	s.shape.Lock()
	r, err := plan(s.layout.Load())
	if err == nil {
		err = ss.begin(ctx, s, r)
	}
	s.shape.Unlock()
	if err != nil {
		s.state.Store(Active)
		return err
	}
	return ss.finish(ctx, s, ss.delay(s, ss.options.Timing.Update))
}

// Scale takes a stream to another number of open shards of even ranges. It returns how many it had.
func (ss *Streams) Scale(ctx context.Context, s *Stream, target int) (before int, err error) {
	if target < 1 || target > MaxShards {
		return 0, errs.New(errs.Invalid, "a stream has 1 to %d open shards, not %d", MaxShards, target)
	}
	if !s.state.CompareAndSwap(Active, Updating) {
		return 0, s.NotActive()
	}
	before = len(s.OpenShards())
	if err := ss.write(ctx, s, func(r *record) { r.Target = target }); err != nil {
		s.state.Store(Active)
		return 0, err
	}
	return before, ss.finish(ctx, s, ss.delay(s, ss.options.Timing.Update))
}

// begin stores a plan, with ids for the new shards. The caller holds s.shape.
func (ss *Streams) begin(ctx context.Context, s *Stream, r *reshard) error {
	ss.create.Lock() // ids are given out one after another
	defer ss.create.Unlock()
	last, _, err := ss.counter(ctx, shardCounter)
	if err != nil {
		return err
	}
	number := s.layout.Load().next()
	for i, sh := range r.Open {
		sh.Number, sh.ID = number+uint32(i), ShardID(last+1)+ShardID(i)
	}
	return ss.write(ctx, s, func(rec *record) { rec.Reshard = r }, Op{Key: shardCounter, Value: counterValue(last + uint64(len(r.Open)))})
}

// finishReshard completes the plan that is stored, and goes on until the stream has as many shards as
// it is to have. The caller holds s.shape.
func (ss *Streams) finishReshard(ctx context.Context, s *Stream) error {
	for {
		s.update.Lock()
		r, target := s.stored.Reshard, s.stored.Target
		s.update.Unlock()
		if r != nil {
			if err := ss.complete(ctx, s, r); err != nil {
				return err
			}
			continue
		}
		if target == 0 {
			return nil
		}
		next := stepTo(s.layout.Load(), target)
		var err error
		if next.size() == 0 {
			err = ss.write(ctx, s, func(rec *record) { rec.Target = 0 })
		} else {
			err = ss.begin(ctx, s, next)
		}
		if err != nil {
			return err
		}
	}
}

// complete carries out the steps 2 to 4 of a plan.
func (ss *Streams) complete(ctx context.Context, s *Stream, r *reshard) error {
	if err := ss.store.Keeper().Create(ctx, idsOf(r.Open)); err != nil {
		return err
	}
	l := s.layout.Load()
	var parents []*Shard
	for _, n := range r.Close {
		parents = append(parents, l.shard(n))
	}
	at, err := ss.store.Keeper().Seal(ctx, idsOf(parents))
	if err != nil {
		return err
	}
	all := slices.Clone(l.shards)
	var ops []Op
	keep := func(sh *Shard) {
		op, cannot := s.shardOp(sh)
		ops, err = append(ops, op), cannot
	}
	for _, p := range parents {
		b, err := ss.store.Log().Bounds(ctx, p.ID)
		if err != nil {
			return err
		}
		i := slices.Index(all, p)
		all[i] = p.closed(at, b.Last)
		if keep(all[i]); err != nil {
			return err
		}
	}
	for _, sh := range r.Open {
		child := *sh
		child.OpenedMs, child.Created = at, at/1000
		for _, n := range sh.Parents { // numbers of the child are above all of its parents'
			child.Created = max(child.Created, l.shard(n).Created+1)
		}
		all = append(all, &child)
		if keep(&child); err != nil {
			return err
		}
	}
	if err := ss.write(ctx, s, func(rec *record) { rec.Reshard = nil }, ops...); err != nil {
		return err
	}
	s.setLayout(all)
	return nil
}

// stepTo is the next step from a layout to a number of open shards: first shards are split at the
// bounds of the ranges to come, then the pieces between two bounds are merged, pair by pair, so that
// no shard has more than two parents. An empty step means that the layout is as wanted.
func stepTo(l *layout, target int) *reshard {
	r := new(reshard)
	bounds := snap(splitHashSpace(target), l.open)
	for _, sh := range l.open {
		var inside []Hash
		for i, _ := slices.BinarySearchFunc(bounds, sh.Start.Next(), compareHash); i < len(bounds) && !sh.End.Less(bounds[i]); i++ {
			inside = append(inside, bounds[i])
		}
		if len(inside) > 0 && r.size() < shardsAStep {
			r.split(sh, inside[len(inside)/2])
		}
	}
	if r.size() > 0 {
		return r
	}
	for i := 0; i+1 < len(l.open) && r.size() < shardsAStep; i++ {
		if _, bound := slices.BinarySearchFunc(bounds, l.open[i+1].Start, compareHash); !bound {
			r.merge(l.open[i], l.open[i+1])
			i++
		}
	}
	return r
}

// snap moves each bound to the start of a shard that is within 2^64 of it, if there is one: dividing
// the hash space by different numbers gives bounds that differ by a few keys, and no shard should
// hold just these.
func snap(bounds []Hash, open []*Shard) []Hash {
	near := func(a, b Hash) bool { // a ≤ b
		d := Hash{b.Hi - a.Hi, b.Lo - a.Lo}
		if b.Lo < a.Lo {
			d.Hi--
		}
		return d.Hi == 0
	}
	for i, b := range bounds {
		at, exact := slices.BinarySearchFunc(open, b, func(sh *Shard, b Hash) int { return compareHash(sh.Start, b) })
		switch {
		case exact:
		case at < len(open) && near(b, open[at].Start):
			bounds[i] = open[at].Start
		case at > 0 && near(open[at-1].Start, b):
			bounds[i] = open[at-1].Start
		}
	}
	return bounds
}

func compareHash(a, b Hash) int {
	switch {
	case a.Less(b):
		return -1
	case b.Less(a):
		return 1
	}
	return 0
}

// Listed are the shards that clients see at a time, ms since the epoch: those that are open and those
// that closed within the retention period.
func (s *Stream) Listed(nowMs int64) []*Shard {
	all := s.Shards()
	keep := nowMs - s.Attributes().Retention.Milliseconds()
	if !slices.ContainsFunc(all, func(sh *Shard) bool { return sh.expired(keep) }) {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(sh *Shard) bool { return sh.expired(keep) })
}

// forgotten finds a shard that was removed since Open.
func (s *Stream) forgotten(number uint32) *Shard {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sh := range s.gone {
		if sh.Number == number {
			return sh
		}
	}
	return nil
}

func (sh *Shard) expired(keepMs int64) bool { return !sh.Open() && sh.ClosedMs <= keepMs }

// forgetShards removes the shards that have expired: from the layout, from the log, from metadata.
func (ss *Streams) forgetShards(ctx context.Context, s *Stream) error {
	if !s.shape.TryLock() {
		return nil // a change is under way; the next minute will do
	}
	defer s.shape.Unlock()
	l := s.layout.Load()
	keep := s.Attributes().horizonMs(time.Now())
	var left, gone []*Shard
	var ops []Op
	for _, sh := range l.shards {
		if sh.expired(keep) {
			gone = append(gone, sh)
			ops = append(ops, Op{Key: s.shardKey(sh.Number), Delete: true})
		} else {
			left = append(left, sh)
		}
	}
	if len(gone) == 0 || s.State() == Deleting {
		return nil
	}
	s.mu.Lock()
	s.gone = append(s.gone, gone...)
	s.mu.Unlock()
	s.setLayout(left)
	if err := ss.store.Keeper().Delete(ctx, idsOf(gone)); err != nil {
		return err
	}
	return Apply(ctx, ss.store.Meta(), ops)
}
