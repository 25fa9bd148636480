package lambda

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

const (
	// shutdownTime is what a process gets between SIGTERM and SIGKILL if it registered an internal
	// extension. Without one it gets no SIGTERM, as in the service.
	shutdownTime = 500 * time.Millisecond
	// lingerTime is the least that a process gets between its answer and its next poll, however
	// close to the deadline it answered.
	lingerTime = 100 * time.Millisecond
)

// phase is where an environment is in its life; see the package comment.
type phase uint8

const (
	starting phase = iota
	idle
	running
	answered
	gone
)

// environment is one process and its Runtime API. It belongs to whoever acquired it from the
// pool; from begin on it belongs to itself and goes back to the pool when the process asks for
// its next event or has ended.
type environment struct {
	fn   *function
	tmp  string
	born time.Time
	logs *capture
	api  *api

	registered chan struct{} // closed when every external extension has registered
	ending     chan struct{} // closed when reason is set

	initTook time.Duration // valid once ready is closed
	ready    chan struct{} // closed at the first next or the init error
	done     chan struct{} // closed when process, listener and folder are gone

	mu         sync.Mutex
	proc       *process // nil before it is started
	phase      phase
	readied    bool          // ready is closed
	asking     bool          // the process asks for an event and has none
	current    *invocation   // the last one begun
	invoked    bool          // current is not the first
	linger     *time.Timer   // ends an answered environment that does not ask on
	pending    *invocation   // current, until a poll takes it
	wake       chan struct{} // the newest poll; closed when it has an event or a newer one came
	fault      string        // what init/error said
	reason     string        // why it ends: the first one given; it gets no event any more
	extensions []*extension
	memory     meter
}

// newEnvironment makes all but the process. The file is the process's stdout and stderr.
func newEnvironment(f *function, born time.Time) (*environment, *os.File, error) {
	e := &environment{fn: f, born: born, ready: make(chan struct{}), done: make(chan struct{}),
		registered: make(chan struct{}), ending: make(chan struct{})}
	var err error
	if e.tmp, err = os.MkdirTemp(f.opts.Dir, "lambda-"); err != nil {
		return nil, nil, err
	}
	if e.api, err = newAPI(e, f.limits.Payload); err != nil {
		os.RemoveAll(e.tmp)
		return nil, nil, err
	}
	logs, w, err := newCapture(f.sink())
	if err != nil {
		e.api.close()
		os.RemoveAll(e.tmp)
		return nil, nil, err
	}
	e.logs = logs
	return e, w, nil
}

// abandon gives back what newEnvironment made, and ends the extensions, for a process that never
// started.
func (e *environment) abandon(w *os.File) {
	e.because("init: not started")
	e.stopExtensions("init:", time.Now())
	w.Close()
	e.logs.finish()
	e.api.close()
	os.RemoveAll(e.tmp)
	close(e.done)
}

// run starts the process, unless the environment is to end already.
func (e *environment) run(cmd *exec.Cmd) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.reason != "" {
		return errs.New(errs.Unavailable, "function %s is being removed", e.fn.artifact.Name)
	}
	up := make(chan struct{})
	proc, err := spawn(cmd, func(st *os.ProcessState) {
		<-up
		e.exited(st)
	})
	if err != nil {
		return err
	}
	e.proc = proc
	e.memory.pid = proc.pid
	close(up)
	return nil
}

// signal sends sig to the process, if it was started.
func (e *environment) signal(sig syscall.Signal) {
	e.mu.Lock()
	proc := e.proc
	e.mu.Unlock()
	if proc != nil {
		proc.signal(sig)
	}
}

// Alive is false once the process has ended.
func (e *environment) Alive() bool { return e.proc.alive() }

// begin hands inv to the process. It is false when the process is not there to take it.
func (e *environment) begin(inv *invocation) bool {
	e.logs.setRequest(inv.RequestID)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase != idle || e.reason != "" || !e.proc.alive() {
		return false
	}
	if !e.invoked {
		e.invoked = true
		inv.init = e.initTook
	}
	e.phase, e.current, e.pending, e.asking = running, inv, inv, false
	inv.handed = time.Now()
	e.announceLocked(inv)
	if e.fn.opts.Events.Platform != nil {
		e.logs.platform(runtime.StartLine(inv.RequestID))
	}
	close(e.wake)
	return true
}

// await returns what became of inv, at its deadline or ctx's end at the latest.
func (e *environment) await(ctx context.Context, inv *invocation) runtime.Result {
	timer := time.NewTimer(time.Until(inv.Deadline))
	defer timer.Stop()
	select {
	case <-inv.done:
	case <-timer.C:
		e.expire(inv)
	case <-ctx.Done():
		e.expire(inv)
	}
	<-inv.done
	select { // the caller's payload must not be in use when it gets it back
	case <-inv.delivered:
	case <-e.done:
	}
	return inv.result
}

// expire answers inv with the timeout, unless it was just answered, and kills the process.
func (e *environment) expire(inv *invocation) {
	granted := min(time.Since(inv.handed), inv.Deadline.Sub(inv.handed))
	if e.complete(inv, timedOut(inv.RequestID, granted), "timeout") {
		e.signal(syscall.SIGKILL)
	}
}

// lingered kills a process that has answered inv and still has not asked for the next event.
func (e *environment) lingered(inv *invocation) {
	e.mu.Lock()
	late := e.phase == answered && e.current == inv
	if late {
		e.becauseLocked("timeout")
	}
	e.mu.Unlock()
	if late {
		e.signal(syscall.SIGKILL)
	}
}

// complete gives inv its result. It is false when it has one already or is not the current event.
// end, if it is not empty, is why the environment ends with that: it gets no further event.
func (e *environment) complete(inv *invocation, res runtime.Result, end string) bool {
	res.MaxMemory = e.memory.peak()
	e.mu.Lock()
	ok := e.completeLocked(inv, res)
	if ok && end != "" {
		e.becauseLocked(end)
	}
	e.mu.Unlock()
	if ok {
		e.report(inv)
	}
	return ok
}

func (e *environment) completeLocked(inv *invocation, res runtime.Result) bool {
	if e.phase != running || e.current != inv {
		return false
	}
	e.phase = answered
	res.Init, res.Duration = inv.init, time.Since(inv.handed)
	inv.result = res
	e.fn.settling.Store(&inv.over)
	e.linger = time.AfterFunc(max(time.Until(inv.Deadline), lingerTime), func() { e.lingered(inv) })
	close(inv.done)
	return true
}

// poll registers a next of the process. The channel is closed when take has news. It is nil when
// the process must not ask now. The newest poll counts: a process that lost its connection asks
// again, perhaps before the loss is noticed here.
func (e *environment) poll() chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.reason != "" { // it is ending: no news, but no error either, its SIGTERM handler may be at work
		if e.linger != nil {
			e.linger.Stop()
		}
		return make(chan struct{})
	}
	if e.fault != "" {
		return nil
	}
	switch {
	case e.phase == gone:
		return nil
	case e.phase == running && e.pending == nil:
		return nil
	case e.phase == running: // the poll before this one broke off before it took the event
		e.wake = make(chan struct{})
		close(e.wake)
		return e.wake
	case e.asking: // this poll takes the place of the one before
		close(e.wake)
	}
	e.asking = true
	e.wake = make(chan struct{})
	e.settleLocked()
	return e.wake
}

// settleLocked makes the environment free once the process and all its extensions ask for more.
func (e *environment) settleLocked() {
	if !e.asking || e.reason != "" || e.fault != "" || slices.ContainsFunc(e.extensions, func(x *extension) bool { return x.busy }) {
		return
	}
	switch e.phase {
	case starting:
		e.initTook = time.Since(e.born)
		e.phase = idle
		e.markReady()
	case answered:
		e.linger.Stop()
		e.phase = idle
		go e.giveBack(e.current, true, "closed") // not here: Release may wait for this very request
	}
}

// markReady ends the init phase. e.mu is held.
func (e *environment) markReady() {
	if !e.readied {
		e.readied = true
		close(e.ready)
	}
}

// take is the event for a poll that was woken, nil when a newer poll took its place. A poll whose
// client is no longer there (ctx has ended) leaves the event for the next one.
func (e *environment) take(ctx context.Context, wake chan struct{}) *invocation {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.wake != wake || ctx.Err() != nil {
		return nil
	}
	inv := e.pending
	e.pending = nil
	return inv
}

func (e *environment) giveBack(inv *invocation, healthy bool, reason string) {
	if worn := e.memory.over(e.fn.limits.Memory); healthy && worn != "" {
		healthy, reason = false, worn
	}
	e.fn.pool.Release(e, healthy, reason)
	close(inv.over)
}

// failInit records an init error; false when the init phase is over.
func (e *environment) failInit(fault string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase != starting || e.fault != "" {
		return false
	}
	e.fault = fault
	e.markReady()
	return true
}

// initFault is why init failed, "" when it did not. It is for after ready or done.
func (e *environment) initFault() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fault == "" && e.phase == gone {
		fault := "it ended (" + e.reason + ") before it asked for an event"
		if e.reason == "exit: status 0" {
			fault += ": main must call lambda.Start and not return"
		}
		return fault
	}
	return e.fault
}

// End ends the process, with notice if it has an extension, and waits until all is gone.
func (e *environment) End(reason string) {
	e.because(reason)
	e.mu.Lock()
	var notice time.Duration
	for _, x := range e.extensions {
		notice = max(notice, shutdownTime)
		if x.proc != nil {
			notice = externalShare
		}
	}
	proc := e.proc
	e.mu.Unlock()
	if notice > 0 && proc != nil && proc.alive() {
		proc.signal(syscall.SIGTERM)
		select {
		case <-proc.ended:
		case <-time.After(notice):
		}
	}
	e.signal(syscall.SIGKILL)
	<-e.done
}

func (e *environment) because(reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.becauseLocked(reason)
}

// becauseLocked gives the reason of the end, unless there is one already.
func (e *environment) becauseLocked(reason string) {
	if e.reason == "" {
		e.reason = reason
		close(e.ending)
	}
}

func (e *environment) kill(reason string) {
	e.because(reason)
	e.signal(syscall.SIGKILL)
}

// exited follows the end of the process: it takes what was posted and written before, answers
// the current invocation if that did not, and gives everything back.
func (e *environment) exited(st *os.ProcessState) {
	e.because("exit: " + strings.TrimPrefix(st.String(), "exit "))
	e.memory.ended(st)
	e.api.drain(drainLimit)
	e.mu.Lock()
	inv := e.current
	e.mu.Unlock()
	if inv != nil {
		e.complete(inv, exited(inv.RequestID, st), "")
	}
	e.mu.Lock()
	was, reason := e.phase, e.reason
	e.phase = gone
	if e.linger != nil {
		e.linger.Stop()
	}
	e.mu.Unlock()
	e.stopExtensions(reason, time.Now().Add(externalTime-externalShare))
	e.api.close()
	e.logs.finish()
	if err := os.RemoveAll(e.tmp); err != nil {
		reason += fmt.Sprintf(" (its folder remains: %v)", err)
	}
	close(e.done)
	if was == answered {
		e.giveBack(inv, false, reason)
	}
	if on := e.fn.opts.Events.End; on != nil {
		on(e.fn.artifact.Name, reason)
	}
	e.fn.disown(e)
}
