package goguest

import (
	"context"
	"fmt"
	"go/format"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/runtime/wasm"
)

var scratch string

func TestMain(m *testing.M) {
	wasm.WorkerMain()
	var err error
	if scratch, err = os.MkdirTemp("", "shardmill-goguest-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

var handlers = sync.OnceValues(func() (string, error) {
	out := filepath.Join(scratch, "handlers.wasm")
	kind, err := Build(context.Background(), "testdata/handlers", out)
	if err == nil && kind != Pull {
		err = fmt.Errorf("built as %s, want %s", kind, Pull)
	}
	return out, err
})

// world is what a handler leaves behind.
type world struct {
	mu  sync.Mutex
	log []string
}

func (w *world) lines() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.log)
}

// handler loads one of the handlers of testdata.
func handler(t *testing.T, name string) (*world, runtime.Function) {
	t.Helper()
	if testing.Short() {
		t.Skip("compiling a handler takes seconds of processor time")
	}
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go tool:", err)
	}
	module, err := handlers()
	if err != nil {
		t.Fatal(err)
	}
	w := &world{}
	e := wasm.New(wasm.Options{CacheDir: filepath.Join(scratch, "cache"), Events: runtime.Events{Log: func(_, id, line string) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.log = append(w.log, id+": "+line)
	}}})
	t.Cleanup(func() { e.Close() })
	f, err := e.Load(t.Context(), runtime.Artifact{Name: name, Kind: runtime.KindWasm, Path: module, Env: map[string]string{"HANDLER": name}}, runtime.Limits{Concurrency: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return w, f
}

const arn = "arn:aws:lambda:eu-west-1:123456789012:function:f"

func invoke(t *testing.T, f runtime.Function, event string) string {
	t.Helper()
	r, err := f.Invoke(t.Context(), runtime.Invocation{RequestID: "req-1", FunctionARN: arn, Payload: []byte(event)})
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(r.FunctionError + " " + string(r.Payload))
}

// otf is what aws-lambda-go writes of a record whose table nobody named.
const otf = `,"otfMetadata":{"destinationDatabaseName":"","destinationTableName":"","operation":""}`

func TestFirehoseTransformation(t *testing.T) {
	_, f := handler(t, "transform")
	got := invoke(t, f, `{"invocationId":"i","deliveryStreamArn":"arn:d","region":"eu-west-1","records":[
		{"recordId":"1","approximateArrivalTimestamp":1700000000123,"data":"aGVsbG8=","kinesisRecordMetadata":{"shardId":"shardId-000000000000","partitionKey":"pk","sequenceNumber":"1","subsequenceNumber":0,"approximateArrivalTimestamp":1700000000123}},
		{"recordId":"2","approximateArrivalTimestamp":1700000000123,"data":"ZHJvcA=="},
		{"recordId":"3","approximateArrivalTimestamp":1700000000123,"data":"ZmFpbA=="}]}`)
	want := `{"records":[{"recordId":"1","result":"Ok","data":"SEVMTE8=","metadata":{"partitionKeys":{"key":"pk"}` + otf + `}},` +
		`{"recordId":"2","result":"Dropped","data":"RFJPUA==","metadata":{"partitionKeys":null` + otf + `}},` +
		`{"recordId":"3","result":"ProcessingFailed","data":"RkFJTA==","metadata":{"partitionKeys":null` + otf + `}}]}`
	if got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestKinesisConsumer(t *testing.T) {
	w, f := handler(t, "consume")
	record := func(seq, data string) string {
		return `{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":"k","sequenceNumber":"` + seq + `","data":"` + data + `","approximateArrivalTimestamp":1545084650.987},` +
			`"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"shardId-000000000006:` + seq + `","eventName":"aws:kinesis:record","awsRegion":"us-east-2","eventSourceARN":"arn:s"}`
	}
	got := invoke(t, f, `{"Records":[`+record("1", "Z29vZA==")+","+record("2", "YmFk")+`]}`)
	if want := `{"batchItemFailures":[{"itemIdentifier":"2"}]}`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	f.Close()
	if got, want := w.lines(), []string{"req-1: req-1 " + arn + " true"}; !slices.Equal(got, want) {
		t.Errorf("log %q, want %q", got, want)
	}
}

func TestTimeWindow(t *testing.T) {
	w, f := handler(t, "window")
	event := func(state, data string, final bool) string {
		return fmt.Sprintf(`{"Records":[{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":"1","sequenceNumber":"4","data":%q,"approximateArrivalTimestamp":1607497475.0},"eventSource":"aws:kinesis","eventID":"s:4"}],`+
			`"window":{"start":"2020-12-09T07:04:00Z","end":"2020-12-09T07:06:00Z"},"state":%s,"shardId":"shardId-000000000006","eventSourceARN":"arn:s","isFinalInvokeForWindow":%t,"isWindowTerminatedEarly":false}`, data, state, final)
	}
	if got, want := invoke(t, f, event("{}", "NDA=", false)), `{"state":{"sum":"40"},"batchItemFailures":null}`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if got, want := invoke(t, f, event(`{"sum":"40"}`, "Mg==", true)), `{"state":{"sum":"42"},"batchItemFailures":null}`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	got := invoke(t, f, event("{}", "eA==", false))
	if want := `Unhandled {"errorMessage":"not a number: strconv.Atoi: parsing \"x\": invalid syntax","errorType":"wrapError"}`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	f.Close()
	if got, want := w.lines()[:1], []string{"req-1: final 42 2020-12-09T07:04:00Z"}; !slices.Equal(got, want) {
		t.Errorf("log %q, want %q", got, want)
	}
}

func TestAnalyticsPreprocessingIsATransformation(t *testing.T) {
	_, f := handler(t, "transform")
	got := invoke(t, f, `{"invocationId":"i","applicationArn":"arn:a","streamArn":"arn:s","records":[{"recordId":"1","kinesisStreamRecordMetadata":{"sequenceNumber":"1","partitionKey":"p","shardId":"shardId-0","approximateArrivalTimestamp":1520280173},"data":"aGVsbG8="}]}`)
	if want := `{"records":[{"recordId":"1","result":"Ok","data":"SEVMTE8=","metadata":{"partitionKeys":null` + otf + `}}]}`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestAnalyticsOutput(t *testing.T) {
	_, f := handler(t, "output")
	got := invoke(t, f, `{"invocationId":"i","applicationArn":"arn:a","records":[{"recordId":"1","lambdaDeliveryRecordMetadata":{"retryHint":0},"data":"aGVsbG8="},{"recordId":"2","lambdaDeliveryRecordMetadata":{"retryHint":3},"data":""}]}`)
	if want := `{"records":[{"recordId":"1","result":"Ok"},{"recordId":"2","result":"DeliveryFailed"}]}`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
}

func TestHandlersThatFail(t *testing.T) {
	_, f := handler(t, "fails")
	for _, c := range []struct{ how, want string }{
		{`"no"`, `^"abcde"$`},
		{`"error"`, `^Unhandled {"errorMessage":"as told","errorType":"errorString"}$`},
		{`"panic"`, `^Unhandled {"errorMessage":"as told","errorType":"string","stackTrace":\[{"path":".*"line":\d+,"label":`},
		{`"no"`, `^"abcde"$`}, // after a panic a new environment answers
		{`"exit"`, `^Unhandled {"errorMessage":"RequestId: req-1 Error: Runtime exited with error: exit status 9 before it answered the event","errorType":"Runtime.ExitError"}$`},
		{`7`, `^Unhandled {"errorMessage":"json: cannot unmarshal number into Go value of type string","errorType":"UnmarshalTypeError"}$`},
		{`"` + strings.Repeat("x", 1<<20) + `"`, `^"abcde"$`},
	} {
		if got := invoke(t, f, c.how); !regexp.MustCompile(c.want).MatchString(got) {
			t.Errorf("%.20s: %s\nwant %s", c.how, got, c.want)
		}
	}
	r, err := f.Invoke(t.Context(), runtime.Invocation{RequestID: "req-1", Payload: []byte(`"sleep"`), Deadline: time.Now().Add(200 * time.Millisecond)})
	if err != nil || r.ErrorType != runtime.ErrorTimedOut {
		t.Errorf("sleeping past the deadline: %+v, %v", r, err)
	}
}

// Building leaves the folder as it was, and says why it cannot build.
func TestBuild(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go tool:", err)
	}
	out := filepath.Join(t.TempDir(), "out.wasm")
	broken := t.TempDir()
	os.WriteFile(filepath.Join(broken, "go.mod"), []byte("module broken\n\ngo 1.24\n"), 0o600)
	os.WriteFile(filepath.Join(broken, "main.go"), []byte("package main\n\nfunc main() { nothing() }\n\n//go:wasmexport shardmill_abi_v1\nfunc marker() {}\n"), 0o600)
	for dir, want := range map[string]string{
		"testdata":         "testdata has no Go files; name the folder of a package main",
		"testdata/none":    "testdata/none has no Go files",
		"testdata/library": "testdata/library holds package library; a plugin is a package main",
		"testdata/plain":   "testdata/plain is neither a Lambda handler (it does not import github.com/aws/aws-lambda-go/lambda) nor a transform (nothing exports shardmill_abi_v1)",
		broken:             "undefined: nothing",
	} {
		if _, err := Build(t.Context(), dir, out); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant an Invalid error with %q", dir, err, want)
		}
	}
	if left, _ := os.ReadDir(filepath.Dir(out)); len(left) != 0 {
		t.Errorf("failed builds left %v", left)
	}
	if left, _ := os.ReadDir("testdata/handlers"); len(left) != 1 {
		t.Errorf("the handlers' folder has %d files, want 1", len(left))
	}
	t.Setenv("PATH", t.TempDir())
	if _, err := Build(t.Context(), "testdata/handlers", out); !errs.Is(err, errs.Unavailable) ||
		err.Error() != "building a plugin in Go needs the Go toolchain: install it from https://go.dev/dl and put go on the PATH" {
		t.Errorf("without a toolchain: %v", err)
	}
}

func TestTheBridgeIsFormatted(t *testing.T) {
	got, err := format.Source(bridge)
	if err != nil || string(got) != string(bridge) {
		t.Errorf("bridge.go.txt is not as gofmt has it (%v)", err)
	}
}
