package lambda

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

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
	proc *process

	initTook time.Duration // valid once ready is closed
	ready    chan struct{} // closed at the first next or the init error
	done     chan struct{} // closed when process, listener and folder are gone

	mu         sync.Mutex
	phase      phase
	current    *invocation       // the last one begun
	invoked    bool              // current is not the first
	linger     *time.Timer       // ends an answered environment that does not ask on
	pending    *invocation       // current, until a poll takes it
	wake       chan struct{}     // the newest poll; closed when it has an event or a newer one came
	fault      string            // what init/error said
	reason     string            // why it ends: the first one given; it gets no event any more
	extensions map[string]string // identifier to name
}

// newEnvironment makes all but the process. The file is the process's stdout and stderr.
func newEnvironment(f *function, born time.Time) (*environment, *os.File, error) {
	e := &environment{fn: f, born: born, ready: make(chan struct{}), done: make(chan struct{}),
		extensions: make(map[string]string)}
	var err error
	if e.tmp, err = os.MkdirTemp(f.opts.Dir, "lambda-"); err != nil {
		return nil, nil, err
	}
	if e.api, err = newAPI(e, f.limits.Payload); err != nil {
		os.RemoveAll(e.tmp)
		return nil, nil, err
	}
	var sink func(requestID, line string)
	if on := f.opts.Events.Log; on != nil {
		sink = func(requestID, line string) { on(f.artifact.Name, requestID, line) }
	}
	logs, w, err := newCapture(sink)
	if err != nil {
		e.api.close()
		os.RemoveAll(e.tmp)
		return nil, nil, err
	}
	e.logs = logs
	return e, w, nil
}

// discard gives back what newEnvironment made, for a process that never started.
func (e *environment) discard(w *os.File) {
	w.Close()
	e.logs.finish()
	e.api.close()
	os.RemoveAll(e.tmp)
	close(e.done)
}

// run starts the process and the serving of its API.
func (e *environment) run(cmd *exec.Cmd) error {
	up := make(chan struct{})
	proc, err := spawn(cmd, func(st *os.ProcessState) {
		<-up
		e.exited(st)
	})
	if err != nil {
		return err
	}
	e.proc = proc
	e.api.serve()
	close(up)
	return nil
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
	e.phase, e.current, e.pending = running, inv, inv
	inv.handed = time.Now()
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
	e.mu.Lock()
	late := e.completeLocked(inv, timedOut(inv.RequestID, granted))
	if late {
		e.reason = cmp.Or(e.reason, "timeout")
	}
	e.mu.Unlock()
	if late {
		e.proc.signal(syscall.SIGKILL)
	}
}

// lingered kills a process that has answered inv and still has not asked for the next event.
func (e *environment) lingered(inv *invocation) {
	e.mu.Lock()
	late := e.phase == answered && e.current == inv
	if late {
		e.reason = cmp.Or(e.reason, "timeout")
	}
	e.mu.Unlock()
	if late {
		e.proc.signal(syscall.SIGKILL)
	}
}

// complete gives inv its result. It is false when it has one already or is not the current event.
func (e *environment) complete(inv *invocation, res runtime.Result) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.completeLocked(inv, res)
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
	switch e.phase {
	case starting:
		e.initTook = time.Since(e.born)
		close(e.ready)
	case answered:
		e.linger.Stop()
		go e.giveBack(e.current, true, "closed") // not here: Release may wait for this very request
	case idle:
		close(e.wake)
	case running:
		if e.pending == nil {
			return nil
		}
		// The poll before this one broke off before it took the event.
		e.wake = make(chan struct{})
		close(e.wake)
		return e.wake
	case gone:
		return nil
	}
	e.phase = idle
	e.wake = make(chan struct{})
	return e.wake
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
	close(e.ready)
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
	notice := len(e.extensions) > 0
	e.mu.Unlock()
	if notice && e.proc.alive() {
		e.proc.signal(syscall.SIGTERM)
		select {
		case <-e.proc.ended:
		case <-time.After(shutdownTime):
		}
	}
	e.proc.signal(syscall.SIGKILL)
	<-e.done
}

func (e *environment) because(reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reason = cmp.Or(e.reason, reason)
}

func (e *environment) kill(reason string) {
	e.because(reason)
	e.proc.signal(syscall.SIGKILL)
}

// exited follows the end of the process: it takes what was posted and written before, answers
// the current invocation if that did not, and gives everything back.
func (e *environment) exited(st *os.ProcessState) {
	e.because("exit: " + strings.TrimPrefix(st.String(), "exit "))
	e.api.drain(drainLimit)
	e.mu.Lock()
	inv := e.current
	e.mu.Unlock()
	if inv != nil {
		e.complete(inv, exited(inv.RequestID, st))
	}
	e.mu.Lock()
	was, reason := e.phase, e.reason
	e.phase = gone
	if e.linger != nil {
		e.linger.Stop()
	}
	e.mu.Unlock()
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
