package wasm

import (
	"bytes"
	"errors"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// Modules that must not be loaded, and the words of the refusal.
func TestUnfitModulesAreRefused(t *testing.T) {
	wasi := func(name string, typ int) testImport { return testImport{wasiModule, name, typ} }
	cases := []struct {
		name   string
		module []byte
		want   string
	}{
		{"empty file", nil, "the file is empty"},
		{"ELF", []byte("\x7fELF\x02\x01\x01\x00 and so on"), "does not start as a WebAssembly module"},
		{"text", []byte("(module)"), "does not start as a WebAssembly module"},
		{"component", []byte("\x00asm\x0d\x00\x01\x00"), "components must be built as core modules"},
		{"truncated", nativeModule(replyOf(), nil)[:60], "truncated"},
		{"no ABI", testModule{}.encode(), "export shardmill_abi_v1, shardmill_alloc and shardmill_transform (native batch, see sdk/ABI.md), or import shardmill.next (pull), or be a WASI command that exports _start (stdio)"},
		{"a later ABI", testModule{funcs: []testFunc{{export: "shardmill_abi_v9"}}}.encode(), "speaks shardmill_abi_v9, this version of shardmill speaks shardmill_abi_v1"},
		{"pull", testModule{imports: []testImport{{hostModule, "next", typeTransform}}, funcs: []testFunc{{export: exportCommand}}}.encode(), "imports shardmill.next but not shardmill.respond, so it cannot answer"},
		{"no alloc", testModule{memory: []byte{0, 1}, funcs: []testFunc{{export: exportMarker}}}.encode(), "not shardmill_alloc (i32) -> (i32)"},
		{"hidden memory", nativeModule(replyOf(), func(m *testModule) { m.hidden = true }), `does not export its memory as "memory"`},
		{"wrong signature", nativeModule(replyOf(), func(m *testModule) { m.funcs[fnAlloc].typ, m.funcs[fnAlloc].body = typeVoid, nil }), "export shardmill_alloc has the signature () -> (); it must be (i32) -> (i32)"},
		{"unknown imports", nativeModule(replyOf(), func(m *testModule) {
			m.imports = []testImport{{"env", "puts", typeVoid}, {"a", "b", typeVoid}, wasi("fd_fly", typeVoid)}
		}), `functions that do not exist here: "a.b", "env.puts", "wasi_snapshot_preview1.fd_fly"`},
		{"an import that does not exist", nativeModule(replyOf(), func(m *testModule) { m.imports = []testImport{{hostModule, "fly", typeVoid}} }), `"shardmill.fly", which does not exist; module shardmill has log, error, config, metric, state_get, state_put, emit, next, respond`},
		{"an import of another type", nativeModule(replyOf(), func(m *testModule) { m.imports = []testImport{{hostModule, "log", typeVoid}} }), `"shardmill.log" as () -> (); it is (i32, i32, i32) -> ()`},
		{"invalid code", nativeModule(replyOf(), func(m *testModule) { m.funcs[fnTransform].body = i32(1) }), "not a valid WebAssembly 2.0 module"},
		{"huge nesting", nested(1, 20_000), "nests blocks 20001 deep, the limit is 5000"},
		{"much nesting", nested(25, 4_000), "the sum of squared depths passes 100000000"},
		{"a huge table", nativeModule(replyOf(), func(m *testModule) { m.table = append([]byte{0}, uleb(100_000_000)...) }), "start with 100000000 elements, the limit is 1000000"},
		{"a huge memory", nativeModule(replyOf(), func(m *testModule) { m.memory = append([]byte{0}, uleb(65536)...) }), "starts with 4294967296 bytes of memory, the function's memory limit is 134217728"},
		{"too many locals", nativeModule(replyOf(), func(m *testModule) {
			m.funcs[0].locals = slices.Concat([]byte{1}, uleb(49_999), []byte{typeI32})
		}), "has 49999 locals, the limit is 10000"},
		{"too many functions", nativeModule(replyOf(), func(m *testModule) { m.funcs = append(m.funcs, make([]testFunc, 100_000)...) }), "100003 functions, the limit is 100000"},
		{"one huge function", nativeModule(replyOf(), func(m *testModule) { m.funcs[0].body = bytes.Repeat([]byte{1}, 3<<20) }), "has 3145730 bytes, the limit is 2097152"},
	}
	e := newEngine(t, &recorder{})
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			start := time.Now()
			_, err := e.Load(t.Context(), artifact(t, c.module), runtime.Limits{})
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("err = %v\nwant an Invalid error with %q", err, c.want)
			}
			if took := time.Since(start); took > 5*time.Second {
				t.Errorf("the refusal took %s", took)
			}
		})
	}
	// The control: the module that the cases break is fit.
	load(t, e, artifact(t, nativeModule(replyOf(), nil)), runtime.Limits{})
}

// nested is a native module with n more functions of depth nested blocks.
func nested(n, depth int) []byte {
	body := append(bytes.Repeat([]byte{0x02, empty}, depth), bytes.Repeat([]byte{opEnd}, depth)...)
	return nativeModule(replyOf(), func(m *testModule) {
		for range n {
			m.funcs = append(m.funcs, testFunc{typ: typeVoid, body: body})
		}
	})
}

// exits adds an import of proc_exit as function 0.
func exits(m *testModule) { m.imports = []testImport{{wasiModule, "proc_exit", typeTake}} }

// Modules that are well-formed and do not start.
func TestModulesThatDoNotStart(t *testing.T) {
	add := func(export string, typ int, body []byte, change func(*testModule)) []byte {
		return nativeModule(replyOf(), func(m *testModule) {
			m.funcs = append(m.funcs, testFunc{export: export, typ: typ, body: body})
			if change != nil {
				change(m)
			}
		})
	}
	startSection := func(m *testModule) { m.start = len(m.imports) + len(m.funcs) }
	exit := func(status int) []byte { return slices.Concat(i32(status), call(0)) }
	cases := []struct {
		name   string
		module []byte
		want   string
	}{
		{"loop in the start section", add("", typeVoid, spin, startSection), "was not ready within 300ms"},
		{"loop in _initialize", add(exportReactor, typeVoid, spin, nil), "was not ready within 300ms"},
		{"loop in shardmill_init", add(exportInit, typeInit, slices.Concat(spin, i32(0)), nil), "was not ready within 300ms"},
		{"loop in the smoke test", nativeModule(replyOf(), func(m *testModule) { m.funcs[fnTransform].body = slices.Concat(spin, i64(0)) }), "failed its smoke test, an empty batch: Task timed out after 0.30 seconds"},
		{"trap in the start section", add("", typeVoid, code(opUnreachable), startSection), "unreachable"},
		{"exit in the start section", add("", typeVoid, exit(4), func(m *testModule) { exits(m); startSection(m) }), "exit status 4 while it started"},
		{"exit 0 in _initialize", add(exportReactor, typeVoid, exit(0), exits), "exit status 0 while it started"},
		{"exit 5 in _initialize", add(exportReactor, typeVoid, exit(5), exits), "exit status 5 while it started"},
		{"exit in shardmill_init", add(exportInit, typeInit, slices.Concat(exit(6), i32(0)), exits), "exit status 6 in shardmill_init"},
		{"shardmill_init says no", add(exportInit, typeInit, i32(9), nil), "shardmill_init returned 9"},
		{"exit in the smoke test", nativeModule(replyOf(), func(m *testModule) {
			exits(m)
			m.funcs[fnAlloc].body = slices.Concat(exit(7), i32(0))
		}), "exit status 7 in shardmill_alloc"},
		{"an answer to an empty batch", nativeModule(replyOf(entry(0, 0, "x", "")), nil), "failed its smoke test, an empty batch: entry 0 of the reply, at byte 4, answers record 0 of a batch of 0"},
		{"a stdio module that never reads", testModule{memory: []byte{0, 1}, funcs: []testFunc{{export: exportCommand}}}.encode(), "before it read its first event from stdin"},
		{"a stdio module that loops first", testModule{memory: []byte{0, 1}, funcs: []testFunc{{export: exportCommand, body: spin}}}.encode(), "was not ready within 300ms"},
	}
	rec := &recorder{}
	e := newEngine(t, rec)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var limits runtime.Limits
			if strings.Contains(c.want, "not ready") {
				limits.InitTimeout = 300 * time.Millisecond
			}
			if strings.Contains(c.want, "timed out") {
				limits.Timeout = 300 * time.Millisecond
			}
			_, err := e.Load(t.Context(), artifact(t, c.module), limits)
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("err = %v\nwant an Invalid error with %q", err, c.want)
			}
		})
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if len(rec.ends) != len(cases) {
		t.Errorf("%d environments ended, want %d: Load holds nothing when it fails", len(rec.ends), len(cases))
	}
}

// Modules that pass the smoke test and break the rules on the first real batch of two records.
func TestBatchesThatBreakTheRules(t *testing.T) {
	then := func(change func(*testModule), body ...[]byte) []byte {
		return nativeModule(nil, func(m *testModule) {
			m.funcs[fnTransform].body = answerEmpty(slices.Concat(body...))
			if change != nil {
				change(m)
			}
		})
	}
	reply := func(b []byte) []byte {
		return then(func(m *testModule) { m.data[8192] = b }, i64(8192<<32|int64(len(b))))
	}
	alloc := func(big int) []byte { // address 1024 for the empty batch of 4 bytes
		return then(func(m *testModule) {
			m.funcs[fnAlloc].body = slices.Concat([]byte{opLocalGet, 0}, i32(4), []byte{0x46, 0x04, typeI32}, i32(1024), []byte{0x05}, i32(big), []byte{opEnd})
		}, i64(0))
	}
	good := entry(0, 0, "x", "")
	cases := []struct {
		name, kind, want string
		module           []byte
	}{
		{"endless loop", runtime.ErrorTimedOut, "Task timed out after 0.30 seconds", then(nil, spin, i64(0))},
		{"memory.grow loop", runtime.ErrorTimedOut, "Task timed out", then(nil, code(opLoop, empty, i32(16), opMemoryGrow, 0, opDrop, opBr, 0, opEnd), i64(0))},
		{"memory.fill loop", runtime.ErrorTimedOut, "Task timed out", then(nil, code(opLoop, empty, i32(0), i32(1), i32(65536), 0xfc, 0x0b, 0, opBr, 0, opEnd), i64(0))},
		{"endless recursion", runtime.ErrorExit, "stack overflow", then(nil, code(opLocalGet, 0, opLocalGet, 1, call(fnTransform)))},
		{"trap", runtime.ErrorExit, "Runtime exited with error: trap: wasm error: unreachable", then(nil, code(opUnreachable))},
		{"exit", runtime.ErrorExit, "exit status 3 in shardmill_transform", then(func(m *testModule) { exits(m) }, i32(3), call(0), i64(0))},
		{"exit 0", runtime.ErrorExit, "exit status 0 in shardmill_transform", then(func(m *testModule) { exits(m) }, i32(0), call(0), i64(0))},
		{"log outside of memory", runtime.ErrorExit, "shardmill.log was given 100 bytes at address 65530", then(func(m *testModule) { m.imports = []testImport{{hostModule, "log", type3}} }, i32(1), i32(65530), i32(100), call(0), i64(0))},
		{"config key of 4 GiB", runtime.ErrorExit, "shardmill.config was given 4294967295 bytes", then(func(m *testModule) { m.imports = []testImport{{hostModule, "config", typeFd}} }, i32(0), i32(-1), i32(0), i32(0), call(0), code(opDrop), i64(0))},
		{"AssemblyScript's abort", runtime.ErrorExit, "abort: no at ?:7:9", then(func(m *testModule) {
			m.imports = []testImport{{"env", "abort", typeAbort}}
			m.data[512] = []byte("\x04\x00\x00\x00n\x00o\x00")
		}, i32(516), i32(0), i32(7), i32(9), call(0), i64(0))},
		{"alloc returns 0", runtime.ErrorHandler, "shardmill_alloc returned 0 for 32 bytes: the module is out of memory", alloc(0)},
		{"alloc returns an address outside", runtime.ErrorProtocol, "shardmill_alloc(32) returned address 65530, but the memory ends at byte 65536", alloc(65530)},
		{"alloc returns a negative address", runtime.ErrorProtocol, "returned address 4294967295", alloc(-1)},
		{"reply outside of memory", runtime.ErrorProtocol, "a reply of 100 bytes at byte 65530, but the memory ends at byte 65536", then(nil, i64(65530<<32|100))},
		{"reply of 4 GiB", runtime.ErrorResponseTooLarge, "maximum allowed payload size (6291556 bytes)", then(nil, i64(0xffffffff))},
		{"reply without a count", runtime.ErrorProtocol, "ends inside the count of entries: 4 bytes are needed at byte 0 of 3", reply([]byte("abc"))},
		{"a huge count", runtime.ErrorProtocol, "ends inside an input index: 4 bytes are needed at byte 4 of 4", reply([]byte("\xff\xff\xff\xff"))},
		{"index out of range", runtime.ErrorProtocol, "entry 1 of the reply, at byte 18, answers record 2 of a batch of 2", reply(replyOf(good, entry(2, 0, "", "")))},
		{"unknown status", runtime.ErrorProtocol, "entry 0 of the reply has status 3 at byte 8", reply(replyOf(entry(0, 3, "", "")))},
		{"data longer than the reply", runtime.ErrorProtocol, "ends inside an entry's data", reply(replyOf(good)[:13])},
		{"meta longer than the reply", runtime.ErrorProtocol, "ends inside an entry's meta", reply(append(replyOf(good)[:14], 1, 0, 0, 0))},
		{"trailing bytes", runtime.ErrorProtocol, "1 bytes after its last entry, at byte 18", reply(append(replyOf(good), 0))},
		{"dropped twice", runtime.ErrorProtocol, "answers record 0 a second time", reply(replyOf(entry(0, 1, "", ""), entry(0, 1, "", "")))},
		{"ok and dropped", runtime.ErrorProtocol, "answers record 0 a second time", reply(replyOf(good, entry(0, 1, "", "")))},
		{"failed and ok", runtime.ErrorProtocol, "answers record 0 a second time", reply(replyOf(entry(0, 2, "", ""), good))},
	}
	rec := &recorder{}
	e := newEngine(t, rec)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := load(t, e, artifact(t, c.module), runtime.Limits{Concurrency: 1, Memory: 16 << 20})
			rec.ends = nil
			in := records("first", "seconds")
			if c.kind == runtime.ErrorTimedOut {
				in.Invocation.Deadline = time.Now().Add(300 * time.Millisecond)
			}
			var out runtime.ProcessedBatch
			err := f.(runtime.RecordProcessor).Process(t.Context(), in, &out)
			var failed *runtime.FunctionFailure
			if !errors.As(err, &failed) || failed.Type != c.kind || !strings.Contains(failed.Message, c.want) {
				t.Fatalf("err = %v\nwant %s with %q", err, c.kind, c.want)
			}
			if len(out.Records) != 0 {
				t.Errorf("answers %q came with the failure", show(out.Records))
			}
			if len(rec.ends) != 1 {
				t.Errorf("environments ended %q, want this one", rec.ends)
			}
		})
	}
	// The controls: what the cases break is legal, fan-out and answers out of order included.
	f := load(t, e, artifact(t, reply(replyOf(entry(1, 1, "", ""), good, good))), runtime.Limits{})
	if got, want := answersOf(t, f, records("first", "seconds")), []string{"1 dropped", "0 ok x", "0 ok x"}; !slices.Equal(got, want) {
		t.Errorf("answers %q, want %q", got, want)
	}
}

// A guest that spins must not be felt elsewhere: the host's collector finishes and other
// functions answer while it runs.
func TestHostStaysResponsiveWhileAGuestSpins(t *testing.T) {
	e := newEngine(t, &recorder{})
	spinning := load(t, e, artifact(t, nativeModule(nil, func(m *testModule) {
		m.funcs[fnTransform].body = answerEmpty(slices.Concat(spin, i64(0)))
	})), runtime.Limits{Timeout: time.Minute})
	quick := load(t, e, artifact(t, nativeModule(replyOf(), nil)), runtime.Limits{})
	v, err := spinning.(*nativeFunction).pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	spinning.(*nativeFunction).pool.Release(v, true, "")
	ended := make(chan error, 1)
	go func() {
		ended <- spinning.(runtime.RecordProcessor).Process(t.Context(), records("go"), &runtime.ProcessedBatch{})
	}()
	before := cpuOf(t, v)
	for cpuOf(t, v) < before+30*time.Millisecond { // so the guest does spin
		goruntime.GC()
		if got := answersOf(t, quick, records("a")); len(got) != 0 {
			t.Fatalf("answers %q, want none", got)
		}
	}
	select {
	case err := <-ended:
		t.Fatal("the spinning guest ended by itself:", err)
	default:
	}
	v.kill()
	var failed *runtime.FunctionFailure
	if err := <-ended; !errors.As(err, &failed) || failed.Message != "Runtime exited with error: signal: killed" {
		t.Fatalf("err = %v, want an exit by signal", err)
	}
}

// Tables and stacks are not linear memory: the process limit stops them.
func TestTableGrowthIsStoppedByTheProcessLimit(t *testing.T) {
	if raceEnabled {
		t.Skip("RLIMIT_DATA is off under the race detector")
	}
	f := load(t, newEngine(t, &recorder{}), artifact(t, nativeModule(nil, func(m *testModule) {
		m.table = []byte{0, 1}
		m.funcs[fnTransform].body = answerEmpty(code(opLoop, empty, 0xd0, typeFuncref, i32(1<<20), 0xfc, 0x0f, 0, opDrop, opBr, 0, opEnd, i64(0)))
	})), runtime.Limits{Memory: 1 << 20, Timeout: 20 * time.Second})
	var failed *runtime.FunctionFailure
	err := f.(runtime.RecordProcessor).Process(t.Context(), records("x"), &runtime.ProcessedBatch{})
	if !errors.As(err, &failed) || failed.Type != runtime.ErrorExit || !strings.Contains(failed.Message, "ran out of the memory that a limit of 1048576 bytes allows") {
		t.Fatalf("err = %v, want an exit that names the memory limit", err)
	}
}

func TestFullMemoryRetiresTheEnvironment(t *testing.T) {
	rec := &recorder{}
	f := load(t, newEngine(t, rec), artifact(t, nativeModule(nil, func(m *testModule) {
		m.funcs[fnTransform].body = answerEmpty(code(i32(14), opMemoryGrow, 0, opDrop, i64(4096<<32|4)))
	})), runtime.Limits{Memory: 16 * pageBytes, Concurrency: 1})
	answersOf(t, f, records("x"))
	if want := []string{"memory: 93% of its limit in use"}; !slices.Equal(rec.ends, want) {
		t.Fatalf("environments ended %q, want %q", rec.ends, want)
	}
}

// A worker that lies on the control connection is killed, and nothing it claims is believed.
func TestLyingWorkers(t *testing.T) {
	for name, h := range map[string]header{
		"a foreign id":             {kind: kindResult, id: 99},
		"an unknown kind":          {kind: 77, id: 1},
		"READY out of turn":        {kind: kindReady, id: 1},
		"a question out of turn":   {kind: kindHostCall, id: 1},
		"effects that are cut off": {kind: kindResult, id: 1, flags: flagEffects},
		"a length above its limit": {kind: kindResult, id: 1, length: 1 << 31},
		"more than the segment":    {kind: kindResult, id: 1, length: segmentHalf + 1, flags: flagShared},
	} {
		t.Run(name, func(t *testing.T) {
			v := &environment{f: &function{limits: runtime.Limits{}.Defaults()}, finished: make(chan struct{})}
			v.proc = liarProcess(t, h)
			v.logs = newGuestLog("fn", nil)
			go v.reap()
			_, err := v.invoke(t.Context(), &invocation{requestID: "req", encode: func(b []byte) []byte { return b }})
			var failed *runtime.FunctionFailure
			if !errors.As(err, &failed) || v.Alive() {
				t.Fatalf("err = %v, alive = %t; want a failure and a dead worker", err, v.Alive())
			}
		})
	}
}
