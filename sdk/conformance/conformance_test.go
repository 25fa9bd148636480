package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/runtime/wasm"
)

var (
	otherGuest = flag.String("guest", "", "a module to run beside the kit's own guests")
	otherABI   = flag.String("abi", "native", "the ABI of -guest: native, pull or stdio")
)

func TestMain(m *testing.M) {
	wasm.WorkerMain()
	os.Exit(m.Run())
}

// world is everything around a guest.
type world struct {
	mu      sync.Mutex
	log     []string
	metrics []string
	emitted []string
	state   map[string][]byte // documents by function
	rev     uint64
}

func (w *world) Load(_ context.Context, function string) ([]byte, uint64, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state[function], w.rev, nil
}

func (w *world) Store(_ context.Context, function string, doc []byte, rev uint64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if rev != w.rev {
		return errs.New(errs.Conflict, "the revision is %d", w.rev)
	}
	w.state[function], w.rev = doc, w.rev+1
	return nil
}

func (w *world) Emit(_ context.Context, records []runtime.Emission) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, r := range records {
		w.emitted = append(w.emitted, fmt.Sprintf("%s %s %s", r.Stream, r.PartitionKey, Shorten(r.Data)))
	}
	return nil
}

func (w *world) events() runtime.Events {
	return runtime.Events{
		Log: func(_, _, line string) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.log = append(w.log, line)
		},
		Metric: func(_ string, m runtime.Metric) {
			key := m.Name
			if len(m.Labels) > 0 {
				var labels []string
				for _, l := range m.Labels {
					labels = append(labels, fmt.Sprintf("%s=%q", l.Name, l.Value))
				}
				key += "{" + strings.Join(labels, ",") + "}"
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.metrics = append(w.metrics, fmt.Sprintf("%s %v", key, m.Value))
		},
	}
}

// awaitLog waits until n lines have come: they travel beside the answers.
func (w *world) awaitLog(n int) []string {
	for range 200 {
		w.mu.Lock()
		log := slices.Clone(w.log)
		w.mu.Unlock()
		if len(log) >= n {
			return log
		}
		time.Sleep(5 * time.Millisecond)
	}
	return nil
}

func load(t *testing.T, module, abi string) (*world, runtime.Function) {
	t.Helper()
	w := &world{state: map[string][]byte{}}
	e := wasm.New(wasm.Options{CacheDir: t.TempDir(), Events: w.events(), Services: runtime.Services{State: w, Streams: w}})
	t.Cleanup(func() { e.Close() })
	f, err := e.Load(t.Context(), runtime.Artifact{Name: "guest", Kind: runtime.KindWasm, Path: module, ABI: abi,
		Grants: runtime.Grants{Config: Config, Metrics: true, State: true, Emit: []string{Emit}}}, runtime.Limits{Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return w, f
}

// want writes a case's answers out.
func (b Batch) want() []string {
	out := []string{}
	for _, line := range b.Want {
		times, each, repeated := strings.Cut(line, " times: ")
		if !repeated {
			out = append(out, line)
			continue
		}
		n, _ := strconv.Atoi(times)
		for i := range n {
			out = append(out, fmt.Sprintf("%d %s", i, each))
		}
	}
	return out
}

func runBatches(t *testing.T, module string) {
	cases, err := Batches()
	if err != nil {
		t.Fatal(err)
	}
	w, f := load(t, module, "native")
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { w.batch(t, f.(runtime.RecordProcessor), c) })
	}
}

func (w *world) batch(t *testing.T, p runtime.RecordProcessor, c Batch) {
	w.mu.Lock()
	w.log, w.metrics, w.emitted = nil, nil, nil
	w.mu.Unlock()
	in := runtime.RecordBatch{Invocation: runtime.Invocation{RequestID: "conformance"}}
	for _, r := range c.Records {
		data, copies := r.Expand()
		for range copies {
			in.Records = append(in.Records, runtime.InRecord{Data: data, PartitionKey: []byte(r.Key), SequenceNumber: r.Seq, Arrived: r.Arrived})
		}
	}
	var out runtime.ProcessedBatch
	err := p.Process(t.Context(), &in, &out)
	if c.Fails != nil {
		failed := new(runtime.FunctionFailure)
		if !errors.As(err, &failed) || failed.Type != c.Fails.Type || !strings.HasPrefix(failed.Message, c.Fails.Message) {
			t.Errorf("%v\nwant %s: %s", err, c.Fails.Type, c.Fails.Message)
		}
	} else if err != nil {
		t.Fatal(err)
	}
	got := []string{}
	for _, r := range out.Records {
		got = append(got, fmt.Sprintf("%d %s %s", r.Index, [...]string{"ok", "dropped", "failed"}[r.Status], Shorten(r.Data)))
	}
	if want := c.want(); !slices.Equal(got, want) {
		t.Errorf("answers:\n%q\nwant:\n%q", got, want)
	}
	if len(out.Records) > 0 && !maps.Equal(out.Records[0].PartitionKeys, c.Keys) {
		t.Errorf("partition keys %q, want %q", out.Records[0].PartitionKeys, c.Keys)
	}
	w.check(t, c)
}

func (w *world) check(t *testing.T, c Batch) {
	if c.Log != nil {
		if log := w.awaitLog(len(c.Log)); !slices.Equal(log, c.Log) {
			t.Errorf("log %q, want %q", log, c.Log)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Equal(w.metrics, c.Metrics) {
		t.Errorf("metrics %q, want %q", w.metrics, c.Metrics)
	}
	if !slices.Equal(w.emitted, c.Emitted) {
		t.Errorf("emitted %q, want %q", w.emitted, c.Emitted)
	}
	if c.State != nil {
		if got := stateOf(w.state["guest"]); !maps.Equal(got, c.State) {
			t.Errorf("state %q, want %q", got, c.State)
		}
	}
}

// stateOf reads a state document: a byte 1, then keys and values with their lengths.
func stateOf(doc []byte) map[string]string {
	m := map[string]string{}
	if len(doc) == 0 {
		return m
	}
	if doc = doc[1:]; len(doc) == 0 {
		return nil
	}
	next := func() string {
		n := 4 + int(doc[0]) + int(doc[1])<<8 + int(doc[2])<<16
		s := string(doc[4:n])
		doc = doc[n:]
		return s
	}
	for len(doc) > 0 {
		key := next()
		m[key] = next()
	}
	return m
}

func runEvents(t *testing.T, module, abi string) {
	cases, err := Events()
	if err != nil {
		t.Fatal(err)
	}
	w, f := load(t, module, abi)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) { w.event(t, f, c) })
	}
}

func (w *world) event(t *testing.T, f runtime.Function, c Event) {
	w.mu.Lock()
	w.log = nil
	w.mu.Unlock()
	if c.Fill > 0 {
		c.Event, _ = json.Marshal(strings.Repeat("x", c.Fill))
	}
	var event bytes.Buffer
	if err := json.Compact(&event, c.Event); err != nil {
		t.Fatal(err)
	}
	c.Event = event.Bytes()
	res, err := f.Invoke(t.Context(), runtime.Invocation{RequestID: "conformance", FunctionARN: "arn:aws:lambda:eu-west-1:123456789012:function:guest", Payload: c.Event})
	if err != nil {
		t.Fatal(err)
	}
	want := []byte(`{"got":` + string(c.Event) + `}`)
	if c.Fails != nil {
		var doc struct{ ErrorType, ErrorMessage string }
		if err := json.Unmarshal(res.Payload, &doc); err != nil || res.FunctionError != "Unhandled" || res.ErrorType != c.Fails.Type ||
			doc.ErrorType != c.Fails.Type || !strings.HasPrefix(doc.ErrorMessage, c.Fails.Message) {
			t.Errorf("%s %s: %s\nwant %s: %s", res.FunctionError, res.ErrorType, res.Payload, c.Fails.Type, c.Fails.Message)
		}
	} else if got := canonical(t, res.Payload); res.FunctionError != "" || got != canonical(t, want) {
		t.Errorf("%s%s, want %s", res.FunctionError, Shorten([]byte(got)), Shorten(want))
	}
	if c.Log != nil {
		log := w.awaitLog(len(c.Log))
		for i := range log {
			log[i] = strings.TrimPrefix(log[i], "INFO ") // shardmill.log tells a level, stderr does not
		}
		if !slices.Equal(log, c.Log) {
			t.Errorf("log %q, want %q", log, c.Log)
		}
	}
}

func canonical(t *testing.T, b []byte) string {
	t.Helper()
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%v: %s", err, Shorten(b))
	}
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
