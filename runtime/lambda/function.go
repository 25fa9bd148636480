package lambda

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// settleTime is how long an invocation waits for an environment that has answered and is about to
// ask for its next event, before it takes or starts another one. Handlers need some 50 µs for
// that; without the wait a lone caller would soon keep two processes busy in turns.
const settleTime = 5 * time.Millisecond

// requestIDForm keeps request ids safe in URL paths, headers and JSON.
var requestIDForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// function is one version and its environments.
type function struct {
	artifact runtime.Artifact
	limits   runtime.Limits
	opts     Options
	pool     *runtime.Pool[*environment]

	// settling is the over channel of the newest invocation that was answered, until it is over.
	settling atomic.Pointer[chan struct{}]

	mu     sync.Mutex
	live   map[*environment]struct{} // every environment whose process or listener exists
	closed bool
	ended  sync.WaitGroup // counts live
}

func newFunction(a runtime.Artifact, l runtime.Limits, o Options) *function {
	f := &function{artifact: a, limits: l, opts: o, live: make(map[*environment]struct{})}
	f.pool = runtime.NewPool(l, f.start)
	return f
}

// invocation is one event on its way through an environment.
type invocation struct {
	runtime.Invocation
	attempt string // Lambda-Runtime-Invocation-Id: unlike the request id, new for every attempt
	handed  time.Time
	init    time.Duration // of the process, in its first invocation only

	delivered chan struct{} // closed when the event's bytes are no longer needed
	done      chan struct{} // closed when result is set
	over      chan struct{} // closed when the environment is free again or gone
	result    runtime.Result
}

// Invoke hands the event to an environment and returns what the handler posted. The deadline is
// in.Deadline or the function's timeout after the event was handed over, whichever is earlier; a
// handler that misses it, or whose ctx ends, is killed, which is a Result of type
// runtime.ErrorTimedOut.
func (f *function) Invoke(ctx context.Context, in runtime.Invocation) (runtime.Result, error) {
	if err := f.fill(&in); err != nil {
		return runtime.Result{}, err
	}
	ctx, cancel := context.WithDeadline(ctx, in.Deadline)
	defer cancel()
	f.settle(ctx)
	for {
		env, err := f.pool.Acquire(ctx)
		if err != nil {
			return runtime.Result{}, f.refusal(err)
		}
		inv := &invocation{Invocation: in, attempt: uuid.NewString(),
			delivered: make(chan struct{}), done: make(chan struct{}), over: make(chan struct{})}
		deadline, _ := ctx.Deadline()
		inv.Deadline = earlier(deadline, time.Now().Add(f.limits.Timeout))
		if !env.begin(inv) { // it ended after the pool looked
			f.pool.Release(env, false, "exited while idle")
			continue
		}
		return env.await(ctx, inv), nil
	}
}

// fill completes an invocation with what the caller may leave out.
func (f *function) fill(in *runtime.Invocation) error {
	if in.RequestID == "" {
		in.RequestID = uuid.NewString()
	}
	if !requestIDForm.MatchString(in.RequestID) {
		return errs.New(errs.Invalid, "the request id %q is unusable: give a UUID", in.RequestID)
	}
	if in.FunctionARN == "" {
		in.FunctionARN = f.artifact.ARN
	}
	if in.TraceID == "" {
		in.TraceID = fmt.Sprintf("Root=1-%08x-%08x%016x;Parent=%016x;Sampled=0", time.Now().Unix(), rand.Uint32(), rand.Uint64(), rand.Uint64())
	}
	if in.Deadline.IsZero() {
		in.Deadline = time.Now().Add(f.limits.Timeout)
	}
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// settle waits a moment for the environment that answered last.
func (f *function) settle(ctx context.Context) {
	over := f.settling.Load()
	if over == nil {
		return
	}
	timer := time.NewTimer(settleTime)
	defer timer.Stop()
	select {
	case <-*over:
	case <-timer.C: // it works on after its answer; others need not wait for it again
	case <-ctx.Done():
		return
	}
	f.settling.CompareAndSwap(over, nil)
}

// refusal is the error of an invocation for which there was no environment.
func (f *function) refusal(err error) error {
	switch errs.KindOf(err) {
	case errs.Throttled, errs.Unavailable:
		return err
	}
	return errs.New(errs.Unavailable, "no process of function %s could be started: %v", f.artifact.Name, err)
}

// start makes a ready environment: it is the pool's start function.
func (f *function) start(ctx context.Context) (*environment, error) {
	born := time.Now()
	env, err := f.launch(born)
	if err != nil {
		return nil, err
	}
	budget := time.NewTimer(f.limits.InitTimeout)
	defer budget.Stop()
	select {
	case <-env.ready:
	case <-env.done:
	case <-budget.C:
		env.kill("init: timeout")
		<-env.done
		return nil, f.startFailure(env, fmt.Sprintf("it did not ask for an event (GET /2018-06-01/runtime/invocation/next) within %s", f.limits.InitTimeout))
	case <-ctx.Done():
		env.kill("init: cancelled")
		<-env.done
		return nil, errs.Wrap(errs.Unavailable, ctx.Err(), "function %s was still starting after %s when its caller gave up", f.artifact.Name, time.Since(born).Round(time.Millisecond))
	}
	if fault := env.initFault(); fault != "" {
		env.kill("init: error")
		<-env.done
		return nil, f.startFailure(env, fault)
	}
	if on := f.opts.Events.Start; on != nil {
		on(f.artifact.Name, env.initTook)
	}
	return env, nil
}

// startFailure is the sentence about a bootstrap that did not come up, with what it wrote.
func (f *function) startFailure(env *environment, fault string) error {
	if output := env.logs.lastLines(); output != "" {
		fault += "; its last output: " + output
	}
	return errs.New(errs.Invalid, "the bootstrap of function %s failed to start: %s", f.artifact.Name, fault)
}

// launchFailure explains why execve failed, or the fork before it.
func (f *function) launchFailure(err error) error {
	if fault := checkBootstrap(f.artifact.Path); fault != nil {
		return fault
	}
	switch {
	case errors.Is(err, fs.ErrNotExist): // the file is there, so it is the loader that is not
		return errs.Wrap(errs.Invalid, err, "the bootstrap of function %s needs a dynamic loader that this host does not have: build with CGO_ENABLED=0, or statically", f.artifact.Name)
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOEXEC):
		return errs.Wrap(errs.Invalid, err, "the bootstrap of function %s cannot be executed", f.artifact.Name)
	}
	return errs.Wrap(errs.Unavailable, err, "the host cannot start a process for function %s now", f.artifact.Name)
}

// launch starts a process with its listener, logs and folder. On an error nothing is left.
func (f *function) launch(born time.Time) (*environment, error) {
	env, w, err := newEnvironment(f, born)
	if err != nil {
		return nil, errs.Wrap(errs.Internal, err, "preparing an environment of function %s", f.artifact.Name)
	}
	defer w.Close()
	cmd := exec.Command(filepath.Join(f.artifact.Path, bootstrapName))
	cmd.Dir = f.artifact.Path
	cmd.Env = variables(f.artifact, f.limits.Memory, env.tmp, env.api.address(), born)
	cmd.Stdout, cmd.Stderr = w, w
	if err := f.run(env, cmd); err != nil {
		env.discard(w)
		return nil, err
	}
	return env, nil
}

// run starts the process unless the function is closed. Close and the environment's end need the
// same lock, so they find the environment complete.
func (f *function) run(env *environment, cmd *exec.Cmd) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errs.New(errs.Unavailable, "function %s is being removed", f.artifact.Name)
	}
	if err := env.run(cmd); err != nil {
		return f.launchFailure(err)
	}
	f.live[env] = struct{}{}
	f.ended.Add(1)
	return nil
}

func (f *function) disown(env *environment) {
	f.mu.Lock()
	delete(f.live, env)
	f.mu.Unlock()
	f.ended.Done()
}

// Close ends every process, also those that still work after their answer, and returns when they
// are gone. It may be called twice.
func (f *function) Close() error {
	f.mu.Lock()
	f.closed = true
	envs := make([]*environment, 0, len(f.live))
	for env := range f.live {
		envs = append(envs, env)
	}
	f.mu.Unlock()
	for _, env := range envs {
		go env.End("closed") // side by side: each may take the shutdown time
	}
	f.pool.Close()
	f.ended.Wait()
	return nil
}
