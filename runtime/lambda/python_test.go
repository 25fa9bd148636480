package lambda

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

func pythonFunction(t testing.TB, rec *recorder, name string, content map[string]string, adjust ...func(*runtime.Artifact, *runtime.Limits)) runtime.Function {
	t.Helper()
	needs(t, "python3")
	f, err := handler(t, rec, runtime.KindPython, name, content, adjust...)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestPythonHandlers(t *testing.T) {
	needs(t, "python3")
	layers := func(a *runtime.Artifact, _ *runtime.Limits) {
		a.Layers = []string{
			files(t, map[string]string{"python/shared.py": "V = 'old'", "python/first.py": "V = 'first'"}),
			files(t, map[string]string{"python/shared.py": "V = 'new'"}),
		}
	}
	for what, c := range map[string]struct {
		handler string
		files   map[string]string
		want    string
	}{
		"lambda_function":     {"", map[string]string{"lambda_function.py": "def lambda_handler(event, context): return event"}, `{"n": 1}`},
		"app.handler":         {"", map[string]string{"app.py": "def handler(event, context): return [event['n']]"}, "[1]"},
		"app.lambda_handler":  {"", map[string]string{"app.py": "def handler(event, context): return 0\nlambda_handler = lambda event, context: 2"}, "2"},
		"named":               {"src/jobs.clean", map[string]string{"src/jobs.py": "from src.other import V\ndef clean(event, context): return V", "src/other.py": "V = 'other'"}, `"other"`},
		"dots":                {"src.jobs.clean", map[string]string{"src/jobs.py": "import helper\ndef clean(event, context): return helper.V", "helper.py": "V = 'root'"}, `"root"`},
		"an object":           {"app.obj", map[string]string{"app.py": "class C:\n  def __call__(self, event, context): return 'called'\nobj = C()"}, `"called"`},
		"nothing":             {"", map[string]string{"app.py": "def handler(event, context): pass"}, "null"},
		"bytes":               {"", map[string]string{"app.py": "def handler(event, context): return b'{\"raw\":1}'"}, `{"raw":1}`},
		"decimals and tuples": {"", map[string]string{"app.py": "from decimal import Decimal\ndef handler(event, context): return (Decimal('1.5'), Decimal(3), {'a': ()})"}, `[1.5, 3, {"a": []}]`},
		"layers":              {"", map[string]string{"app.py": "import first, shared\ndef handler(event, context): return [first.V, shared.V]"}, `["first", "new"]`},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			f := pythonFunction(t, new(recorder), c.handler, c.files, layers)
			for range 2 {
				answer(t, f, `{"n":1}`, c.want)
			}
		})
	}
}

func TestPythonContext(t *testing.T) {
	f := pythonFunction(t, new(recorder), "", map[string]string{"app.py": `
import os
def handler(event, context):
    context.log("logged\n")
    return {"left": context.get_remaining_time_in_millis(), "id": context.aws_request_id, "arn": context.invoked_function_arn,
            "name": context.function_name, "version": context.function_version, "memory": context.memory_limit_in_mb,
            "group": context.log_group_name, "stream": context.log_stream_name, "identity": context.identity.cognito_identity_id,
            "client": context.client_context, "tenant": context.tenant_id, "trace": os.environ["_X_AMZN_TRACE_ID"],
            "env": os.environ["AWS_EXECUTION_ENV"], "handler": os.environ["_HANDLER"], "cwd": os.getcwd() == os.environ["LAMBDA_TASK_ROOT"]}
`})
	res, err := f.Invoke(t.Context(), runtime.Invocation{RequestID: "r-1", TraceID: "Root=1-2-3", Payload: []byte("{}"), Deadline: time.Now().Add(5 * time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Left                                                               int
		ID, Arn, Name, Version, Memory, Group, Stream, Trace, Env, Handler string
		Identity, Client, Tenant                                           *string
		Cwd                                                                bool
	}
	if err := json.Unmarshal(res.Payload, &got); err != nil {
		t.Fatalf("%s: %v", res.Payload, err)
	}
	if got.Left < 3000 || got.Left > 5000 || got.ID != "r-1" || got.Arn != "arn:aws:lambda:eu-west-1:123456789012:function:f" || got.Name != "f" ||
		got.Version != "$LATEST" || got.Memory != "256" || got.Group != "/aws/lambda/f" || !strings.Contains(got.Stream, "/[$LATEST]") || got.Trace != "Root=1-2-3" ||
		!regexp.MustCompile(`^AWS_Lambda_python3\.\d+$`).MatchString(got.Env) || got.Handler != "app.handler" || !got.Cwd ||
		got.Identity != nil || got.Client != nil || got.Tenant != nil {
		t.Errorf("%s", res.Payload)
	}
}

func TestPythonErrorsHaveLambdasShape(t *testing.T) {
	var rec recorder
	f := pythonFunction(t, &rec, "", map[string]string{"app.py": `
class Mine(Exception): pass
def inner(): raise Mine("too far")
def handler(event, context):
    if event == 1: inner()
    if event == 2: return {1, 2}
    if event == 3: raise SystemExit(3)
`})
	res := invoke(t, f, "r-1", "1")
	root := `/[^"]*`
	want := regexp.MustCompile(`^{"errorMessage": "too far", "errorType": "Mine", "requestId": "r-1", "stackTrace": \["  File \\"` + root + `/app.py\\", line 5, in handler\\n    if event == 1: inner\(\)\\n[^"]*", "  File \\"` + root + `/app.py\\", line 3, in inner\\n`)
	if !want.Match(res.Payload) || res.FunctionError != "Unhandled" || res.ErrorType != "Mine" {
		t.Errorf("got %s, %q, %q", res.Payload, res.FunctionError, res.ErrorType)
	}
	rec.wait(t, "the log of the error", func() bool {
		return len(rec.lines) >= 6 && rec.lines[0] == "r-1: [ERROR] Mine: too far" && rec.lines[1] == "r-1: Traceback (most recent call last):"
	})
	res = invoke(t, f, "r-2", "2")
	if want := `{"errorMessage": "Unable to marshal response: Object of type set is not JSON serializable", "errorType": "Runtime.MarshalError", "requestId": "r-2", "stackTrace": []}`; string(res.Payload) != want {
		t.Errorf("got  %s\nwant %s", res.Payload, want)
	}
	if res = invoke(t, f, "r-3", "3"); documentMessage(res.Payload) != "RequestId: r-3 Error: Runtime exited with error: exit status 3" || res.ErrorType != runtime.ErrorExit {
		t.Errorf("got %s", res.Payload)
	}
	answer(t, f, "4", "null") // by another process
}

func TestPythonLogLines(t *testing.T) {
	var rec recorder
	f := pythonFunction(t, &rec, "", map[string]string{"app.py": `
import logging, sys
log = logging.getLogger("mine")
logging.getLogger().setLevel("INFO")
log.warning("loading")
def handler(event, context):
    print("printed"); print("to stderr", file=sys.stderr)
    log.info("an %s", "info"); log.debug("not shown"); logging.error("root")
`})
	invoke(t, f, "r-1", "{}")
	rec.wait(t, "the lines", func() bool { return len(rec.lines) == 5 })
	form := regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`)
	for i, want := range []string{": [WARNING]\tTIME\t\tloading", "r-1: printed", "r-1: to stderr", "r-1: [INFO]\tTIME\tr-1\tan info", "r-1: [ERROR]\tTIME\tr-1\troot"} {
		if got := form.ReplaceAllString(rec.lines[i], "TIME"); got != want {
			t.Errorf("line %q, want %q", got, want)
		}
	}
}

func TestPythonInitErrors(t *testing.T) {
	needs(t, "python3")
	const begin = "the Python process of function f failed to start: "
	for what, c := range map[string]struct{ handler, file, want string }{
		"no module":  {"other.handler", "", "Runtime.ImportModuleError: Unable to import module 'other': No module named 'other'"},
		"no package": {"", "import nowhere", "Runtime.ImportModuleError: Unable to import module 'app': No module named 'nowhere'"},
		"syntax":     {"", "def handler(:", "Runtime.UserCodeSyntaxError: Syntax error in module 'app': invalid syntax (app.py, line 1)"},
		"no handler": {"app.other", "", "Runtime.HandlerNotFound: Handler 'other' missing on module 'app'"},
		"malformed":  {"app", "", "Runtime.MalformedHandlerName: Bad handler 'app': not enough values to unpack (expected 2, got 1)"},
		"raises":     {"", "raise ValueError('on load')", "ValueError: on load"},
		"ends":       {"", "import os; os._exit(3)", "it ended (exit: status 3) before it asked for an event"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			_, err := handler(t, new(recorder), runtime.KindPython, c.handler, map[string]string{"app.py": c.file})
			if !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), begin+c.want) {
				t.Errorf("got  %v\nwant %s%s…", err, begin, c.want)
			}
		})
	}
	_, err := handler(t, new(recorder), runtime.KindPython, "", nil)
	if want := "the package has neither app.py nor lambda_function.py at its root: name the handler in a manifest, as handler: folder.module.function"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
