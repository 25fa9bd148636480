package wasm

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

const kitPullGuest = "../../sdk/conformance/guests/pull-c.wasm"

func pullArtifact() runtime.Artifact {
	return runtime.Artifact{Name: "fn", Kind: runtime.KindWasm, Path: kitPullGuest}
}

// pullModule runs the code given after its first event has come into memory at 4096. Its imports
// are next (function 0), respond (1) and proc_exit (2).
func pullModule(then ...[]byte) []byte {
	next := slices.Concat(i32(4096), i32(60000), call(0), code(opDrop))
	return pullStart(append([][]byte{next}, then...)...)
}

func pullStart(body ...[]byte) []byte {
	return testModule{
		memory:  []byte{0, 2},
		imports: []testImport{{hostModule, "next", typeNext}, {hostModule, "respond", typeRespond}, {wasiModule, "proc_exit", typeTake}},
		data:    map[int][]byte{1024: []byte("req-1"), 1100: []byte(`{"ok":1}`), 1200: []byte(`{"errorType":"E","errorMessage":"m"}`), 1300: []byte("no document")},
		funcs:   []testFunc{{export: exportCommand, typ: typeVoid, body: slices.Concat(body...)}},
	}.encode()
}

// respond is a call of shardmill.respond with the id "req-1".
func respond(kind, at, n int) []byte {
	return slices.Concat(i32(kind), i32(1024), i32(5), i32(at), i32(n), call(1), code(opDrop))
}

// loopOf is a module's main loop: an event, then the code given, for ever.
func loopOf(then ...[]byte) []byte {
	next := slices.Concat(i32(4096), i32(60000), call(0), code(opDrop))
	return pullStart(slices.Concat(code(opLoop, empty), next, slices.Concat(then...), code(opBr, 0, opEnd)))
}

func TestPullModuleGetsLambdasHeaders(t *testing.T) {
	// The module answers with what next gave it, header lines and all, as a JSON text needs no
	// check on a good answer.
	echo := loopOf(slices.Concat(i32(0), i32(1024), i32(5), i32(4096), i32(4096), code(0x2f, 1, 0), i32(2), code(0x6a), call(1), code(opDrop)))
	f := load(t, newEngine(t, &recorder{}), artifact(t, echo), runtime.Limits{})
	deadline := time.Now().Add(10 * time.Second)
	r, err := f.Invoke(t.Context(), runtime.Invocation{RequestID: "req-1", FunctionARN: "arn:aws:lambda:eu-west-1:1:function:fn", TraceID: "Root=1\nX: y", Payload: []byte(`{}`), Deadline: deadline})
	if err != nil {
		t.Fatal(err)
	}
	want := "Lambda-Runtime-Aws-Request-Id: req-1\nLambda-Runtime-Deadline-Ms: " + itoa(deadline.UnixMilli()) +
		"\nLambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:eu-west-1:1:function:fn\nLambda-Runtime-Trace-Id: Root=1 X: y"
	if got := string(r.Payload[2:]); got != want {
		t.Errorf("headers\n%s\nwant\n%s", got, want)
	}
}

func itoa(n int64) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append(b, byte('0'+n%10))
	}
	slices.Reverse(b)
	return string(b)
}

func TestPullAnswers(t *testing.T) {
	good := respond(respondAnswer, 1100, 8)
	exit := func(status int) []byte { return slices.Concat(i32(status), call(2)) }
	cases := []struct {
		name    string
		module  []byte
		payload string
		kind    string // errorType, "" for a good answer
		ends    string // why the environment ended, "" if it did not
	}{
		{"an answer", loopOf(good), `{"ok":1}`, "", ""},
		{"an empty answer", loopOf(respond(respondAnswer, 1100, 0)), ``, "", ""},
		{"an answer, then the end", pullModule(good), `{"ok":1}`, "", "exited after its answer"},
		{"an answer, then an exit", pullModule(good, exit(7)), `{"ok":1}`, "", "exited after its answer"},
		{"an error", loopOf(respond(respondError, 1200, 36)), `{"errorType":"E","errorMessage":"m"}`, "E", ""},
		{"an error, then an exit", pullModule(respond(respondError, 1200, 36), exit(1)), `{"errorType":"E","errorMessage":"m"}`, "E", "exited after its answer"},
		{"an answer that broke off", loopOf(respond(respondBroken, 1200, 36)), `{"errorType":"E","errorMessage":"m"}`, "E", ""},
		{"an error without a document", loopOf(respond(respondError, 1300, 11)), "is not a JSON object with errorType and errorMessage", runtime.ErrorProtocol, "protocol: "},
		{"no answer", pullModule(), "exited without providing a reason: exit status 0 before it answered the event", runtime.ErrorExit, "exit: "},
		{"an exit", pullModule(exit(4)), "exit status 4 before it answered the event", runtime.ErrorExit, "exit: "},
		{"a trap", pullModule(code(opUnreachable)), "trap: wasm error: unreachable", runtime.ErrorExit, "trap: "},
		{"an endless loop", pullModule(spin), "Task timed out after 0.30 seconds", runtime.ErrorTimedOut, "timeout"},
		{"next before an answer", loopOf(), "called shardmill.next before it answered the event", runtime.ErrorProtocol, "protocol: "},
		{"an answer twice", loopOf(good, good), "answered the event a second time", runtime.ErrorProtocol, "protocol: "},
		{"a foreign id", loopOf(slices.Concat(i32(0), i32(1100), i32(4), i32(1100), i32(8), call(1), code(opDrop))), "shardmill.respond answered the request", runtime.ErrorProtocol, "protocol: "},
		{"an unknown kind", loopOf(respond(4, 1100, 8)), "was given the kind 4", runtime.ErrorProtocol, "protocol: "},
		{"an error while starting, late", loopOf(respond(respondInitError, 1200, 36)), "after the first shardmill.next", runtime.ErrorProtocol, "protocol: "},
		{"an answer outside of memory", loopOf(respond(respondAnswer, 131000, 100)), "shardmill.respond was given 100 bytes at address 131000", runtime.ErrorExit, "trap: "},
		{"an answer above the limit", loopOf(respond(respondAnswer, 4096, 60001)), "Response payload size exceeded maximum allowed payload size (60000 bytes).", runtime.ErrorResponseTooLarge, "answer too large: "},
		{"a buffer outside of memory", pullModule(good, i32(131000), i32(60000), call(0), code(opDrop)), `{"ok":1}`, "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			rec := &recorder{}
			f := load(t, newEngine(t, rec), artifact(t, c.module), runtime.Limits{Concurrency: 1, Payload: 60_000})
			in := event(`{"an":"event"}`)
			if c.kind == runtime.ErrorTimedOut {
				in.Deadline = time.Now().Add(300 * time.Millisecond)
			}
			r, err := f.Invoke(t.Context(), in)
			if err != nil || r.ErrorType != c.kind || !strings.Contains(string(r.Payload), c.payload) || (r.FunctionError == "") != (c.kind == "") {
				t.Fatalf("%s %s: %s, %v\nwant %s: %s", r.FunctionError, r.ErrorType, r.Payload, err, c.kind, c.payload)
			}
			rec.mu.Lock()
			defer rec.mu.Unlock()
			if c.ends == "" && len(rec.ends) > 0 || c.ends != "" && (len(rec.ends) != 1 || !strings.HasPrefix(rec.ends[0], c.ends)) {
				t.Errorf("environments ended %q, want %q", rec.ends, c.ends)
			}
		})
	}
}

func TestPullModulesThatDoNotStart(t *testing.T) {
	for _, c := range []struct {
		name   string
		module []byte
		want   string
	}{
		{"no next", pullStart(), "before it called shardmill.next; a pull module takes events in a loop"},
		{"a loop before next", pullStart(spin), "was not ready within 300ms"},
		{"an answer before next", pullStart(respond(respondAnswer, 1100, 8)), "shardmill.respond was called without an event to answer"},
		{"an error while starting", pullStart(respond(respondInitError, 1200, 36)), `it reported an error: {"errorType":"E","errorMessage":"m"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l runtime.Limits
			if strings.Contains(c.want, "300ms") {
				l.InitTimeout = 300 * time.Millisecond
			}
			_, err := newEngine(t, &recorder{}).Load(t.Context(), artifact(t, c.module), l)
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("err = %v\nwant an Invalid error with %q", err, c.want)
			}
		})
	}
}

// A buffer that is too small leaves the event where it is.
func TestPullEventWaitsForABuffer(t *testing.T) {
	f := load(t, newEngine(t, &recorder{}), pullArtifact(), runtime.Limits{Concurrency: 1})
	for _, n := range []int{10, 1000, 3 << 20, 10} { // the guest's first buffer has 512 bytes
		payload := `"` + strings.Repeat("x", n) + `"`
		r, err := f.Invoke(t.Context(), event(payload))
		if want := `{"got":` + payload + `}`; err != nil || string(r.Payload) != want {
			t.Fatalf("an event of %d bytes: %d bytes came back (%v), want %d", len(payload), len(r.Payload), err, len(want))
		}
	}
	if _, err := f.Invoke(t.Context(), event("hello")); !errs.Is(err, errs.Invalid) {
		t.Errorf("an event that is not JSON: %v, want Invalid", err)
	}
	if _, ok := f.(runtime.RecordProcessor); ok {
		t.Error("the Function of a pull module must not be a RecordProcessor")
	}
}

// The ABI that is asked for wins over what the module looks like, if the module can serve it.
func TestAnABIIsChosen(t *testing.T) {
	both := nativeModule(replyOf(), func(m *testModule) { // looks native, is a stdio command as well
		m.imports = []testImport{{wasiModule, "fd_read", typeFd}}
		m.funcs = append(m.funcs, testFunc{export: exportCommand, typ: typeVoid, body: slices.Concat(i32(0), i32(16), i32(1), i32(32), call(0), code(opDrop))})
		m.data[16] = []byte("\x00\x10\x00\x00\x01\x00\x00\x00")
	})
	kit, err := os.ReadFile(kitPullGuest)
	if err != nil {
		t.Fatal(err)
	}
	plain := nativeModule(replyOf(), nil)
	for _, c := range []struct {
		name, abi string
		module    []byte
		want      string // the ABI, or the refusal
	}{
		{"native by its looks", "", both, abiNative},
		{"native by name", abiNative, both, abiNative},
		{"stdio by name", abiStdio, both, abiStdio},
		{"pull by its looks", "", kit, abiPull},
		{"pull by name", abiPull, kit, abiPull},
		{"native that is not", abiNative, kit, `the ABI "native" is asked for, but the module does not export shardmill_abi_v1`},
		{"stdio that pulls", abiStdio, kit, `the ABI "stdio" is asked for, but the module imports shardmill.next`},
		{"pull that is not", abiPull, plain, `the ABI "pull" is asked for, but the module does not import shardmill.next`},
		{"stdio without a start", abiStdio, plain, `the ABI "stdio" is asked for, but the module does not export _start, which the stdio ABI needs`},
		{"no such ABI", "grpc", plain, `the ABI "grpc" does not exist; there are "native", "pull" and "stdio"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := artifact(t, c.module)
			a.ABI = c.abi
			f, err := newEngine(t, &recorder{}).Load(t.Context(), a, runtime.Limits{})
			got := ""
			switch f := f.(type) {
			case *nativeFunction:
				got = f.abi
			case *pullFunction:
				got = f.abi
			case *stdioFunction:
				got = f.abi
			default:
				got = err.Error()
			}
			if f != nil {
				f.Close()
			}
			if !strings.Contains(got, c.want) {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}
