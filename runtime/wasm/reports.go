package wasm

import (
	"errors"
	"time"

	"github.com/shardmill/shardmill/runtime"
)

// smokeTest is the request id of the batch that proves a module; it is no invocation of anybody's.
const smokeTest = "smoke-test"

// report writes the service's line about the beginning of an invocation to the log, and returns what
// writes those about its end. Lines of the guest come over another pipe: the last ones may stand
// behind them.
func (v *environment) report(requestID string) func(error) {
	on := v.f.engine.options.Events.Platform
	if on == nil || requestID == smokeTest {
		return func(error) {}
	}
	name, limits, init, begun := v.f.name, v.f.limits, v.init, time.Now()
	v.init = 0
	on(name, requestID, runtime.StartLine(requestID))
	return func(err error) {
		var res runtime.Result
		var failed *runtime.FunctionFailure
		if errors.As(err, &failed) {
			res = failedResult(requestID, failed)
		}
		res.Init, res.Duration = init, time.Since(begun)
		res.MaxMemory = limits.Memory / 1000 * int64(v.fill)
		for _, line := range runtime.EndLines(requestID, &res, limits.Memory, time.Now()) {
			on(name, requestID, line)
		}
	}
}
