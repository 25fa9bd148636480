package wasm

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	goruntime "runtime"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
)

// compileThreads is how many functions of a module are compiled at a time. Half as many jobs as
// there are cores run at once, so together they have a thread a core.
const compileThreads = 2

// compileMain is the life of a compile job.
func compileMain() int {
	ch, binary, err := inherited(compilerName)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	ch.max = 64 << 10
	h, payload, err := ch.read()
	var spec compileSpec
	if err == nil && h.kind == kindLoad {
		err = json.Unmarshal(payload, &spec)
	}
	if err == nil {
		beNice()
		err = setLimits(spec.CPUSeconds, spec.DataBytes, 1<<30, 64)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	lockIn(true)
	answer := header{kind: kindReady}
	info, err := compileModule(context.Background(), binary, spec.CacheDir)
	out, _ := json.Marshal(info)
	if err != nil {
		answer.kind = kindFault
		out = append([]byte{byte(faultRefused)}, err.Error()...)
		out = out[:min(len(out), ch.max)]
	}
	if ch.writeBytes(answer, out) != nil {
		return 1
	}
	return 0
}

// compileModule scans a module, compiles it into the cache and says what it is.
func compileModule(ctx context.Context, binary []byte, cacheDir string) (moduleInfo, error) {
	var info moduleInfo
	m, err := scan(binary)
	if err != nil {
		return info, err
	}
	if info, err = describe(m); err != nil {
		return info, err
	}
	r, err := newRuntime(ctx, 65536, cacheDir)
	if err != nil {
		return info, err
	}
	provided, err := provide(ctx, r)
	if err != nil {
		return info, err
	}
	if err := checkImports(m, provided); err != nil {
		return info, err
	}
	goruntime.GOMAXPROCS(compileThreads)
	ctx = experimental.WithCompilationWorkers(ctx, compileThreads)
	if _, err := r.CompileModule(ctx, binary); err != nil {
		return info, fmt.Errorf("it is not a valid WebAssembly 2.0 module: %w", err)
	}
	return info, nil
}

// newRuntime configures wazero. There is no CloseOnContextDone: it slows guests down by an order
// of magnitude, and the host ends workers from outside.
func newRuntime(ctx context.Context, pages uint32, cacheDir string) (wazero.Runtime, error) {
	config := wazero.NewRuntimeConfigInterpreter()
	if compilerSupported {
		config = wazero.NewRuntimeConfigCompiler()
	}
	cache, err := wazero.NewCompilationCacheWithDir(cacheDir)
	if err != nil {
		return nil, fmt.Errorf("the cache of compiled code: %w", err)
	}
	return wazero.NewRuntimeWithConfig(ctx, config.WithCoreFeatures(coreFeatures).WithMemoryLimitPages(pages).WithCompilationCache(cache)), nil
}
