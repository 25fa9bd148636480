package plugins

import (
	"context"
	"fmt"
	"os"
	goruntime "runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

func TestARemovedFileTakesItsFunctionAlong(t *testing.T) {
	h := newHost(t)
	h.write("upper.wasm", wasm("1"))
	h.open()
	h.expect("loaded upper")
	fn, release, err := h.r.Function("upper")
	if err != nil {
		t.Fatal(err)
	}
	h.remove("upper.wasm")
	h.expect("removed upper")
	_, _, err = h.r.Function("upper")
	wantErr(t, err, errs.NotFound, "Function not found: arn:aws:lambda:us-east-1:000000000000:function:upper")
	if _, err := fn.Invoke(t.Context(), runtime.Invocation{}); err != nil {
		t.Error("a lease ended with the file:", err)
	}
	h.quiet() // still not closed
	release()
	release() // once is enough, twice does no harm
	h.expect("closed upper <nil>")
	if n := h.wasm.loaded[0].closed.Load(); n != 1 {
		t.Errorf("closed %d times, want once", n)
	}
}

func TestReplaceTwoHundredTimesUnderConcurrentLeases(t *testing.T) {
	const versions = 200
	h := newHost(t)
	descriptors, goroutines := inUse(t)
	h.write("upper.wasm", wasm("0"))
	h.open()
	h.expect("loaded upper")
	stop := make(chan struct{})
	var leases atomic.Int64
	var callers sync.WaitGroup
	for range 8 {
		callers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				fn, release, err := h.r.Function("upper")
				if err != nil {
					t.Error("a lease failed:", err)
					return
				}
				if _, err := fn.Invoke(context.Background(), runtime.Invocation{}); err != nil {
					t.Error("a leased version failed:", err)
				}
				release()
				if leases.Add(1)%64 == 0 {
					time.Sleep(time.Millisecond) // leaves the processor to the others
				}
			}
		})
	}
	for i := 1; i < versions; i++ {
		h.write("upper.wasm", wasm(fmt.Sprint(i)))
		h.expect("swapped upper", "closed upper <nil>")
	}
	close(stop)
	callers.Wait()
	if err := h.r.Close(); err != nil {
		t.Fatal(err)
	}
	if len(h.wasm.loaded) != versions {
		t.Fatalf("%d versions were loaded, want %d", len(h.wasm.loaded), versions)
	}
	for i, f := range h.wasm.loaded {
		if n := f.closed.Load(); n != 1 {
			t.Errorf("version %d was closed %d times, want once", i, n)
		}
	}
	if leases.Load() < versions {
		t.Errorf("only %d leases: the test did not put any load on", leases.Load())
	}
	t.Logf("%d leases", leases.Load())
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) { // goroutines end after they say so
		d, g := inUse(t)
		if d <= descriptors && g <= goroutines {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d descriptors and %d goroutines are left, %d and %d were there before", d, g, descriptors, goroutines)
		}
	}
}

// inUse counts what a leak would add to.
func inUse(t *testing.T) (descriptors, goroutines int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list), goruntime.NumGoroutine()
}

func TestCloseWaitsForLeasesWithinBounds(t *testing.T) {
	h := newHost(t)
	h.write("upper.wasm", wasm("1"))
	h.write("other.wasm", wasm("2"))
	h.open()
	_, release, err := h.r.Function("upper")
	if err != nil {
		t.Fatal(err)
	}
	err = h.r.Close()
	wantErr(t, err, errs.InUse, "functions were closed while they were in use, 100ms after the host began to close: upper")
	release()
	for _, f := range h.wasm.loaded {
		if n := f.closed.Load(); n != 1 {
			t.Errorf("%s was closed %d times, want once", f.artifact.Name, n)
		}
	}
	_, _, err = h.r.Function("upper")
	wantErr(t, err, errs.Unavailable, "function upper cannot be used: the host is closing")
	if err := h.r.Close(); err != nil {
		t.Error("second Close:", err)
	}
}

func BenchmarkFunction(b *testing.B) {
	h := newHost(b)
	h.write("upper.wasm", wasm("1"))
	h.open()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			_, release, err := h.r.Function("arn:aws:lambda:us-east-1:000000000000:function:upper")
			if err != nil {
				b.Fatal(err)
			}
			release()
		}
	})
}
