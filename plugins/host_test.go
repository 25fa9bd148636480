package plugins

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// quick is the standard tuning with less patience, so that tests need not have it either.
var quick = tuning{poll: 20 * time.Millisecond, settle: 30 * time.Millisecond, debounce: time.Millisecond,
	opening: 2 * time.Second, drain: 100 * time.Millisecond}

// fakeEngine loads every kind it is told to. A version whose file contains "unfit" is refused.
type fakeEngine struct {
	kind  runtime.ArtifactKind
	gate  chan struct{} // when not nil, Load waits for it
	loads atomic.Int32

	mu      sync.Mutex
	loaded  []*fakeFunction
	refusal error // of the next loads, whatever they load
}

type fakeFunction struct {
	artifact runtime.Artifact
	content  string
	closed   atomic.Int32
	failing  atomic.Bool
}

func (f *fakeFunction) Failing() error {
	if f.failing.Load() {
		return errors.New("no starts")
	}
	return nil
}

func (e *fakeEngine) Accepts(a runtime.Artifact) bool { return a.Kind == e.kind }

func (e *fakeEngine) Load(ctx context.Context, a runtime.Artifact, _ runtime.Limits) (runtime.Function, error) {
	e.loads.Add(1)
	if e.gate != nil {
		select {
		case <-e.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	file := a.Path
	if a.Kind == runtime.KindBootstrap {
		file = filepath.Join(a.Path, "bootstrap")
	}
	var b []byte
	if a.Kind == runtime.KindWasm || a.Kind == runtime.KindBootstrap {
		var err error
		if b, err = os.ReadFile(file); err != nil {
			return nil, err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refusal != nil {
		return nil, e.refusal
	}
	if strings.Contains(string(b), "unfit") {
		return nil, errs.New(errs.Invalid, "function %s does not export shardmill_process: build it with the SDK", a.Name)
	}
	f := &fakeFunction{artifact: a, content: string(b)}
	e.loaded = append(e.loaded, f)
	return f, nil
}

// Invoke answers with the content of the version.
func (f *fakeFunction) Invoke(context.Context, runtime.Invocation) (runtime.Result, error) {
	if f.closed.Load() != 0 {
		return runtime.Result{}, errs.New(errs.Internal, "invoked after it was closed")
	}
	return runtime.Result{Payload: []byte(f.content)}, nil
}

func (f *fakeFunction) Close() error { f.closed.Add(1); return nil }

// host is a registry over a directory, with its events as sentences.
type host struct {
	t         testing.TB
	dir       string
	o         Options
	r         *Registry
	wasm, exe *fakeEngine
	events    chan string
}

func newHost(t testing.TB) *host {
	h := &host{t: t, dir: filepath.Join(t.TempDir(), "plugins"), events: make(chan string, 10_000),
		wasm: &fakeEngine{kind: runtime.KindWasm}, exe: &fakeEngine{kind: runtime.KindBootstrap}}
	if err := os.Mkdir(h.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	say := func(format string, args ...any) { h.events <- fmt.Sprintf(format, args...) }
	h.o = Options{Dir: h.dir, Versions: filepath.Join(t.TempDir(), "versions"), Engines: []runtime.Engine{h.wasm, h.exe},
		Region: "us-east-1", Account: "000000000000", Endpoint: "http://127.0.0.1:4566",
		Events: Events{
			Loaded:  func(name, _ string, _ time.Duration) { say("loaded %s", name) },
			Swapped: func(name, _, _ string, _ time.Duration) { say("swapped %s", name) },
			Refused: func(name, path string, err error) { say("refused %s %s: %v", name, filepath.Base(path), err) },
			Removed: func(name string) { say("removed %s", name) },
			Closed:  func(name, _ string, err error) { say("closed %s %v", name, err) },
			Directory: func(err error) {
				say("directory %s", strings.ReplaceAll(fmt.Sprint(err), h.dir, "DIR"))
			},
		}}
	return h
}

func (h *host) open() *host {
	h.t.Helper()
	r, err := open(h.t.Context(), h.o, quick)
	if err != nil {
		h.t.Fatal(err)
	}
	h.r = r
	h.t.Cleanup(func() { r.Close() })
	return h
}

// write puts a finished file in the directory: aside first, then renamed into place.
func (h *host) write(name, content string) {
	h.t.Helper()
	aside := filepath.Join(h.dir, ".aside")
	if err := os.WriteFile(aside, []byte(content), 0o644); err != nil {
		h.t.Fatal(err)
	}
	past := time.Now().Add(-24 * time.Hour)
	if err := os.Chtimes(aside, past, past); err != nil {
		h.t.Fatal(err)
	}
	if err := os.Rename(aside, filepath.Join(h.dir, name)); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) remove(name string) {
	h.t.Helper()
	if err := os.RemoveAll(filepath.Join(h.dir, name)); err != nil {
		h.t.Fatal(err)
	}
}

// expect waits for exactly these events, in any order.
func (h *host) expect(want ...string) {
	h.t.Helper()
	var got []string
	timeout := time.After(10 * time.Second)
	for range want {
		select {
		case e := <-h.events:
			got = append(got, e)
		case <-timeout:
			h.t.Fatalf("waited 10 s; got events\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		h.t.Fatalf("events\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// quiet makes sure that all that happened so far led to no event: a plugin dropped in now is
// what the next event is about.
func (h *host) quiet() {
	h.t.Helper()
	h.write("marker.wasm", wasm(time.Now().String()))
	h.expect("loaded marker")
	h.remove("marker.wasm")
	h.expect("removed marker", "closed marker <nil>")
}

// answer invokes a function and returns what it says.
func (h *host) answer(ref string) string {
	h.t.Helper()
	fn, release, err := h.r.Function(ref)
	if err != nil {
		return err.Error()
	}
	defer release()
	res, err := fn.Invoke(h.t.Context(), runtime.Invocation{})
	if err != nil {
		h.t.Fatal(err)
	}
	return string(res.Payload)
}

// wasm is a file that starts like a module.
func wasm(rest string) string { return string(wasmMagic) + rest }

const script = "#!/bin/sh\nexit 0\n"
