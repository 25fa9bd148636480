package lambda

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
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
	program  program
	external []externalExtension
	keys     Credentials
	revoke   func()
	pool     *runtime.Pool[*environment]

	// settling is the over channel of the newest invocation that was answered, until it is over.
	settling atomic.Pointer[chan struct{}]

	mu     sync.Mutex
	live   map[*environment]struct{} // every environment whose process or listener exists
	closed bool
	ended  sync.WaitGroup // counts live
}

func newFunction(a runtime.Artifact, l runtime.Limits, o Options, p program, external []externalExtension) *function {
	f := &function{artifact: a, limits: l, opts: o, program: p, external: external, live: make(map[*environment]struct{})}
	// The host's endpoints take the caller's account from such an access key.
	f.keys, f.revoke = Credentials{a.Account, "shardmill", "shardmill"}, func() {}
	if o.Credentials != nil {
		f.keys, f.revoke = o.Credentials(a)
		f.revoke = sync.OnceFunc(f.revoke)
	}
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
	if in.Deadline.IsZero() { // the timeout counts from when a process has the event, which may have to start
		in.Deadline = time.Now().Add(f.limits.InitTimeout + f.limits.Timeout)
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
	ctx, cancel := context.WithTimeoutCause(ctx, f.limits.InitTimeout, errInitTimeout)
	defer cancel()
	env, err := f.launch(ctx, born)
	if err != nil {
		return nil, err
	}
	select {
	case <-env.ready:
	case <-env.done:
	case <-ctx.Done():
		err := f.unready(ctx, env, "it did not ask for an event (GET /2018-06-01/runtime/invocation/next)")
		<-env.done
		return nil, err
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

var errInitTimeout = errors.New("the init phase took too long")

// unready kills an environment that was not ready when ctx ended, and says what is wrong: missing
// is what it had not done by then.
func (f *function) unready(ctx context.Context, env *environment, missing string) error {
	if errors.Is(context.Cause(ctx), errInitTimeout) {
		env.kill("init: timeout")
		return f.startFailure(env, fmt.Sprintf("%s within %s", missing, f.limits.InitTimeout))
	}
	env.kill("init: cancelled")
	return errs.Wrap(errs.Unavailable, ctx.Err(), "function %s was still starting after %s when its caller gave up", f.artifact.Name, time.Since(env.born).Round(time.Millisecond))
}

// startFailure is the sentence about a bootstrap that did not come up, with what it wrote.
func (f *function) startFailure(env *environment, fault string) error {
	env.logs.catchUp()
	if output := env.logs.lastLines(); output != "" {
		fault += "; its last output: " + output
	}
	return errs.New(errs.Invalid, "%s of function %s failed to start: %s", f.what(), f.artifact.Name, fault)
}

// what names the program of f in sentences.
func (f *function) what() string {
	if f.artifact.Kind == runtime.KindBootstrap {
		return "the bootstrap"
	}
	return "the " + languages[f.artifact.Kind].name + " process"
}

// launchFailure explains why execve failed, or the fork before it.
func (f *function) launchFailure(err error) error {
	if f.artifact.Kind != runtime.KindBootstrap {
		return errs.Wrap(errs.Unavailable, err, "%s cannot be started for function %s", f.program.path, f.artifact.Name)
	}
	if fault := checkBootstrap(filepath.Dir(f.program.path)); fault != nil {
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

// launch starts an environment: its listener, logs and folder, its extensions, which register, and
// then its process. On an error nothing is left.
func (f *function) launch(ctx context.Context, born time.Time) (*environment, error) {
	env, w, err := newEnvironment(f, born)
	if err != nil {
		return nil, errs.Wrap(errs.Internal, err, "preparing an environment of function %s", f.artifact.Name)
	}
	defer w.Close()
	if err := f.adopt(env); err != nil {
		env.abandon(w)
		return nil, err
	}
	around := surroundings{f.artifact, f.limits.Memory, f.program, f.keys, env.tmp, env.api.address(), born}
	if err := f.boot(ctx, env, &around, w); err != nil {
		env.abandon(w)
		f.disown(env)
		return nil, err
	}
	return env, nil
}

// boot starts the processes of an environment.
func (f *function) boot(ctx context.Context, env *environment, around *surroundings, w *os.File) error {
	env.api.serve()
	if err := f.bootExtensions(ctx, env, around, w); err != nil {
		return err
	}
	cmd := exec.Command(f.program.path, f.program.args...)
	cmd.Dir = f.artifact.Path
	cmd.Env = around.variables()
	cmd.Stdout, cmd.Stderr = w, w
	if err := env.run(cmd); err != nil {
		return f.launchFailure(err)
	}
	return nil
}

// adopt makes env known to Close, unless that ran already.
func (f *function) adopt(env *environment) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return errs.New(errs.Unavailable, "function %s is being removed", f.artifact.Name)
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
	f.revoke()
	return nil
}

// Failing is why the function's processes do not start any more, nil while they do.
func (f *function) Failing() error { return f.pool.Failing() }
