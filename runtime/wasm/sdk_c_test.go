package wasm

import (
	"errors"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shardmill/shardmill/runtime"
)

// kit builds testdata/c/kit.c with the command that sdk/c/README.md gives.
func kit(t *testing.T) runtime.Artifact {
	t.Helper()
	for _, tool := range []string{"clang", "wasm-ld"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is needed to build a C guest", tool)
		}
	}
	path := filepath.Join(t.TempDir(), "kit.wasm")
	cmd := exec.Command("clang", "--target=wasm32", "-O2", "-nostdlib", "-mbulk-memory", "-Wall", "-Wextra", "-Werror",
		"-I", "../../sdk/c", "-Wl,--no-entry,--strip-all", "-o", path, "testdata/c/kit.c")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("clang: %v\n%s", err, out)
	}
	a := severityArtifact(path)
	a.Env = map[string]string{"COLOR": "blue"}
	return a
}

func TestCHeader(t *testing.T) {
	rec := &recorder{}
	f := load(t, newEngine(t, rec), kit(t), runtime.Limits{Concurrency: 1})
	in := records("=one", "2x", "d", "f", "p", "p", "kv", "cinvocation.id", "cCOLOR", "cother", "/abcdefghijk;lm,n", "/,", "/abc", "lhello", "=")
	in.Records[4].PartitionKey = []byte("pk")
	in.Records[5].SequenceNumber = "7"
	var out runtime.ProcessedBatch
	if err := f.(runtime.RecordProcessor).Process(t.Context(), in, &out); err != nil {
		t.Fatal(err)
	}
	want := []string{"0 ok one", "1 ok a", "1 ok b:x", "2 dropped", "3 failed", "4 ok pk", "5 ok none", "6 ok v", "7 ok req-1", "8 ok blue", "9 ok absent", "10 ok abcdefghijk", "11 ok", "12 ok abc", "14 ok"}
	if got := show(out.Records); !slices.Equal(got, want) {
		t.Errorf("answers:\n%q\nwant:\n%q", got, want)
	}
	if got, want := out.Records[7].PartitionKeys, map[string]string{"day": "01", "hour": "23"}; !maps.Equal(got, want) {
		t.Errorf("partition keys %v, want %v", got, want)
	}
	f.Close()
	if got, want := rec.lines(), []string{"req-1: WARN hello"}; !slices.Equal(got, want) {
		t.Errorf("log %q, want %q", got, want)
	}
}

// The header's memory grows with the batch, starts over with the next, and its end is a failure
// of the batch, not a trap.
func TestCHeaderMemory(t *testing.T) {
	f := load(t, newEngine(t, &recorder{}), kit(t), runtime.Limits{Concurrency: 1, Memory: 4 << 20})
	p := f.(runtime.RecordProcessor)
	for range 5 {
		if got := answersOf(t, f, records("x"+strings.Repeat("y", 2000))); len(got[0]) != len("0 ok ")+2_000_000 {
			t.Fatalf("an answer of %d bytes, want 2000000", len(got[0])-len("0 ok "))
		}
	}
	var failed *runtime.FunctionFailure
	err := p.Process(t.Context(), records("x"+strings.Repeat("y", 5000)), &runtime.ProcessedBatch{})
	if !errors.As(err, &failed) || *failed != (runtime.FunctionFailure{Type: runtime.ErrorHandler, Message: "out of memory"}) {
		t.Errorf("an answer above the memory limit: %v", err)
	}
	err = p.Process(t.Context(), records("!told so"), &runtime.ProcessedBatch{})
	if !errors.As(err, &failed) || *failed != (runtime.FunctionFailure{Type: runtime.ErrorHandler, Message: "told so"}) {
		t.Errorf("sm_fail_batch: %v", err)
	}
	if got := answersOf(t, f, records("=after")); got[0] != "0 ok after" {
		t.Errorf("the next batch: %q", got)
	}
}
