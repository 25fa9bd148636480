// Package extism compares WebAssembly functions with those of the Extism SDK for Go.
package extism

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	extism "github.com/extism/go-sdk"
	"github.com/tetratelabs/wazero"
	"golang.org/x/sys/unix"

	"github.com/shardmill/shardmill/examples/earthquakes"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/runtime/wasm"
)

func TestMain(m *testing.M) {
	wasm.WorkerMain()
	os.Exit(m.Run())
}

const severity = "../../../examples/earthquakes/severity/severity."

// plugin builds the severity transform for Extism and loads it. timeout 0 is none: Extism cannot
// end the plugin then, which is how it is fastest.
func plugin(t testing.TB, timeout time.Duration) *extism.Plugin {
	t.Helper()
	for _, tool := range []string{"clang", "wasm-ld"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is needed to build the guest", tool)
		}
	}
	dir := t.TempDir()
	source, err := os.ReadFile(severity + "c") // a copy, whose shardmill.h is the one here
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "severity.c"), source, 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "severity.wasm")
	cmd := exec.Command("clang", "--target=wasm32", "-O2", "-nostdlib", "-mbulk-memory", "-I", "testdata", "-Wl,--no-entry,--strip-all", "-o", out, filepath.Join(dir, "severity.c"))
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	manifest := extism.Manifest{Wasm: []extism.Wasm{extism.WasmFile{Path: out}}, Timeout: uint64(timeout.Milliseconds())}
	p, err := extism.NewPlugin(context.Background(), manifest, extism.PluginConfig{RuntimeConfig: wazero.NewRuntimeConfigCompiler()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close(context.Background()) })
	return p
}

func function(t testing.TB) runtime.RecordProcessor {
	t.Helper()
	e := wasm.New(wasm.Options{CacheDir: t.TempDir()})
	t.Cleanup(func() { e.Close() })
	f, err := e.Load(t.Context(), runtime.Artifact{Name: "severity", Kind: runtime.KindWasm, Path: severity + "wasm"}, runtime.Limits{Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f.(runtime.RecordProcessor)
}

// batch is 500 records of 1 KB, as runtime/wasm measures with.
func batch() *runtime.RecordBatch {
	in := &runtime.RecordBatch{}
	for i := range 500 {
		mag := strconv.FormatFloat(float64(i%85)/10, 'f', 2, 64)
		if i%6 == 5 {
			mag = "null"
		}
		head := fmt.Sprintf(`{"id": "us%06d", "time": 1517363399650, "place": "37km NNE of Amboy, Washington", "notes": "`, i)
		tail := fmt.Sprintf(`", "mag": %s, "magType": "ml", "depth": 3.28, "net": "us", "type": "earthquake", "status": "reviewed", "tsunami": 0}`, mag)
		in.Records = append(in.Records, runtime.InRecord{Data: []byte(head + strings.Repeat("x", 1024-len(head)-len(tail)) + tail)})
	}
	return in
}

// Both hosts give the same answers.
func TestBothAgree(t *testing.T) {
	p, f := plugin(t, 0), function(t)
	in := batch()
	for _, line := range bytes.SplitAfter(earthquakes.Feed, []byte("\n"))[:200] {
		in.Records = append(in.Records, runtime.InRecord{Data: line}, runtime.InRecord{Data: line[:len(line)/2]})
	}
	var out runtime.ProcessedBatch
	if err := f.Process(t.Context(), in, &out); err != nil {
		t.Fatal(err)
	}
	for i, r := range out.Records {
		code, data, err := p.Call("transform", in.Records[i].Data)
		if got, want := code == 1, r.Status == runtime.Failed; got != want || !want && !bytes.Equal(data, r.Data) {
			t.Fatalf("the record %s: %d %s (%v), want %d %s", in.Records[i].Data, code, data, err, r.Status, r.Data)
		}
	}
}

// cpu is the processor time of this process and its children, the workers.
func cpu(b *testing.B) (sum time.Duration) {
	clocks := []int32{unix.CLOCK_PROCESS_CPUTIME_ID}
	tasks, _ := filepath.Glob("/proc/self/task/*/children")
	for _, task := range tasks {
		text, _ := os.ReadFile(task)
		for _, field := range strings.Fields(string(text)) {
			pid, _ := strconv.Atoi(field)
			clocks = append(clocks, int32(^pid)<<3|2) // the kernel's clock id for another process
		}
	}
	for _, clock := range clocks {
		var ts unix.Timespec
		if err := unix.ClockGettime(clock, &ts); err != nil {
			b.Skip("the processor clock of another process is needed:", err)
		}
		sum += time.Duration(ts.Nano())
	}
	return sum
}

// BenchmarkSeverity compares processor time: the same C source as an Extism plugin inside of this
// process, a call a record, and as a native batch module in a worker. ratio is how many times more
// Extism takes. Only with a time limit can Extism end a plugin that loops, as the worker always can.
func BenchmarkSeverity(b *testing.B) {
	for name, timeout := range map[string]time.Duration{"no-limit": 0, "time-limit": time.Minute} {
		b.Run(name, func(b *testing.B) {
			p, f := plugin(b, timeout), function(b)
			in := batch()
			var out runtime.ProcessedBatch
			var ours, theirs time.Duration
			for b.Loop() {
				start := cpu(b)
				out.Reset()
				if err := f.Process(b.Context(), in, &out); err != nil {
					b.Fatal(err)
				}
				between := cpu(b)
				for i := range in.Records {
					if _, _, err := p.Call("transform", in.Records[i].Data); err != nil {
						b.Fatal(err)
					}
				}
				ours, theirs = ours+between-start, theirs+cpu(b)-between
			}
			b.ReportMetric(float64(ours.Nanoseconds())/float64(b.N)/500, "ours-ns/record")
			b.ReportMetric(float64(theirs.Nanoseconds())/float64(b.N)/500, "extism-ns/record")
			b.ReportMetric(float64(theirs)/float64(ours), "ratio")
		})
	}
}
