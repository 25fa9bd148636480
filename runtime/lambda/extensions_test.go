package lambda

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// extensionCode is an external extension whose name says how it behaves. It logs what it gets.
const extensionCode = `
import http.client, json, os, sys, time
sys.stdout.reconfigure(line_buffering=True)
name = os.path.basename(sys.argv[0])
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def call(method, path, body=None, **headers):
    api.request(method, "/2020-01-01/extension/" + path, body, {k.replace("_", "-"): v for k, v in headers.items()})
    r = api.getresponse()
    text = r.read()
    if r.status not in (200, 202): sys.exit("%s: %d %s" % (path, r.status, text))
    return r.headers, json.loads(text)
if name == "silent": time.sleep(60)
if name == "early": sys.exit(4)
hidden = [k for k in ("_HANDLER", "LAMBDA_TASK_ROOT", "AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_GROUP_NAME") if k in os.environ]
print(name, "sees", os.environ["AWS_LAMBDA_FUNCTION_NAME"], os.environ["MINE"], hidden)
events = ["INVOKE", "SHUTDOWN"] if name != "bare" else []
headers, doc = call("POST", "register", json.dumps({"events": events}), Lambda_Extension_Name=name)
me = headers["Lambda-Extension-Identifier"]
if name == "faulty": call("POST", "init/error", json.dumps({"errorMessage": "no licence", "errorType": "Extension.NoLicence"}), Lambda_Extension_Identifier=me)
print(name, "registered for", doc["functionName"], doc["handler"])
while True:
    headers, event = call("GET", "event/next", Lambda_Extension_Identifier=me)
    if event["eventType"] == "SHUTDOWN":
        print(name, "SHUTDOWN", event["shutdownReason"], event["deadlineMs"] > time.time() * 1000)
        if name == "stubborn": time.sleep(60)
        sys.exit(0)
    print(name, "INVOKE", event["requestId"], event["invokedFunctionArn"], event["tracing"]["value"], event["deadlineMs"] > time.time() * 1000)
    if name == "slow": time.sleep(0.3)
    if name == "crash": os._exit(5)
`

// withExtensions loads the Go handler with external extensions in a layer.
func withExtensions(t *testing.T, rec *recorder, l runtime.Limits, names ...string) (runtime.Function, error) {
	t.Helper()
	needs(t, "python3")
	python, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Fatal(err)
	}
	content := map[string]string{}
	for _, name := range names {
		content["extensions/"+name] = "#!" + strings.TrimSpace(string(python)) + "\n" + extensionCode
	}
	a := artifact(root(t), map[string]string{"MINE": "yes"})
	a.Layers = []string{files(t, content)}
	f, err := New(Options{Dir: t.TempDir(), Events: rec.events()}).Load(t.Context(), a, l)
	if err == nil {
		t.Cleanup(func() { f.Close() })
	}
	return f, err
}

func (r *recorder) has(line string) func() bool {
	return func() bool { return slices.Contains(r.lines, line) }
}

func TestExternalExtensions(t *testing.T) {
	var rec recorder
	f, err := withExtensions(t, &rec, runtime.Limits{Concurrency: 1, InitTimeout: 20 * time.Second}, "one", "bare")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{": one sees f yes []", ": one registered for f bootstrap", ": bare registered for f bootstrap"} {
		rec.wait(t, line, rec.has(line))
	}
	res, err := f.Invoke(t.Context(), runtime.Invocation{RequestID: "r-1", TraceID: "Root=1-2-3", Payload: []byte(`{"do":"echo"}`)})
	if err != nil || string(res.Payload) != `{"do":"echo"}` {
		t.Fatalf("%s, %v", res.Payload, err)
	}
	line := "r-1: one INVOKE r-1 arn:aws:lambda:eu-west-1:123456789012:function:f Root=1-2-3 True"
	rec.wait(t, line, rec.has(line))
	answer(t, f, `{"do":"echo"}`, `{"do":"echo"}`)
	f.Close()
	rec.wait(t, "the end", func() bool {
		return slices.ContainsFunc(rec.lines, func(l string) bool { return strings.HasSuffix(l, ": one SHUTDOWN SPINDOWN True") })
	})
	rec.waitEnd(t, "closed")
	if rec.starts != 1 {
		t.Errorf("%d starts, want one", rec.starts)
	}
}

// The answer does not wait for extensions, the next invocation does.
func TestAnEnvironmentIsFreeWhenItsExtensionsAre(t *testing.T) {
	var rec recorder
	f, err := withExtensions(t, &rec, runtime.Limits{Concurrency: 1, InitTimeout: 20 * time.Second}, "slow")
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	answer(t, f, `{"do":"echo"}`, `{"do":"echo"}`)
	first := time.Since(begun)
	answer(t, f, `{"do":"echo"}`, `{"do":"echo"}`)
	if second := time.Since(begun); first > 250*time.Millisecond || second < 300*time.Millisecond {
		t.Errorf("answers after %s and %s; want the first before the extension's 300 ms, the second after", first, second)
	}
}

func TestExtensionsHearWhyItEnds(t *testing.T) {
	var rec recorder
	f, err := withExtensions(t, &rec, runtime.Limits{Concurrency: 1, InitTimeout: 20 * time.Second, Timeout: time.Second}, "one")
	if err != nil {
		t.Fatal(err)
	}
	invoke(t, f, "r-1", `{"do":"sleep","n":60000}`)
	rec.wait(t, "timeout", rec.has("r-1: one SHUTDOWN TIMEOUT True"))
	invoke(t, f, "r-2", `{"do":"exit","n":3}`)
	rec.wait(t, "failure", rec.has("r-2: one SHUTDOWN FAILURE True"))
}

func TestAStubbornExtensionIsKilled(t *testing.T) {
	var rec recorder
	f, err := withExtensions(t, &rec, runtime.Limits{Concurrency: 1, InitTimeout: 20 * time.Second}, "stubborn")
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	f.Close()
	if took := time.Since(begun); took < 1300*time.Millisecond || took > 4*time.Second {
		t.Errorf("Close took %s, want about 1.4 s for the extension", took)
	}
}

func TestAnExtensionThatEndsEndsItsEnvironment(t *testing.T) {
	var rec recorder
	f, err := withExtensions(t, &rec, runtime.Limits{Concurrency: 1, InitTimeout: 20 * time.Second}, "crash")
	if err != nil {
		t.Fatal(err)
	}
	res := invoke(t, f, "r-1", `{"do":"sleep","n":20000}`)
	if want := `{"errorType":"Extension.Crash","errorMessage":"RequestId: r-1 Error: exit status 5"}`; string(res.Payload) != want || res.ErrorType != "Extension.Crash" {
		t.Errorf("got %s, want %s", res.Payload, want)
	}
	rec.waitEnd(t, "extension: extension crash ended (exit status 5)")
}

func TestExtensionsThatDoNotStart(t *testing.T) {
	for name, want := range map[string]string{
		"early":  "the bootstrap of function f failed to start: extension early ended (exit status 4)",
		"silent": "the bootstrap of function f failed to start: extension silent did not register (POST /2020-01-01/extension/register) within 1s",
		"faulty": "the bootstrap of function f failed to start: extension faulty reports an error in its init phase: Extension.NoLicence: no licence",
	} {
		t.Run(name, func(t *testing.T) {
			l := runtime.Limits{InitTimeout: 20 * time.Second}
			if name == "silent" {
				l.InitTimeout = time.Second
			}
			var rec recorder
			_, err := withExtensions(t, &rec, l, name)
			if !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), want) {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

func TestWhichFilesAreExtensions(t *testing.T) {
	a := artifact(files(t, map[string]string{"extensions/own.js": "code", "extensions/run": "#!x", "extensions/data/deep": "#!x"}), nil)
	a.Layers = []string{files(t, map[string]string{"extensions/agent": "#!x"})}
	got, err := findExtensions(a)
	if err != nil || len(got) != 2 || got[0].name != "agent" || got[1] != (externalExtension{"run", filepath.Join(a.Path, "extensions/run")}) {
		t.Errorf("%v, %v", got, err)
	}
	a.Layers = append(a.Layers, files(t, map[string]string{"extensions/agent": "#!x"}))
	if _, err := findExtensions(a); err == nil || err.Error() != "function f has two extensions named agent: rename one" {
		t.Errorf("twice: %v", err)
	}
	if err := os.Chmod(filepath.Join(a.Layers[1], "extensions/agent"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := findExtensions(a); err == nil || err.Error() != "extension agent of function f is not executable: run chmod +x on it" {
		t.Errorf("not executable: %v", err)
	}
}
