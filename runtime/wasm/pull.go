package wasm

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// pullFunction serves a pull module: a main loop of shardmill.next and shardmill.respond, as
// Lambda's Runtime API has it. What next returns is, after the facts block of the frame,
//
//	u16 length, header lines "Key: Value" joined by newlines, the event to the end
type pullFunction struct{ *function }

// Invoke hands the event to the module as it is.
func (f *pullFunction) Invoke(ctx context.Context, in runtime.Invocation) (runtime.Result, error) {
	if !json.Valid(in.Payload) {
		return runtime.Result{}, errs.New(errs.Invalid, "the event for function %q is not JSON: it starts with %q", f.name, printable(in.Payload[:min(len(in.Payload), 40)], 40, false))
	}
	if len(in.Payload) > maxRequest/2 {
		return runtime.Result{}, errs.New(errs.Invalid, "the event for function %q has %d bytes, the limit is %d", f.name, len(in.Payload), maxRequest/2)
	}
	call := invocation{requestID: in.RequestID}
	return f.event(ctx, in, &call, checkPullAnswer, func(deadlineMs int64) {
		head := pullHeaders(&in, deadlineMs)
		call.size = 2 + len(head) + len(in.Payload)
		call.encode = func(dst []byte) []byte {
			dst = binary.LittleEndian.AppendUint16(dst, uint16(len(head)))
			return append(append(dst, head...), in.Payload...)
		}
	})
}

// maxHeader is what a header's value may have; the longest is an ARN or a trace id.
const maxHeader = 2048

// pullHeaders are the headers that Lambda's Runtime API gives with an invocation.
func pullHeaders(in *runtime.Invocation, deadlineMs int64) string {
	lines := []string{
		"Lambda-Runtime-Aws-Request-Id: " + in.RequestID,
		fmt.Sprintf("Lambda-Runtime-Deadline-Ms: %d", deadlineMs),
		"Lambda-Runtime-Invoked-Function-Arn: " + in.FunctionARN,
	}
	if in.TraceID != "" {
		lines = append(lines, "Lambda-Runtime-Trace-Id: "+in.TraceID)
	}
	for i, line := range lines { // a caller's line break must not make a header of its own
		lines[i] = strings.Map(func(r rune) rune {
			if r < ' ' {
				return ' '
			}
			return r
		}, line[:min(len(line), maxHeader)])
	}
	return strings.Join(lines, "\n")
}

// checkPullAnswer finds the errorType of an error document. Any JSON is a good answer, and so is
// none at all: Lambda hands answers on as they are.
func checkPullAnswer(a answer) (string, error) {
	if !a.failed {
		return "", nil
	}
	var doc struct {
		ErrorType string `json:"errorType"`
	}
	if err := json.Unmarshal(a.payload, &doc); err != nil {
		return "", errors.New("the module answered with an error (shardmill.respond with kind 1) that is not a JSON object with errorType and errorMessage")
	}
	if doc.ErrorType == "" {
		doc.ErrorType = "Unhandled"
	}
	return doc.ErrorType, nil
}
