package lambda

import (
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/shardmill/shardmill/runtime"
)

// Error types of the Runtime API that package runtime has no word for.
const (
	errorTruncated   = "Runtime.TruncatedResponse"
	errorMode        = "Runtime.InvalidResponseModeHeader"
	errorUnknown     = "Runtime.Unknown"
	errorFunction    = "Function.Unknown"
	unhandled        = "Unhandled" // the only FunctionError the service still gives
	trailerErrorType = "Lambda-Runtime-Function-Error-Type"
	trailerErrorBody = "Lambda-Runtime-Function-Error-Body"
)

// errorDocument is the JSON that the service answers for a handler which did not answer.
type errorDocument struct {
	Type    string `json:"errorType"`
	Message string `json:"errorMessage"`
}

func failure(errorType, message string) runtime.Result {
	doc, _ := json.Marshal(errorDocument{errorType, message}) // two strings always marshal
	return runtime.Result{Payload: doc, FunctionError: unhandled, ErrorType: errorType}
}

func timedOut(requestID string, granted time.Duration) runtime.Result {
	return failure(runtime.ErrorTimedOut, fmt.Sprintf("RequestId: %s Error: Task timed out after %.2f seconds", requestID, granted.Seconds()))
}

func exited(requestID string, st *os.ProcessState) runtime.Result {
	reason := "without providing a reason"
	if !st.Success() {
		reason = "with error: " + st.String()
	}
	return failure(runtime.ErrorExit, fmt.Sprintf("RequestId: %s Error: Runtime exited %s", requestID, reason))
}

func tooLarge(limit int64) runtime.Result {
	return runtime.Result{
		Payload:       fmt.Appendf(nil, `{"errorMessage":"Response payload size exceeded maximum allowed payload size (%d bytes).","errorType":%q}`, limit, runtime.ErrorResponseTooLarge),
		FunctionError: unhandled,
		ErrorType:     runtime.ErrorResponseTooLarge,
	}
}

// reported is a handler's own error: the body passes through byte for byte. The type is the
// header's if there is one, else the body's errorType.
func reported(header string, body []byte) runtime.Result {
	errorType := header
	if header != "" {
		errorType = knownType(header)
	} else {
		var doc errorDocument
		if json.Unmarshal(body, &doc) == nil {
			errorType = doc.Type
		}
		if errorType == "" {
			errorType = runtime.ErrorHandler
		}
	}
	return runtime.Result{Payload: body, FunctionError: unhandled, ErrorType: errorType}
}

var typeForm = regexp.MustCompile(`^(Runtime|Function)\.[A-Z][a-zA-Z]+$`)

// knownType is an error type header's value, or what the service makes of one out of form.
func knownType(header string) string {
	switch {
	case typeForm.MatchString(header):
		return header
	case strings.HasPrefix(header, "Function."):
		return errorFunction
	}
	return errorUnknown
}
