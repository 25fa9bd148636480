package wasm

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// kitGuest is the C guest of the conformance kit: M reports metrics, gKEY reads state, SKEY=VALUE
// writes it, ESTREAM|KEY|DATA emits, ! fails the batch.
const kitGuest = "../../sdk/conformance/guests/c.wasm"

var everything = runtime.Grants{Metrics: true, State: true, Emit: []string{"audit", "alarms"}}

// services is a state store and streams in memory.
type services struct {
	mu      sync.Mutex
	docs    map[string][]byte
	revs    map[string]uint64
	emitted []runtime.Emission
	order   []string // of "emit" and "store"

	loaded  func() // after each Load
	loadErr error
	emitErr error
}

func newServices() *services { return &services{docs: map[string][]byte{}, revs: map[string]uint64{}} }

func (s *services) lend() runtime.Services { return runtime.Services{State: s, Streams: s} }

func (s *services) Load(_ context.Context, function string) ([]byte, uint64, error) {
	s.mu.Lock()
	doc, rev, err := s.docs[function], s.revs[function], s.loadErr
	s.mu.Unlock()
	if s.loaded != nil {
		s.loaded()
	}
	return doc, rev, err
}

func (s *services) Store(_ context.Context, function string, doc []byte, rev uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if rev != s.revs[function] {
		return errs.New(errs.Conflict, "the revision is %d, not %d", s.revs[function], rev)
	}
	s.docs[function] = doc
	s.revs[function]++
	s.order = append(s.order, "store")
	return nil
}

func (s *services) Emit(_ context.Context, records []runtime.Emission) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.order = append(s.order, "emit")
	if s.emitErr != nil {
		return s.emitErr
	}
	s.emitted = append(s.emitted, records...)
	return nil
}

// set changes a key as another invocation would.
func (s *services) set(t *testing.T, key, value string) {
	doc, rev, _ := s.docs["fn"], s.revs["fn"], error(nil)
	doc, err := applyState(doc, []stateEntry{{key, []byte(value)}})
	if err == nil {
		err = s.Store(t.Context(), "fn", doc, rev)
	}
	if err != nil {
		t.Error(err)
	}
}

func (s *services) state(t *testing.T) map[string]string {
	t.Helper()
	m, err := parseState(s.docs["fn"])
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for k, v := range m {
		out[k] = string(v)
	}
	return out
}

func kitFunction(t *testing.T, s *services, rec *recorder, l runtime.Limits) runtime.Function {
	t.Helper()
	e := New(Options{CacheDir: shared.dir + "/cache", Events: rec.events(), Services: s.lend()})
	t.Cleanup(func() { e.Close() })
	l.Concurrency = max(l.Concurrency, 1)
	return load(t, e, runtime.Artifact{Name: "fn", Kind: runtime.KindWasm, Path: kitGuest, Grants: everything}, l)
}

// A module is loaded with the grants for all that it imports, or not at all.
func TestGrantsAreNeededAtLoad(t *testing.T) {
	uses := func(name string, typ int) []byte {
		return nativeModule(replyOf(), func(m *testModule) { m.imports = []testImport{{hostModule, name, typ}} })
	}
	cases := []struct {
		name     string
		module   []byte
		grants   runtime.Grants
		services runtime.Services
		want     string
	}{
		{"state", uses("state_get", typeFd), runtime.Grants{Metrics: true, Emit: []string{"s"}}, newServices().lend(), `it imports shardmill.state_get, which needs the grant "state"; name it under grants in the function's manifest, or build the module without it`},
		{"writing state", uses("state_put", typeFd), runtime.Grants{}, newServices().lend(), `it imports shardmill.state_put, which needs the grant "state"`},
		{"metrics", uses("metric", typeMetric), runtime.Grants{State: true}, newServices().lend(), `it imports shardmill.metric, which needs the grant "metrics"`},
		{"emit", uses("emit", typeEmit), runtime.Grants{State: true, Metrics: true}, newServices().lend(), `it imports shardmill.emit, which needs the grant "emit"`},
		{"a host without streams", uses("emit", typeEmit), everything, runtime.Services{}, `it imports shardmill.emit, but this host has nothing behind the grant "emit"`},
		{"a host without state", uses("state_get", typeFd), everything, runtime.Services{}, `but this host has nothing behind the grant "state"`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e := New(Options{CacheDir: shared.dir + "/cache", Services: c.services})
			defer e.Close()
			a := artifact(t, c.module)
			a.Grants = c.grants
			_, err := e.Load(t.Context(), a, runtime.Limits{})
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), `module "fn" is refused: `) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("err = %v\nwant an Invalid error with %q", err, c.want)
			}
			// The control: with the grant it loads.
			a.Grants = everything
			good := New(Options{CacheDir: shared.dir + "/cache", Services: newServices().lend()})
			defer good.Close()
			load(t, good, a, runtime.Limits{})
		})
	}
}

func TestConfigIsWhatWasGranted(t *testing.T) {
	e := newEngine(t, &recorder{})
	a := guest(t, shared.native)
	a.Env = map[string]string{"COLOR": "blue", "SHAPE": "round"}
	a.Grants.Config = map[string]string{"COLOR": "green", "threshold": "0.5"}
	got := answersOf(t, load(t, e, a, runtime.Limits{}), records("cCOLOR", "cthreshold", "cSHAPE", "cother"))
	if want := []string{"0 ok green", "1 ok 0.5", "2 ok round", "3 ok absent"}; !slices.Equal(got, want) {
		t.Errorf("answers %q, want %q: config comes before the environment", got, want)
	}
}

// Records are durable, then the state, before the batch's answer counts.
func TestEffectsLastInOrder(t *testing.T) {
	s := newServices()
	f := kitFunction(t, s, &recorder{}, runtime.Limits{})
	if got, want := answersOf(t, f, records("Sa=1", "Eaudit|k|one", "Ealarms|k|two")), []string{"0 ok 0", "1 ok 0", "2 ok 0"}; !slices.Equal(got, want) {
		t.Fatalf("answers %q, want %q", got, want)
	}
	want := []runtime.Emission{{Stream: "audit", PartitionKey: "k", Data: []byte("one")}, {Stream: "alarms", PartitionKey: "k", Data: []byte("two")}}
	if !reflect.DeepEqual(s.emitted, want) || !slices.Equal(s.order, []string{"emit", "store"}) {
		t.Errorf("emitted %v in the order %q", s.emitted, s.order)
	}
	// Writing what is there already writes nothing.
	answersOf(t, f, records("Sa=1"))
	if !slices.Equal(s.order, []string{"emit", "store"}) {
		t.Errorf("order %q: a state that did not change was written", s.order)
	}
}

func TestEmitThatFails(t *testing.T) {
	s := newServices()
	f := kitFunction(t, s, &recorder{}, runtime.Limits{})
	p := f.(runtime.RecordProcessor)
	out := runtime.ProcessedBatch{}

	s.emitErr = errs.New(errs.NotFound, "Stream audit under account 1 not found.")
	var failed *runtime.FunctionFailure
	err := p.Process(t.Context(), records("Sa=1", "Eaudit|k|x"), &out)
	if !errors.As(err, &failed) || *failed != (runtime.FunctionFailure{Type: runtime.ErrorHandler, Message: "shardmill.emit: Stream audit under account 1 not found."}) {
		t.Errorf("a stream that does not exist: %v", err)
	}
	s.emitErr = errs.New(errs.Unknown, "the disk is full")
	if err := p.Process(t.Context(), records("Sa=1", "Eaudit|k|x"), &out); !errs.Is(err, errs.Unavailable) || errors.As(err, &failed) {
		t.Errorf("a stream that cannot be written: %v, want Unavailable", err)
	}
	if len(out.Records) != 0 || len(s.docs) != 0 {
		t.Errorf("answers %q and state %q came with the failure", show(out.Records), s.docs)
	}
	s.emitErr = nil
	answersOf(t, f, records("Sa=1", "Eaudit|k|x"))
	if len(s.emitted) != 1 || s.state(t)["a"] != "1" {
		t.Errorf("afterwards: emitted %v, state %q", s.emitted, s.state(t))
	}
}

// An invocation whose state changes while it runs sees the change: it runs again.
func TestStateConflictsRunTheBatchAgain(t *testing.T) {
	s := newServices()
	f := kitFunction(t, s, &recorder{}, runtime.Limits{})
	s.set(t, "a", "old")
	loads := 0
	s.loaded = func() {
		if loads++; loads <= 2 {
			s.set(t, "a", "new"+strings.Repeat("!", loads))
		}
	}
	got := answersOf(t, f, records("ga", "Sb=1"))
	if want := []string{"0 ok new!!", "1 ok 0"}; !slices.Equal(got, want) || loads != 3 {
		t.Errorf("answers %q after %d reads, want %q after 3", got, loads, want)
	}
	if want := map[string]string{"a": "new!!", "b": "1"}; !reflect.DeepEqual(s.state(t), want) {
		t.Errorf("state %q, want %q", s.state(t), want)
	}
	// Only reading never conflicts.
	loads = 0
	answersOf(t, f, records("ga"))
	if loads != 1 {
		t.Errorf("a batch that only reads ran %d times", loads)
	}
	// Somebody who is always faster: the batch is given up, and nothing of it stays.
	n := 0
	s.loaded = func() { n++; s.set(t, "a", strings.Repeat("x", n)) }
	err := f.(runtime.RecordProcessor).Process(t.Context(), records("Sb=2"), &runtime.ProcessedBatch{})
	if !errs.Is(err, errs.Throttled) || n != maxRepeats || s.state(t)["b"] != "1" {
		t.Errorf("after %d tries: %v, state %q", n, err, s.state(t))
	}
}

func TestManyInvocationsCountTogether(t *testing.T) {
	s := newServices()
	f := kitFunction(t, s, &recorder{}, runtime.Limits{Concurrency: 3})
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			for j := range 5 {
				key := string(rune('a'+i)) + string(rune('0'+j))
				for { // a conflict that lasts is the caller's to repeat
					err := f.(runtime.RecordProcessor).Process(t.Context(), records("S"+key+"=1"), &runtime.ProcessedBatch{})
					if err == nil {
						break
					}
					if !errs.Is(err, errs.Throttled) {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if n := len(s.state(t)); n != 15 {
		t.Errorf("%d of 15 writes are there: %q", n, s.state(t))
	}
}

func TestStateThatCannotBeRead(t *testing.T) {
	s := newServices()
	f := kitFunction(t, s, &recorder{}, runtime.Limits{})
	s.loadErr = errs.New(errs.Unavailable, "closing")
	if err := f.(runtime.RecordProcessor).Process(t.Context(), records("ga"), &runtime.ProcessedBatch{}); !errs.Is(err, errs.Unavailable) {
		t.Errorf("err = %v, want Unavailable", err)
	}
	s.loadErr = nil
	if got := answersOf(t, f, records("ga")); got[0] != "0 ok absent" {
		t.Errorf("afterwards: %q", got)
	}
}

// Labels with ever new values do not fill the host.
func TestMetricSeriesAreBounded(t *testing.T) {
	s, rec := newServices(), &recorder{}
	told := map[string]float64{}
	events := rec.events()
	events.Metric = func(_ string, m runtime.Metric) {
		if !m.Counter {
			told[metricKey(m)] = m.Value
		}
	}
	e := New(Options{CacheDir: shared.dir + "/cache", Events: events, Services: s.lend()})
	defer e.Close()
	f := load(t, e, runtime.Artifact{Name: "fn", Kind: runtime.KindWasm, Path: kitGuest, Grants: everything}, runtime.Limits{Concurrency: 1})
	for batch := range 3 {
		in := &runtime.RecordBatch{}
		for i := range 60 {
			in.Records = append(in.Records, runtime.InRecord{Data: []byte(`Msize{id="` + strconv.Itoa(100*batch+i) + `"}`)})
		}
		answersOf(t, f, in)
	}
	f.Close()
	if len(told) != maxMetrics-1 { // and seen_total
		t.Errorf("%d series were told, want %d", len(told), maxMetrics-1)
	}
	want := "WARN the metric size and further new ones are dropped: a function may have 100 series, and every combination of label values is one"
	if lines := rec.lines(); len(lines) != 1 || lines[0] != ": "+want {
		t.Errorf("log %q, want once %q", lines, want)
	}
	for key, message := range map[string]string{"9lives": "is not 1 to 100 letters", `a{b="c"`: "has no closing brace", `a{b="\\"}`: "must be printable text"} {
		var failed *runtime.FunctionFailure
		f := kitFunction(t, s, rec, runtime.Limits{})
		err := f.(runtime.RecordProcessor).Process(t.Context(), records("M"+key), &runtime.ProcessedBatch{})
		if !errors.As(err, &failed) || failed.Type != runtime.ErrorExit || !strings.Contains(failed.Message, message) {
			t.Errorf("the metric %q: %v, want a trap with %q", key, err, message)
		}
	}
}

// What a hostile worker might claim is refused as a whole.
func TestEffectsOfALyingWorker(t *testing.T) {
	le := binary.LittleEndian
	parts := func(kind byte, fields ...string) []byte {
		b := []byte{kind}
		for _, f := range fields {
			b = append(le.AppendUint32(b, uint32(len(f))), f...)
		}
		return b
	}
	number := func(b []byte, v float64) []byte { return le.AppendUint64(b, math.Float64bits(v)) }
	cases := map[string][]byte{
		"an unknown kind":                 {9},
		"a metric that is cut off":        parts(effectMetric, "a"),
		"a metric that is no number":      number(parts(effectMetric, "a"), math.NaN()),
		"a counter that falls":            number(parts(effectMetric, "a_total"), -1),
		"a bad key":                       number(parts(effectMetric, "a{"), 1),
		"too many metrics":                slices.Repeat(number(parts(effectMetric, "a"), 1), maxMetrics+1),
		"state that is cut off":           parts(effectState, "a"),
		"a stream that is not granted":    parts(effectEmit, "other", "k", "v"),
		"a record without a key":          parts(effectEmit, "audit", "", "v"),
		"a partition key that is no text": parts(effectEmit, "audit", "\xff", "v"),
		"a record that is too large":      parts(effectEmit, "audit", "k", strings.Repeat("x", maxEmission)),
		"too much":                        slices.Repeat(parts(effectEmit, "audit", "k", strings.Repeat("x", maxEmission-1)), 7),
		"too many records":                slices.Repeat(parts(effectEmit, "audit", "k", ""), maxEmits+1),
	}
	for name, block := range cases {
		if _, err := parseEffects(block, everything); err == nil {
			t.Errorf("%s was accepted", name)
		}
	}
	good := slices.Concat(number(parts(effectMetric, "a"), 1), parts(effectState, "a", "b"), parts(effectEmit, "audit", "k", ""))
	if e, err := parseEffects(good, everything); err != nil || len(e.metrics) != 1 || len(e.state) != 1 || len(e.emits) != 1 {
		t.Errorf("the control: %+v, %v", e, err)
	}
	if _, err := parseEffects(good, runtime.Grants{}); err == nil {
		t.Error("effects without grants were accepted")
	}
	for name, change := range map[string]stateEntry{"no key": {"", []byte("x")}, "a long key": {strings.Repeat("k", 257), []byte("x")}, "much": {"k", make([]byte, maxStateBytes)}} {
		if _, err := applyState(nil, []stateEntry{change}); err == nil {
			t.Errorf("state with %s was accepted", name)
		}
	}
}

func FuzzParseEffects(f *testing.F) {
	f.Add([]byte("\x01\x01\x00\x00\x00a\x00\x00\x00\x00\x00\x00\xf0\x3f\x02\x01\x00\x00\x00a\x01\x00\x00\x00b\x03\x05\x00\x00\x00audit\x01\x00\x00\x00k\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEffects(b, everything)
		if err != nil {
			return
		}
		if len(e.metrics) > maxMetrics || len(e.emits) > maxEmits {
			t.Fatalf("%d metrics, %d records", len(e.metrics), len(e.emits))
		}
		if doc, err := applyState(nil, e.state); err == nil {
			if _, err := parseState(doc); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzParseState(f *testing.F) {
	f.Add(appendState(nil, map[string][]byte{"a": []byte("1"), "b": []byte("2")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseState(b)
		if err != nil {
			return
		}
		if again := appendState(nil, m); len(m) > 0 && string(again) != string(b) {
			t.Fatalf("%q becomes %q", b, again)
		}
	})
}

func FuzzParseMetric(f *testing.F) {
	for _, key := range []string{"a", "a_total", `a{b="c"}`, `a{b="c",d="é"}`, `a{}`, `a{b="c",}`} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		m, err := parseMetric(key)
		if err != nil {
			return
		}
		again, err := parseMetric(metricKey(m))
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%q: %+v, then %+v (%v)", key, m, again, err)
		}
	})
}
