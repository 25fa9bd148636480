package wasm

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// hostFunction is one import that guests may use.
type hostFunction struct {
	module, name string
	sig          signature
	call         func(w *worker, m api.Module, stack []uint64)
}

// hostFunctions lists the imports beside WASI's. The words are those of ABI.md.
func hostFunctions() []hostFunction {
	const i32, f64 = "\x7f", "\x7c"
	return []hostFunction{
		{hostModule, "log", signature{i32 + i32 + i32, ""}, (*worker).hostLog},
		{hostModule, "error", signature{i32 + i32, ""}, (*worker).hostError},
		{hostModule, "config", signature{i32 + i32 + i32 + i32, i32}, (*worker).hostConfig},
		{hostModule, "metric", signature{i32 + i32 + f64, ""}, (*worker).hostMetric},
		{hostModule, "state_get", signature{i32 + i32 + i32 + i32, i32}, (*worker).hostStateGet},
		{hostModule, "state_put", signature{i32 + i32 + i32 + i32, i32}, (*worker).hostStatePut},
		{hostModule, "emit", signature{i32 + i32 + i32 + i32 + i32 + i32, i32}, (*worker).hostEmit},
		{hostModule, "next", signature{i32 + i32, i32}, (*worker).hostNext},
		{hostModule, "respond", signature{i32 + i32 + i32 + i32 + i32, i32}, (*worker).hostRespond},
		{"env", "abort", signature{i32 + i32 + i32 + i32, ""}, (*worker).hostAbort},
	}
}

// hostNames are the functions of module shardmill.
func hostNames() (names []string) {
	for _, f := range hostFunctions() {
		if f.module == hostModule {
			names = append(names, f.name)
		}
	}
	return names
}

// provide tells what modules may import, WASI included, for the compile job's check.
func provide(ctx context.Context, r wazero.Runtime) (map[string]map[string]signature, error) {
	wasi, err := wasi_snapshot_preview1.NewBuilder(r).Compile(ctx)
	if err != nil {
		return nil, err
	}
	provided := map[string]map[string]signature{wasiModule: {}, hostModule: {}, "env": {}}
	for name, def := range wasi.ExportedFunctions() {
		provided[wasiModule][name] = signature{string(def.ParamTypes()), string(def.ResultTypes())}
	}
	for _, f := range hostFunctions() {
		provided[f.module][f.name] = f.sig
	}
	return provided, nil
}

// instantiateHost makes WASI and the functions above importable.
func (w *worker) instantiateHost(ctx context.Context) error {
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, w.engine); err != nil {
		return err
	}
	builders := map[string]wazero.HostModuleBuilder{}
	for _, f := range hostFunctions() {
		b := builders[f.module]
		if b == nil {
			b = w.engine.NewHostModuleBuilder(f.module)
			builders[f.module] = b
		}
		call := api.GoModuleFunc(func(_ context.Context, m api.Module, stack []uint64) { f.call(w, m, stack) })
		b.NewFunctionBuilder().WithGoModuleFunction(call, []byte(f.sig.params), []byte(f.sig.results)).Export(f.name)
	}
	for _, b := range builders {
		if _, err := b.Instantiate(ctx); err != nil {
			return err
		}
	}
	return nil
}

// bytesAt is guest memory [at, at+n). A range outside of it traps the guest.
func bytesAt(m api.Module, function string, at, n uint64) []byte {
	if m.Memory() == nil {
		panic(fmt.Errorf("%s was called by a module without memory", function))
	}
	b, ok := m.Memory().Read(uint32(at), uint32(n))
	if !ok {
		panic(fmt.Errorf("%s was given %d bytes at address %d, but the memory ends at byte %d", function, uint32(n), uint32(at), m.Memory().Size()))
	}
	return b
}

// hostLog is log(level, ptr, len).
func (w *worker) hostLog(m api.Module, stack []uint64) {
	level := "ERROR"
	if l := uint32(stack[0]); l < 3 {
		level = [...]string{"DEBUG", "INFO", "WARN"}[l]
	}
	w.log.text(level, bytesAt(m, "shardmill.log", stack[1], stack[2]))
}

// hostError is error(ptr, len).
func (w *worker) hostError(m api.Module, stack []uint64) {
	text := bytesAt(m, "shardmill.error", stack[0], stack[1])
	w.errText = append(w.errText[:0], text[:min(len(text), maxFaultText-1)]...)
}

const absent = 0xffffffff

// hostConfig is config(keyPtr, keyLen, buf, cap) -> needed.
func (w *worker) hostConfig(m api.Module, stack []uint64) {
	const name = "shardmill.config"
	value, ok := w.lookup(string(bytesAt(m, name, stack[0], stack[1])))
	giveBack(m, name, value, ok, stack[2:], stack)
}

// giveBack writes a value to buf if it fits into cap, which are the first two of room, and gives
// its length as the result, or absent.
func giveBack(m api.Module, function string, value []byte, ok bool, room, result []uint64) {
	switch {
	case !ok:
		result[0] = absent
		return
	case uint64(len(value)) <= uint64(uint32(room[1])):
		copy(bytesAt(m, function, room[0], uint64(len(value))), value)
	}
	result[0] = uint64(len(value))
}

// lookup finds a config value: facts of the invocation, else what the function was granted, else
// an environment variable.
func (w *worker) lookup(key string) ([]byte, bool) {
	if name, ok := strings.CutPrefix(key, factsPrefix); ok {
		return lookFact(w.facts, name)
	}
	v, ok := w.spec.Grants.Config[key]
	if !ok {
		v, ok = w.spec.Env[key]
	}
	return []byte(v), ok
}

// hostAbort is AssemblyScript's abort(message, file, line, column): it traps with them.
func (w *worker) hostAbort(m api.Module, stack []uint64) {
	panic(fmt.Errorf("abort: %s at %s:%d:%d", assemblyString(m, stack[0]), assemblyString(m, stack[1]), uint32(stack[2]), uint32(stack[3])))
}

// assemblyString reads an AssemblyScript string: UTF-16, its length in bytes 4 bytes before it.
func assemblyString(m api.Module, at uint64) string {
	if uint32(at) < 4 || m.Memory() == nil {
		return "?"
	}
	n, ok := m.Memory().ReadUint32Le(uint32(at) - 4)
	b, ok2 := m.Memory().Read(uint32(at), min(n, 512)&^1)
	if !ok || !ok2 {
		return "?"
	}
	units := make([]uint16, len(b)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(b[2*i:])
	}
	return string(utf16.Decode(units))
}

// randomSource is the kernel's randomness.
type randomSource struct{}

func (randomSource) Read(p []byte) (int, error) { return rand.Read(p) }
