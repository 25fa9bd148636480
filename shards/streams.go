package shards

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

// Metadata keys:
//
//	s/ACCOUNT/REGION/NAME   stream          p/ACCOUNT/REGION/NAME   private stream
//	h/STREAMID/NUMBER       shard           k/STREAMID/READER       checkpoint and cut
//	c/STREAMID/NAME         registered consumer
//	a/ACCOUNT/REGION        settings of an account
//	n/stream  n/shard       counters
const (
	publicPrefix  = "s/"
	privatePrefix = "p/"
	shardPrefix   = "h/"
	readerPrefix  = "k/"
	streamCounter = "n/stream"
	shardCounter  = "n/shard"
)

// Events tells observers what streams do. Nil fields are skipped.
type Events struct {
	// Expired: a reader of the host was so late that records went out of retention unread.
	Expired func(s *Stream, reader string, sh *Shard, records uint64)
	// Trim failed; it is tried again a minute later, in a private stream after the next batch.
	TrimFailed func(s *Stream, err error)
	// ScaleFailed: an on-demand stream could not be scaled; the next look tries again.
	ScaleFailed func(s *Stream, err error)
}

// Options configure Open.
type Options struct {
	Events Events
	Timing Timing
	Keys   Keys // nil: streams cannot be encrypted
	// Throughput limits what clients put into and get from each shard; nil does not.
	Throughput *Throughput
	// ScaleEvery is how often on-demand streams are scaled to their load; default one minute.
	ScaleEvery time.Duration
}

// Timing is how long streams and consumers stay in the states between. With zeros, which is the
// default, a change is complete when the call that asked for it returns.
type Timing struct {
	Create time.Duration // CREATING
	Update time.Duration // UPDATING
	Delete time.Duration // DELETING
}

// Streams is all streams of a host.
type Streams struct {
	store   Store
	options Options
	events  Events
	ciphers ciphers

	create sync.Mutex // one creation or deletion at a time
	mu     sync.RWMutex
	byKey  map[string]*Stream
	byID   map[uint64]*Stream // those that are not private

	ctx   context.Context // ends with Close
	stop  context.CancelFunc
	tasks sync.WaitGroup
}

// Open reads the streams from the store's metadata and finishes what a crash interrupted: streams
// half created are created, streams half deleted are deleted, shards half split or merged are split
// or merged. Close stops it; the store stays open.
func Open(ctx context.Context, store Store, o Options) (*Streams, error) {
	if o.ScaleEvery == 0 {
		o.ScaleEvery = time.Minute
	}
	ss := &Streams{store: store, options: o, events: o.Events, ciphers: ciphers{keys: o.Keys}, byKey: make(map[string]*Stream), byID: make(map[uint64]*Stream)}
	ss.ctx, ss.stop = context.WithCancel(context.WithoutCancel(ctx))
	for _, prefix := range []string{publicPrefix, privatePrefix} {
		for kv, err := range store.Meta().Scan(ctx, prefix) {
			if err != nil {
				return nil, err
			}
			s, err := ss.load(ctx, kv)
			if err != nil {
				return nil, fmt.Errorf("metadata key %s: %w", kv.Key, err)
			}
			ss.add(s)
		}
	}
	for _, s := range ss.byKey {
		if err := ss.settle(ctx, s); err != nil {
			return nil, err
		}
	}
	ss.every(time.Minute, ss.expire)
	ss.every(o.ScaleEvery, ss.scaleOnDemand)
	return ss, nil
}

// every runs do at intervals until Close.
func (ss *Streams) every(interval time.Duration, do func(context.Context)) {
	ss.tasks.Go(func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			select {
			case <-ss.ctx.Done():
				return
			case <-tick.C:
				do(ss.ctx)
			}
		}
	})
}

// Close stops what goes on by itself. A change that waits for its time is finished by the next Open.
func (ss *Streams) Close() error {
	ss.stop()
	ss.tasks.Wait()
	return nil
}

func (ss *Streams) load(ctx context.Context, kv KV) (*Stream, error) {
	parts := strings.SplitN(kv.Key, "/", 4)
	if len(parts) != 4 {
		return nil, errs.New(errs.Internal, "the key has no account, region and name")
	}
	s := &Stream{Scope: Scope{parts[1], parts[2]}, owner: ss, readers: make(map[string]map[uint32]Pos)}
	if err := decodeMeta(kv.Value, &s.stored); err != nil {
		return nil, err
	}
	s.identity = s.stored.identity
	s.state.Store(s.stored.State)
	at := s.stored.Attributes
	s.attributes.Store(&at)
	var all []*Shard
	for kv, err := range ss.store.Meta().Scan(ctx, s.shardKeys()) {
		if err != nil {
			return nil, err
		}
		sh := new(Shard)
		if err := decodeMeta(kv.Value, sh); err != nil {
			return nil, err
		}
		if sh.OpenedMs == 0 { // an initial shard
			sh.OpenedMs = s.CreatedMs
		}
		all = append(all, sh)
	}
	s.setLayout(all)
	return s, s.loadReaders(ctx)
}

// settle finishes whatever the stored state says that a stream is in the middle of.
func (ss *Streams) settle(ctx context.Context, s *Stream) error {
	s.shape.Lock()
	defer s.shape.Unlock()
	ss.mu.RLock()
	gone := ss.byKey[s.key()] != s
	ss.mu.RUnlock()
	if gone {
		return nil
	}
	switch s.State() {
	case Creating:
		return ss.finishCreate(ctx, s)
	case Deleting:
		return ss.finishDelete(ctx, s)
	}
	if err := ss.finishReshard(ctx, s); err != nil {
		return err
	}
	s.state.Store(Active)
	return nil
}

// finish completes a change that has been stored: at once, or, with a delay, later. One that fails
// is tried again until it succeeds; the first failure is returned if the caller still waits.
func (ss *Streams) finish(ctx context.Context, s *Stream, delay time.Duration) error {
	var err error
	if delay == 0 {
		if err = ss.settle(context.WithoutCancel(ctx), s); err == nil {
			return nil
		}
		delay = time.Second
	}
	ss.tasks.Go(func() {
		for pause := delay; ; pause = min(2*pause, time.Minute) {
			select {
			case <-ss.ctx.Done():
				return
			case <-time.After(pause):
			}
			if ss.settle(ss.ctx, s) == nil {
				return
			}
		}
	})
	return err
}

func (s *Stream) key() string {
	prefix := publicPrefix
	if s.Private {
		prefix = privatePrefix
	}
	return streamKey(prefix, s.Scope, s.Name)
}

func streamKey(prefix string, sc Scope, name string) string {
	return prefix + sc.Account + "/" + sc.Region + "/" + name
}

func (s *Stream) shardKeys() string  { return fmt.Sprintf("%s%016x/", shardPrefix, s.ID) }
func (s *Stream) readerKeys() string { return fmt.Sprintf("%s%016x/", readerPrefix, s.ID) }

// Create makes a stream and returns it when it is ACTIVE and durable. A name that is taken is
// errs.InUse.
func (ss *Streams) Create(ctx context.Context, sc Scope, spec Spec) (*Stream, error) {
	ss.create.Lock()
	defer ss.create.Unlock()
	s := &Stream{Scope: sc, owner: ss, readers: make(map[string]map[uint32]Pos)}
	at := Attributes{Mode: spec.Mode, Retention: DefaultRetention, MaxRecordSize: spec.MaxRecordSize, Tags: spec.Tags, Distribution: spec.Distribution, WarmMiBps: spec.WarmMiBps}
	if at.Mode == "" {
		at.Mode = Provisioned
	}
	if at.MaxRecordSize == 0 {
		at.MaxRecordSize = 1 << 20
	}
	s.attributes.Store(&at)
	s.identity = identity{Name: spec.Name, Private: spec.Private, CreatedMs: time.Now().UnixMilli(), Initial: spec.Shards}
	if s.Initial < 1 {
		return nil, errs.New(errs.Invalid, "a stream needs at least one shard")
	}
	s.state.Store(Creating)
	s.setLayout(nil)
	ss.mu.RLock()
	old := ss.byKey[s.key()]
	ss.mu.RUnlock()
	if old != nil && old.State() == Deleting && ss.options.Timing.Delete == 0 { // its deletion failed half-way
		if err := ss.settle(ctx, old); err != nil {
			return nil, err
		}
	} else if old != nil {
		return nil, errs.New(errs.InUse, "Stream %s under account %s already exists.", s.Name, s.Account)
	}
	if err := ss.allocate(ctx, s); err != nil {
		return nil, err
	}
	ss.add(s)
	return s, ss.finish(ctx, s, ss.delay(s, ss.options.Timing.Create))
}

// delay is how long a stream stays in a state between. Private streams do not play that game.
func (ss *Streams) delay(s *Stream, d time.Duration) time.Duration {
	if s.Private {
		return 0
	}
	return d
}

func (ss *Streams) add(s *Stream) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.byKey[s.key()] = s
	if !s.Private {
		ss.byID[s.ID] = s
	}
}

// allocate gives the stream its ids and stores it as CREATING, in one transaction.
func (ss *Streams) allocate(ctx context.Context, s *Stream) error {
	nextStream, revStream, err := ss.counter(ctx, streamCounter)
	if err != nil {
		return err
	}
	nextShard, revShard, err := ss.counter(ctx, shardCounter)
	if err != nil {
		return err
	}
	s.ID, s.FirstShard = nextStream+1, ShardID(nextShard+1)
	s.stored = record{identity: s.identity, State: Creating, Attributes: *s.Attributes()}
	v, err := encodeMeta(s.stored)
	if err != nil {
		return err
	}
	ok, err := ss.store.Meta().Txn(ctx,
		[]Cmp{{streamCounter, revStream}, {shardCounter, revShard}, {s.key(), 0}},
		[]Op{{Key: streamCounter, Value: counterValue(s.ID)},
			{Key: shardCounter, Value: counterValue(nextShard + uint64(s.Initial))},
			{Key: s.key(), Value: v}})
	if err == nil && !ok {
		err = errs.New(errs.InUse, "Stream %s under account %s already exists.", s.Name, s.Account)
	}
	return err
}

func (ss *Streams) counter(ctx context.Context, key string) (uint64, Rev, error) {
	v, rev, err := ss.store.Meta().Get(ctx, key)
	if err != nil || rev == 0 {
		return 0, 0, err
	}
	return binary.BigEndian.Uint64(v), rev, nil
}

func counterValue(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// finishCreate makes the shards of a stream that is stored as CREATING. Every step may be repeated.
func (ss *Streams) finishCreate(ctx context.Context, s *Stream) error {
	starts := splitHashSpace(s.Initial)
	all := make([]*Shard, s.Initial)
	var ops []Op
	for i := range all {
		sh := &Shard{Number: uint32(i), ID: s.FirstShard + ShardID(i), Start: starts[i], End: MaxHash, Created: s.CreatedMs / 1000, OpenedMs: s.CreatedMs}
		if i+1 < len(starts) {
			sh.End = starts[i+1].prev()
		}
		all[i] = sh
		op, err := s.shardOp(sh)
		if err != nil {
			return err
		}
		ops = append(ops, op)
	}
	if err := Apply(ctx, ss.store.Meta(), ops); err != nil {
		return err
	}
	if err := ss.store.Keeper().Create(ctx, idsOf(all)); err != nil {
		return err
	}
	if err := ss.write(ctx, s, func(r *record) { r.State = Active }); err != nil {
		return err
	}
	s.setLayout(all)
	s.state.Store(Active)
	return nil
}

// shardOp stores a shard.
func (s *Stream) shardOp(sh *Shard) (Op, error) {
	v, err := encodeMeta(sh)
	return Op{Key: s.shardKey(sh.Number), Value: v}, err
}

func (s *Stream) shardKey(number uint32) string { return fmt.Sprintf("%s%08x", s.shardKeys(), number) }

// write changes a stream's record, together with more, in one transaction.
func (ss *Streams) write(ctx context.Context, s *Stream, change func(*record), more ...Op) error {
	s.update.Lock()
	defer s.update.Unlock()
	return ss.writeLocked(ctx, s, change, more...)
}

func (ss *Streams) writeLocked(ctx context.Context, s *Stream, change func(*record), more ...Op) error {
	next := s.stored
	change(&next)
	v, err := encodeMeta(next)
	if err != nil {
		return err
	}
	if _, err := ss.store.Meta().Txn(ctx, nil, append(more, Op{Key: s.key(), Value: v})); err != nil {
		return err
	}
	s.stored = next
	return nil
}

// Get finds a stream that is not private and not being deleted.
func (ss *Streams) Get(sc Scope, name string) (*Stream, error) {
	return ss.get(publicPrefix, sc, name, (*Stream).alive)
}

// Private finds a private stream.
func (ss *Streams) Private(sc Scope, name string) (*Stream, error) {
	return ss.get(privatePrefix, sc, name, (*Stream).alive)
}

// Find is Get for callers who want to know of streams being deleted, too.
func (ss *Streams) Find(sc Scope, name string) (*Stream, error) {
	return ss.get(publicPrefix, sc, name, ss.shown)
}

func (ss *Streams) get(prefix string, sc Scope, name string, want func(*Stream) bool) (*Stream, error) {
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	if s := ss.byKey[streamKey(prefix, sc, name)]; s != nil && want(s) {
		return s, nil
	}
	return nil, errs.New(errs.NotFound, "Stream %s under account %s not found.", name, sc.Account)
}

// alive is every state but DELETING.
func (s *Stream) alive() bool { return s.State() != Deleting }

// shown reports whether clients see a stream. One that is being deleted is gone at once, unless it
// is to stay for a while.
func (ss *Streams) shown(s *Stream) bool {
	return s.alive() || ss.options.Timing.Delete > 0
}

// ByID finds a stream that is not private by its id; nil if it is gone.
func (ss *Streams) ByID(id uint64) *Stream {
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	if s := ss.byID[id]; s != nil && s.alive() {
		return s
	}
	return nil
}

// List returns the scope's streams in the order of their names.
func (ss *Streams) List(sc Scope) []*Stream {
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	var out []*Stream
	for _, s := range ss.byKey {
		if s.Scope == sc && !s.Private && ss.shown(s) {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *Stream) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Delete removes a stream with its records, readers and checkpoints. It cannot be used from then on,
// and is gone for good when Delete returns, or at the end of the time that it is to be DELETING.
// A stream that is UPDATING is errs.InUse.
func (ss *Streams) Delete(ctx context.Context, s *Stream) error {
	ss.create.Lock()
	defer ss.create.Unlock()
	was := s.State()
	switch {
	case was == Deleting:
		return s.notFound()
	case was == Updating || !s.state.CompareAndSwap(was, Deleting):
		return s.NotActive()
	}
	if err := ss.write(ctx, s, func(r *record) { r.State = Deleting }); err != nil {
		s.state.Store(was)
		return err
	}
	return ss.finish(ctx, s, ss.delay(s, ss.options.Timing.Delete))
}

// finishDelete removes what belongs to a stream that is stored as DELETING, the stream last.
func (ss *Streams) finishDelete(ctx context.Context, s *Stream) error {
	ids := idsOf(s.Shards())
	for i := range s.Initial { // its shards may have been half made
		ids = append(ids, s.FirstShard+ShardID(i))
	}
	if err := ss.store.Keeper().Delete(ctx, ids); err != nil {
		return err
	}
	var ops []Op
	for _, prefix := range []string{s.readerKeys(), s.consumerKeys(), s.shardKeys()} {
		for kv, err := range ss.store.Meta().Scan(ctx, prefix) {
			if err != nil {
				return err
			}
			ops = append(ops, Op{Key: kv.Key, Delete: true})
		}
	}
	if err := Apply(ctx, ss.store.Meta(), append(ops, Op{Key: s.key(), Delete: true})); err != nil {
		return err
	}
	ss.mu.Lock()
	delete(ss.byKey, s.key())
	delete(ss.byID, s.ID)
	ss.mu.Unlock()
	s.setLayout(s.Shards()) // wakes those who wait for a change
	return nil
}

// expire frees the space of records that are out of retention, and forgets closed shards that have
// been so for as long.
func (ss *Streams) expire(ctx context.Context) {
	for _, s := range ss.all(func(s *Stream) bool { return !s.Private && s.usable() }) {
		failed := ss.forgetShards(ctx, s)
		for _, sh := range s.Shards() {
			p, err := s.Horizon(ctx, sh)
			if err == nil {
				err = ss.store.Keeper().Trim(ctx, sh.ID, p)
			}
			failed = errors.Join(failed, err)
		}
		if failed != nil && ss.events.TrimFailed != nil && ctx.Err() == nil && s.usable() {
			ss.events.TrimFailed(s, failed)
		}
	}
}

// all is the streams that a condition holds for.
func (ss *Streams) all(want func(*Stream) bool) (out []*Stream) {
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	for _, s := range ss.byKey {
		if want(s) {
			out = append(out, s)
		}
	}
	return out
}
