package wasm

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/sys"

	"github.com/shardmill/shardmill/runtime"
)

const coreFeatures = api.CoreFeaturesV2

// compilerSupported is where wazero turns WebAssembly into machine code. Elsewhere modules are
// interpreted, which is 30 to 100 times slower.
const compilerSupported = goruntime.GOARCH == "amd64" || goruntime.GOARCH == "arm64"

// WorkerMain returns at once in the host. In a process that the engine started it does the
// process's work and exits; so it must be the first statement of main, before flags, logs or
// configuration, and the first of TestMain in tests that load modules.
func WorkerMain() {
	switch os.Args[0] {
	case workerName:
		os.Exit(workerMain())
	case compilerName:
		os.Exit(compileMain())
	}
}

// loadSpec is the LOAD frame of a worker.
type loadSpec struct {
	Name        string            `json:"name"`
	ABI         string            `json:"abi"`
	CacheDir    string            `json:"cacheDir"`
	MemoryPages uint32            `json:"memoryPages"`
	DataBytes   uint64            `json:"dataBytes"`
	MaxReply    int               `json:"maxReply"`
	MaxRequest  int               `json:"maxRequest"`
	Env         map[string]string `json:"env"`
	Grants      runtime.Grants    `json:"grants"`
}

// readyInfo is the READY frame of a worker.
type readyInfo struct {
	Seccomp bool `json:"seccomp"`
}

// worker is the state of a worker process. Everything in it happens on one goroutine: the guest
// calls the host functions, the host functions read the next frame.
type worker struct {
	ch      channel
	spec    loadSpec
	engine  wazero.Runtime
	guest   api.Module // nil until instantiated
	log     guestLogWriter
	seccomp bool

	id      uint64 // of the invocation under way, or of the last one
	busy    bool   // an invocation is under way
	facts   []byte // of the invocation under way
	errText []byte // what the guest said with shardmill.error
	effects guestEffects
	pull    *pullGuest // nil unless the module is served by the pull ABI
}

// maxLoadSpec bounds the LOAD frame: a function's environment variables are most of it.
const maxLoadSpec = 1 << 20

func workerMain() int {
	ch, binary, err := inherited(workerName)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	w := &worker{ch: ch}
	w.ch.max = maxLoadSpec
	h, payload, err := w.ch.read()
	if err != nil || h.kind != kindLoad {
		return 1
	}
	if err := json.Unmarshal(payload, &w.spec); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	w.ch.max = w.spec.MaxRequest
	w.run(withLinearMemory(context.Background()), binary)
	return 0
}

// run follows a fixed order: limits, compiled code, host functions, the lock on the process,
// and only then the first instruction of the guest.
func (w *worker) run(ctx context.Context, binary []byte) {
	if err := setLimits(0, w.spec.DataBytes, 0, 64); err != nil {
		w.fault(faultRefused, err.Error())
	}
	var err error
	if w.engine, err = newRuntime(ctx, w.spec.MemoryPages, w.spec.CacheDir); err != nil {
		w.fault(faultRefused, err.Error())
	}
	compiled, err := w.engine.CompileModule(ctx, binary)
	if err != nil {
		w.fault(faultRefused, err.Error())
	}
	if err := w.instantiateHost(ctx); err != nil {
		w.fault(faultRefused, err.Error())
	}
	w.seccomp = lockIn(false)
	switch w.spec.ABI {
	case abiNative:
		w.serveNative(ctx, compiled)
	case abiPull:
		w.servePull(ctx, compiled)
	default:
		w.serveStdio(ctx, compiled)
	}
}

// config is what guests of all ABIs see of the world: real clocks, real randomness, their
// environment variables, no files, no network.
func (w *worker) config() wazero.ModuleConfig {
	c := wazero.NewModuleConfig().WithName("guest").WithArgs(w.spec.Name).
		WithStderr(&w.log).
		WithSysWalltime().WithSysNanotime().WithSysNanosleep().
		WithRandSource(randomSource{})
	for k, v := range w.spec.Env {
		c = c.WithEnv(k, v)
	}
	return c
}

func (w *worker) ready() {
	info, _ := json.Marshal(readyInfo{w.seccomp})
	if w.ch.writeBytes(header{kind: kindReady, fill: w.fill()}, info) != nil {
		os.Exit(1)
	}
}

// next waits for an invocation and returns its batch or event. It exits when the host is gone.
func (w *worker) next() []byte {
	h, payload, err := w.ch.read()
	if err != nil || h.kind != kindInvoke {
		w.gone()
	}
	w.id, w.log.id, w.errText, w.busy = h.id, h.id, w.errText[:0], true
	w.effects.reset()
	var request []byte
	w.facts, request = cutFacts(payload)
	return request
}

// gone ends the worker: there is no host any more that wants something.
func (w *worker) gone() {
	w.log.flush()
	os.Exit(0)
}

// reply answers the invocation under way. flags is flagLast when the worker ends with it, and
// flagError when the answer is an error document, after which there are no effects.
func (w *worker) reply(payload []byte, flags uint8) {
	w.log.flush()
	w.busy = false
	size := len(payload)
	var effects []byte
	if flags&flagError == 0 {
		effects = w.effects.encode()
	}
	if len(effects) > 0 {
		flags |= flagEffects
		size += 4 + len(effects)
	}
	err := w.ch.write(header{kind: kindResult, flags: flags, id: w.id, fill: w.fill()}, size, func(dst []byte) {
		if len(effects) > 0 {
			binary.LittleEndian.PutUint32(dst, uint32(len(effects)))
			dst = dst[4+copy(dst[4:], effects):]
		}
		copy(dst, payload)
	})
	if err != nil {
		os.Exit(1)
	}
}

// failed answers the invocation under way with the function's own failure.
func (w *worker) failed(text string) {
	w.log.flush()
	w.busy = false
	w.sendFault(faultHandler, text)
}

// fault tells the host why this environment is at its end, and ends it.
func (w *worker) fault(code faultCode, text string) {
	w.log.flush()
	w.sendFault(code, text)
	os.Exit(1)
}

func (w *worker) sendFault(code faultCode, text string) {
	payload := append([]byte{byte(code)}, text[:min(len(text), maxFaultText)]...)
	if w.ch.writeBytes(header{kind: kindFault, id: w.id, fill: w.fill()}, payload) != nil {
		os.Exit(1)
	}
}

const maxFaultText = 4096

// stopped ends the environment for an error that wazero gave: an exit or a trap. What says what
// the guest was doing.
func (w *worker) stopped(err error, what string) {
	var exit *sys.ExitError
	if errors.As(err, &exit) {
		w.exited(exit.ExitCode(), what)
	}
	text := strings.TrimPrefix(err.Error(), "module[guest] function["+exportCommand+"] failed: ")
	if len(w.errText) > 0 {
		text = string(w.errText) + ": " + text
	}
	w.fault(faultTrap, text)
}

// exited ends the environment of a guest that called proc_exit or left its main, in Lambda's words.
func (w *worker) exited(status uint32, what string) {
	text := fmt.Sprintf("Runtime exited with error: exit status %d", status)
	if status == 0 {
		text = "Runtime exited without providing a reason: exit status 0"
	}
	w.fault(faultExit, text+" "+what)
}

// fill is the guest's linear memory in thousandths of its limit.
func (w *worker) fill() uint16 {
	if w.guest == nil {
		if w.engine != nil {
			w.guest = w.engine.Module("guest")
		}
		if w.guest == nil {
			return 0
		}
	}
	m := w.guest.Memory()
	if m == nil {
		return 0
	}
	return uint16(uint64(m.Size()) * 1000 / (uint64(w.spec.MemoryPages) * pageBytes))
}
