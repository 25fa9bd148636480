package wasm

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

func event(payload string) runtime.Invocation {
	return runtime.Invocation{RequestID: "req-1", Payload: []byte(payload)}
}

func TestStdioModuleAnswersEvents(t *testing.T) {
	rec := &recorder{}
	f := load(t, newEngine(t, rec), guest(t, shared.stdio), runtime.Limits{Concurrency: 1})
	if _, ok := f.(runtime.RecordProcessor); ok {
		t.Fatal("the Function of a stdio module must not be a RecordProcessor")
	}
	for _, c := range []struct{ event, want string }{
		{`{"a":1}`, `{"got":{"a":1}}`},
		{"{\n  \"a\": [1,\r\n 2]\n}", `{"got":{"a":[1,2]}}`},
		{`"just text"`, `{"got":"just text"}`},
		{`{"do":"env"}`, `{"env":"blue","name":"fn"}`},
	} {
		r, err := f.Invoke(t.Context(), event(c.event))
		if err != nil || string(r.Payload) != c.want || r.FunctionError != "" {
			t.Errorf("%s: %s (%s, %v), want %s", c.event, r.Payload, r.FunctionError, err, c.want)
		}
	}
	if rec.start != 1 {
		t.Errorf("%d environments were started for calls one after another, want 1", rec.start)
	}
	for _, bad := range []string{"", "{", "hello"} {
		if _, err := f.Invoke(t.Context(), event(bad)); !errs.Is(err, errs.Invalid) {
			t.Errorf("the event %q: %v, want Invalid", bad, err)
		}
	}
}

func TestStdioFailures(t *testing.T) {
	rec := &recorder{}
	f := load(t, newEngine(t, rec), guest(t, shared.stdio), runtime.Limits{Concurrency: 1, Payload: 50_000})
	for _, c := range []struct{ do, kind, payload string }{
		{"error", "Oops", `{"errorMessage":"boom","errorType":"Oops"}`},
		{"exit", runtime.ErrorExit, `{"errorMessage":"RequestId: req-1 Error: Runtime exited with error: exit status 3 before it answered the event","errorType":"Runtime.ExitError"}`},
		{"leave", runtime.ErrorExit, `{"errorMessage":"RequestId: req-1 Error: Runtime exited without providing a reason: exit status 0 before it answered the event","errorType":"Runtime.ExitError"}`},
		{"spin", runtime.ErrorTimedOut, `{"errorMessage":"RequestId: req-1 Error: Task timed out after 0.40 seconds","errorType":"Sandbox.Timedout"}`},
		{"text", runtime.ErrorProtocol, `{"errorMessage":"the module's answer is not a JSON object: \"hello ` + "\ufffd" + `[31m there\"; write one JSON object a line to stdout, and logs to stderr","errorType":"Runtime.InvalidResponse"}`},
		{"twice", runtime.ErrorProtocol, `{"errorMessage":"the module wrote more than one line to stdout for one event: \"{}\"; write logs to stderr","errorType":"Runtime.InvalidResponse"}`},
		{"silent", runtime.ErrorProtocol, `{"errorMessage":"the module asked for more input before it answered the event; write one JSON line to stdout for each event, and flush it","errorType":"Runtime.InvalidResponse"}`},
		{"big", runtime.ErrorResponseTooLarge, `{"errorMessage":"Response payload size exceeded maximum allowed payload size (50000 bytes).","errorType":"Function.ResponseSizeTooLarge"}`},
	} {
		t.Run(c.do, func(t *testing.T) {
			in := event(`{"do":"` + c.do + `"}`)
			if c.kind == runtime.ErrorTimedOut {
				in.Deadline = time.Now().Add(400 * time.Millisecond)
			}
			r, err := f.Invoke(t.Context(), in)
			if err != nil || r.FunctionError != "Unhandled" || r.ErrorType != c.kind || string(r.Payload) != c.payload {
				t.Fatalf("%s\n%s %s %v\nwant\n%s\nUnhandled %s", r.Payload, r.FunctionError, r.ErrorType, err, c.payload, c.kind)
			}
			if r, err := f.Invoke(t.Context(), event(`1`)); err != nil || string(r.Payload) != `{"got":1}` {
				t.Fatalf("the next event: %s, %v", r.Payload, err)
			}
		})
	}
}

// A module that answers and then ends is a function with a fresh environment an event.
func TestStdioModuleThatEndsAfterItsAnswer(t *testing.T) {
	rec := &recorder{}
	f := load(t, newEngine(t, rec), guest(t, shared.stdio), runtime.Limits{Concurrency: 1})
	for range 3 {
		r, err := f.Invoke(t.Context(), event(`{"do":"answer and leave"}`))
		if err != nil || string(r.Payload) != `{"bye":true}` {
			t.Fatalf("%s, %v", r.Payload, err)
		}
	}
	if want := slices.Repeat([]string{"exited after its answer"}, 3); !slices.Equal(rec.ends, want) {
		t.Fatalf("ends %q, want %q", rec.ends, want)
	}
}

func TestStdioModuleLogsOnStderr(t *testing.T) {
	rec := &recorder{}
	f := load(t, newEngine(t, rec), guest(t, shared.stdio), runtime.Limits{Concurrency: 1})
	if _, err := f.Invoke(t.Context(), event(`{"do":"log"}`)); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if got, want := rec.lines(), []string{"req-1: a line \ufffd[2J of log"}; !slices.Equal(got, want) {
		t.Fatalf("log %q, want %q", got, want)
	}
}

// A module that greets on stdout, as many programs do, hears at load what is wrong.
func TestStdioModuleThatTalksFirst(t *testing.T) {
	m := testModule{
		imports: []testImport{{wasiModule, "fd_write", typeFd}},
		memory:  []byte{0, 1},
		funcs:   []testFunc{{export: exportCommand, body: code(i32(1), i32(0), i32(1), i32(32), call(0), opDrop)}},
		data:    map[int][]byte{0: {16, 0, 0, 0, 8, 0, 0, 0}, 16: []byte("welcome\n")},
	}
	_, err := newEngine(t, &recorder{}).Load(t.Context(), artifact(t, m.encode()), runtime.Limits{})
	if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), `wrote to stdout without an event to answer: "welcome"; write logs to stderr`) {
		t.Fatalf("err = %v", err)
	}
}
