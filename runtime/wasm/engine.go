package wasm

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"sync"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// Options configure an Engine.
type Options struct {
	// CacheDir keeps compiled modules, one folder a module, named by the module's sha256. It is
	// made with mode 0700 when it is not there. Whoever can write to it can run code in workers.
	CacheDir string
	// CacheBytes bounds that directory, default 1 GiB: modules that no function uses go first.
	CacheBytes int64
	// Events hears of starts, ends, guest log lines and metrics.
	Events runtime.Events
	// Services are lent to functions with the grants for them.
	Services runtime.Services
}

// Engine runs WebAssembly modules. It is safe for concurrent use.
type Engine struct {
	options  Options
	spawner  *spawner
	compiler *compiler
}

var _ runtime.Engine = (*Engine)(nil)

// New returns an engine. It starts nothing until the first Load.
func New(o Options) *Engine {
	s := newSpawner()
	return &Engine{options: o, spawner: s, compiler: newCompiler(o, s)}
}

// Close ends the engine: later loads and starts fail with errs.Unavailable. Close the functions
// first; on Linux the kernel kills workers that are still there.
func (e *Engine) Close() error {
	e.spawner.close()
	return nil
}

// Isolation tells what lies around the workers on this machine. Layers that turn out to be
// refused are known after the first Load.
func (e *Engine) Isolation() Isolation { return e.spawner.level() }

// Accepts reports whether a is a WebAssembly module.
func (e *Engine) Accepts(a runtime.Artifact) bool { return a.Kind == runtime.KindWasm }

// Load compiles a module, or finds it compiled, starts one environment and proves that it
// answers. The Function of a native batch module is a runtime.RecordProcessor; those of pull and
// stdio modules are not.
//
// Errors are errs.Invalid when the module is at fault (unfit, over a limit, not ready within
// l.InitTimeout), Throttled when ctx ended first, Unavailable when no process could be started.
func (e *Engine) Load(ctx context.Context, a runtime.Artifact, l runtime.Limits) (runtime.Function, error) {
	if !e.Accepts(a) {
		return nil, errs.New(errs.Invalid, "function %q is not a WebAssembly module", a.Name)
	}
	l = l.Defaults()
	if err := checkLimits(a.Name, l); err != nil {
		return nil, err
	}
	hash, size, err := hashModule(a)
	if err != nil {
		return nil, err
	}
	job := compileJob{name: a.Name, path: a.Path, hash: hash, size: size}
	e.compiler.cache.pin(hash)
	fn, err := e.load(ctx, a, l, job)
	if err != nil {
		e.compiler.cache.unpin(hash)
	}
	return fn, err
}

func (e *Engine) load(ctx context.Context, a runtime.Artifact, l runtime.Limits, job compileJob) (runtime.Function, error) {
	facts, err := e.compiler.compile(ctx, job)
	if err != nil {
		return nil, err
	}
	if need := int64(facts.Info.MemoryPages) * pageBytes; need > l.Memory {
		return nil, errs.New(errs.Invalid, "module %q starts with %d bytes of memory, the function's memory limit is %d; raise the limit or link with a smaller initial memory", a.Name, need, l.Memory)
	}
	abi, err := facts.Info.choose(a.ABI)
	if err == nil {
		err = checkGrants(facts.Info, a.Grants, e.options.Services)
	}
	if err != nil {
		return nil, errs.New(errs.Invalid, "module %q is refused: %v", a.Name, err)
	}
	f := newFunction(e, a, l, job, abi)
	fn := f.door()
	if err := f.prove(ctx, fn); err != nil {
		f.pool.Close()
		return nil, err
	}
	return fn, nil
}

const pageBytes = 64 << 10

func checkLimits(name string, l runtime.Limits) error {
	switch {
	case l.Memory < pageBytes || l.Memory > 65536*pageBytes:
		return errs.New(errs.Invalid, "function %q has a memory limit of %d bytes; a WebAssembly module can have %d to %d", name, l.Memory, pageBytes, 65536*pageBytes)
	case l.Payload < 4 || l.Payload > 1<<30:
		return errs.New(errs.Invalid, "function %q has an answer limit of %d bytes; it must be 4 to %d", name, l.Payload, 1<<30)
	}
	return nil
}

// hashModule reads the file once, which is all that the host does with a module's bytes.
func hashModule(a runtime.Artifact) (hash string, size int64, err error) {
	f, err := os.Open(a.Path)
	if err != nil {
		return "", 0, errs.Wrap(errs.Invalid, err, "the module file of function %q cannot be opened", a.Name)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", 0, errs.Wrap(errs.Invalid, err, "the module file of function %q cannot be read", a.Name)
	case !info.Mode().IsRegular():
		return "", 0, errs.New(errs.Invalid, "the module of function %q, %s, is not a regular file", a.Name, a.Path)
	case info.Size() > maxModuleBytes:
		return "", 0, errs.New(errs.Invalid, "module %q has %d bytes, the limit is %d", a.Name, info.Size(), maxModuleBytes)
	}
	h := sha256.New()
	size, err = io.Copy(h, f)
	if err != nil {
		return "", 0, errs.Wrap(errs.Invalid, err, "the module file of function %q cannot be read", a.Name)
	}
	return hex.EncodeToString(h.Sum(nil)), size, nil
}

// flight is work that several callers wait for.
type flight struct {
	done  chan struct{}
	facts cacheFacts
	err   error
}

// flights runs each key's work once at a time.
type flights struct {
	mu sync.Mutex
	m  map[string]*flight
}

// do returns the outcome of work for key, joining work under way. The work goes on when the
// caller's ctx ends.
func (g *flights) do(ctx context.Context, key string, work func() (cacheFacts, error)) (cacheFacts, error) {
	g.mu.Lock()
	f := g.m[key]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		g.m[key] = f
		go func() {
			f.facts, f.err = work()
			g.mu.Lock()
			delete(g.m, key)
			g.mu.Unlock()
			close(f.done)
		}()
	}
	g.mu.Unlock()
	select {
	case <-f.done:
		return f.facts, f.err
	case <-ctx.Done():
		return cacheFacts{}, errs.Wrap(errs.Throttled, ctx.Err(), "the module was still being compiled when the deadline came")
	}
}
