package shards

import (
	"context"
	"encoding/json"
	"fmt"
	"sort"
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
	// Private marks a stream that belongs to another service (a direct-put delivery stream). It
	// is not listed, has a name space of its own, and keeps records until its readers are done
	// with them instead of for a time.
	Private bool
}

// Stream is one stream. Its fields never change; what does is read through methods.
type Stream struct {
	Scope
	record
	owner      *Streams
	layout     atomic.Pointer[layout]
	state      atomic.Value // State
	attributes atomic.Pointer[Attributes]
	update     sync.Mutex // one change of the attributes or the state at a time

	mu      sync.Mutex
	readers map[string]map[uint32]Pos // what each is done with; kept up to date for private streams only
}

// record is a stream as metadata keeps it.
type record struct {
	ID         uint64     `json:"id"`
	Name       string     `json:"name"`
	Private    bool       `json:"private,omitempty"`
	State      State      `json:"state"`
	CreatedMs  int64      `json:"createdMs"`
	Attributes Attributes `json:"attributes"`
	Initial    int        `json:"initialShards"`
	FirstShard ShardID    `json:"firstShard"` // the initial shards' logs are FirstShard, FirstShard+1, …
}

// Shard is a shard of a stream.
type Shard struct {
	Number  uint32  `json:"number"`
	ID      ShardID `json:"id"`
	Start   Hash    `json:"start"`
	End     Hash    `json:"end"`
	Created int64   `json:"created"` // seconds; part of every sequence number
}

// Seq is the sequence number of the record at a position of the shard.
func (sh *Shard) Seq(pos Pos, arrivedMs int64) Seq {
	return Seq{Created: sh.Created, Shard: sh.Number, Pos: pos, Time: max(arrivedMs/1000, sh.Created)}
}

// StartingSeq is the number that the shard's SequenceNumberRange starts with: below every record.
func (sh *Shard) StartingSeq() Seq { return sh.Seq(0, 0) }

// String is the shard's id as clients see it.
func (sh *Shard) String() string { return FormatShardID(sh.Number) }

// layout is an immutable view of a stream's shards, by number, which for the open ones is also the
// order of their hash ranges.
type layout struct{ shards []*Shard }

// route returns the open shard whose range holds h.
func (l *layout) route(h Hash) *Shard {
	i := sort.Search(len(l.shards), func(i int) bool { return h.Less(l.shards[i].Start) })
	return l.shards[i-1] // the first shard starts at 0
}

// ARN is arn:aws:kinesis:REGION:ACCOUNT:stream/NAME.
func (s *Stream) ARN() string {
	return fmt.Sprintf("arn:aws:kinesis:%s:%s:stream/%s", s.Region, s.Account, s.Name)
}

// State is the stream's present state.
func (s *Stream) State() State { return s.state.Load().(State) }

// Created is when the stream was created, to the millisecond.
func (s *Stream) Created() time.Time { return time.UnixMilli(s.CreatedMs) }

// Shards are the stream's shards by number. The slice must not be changed.
func (s *Stream) Shards() []*Shard { return s.layout.Load().shards }

// Shard finds a shard by number; nil if there is none.
func (s *Stream) Shard(number uint32) *Shard {
	if all := s.Shards(); int(number) < len(all) {
		return all[number]
	}
	return nil
}

func (s *Stream) notFound() error {
	return errs.New(errs.NotFound, "Stream %s under account %s not found.", s.Name, s.Account)
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
}

// Seq is the record's sequence number.
func (p *Placed) Seq() Seq { return p.Shard.Seq(p.Pos, p.Arrived) }

// scratch is the working memory of a Put, reused.
type scratch struct {
	shard   []*Shard
	order   []int
	entries []Entry
	runs    []Run
	results []Result
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// Put stores records and returns when they are durable; out has one element a record. Records of
// one call that go to the same shard keep their order. The memory of recs may be reused after.
func (s *Stream) Put(ctx context.Context, recs []PutRecord, out []Placed) {
	if s.State() != Active {
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
	w.group(s.layout.Load(), recs)
	s.owner.store.Log().Append(ctx, w.runs, w.results)
	at := 0
	for i := range w.runs {
		r := &w.results[i]
		for j := range w.runs[i].Entries {
			k := w.order[at]
			out[k] = Placed{Shard: w.shard[k], Pos: r.First + Pos(j), Arrived: r.Arrived, Err: r.Err}
			at++
		}
	}
}

// group sorts the records by shard, stably, and lays a run over each shard's entries.
func (w *scratch) group(l *layout, recs []PutRecord) {
	w.shard, w.order, w.entries, w.runs = w.shard[:0], w.order[:0], w.entries[:0], w.runs[:0]
	for i := range recs {
		key := recs[i].Explicit
		if key == nil {
			h := HashOf(recs[i].Key)
			key = &h
		}
		w.shard = append(w.shard, l.route(*key))
		w.order = append(w.order, i)
	}
	if len(l.shards) > 1 {
		sort.SliceStable(w.order, func(a, b int) bool { return w.shard[w.order[a]].Number < w.shard[w.order[b]].Number })
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
	if s.State() != Active {
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
	b, err := log.Bounds(ctx, sh.ID)
	if last := &recs[len(recs)-1]; last.Pos < b.Last {
		behind = max(time.Now().UnixMilli()-last.Arrived, 1) // 0 would tell readers that they are done
	}
	return recs, behind, err
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

func (s *Stream) shardIDs() []ShardID {
	all := s.Shards()
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
