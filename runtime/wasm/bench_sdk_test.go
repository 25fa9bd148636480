package wasm

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/goguest"
	"github.com/shardmill/shardmill/runtime"
)

// BenchmarkSDK runs the severity transform, as each SDK's example has it, over 500 records of 1 KB.
// cpu-ratio is the processor time of host and worker together over that of the same walk in Go
// inside this process. The goals: at most 2.5 for C, Rust, AssemblyScript and Zig, 8 for Go.
func BenchmarkSDK(b *testing.B) {
	const kept = "../../sdk/conformance/guests/severity-"
	for _, name := range []string{"c", "rust", "assemblyscript", "zig", "go"} {
		b.Run(name, func(b *testing.B) {
			path := kept + name + ".wasm"
			switch name {
			case "c":
				path = severityWasm
			case "go":
				path = goSeverity(b)
			}
			benchmarkAgainstGo(b, path)
		})
	}
}

// goSeverity builds the example of sdk/go.
func goSeverity(b *testing.B) string {
	if _, err := exec.LookPath("go"); err != nil {
		b.Skip("needs the go tool:", err)
	}
	out := filepath.Join(shared.dir, "severity-go.wasm")
	if _, err := os.Stat(out); err == nil {
		return out
	}
	if _, err := goguest.Build(b.Context(), "../../sdk/go/examples/severity", out); err != nil {
		b.Fatal(err)
	}
	return out
}

func benchmarkAgainstGo(b *testing.B, path string) {
	f := load(b, newEngine(b, &recorder{}), severityArtifact(path), runtime.Limits{Concurrency: 1}).(*nativeFunction)
	in := &runtime.RecordBatch{Records: quakes(500)}
	v, err := f.pool.Acquire(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	f.pool.Release(v, true, "")
	total := func() time.Duration { return processTime(b, 0) + cpuOf(b, v) }
	var out runtime.ProcessedBatch
	var native []byte
	var guest, plain time.Duration
	b.SetBytes(500 * 1024)
	for b.Loop() {
		start := total()
		out.Reset()
		if err := f.Process(b.Context(), in, &out); err != nil {
			b.Fatal(err)
		}
		between := total()
		native = goBatch(goWalk{words: true}, native, in)
		guest, plain = guest+between-start, plain+total()-between
	}
	b.ReportMetric(float64(guest.Nanoseconds())/float64(b.N)/500, "guest-ns/record")
	b.ReportMetric(float64(plain.Nanoseconds())/float64(b.N)/500, "native-ns/record")
	b.ReportMetric(float64(guest)/float64(plain), "cpu-ratio")
}

// BenchmarkColdStart is the way from a file that was compiled before to a function that has answered
// its smoke test: hashing it, looking it up, a worker, the test. The goal is below 50 ms.
func BenchmarkColdStart(b *testing.B) {
	for _, name := range []string{"c", "rust", "go"} {
		b.Run(name, func(b *testing.B) {
			path := map[string]string{"c": severityWasm, "rust": "../../sdk/conformance/guests/severity-rust.wasm"}[name]
			if name == "go" {
				path = goSeverity(b)
			}
			e := newEngine(b, &recorder{})
			load(b, e, severityArtifact(path), runtime.Limits{})
			for b.Loop() {
				f, err := e.Load(b.Context(), severityArtifact(path), runtime.Limits{})
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				f.Close()
				b.StartTimer()
			}
		})
	}
}
