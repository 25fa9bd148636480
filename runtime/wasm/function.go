package wasm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// function is what the Functions of all ABIs share.
type function struct {
	engine  *Engine
	name    string
	limits  runtime.Limits
	job     compileJob
	abi     string
	grants  runtime.Grants
	env     map[string]string
	metrics series
	pool    *runtime.Pool[*environment]
	closed  sync.Once
}

func newFunction(e *Engine, a runtime.Artifact, l runtime.Limits, job compileJob, abi string) *function {
	f := &function{engine: e, name: a.Name, limits: l, job: job, abi: abi, grants: a.Grants, env: guestEnv(a, l)}
	f.pool = runtime.NewPool(l, f.start)
	return f
}

// guestEnv is the user's variables and those of Lambda's that mean something to a module.
func guestEnv(a runtime.Artifact, l runtime.Limits) map[string]string {
	env := map[string]string{
		"AWS_LAMBDA_FUNCTION_NAME":        a.Name,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.FormatInt(l.Memory>>20, 10),
	}
	if a.Region != "" {
		env["AWS_REGION"] = a.Region
	}
	for k, v := range a.Env {
		env[k] = v
	}
	return env
}

// door is the Function that the module's ABI makes of f.
func (f *function) door() runtime.Function {
	switch f.abi {
	case abiNative:
		return &nativeFunction{f}
	case abiPull:
		return &pullFunction{f}
	}
	return &stdioFunction{f}
}

// prove starts one environment, which stays warm, and hands a native module an empty batch.
func (f *function) prove(ctx context.Context, fn runtime.Function) error {
	v, err := f.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	f.pool.Release(v, true, "")
	p, ok := fn.(runtime.RecordProcessor)
	if !ok {
		return nil
	}
	in := runtime.RecordBatch{Invocation: runtime.Invocation{RequestID: smokeTest, Deadline: time.Now().Add(f.limits.InitTimeout)}}
	err = p.Process(ctx, &in, &runtime.ProcessedBatch{})
	var failed *runtime.FunctionFailure
	if errors.As(err, &failed) {
		return errs.New(errs.Invalid, "module %q failed its smoke test, an empty batch: %s", f.name, strings.ReplaceAll(failed.Message, "\n", " "))
	}
	return err
}

// Close ends every environment.
func (f *function) Close() error {
	f.pool.Close()
	f.closed.Do(func() { f.engine.compiler.cache.unpin(f.job.hash) })
	return nil
}

// Failing is why the function's workers do not start any more, nil while they do.
func (f *function) Failing() error { return f.pool.Failing() }

// run acquires an environment, does the work with it and gives it back. The time limit counts
// from then on; waiting for a free environment counts against in.Deadline. The work's error is a
// *runtime.FunctionFailure, or the context's when the time was up.
func (f *function) run(ctx context.Context, in *runtime.Invocation, work func(context.Context, *environment) error) error {
	called := time.Now()
	if !in.Deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, in.Deadline)
		defer cancel()
	}
	v, err := f.acquire(ctx)
	if err != nil {
		return err
	}
	timed, cancel := context.WithTimeout(ctx, f.limits.Timeout)
	defer cancel()
	deadline, _ := timed.Deadline()
	report := v.report(in.RequestID)
	if err = ctx.Err(); err == nil { // the start may have used up the time
		v.facts = invocationFacts(v.facts, in, deadline.UnixMilli())
		err = work(timed, v)
	}
	reason := "exited after its answer"
	switch {
	case err == nil && v.worn() && v.Alive():
		report(nil)
		f.pool.Release(v, false, fmt.Sprintf("memory: %d%% of its limit in use", v.fill/10))
		return nil
	case errors.Is(err, context.Canceled):
		reason = "canceled"
		err = errs.Wrap(errs.Unknown, err, "the invocation of function %q was given up by its caller", f.name)
	case errors.Is(err, context.DeadlineExceeded):
		reason = "timeout"
		seconds := min(f.limits.Timeout, max(deadline.Sub(called), 0)).Seconds()
		err = &runtime.FunctionFailure{Type: runtime.ErrorTimedOut, Message: fmt.Sprintf("Task timed out after %.2f seconds", seconds)}
	case err != nil:
		reason = endReason(err)
	}
	report(err)
	f.pool.Release(v, v.Alive(), reason)
	return err
}

func (f *function) acquire(ctx context.Context) (*environment, error) {
	v, err := f.pool.Acquire(ctx)
	if err == nil {
		return v, nil
	}
	if k := errs.KindOf(err); k == errs.Throttled || k == errs.Unavailable {
		return nil, err
	}
	return nil, errs.Wrap(errs.Unavailable, err, "function %q could not be started", f.name)
}

// endReason is the Events.End reason for a failure.
func endReason(err error) string {
	var failed *runtime.FunctionFailure
	if !errors.As(err, &failed) {
		return err.Error()
	}
	words := map[string]string{runtime.ErrorExit: "exit", runtime.ErrorProtocol: "protocol", runtime.ErrorHandler: "handler", runtime.ErrorResponseTooLarge: "answer too large"}
	line, _, _ := strings.Cut(failed.Message, "\n")
	if trap, ok := strings.CutPrefix(line, trapText); ok {
		return "trap: " + trap
	}
	return words[failed.Type] + ": " + line
}

// nativeFunction serves a native batch module.
type nativeFunction struct{ *function }

var _ runtime.RecordProcessor = (*nativeFunction)(nil)

// Invoke refuses: native batch modules take records, not JSON events.
func (f *nativeFunction) Invoke(context.Context, runtime.Invocation) (runtime.Result, error) {
	return runtime.Result{}, errs.New(errs.Invalid, "function %q is a native batch module (%s): it processes records and takes no JSON event; to invoke it with an event, build it as a WASI command (stdio)", f.name, exportMarker)
}

// Process runs one batch. Indexes that the module never answered do not appear in out; what
// that means is the caller's business. On any error out is as it was.
func (f *nativeFunction) Process(ctx context.Context, in *runtime.RecordBatch, out *runtime.ProcessedBatch) error {
	size := batchSize(in.Records)
	if int64(size) > min(f.limits.Memory, maxRequest/2) {
		return &runtime.FunctionFailure{Type: runtime.ErrorHandler, Message: fmt.Sprintf("the batch has %d bytes, the function's memory limit is %d", size, f.limits.Memory)}
	}
	before := len(out.Records)
	return f.run(ctx, &in.Invocation, func(ctx context.Context, v *environment) error {
		for k, value := range in.Facts {
			v.facts = append(v.facts, fact{k, value})
		}
		call := invocation{requestID: in.Invocation.RequestID, size: size, buffer: takeBuffer(out),
			encode: func(dst []byte) []byte { return appendBatch(dst, in.Records) }}
		err := v.settle(ctx, &call, func(a answer) (bool, error) {
			out.Records = out.Records[:before]
			return true, v.decoder.decode(a.payload, len(in.Records), out)
		})
		if err != nil {
			out.Records = out.Records[:before]
			return err
		}
		keepBuffer(out, call.buffer)
		return nil
	})
}

// stdioFunction serves a stdio module.
type stdioFunction struct{ *function }

// Invoke sends the event as one line and returns the line that answers it.
func (f *stdioFunction) Invoke(ctx context.Context, in runtime.Invocation) (runtime.Result, error) {
	event, err := oneLine(in.Payload)
	if err != nil {
		return runtime.Result{}, errs.New(errs.Invalid, "the event for function %q is not JSON (%v); a stdio module takes one JSON event", f.name, err)
	}
	if len(event) > maxRequest/2 {
		return runtime.Result{}, errs.New(errs.Invalid, "the event for function %q has %d bytes, the limit is %d", f.name, len(event), maxRequest/2)
	}
	call := invocation{requestID: in.RequestID, size: len(event), encode: func(dst []byte) []byte { return append(dst, event...) }}
	return f.event(ctx, in, &call, func(a answer) (string, error) {
		if !isObject(a.payload) {
			return "", fmt.Errorf("the module's answer is not a JSON object: %q; write one JSON object a line to stdout, and logs to stderr", printable(a.payload, 200, false))
		}
		kind, _ := errorType(a.payload)
		return kind, nil
	}, nil)
}

// event runs one event. check looks at the answer: it gives the errorType when the answer is an
// error document, and an error when the answer breaks the ABI. prepare, if
// set, completes the call when its deadline is known.
func (f *function) event(ctx context.Context, in runtime.Invocation, call *invocation, check func(answer) (string, error), prepare func(deadlineMs int64)) (runtime.Result, error) {
	var result runtime.Result
	start := time.Now()
	err := f.run(ctx, &in, func(ctx context.Context, v *environment) error {
		start = time.Now()
		if prepare != nil {
			deadline, _ := ctx.Deadline()
			prepare(deadline.UnixMilli())
		}
		return v.settle(ctx, call, func(a answer) (bool, error) {
			kind, err := check(a)
			result = runtime.Result{Payload: a.payload}
			if kind != "" {
				result.FunctionError, result.ErrorType = "Unhandled", kind
			}
			return kind == "", err
		})
	})
	var failed *runtime.FunctionFailure
	if errors.As(err, &failed) {
		result, err = failedResult(in.RequestID, failed), nil
	}
	if err != nil {
		return runtime.Result{}, err
	}
	result.Duration = time.Since(start)
	return result, nil
}

// oneLine is the event without line breaks. In JSON they can only be white space.
func oneLine(event []byte) ([]byte, error) {
	if !json.Valid(event) {
		if len(event) == 0 {
			return nil, errors.New("it is empty")
		}
		return nil, fmt.Errorf("it starts with %q", printable(event, 40, false))
	}
	if bytes.IndexByte(event, '\n') < 0 && bytes.IndexByte(event, '\r') < 0 {
		return event, nil
	}
	var b bytes.Buffer
	err := json.Compact(&b, event)
	return b.Bytes(), err
}

func isObject(b []byte) bool {
	t := bytes.TrimLeft(b, " \t\r")
	return len(t) > 0 && t[0] == '{' && json.Valid(t)
}

// errorType finds the function's own error document: an object with errorType and errorMessage.
func errorType(answer []byte) (string, bool) {
	if !bytes.Contains(answer, []byte(`"errorType"`)) || !bytes.Contains(answer, []byte(`"errorMessage"`)) {
		return "", false
	}
	var doc map[string]json.RawMessage
	if json.Unmarshal(answer, &doc) != nil || doc["errorMessage"] == nil {
		return "", false
	}
	var kind string
	err := json.Unmarshal(doc["errorType"], &kind)
	return kind, err == nil
}

// failedResult is the error document that Lambda gives for a function that broke.
func failedResult(requestID string, f *runtime.FunctionFailure) runtime.Result {
	message := f.Message
	if f.Type == runtime.ErrorExit || f.Type == runtime.ErrorTimedOut {
		message = "RequestId: " + requestID + " Error: " + message
	}
	doc, _ := json.Marshal(struct {
		ErrorMessage string `json:"errorMessage"`
		ErrorType    string `json:"errorType"`
	}{message, f.Type})
	return runtime.Result{Payload: doc, FunctionError: "Unhandled", ErrorType: f.Type}
}
