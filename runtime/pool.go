package runtime

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

// Pool keeps the execution environments of one function version. Every engine uses it, so that
// concurrency, reuse, idle reaping and the back-off of a function that cannot start are the
// same everywhere.
//
// Environments are reused last in, first out: few processes stay warm and the others age until
// they are reaped. The zero Pool is not ready; use NewPool.
type Pool[E Environment] struct {
	start func(ctx context.Context) (E, error)
	max   int
	idle  time.Duration

	slots chan struct{} // one token for each environment that may exist beside the free ones

	mu       sync.Mutex
	free     []freeEnv[E] // newest last
	born     map[E]time.Time
	failures int // starts that failed in a row
	retryAt  time.Time
	lastErr  error
	closed   bool
	reaper   *time.Timer
}

type freeEnv[E Environment] struct {
	env   E
	since time.Time
}

// Environment is one execution environment as the pool sees it.
type Environment interface {
	comparable
	// End kills the environment and waits until its process is gone. It may be called twice.
	End(reason string)
	// Alive is false once the environment's process has ended by itself.
	Alive() bool
}

// NewPool returns a pool that starts environments with start, at most l.Concurrency at a time.
func NewPool[E Environment](l Limits, start func(ctx context.Context) (E, error)) *Pool[E] {
	l = l.Defaults()
	return &Pool[E]{start: start, max: l.Concurrency, idle: l.IdleAfter, slots: make(chan struct{}, l.Concurrency), born: make(map[E]time.Time)}
}

// Acquire returns an environment for the caller's sole use, starting one if none is free. It
// waits while the pool is at its limit: a ctx that ends then is errs.Throttled. A function whose
// starts fail is not started again before a growing pause is over: errs.Unavailable.
func (p *Pool[E]) Acquire(ctx context.Context) (E, error) {
	var zero E
	select {
	case p.slots <- struct{}{}:
	case <-ctx.Done():
		return zero, errs.Wrap(errs.Throttled, ctx.Err(), "all %d execution environments of the function stayed busy until the deadline", p.max)
	}
	p.mu.Lock()
	for len(p.free) > 0 {
		f := p.free[len(p.free)-1]
		p.free = p.free[:len(p.free)-1]
		if f.env.Alive() {
			p.mu.Unlock()
			return f.env, nil
		}
		delete(p.born, f.env)
		go f.env.End("exited while idle")
	}
	if p.closed {
		p.mu.Unlock()
		<-p.slots
		return zero, errs.New(errs.Unavailable, "the function is being removed")
	}
	if wait := time.Until(p.retryAt); wait > 0 {
		err := p.lastErr
		p.mu.Unlock()
		<-p.slots
		return zero, errs.Wrap(errs.Unavailable, err, "the function failed to start; the next try is in %s", wait.Round(time.Millisecond))
	}
	p.mu.Unlock()

	env, err := p.start(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		if ctx.Err() == nil { // a start that the caller cut short says nothing about the function
			p.failures++
			p.lastErr = err
			p.retryAt = time.Now().Add(backoff(p.failures))
		}
		<-p.slots
		return zero, err
	}
	p.failures = 0
	if p.closed { // Close ran while the environment started
		go env.End("closed")
		<-p.slots
		return zero, errs.New(errs.Unavailable, "the function is being removed")
	}
	p.born[env] = time.Now()
	return env, nil
}

// maxAge is how long an environment is used: what leaks slowly is swept away once a day.
const maxAge = 24 * time.Hour

// backoff is the pause after n failed starts in a row: none after the first, then 100 ms, 1 s,
// 10 s and 60 s, so that a broken function does not fork in a loop.
func backoff(n int) time.Duration {
	steps := [...]time.Duration{0, 100 * time.Millisecond, time.Second, 10 * time.Second, time.Minute}
	return steps[min(n-1, len(steps)-1)]
}

// Release gives an environment back. Unhealthy ones (killed, trapped, out of protocol) are ended
// and never reused.
func (p *Pool[E]) Release(env E, healthy bool, reason string) {
	p.mu.Lock()
	if healthy && time.Since(p.born[env]) > maxAge {
		healthy, reason = false, "age"
	}
	if healthy && !p.closed && env.Alive() {
		p.free = append(p.free, freeEnv[E]{env, time.Now()})
		if p.reaper == nil {
			p.reaper = time.AfterFunc(p.idle, p.reap)
		}
		p.mu.Unlock()
	} else {
		delete(p.born, env)
		p.mu.Unlock()
		env.End(reason)
	}
	<-p.slots
}

func (p *Pool[E]) reap() {
	p.mu.Lock()
	limit := time.Now().Add(-p.idle)
	n := 0
	for n < len(p.free) && !p.free[n].since.After(limit) {
		n++
	}
	old := append([]freeEnv[E](nil), p.free[:n]...)
	p.free = append(p.free[:0], p.free[n:]...)
	for _, f := range old {
		delete(p.born, f.env)
	}
	p.reaper = nil
	if len(p.free) > 0 && !p.closed {
		p.reaper = time.AfterFunc(max(time.Until(p.free[0].since.Add(p.idle)), time.Millisecond), p.reap)
	}
	p.mu.Unlock()
	for _, f := range old {
		f.env.End("idle")
	}
}

// Close ends every free environment and refuses new work. Environments in use are ended by
// their Release.
func (p *Pool[E]) Close() {
	p.mu.Lock()
	p.closed = true
	free := p.free
	p.free = nil
	if p.reaper != nil {
		p.reaper.Stop()
	}
	p.mu.Unlock()
	for _, f := range free {
		f.env.End("closed")
	}
}

// String tells the pool's state for logs.
func (p *Pool[E]) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return fmt.Sprintf("%d of %d in use, %d idle", len(p.slots), p.max, len(p.free))
}

// failedStarts is how many starts in a row must fail until a function counts as failing.
const failedStarts = 5

// Failing is why the last starts failed, all failedStarts of them and more, nil when they did not.
// One start that works makes the function whole again.
func (p *Pool[E]) Failing() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failures < failedStarts {
		return nil
	}
	return errs.Wrap(errs.Unavailable, p.lastErr, "the last %d starts of an execution environment failed", p.failures)
}
