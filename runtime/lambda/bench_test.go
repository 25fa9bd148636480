package lambda

import (
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/runtime"
)

// BenchmarkInvokeSmallEvent measures an event of 418 bytes through a real process, and beside it
// a bare POST to a net/http server on the same loopback with the same bytes, taken in turns. The
// ratio says what an invocation costs in round trips; it moves less than the microseconds do.
func BenchmarkInvokeSmallEvent(b *testing.B) {
	var rec recorder
	f := load(b, &rec, runtime.Limits{}, nil)
	payload := []byte(`{"do":"echo","text":"` + strings.Repeat("x", 395) + `"}`)
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }))
	defer bare.Close()
	roundTrip := func() {
		res, err := http.Post(bare.URL, "application/json", strings.NewReader(string(payload)))
		if err != nil {
			b.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
	var invokes, trips []time.Duration
	for b.Loop() {
		begun := time.Now()
		res, err := f.Invoke(b.Context(), runtime.Invocation{Payload: payload})
		invokes = append(invokes, time.Since(begun))
		if err != nil || len(res.Payload) != len(payload) {
			b.Fatal(res, err)
		}
		begun = time.Now()
		roundTrip()
		trips = append(trips, time.Since(begun))
	}
	p50 := func(d []time.Duration) float64 {
		slices.Sort(d)
		return float64(d[len(d)/2].Nanoseconds()) / 1000
	}
	b.ReportMetric(p50(invokes), "p50-us")
	b.ReportMetric(p50(trips), "bare-p50-us")
	b.ReportMetric(p50(invokes)/p50(trips), "x-bare")
	b.ReportMetric(0, "ns/op") // of both together: says nothing
}

// BenchmarkInvokeMegabyte is an event and an answer of 1 MiB.
func BenchmarkInvokeMegabyte(b *testing.B) {
	var rec recorder
	f := load(b, &rec, runtime.Limits{}, nil)
	payload := []byte(`{"do":"echo","text":"` + strings.Repeat("x", 1<<20) + `"}`)
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		res, err := f.Invoke(b.Context(), runtime.Invocation{Payload: payload})
		if err != nil || len(res.Payload) != len(payload) {
			b.Fatal(len(res.Payload), err)
		}
	}
}
