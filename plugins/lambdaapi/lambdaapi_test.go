package lambdaapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/plugins"
	"github.com/shardmill/shardmill/plugins/eventsource"
	"github.com/shardmill/shardmill/plugins/lambdaapi"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
)

const (
	functionARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
	streamARN   = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
)

// functions is one function f, which answers what it got, or an error if that says so.
type functions struct{}

func (functions) List() []plugins.Info {
	return []plugins.Info{{Name: "f", ARN: functionARN, State: plugins.Active}}
}
func (functions) Close() error { return nil }
func (fs functions) Function(ref string) (runtime.Function, func(), error) {
	if ref != functionARN {
		return nil, nil, errs.New(errs.NotFound, "Function not found: %s", ref)
	}
	return fs, func() {}, nil
}

func (functions) Invoke(_ context.Context, in runtime.Invocation) (runtime.Result, error) {
	switch string(in.Payload) {
	case `"fail"`:
		return runtime.Result{Payload: []byte(`{"errorMessage":"no"}`), FunctionError: "Unhandled"}, nil
	case `"busy"`:
		return runtime.Result{}, errs.New(errs.Throttled, "no environment is free")
	}
	return runtime.Result{Payload: append([]byte(nil), in.Payload...)}, nil
}

type host struct {
	t   *testing.T
	api http.Handler
}

func open(t *testing.T) *host {
	t.Helper()
	store, err := journal.Open("data", journal.Options{FS: vfs.NewMem(), SegmentSize: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	streams, err := shards.Open(t.Context(), store, shards.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { streams.Close() })
	if _, err := streams.Create(t.Context(), shards.Scope{Account: "000000000000", Region: "us-east-1"}, shards.Spec{Name: "s", Shards: 1}); err != nil {
		t.Fatal(err)
	}
	ms, err := eventsource.Open(t.Context(), eventsource.Options{Streams: streams, Meta: store.Meta(), Functions: functions{}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ms.Close() })
	mux := awsapi.NewMux(awsapi.Options{Account: "000000000000", Region: "us-east-1"})
	return &host{t, lambdaapi.New(lambdaapi.Options{Functions: functions{}, Mappings: ms, Region: "us-east-1", Account: "000000000000", Caller: mux.CallerFrom,
		Failed: func(_, op string, err error) { t.Errorf("%s: %v", op, err) }})}
}

type answer struct {
	*httptest.ResponseRecorder
	h *host
}

func (h *host) call(method, path, body string, headers ...string) answer {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.api.ServeHTTP(w, r)
	return answer{w, h}
}

func (a answer) refused(status int, name, document string) {
	a.h.t.Helper()
	if got := strings.TrimSpace(a.Body.String()); a.Code != status || a.Header().Get("X-Amzn-Errortype") != name || got != document {
		a.h.t.Errorf("%d %s %s\nnot %d %s %s", a.Code, a.Header().Get("X-Amzn-Errortype"), got, status, name, document)
	}
}

func TestMappings(t *testing.T) {
	h := open(t)
	const at = "/2015-03-31/event-source-mappings"
	created := h.call("POST", at+"/", `{"FunctionName":"f","EventSourceArn":"`+streamARN+`","StartingPosition":"TRIM_HORIZON","BatchSize":7,"FilterCriteria":{"Filters":[{"Pattern":"{\"partitionKey\":[\"k\"]}"}]}}`)
	want := `{"UUID":"U","BatchSize":7,"BisectBatchOnFunctionError":false,"DestinationConfig":{"OnFailure":{}},"EventSourceArn":"` + streamARN + `","EventSourceMappingArn":"arn:aws:lambda:us-east-1:000000000000:event-source-mapping:U",` +
		`"FilterCriteria":{"Filters":[{"Pattern":"{\"partitionKey\":[\"k\"]}"}]},"FunctionArn":"` + functionARN + `","FunctionResponseTypes":[],"LastModified":T,"LastProcessingResult":"No records processed",` +
		`"MaximumBatchingWindowInSeconds":0,"MaximumRecordAgeInSeconds":-1,"MaximumRetryAttempts":-1,"ParallelizationFactor":1,"StartingPosition":"TRIM_HORIZON","State":"Enabled","StateTransitionReason":"User action","TumblingWindowInSeconds":0}`
	mask := func(a answer) string {
		text := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`).ReplaceAllString(a.Body.String(), "U")
		return regexp.MustCompile(`"LastModified":[0-9.]+`).ReplaceAllString(text, `"LastModified":T`)
	}
	if created.Code != 202 || mask(created) != want {
		t.Fatalf("%d %s\nnot %s", created.Code, mask(created), want)
	}
	var m struct{ UUID string }
	if err := json.Unmarshal(created.Body.Bytes(), &m); err != nil {
		t.Fatal(err)
	}
	if got := h.call("GET", at+"/"+m.UUID, ""); got.Code != 200 || mask(got) != want {
		t.Errorf("get: %d %s", got.Code, mask(got))
	}
	if got := h.call("GET", at+"?FunctionName=arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af", ""); got.Code != 200 || mask(got) != `{"EventSourceMappings":[`+want+`]}` {
		t.Errorf("list: %d %s", got.Code, mask(got))
	}
	changed := h.call("PUT", at+"/"+m.UUID, `{"Enabled":false,"FunctionResponseTypes":["ReportBatchItemFailures"],"FilterCriteria":{"Filters":[]},"MaximumRetryAttempts":3,"UUID":"other"}`)
	for _, part := range []string{`"State":"Disabled"`, `"FunctionResponseTypes":["ReportBatchItemFailures"]`, `"MaximumRetryAttempts":3`, `"BatchSize":7`} {
		if changed.Code != 202 || !strings.Contains(changed.Body.String(), part) || strings.Contains(changed.Body.String(), "FilterCriteria") {
			t.Errorf("update: %d %s", changed.Code, changed.Body)
		}
	}
	if got := h.call("DELETE", at+"/"+m.UUID, ""); got.Code != 202 || !strings.Contains(got.Body.String(), `"State":"Deleting"`) {
		t.Errorf("delete: %d %s", got.Code, got.Body)
	}
	h.call("GET", at+"/"+m.UUID, "").refused(404, "ResourceNotFoundException", `{"Message":"The resource you requested does not exist.","Type":"User"}`)
}

func TestMappingsThatAreRefused(t *testing.T) {
	h := open(t)
	const at = "/2015-03-31/event-source-mappings"
	base := `"FunctionName":"f","EventSourceArn":"` + streamARN + `","StartingPosition":"TRIM_HORIZON"`
	user := func(message string) string { return fmt.Sprintf(`{"Type":"User","message":%q}`, message) }
	for _, c := range []struct{ body, name, message string }{
		{`{` + base + `,"BatchSize":0}`, "ValidationException", "1 validation error detected: Value '0' at 'batchSize' failed to satisfy constraint: Member must have value greater than or equal to 1"},
		{`{"FunctionName":"f","StartingPosition":"LATEST"}`, "InvalidParameterValueException", "Unrecognized event source."},
		{`{"FunctionName":"g","EventSourceArn":"` + streamARN + `","StartingPosition":"LATEST"}`, "InvalidParameterValueException", "Function does not exist"},
		{`{"FunctionName":"f","EventSourceArn":"` + streamARN + `x","StartingPosition":"LATEST"}`, "InvalidParameterValueException", "Stream not found: " + streamARN + "x"},
		{`{"FunctionName":"f","EventSourceArn":"` + streamARN + `"}`, "InvalidParameterValueException", "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null."},
		{`{"FunctionName":"f","EventSourceArn":"` + streamARN + `","StartingPosition":"invalid"}`, "ValidationException", "1 validation error detected: Value 'invalid' at 'startingPosition' failed to satisfy constraint: Member must satisfy enum value set: [LATEST, AT_TIMESTAMP, TRIM_HORIZON]"},
		{`{` + base + `,"DestinationConfig":{"OnSuccess":{"Destination":"arn:aws:s3:::b"}}}`, "InvalidParameterValueException", "Unsupported DestinationConfig parameter for given event source mapping type."},
		{`{` + base + `,"FilterCriteria":{"Filters":[{"Pattern":"{"}]}}`, "InvalidParameterValueException", "Invalid filter pattern definition."},
		{`{` + base + `,"FilterCriteria":{"Filters":[{}]}}`, "InvalidParameterValueException", "Invalid filter pattern definition."},
		{`{` + base + `,"FunctionResponseTypes":["ReportNothing"]}`, "ValidationException", "1 validation error detected: Value '[ReportNothing]' at 'functionResponseTypes' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [ReportBatchItemFailures]]"},
		{`{` + base + `,"MetricsConfig":{"Metrics":["EventCount"]}}`, "InvalidParameterValueException", "MetricsConfig is not supported: event sources of this host are streams, and it keeps no metrics of mappings."},
		{`{` + base + `,"Tags":{"a":"b"}}`, "InvalidParameterValueException", "Tags is not supported: mappings of this host have no tags."},
	} {
		h.call("POST", at, c.body).refused(400, c.name, user(c.message))
	}
}

func TestInvoke(t *testing.T) {
	h := open(t)
	const at = "/2015-03-31/functions/"
	for _, name := range []string{"f", "f%3A$LATEST", "000000000000%3Afunction%3Af", "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af"} {
		got := h.call("POST", at+name+"/invocations", `{"x":1}`)
		if got.Code != 200 || got.Body.String() != `{"x":1}` || got.Header().Get("X-Amz-Executed-Version") != "$LATEST" || got.Header().Get("X-Amz-Function-Error") != "" {
			t.Errorf("%s: %d %s", name, got.Code, got.Body)
		}
	}
	if got := h.call("POST", at+"f/invocations", `"fail"`); got.Code != 200 || got.Header().Get("X-Amz-Function-Error") != "Unhandled" || got.Body.String() != `{"errorMessage":"no"}` {
		t.Errorf("%d %s", got.Code, got.Body)
	}
	if got := h.call("POST", at+"f/invocations", ``); got.Body.String() != `{}` {
		t.Errorf("an empty payload: %s", got.Body)
	}
	if got := h.call("POST", at+"f/invocations", `{}`, "X-Amz-Invocation-Type", "DryRun"); got.Code != 204 || got.Body.Len() != 0 {
		t.Errorf("a dry run: %d %s", got.Code, got.Body)
	}
	h.call("POST", at+"f/invocations", `"busy"`).refused(429, "TooManyRequestsException", `{"Reason":"ReservedFunctionConcurrentInvocationLimitExceeded","Type":"User","message":"Rate Exceeded."}`)
	h.call("POST", at+"g/invocations", `{}`).refused(404, "ResourceNotFoundException", `{"Message":"Function not found: arn:aws:lambda:us-east-1:000000000000:function:g:$LATEST","Type":"User"}`)
	h.call("POST", at+"f/invocations?Qualifier=1", `{}`).refused(404, "ResourceNotFoundException", `{"Message":"Function not found: arn:aws:lambda:us-east-1:000000000000:function:f:1","Type":"User"}`)
	h.call("POST", at+"f%3A1/invocations?Qualifier=2", `{}`).refused(400, "InvalidParameterValueException", `{"Type":"User","message":"The derived qualifier from the function name does not match the specified qualifier."}`)
	h.call("POST", at+"f/invocations", `{`).refused(400, "InvalidRequestContentException", `{"Type":"User","message":"Could not parse request body into json: the payload is not JSON."}`)
	h.call("POST", at+"f/invocations", strings.Repeat(" ", 6<<20+1)).refused(413, "RequestTooLargeException", `{"Type":"User","message":"Request must be smaller than 6291456 bytes for the Invoke operation"}`)
	h.call("POST", at+"f/invocations", `{}`, "X-Amz-Invocation-Type", "Event").refused(400, "InvalidParameterValueException", `{"Type":"User","message":"InvocationType Event is not supported: this host has no queue of invocations yet. Use RequestResponse."}`)
	h.call("GET", at+"f/invocations", ``).refused(405, "UnknownOperationException", `{"Type":"User","message":"The method GET is not one of /2015-03-31/functions/f/invocations."}`)
	h.call("GET", "/2015-03-31/functions/f/url", ``).refused(404, "UnknownOperationException", `{"Type":"User","message":"There is no operation at GET /2015-03-31/functions/f/url."}`)
}
