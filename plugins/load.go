package plugins

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// update brings a function to what its entry holds: it copies the entry, loads the copy if that
// is new, and swaps it in. again means that the entry moved meanwhile and is to be looked at anew.
func (r *Registry) update(ctx context.Context, e *entry) (again bool) {
	started := time.Now()
	r.begin(e.name)
	defer r.end(e.name)
	b, err := r.copyEntry(ctx, e)
	if errors.Is(err, errMoved) || ctx.Err() != nil {
		if err == nil {
			r.unpin(&b)
		}
		return true
	}
	if err != nil {
		var no errNoPlugin
		none := errors.As(err, &no)
		r.refuse(e.name, refusal{file: e.file, err: err, none: none})
		return false
	}
	if r.unchanged(e.name, b.id) {
		r.unpin(&b)
		return false
	}
	fn, limits, err := r.load(ctx, e.name, &b)
	if err != nil {
		r.unpin(&b)
		if ctx.Err() != nil {
			return true
		}
		r.refuse(e.name, refusal{file: e.file, id: b.id, err: err})
		return false
	}
	r.swap(&version{name: e.name, bundle: b, limits: limits, fn: fn}, started)
	return false
}

// copyEntry takes the entry into the store and makes sure that it was at rest all the while.
func (r *Registry) copyEntry(ctx context.Context, e *entry) (bundle, error) {
	dir, err := os.Open(r.o.Dir)
	if err != nil {
		return bundle{}, errMoved // the next look at the directory reports it
	}
	defer dir.Close()
	b, err := r.copyAll(ctx, dir, e)
	if errors.Is(err, errMoved) {
		return bundle{}, err
	}
	if r.watch.scan.whole(dir, e) != e.whole {
		if err == nil {
			r.unpin(&b)
		}
		return bundle{}, errMoved
	}
	return b, err
}

// load finds the engine for a version and loads it.
func (r *Registry) load(ctx context.Context, name string, b *bundle) (runtime.Function, runtime.Limits, error) {
	a := runtime.Artifact{Name: name, ARN: r.o.arn(name), Kind: b.kind, Path: b.path, Version: b.id,
		Region: r.o.Region, Account: r.o.Account, Endpoint: r.o.Endpoint}
	for _, l := range b.layers {
		a.Layers = append(a.Layers, l.path)
	}
	limits := r.o.Limits
	if m := b.manifest; m != nil {
		a.Env, a.Handler, a.ABI, a.Grants = m.Environment, m.Handler, m.ABI, m.Grants
		limits = m.Over(limits)
	}
	for _, engine := range r.o.Engines {
		if engine.Accepts(a) {
			fn, err := engine.Load(ctx, a, limits)
			return fn, limits, err
		}
	}
	what := "WebAssembly modules"
	switch b.kind {
	case runtime.KindBootstrap:
		what = "executables"
	case runtime.KindNode, runtime.KindPython, runtime.KindJava:
		what = "handlers of runtime " + b.kind.String()
	}
	return nil, limits, errs.New(errs.Invalid, "function %s cannot run: this host has no engine for %s", name, what)
}

// begin marks a function as being loaded.
func (r *Registry) begin(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.functions[name] == nil {
		r.functions[name] = &function{name: name}
	}
	r.functions[name].loading = true
}

func (r *Registry) end(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.functions[name].loading = false
}

// unchanged reports whether there is nothing to do for this content: it serves already, which
// makes any refusal a thing of the past, or it was found unfit. Content that failed through no
// fault of its own (the host was short of something) is tried again when the entry is touched.
func (r *Registry) unchanged(name, id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.functions[name]
	if f.current != nil && f.current.id == id {
		f.refusal = nil
		return true
	}
	return f.refusal != nil && f.refusal.id == id && errs.Is(f.refusal.err, errs.Invalid)
}

// refuse records why a function's newest entry is not taken, and tells. What is wrong with a file
// as such is told once: touching it makes no news, while a load is news each time it fails.
func (r *Registry) refuse(name string, ref refusal) {
	r.mu.Lock()
	f := r.functions[name]
	old := f.refusal
	f.refusal = &ref
	r.mu.Unlock()
	if ref.id != "" || old == nil || old.file != ref.file || old.err.Error() != ref.err.Error() {
		r.o.Events.refused(name, filepath.Join(r.o.Dir, ref.file), ref.err)
	}
}

// swap puts a loaded version in service and retires the one it replaces.
func (r *Registry) swap(v *version, started time.Time) {
	r.mu.Lock()
	f := r.functions[v.name]
	old := f.current
	f.current, f.refusal = v, nil
	r.live[v] = true
	if old == nil {
		r.mu.Unlock()
		r.o.Events.loaded(v.name, v.id, time.Since(started))
		return
	}
	old.leases++ // until it is told: Closed comes after Swapped
	r.retire(old)
	r.mu.Unlock()
	r.o.Events.swapped(v.name, old.id, v.id, time.Since(started))
	r.release(old)
}

// clash refuses entries that claim the same function. What serves goes on serving.
func (r *Registry) clash(name string, err error) {
	r.begin(name)
	r.mu.Lock()
	f := r.functions[name]
	f.loading, f.refusal = false, &refusal{err: err}
	r.mu.Unlock()
}

// remove takes a function out of service whose entry is gone.
func (r *Registry) remove(name string) {
	r.mu.Lock()
	old := r.functions[name].current
	delete(r.functions, name)
	if old == nil {
		r.mu.Unlock()
		return
	}
	old.leases++ // until it is told: Closed comes after Removed
	r.retire(old)
	r.mu.Unlock()
	r.o.Events.removed(name)
	r.release(old)
}

// names lists the names that functions have.
func (r *Registry) names() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var names []string
	for name := range r.functions {
		names = append(names, name)
	}
	return names
}
