package shards

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

// Scope is the account and region that a stream lives in; names are unique within it.
type Scope struct{ Account, Region string }

// State is a stream's state, in AWS's words.
type State string

const (
	Creating State = "CREATING"
	Active   State = "ACTIVE"
	Updating State = "UPDATING" // its shards or its mode are changing; it can be used all the same
	Deleting State = "DELETING"
)

// Modes of a stream.
const (
	Provisioned = "PROVISIONED"
	OnDemand    = "ON_DEMAND"
)

// DefaultRetention is how long a stream keeps records when nothing else is asked for.
const DefaultRetention = 24 * time.Hour

// Spec is what a stream is created from.
type Spec struct {
	Name          string
	Shards        int
	Mode          string // default Provisioned
	MaxRecordSize int    // bytes of data and key, default 1 MiB
	Tags          map[string]string
	Distribution  string // Auto or ""
	WarmMiBps     int32
	// Private marks a stream that belongs to another service (a direct-put delivery stream). It
	// is not listed, has a name space of its own, and keeps records until its readers are done
	// with them instead of for a time.
	Private bool
}

// Stream is one stream. Its exported fields never change; what does is read through methods.
type Stream struct {
	Scope
	identity
	owner      *Streams
	layout     atomic.Pointer[layout]
	state      atomic.Value // State
	attributes atomic.Pointer[Attributes]

	update sync.Mutex // guards stored
	stored record     // as metadata have it
	shape  sync.Mutex // one change of the shards at a time

	Meter  Meter
	spread atomic.Uint32 // records placed so far by a stream that places them itself

	mu      sync.Mutex
	readers map[string]map[uint32]Pos // what each is done with; kept up to date for private streams only
	gone    []*Shard                  // removed since Open; for readers who were in them
}

// identity is what a stream is from its creation on.
type identity struct {
	ID         uint64  `json:"id"`
	Name       string  `json:"name"`
	Private    bool    `json:"private,omitempty"`
	CreatedMs  int64   `json:"createdMs"`
	Initial    int     `json:"initialShards"`
	FirstShard ShardID `json:"firstShard"` // the initial shards' logs are FirstShard, FirstShard+1, …
}

// record is a stream as metadata keeps it.
type record struct {
	identity
	State      State      `json:"state"`
	Attributes Attributes `json:"attributes"`
	Reshard    *reshard   `json:"reshard,omitempty"` // a change of the shards that has begun
	Target     int        `json:"target,omitempty"`  // number of shards that the stream is on its way to
	Peaks      []peak     `json:"peaks,omitempty"`   // of an on-demand stream
}

// ARN is arn:aws:kinesis:REGION:ACCOUNT:stream/NAME.
func (s *Stream) ARN() string {
	return fmt.Sprintf("arn:aws:kinesis:%s:%s:stream/%s", s.Region, s.Account, s.Name)
}

// State is the stream's present state.
func (s *Stream) State() State { return s.state.Load().(State) }

// usable reports whether records can be put and read: ACTIVE or UPDATING.
func (s *Stream) usable() bool {
	st := s.State()
	return st == Active || st == Updating
}

// Created is when the stream was created, to the millisecond.
func (s *Stream) Created() time.Time { return time.UnixMilli(s.CreatedMs) }

func (s *Stream) notFound() error {
	return errs.New(errs.NotFound, "Stream %s under account %s not found.", s.Name, s.Account)
}

// NotActive is the complaint about a stream that cannot be used or changed just now.
func (s *Stream) NotActive() error {
	return errs.New(errs.InUse, "Stream %s under account %s not ACTIVE, instead in state %s", s.Name, s.Account, s.State())
}

// PutRecord is one record to put. Explicit, if set, takes the place of the key's hash.
type PutRecord struct {
	Key      []byte
	Explicit *Hash
	Data     []byte
}

// Placed tells where a record went. With Err set the record was not stored, or (errs.Unknown) may
// or may not have been.
type Placed struct {
	Shard   *Shard
	Pos     Pos
	Arrived int64
	Err     error

	Encrypted bool // in the log
}

// Seq is the record's sequence number.
func (p *Placed) Seq() Seq { return p.Shard.Seq(p.Pos, p.Arrived) }

// scratch is the working memory of a Put, reused.
type scratch struct {
	gatherer
	shard   []*Shard
	order   []int // the records that are still to be stored, by shard
	entries []Entry
	runs    []Run
	results []Result
	cipher  []byte // of encrypted data
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// reshardWait is how long a Put waits for a shard that is just being split or merged. That takes
// milliseconds, unless the store has failed.
const reshardWait = 5 * time.Second

// Put stores records and returns when they are durable; out has one element a record. Records of
// one call that go to the same shard keep their order. The memory of recs may be reused after.
//
// A shard that was closed under the call has stored nothing; its records go to its children as soon
// as these are open.
func (s *Stream) Put(ctx context.Context, recs []PutRecord, out []Placed) {
	if !s.usable() {
		for i := range out {
			out[i] = Placed{Err: s.notFound()}
		}
		return
	}
	w := scratches.Get().(*scratch)
	defer func() {
		clear(w.entries) // let go of the callers' memory
		scratches.Put(w)
	}()
	w.order = w.order[:0]
	for i := range recs {
		w.order = append(w.order, i)
	}
	from := s.spreadFrom(len(recs))
	for {
		l := s.layout.Load()
		w.route(l, recs, from)
		if limits := s.owner.options.Throughput; limits != nil && !s.Private {
			w.admit(s, limits, recs, out)
		}
		w.group(l, recs)
		if err := s.encrypt(w); err != nil {
			w.fail(out, err)
			return
		}
		s.owner.store.Log().Append(ctx, w.runs, w.results)
		if w.place(s, out); len(w.order) == 0 {
			return
		}
		if err := s.awaitChange(ctx, l); err != nil {
			w.fail(out, err)
			return
		}
		slices.Sort(w.order) // they were shard by shard
	}
}

// fail gives the records that are not stored yet an error.
func (w *scratch) fail(out []Placed, err error) {
	for _, k := range w.order {
		out[k] = Placed{Err: err}
	}
}

// awaitChange waits until the stream has other shards than l.
func (s *Stream) awaitChange(ctx context.Context, l *layout) error {
	late := time.NewTimer(reshardWait)
	defer late.Stop()
	select {
	case <-l.changed:
		return nil
	case <-ctx.Done():
	case <-late.C:
	}
	return errs.New(errs.Unavailable, "a shard of stream %s is being split or merged, and that does not end", s.Name)
}

// place tells of each record where it went, and leaves those in order whose shard was closed.
func (w *scratch) place(s *Stream, out []Placed) {
	at, left := 0, 0
	for i := range w.runs {
		r, entries := &w.results[i], w.runs[i].Entries
		again := errors.Is(r.Err, ErrSealed)
		for j := range entries {
			k := w.order[at]
			at++
			out[k] = Placed{Shard: w.shard[k], Pos: r.First + Pos(j), Arrived: r.Arrived, Encrypted: entries[j].Flags&Encrypted != 0, Err: r.Err}
			if again {
				w.order[left] = k
				left++
			}
		}
		if r.Err == nil {
			s.meterIn(out[w.order[at-1]].Shard, entries)
		}
	}
	w.order = w.order[:left]
}

// byKey says that records are placed by the hash of their key.
const byKey = -1

// spreadFrom is byKey, or in a stream that places records itself the number of records before this
// put's: going on from there, puts of any size fill the shards evenly.
func (s *Stream) spreadFrom(n int) int {
	if s.Attributes().Distribution != Auto {
		return byKey
	}
	return int((s.spread.Add(uint32(n)) - uint32(n)) & (1<<31 - 1))
}

// route finds the shard of each record of order. from is byKey, or where to begin with placing the
// records one after the other.
func (w *scratch) route(l *layout, recs []PutRecord, from int) {
	w.shard = slices.Grow(w.shard[:0], len(recs))[:len(recs)]
	for _, i := range w.order {
		if from != byKey {
			w.shard[i] = l.open[(from+i)%len(l.open)]
			continue
		}
		key := recs[i].Explicit
		if key == nil {
			h := HashOf(recs[i].Key)
			key = &h
		}
		w.shard[i] = l.route(*key)
	}
}

// group brings the records of order together that go to the same shard, in their order, and lays a run
// over each shard's entries.
func (w *scratch) group(l *layout, recs []PutRecord) {
	w.entries, w.runs = w.entries[:0], w.runs[:0]
	if len(l.open) > 1 {
		w.gather(w.order, w.shard)
	}
	for _, k := range w.order {
		w.entries = append(w.entries, Entry{Key: recs[k].Key, Data: recs[k].Data})
	}
	for from := 0; from < len(w.order); {
		sh, to := w.shard[w.order[from]], from+1
		for to < len(w.order) && w.shard[w.order[to]] == sh {
			to++
		}
		w.runs = append(w.runs, Run{Shard: sh.ID, Entries: w.entries[from:to]})
		from = to
	}
	if cap(w.results) < len(w.runs) {
		w.results = make([]Result, len(w.runs))
	}
	w.results = w.results[:len(w.runs)]
}

// Read reads a shard's records after a position, within the stream's retention. behind is how
// many milliseconds the answer's end lies behind the shard's tip, 0 at the tip.
func (s *Stream) Read(ctx context.Context, sh *Shard, after Pos, budget Budget, dst []Record) (recs []Record, behind int64, err error) {
	if !s.usable() {
		return dst, 0, s.notFound()
	}
	log := s.owner.store.Log()
	horizon, err := s.Horizon(ctx, sh)
	if err != nil {
		return dst, 0, err
	}
	recs, err = log.Read(ctx, sh.ID, max(after, horizon), budget, dst)
	if err != nil || len(recs) == len(dst) {
		return recs, 0, err
	}
	if err := s.decrypt(sh, recs[len(dst):]); err != nil {
		return dst, 0, err
	}
	b, err := log.Bounds(ctx, sh.ID)
	if last := &recs[len(recs)-1]; last.Pos < b.Last {
		behind = max(time.Now().UnixMilli()-last.Arrived, 1) // 0 would tell readers that they are done
	}
	return recs, behind, err
}

// Ended reports whether a reader who is done with everything up to a position of a shard is done
// with the shard: it is closed, and there is nothing after that position. Who is done goes on with
// its Children.
func (s *Stream) Ended(number uint32, after Pos) bool {
	sh := s.Shard(number)
	return sh != nil && !sh.Open() && after >= sh.Last
}

// Horizon is the position before the oldest record that retention still keeps: the record exists
// until the very moment its time is over, whatever space it takes.
func (s *Stream) Horizon(ctx context.Context, sh *Shard) (Pos, error) {
	log := s.owner.store.Log()
	b, err := log.Bounds(ctx, sh.ID)
	if err != nil || s.Private {
		return b.Horizon, err
	}
	p, err := log.Seek(ctx, sh.ID, s.Attributes().horizonMs(time.Now()))
	return max(p, b.Horizon), err
}

// Seek is the position before the first record that arrived at or after a time; the tip if there
// is none.
func (s *Stream) Seek(ctx context.Context, sh *Shard, ms int64) (Pos, error) {
	return s.owner.store.Log().Seek(ctx, sh.ID, ms)
}

// Tip is the position of the newest record.
func (s *Stream) Tip(ctx context.Context, sh *Shard) (Pos, error) {
	b, err := s.owner.store.Log().Bounds(ctx, sh.ID)
	return b.Last, err
}

func idsOf(all []*Shard) []ShardID {
	ids := make([]ShardID, len(all))
	for i, sh := range all {
		ids[i] = sh.ID
	}
	return ids
}

// encodeMeta frames a metadata value: a version byte, then JSON.
func encodeMeta(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	return append([]byte{1}, b...), err
}

func decodeMeta(b []byte, v any) error {
	if len(b) == 0 || b[0] != 1 {
		return errs.New(errs.Internal, "a metadata value has an unknown version: it was written by a newer shardmill")
	}
	return json.Unmarshal(b[1:], v)
}
