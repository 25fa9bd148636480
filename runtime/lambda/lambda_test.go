package lambda

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

func TestAHandlerAnswers(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{Concurrency: 1}, nil)
	first := invoke(t, f, "r-1", `{"do":"echo","text":"a"}`)
	second := invoke(t, f, "r-2", `{"do":"echo","text":"b"}`)
	if string(first.Payload) != `{"do":"echo","text":"a"}` || string(second.Payload) != `{"do":"echo","text":"b"}` {
		t.Fatalf("answers %s and %s", first.Payload, second.Payload)
	}
	if first.Init <= 0 || first.Duration <= 0 || second.Init != 0 || second.Duration <= 0 {
		t.Errorf("init and duration: %v %v, then %v %v; want init only in the first invocation", first.Init, first.Duration, second.Init, second.Duration)
	}
	answer(t, f, `{"do":"nothing"}`, "null")
	if rec.starts != 1 {
		t.Errorf("%d processes were started, want the one that Load kept warm", rec.starts)
	}
}

func TestHandlersSeeTheServicesEnvironment(t *testing.T) {
	t.Setenv("SECRET_OF_THE_HOST", "1")
	dir := t.TempDir()
	f, err := New(Options{Dir: dir}).Load(t.Context(), artifact(root(t), map[string]string{"MINE": "yes", "TZ": "Europe/Berlin"}), runtime.Limits{Memory: 256 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	deadline := time.Now().Add(20 * time.Second)
	res, err := f.Invoke(t.Context(), runtime.Invocation{RequestID: "r-1", FunctionARN: "arn:alias", TraceID: "Root=1-2-3", Payload: []byte(`{"do":"context"}`), Deadline: deadline})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		RequestID, Arn, Trace, Cwd string
		Deadline                   int64
		Env                        map[string]string
	}
	if err := json.Unmarshal(res.Payload, &got); err != nil {
		t.Fatal(err)
	}
	if got.RequestID != "r-1" || got.Arn != "arn:alias" || got.Trace != "Root=1-2-3" || got.Deadline != deadline.UnixMilli() || got.Cwd != root(t) {
		t.Errorf("the handler's context is %+v", got)
	}
	want := map[string]string{
		"MINE": "yes", "TZ": "Europe/Berlin", "LANG": "en_US.UTF-8", "AWS_REGION": "eu-west-1", "AWS_DEFAULT_REGION": "eu-west-1",
		"AWS_LAMBDA_FUNCTION_NAME": "f", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
		"AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand", "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/f", "AWS_ACCESS_KEY_ID": "123456789012",
		"AWS_SECRET_ACCESS_KEY": "shardmill", "AWS_SESSION_TOKEN": "shardmill", "AWS_ENDPOINT_URL": "http://127.0.0.1:4566",
		"LAMBDA_TASK_ROOT": root(t), "_HANDLER": "bootstrap", "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
		"LD_LIBRARY_PATH": root(t) + ":" + root(t) + "/lib", "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR", "GOMAXPROCS": "1", "_X_AMZN_TRACE_ID": "Root=1-2-3",
	}
	for name, value := range want {
		if got.Env[name] != value {
			t.Errorf("%s = %q, want %q", name, got.Env[name], value)
		}
		delete(got.Env, name)
	}
	if !strings.HasPrefix(got.Env["AWS_LAMBDA_RUNTIME_API"], "127.0.0.1:") || filepath.Dir(got.Env["TMPDIR"]) != dir || !strings.Contains(got.Env["AWS_LAMBDA_LOG_STREAM_NAME"], "/[$LATEST]") {
		t.Errorf("runtime api, TMPDIR or log stream are wrong in %q", got.Env)
	}
	for _, name := range []string{"AWS_LAMBDA_RUNTIME_API", "TMPDIR", "AWS_LAMBDA_LOG_STREAM_NAME"} {
		delete(got.Env, name)
	}
	if len(got.Env) > 0 {
		t.Errorf("variables nobody asked for: %q", got.Env)
	}
	f.Close()
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("after Close the scratch root still holds %v", left)
	}
}

func TestHandlerErrorsPassAsPosted(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{Concurrency: 1}, nil)
	pid := number(t, f, `{"do":"pid"}`)
	res := invoke(t, f, "", `{"do":"error","text":"<boom>"}`)
	if want := `{"errorMessage":"\u003cboom\u003e","errorType":"errorString"}`; string(res.Payload) != want || res.FunctionError != "Unhandled" || res.ErrorType != "errorString" {
		t.Fatalf("got %s, %q, %q; want %s", res.Payload, res.FunctionError, res.ErrorType, want)
	}
	if again := number(t, f, `{"do":"pid"}`); again != pid {
		t.Errorf("an error of the handler ended its process")
	}
	long := strings.Repeat("long ", 200_000) // its X-Ray header comes near 1 MiB
	res = invoke(t, f, "", `{"do":"error","text":"`+long+`"}`)
	if want := `{"errorMessage":"` + long + `","errorType":"errorString"}`; string(res.Payload) != want {
		t.Errorf("an error text of %d bytes came as %d bytes", len(want), len(res.Payload))
	}
	res = invoke(t, f, "", `{"do":"broken stream"}`)
	if want := `{"errorMessage":"the source dried up","errorType":"errorString"}`; string(res.Payload) != want || res.FunctionError != "Unhandled" || res.ErrorType != "errorString" {
		t.Errorf("a broken stream is %s, %q, %q", res.Payload, res.FunctionError, res.ErrorType)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{Concurrency: 1}, nil)
	const limit = 6_291_556
	if res := invoke(t, f, "", fmt.Sprintf(`{"do":"big","n":%d}`, limit)); len(res.Payload) != limit || res.FunctionError != "" {
		t.Errorf("an answer at the limit came as %d bytes, error %q", len(res.Payload), res.FunctionError)
	}
	for _, n := range []int{limit + 1, 7 << 20, 20 << 20} {
		res := invoke(t, f, "", fmt.Sprintf(`{"do":"big","n":%d}`, n))
		want := `{"errorMessage":"Response payload size exceeded maximum allowed payload size (6291556 bytes).","errorType":"Function.ResponseSizeTooLarge"}`
		if string(res.Payload) != want || res.ErrorType != runtime.ErrorResponseTooLarge || res.FunctionError != "Unhandled" {
			t.Errorf("%d bytes: got %.200s, %q", n, res.Payload, res.ErrorType)
		}
	}
	answer(t, f, `{"do":"echo"}`, `{"do":"echo"}`)
}

func TestTheAnswerComesBeforeTheEnvironmentIsFree(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{Concurrency: 1}, nil)
	pid := number(t, f, `{"do":"pid"}`)
	begun := time.Now()
	answer(t, f, `{"do":"linger","n":400}`, `"answered"`)
	if took := time.Since(begun); took > 300*time.Millisecond {
		t.Errorf("the answer took %v: it waited for the next poll", took)
	}
	if next := number(t, f, `{"do":"pid"}`); next != pid {
		t.Error("the environment was not reused after its next poll")
	}
	if took := time.Since(begun); took < 400*time.Millisecond {
		t.Errorf("the process got another event after %v, while it still worked", took)
	}
}

func TestALoneCallerKeepsOneProcess(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{Concurrency: 4}, nil)
	for range 200 {
		answer(t, f, `{"do":"echo"}`, `{"do":"echo"}`)
	}
	if rec.starts > 2 { // 1, but a noisy machine may delay a poll beyond the settle time
		t.Errorf("200 invocations in a row started %d processes", rec.starts)
	}
}

func TestConcurrentCallersGetTheirOwnAnswers(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{Concurrency: 2}, nil)
	var wg sync.WaitGroup
	for c := range 6 {
		wg.Go(func() {
			for i := range 20 {
				want := fmt.Sprintf(`{"do":"echo","n":%d}`, c*100+i)
				res, err := f.Invoke(t.Context(), runtime.Invocation{Payload: []byte(want)})
				if err != nil || string(res.Payload) != want {
					t.Errorf("got %s, %v; want %s", res.Payload, err, want)
				}
			}
		})
	}
	wg.Wait()
	if rec.starts > 2 {
		t.Errorf("%d processes for a concurrency of 2", rec.starts)
	}
}

func TestBusyEnvironmentsThrottle(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{Concurrency: 1}, nil)
	answer(t, f, `{"do":"linger","n":600}`, `"answered"`)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := f.Invoke(ctx, runtime.Invocation{Payload: []byte(`{}`)}); !errs.Is(err, errs.Throttled) {
		t.Fatalf("err = %v, want Throttled", err)
	}
}

func TestRequestIDsMustBeSafe(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{}, nil)
	if _, err := f.Invoke(t.Context(), runtime.Invocation{RequestID: "a/../b"}); !errs.Is(err, errs.Invalid) {
		t.Fatalf("err = %v, want Invalid", err)
	}
}
