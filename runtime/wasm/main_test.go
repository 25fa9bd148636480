package wasm

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shardmill/shardmill/runtime"
)

// shared is what all tests of the binary use: one cache, and guests that are built once.
var shared struct {
	dir    string
	native func() (string, error)
	stdio  func() (string, error)
}

func TestMain(m *testing.M) {
	WorkerMain()
	if len(os.Args) == 1 {
		lockedMain() // children of isolation_test.go; returns in the test binary
		victimMain()
	}
	dir, err := os.MkdirTemp("", "shardmill-wasm")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	shared.dir = dir
	shared.native = sync.OnceValues(func() (string, error) { return goGuest("native", "-buildmode=c-shared") })
	shared.stdio = sync.OnceValues(func() (string, error) { return goGuest("stdio") })
	status := m.Run()
	os.RemoveAll(dir)
	os.Exit(status)
}

// goGuest builds a guest of testdata with the Go toolchain.
func goGuest(name string, flags ...string) (string, error) {
	path := filepath.Join(shared.dir, name+".wasm")
	args := append([]string{"build", "-ldflags=-s -w", "-o", path}, append(flags, "./testdata/"+name)...)
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// recorder collects events.
type recorder struct {
	mu    sync.Mutex
	logs  []string // "request: line"
	ends  []string
	start int
}

func (r *recorder) events() runtime.Events {
	return runtime.Events{
		Log: func(_, id, line string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.logs = append(r.logs, id+": "+line)
		},
		Start: func(string, time.Duration) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.start++
		},
		End: func(_, reason string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.ends = append(r.ends, reason)
		},
	}
}

func (r *recorder) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string(nil), r.logs...)
}

func newEngine(t testing.TB, r *recorder) *Engine {
	t.Helper()
	e := New(Options{CacheDir: filepath.Join(shared.dir, "cache"), Events: r.events()})
	t.Cleanup(func() { e.Close() })
	return e
}

func artifact(t testing.TB, module []byte) runtime.Artifact {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.wasm")
	if err := os.WriteFile(path, module, 0o600); err != nil {
		t.Fatal(err)
	}
	return runtime.Artifact{Name: "fn", Kind: runtime.KindWasm, Path: path}
}

func guest(t testing.TB, build func() (string, error)) runtime.Artifact {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("the go command is needed to build the guest:", err)
	}
	if raceEnabled {
		t.Skip("compiling a Go guest inside a race-enabled worker takes minutes; run without -race")
	}
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return runtime.Artifact{Name: "fn", Kind: runtime.KindWasm, Path: path, Env: map[string]string{"COLOR": "blue"}}
}

// load loads a module that must be fit and closes it with the test.
func load(t testing.TB, e *Engine, a runtime.Artifact, l runtime.Limits) runtime.Function {
	t.Helper()
	f, err := e.Load(t.Context(), a, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func records(data ...string) *runtime.RecordBatch {
	b := &runtime.RecordBatch{Invocation: runtime.Invocation{RequestID: "req-1"}}
	for _, d := range data {
		b.Records = append(b.Records, runtime.InRecord{Data: []byte(d)})
	}
	return b
}

// answersOf runs a batch and shows the answers as "index status data".
func answersOf(t testing.TB, f runtime.Function, in *runtime.RecordBatch) []string {
	t.Helper()
	var out runtime.ProcessedBatch
	if err := f.(runtime.RecordProcessor).Process(t.Context(), in, &out); err != nil {
		t.Fatal(err)
	}
	return show(out.Records)
}

func show(records []runtime.OutRecord) []string {
	lines := []string{}
	for _, r := range records {
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%d %s %s", r.Index, [...]string{"ok", "dropped", "failed"}[r.Status], r.Data)))
	}
	return lines
}
