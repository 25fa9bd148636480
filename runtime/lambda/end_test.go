package lambda

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	goruntime "runtime"
	"syscall"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

func TestAPanicIsAnErrorAndTheNextEventGetsANewProcess(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{Concurrency: 1}, nil)
	pid := number(t, f, `{"do":"pid"}`)
	res := invoke(t, f, "", `{"do":"panic","text":"ouch"}`)
	var doc struct {
		ErrorMessage, ErrorType string
		StackTrace              []any
	}
	json.Unmarshal(res.Payload, &doc)
	if doc.ErrorMessage != "ouch" || len(doc.StackTrace) == 0 || res.FunctionError != "Unhandled" || res.ErrorType != "string" {
		t.Fatalf("got %s, %q, %q", res.Payload, res.FunctionError, res.ErrorType)
	}
	if next := number(t, f, `{"do":"pid"}`); next == pid {
		t.Error("the process outlived its panic")
	}
	rec.waitEnd(t, "exit: status 1")
}

func TestEndsWithoutAnAnswer(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{Concurrency: 1}, nil)
	for _, c := range []struct{ event, message, end string }{
		{`{"do":"exit","n":0}`, "RequestId: r-9 Error: Runtime exited without providing a reason", "exit: status 0"},
		{`{"do":"exit","n":3}`, "RequestId: r-9 Error: Runtime exited with error: exit status 3", "exit: status 3"},
		{`{"do":"signal","n":9}`, "RequestId: r-9 Error: Runtime exited with error: signal: killed", "exit: signal: killed"},
	} {
		res := invoke(t, f, "r-9", c.event)
		want := `{"errorType":"Runtime.ExitError","errorMessage":"` + c.message + `"}`
		if string(res.Payload) != want || res.FunctionError != "Unhandled" || res.ErrorType != runtime.ErrorExit {
			t.Errorf("%s: got %s, %q, %q; want %s", c.event, res.Payload, res.FunctionError, res.ErrorType, want)
		}
		rec.waitEnd(t, c.end)
		answer(t, f, `{"do":"echo"}`, `{"do":"echo"}`)
	}
}

func TestAProcessThatDiesIdleIsReplacedUnnoticed(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{}, nil)
	syscall.Kill(number(t, f, `{"do":"pid"}`), syscall.SIGKILL)
	rec.waitEnd(t, "exit: signal: killed")
	answer(t, f, `{"do":"echo"}`, `{"do":"echo"}`)
}

func TestADeadlineKillsTheProcess(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits runtime.Limits
		in     func() runtime.Invocation
		want   string
	}{
		{"the function's timeout", runtime.Limits{Timeout: 250 * time.Millisecond}, func() runtime.Invocation { return runtime.Invocation{} }, "0.25"},
		{"the invocation's deadline", runtime.Limits{}, func() runtime.Invocation {
			return runtime.Invocation{Deadline: time.Now().Add(300 * time.Millisecond)}
		}, "0.30"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var rec recorder
			f := load(t, &rec, c.limits, nil)
			in := c.in()
			in.RequestID, in.Payload = "r-1", []byte(`{"do":"sleep","n":60000}`)
			res, err := f.Invoke(t.Context(), in)
			if err != nil {
				t.Fatal(err)
			}
			want := `{"errorType":"Sandbox.Timedout","errorMessage":"RequestId: r-1 Error: Task timed out after ` + c.want + ` seconds"}`
			if string(res.Payload) != want || res.FunctionError != "Unhandled" || res.ErrorType != runtime.ErrorTimedOut {
				t.Errorf("got %s, %q, %q; want %s", res.Payload, res.FunctionError, res.ErrorType, want)
			}
			rec.waitEnd(t, "timeout")
			answer(t, f, `{"do":"sleep","n":1}`, `"slept"`) // the negative control: in time
		})
	}
}

func TestACallerThatGivesUpKillsTheProcess(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{}, nil)
	pid := number(t, f, `{"do":"pid"}`)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	res, err := f.Invoke(ctx, runtime.Invocation{Payload: []byte(`{"do":"sleep","n":60000}`)})
	if err != nil || res.ErrorType != runtime.ErrorTimedOut {
		t.Fatalf("got %+v, %v", res, err)
	}
	rec.waitEnd(t, "timeout")
	if !dead(pid) {
		t.Error("the process is still there")
	}
}

func TestGrandchildrenDieWithTheirProcess(t *testing.T) {
	for name, event := range map[string]string{"exit": `{"do":"exit"}`, "timeout": `{"do":"sleep","n":60000}`, "close": ""} {
		t.Run(name, func(t *testing.T) {
			var rec recorder
			f := load(t, &rec, runtime.Limits{Concurrency: 1}, nil)
			pid := number(t, f, `{"do":"grandchild"}`)
			if dead(pid) {
				t.Fatal("the grandchild was dead from the start")
			}
			begun := time.Now()
			if event != "" {
				ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
				defer cancel()
				if res, err := f.Invoke(ctx, runtime.Invocation{Payload: []byte(event)}); err != nil || res.FunctionError == "" {
					t.Fatalf("got %+v, %v", res, err)
				}
			} else {
				f.Close()
			}
			if took := time.Since(begun); took > 200*time.Millisecond+drainLimit {
				t.Errorf("the grandchild, which holds the pipe, held the host up for %v", took)
			}
			waitDead(t, pid)
		})
	}
}

func TestWorkAfterTheAnswerEndsAtTheDeadline(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{Concurrency: 1, Timeout: 300 * time.Millisecond}, nil)
	answer(t, f, `{"do":"linger","n":60000}`, `"answered"`)
	rec.waitEnd(t, "timeout")
	answer(t, f, `{"do":"echo"}`, `{"do":"echo"}`)
}

func TestInternalExtensionsAreToldToStop(t *testing.T) {
	var rec recorder
	mark := filepath.Join(t.TempDir(), "mark")
	f := load(t, &rec, runtime.Limits{}, map[string]string{"INIT": "sigterm", "MARK": mark})
	answer(t, f, `{"do":"echo"}`, `{"do":"echo"}`)
	f.Close()
	if text, _ := os.ReadFile(mark); string(text) != "stopped in time" {
		t.Errorf("the SIGTERM handler wrote %q", text)
	}
	rec.waitEnd(t, "closed")
}

func TestProcessesThatIgnoreSIGTERMAreKilled(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{}, map[string]string{"INIT": "deaf"})
	pid := number(t, f, `{"do":"pid"}`)
	begun := time.Now()
	f.Close()
	if took := time.Since(begun); took < shutdownTime || !dead(pid) {
		t.Errorf("closed after %v, dead: %v; want death after %v", took, dead(pid), shutdownTime)
	}
	plain := load(t, &rec, runtime.Limits{}, nil) // the negative control: no extension, no notice
	begun = time.Now()
	plain.Close()
	if took := time.Since(begun); took >= shutdownTime {
		t.Errorf("a process without extensions took %v to close", took)
	}
}

func TestIdleEnvironmentsEnd(t *testing.T) {
	var rec recorder
	load(t, &rec, runtime.Limits{IdleAfter: 50 * time.Millisecond}, nil)
	rec.waitEnd(t, "idle")
}

func TestCloseLeavesNothing(t *testing.T) {
	root(t)
	before := goruntime.NumGoroutine()
	dir := t.TempDir()
	var rec recorder
	f, err := New(Options{Dir: dir, Events: rec.events()}).Load(t.Context(), artifact(root(t), nil), runtime.Limits{Concurrency: 3})
	if err != nil {
		t.Fatal(err)
	}
	pids := []int{number(t, f, `{"do":"pid"}`), number(t, f, `{"do":"grandchild"}`)}
	invoke(t, f, "", `{"do":"linger","n":60000}`) // works on when Close comes
	pids = append(pids, number(t, f, `{"do":"pid"}`))
	invoke(t, f, "", `{"do":"panic","text":"x"}`)
	pids = append(pids, number(t, f, `{"do":"pid"}`))
	if goruntime.NumGoroutine() <= before {
		t.Fatal("the count of goroutines shows nothing")
	}
	f.Close()
	f.Close()
	for _, pid := range pids {
		waitDead(t, pid)
	}
	for end := time.Now().Add(5 * time.Second); goruntime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after:\n%s", before, goruntime.NumGoroutine(), stacks[:goruntime.Stack(stacks, true)])
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("folders left: %v", left)
	}
	if _, err := f.Invoke(t.Context(), runtime.Invocation{}); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a closed function says %v", err)
	}
}
