package lambdaapi

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/shardmill/shardmill/internal/awsapi/rest"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// Invoke and what is known of functions.

const (
	maxPayload     = 6 << 20 // bytes of a synchronous invocation
	invokeDeadline = 15 * time.Minute
)

func (a *api) invoke(ctx context.Context, w http.ResponseWriter, r *http.Request, path map[string]string, body []byte) error {
	var qualifier *string
	if r.URL.Query().Has("Qualifier") {
		q := r.URL.Query().Get("Qualifier")
		qualifier = &q
	}
	f, err := a.find(ctx, path["FunctionName"], qualifier)
	if errs.Is(err, errs.NotFound) && qualifier == nil {
		err = errs.New(errs.NotFound, "%s:$LATEST", err.Error())
	}
	if err != nil {
		return err
	}
	kind := r.Header.Get("X-Amz-Invocation-Type")
	switch kind {
	case "", "RequestResponse", "DryRun":
	case "Event":
		return errs.New(errs.Invalid, "InvocationType Event is not supported: this host has no queue of invocations yet. Use RequestResponse.")
	default:
		return errs.New(errs.Invalid, "Value '%s' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]", kind)
	}
	for _, h := range []string{"X-Amz-Client-Context", "X-Amz-Tenant-Id", "X-Amz-Durable-Execution-Name"} {
		if r.Header.Get(h) != "" {
			return errs.New(errs.Invalid, "The header %s is not supported: handlers of this host are given no client context, tenant or durable execution.", h)
		}
	}
	if t := r.Header.Get("X-Amz-Log-Type"); t == "Tail" {
		return errs.New(errs.Invalid, "LogType Tail is not supported: what a function writes is in the host's log.")
	} else if t != "" && t != "None" {
		return errs.New(errs.Invalid, "Value '%s' at 'logType' failed to satisfy constraint: Member must satisfy enum value set: [Tail, None]", t)
	}
	if len(body) == 0 {
		body = []byte("{}")
	}
	if !json.Valid(body) {
		return &rest.Error{Status: http.StatusBadRequest, Name: "InvalidRequestContentException", Message: "Could not parse request body into json: the payload is not JSON."}
	}
	if kind == "DryRun" {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return a.answer(ctx, w, f, body)
}

func (a *api) answer(ctx context.Context, w http.ResponseWriter, f found, payload []byte) error {
	fn, release, err := a.o.Functions.Function(f.arn)
	if err != nil {
		return err
	}
	defer release()
	res, err := fn.Invoke(ctx, runtime.Invocation{RequestID: uuid.NewString(), FunctionARN: f.arn, Payload: payload, Deadline: time.Now().Add(invokeDeadline)})
	if errs.Is(err, errs.Throttled) {
		return &rest.Error{Status: http.StatusTooManyRequests, Name: "TooManyRequestsException", Message: "Rate Exceeded.", Reason: "ReservedFunctionConcurrentInvocationLimitExceeded"}
	}
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(res.Payload)))
	h.Set("X-Amz-Executed-Version", "$LATEST")
	if res.FunctionError != "" {
		h.Set("X-Amz-Function-Error", res.FunctionError)
	}
	w.WriteHeader(http.StatusOK)
	w.Write(res.Payload) // an error says that the client is gone
	return nil
}

func (a *api) functionOps() []rest.Op {
	return []rest.Op{
		rest.Raw("Invoke", http.MethodPost, "/2015-03-31/functions/{FunctionName}/invocations", maxPayload, a.invoke),
	}
}
