package wasm

import (
	"testing"
	"time"

	"github.com/shardmill/shardmill/runtime"
	"golang.org/x/sys/unix"
)

// processTime is the CPU time of a process; 0 is this one.
func processTime(t testing.TB, pid int) time.Duration {
	t.Helper()
	clock := int32(unix.CLOCK_PROCESS_CPUTIME_ID)
	if pid != 0 {
		clock = int32(^pid)<<3 | 2 // the kernel's clock id for another process
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(clock, &ts); err != nil {
		t.Skip("the CPU clock of another process is needed:", err)
	}
	return time.Duration(ts.Nano())
}

func cpuOf(t testing.TB, v *environment) time.Duration {
	return processTime(t, v.proc.cmd.Process.Pid)
}

// BenchmarkTransform runs the severity transform over 500 records of 1 KB: in C through a
// worker, and in Go inside this process. cpu-ratio is the CPU time of host and worker together
// over that of the same algorithm in Go; the goal is at most 3. cpu-ratio-plain compares with Go
// that passes strings byte by byte, as one would write it first.
func BenchmarkTransform(b *testing.B) {
	f := load(b, newEngine(b, &recorder{}), severityArtifact(severityWasm), runtime.Limits{Concurrency: 1}).(*nativeFunction)
	in := &runtime.RecordBatch{Records: quakes(500)}
	v, err := f.pool.Acquire(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	f.pool.Release(v, true, "")
	total := func() time.Duration { return processTime(b, 0) + cpuOf(b, v) }
	var out runtime.ProcessedBatch
	var native []byte
	var spent [3]time.Duration
	b.SetBytes(500 * 1024)
	for b.Loop() {
		start := total()
		out.Reset()
		if err := f.Process(b.Context(), in, &out); err != nil {
			b.Fatal(err)
		}
		guest := total()
		native = goBatch(goWalk{}, native, in)
		plain := total()
		native = goBatch(goWalk{words: true}, native, in)
		words := total()
		spent[0], spent[1], spent[2] = spent[0]+guest-start, spent[1]+plain-guest, spent[2]+words-plain
	}
	for i, name := range []string{"worker", "native-plain", "native"} {
		b.ReportMetric(float64(spent[i].Nanoseconds())/float64(b.N)/500, name+"-ns/record")
	}
	b.ReportMetric(float64(spent[0])/float64(spent[1]), "cpu-ratio-plain")
	b.ReportMetric(float64(spent[0])/float64(spent[2]), "cpu-ratio")
}

// goBatch transforms a batch into buf's memory.
func goBatch(w goWalk, buf []byte, in *runtime.RecordBatch) []byte {
	buf = buf[:0]
	for i := range in.Records {
		if answer, status := w.severity(buf, in.Records[i].Data); status == runtime.Ok {
			buf = answer
		}
	}
	return buf
}

// BenchmarkStart measures the way from fork to READY for a small module.
func BenchmarkStart(b *testing.B) {
	f := load(b, newEngine(b, &recorder{}), severityArtifact(severityWasm), runtime.Limits{}).(*nativeFunction)
	for b.Loop() {
		v, err := f.start(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		v.End("done")
	}
}
