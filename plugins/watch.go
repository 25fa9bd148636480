package plugins

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/shardmill/shardmill/internal/errs"
)

// watcher decides when an entry is taken. One goroutine looks at the directory, when the file
// system reports a change and at every poll besides, since network file systems and overlays
// report none. Copying and loading run on goroutines of their own, at most one a function, and
// report back when they end.
type watcher struct {
	r      *Registry
	scan   *scanner
	cancel context.CancelFunc
	ready  chan struct{} // closed when what was present at the start is loaded or refused
	ended  chan struct{}

	busy    map[string]bool      // functions being updated
	missing map[string]time.Time // functions without an entry, and since when
	slots   chan struct{}
	results chan result

	notify  *fsnotify.Watcher // nil when the system gives none
	watched os.FileInfo       // the directory that notify watches; nil when none
	unread  string            // why the directory cannot be read, as was told; empty when it can
	polled  bool              // that changes are not reported was told
}

// result is the end of an update.
type result struct {
	name, file string
	print      uint64
	again      bool
}

// startWatcher makes the registry's watcher and starts it.
func startWatcher(r *Registry) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &watcher{
		r: r, scan: newScanner(r.o.Dir, r.tune.settle), cancel: cancel,
		ready: make(chan struct{}), ended: make(chan struct{}),
		busy: map[string]bool{}, missing: map[string]time.Time{},
		// A load mostly waits for a process to start or, when that hangs, for its time limit:
		// a few more at a time than there are processors.
		slots: make(chan struct{}, max(4, goruntime.GOMAXPROCS(0))), results: make(chan result),
	}
	r.watch = w
	var err error
	if w.notify, err = fsnotify.NewWatcher(); err != nil {
		w.notify = nil
		w.unnotified(err)
	}
	if info, err := os.Stat(r.o.Dir); err == nil && info.Mode()&0o002 != 0 && info.Mode()&os.ModeSticky == 0 {
		r.o.Events.directory(errs.New(errs.Denied, "everybody on this machine can put programs into the plugin directory %s, and they will run: chmod o-w it", printable(r.o.Dir)))
	}
	go w.run(ctx)
}

// unnotified tells, once, that changes are found by polling alone.
func (w *watcher) unnotified(err error) {
	if !w.polled {
		w.polled = true
		w.r.o.Events.directory(errs.Wrap(errs.Limit, cause(err), "the system does not report changes of the plugin directory %s; it is polled, which takes a little longer",
			printable(w.r.o.Dir)))
	}
}

// stop ends the watching and every update under way.
func (w *watcher) stop() {
	w.cancel()
	<-w.ended
}

func (w *watcher) run(ctx context.Context) {
	defer close(w.ended)
	start, opening := time.Now(), true
	for ctx.Err() == nil {
		now := time.Now()
		next := w.look(ctx, now)
		if opening && len(w.busy) == 0 && (next.IsZero() || now.Sub(start) > w.r.tune.opening) {
			opening = false
			close(w.ready)
		}
		wait := w.r.tune.poll
		if !next.IsZero() {
			wait = min(wait, max(next.Sub(now), time.Millisecond))
		}
		w.wait(ctx, wait)
	}
	for len(w.busy) > 0 {
		delete(w.busy, (<-w.results).name)
	}
	if w.notify != nil {
		w.notify.Close()
	}
}

// wait returns when there is reason to look again: a change, the end of an update, or time.
func (w *watcher) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	gathering := false
	var events <-chan fsnotify.Event
	var faults <-chan error
	if w.notify != nil {
		events, faults = w.notify.Events, w.notify.Errors
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case res := <-w.results:
			delete(w.busy, res.name)
			if e := w.scan.entries[res.file]; res.again && e != nil && e.done == res.print {
				e.done, e.retry = 0, time.Now().Add(w.r.tune.settle)
			}
			return
		case ev := <-events:
			if w.concerns(ev) && !gathering { // wait a moment for what else happens
				gathering = true
				timer.Reset(min(d, w.r.tune.debounce))
			}
		case <-faults: // events were lost
			return
		}
	}
}

// concerns reports whether an event can mean a change of an entry, or of the directory itself.
func (w *watcher) concerns(ev fsnotify.Event) bool {
	if ev.Name == w.r.o.Dir {
		w.watched = nil
		return true
	}
	_, f, _ := classify(filepath.Base(ev.Name))
	return f != ignored
}

// look observes the directory once and starts what is due. It returns when something will be due
// without a further change, or the zero time.
func (w *watcher) look(ctx context.Context, now time.Time) (next time.Time) {
	w.rewatch()
	if err := w.scan.observe(now); err != nil {
		w.unreadable(err)
		return time.Time{}
	}
	if w.unread != "" {
		w.unread = ""
		w.r.o.Events.directory(nil)
	}
	due := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	claims, manifests := map[string][]*entry{}, map[string]*entry{}
	for _, file := range slices.Sorted(maps.Keys(w.scan.entries)) {
		e := w.scan.entries[file]
		switch {
		case e.form == manifestFile:
			manifests[e.name] = e
		case e.form != foreign:
			claims[e.name] = append(claims[e.name], e)
		case !e.told:
			e.told = true
			w.r.o.Events.refused("", filepath.Join(w.r.o.Dir, file), e.err)
		}
	}
	for name, m := range manifests {
		if t := w.lonely(now, m, claims[name] == nil); !t.IsZero() {
			due(t)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(claims)) {
		delete(w.missing, name)
		if w.busy[name] {
			continue
		}
		if t := w.consider(ctx, now, name, claims[name], manifests[name]); !t.IsZero() {
			due(t)
		}
	}
	for _, name := range w.r.names() {
		if claims[name] == nil && !w.busy[name] {
			if t := w.gone(now, name); !t.IsZero() {
				due(t)
			}
		}
	}
	return next
}

// consider takes the entry of a function if it is new and at rest. If it is not at rest yet, it
// returns when it may be.
func (w *watcher) consider(ctx context.Context, now time.Time, name string, es []*entry, m *entry) time.Time {
	if len(es) > 1 {
		return w.considerClash(now, name, es)
	}
	e := es[0]
	if e.told { // a clash is over
		e.told, e.done = false, 0
	}
	e.with(m)
	switch {
	case e.whole == e.done:
		return time.Time{}
	case !e.seen.Equal(now): // a large folder that was not walked this time
		return e.nextWalk()
	case m != nil && !m.seen.Equal(now): // large layers
		return m.nextWalk()
	case now.Before(e.retry):
		return e.retry
	case !w.scan.settled(e):
		return e.since.Add(w.r.tune.settle)
	case m != nil && !w.scan.settled(m):
		return m.since.Add(w.r.tune.settle)
	}
	e.done = e.whole
	w.busy[name] = true
	go func(e entry) {
		w.slots <- struct{}{}
		again := w.r.update(ctx, &e)
		<-w.slots
		w.results <- result{e.name, e.file, e.whole, again}
	}(*e)
	return time.Time{}
}

// lonely tells, once, of a manifest that has been without a plugin for the settling time.
func (w *watcher) lonely(now time.Time, m *entry, alone bool) time.Time {
	switch {
	case !alone:
		m.told, m.first = false, time.Time{}
		return time.Time{}
	case m.told:
		return time.Time{}
	case m.first.IsZero(): // its plugin has just gone
		m.first = now
	}
	if due := m.first.Add(w.r.tune.settle); now.Before(due) {
		return due
	}
	m.told = true
	w.r.o.Events.refused("", filepath.Join(w.r.o.Dir, m.file), errs.New(errs.Invalid,
		"%s has no plugin beside it: put %s.wasm, %[2]s.zip, %[2]s.py … there, or remove it", printable(m.file), m.name))
	return time.Time{}
}

// considerClash refuses all entries of a name that more than one claims, once they have lain
// beside one another for the settling time: who renames upper.wasm to upper.zip means no clash.
func (w *watcher) considerClash(now time.Time, name string, es []*entry) time.Time {
	var files []string
	var latest time.Time
	told := true
	for _, e := range es {
		files = append(files, e.file)
		told = told && e.told
		if e.first.After(latest) {
			latest = e.first
		}
	}
	if told {
		return time.Time{}
	}
	if due := latest.Add(w.r.tune.settle); now.Before(due) {
		return due
	}
	err := errs.New(errs.Invalid, "%s claim the function name %s: keep one of them", strings.Join(files, " and "), name)
	w.r.clash(name, err)
	for _, e := range es {
		e.told = true
		w.r.o.Events.refused(name, filepath.Join(w.r.o.Dir, e.file), err)
	}
	return time.Time{}
}

// gone removes a function whose entry has been absent for the settling time. Programs that save
// by removing and creating do not interrupt it.
func (w *watcher) gone(now time.Time, name string) time.Time {
	since, ok := w.missing[name]
	if !ok {
		since = now
		w.missing[name] = now
	}
	if due := since.Add(w.r.tune.settle); now.Before(due) {
		return due
	}
	delete(w.missing, name)
	w.r.remove(name)
	return time.Time{}
}

// rewatch points notify at the directory that has the name now: it may have been removed and made
// again, or replaced by another.
func (w *watcher) rewatch() {
	if w.notify == nil {
		return
	}
	info, err := os.Stat(w.r.o.Dir)
	if err != nil {
		w.watched = nil
		return
	}
	if w.watched != nil && os.SameFile(w.watched, info) {
		return
	}
	w.notify.Remove(w.r.o.Dir) // fails when the watch went with its directory
	if err := w.notify.Add(w.r.o.Dir); err != nil {
		if !errors.Is(err, os.ErrNotExist) {
			w.unnotified(err)
		}
		return
	}
	w.watched = info
}

// unreadable tells that the directory cannot be read, once a cause.
func (w *watcher) unreadable(err error) {
	fault := errs.Wrap(errs.Unavailable, cause(err), "the plugin directory %s cannot be read; the functions loaded from it go on serving",
		printable(w.r.o.Dir))
	if w.unread != fault.Error() {
		w.unread = fault.Error()
		w.r.o.Events.directory(fault)
	}
}
