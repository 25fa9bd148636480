package wasm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

func TestNativeModuleAnswersEachRecord(t *testing.T) {
	f := load(t, newEngine(t, &recorder{}), guest(t, shared.native), runtime.Limits{})
	got := answersOf(t, f, records("=one", "d", "2x", "f", "s", "=", "=last"))
	want := []string{"0 ok one", "1 dropped", "2 ok a:x", "2 ok b:x", "3 failed", "5 ok", "6 ok last"}
	if !slices.Equal(got, want) {
		t.Fatalf("answers:\n%q\nwant (record 4 has none):\n%q", got, want)
	}
	if _, err := f.Invoke(t.Context(), runtime.Invocation{Payload: []byte(`{}`)}); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "native batch module") {
		t.Fatalf("Invoke of a native batch module: %v, want an Invalid error that says so", err)
	}
}

func TestNativeModuleSeesMetaFactsAndEnvironment(t *testing.T) {
	f := load(t, newEngine(t, &recorder{}), guest(t, shared.native), runtime.Limits{})
	in := records("m", "cinvocation.id", "cinvocation.deliveryStreamArn", "cinvocation.nothing", "cCOLOR", "cAWS_LAMBDA_FUNCTION_MEMORY_SIZE", "cHOME")
	in.Facts = map[string]string{"deliveryStreamArn": "arn:aws:firehose:eu-west-1:1:deliverystream/d"}
	in.Records[0] = runtime.InRecord{ID: "r", PartitionKey: []byte("pk"), SequenceNumber: "495", Arrived: 0x0102, Data: []byte("m")}
	got := answersOf(t, f, in)
	want := []string{
		"0 ok \x02\x02\x00\x00\x00pk\x03\x03\x00\x00\x00495\x04\x08\x00\x00\x00\x02\x01\x00\x00\x00\x00\x00\x00",
		"1 ok req-1", "2 ok arn:aws:firehose:eu-west-1:1:deliverystream/d", "3 ok absent", "4 ok blue", "5 ok 128", "6 ok absent",
	}
	if !slices.Equal(got, want) {
		t.Fatalf("answers:\n%q\nwant:\n%q", got, want)
	}
}

func TestNativeModuleGivesPartitionKeys(t *testing.T) {
	f := load(t, newEngine(t, &recorder{}), guest(t, shared.native), runtime.Limits{})
	var out runtime.ProcessedBatch
	if err := f.(runtime.RecordProcessor).Process(t.Context(), records("kx", "=y"), &out); err != nil {
		t.Fatal(err)
	}
	if want := map[string]string{"day": "01", "hr": "23"}; !maps.Equal(out.Records[0].PartitionKeys, want) {
		t.Errorf("partition keys %v, want %v", out.Records[0].PartitionKeys, want)
	}
	if out.Records[1].PartitionKeys != nil {
		t.Errorf("a record without partition keys has %v", out.Records[1].PartitionKeys)
	}
}

// A batch larger than its half of the shared segment travels inline; both ways must agree.
func TestNativeModulePassesSmallAndLargeBatches(t *testing.T) {
	f := load(t, newEngine(t, &recorder{}), guest(t, shared.native), runtime.Limits{Payload: 32 << 20})
	for _, size := range []int{1, 100_000, segmentHalf - 64, segmentHalf, segmentHalf + 1, 10 << 20} {
		data := bytes.Repeat([]byte("=abcdefgh"), size/9+1)[:size]
		var out runtime.ProcessedBatch
		in := &runtime.RecordBatch{Records: []runtime.InRecord{{Data: data}}}
		if err := f.(runtime.RecordProcessor).Process(t.Context(), in, &out); err != nil {
			t.Fatalf("%d bytes: %v", size, err)
		}
		if len(out.Records) != 1 || !bytes.Equal(out.Records[0].Data, data[1:]) {
			t.Fatalf("a record of %d bytes did not come back whole", size)
		}
	}
}

// What a batch was answered with stays as it is while the environment works on the next one.
func TestAnswersOutliveTheNextBatch(t *testing.T) {
	f := load(t, newEngine(t, &recorder{}), guest(t, shared.native), runtime.Limits{Concurrency: 1})
	var first runtime.ProcessedBatch
	if err := f.(runtime.RecordProcessor).Process(t.Context(), records("=first"), &first); err != nil {
		t.Fatal(err)
	}
	answersOf(t, f, records("=other"))
	if got := show(first.Records); got[0] != "0 ok first" {
		t.Fatalf("the first batch's answer became %q", got)
	}
}

func TestBatchFailures(t *testing.T) {
	rec := &recorder{}
	f := load(t, newEngine(t, rec), guest(t, shared.native), runtime.Limits{Concurrency: 1, Payload: 1 << 20})
	p := f.(runtime.RecordProcessor)
	for _, c := range []struct{ name, data, kind, message string }{
		{"the function fails the batch", "eno luck", runtime.ErrorHandler, "no luck"},
		{"without a reason", "e", runtime.ErrorHandler, "shardmill_transform returned 0 and gave no reason with shardmill.error"},
		{"a panic", "p", runtime.ErrorExit, "Runtime exited with error: trap: wasm error: unreachable"},
		{"an endless loop", "@", runtime.ErrorTimedOut, "Task timed out after 0.30 seconds"},
		{"an answer above the limit", "=" + strings.Repeat("x", 1<<20), runtime.ErrorResponseTooLarge, "Response payload size exceeded maximum allowed payload size (1048576 bytes)."},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := runtime.ProcessedBatch{Records: []runtime.OutRecord{{Index: 7}}}
			in := records("=before", c.data)
			if c.kind == runtime.ErrorTimedOut {
				in.Invocation.Deadline = time.Now().Add(300 * time.Millisecond)
			}
			err := p.Process(t.Context(), in, &out)
			var failed *runtime.FunctionFailure
			if !errors.As(err, &failed) || failed.Type != c.kind || firstLine(failed.Message) != c.message {
				t.Fatalf("err = %v\nwant %s: %s", err, c.kind, c.message)
			}
			if len(out.Records) != 1 {
				t.Fatalf("a failed batch left answers behind: %q", show(out.Records))
			}
			if got := answersOf(t, f, records("=after")); got[0] != "0 ok after" {
				t.Fatalf("the next batch was answered with %q", got)
			}
		})
	}
	want := []string{"trap: wasm error: unreachable", "timeout", "answer too large: Response payload size exceeded maximum allowed payload size (1048576 bytes)."}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if !slices.Equal(rec.ends, want) || rec.start != 4 {
		t.Fatalf("%d environments started and ended for\n%q\nwant 4 (a function's own failure keeps its environment) and\n%q", rec.start, rec.ends, want)
	}
}

func firstLine(s string) string { return strings.SplitN(s, "\n", 2)[0] }

func TestCallerGivesUp(t *testing.T) {
	f := load(t, newEngine(t, &recorder{}), guest(t, shared.native), runtime.Limits{Concurrency: 1})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	err := f.(runtime.RecordProcessor).Process(ctx, records("@"), &runtime.ProcessedBatch{})
	if !errors.Is(err, context.Canceled) || !errs.Is(err, errs.Unknown) {
		t.Fatalf("err = %v, want Unknown with context.Canceled", err)
	}
	if got := answersOf(t, f, records("=after")); got[0] != "0 ok after" {
		t.Fatalf("the next batch was answered with %q", got)
	}
}

func TestDeadlineOfTheInvocationBoundsIt(t *testing.T) {
	f := load(t, newEngine(t, &recorder{}), guest(t, shared.native), runtime.Limits{})
	in := records("@")
	in.Invocation.Deadline = time.Now().Add(200 * time.Millisecond)
	start := time.Now()
	err := f.(runtime.RecordProcessor).Process(t.Context(), in, &runtime.ProcessedBatch{})
	var failed *runtime.FunctionFailure
	if !errors.As(err, &failed) || failed.Type != runtime.ErrorTimedOut {
		t.Fatalf("err = %v, want %s", err, runtime.ErrorTimedOut)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Fatalf("a deadline in 200 ms ended the invocation after %s", took)
	}
}

func TestGuestLogLines(t *testing.T) {
	rec := &recorder{}
	f := load(t, newEngine(t, rec), guest(t, shared.native), runtime.Limits{Concurrency: 1})
	answersOf(t, f, records("lhello", "lred \x1b[31m and \xff", "ltwo\nlines", "l"+strings.Repeat("z", 5000)))
	second := records("lagain")
	second.Invocation.RequestID = "req-2"
	answersOf(t, f, second)
	f.Close() // everything written is read before an environment's end
	want := []string{
		"req-1: INFO hello", "req-1: INFO red \ufffd[31m and \ufffd", "req-1: INFO two", "req-1: INFO lines",
		"req-1: INFO " + strings.Repeat("z", 1024), "req-2: INFO again",
	}
	if got := rec.lines(); !slices.Equal(got, want) {
		t.Fatalf("log:\n%q\nwant:\n%q", got, want)
	}
}

func TestLogFloodIsCut(t *testing.T) {
	rec := &recorder{}
	f := load(t, newEngine(t, rec), guest(t, shared.native), runtime.Limits{Concurrency: 1})
	answersOf(t, f, records("Lflood"))
	f.Close()
	lines := rec.lines()
	last := lines[len(lines)-1]
	if len(lines) < logBurst || len(lines) > 3000 || !strings.Contains(last, "log lines were dropped") {
		t.Fatalf("5000 lines at once gave %d, the last %q; want about %d and a count of the dropped", len(lines), last, logBurst)
	}
}

func TestManyBatchesAtOnce(t *testing.T) {
	rec := &recorder{}
	f := load(t, newEngine(t, rec), severityArtifact(severityWasm), runtime.Limits{Concurrency: 3})
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			var out runtime.ProcessedBatch
			for j := range 10 {
				want := fmt.Sprintf(`{"id": "%d/%d", "mag": 1, "severity": "micro"}`, i, j)
				out.Reset()
				err := f.(runtime.RecordProcessor).Process(t.Context(), records(fmt.Sprintf(`{"id": "%d/%d", "mag": 1}`, i, j)), &out)
				if err != nil || string(out.Records[0].Data) != want+"\n" {
					t.Errorf("%v %q, want %s", err, show(out.Records), want)
				}
			}
		})
	}
	wg.Wait()
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.start > 3 {
		t.Fatalf("%d environments were started, the limit is 3", rec.start)
	}
}

// Loading and closing again and again holds nothing.
func TestReloadsLeakNothing(t *testing.T) {
	e := newEngine(t, &recorder{})
	a := artifact(t, nativeModule(replyOf(), nil))
	cycle := func() {
		f, err := e.Load(t.Context(), a, runtime.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	count := func() (files, goroutines int) {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip("/proc is needed:", err)
		}
		return len(entries), goruntime.NumGoroutine()
	}
	cycle()
	files, goroutines := count()
	for range 30 {
		cycle()
	}
	filesAfter, goroutinesAfter := count()
	if filesAfter > files+2 || goroutinesAfter > goroutines+5 { // some may be on their way out
		t.Errorf("after 30 reloads: %d open files and %d goroutines, before %d and %d", filesAfter, goroutinesAfter, files, goroutines)
	}
	if maps, _ := os.ReadFile("/proc/self/maps"); bytes.Contains(maps, []byte("memfd:shardmill")) {
		t.Error("a shared segment is still mapped")
	}
}

func TestCacheIsMadeOncePerModuleAndComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "cache")
	e := New(Options{CacheDir: dir})
	defer e.Close()
	a := artifact(t, nativeModule(replyOf(), nil))
	f := load(t, e, a, runtime.Limits{})
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || len(entries[0].Name()) != 64 {
		t.Fatalf("cache folders %v (%v), want one named by a sha256", entries, err)
	}
	info, _ := os.Stat(filepath.Join(dir, entries[0].Name()))
	if info.Mode().Perm() != 0o700 {
		t.Errorf("the cache folder has mode %v, want 0700", info.Mode().Perm())
	}
	f.Close()
	os.RemoveAll(dir) // the next environment finds nothing compiled
	if err := f.(*nativeFunction).prove(t.Context(), f); !errs.Is(err, errs.Unavailable) {
		t.Fatalf("a closed function: %v", err)
	}
	g := newFunction(e, a, runtime.Limits{}.Defaults(), f.(*nativeFunction).job, abiNative)
	defer g.Close()
	if err := g.prove(t.Context(), g.door()); err != nil {
		t.Fatal("an environment did not start after its cache was removed:", err)
	}
}
