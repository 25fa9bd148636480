package firehose_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
)

var here = shards.Scope{Account: "000000000000", Region: "us-east-1"}

const functionARN = "arn:aws:lambda:us-east-1:000000000000:function:f"

// world is a host's delivery room over a real store on a file system in memory. What lies outside
// of a host stays when it restarts: the disk, the far side, the functions.
type world struct {
	t         *testing.T
	fs        vfs.FS
	sink      *sink
	functions *functions
	spool     string
	segment   int64
	hinder    func(step string) error // asked before every write of metadata and of the shards' list

	store      *journal.Store
	streams    *shards.Streams
	deliveries *firehose.DeliveryStreams
	log        events
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, fs: vfs.NewMem(), sink: newSink(), functions: &functions{byARN: make(map[string]runtime.Function)}, spool: t.TempDir(), segment: 256 << 10}
}

// open starts a host.
func (w *world) open() {
	w.t.Helper()
	if err := w.tryOpen(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) tryOpen() (err error) {
	if w.store, err = journal.Open("data", journal.Options{FS: w.fs, SegmentSize: w.segment}); err != nil {
		return err
	}
	store := breakable{w.store, w}
	if w.streams, err = shards.Open(w.t.Context(), store, shards.Options{}); err != nil {
		return errors.Join(err, w.store.Close())
	}
	w.deliveries, err = firehose.Open(w.t.Context(), firehose.Options{Streams: w.streams, Meta: store.Meta(),
		Functions: w.functions, Open: w.sink.open, SpoolDir: w.spool, Events: w.log.events()})
	if err != nil {
		w.streams.Close()
		return errors.Join(err, w.store.Close())
	}
	return nil
}

// close stops the host in peace.
func (w *world) close() { w.stop(context.Background()) }

// kill stops the host without a moment for the batches under way.
func (w *world) kill() {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	w.stop(now)
}

func (w *world) stop(ctx context.Context) {
	w.deliveries.Close(ctx)
	w.streams.Close()
	w.store.Close()
}

// afterPowerCut is the world as it would be if the power failed now: only what was synced is left
// of the disk. The far side and the functions are the same ones.
func (w *world) afterPowerCut() *world {
	return &world{t: w.t, fs: w.fs.(*vfs.MemFS).CrashClone(vfs.CrashCloneCfg{}), sink: w.sink, functions: w.functions, spool: w.spool, segment: w.segment}
}

// direct is a delivery stream for direct puts that delivers at once.
func direct(name string) firehose.Spec {
	return firehose.Spec{Name: name, Type: firehose.DirectPut, Kind: "sink", Settings: json.RawMessage(`{}`),
		Buffer: firehose.Buffer{Bytes: 1 << 20}, Describe: json.RawMessage(`{}`)}
}

// transformed is direct with a function.
func transformed(name string, retries int) firehose.Spec {
	s := direct(name)
	s.Processor = &firehose.Processor{FunctionARN: functionARN, Retries: retries, Bytes: 1 << 20}
	return s
}

// reading is a delivery stream that reads a Kinesis stream and delivers at once.
func reading(name string, source *shards.Stream) firehose.Spec {
	s := direct(name)
	s.Type, s.SourceARN = firehose.KinesisStreamAsSource, source.ARN()
	return s
}

func (w *world) create(spec firehose.Spec) *firehose.DeliveryStream {
	w.t.Helper()
	d, err := w.deliveries.Create(w.t.Context(), here, spec)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

func (w *world) get(name string) *firehose.DeliveryStream {
	w.t.Helper()
	d, err := w.deliveries.Get(here, name)
	if err != nil {
		w.t.Fatal(err)
	}
	return d
}

// source makes a Kinesis stream of one shard.
func (w *world) source(name string) *shards.Stream {
	w.t.Helper()
	s, err := w.streams.Create(w.t.Context(), here, shards.Spec{Name: name, Shards: 1, MaxRecordSize: 10 << 20})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// put stores records by a direct put and waits until everything has come to rest.
func (w *world) put(d *firehose.DeliveryStream, data ...string) []shards.Placed {
	w.t.Helper()
	return w.place(data, func(recs []shards.PutRecord, out []shards.Placed) error { return d.Put(w.t.Context(), recs, out) })
}

func (w *world) putSource(s *shards.Stream, data ...string) []shards.Placed {
	w.t.Helper()
	return w.place(data, func(recs []shards.PutRecord, out []shards.Placed) error {
		s.Put(w.t.Context(), recs, out)
		return nil
	})
}

func (w *world) place(data []string, put func([]shards.PutRecord, []shards.Placed) error) []shards.Placed {
	w.t.Helper()
	recs := make([]shards.PutRecord, len(data))
	for i, d := range data {
		recs[i] = shards.PutRecord{Key: []byte("key"), Data: []byte(d)}
	}
	out := make([]shards.Placed, len(recs))
	if err := put(recs, out); err != nil {
		w.t.Fatal(err)
	}
	for i := range out {
		if out[i].Err != nil {
			w.t.Fatal(out[i].Err)
		}
	}
	synctest.Wait()
	return out
}

// metadata lists the keys that belong to delivery streams and streams, without the counters.
func (w *world) metadata() (keys []string) {
	w.t.Helper()
	for _, prefix := range []string{"d/", "s/", "p/", "h/", "k/"} {
		for kv, err := range w.store.Meta().Scan(w.t.Context(), prefix) {
			if err != nil {
				w.t.Fatal(err)
			}
			keys = append(keys, kv.Key)
		}
	}
	return keys
}

// breakable is a store whose writes of metadata and of the shards' list ask the world first.
type breakable struct {
	*journal.Store
	w *world
}

func (b breakable) Meta() shards.Meta     { return breakableMeta{b.Store.Meta(), b.w} }
func (b breakable) Keeper() shards.Keeper { return breakableKeeper{b.Store.Keeper(), b.w} }

func (w *world) step(what string) error {
	if w.hinder == nil {
		return nil
	}
	return w.hinder(what)
}

type breakableMeta struct {
	shards.Meta
	w *world
}

func (m breakableMeta) Txn(ctx context.Context, conds []shards.Cmp, ops []shards.Op) (bool, error) {
	if err := m.w.step(ops[0].Key); err != nil {
		return false, err
	}
	return m.Meta.Txn(ctx, conds, ops)
}

type breakableKeeper struct {
	shards.Keeper
	w *world
}

func (k breakableKeeper) Create(ctx context.Context, ids []shards.ShardID) error {
	if err := k.w.step("create logs"); err != nil {
		return err
	}
	return k.Keeper.Create(ctx, ids)
}

func (k breakableKeeper) Delete(ctx context.Context, ids []shards.ShardID) error {
	if err := k.w.step("delete logs"); err != nil {
		return err
	}
	return k.Keeper.Delete(ctx, ids)
}

// sink is a far side: objects by name, and every attempt to deliver one.
type sink struct {
	mu       sync.Mutex
	objects  map[string][]string // records by name; a repeated delivery overwrites
	attempts []string            // names in the order of the attempts

	// before is called before an object is stored; an error leaves it unstored. after is called
	// when it is stored; an error is answered all the same.
	before, after func(ctx context.Context, b *firehose.Batch) error
}

func newSink() *sink { return &sink{objects: make(map[string][]string)} }

func (s *sink) open(kind string, settings json.RawMessage) (firehose.Destination, error) {
	if kind != "sink" {
		return nil, errs.New(errs.Invalid, "destinations of kind %s are not supported", kind)
	}
	return s, nil
}

// hinder sets before.
func (s *sink) hinder(before func(context.Context, *firehose.Batch) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = before
}

// objectName is all that a destination may compute a name from.
func objectName(b *firehose.Batch) string {
	return fmt.Sprintf("%s/%s/%s/%s/%d/%s", b.Stream, b.StreamID, b.Version, b.Ranges, b.Oldest.UnixMilli(), b.ErrorType)
}

func (s *sink) Deliver(ctx context.Context, b *firehose.Batch) error       { return s.store(ctx, b) }
func (s *sink) DeliverErrors(ctx context.Context, b *firehose.Batch) error { return s.store(ctx, b) }

func (s *sink) store(ctx context.Context, b *firehose.Batch) error {
	var records []string
	for range 2 { // Each gives the same again
		records = records[:0]
		if err := b.Each(ctx, func(data []byte) error { records = append(records, string(data)); return nil }); err != nil {
			return err
		}
		if len(records) != b.Records {
			return fmt.Errorf("a batch of %d records gave %d", b.Records, len(records))
		}
	}
	name := objectName(b)
	s.mu.Lock()
	s.attempts = append(s.attempts, name)
	before, after := s.before, s.after
	s.mu.Unlock()
	if before != nil {
		if err := before(ctx, b); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.objects[name] = records
	s.mu.Unlock()
	if after != nil {
		return after(ctx, b)
	}
	return nil
}

// data is the records of all data objects of a delivery stream, object by object in the order of
// the first attempts; errors is those of its error objects.
func (s *sink) data(stream string) [][]string   { return s.of(stream, "") }
func (s *sink) errors(stream string) [][]string { return s.of(stream, "processing-failed") }

func (s *sink) of(stream, errorType string) (out [][]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var seen []string
	for _, name := range s.attempts {
		part := strings.Split(name, "/")
		if part[0] != stream || part[5] != errorType || slices.Contains(seen, name) || s.objects[name] == nil {
			continue
		}
		seen = append(seen, name)
		out = append(out, s.objects[name])
	}
	return out
}

func (s *sink) tries() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.attempts)
}

// functions are functions by ARN. Each use is a lease that must come back.
type functions struct {
	byARN map[string]runtime.Function

	mu      sync.Mutex
	leased  int // leases taken and not given back
	loading int // so many calls find the function being loaded
}

func (f *functions) Function(arn string) (runtime.Function, func(), error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.loading > 0 {
		f.loading--
		return nil, nil, errs.New(errs.InUse, "function %s is being loaded for the first time: try again", arn)
	}
	fn := f.byARN[arn]
	if fn == nil {
		return nil, nil, errs.New(errs.NotFound, "Function not found: %s", arn)
	}
	f.leased++
	return fn, func() { f.mu.Lock(); f.leased--; f.mu.Unlock() }, nil
}

// events notes what the room tells its observers.
type events struct {
	mu        sync.Mutex
	delivered []firehose.Delivered
	retries   []error
	transform []string // "1", "2", "3 last" with the error
	stopped   []error
}

func (e *events) events() firehose.Events {
	note := func(fn func()) { e.mu.Lock(); defer e.mu.Unlock(); fn() }
	return firehose.Events{
		Delivered: func(_ *firehose.DeliveryStream, _ uint64, what firehose.Delivered) {
			note(func() { e.delivered = append(e.delivered, what) })
		},
		Retry: func(_ *firehose.DeliveryStream, _ uint64, _ int, err error) {
			note(func() { e.retries = append(e.retries, err) })
		},
		Transform: func(_ *firehose.DeliveryStream, attempt int, last bool, err error) {
			text := fmt.Sprint(attempt)
			if last {
				text += " last"
			}
			note(func() { e.transform = append(e.transform, text+": "+err.Error()) })
		},
		Stopped: func(_ *firehose.DeliveryStream, err error) {
			note(func() { e.stopped = append(e.stopped, err) })
		},
	}
}

// equal fails the test unless two values print alike.
func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%v", got), fmt.Sprintf("%v", want); g != w {
		t.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}
