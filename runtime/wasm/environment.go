package wasm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// environment is the host's side of one worker. Between Acquire and Release it belongs to one
// invocation; kill, Alive and End may be called from anywhere.
type environment struct {
	f    *function
	proc *process
	logs *guestLog

	id       uint64        // of the last invocation
	born     uint16        // fill when it became ready
	fill     uint16        // fill after the last invocation
	init     time.Duration // what the start took; 0 once an invocation has reported it
	decoder  replyDecoder
	facts    []fact
	state    stateView // of the invocation under way
	killed   atomic.Bool
	finished chan struct{} // closed when the process is reaped and its log is drained
	end      sync.Once
	exitText string // set before finished is closed
}

// start starts a worker and waits until its module is ready. Its errors are errs.Invalid when
// the module is at fault. A start has its own time limit: the deadline of the invocation that
// needs it does not cut it short, or a function that starts slower than it may run could never
// start. Only a caller that gives up does.
func (f *function) start(caller context.Context) (*environment, error) {
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(caller), f.limits.InitTimeout)
	defer cancel()
	defer context.AfterFunc(caller, func() {
		if errors.Is(caller.Err(), context.Canceled) {
			cancel()
		}
	})()
	facts, err := f.engine.compiler.compile(ctx, f.job) // compiles only if the cache was cleared
	if err != nil {
		return nil, err
	}
	module, err := os.Open(f.job.path)
	if err != nil {
		return nil, errs.Wrap(errs.Unavailable, err, "the module file of function %q cannot be opened", f.name)
	}
	defer module.Close()
	p, err := f.engine.spawner.spawn(ctx, workerName, module)
	if err != nil {
		return nil, err
	}
	v := &environment{f: f, proc: p, finished: make(chan struct{})}
	v.logs = newGuestLog(f.name, f.engine.options.Events.Log)
	p.ch.max = int(f.limits.Payload) + maxEffects + 64<<10
	go v.reap()
	if err := v.load(ctx, facts.Bytes); err != nil {
		v.End("init: " + err.Error())
		return nil, err
	}
	v.init = time.Since(begin)
	if started := f.engine.options.Events.Start; started != nil {
		started(f.name, v.init)
	}
	return v, nil
}

// dataLimit is a worker's RLIMIT_DATA: what the Go runtime, wazero's stacks, tables and compiled
// code take, and all of the linear memory, which is mapped at once. Half of the first part is
// for a recursion without end: it then traps as a stack overflow, which names the fault, before
// the process runs out of memory.
func (f *function) dataLimit(compiled int64) uint64 {
	return uint64(320<<20 + 2*compiled + f.limits.Memory)
}

// load sends the spec and waits for READY.
func (v *environment) load(ctx context.Context, compiled int64) error {
	f := v.f
	spec, err := json.Marshal(loadSpec{
		Name: f.name, ABI: f.abi, CacheDir: f.engine.compiler.cache.folder(f.job.hash), Grants: f.grants,
		MemoryPages: uint32(f.limits.Memory / pageBytes), DataBytes: f.dataLimit(compiled),
		MaxReply: int(f.limits.Payload), MaxRequest: maxRequest, Env: f.env,
	})
	if err != nil || len(spec) > maxLoadSpec {
		return errs.New(errs.Invalid, "the environment variables and the config of function %q do not fit into %d bytes", f.name, maxLoadSpec)
	}
	h, payload, err := v.exchange(ctx, header{kind: kindLoad}, len(spec), func(b []byte) { copy(b, spec) })
	if err == nil && h.kind != kindReady {
		err = v.failure(h, payload)
	}
	var failed *runtime.FunctionFailure
	switch {
	case errors.Is(err, context.Canceled):
		return errs.Wrap(errs.Throttled, err, "the start of function %q was given up", f.name)
	case errors.Is(err, context.DeadlineExceeded):
		return errs.New(errs.Invalid, "module %q was not ready within %s; look for a loop in its start section, %s, %s or before its first read of stdin (stdio) or shardmill.next (pull)", f.name, f.limits.InitTimeout, exportReactor, exportInit)
	case errors.As(err, &failed):
		return errs.New(errs.Invalid, "module %q did not start: %s", f.name, strings.ReplaceAll(failed.Message, "\n", " "))
	case err != nil:
		return errs.Wrap(errs.Invalid, err, "module %q did not start", f.name)
	}
	var ready readyInfo
	if len(payload) > 1024 || json.Unmarshal(payload, &ready) != nil {
		return errs.New(errs.Invalid, "module %q did not start: its worker answered out of protocol", f.name)
	}
	if !ready.Seccomp {
		f.engine.spawner.weaken(func(i *Isolation) { i.Seccomp = false })
	}
	v.born, v.fill = h.fill, h.fill
	return nil
}

// maxRequest bounds what a worker accepts from the host.
const maxRequest = 1 << 30

// exchange sends one frame and waits for its answer, or until ctx ends, at which the worker is
// killed. Errors: ctx.Err(), a *runtime.FunctionFailure when the worker ended or broke the
// control protocol. The payload may be a window on the shared segment: copy it first.
func (v *environment) exchange(ctx context.Context, h header, size int, fill func([]byte)) (header, []byte, error) {
	stop := context.AfterFunc(ctx, v.kill)
	err := v.proc.ch.write(h, size, fill)
	var answer header
	var payload []byte
	for err == nil {
		answer, payload, err = v.proc.ch.read()
		if err != nil || answer.kind != kindHostCall || answer.id != h.id || h.kind != kindInvoke {
			break
		}
		if fault := v.hostCall(ctx); fault != nil {
			stop()
			v.kill()
			return answer, nil, fault
		}
	}
	late := !stop() // the worker is being killed, whatever it answered
	switch {
	case err != nil && late:
		return answer, nil, ctx.Err()
	case err != nil:
		v.kill()
		<-v.finished
		return answer, nil, &runtime.FunctionFailure{Type: runtime.ErrorExit, Message: v.exitText}
	case answer.id != h.id || !inTurn(h.kind, answer.kind):
		v.kill()
		return answer, nil, &runtime.FunctionFailure{Type: runtime.ErrorProtocol, Message: fmt.Sprintf("the worker sent a frame of kind %d for invocation %d out of turn", answer.kind, answer.id)}
	}
	if late || answer.flags&flagLast != 0 {
		v.kill()
	}
	v.fill = answer.fill
	return answer, payload, nil
}

// inTurn reports whether a worker may answer a frame of one kind with one of another.
func inTurn(asked, answer frameKind) bool {
	return answer == kindFault || asked == kindLoad && answer == kindReady || asked == kindInvoke && answer == kindResult
}

// invocation is one batch or event on its way into a worker.
type invocation struct {
	requestID string
	size      int                 // of what encode appends
	encode    func([]byte) []byte // may be called again, for a repetition
	buffer    []byte              // memory for the answer; may be nil
}

// answer is what a worker answered. The payload is the host's own copy.
type answer struct {
	payload []byte
	failed  bool // it is the document of the function's own error
	effects []byte
}

// invoke hands the worker one batch or event and returns the answer, in call.buffer where it
// fits. Errors are a *runtime.FunctionFailure, ctx.Err() when the caller gave up or an errs error.
func (v *environment) invoke(ctx context.Context, call *invocation) (answer, error) {
	v.id++
	v.logs.begin(v.id, call.requestID)
	v.state = stateView{}
	h, payload, err := v.exchange(ctx, header{kind: kindInvoke, id: v.id}, call.size+factsSize(v.facts), func(dst []byte) {
		call.encode(appendFacts(dst[:0:len(dst)], v.facts))
	})
	switch {
	case err != nil:
		return answer{}, err
	case h.kind == kindFault:
		return answer{}, v.failure(h, payload)
	}
	if h.flags&flagShared != 0 { // else read from the socket: the host's own already
		payload = append(call.buffer[:0], payload...)
	}
	call.buffer = payload
	a := answer{payload: payload, failed: h.flags&flagError != 0}
	if h.flags&flagEffects != 0 {
		if a.effects, a.payload, err = cutEffects(payload); err != nil {
			v.kill()
			return answer{}, &runtime.FunctionFailure{Type: runtime.ErrorProtocol, Message: err.Error()}
		}
	}
	if int64(len(a.payload)) > v.f.limits.Payload {
		v.kill()
		return answer{}, tooLarge(v.f.limits.Payload)
	}
	return a, nil
}

// failure turns a FAULT into the function's failure. All but a handler's own failure end the
// environment.
func (v *environment) failure(h header, payload []byte) error {
	payload = append([]byte(nil), payload[:min(len(payload), 1+maxFaultText)]...)
	if len(payload) == 0 {
		payload = []byte{0}
	}
	code, text := faultCode(payload[0]), printable(payload[1:], maxFaultText, true)
	if code != faultHandler || h.id == 0 {
		v.kill()
	}
	switch code {
	case faultHandler, faultMemory, faultRefused:
		return &runtime.FunctionFailure{Type: runtime.ErrorHandler, Message: text}
	case faultTrap:
		return &runtime.FunctionFailure{Type: runtime.ErrorExit, Message: trapText + text}
	case faultExit:
		return &runtime.FunctionFailure{Type: runtime.ErrorExit, Message: text}
	case faultTooLarge:
		return tooLarge(v.f.limits.Payload)
	}
	return &runtime.FunctionFailure{Type: runtime.ErrorProtocol, Message: text}
}

// trapText starts the message of a trap; wazero's "wasm error: ..." and the stack follow.
const trapText = "Runtime exited with error: trap: "

func tooLarge(limit int64) error {
	return &runtime.FunctionFailure{Type: runtime.ErrorResponseTooLarge,
		Message: fmt.Sprintf("Response payload size exceeded maximum allowed payload size (%d bytes).", limit)}
}

func (v *environment) kill() {
	v.killed.Store(true)
	v.proc.kill()
}

// reap waits for the end of the process. Nobody else does.
func (v *environment) reap() {
	drained := make(chan struct{})
	go func() { v.logs.drain(v.proc.logs); close(drained) }()
	err := v.proc.cmd.Wait()
	select {
	case <-drained:
	case <-time.After(time.Second): // something outlived the worker and holds its stderr
		v.proc.logs.SetReadDeadline(time.Now())
		<-drained
	}
	v.exitText = exitText(err, v.logs.outOfMemory.Load(), v.f.limits.Memory)
	close(v.finished)
}

// exitText says in Lambda's words how a worker ended by itself.
func exitText(err error, outOfMemory bool, limit int64) string {
	text := "Runtime exited without providing a reason"
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		text = "Runtime exited with error: " + exit.ProcessState.String()
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			text = "Runtime exited with error: signal: " + s.Signal().String()
		}
	}
	if outOfMemory {
		text += "; the module's tables, stacks and compiled code ran out of the memory that a limit of " + strconv.FormatInt(limit, 10) + " bytes allows"
	}
	return text
}

// Alive reports whether the worker can serve another invocation.
func (v *environment) Alive() bool {
	select {
	case <-v.finished:
		return false
	default:
		return !v.killed.Load()
	}
}

// End kills the worker and waits until it is gone.
func (v *environment) End(reason string) {
	v.end.Do(func() {
		v.kill()
		<-v.finished
		v.proc.close()
		if ended := v.f.engine.options.Events.End; ended != nil {
			ended(v.f.name, reason)
		}
	})
}

// worn reports whether the module's memory grew so near to its limit that a fresh environment
// should follow. A module that already started that full is left alone.
func (v *environment) worn() bool { return v.born < 800 && v.fill >= 800 }
