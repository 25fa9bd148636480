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
//	n/stream  n/shard       counters
const (
	publicPrefix  = "s/"
	privatePrefix = "p/"
	shardPrefix   = "h/"
	readerPrefix  = "k/"
	streamCounter = "n/stream"
	shardCounter  = "n/shard"

	opsATxn = 100
)

// Events tells observers what streams do. Nil fields are skipped.
type Events struct {
	// Expired: a reader of the host was so late that records went out of retention unread.
	Expired func(s *Stream, reader string, sh *Shard, records uint64)
	// Trim failed; it is tried again a minute later, in a private stream after the next batch.
	TrimFailed func(s *Stream, err error)
}

// Options configure Open.
type Options struct {
	Events Events
}

// Streams is all streams of a host.
type Streams struct {
	store  Store
	events Events

	create sync.Mutex // one creation or deletion at a time
	mu     sync.RWMutex
	byKey  map[string]*Stream
	byID   map[uint64]*Stream // those that are not private

	stop context.CancelFunc
	done chan struct{}
}

// Open reads the streams from the store's metadata and finishes what a crash interrupted: streams
// half created are created, streams half deleted are deleted. Close stops it; the store stays open.
func Open(ctx context.Context, store Store, o Options) (*Streams, error) {
	ss := &Streams{store: store, events: o.Events, byKey: make(map[string]*Stream), byID: make(map[uint64]*Stream), done: make(chan struct{})}
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
		if err := ss.resume(ctx, s); err != nil {
			return nil, err
		}
	}
	ctx, ss.stop = context.WithCancel(context.WithoutCancel(ctx))
	go ss.expireLoop(ctx)
	return ss, nil
}

// Close stops trimming.
func (ss *Streams) Close() error {
	ss.stop()
	<-ss.done
	return nil
}

func (ss *Streams) load(ctx context.Context, kv KV) (*Stream, error) {
	parts := strings.SplitN(kv.Key, "/", 4)
	if len(parts) != 4 {
		return nil, errs.New(errs.Internal, "the key has no account, region and name")
	}
	s := &Stream{Scope: Scope{parts[1], parts[2]}, owner: ss, readers: make(map[string]map[uint32]Pos)}
	if err := decodeMeta(kv.Value, &s.record); err != nil {
		return nil, err
	}
	s.state.Store(s.record.State)
	s.attributes.Store(&s.record.Attributes)
	l := new(layout)
	for kv, err := range ss.store.Meta().Scan(ctx, s.shardKeys()) {
		if err != nil {
			return nil, err
		}
		sh := new(Shard)
		if err := decodeMeta(kv.Value, sh); err != nil {
			return nil, err
		}
		l.shards = append(l.shards, sh)
	}
	s.layout.Store(l)
	return s, s.loadReaders(ctx)
}

func (ss *Streams) resume(ctx context.Context, s *Stream) error {
	switch s.State() {
	case Creating:
		return ss.finishCreate(ctx, s)
	case Deleting:
		return ss.finishDelete(ctx, s)
	}
	return nil
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
	at := Attributes{Mode: spec.Mode, Retention: DefaultRetention, MaxRecordSize: spec.MaxRecordSize, Tags: spec.Tags}
	if at.Mode == "" {
		at.Mode = Provisioned
	}
	if at.MaxRecordSize == 0 {
		at.MaxRecordSize = 1 << 20
	}
	s.attributes.Store(&at)
	s.record = record{Name: spec.Name, Private: spec.Private, State: Creating, CreatedMs: time.Now().UnixMilli(), Attributes: at, Initial: spec.Shards}
	if s.Initial < 1 {
		return nil, errs.New(errs.Invalid, "a stream needs at least one shard")
	}
	s.state.Store(Creating)
	s.layout.Store(new(layout))
	ss.mu.RLock()
	old := ss.byKey[s.key()]
	ss.mu.RUnlock()
	if old != nil && old.State() == Deleting { // its deletion failed half-way
		if err := ss.finishDelete(ctx, old); err != nil {
			return nil, err
		}
	} else if old != nil {
		return nil, errs.New(errs.InUse, "Stream %s under account %s already exists.", s.Name, s.Account)
	}
	if err := ss.allocate(ctx, s); err != nil {
		return nil, err
	}
	ss.add(s)
	return s, ss.finishCreate(ctx, s)
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
	v, err := encodeMeta(s.record)
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
	l := &layout{shards: make([]*Shard, s.Initial)}
	var ops []Op
	for i := range l.shards {
		sh := &Shard{Number: uint32(i), ID: s.FirstShard + ShardID(i), Start: starts[i], End: MaxHash, Created: s.CreatedMs / 1000}
		if i+1 < len(starts) {
			end := starts[i+1]
			sh.End = Hash{end.Hi, end.Lo - 1}
			if end.Lo == 0 {
				sh.End.Hi--
			}
		}
		l.shards[i] = sh
		v, err := encodeMeta(sh)
		if err != nil {
			return err
		}
		ops = append(ops, Op{Key: fmt.Sprintf("%s%08x", s.shardKeys(), sh.Number), Value: v})
	}
	if err := ss.apply(ctx, ops); err != nil {
		return err
	}
	s.layout.Store(l)
	if err := ss.store.Keeper().Create(ctx, s.shardIDs()); err != nil {
		return err
	}
	return ss.setState(ctx, s, Active)
}

// apply runs ops in transactions small enough for every store.
func (ss *Streams) apply(ctx context.Context, ops []Op) error {
	for part := range slices.Chunk(ops, opsATxn) {
		if _, err := ss.store.Meta().Txn(ctx, nil, part); err != nil {
			return err
		}
	}
	return nil
}

func (ss *Streams) setState(ctx context.Context, s *Stream, to State) error {
	s.update.Lock()
	defer s.update.Unlock()
	r := s.record
	r.State, r.Attributes = to, *s.Attributes()
	v, err := encodeMeta(r)
	if err != nil {
		return err
	}
	if err := ss.apply(ctx, []Op{{Key: s.key(), Value: v}}); err != nil {
		return err
	}
	s.state.Store(to)
	return nil
}

// Get finds a stream that is not private.
func (ss *Streams) Get(sc Scope, name string) (*Stream, error) {
	return ss.get(publicPrefix, sc, name)
}

// Private finds a private stream.
func (ss *Streams) Private(sc Scope, name string) (*Stream, error) {
	return ss.get(privatePrefix, sc, name)
}

func (ss *Streams) get(prefix string, sc Scope, name string) (*Stream, error) {
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	if s := ss.byKey[streamKey(prefix, sc, name)]; s != nil && s.State() != Deleting {
		return s, nil
	}
	return nil, errs.New(errs.NotFound, "Stream %s under account %s not found.", name, sc.Account)
}

// ByID finds a stream that is not private by its id; nil if it is gone.
func (ss *Streams) ByID(id uint64) *Stream {
	ss.mu.RLock()
	defer ss.mu.RUnlock()
	if s := ss.byID[id]; s != nil && s.State() != Deleting {
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
		if s.Scope == sc && !s.Private && s.State() != Deleting {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b *Stream) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Delete removes a stream with its records, readers and checkpoints. It is gone for clients at
// once and for good when Delete returns.
func (ss *Streams) Delete(ctx context.Context, s *Stream) error {
	ss.create.Lock()
	defer ss.create.Unlock()
	if s.State() == Deleting {
		return s.notFound()
	}
	if err := ss.setState(ctx, s, Deleting); err != nil {
		return err
	}
	return ss.finishDelete(ctx, s)
}

// finishDelete removes what belongs to a stream that is stored as DELETING, the stream last.
func (ss *Streams) finishDelete(ctx context.Context, s *Stream) error {
	ids := make([]ShardID, s.Initial) // not from the layout: it may have been half made
	for i := range ids {
		ids[i] = s.FirstShard + ShardID(i)
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
	if err := ss.apply(ctx, append(ops, Op{Key: s.key(), Delete: true})); err != nil {
		return err
	}
	ss.mu.Lock()
	delete(ss.byKey, s.key())
	delete(ss.byID, s.ID)
	ss.mu.Unlock()
	return nil
}

// expireLoop frees the space of records that are out of retention, once a minute.
func (ss *Streams) expireLoop(ctx context.Context) {
	defer close(ss.done)
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			ss.expire(ctx)
		}
	}
}

func (ss *Streams) expire(ctx context.Context) {
	ss.mu.RLock()
	var all []*Stream
	for _, s := range ss.byKey {
		if !s.Private && s.State() == Active {
			all = append(all, s)
		}
	}
	ss.mu.RUnlock()
	for _, s := range all {
		var failed error
		for _, sh := range s.Shards() {
			p, err := s.Horizon(ctx, sh)
			if err == nil {
				err = ss.store.Keeper().Trim(ctx, sh.ID, p)
			}
			failed = errors.Join(failed, err)
		}
		if failed != nil && ss.events.TrimFailed != nil && ctx.Err() == nil {
			ss.events.TrimFailed(s, failed)
		}
	}
}
