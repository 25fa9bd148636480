package shards

import (
	"bytes"
	"context"
	"math/rand/v2"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

// Policy says when a batch is cut: at the first of Records, Bytes (of data) or Wait since the
// oldest record arrived. Wait 0 cuts as soon as anything is there. Version is bound to the cut: a
// batch is replayed under the version it was cut with.
type Policy struct {
	Records int
	Bytes   int64
	Wait    time.Duration
	Version string
}

// Handler processes a batch. Nil means done for good: the reader's checkpoint moves behind it. With
// an error the same batch comes again after a pause, for as long as it takes.
type Handler func(ctx context.Context, b *Batch) error

// Reader consumes a stream. Its name is the identity of its checkpoint.
type Reader struct {
	Name   string
	Policy func() Policy
	Handle Handler
	Failed func(b *Batch, attempt int, err error) // told of every error of Handle; may be nil
}

// Start says where a new reader begins.
type Start uint8

const (
	FromHorizon Start = iota // the oldest record that is kept
	FromLatest               // after the newest record at the time of Register
)

// Range is a piece of one shard: the records after After, up to and with Through.
type Range struct {
	Shard   uint32 `json:"shard"`
	After   Pos    `json:"after"`
	Through Pos    `json:"through"`
}

// cut is a batch's bounds as metadata keeps them, stored before the batch is first handed out.
type cut struct {
	Number   uint64  `json:"number"`
	Ranges   []Range `json:"ranges"`
	Records  int     `json:"records"`
	Bytes    int64   `json:"bytes"`
	OldestMs int64   `json:"oldestMs"`
	Version  string  `json:"version"`
}

// readerState is a reader in metadata: checkpoint and cut move together.
type readerState struct {
	Positions map[uint32]Pos `json:"positions"` // by shard number: everything up to here is done
	Cut       *cut           `json:"cut,omitempty"`
	Cuts      uint64         `json:"cuts"` // cuts made so far
}

// Batch is a piece of a stream cut for a reader. Its bounds were made durable before it was first
// handed out: after a crash the very same batch comes again, with the same number and content.
type Batch struct {
	Stream  *Stream
	Reader  string
	Number  uint64 // counts the reader's batches from 1
	Ranges  []Range
	Records int
	Bytes   int64
	Oldest  time.Time // arrival of the oldest record
	Version string    // of the policy it was cut by
}

const readAhead = 1 << 20 // bytes read from the log at a time

// Each calls fn with the batch's records, shard by shard, in order. The records' memory is shared
// and immutable.
func (b *Batch) Each(ctx context.Context, fn func(sh *Shard, recs []Record) error) error {
	s := b.Stream
	for _, r := range b.Ranges {
		sh := s.Shard(r.Shard)
		if sh == nil { // closed for so long that it was forgotten
			if s.owner.events.Expired != nil {
				s.owner.events.Expired(s, b.Reader, &Shard{Number: r.Shard}, uint64(r.Through-r.After))
			}
			continue
		}
		for at := r.After; at < r.Through; {
			recs, err := s.owner.store.Log().Read(ctx, sh.ID, at, Budget{Records: int(r.Through - at), Bytes: readAhead}, nil)
			if errs.Is(err, errs.NotFound) && s.Shard(r.Shard) == nil && s.usable() {
				recs, err = nil, nil
			}
			if err != nil {
				return err
			}
			for len(recs) > 0 && recs[len(recs)-1].Pos > r.Through {
				recs = recs[:len(recs)-1]
			}
			if gone := lost(at, r.Through, recs); gone > 0 && s.owner.events.Expired != nil {
				s.owner.events.Expired(s, b.Reader, sh, gone)
			}
			if len(recs) == 0 {
				break // trimmed to beyond the range
			}
			if err := s.decrypt(sh, recs); err != nil {
				return err
			}
			if err := fn(sh, recs); err != nil {
				return err
			}
			at = recs[len(recs)-1].Pos
		}
	}
	return nil
}

// lost counts the records between at and the first one read, which retention took.
func lost(at, through Pos, recs []Record) uint64 {
	if len(recs) == 0 {
		return uint64(through - at)
	}
	return uint64(recs[0].Pos - at - 1)
}

// Consume hands the stream's records to r.Handle, batch after batch, until ctx ends, the stream is
// deleted (errs.NotFound), or the store fails. The records of a shard come after all records of the
// shards that it was split or merged from, so that the order of each partition key is kept. After Unregister it ends with errs.Conflict when it
// next cuts a batch or is done with one. Only one Consume may run for a reader: a second one ends
// with errs.Conflict, too.
func (s *Stream) Consume(ctx context.Context, r Reader) error {
	if !s.usable() {
		return s.notFound()
	}
	c := &consumer{stream: s, reader: r, wake: make(chan struct{}, 1)}
	v, rev, err := s.owner.store.Meta().Get(ctx, s.readerKey(r.Name))
	if err != nil {
		return err
	}
	if rev == 0 {
		return errs.New(errs.NotFound, "stream %s has no reader %s", s.Name, r.Name)
	}
	if err := decodeMeta(v, &c.state); err != nil {
		return err
	}
	c.rev = rev
	c.follow()
	defer func() { c.unwatch() }()
	s.trimBehind(ctx, r.Name, c.state.Positions) // the last trim may have been forgotten
	for {
		if c.state.Cut == nil {
			cut, err := c.nextCut(ctx)
			if err != nil {
				return err
			}
			c.state.Cut = cut
			c.state.Cuts = cut.Number
			if err := c.save(ctx); err != nil {
				return err
			}
		}
		if err := c.handle(ctx); err != nil {
			return err
		}
		for _, r := range c.state.Cut.Ranges {
			c.state.Positions[r.Shard] = r.Through
		}
		c.state.Cut = nil
		if err := c.save(ctx); err != nil {
			return err
		}
		s.trimBehind(ctx, r.Name, c.state.Positions)
	}
}

// consumer is one run of Consume.
type consumer struct {
	stream *Stream
	reader Reader
	state  readerState
	rev    Rev

	layout  *layout // the shards it reads
	wake    chan struct{}
	unwatch func()
}

// follow takes up the stream's present shards. Where the reader is in shards that are gone is
// forgotten; what it has not read of them has expired.
func (c *consumer) follow() {
	s := c.stream
	c.layout = s.layout.Load()
	if c.unwatch != nil {
		c.unwatch()
	}
	c.unwatch = s.owner.store.Log().Notify(idsOf(c.layout.shards), c.wake)
	if !s.usable() {
		return
	}
	for n, pos := range c.state.Positions {
		if c.layout.shard(n) != nil {
			continue
		}
		if sh := s.forgotten(n); sh != nil && sh.Last > pos && s.owner.events.Expired != nil {
			s.owner.events.Expired(s, c.reader.Name, sh, uint64(sh.Last-pos))
		}
		delete(c.state.Positions, n)
	}
}

func (c *consumer) save(ctx context.Context) error {
	key := c.stream.readerKey(c.reader.Name)
	v, err := encodeMeta(c.state)
	if err != nil {
		return err
	}
	meta := c.stream.owner.store.Meta()
	ok, err := meta.Txn(ctx, []Cmp{{key, c.rev}}, []Op{{Key: key, Value: v}})
	if err != nil {
		return err
	}
	if !ok {
		return c.conflict()
	}
	stored, rev, err := meta.Get(ctx, key)
	if err == nil && !bytes.Equal(stored, v) { // removed or registered anew since
		err = c.conflict()
	}
	c.rev = rev
	return err
}

func (c *consumer) conflict() error {
	return errs.New(errs.Conflict, "reader %s of stream %s was removed, or is consumed twice", c.reader.Name, c.stream.Name)
}

// handle runs the handler on the present cut until it succeeds or ctx ends.
func (c *consumer) handle(ctx context.Context) error {
	k := c.state.Cut
	b := &Batch{Stream: c.stream, Reader: c.reader.Name, Number: k.Number, Ranges: k.Ranges, Records: k.Records,
		Bytes: k.Bytes, Oldest: time.UnixMilli(k.OldestMs), Version: k.Version}
	pause := 100 * time.Millisecond
	for attempt := 1; ; attempt++ {
		err := c.reader.Handle(ctx, b)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if c.reader.Failed != nil {
			c.reader.Failed(b, attempt, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, 30*time.Second)
	}
}

// nextCut waits until the policy asks for a batch and returns its bounds.
func (c *consumer) nextCut(ctx context.Context) (*cut, error) {
	t := &tally{seen: make(map[uint32]Pos)}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		if c.layout != c.stream.layout.Load() {
			c.follow()
		}
		p := c.reader.Policy()
		if err := c.count(ctx, t, p); err != nil {
			return nil, err
		}
		due := time.UnixMilli(t.oldest).Add(p.Wait)
		if t.records > 0 && (t.full(p) || !time.Now().Before(due)) {
			return c.bounds(t, p), nil
		}
		timer.Stop()
		var ring <-chan time.Time
		if t.records > 0 {
			timer.Reset(time.Until(due))
			ring = timer.C
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-c.wake:
		case <-c.layout.changed:
		case <-ring:
		}
	}
}

// tally counts what a cut would hold. It keeps no records: they are read again when the batch is
// handed out, so that a long interval costs no memory.
type tally struct {
	seen    map[uint32]Pos // counted up to here, where it differs from the checkpoint
	recs    []Record       // memory for reading
	records int
	bytes   int64
	oldest  int64
}

func (t *tally) full(p Policy) bool {
	return p.Records > 0 && t.records >= p.Records || p.Bytes > 0 && t.bytes >= p.Bytes
}

// count adds what has arrived to t, up to the policy's size. Each cut starts with another shard, so
// that a backlog of one does not keep the others waiting. Shards whose parents are not counted to
// their ends yet are left out; when a parent came to its end meanwhile, they are looked at again.
func (c *consumer) count(ctx context.Context, t *tally, p Policy) error {
	all := c.layout.shards
	if len(all) == 0 {
		return c.stream.notFound()
	}
	first := int(c.state.Cuts % uint64(len(all)))
	for again := true; again && !t.full(p); {
		before, leftOut := t.records, false
		empty := make(map[uint32]bool)
		for i := range all {
			sh := all[(first+i)%len(all)]
			if !c.parentsCounted(t, sh, empty) {
				leftOut = true
				continue
			}
			if err := c.countShard(ctx, t, p, sh); err != nil {
				return err
			}
		}
		again = leftOut && t.records > before
	}
	return nil
}

// at is how far the reader will be in a shard after the batch that t counts.
func (c *consumer) at(t *tally, n uint32) Pos { return max(t.seen[n], c.state.Positions[n]) }

// parentsCounted reports whether the batches up to the one that t counts hold everything of the shards
// that sh comes from, and of those that they come from. That something was read of a shard says so of
// its parents; only those that never held anything are asked for theirs, and remembered in empty.
func (c *consumer) parentsCounted(t *tally, sh *Shard, empty map[uint32]bool) bool {
	return c.layout.parentsDone(sh, func(parent *Shard) bool {
		if parent.Last > 0 {
			return c.at(t, parent.Number) >= parent.Last
		}
		done, known := empty[parent.Number]
		if !known {
			done = c.parentsCounted(t, parent, empty)
			empty[parent.Number] = done
		}
		return done
	})
}

func (c *consumer) countShard(ctx context.Context, t *tally, p Policy, sh *Shard) error {
	for at := c.at(t, sh.Number); !t.full(p); {
		left := Budget{Records: 1 << 16, Bytes: readAhead}
		if p.Records > 0 {
			left.Records = min(left.Records, p.Records-t.records)
		}
		if p.Bytes > 0 {
			left.Bytes = int(min(int64(left.Bytes), p.Bytes-t.bytes))
		}
		recs, err := c.stream.owner.store.Log().Read(ctx, sh.ID, at, left, t.recs[:0])
		t.recs = recs
		if err != nil {
			if errs.Is(err, errs.NotFound) && c.stream.Shard(sh.Number) == nil && c.stream.usable() {
				return nil
			}
			return err
		}
		if len(recs) == 0 {
			return nil
		}
		t.add(recs)
		at = recs[len(recs)-1].Pos
		t.seen[sh.Number] = at
	}
	return nil
}

// add counts records. An arrival in the future, of before the clock was put back, counts as now: a
// batch must not wait until then.
func (t *tally) add(recs []Record) {
	now := time.Now().UnixMilli()
	for i := range recs {
		t.bytes += int64(dataSize(recs[i].Flags, recs[i].Data))
		if arrived := min(recs[i].Arrived, now); t.oldest == 0 || arrived < t.oldest {
			t.oldest = arrived
		}
	}
	t.records += len(recs)
}

func (c *consumer) bounds(t *tally, p Policy) *cut {
	k := &cut{Number: c.state.Cuts + 1, Records: t.records, Bytes: t.bytes, OldestMs: t.oldest, Version: p.Version}
	for _, sh := range c.layout.shards { // by number: parents first, and replays see the same order
		if to := t.seen[sh.Number]; to > c.state.Positions[sh.Number] {
			k.Ranges = append(k.Ranges, Range{sh.Number, c.state.Positions[sh.Number], to})
		}
	}
	return k
}
