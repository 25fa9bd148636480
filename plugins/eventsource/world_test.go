package eventsource

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
)

var here = shards.Scope{Account: "000000000000", Region: "us-east-1"}

const (
	streamARN   = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
	functionARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
	bucketARN   = "arn:aws:s3:::lost"
)

// world is mappings of a stream s and a function f, whose answers a test gives.
type world struct {
	t       *testing.T
	fs      vfs.FS
	store   *journal.Store
	streams *shards.Streams
	*Mappings

	mu       sync.Mutex
	answer   func(e *event) (string, error) // of f; an error of kind Unknown is the function's own
	events   []*event
	failures []*Failure
	sinkDown bool
	skipped  uint64
}

// event is an event as f sees it.
type event struct {
	Records []struct {
		Kinesis struct {
			PartitionKey                string
			SequenceNumber              string
			Data                        []byte
			ApproximateArrivalTimestamp json.Number
		}
		EventID, EventSourceARN string
	}
	Window                  *struct{ Start, End string }
	State                   json.RawMessage
	ShardID                 string
	IsFinalInvokeForWindow  bool
	IsWindowTerminatedEarly bool
	raw                     string
}

// data is the records' data, separated by spaces.
func (e *event) data() string {
	var all []string
	for _, r := range e.Records {
		all = append(all, string(r.Kinesis.Data))
	}
	return strings.Join(all, " ")
}

// inWorld runs a test in a bubble, with a stream of so many shards.
func inWorld(t *testing.T, shardCount int, test func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, fs: vfs.NewMem(), answer: func(*event) (string, error) { return "", nil }}
		w.open()
		if _, err := w.streams.Create(t.Context(), here, shards.Spec{Name: "s", Shards: shardCount}); err != nil {
			t.Fatal(err)
		}
		defer func() { w.close() }()
		test(t, w)
	})
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.store, err = journal.Open("data", journal.Options{FS: w.fs, SegmentSize: 32 << 20}); err != nil {
		w.t.Fatal(err)
	}
	if w.streams, err = shards.Open(w.t.Context(), w.store, shards.Options{}); err != nil {
		w.t.Fatal(err)
	}
	w.Mappings, err = Open(w.t.Context(), Options{Streams: w.streams, Meta: w.store.Meta(), Functions: w, Destination: w.destination,
		Events: Events{Skipped: func(_ *Mapping, _ *shards.Shard, n uint64) { w.skipped += n }}})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) close() {
	w.Mappings.Close()
	w.streams.Close()
	w.store.Close()
}

func (w *world) restart() {
	w.close()
	w.open()
}

func (w *world) stream() *shards.Stream {
	w.t.Helper()
	s, err := w.streams.Get(here, "s")
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// put puts records whose key is the data up to the first hyphen.
func (w *world) put(data ...string) {
	w.t.Helper()
	recs := make([]shards.PutRecord, len(data))
	for i, d := range data {
		key, _, _ := strings.Cut(d, "-")
		recs[i] = shards.PutRecord{Key: []byte(key), Data: []byte(d)}
	}
	out := make([]shards.Placed, len(recs))
	w.stream().Put(context.Background(), recs, out)
	for i := range out {
		if out[i].Err != nil {
			w.t.Fatal(out[i].Err)
		}
	}
}

// mapping makes one from the beginning of s to f.
func (w *world) mapping(change func(*Config)) *Mapping {
	w.t.Helper()
	c := Defaults()
	c.EventSourceARN, c.StartingPosition = streamARN, TrimHorizon
	if change != nil {
		change(&c)
	}
	m, err := w.Create(w.t.Context(), c, functionARN)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// answers sets what f answers.
func (w *world) answers(answer func(e *event) (string, error)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = answer
}

// invocations are the data of the events so far, which are forgotten.
func (w *world) invocations() (out []string) {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		out = append(out, e.data())
	}
	w.events = nil
	return out
}

func (w *world) expect(what string, want ...string) {
	w.t.Helper()
	if got := w.invocations(); !slices.Equal(got, want) {
		w.t.Errorf("%s: %q, not %q", what, got, want)
	}
}

// Function implements Functions.
func (w *world) Function(name string) (runtime.Function, func(), error) {
	if name != functionARN {
		return nil, nil, errs.New(errs.NotFound, "Function not found: %s", name)
	}
	return function{w}, func() {}, nil
}

type function struct{ w *world }

func (f function) Invoke(_ context.Context, in runtime.Invocation) (runtime.Result, error) {
	e := &event{raw: string(in.Payload)}
	if err := json.Unmarshal(in.Payload, e); err != nil {
		f.w.t.Errorf("%s: %v", in.Payload, err)
	}
	f.w.mu.Lock()
	f.w.events = append(f.w.events, e)
	answer := f.w.answer
	f.w.mu.Unlock()
	text, err := answer(e)
	if errs.Is(err, errs.Internal) {
		return runtime.Result{Payload: fmt.Appendf(nil, `{"errorMessage":%q}`, err), FunctionError: "Unhandled"}, nil
	}
	return runtime.Result{Payload: []byte(text)}, err
}

func (function) Close() error { return nil }

func (w *world) destination(arn string) (Destination, error) {
	if arn != bucketARN {
		return nil, errs.New(errs.Invalid, "%s is no destination", arn)
	}
	return w, nil
}

// Deliver implements Destination.
func (w *world) Deliver(_ context.Context, f *Failure) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sinkDown {
		return errs.New(errs.Unavailable, "down")
	}
	w.failures = append(w.failures, f)
	return nil
}
