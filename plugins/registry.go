package plugins

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// Registry holds the functions that the directory gives. Its methods are safe for concurrent use.
type Registry struct {
	o     Options
	tune  tuning
	store *store
	watch *watcher

	mu        sync.Mutex
	functions map[string]*function
	live      map[*version]bool // versions whose Function is not closed yet
	closed    bool
	drained   chan struct{} // closed when closed is set and live is empty
}

// function is one name that the directory claims or claimed.
type function struct {
	name    string
	current *version // nil when none serves
	loading bool
	refusal *refusal // of the newest entry
}

// refusal is why an entry was not taken.
type refusal struct {
	file string
	id   string // of the version, if it came to that
	err  error
	none bool // the entry is no plugin at all, so there is no function either
}

// version is one version of a function, loaded.
type version struct {
	bundle
	name    string
	limits  runtime.Limits
	fn      runtime.Function
	leases  int
	retired bool // replaced or removed: closed at the last release
}

func open(ctx context.Context, o Options, tune tuning) (*Registry, error) {
	if err := o.prepare(); err != nil {
		return nil, err
	}
	st, err := openStore(o.Versions)
	if err != nil {
		return nil, err
	}
	r := &Registry{o: o, tune: tune, store: st, functions: map[string]*function{},
		live: map[*version]bool{}, drained: make(chan struct{})}
	startWatcher(r)
	select {
	case <-r.watch.ready:
		st.collect() // what an earlier process left
		return r, nil
	case <-ctx.Done():
		r.Close()
		return nil, ctx.Err()
	}
}

// Function leases the version that serves a function. The reference is the function's name or its
// full ARN, either with the qualifier :$LATEST. release gives the lease back and must be called
// once; the version is not closed before. Errors: NotFound when this host has no such function,
// InUse while its first version is loading, Unavailable when it has no version that loads, Invalid
// when the reference is malformed.
func (r *Registry) Function(nameOrARN string) (fn runtime.Function, release func(), err error) {
	name, err := r.o.resolve(nameOrARN)
	if err != nil {
		return nil, nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.functions[name]
	switch {
	case r.closed:
		return nil, nil, errs.New(errs.Unavailable, "function %s cannot be used: the host is closing", name)
	case f == nil || f.hidden():
		return nil, nil, errs.New(errs.NotFound, "Function not found: %s", r.o.arn(name))
	case f.current == nil && f.loading:
		return nil, nil, errs.New(errs.InUse, "function %s is being loaded for the first time: try again", name)
	case f.current == nil:
		return nil, nil, errs.Wrap(errs.Unavailable, f.refusal.err, "function %s has no version that can be used", name)
	}
	v := f.current
	v.leases++
	return v.fn, sync.OnceFunc(func() { r.release(v) }), nil
}

// hidden reports whether f is only the memory of something that is no plugin.
func (f *function) hidden() bool {
	return f.current == nil && !f.loading && (f.refusal == nil || f.refusal.none)
}

func (r *Registry) release(v *version) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v.leases--; v.leases == 0 && v.retired {
		go r.finish(v)
	}
}

// retire takes v out of service. It is closed now or at the last release. r.mu is held.
func (r *Registry) retire(v *version) {
	if v.retired = true; v.leases == 0 {
		go r.finish(v)
	}
}

// finish closes a version that has drained and gives its content back. It runs once a version.
func (r *Registry) finish(v *version) {
	r.mu.Lock()
	still := r.live[v]
	r.mu.Unlock()
	if !still {
		return // Close did not wait for its leases
	}
	err := v.fn.Close()
	r.unpin(&v.bundle)
	r.o.Events.closed(v.name, v.id, err)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, v)
	r.checkDrained()
}

// checkDrained tells Close that the last version is closed. r.mu is held.
func (r *Registry) checkDrained() {
	if r.closed && len(r.live) == 0 {
		select {
		case <-r.drained:
		default:
			close(r.drained)
		}
	}
}

// List describes the functions, sorted by name.
func (r *Registry) List() []Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []Info
	for _, f := range r.functions {
		if !f.hidden() {
			list = append(list, f.info(r.o.arn(f.name)))
		}
	}
	slices.SortFunc(list, func(a, b Info) int { return strings.Compare(a.Name, b.Name) })
	return list
}

func (f *function) info(arn string) Info {
	i := Info{Name: f.name, ARN: arn, State: Failed}
	switch v := f.current; {
	case v != nil:
		i.State, i.Kind, i.Version, i.Limits = Active, v.kind, v.id, v.limits.Defaults()
		if m := v.manifest; m != nil {
			i.Handler, i.EventSources = m.Handler, m.EventSources
		}
		if failing, ok := v.fn.(interface{ Failing() error }); ok {
			if err := failing.Failing(); err != nil {
				i.State, i.Reason = Failed, printable(err.Error())
			}
		}
	case f.loading:
		i.State = Pending
	}
	if f.refusal != nil {
		i.Reason = printable(f.refusal.err.Error())
	}
	return i
}

// Close stops watching, ends loads under way, waits at most 10 s for leases and closes every
// version. If leases were still out then, their versions are closed all the same and the error is
// InUse, naming the functions.
func (r *Registry) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		<-r.drained
		return nil
	}
	r.closed = true
	r.mu.Unlock()
	r.watch.stop()

	r.store.stopCollecting() // the versions that serve are no garbage
	r.mu.Lock()
	for _, f := range r.functions {
		if f.current != nil {
			r.retire(f.current)
		}
	}
	r.checkDrained()
	r.mu.Unlock()
	var err error
	select {
	case <-r.drained:
	case <-time.After(r.tune.drain):
		err = r.force()
	}
	if cerr := r.store.close(); err == nil {
		err = cerr
	}
	return err
}

// force closes the versions whose leases were not given back.
func (r *Registry) force() error {
	r.mu.Lock()
	var left []*version
	for v := range r.live {
		if v.leases > 0 {
			left = append(left, v)
			delete(r.live, v)
		}
	}
	r.checkDrained()
	r.mu.Unlock()
	var names []string
	for _, v := range left {
		r.o.Events.closed(v.name, v.id, v.fn.Close())
		names = append(names, v.name)
	}
	<-r.drained // the others are closing, which engines bound
	if len(names) == 0 {
		return nil
	}
	slices.Sort(names)
	return errs.New(errs.InUse, "functions were closed while they were in use, %s after the host began to close: %s",
		r.tune.drain, strings.Join(slices.Compact(names), ", "))
}
