// Package eventsource is Lambda's event source mappings: it hands the records of a stream to a
// function, in batches, with Lambda's rules for what happens when the function fails.
//
// A mapping reads each shard of its stream on ParallelizationFactor lanes. The lane of a record
// follows from its partition key, so the order of each key is kept; lanes read, batch, fail and
// retry without regard to each other. The lanes of a shard begin when those of its parents are
// done, so the order holds over splits and merges, too.
//
// A lane cuts a batch (form.go), invokes the function with it (lane.go) and stores how far it is.
// A batch that fails is tried again as it is, cut in half, given up to the failure destination, all
// as the mapping's Config says; what is left of it is stored after each step, so that a restart goes
// on there. Delivery is at least once: a crash between the function's answer and the write of the
// checkpoint repeats the batch.
//
// Consume, the loop of shards that serves delivery streams, is not used here: it cuts batches over
// all shards, and one batch at a time; a mapping's shards must not wait for each other.
//
//	m/UUID           a mapping            m/UUID/SHARD     its lanes in a shard
package eventsource

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/shards"
)

// Functions finds user functions; plugins.Registry is one.
type Functions interface {
	Function(nameOrARN string) (fn runtime.Function, release func(), err error)
}

// Destination takes what a mapping gives up. Nil is returned only when that is durable; it may get
// the same failure again after a crash.
type Destination interface {
	Deliver(ctx context.Context, f *Failure) error
}

// Options configure Open. Streams, Meta and Functions are required.
type Options struct {
	Streams   *shards.Streams
	Meta      shards.Meta
	Functions Functions
	// Destination finds the failure destination of an ARN. One that cannot be is errs.Invalid, with a
	// sentence for the user.
	Destination func(arn string) (Destination, error)
	Events      Events
}

// Events tells observers what mappings do. Nil fields are skipped.
type Events struct {
	Invoked   func(m *Mapping, records int, age time.Duration, functionError string)
	Discarded func(m *Mapping, f *Failure)                          // given up, and taken by the destination if there is one
	Skipped   func(m *Mapping, shard *shards.Shard, records uint64) // went out of retention before they were read
	Failed    func(m *Mapping, err error)                           // it cannot go on just now, and tries again
}

// State is a mapping's state, in Lambda's words.
type State string

const (
	Enabled  State = "Enabled"
	Disabled State = "Disabled"
	Deleting State = "Deleting"
)

// Mapping is one event source mapping.
type Mapping struct {
	owner *Mappings
	UUID  string

	mu       sync.Mutex
	record   record
	deleted  bool
	result   string // LastProcessingResult
	stop     context.CancelFunc
	finished chan struct{} // closed when the run that stop stops has ended
	drain    chan struct{} // closed to let a run end after the invocations under way
}

// record is a mapping as metadata keep it.
type record struct {
	Config
	FunctionARN string `json:"functionArn"`
	StreamID    uint64 `json:"streamId"` // the positions are those of this stream
	ModifiedMs  int64  `json:"modifiedMs"`
}

// Mappings is all mappings of a host.
type Mappings struct {
	o    Options
	ctx  context.Context
	stop context.CancelFunc
	runs sync.WaitGroup

	mu  sync.Mutex
	all map[string]*Mapping
}

const prefix = "m/"

// Open reads the mappings and starts the enabled ones. Close stops them.
func Open(ctx context.Context, o Options) (*Mappings, error) {
	ms := &Mappings{o: o, all: make(map[string]*Mapping)}
	ms.ctx, ms.stop = context.WithCancel(context.WithoutCancel(ctx))
	for kv, err := range o.Meta.Scan(ctx, prefix) {
		if err != nil {
			return nil, err
		}
		id := strings.TrimPrefix(kv.Key, prefix)
		if strings.Contains(id, "/") {
			continue
		}
		m := &Mapping{owner: ms, UUID: id, result: neverRan}
		if err := json.Unmarshal(kv.Value, &m.record); err != nil {
			return nil, fmt.Errorf("metadata key %s: %w", kv.Key, err)
		}
		ms.all[id] = m
	}
	for _, m := range ms.all {
		if m.record.Enabled {
			m.start()
		}
	}
	return ms, nil
}

// Close stops all mappings. Invocations under way are given up, and come again after the next Open.
func (ms *Mappings) Close() error {
	ms.stop()
	ms.runs.Wait()
	return nil
}

// Create makes a mapping. The positions of LATEST are taken now, whenever the first record comes.
func (ms *Mappings) Create(ctx context.Context, c Config, functionARN string) (*Mapping, error) {
	if err := c.check(ms.o.Destination); err != nil {
		return nil, err
	}
	s, err := ms.stream(c.EventSourceARN)
	if err != nil {
		return nil, err
	}
	ms.mu.Lock()
	defer ms.mu.Unlock()
	for _, m := range ms.all {
		if v := m.View(); v.EventSourceARN == c.EventSourceARN && v.FunctionARN == functionARN {
			return nil, errs.New(errs.Conflict, `The event source arn (" %s ") and function (" %s ") provided mapping already exists. Please update or delete the existing mapping with UUID %s`, c.EventSourceARN, nameOf(functionARN), m.UUID)
		}
	}
	m := &Mapping{owner: ms, UUID: uuid.NewString(), result: neverRan}
	m.record = record{Config: c, FunctionARN: functionARN, StreamID: s.ID, ModifiedMs: time.Now().UnixMilli()}
	if err := m.begin(ctx, s); err != nil {
		return nil, err
	}
	ms.all[m.UUID] = m
	if c.Enabled {
		m.start()
	}
	return m, nil
}

// nameOf is the function's name in its ARN.
func nameOf(arn string) string {
	parts := strings.Split(arn, ":")
	if len(parts) < 7 {
		return arn
	}
	return parts[6]
}

// begin stores a mapping with where it starts in each shard, the mapping last: what lies under a UUID
// that is not there was never created.
func (m *Mapping) begin(ctx context.Context, s *shards.Stream) error {
	var ops []shards.Op
	for _, sh := range s.Shards() {
		pos, inScope, err := m.record.startIn(ctx, s, sh)
		if err != nil {
			return err
		}
		st := &shardState{Lanes: make([]laneState, m.record.lanes())}
		for i := range st.Lanes {
			st.Lanes[i] = laneState{Pos: pos, Done: !inScope}
		}
		op, err := m.shardOp(sh.Number, st)
		if err != nil {
			return err
		}
		ops = append(ops, op)
	}
	v, err := json.Marshal(&m.record)
	if err != nil {
		return err
	}
	return shards.Apply(ctx, m.owner.o.Meta, append(ops, shards.Op{Key: prefix + m.UUID, Value: v}))
}

func (m *Mapping) shardKey(number uint32) string {
	return fmt.Sprintf("%s%s/%08x", prefix, m.UUID, number)
}

func (m *Mapping) shardOp(number uint32, st *shardState) (shards.Op, error) {
	v, err := json.Marshal(st)
	return shards.Op{Key: m.shardKey(number), Value: v}, err
}

// stream finds the stream of an event source: the stream itself or a registered consumer of it.
func (ms *Mappings) stream(arn string) (*shards.Stream, error) {
	streamARN, _, _ := strings.Cut(arn, "/consumer/")
	p := strings.SplitN(streamARN, ":", 6)
	if len(p) != 6 || p[2] != "kinesis" || !strings.HasPrefix(p[5], "stream/") {
		return nil, errs.New(errs.Invalid, "Unrecognized event source.")
	}
	s, err := ms.o.Streams.Get(shards.Scope{Region: p[3], Account: p[4]}, strings.TrimPrefix(p[5], "stream/"))
	if errs.Is(err, errs.NotFound) {
		err = errs.New(errs.Invalid, "Stream not found: %s", arn)
	}
	return s, err
}

// Get finds a mapping.
func (ms *Mappings) Get(id string) (*Mapping, error) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if m := ms.all[id]; m != nil {
		return m, nil
	}
	return nil, errs.New(errs.NotFound, "The resource you requested does not exist.")
}

// List returns all mappings by UUID.
func (ms *Mappings) List() []*Mapping {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	out := make([]*Mapping, 0, len(ms.all))
	for _, m := range ms.all {
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b *Mapping) int { return strings.Compare(a.UUID, b.UUID) })
	return out
}

// View is a mapping as it is at a moment.
type View struct {
	Config
	FunctionARN string
	State       State
	Result      string // LastProcessingResult
	Modified    time.Time
}

// View is what the mapping is now.
func (m *Mapping) View() View {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := Disabled
	switch {
	case m.deleted:
		st = Deleting
	case m.record.Enabled:
		st = Enabled
	}
	return View{m.record.Config, m.record.FunctionARN, st, m.result, time.UnixMilli(m.record.ModifiedMs)}
}

// Update changes a mapping's configuration. The batches under way end under the old one. Where it
// starts cannot be changed.
func (m *Mapping) Update(ctx context.Context, functionARN string, change func(*Config) error) error {
	ms := m.owner
	ms.mu.Lock() // one change at a time
	defer ms.mu.Unlock()
	if ms.all[m.UUID] != m {
		return errs.New(errs.NotFound, "The resource you requested does not exist.")
	}
	m.mu.Lock()
	next := m.record
	m.mu.Unlock()
	if err := change(&next.Config); err != nil {
		return err
	}
	if err := next.check(ms.o.Destination); err != nil {
		return err
	}
	next.FunctionARN, next.ModifiedMs = functionARN, time.Now().UnixMilli()
	v, err := json.Marshal(&next)
	if err != nil {
		return err
	}
	m.halt(ctx)
	err = shards.Apply(ctx, ms.o.Meta, []shards.Op{{Key: prefix + m.UUID, Value: v}})
	m.mu.Lock()
	if err == nil {
		m.record = next
	}
	on := m.record.Enabled
	m.mu.Unlock()
	if on {
		m.start()
	}
	return err
}

// Delete removes a mapping and its checkpoints. Invocations under way are given up.
func (m *Mapping) Delete(ctx context.Context) error {
	ms := m.owner
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if ms.all[m.UUID] != m {
		return errs.New(errs.NotFound, "The resource you requested does not exist.")
	}
	m.mu.Lock()
	m.deleted = true
	m.mu.Unlock()
	m.kill()
	places, err := m.forgetPlaces(ctx)
	if err != nil {
		return err
	}
	ops := append([]shards.Op{{Key: prefix + m.UUID, Delete: true}}, places...) // the mapping first: without it the rest means nothing
	if err := shards.Apply(ctx, ms.o.Meta, ops); err != nil {
		return err
	}
	delete(ms.all, m.UUID)
	return nil
}

// forgetPlaces removes the mapping's places in shards.
func (m *Mapping) forgetPlaces(ctx context.Context) (ops []shards.Op, err error) {
	for kv, err := range m.owner.o.Meta.Scan(ctx, prefix+m.UUID+"/") {
		if err != nil {
			return nil, err
		}
		ops = append(ops, shards.Op{Key: kv.Key, Delete: true})
	}
	return ops, nil
}
