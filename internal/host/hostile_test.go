package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shardmill/shardmill/examples/earthquakes"
	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/internal/config"
)

// outcome is what becomes of the record for which a function turns hostile.
type outcome struct {
	code     string // of its error record; "" when it is delivered
	attempts int
}

const retries = 1 // after the first attempt

// TestHostileFunctions: whatever a function does, it costs its own batch and nothing else. The
// batches before and after it are delivered by the same function, another delivery stream keeps
// delivering at its pace, and when the host has closed no process is left. (Not parallel: it counts
// the processes of this test binary.)
func TestHostileFunctions(t *testing.T) {
	timeout := time.Second
	if raceEnabled {
		timeout *= 4
	}
	w := open(t, func(c *config.Config) { c.FunctionTimeout = timeout })
	w.drop("severity.wasm", earthquakes.Severity)
	w.awaitActive("severity", "")
	w.create("steady", "severity", 3)
	timedOut, failed, missing := outcome{"Lambda.FunctionTimedOut", retries + 1}, outcome{"Lambda.FunctionError", retries + 1}, outcome{"Lambda.MissingRecordId", 1}
	for _, engine := range []struct {
		name    string
		suffix  string
		content func() ([]byte, error)
		want    map[string]outcome
	}{
		{"handler", "", guestHandler, map[string]outcome{"loops": timedOut, "exits": failed, "garbage": {"Lambda.JsonProcessingException", 1},
			"foreign": missing, "large": failed, "floods": {}, "forks": {}}},
		{"module", ".wasm", guestModule, map[string]outcome{"loops": timedOut, "exits": failed, "garbage": failed,
			"foreign": missing, "large": failed, "floods": {}, "allocates": failed}},
	} {
		t.Run(engine.name, func(t *testing.T) {
			if engine.name == "module" {
				notUnderRace(t)
				if testing.Short() {
					t.Skip("compiling a Go module takes seconds of processor time")
				}
			}
			for behaviour := range engine.want {
				w.drop(behaviour+"-"+engine.name+engine.suffix, built(t, engine.content))
			}
			for behaviour, want := range engine.want {
				name := behaviour + "-" + engine.name
				w.awaitActive(name, "")
				w.create(name, name, retries)
				t.Run(behaviour, func(t *testing.T) { w.endure(t, name, want) })
			}
		})
	}
	if left := processes(t, w.cfg.Data); len(left) == 0 {
		t.Error("control: no handler's process was found while the host was open")
	}
	w.close()
	within(t, 5*time.Second, "end of all processes", func() bool { return len(processes(t, w.cfg.Data)) == 0 && len(children(t)) == 0 })
}

// endure sends a record that turns the function hostile between two that do not, while another
// delivery stream is watched.
func (w *world) endure(t *testing.T, name string, want outcome) {
	stop := w.probe(t, "steady")
	defer stop()
	for _, id := range []string{"calm-1", "hostile", "calm-2"} {
		expect := oneOk
		if id == "hostile" && want.code != "" {
			expect = oneFailed
		}
		if got := w.putOne(name, id); got != expect {
			t.Fatalf("%s: %+v, want %+v", id, got, expect)
		}
	}
	var got outcome
	for _, f := range w.failed(name) {
		got = outcome{f.Code, f.AttemptsMade}
	}
	if got != want {
		t.Errorf("error record %+v, want %+v", got, want)
	}
}

// probe puts records into a delivery stream one after the other until stop, which checks that each
// was delivered, and how long the slowest took.
func (w *world) probe(t *testing.T, stream string) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var took []time.Duration
	before := w.sum(stream)
	wg.Go(func() {
		for n := 0; ctx.Err() == nil; n++ {
			start := time.Now()
			if err := w.put(context.WithoutCancel(ctx), stream, event(fmt.Sprintf("%s-%d", t.Name(), n))); err != nil {
				t.Errorf("another delivery stream, meanwhile: %v", err)
				return
			}
			for w.sum(stream).Records < before.Records+n+1 {
				if time.Since(start) > 20*time.Second {
					t.Errorf("another delivery stream stands still")
					return
				}
				time.Sleep(time.Millisecond)
			}
			took = append(took, time.Since(start))
		}
	})
	return func() {
		cancel()
		wg.Wait()
		if len(took) == 0 {
			t.Error("nothing was delivered by the other delivery stream")
			return
		}
		slices.Sort(took)
		p99 := took[len(took)*99/100]
		if p99 > 2*time.Second {
			t.Errorf("the other delivery stream took %s in the 99th percentile", p99)
		}
		after := w.sum(stream)
		if after.Failed != before.Failed || after.Ok-before.Ok != len(took) {
			t.Errorf("the other delivery stream: %d puts, %+v before, %+v after", len(took), before, after)
		}
		t.Logf("meanwhile %d records of the other delivery stream: p50 %d ms, p99 %d ms", len(took), took[len(took)/2].Milliseconds(), p99.Milliseconds())
	}
}

// children lists the processes that this one started and that have not been waited for.
func children(t testing.TB) (found []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		b, err := os.ReadFile(p)
		if err != nil {
			continue // it has ended
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		if f := strings.Fields(rest); len(f) > 1 && f[1] == strconv.Itoa(os.Getpid()) {
			found = append(found, p)
		}
	}
	return found
}

// TestDeliveryStreamsShareAFunction: while one delivery stream's batch holds the only execution
// environment of a function until it times out, another's waits for it and is then delivered.
func TestDeliveryStreamsShareAFunction(t *testing.T) {
	t.Parallel()
	w := open(t, func(c *config.Config) { c.FunctionTimeout, c.Concurrency = 500*time.Millisecond, 1 })
	w.drop("loops", built(t, guestHandler))
	w.awaitActive("loops", "")
	w.create("one", "loops", 0)
	w.create("two", "loops", 0)
	if err := w.put(t.Context(), "one", event("hostile")); err != nil {
		t.Fatal(err)
	}
	if got := w.putOne("two", "calm"); got != oneOk {
		t.Errorf("the other delivery stream: %+v, want one record delivered", got)
	}
	if got := w.awaitDelivered("one", 1); got != (firehose.Delivered{Records: 1, Failed: 1}) {
		t.Errorf("the delivery stream with the hostile record: %+v, want one failed record", got)
	}
}
