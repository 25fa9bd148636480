package runtime

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

type fakeEnv struct{ ended string }

func (f *fakeEnv) End(reason string) { f.ended = reason }
func (f *fakeEnv) Alive() bool       { return f.ended == "" }

func TestPoolReusesTheNewestAndReapsTheIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var started []*fakeEnv
		p := NewPool(Limits{Concurrency: 2, IdleAfter: time.Minute}, func(context.Context) (*fakeEnv, error) {
			e := &fakeEnv{}
			started = append(started, e)
			return e, nil
		})
		a, _ := p.Acquire(t.Context())
		b, _ := p.Acquire(t.Context())
		p.Release(a, true, "")
		p.Release(b, true, "")
		if c, _ := p.Acquire(t.Context()); c != b {
			t.Fatal("the newest free environment was not reused")
		}
		p.Release(b, true, "")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if a.ended != "idle" || b.ended != "idle" {
			t.Fatalf("after two idle minutes: a ended %q, b ended %q; want both idle", a.ended, b.ended)
		}
		if len(started) != 2 {
			t.Fatalf("%d environments were started, want 2", len(started))
		}
	})
}

func TestPoolAtItsLimitWaitsUntilTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(Limits{Concurrency: 1}, func(context.Context) (*fakeEnv, error) { return &fakeEnv{}, nil })
		a, _ := p.Acquire(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := p.Acquire(ctx); !errs.Is(err, errs.Throttled) {
			t.Fatalf("err = %v, want Throttled", err)
		}
		p.Release(a, false, "trap")
		if a.ended != "trap" {
			t.Fatal("an unhealthy environment was kept")
		}
		if _, err := p.Acquire(t.Context()); err != nil {
			t.Fatal("the slot of the ended environment was not given back:", err)
		}
	})
}

func TestPoolBacksOffFromAFunctionThatCannotStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		starts := 0
		p := NewPool(Limits{}, func(context.Context) (*fakeEnv, error) { starts++; return nil, errors.New("no such bootstrap") })
		for range 10 {
			if _, err := p.Acquire(t.Context()); err == nil {
				t.Fatal("a start that failed gave an environment")
			}
		}
		if starts != 2 { // the second try is free, the third has to wait 100 ms
			t.Fatalf("%d starts within no time, want 2", starts)
		}
		time.Sleep(100 * time.Millisecond)
		p.Acquire(t.Context())
		if starts != 3 {
			t.Fatalf("%d starts after the pause, want 3", starts)
		}
	})
}

func TestPoolCloseEndsWhatIsReleasedLater(t *testing.T) {
	p := NewPool(Limits{}, func(context.Context) (*fakeEnv, error) { return &fakeEnv{}, nil })
	a, _ := p.Acquire(t.Context())
	p.Close()
	p.Release(a, true, "drained")
	if a.Alive() {
		t.Fatal("an environment outlived its pool")
	}
	if _, err := p.Acquire(t.Context()); !errs.Is(err, errs.Unavailable) {
		t.Fatalf("err = %v, want Unavailable", err)
	}
}

func TestPoolTellsOfAFunctionThatDoesNotStartAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := true
		p := NewPool(Limits{Concurrency: 1}, func(context.Context) (*fakeEnv, error) {
			if broken {
				return nil, errors.New("no database")
			}
			return &fakeEnv{}, nil
		})
		for n := range 6 {
			if err := p.Failing(); (err != nil) != (n >= 5) {
				t.Fatalf("after %d failures: %v", n, err)
			}
			time.Sleep(time.Minute) // beyond every pause
			p.Acquire(t.Context())
		}
		if got, want := p.Failing().Error(), "the last 6 starts of an execution environment failed: no database"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		broken = false
		time.Sleep(time.Minute)
		if _, err := p.Acquire(t.Context()); err != nil || p.Failing() != nil {
			t.Errorf("after a start that worked: %v, %v", err, p.Failing())
		}
	})
}

func TestPoolReplacesOldEnvironments(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPool(Limits{Concurrency: 1, IdleAfter: 48 * time.Hour}, func(context.Context) (*fakeEnv, error) { return &fakeEnv{}, nil })
		a, _ := p.Acquire(t.Context())
		time.Sleep(24 * time.Hour)
		p.Release(a, true, "")
		if b, _ := p.Acquire(t.Context()); b != a || a.ended != "" {
			t.Fatalf("replaced after exactly a day: %q", a.ended)
		}
		time.Sleep(time.Second)
		p.Release(a, true, "")
		if a.ended != "age" {
			t.Errorf("ended %q, want age", a.ended)
		}
		p.Close()
	})
}
