package lambda

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// needs skips a test without a program.
func needs(t testing.TB, program string) {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		t.Skip("needs " + program)
	}
}

// files writes a folder.
func files(t testing.TB, content map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range content {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// handler is a function of kind in a folder, loaded.
func handler(t testing.TB, rec *recorder, kind runtime.ArtifactKind, name string, content map[string]string, adjust ...func(*runtime.Artifact, *runtime.Limits)) (runtime.Function, error) {
	t.Helper()
	a, l := artifact(files(t, content), nil), runtime.Limits{Concurrency: 1, Timeout: 10 * time.Second, Memory: 256 << 20}
	a.Kind, a.Handler = kind, name
	for _, fn := range adjust {
		fn(&a, &l)
	}
	f, err := New(Options{Dir: t.TempDir(), Runtimes: t.TempDir(), Events: rec.events()}).Load(t.Context(), a, l)
	if err == nil {
		t.Cleanup(func() { f.Close() })
	}
	return f, err
}

func nodeHandler(t testing.TB, rec *recorder, name string, content map[string]string, adjust ...func(*runtime.Artifact, *runtime.Limits)) runtime.Function {
	t.Helper()
	needs(t, "node")
	f, err := handler(t, rec, runtime.KindNode, name, content, adjust...)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Every style in which a Node.js handler can answer, in one module.
const nodeStyles = `
exports.promise = (event) => Promise.resolve({ got: event });
exports.async = async (event) => { await null; return { got: event }; };
exports.callback = (event, context, callback) => { setTimeout(() => callback(null, { got: event }), 5); };
exports.atOnce = (event, context, callback) => callback(null, { got: event });
exports.done = (event, context) => context.done(null, { got: event });
exports.succeed = (event, context) => context.succeed({ got: event });
exports.plain = (event) => ({ got: event });
exports.nothing = () => {};
exports.asyncNothing = async () => {};
exports.waits = (event, context, callback) => { globalThis.late = 0; setTimeout(() => { globalThis.late = 1; }, 100); callback(null, 'early'); };
exports.doesNotWait = (event, context, callback) => {
  context.callbackWaitsForEmptyEventLoop = false;
  globalThis.late = 0; setTimeout(() => { globalThis.late = 1; }, 5000); callback(null, 'early');
};
exports.twice = (event, context, callback) => { callback(null, 'first'); callback(null, 'second'); };
exports.nested = { deeper: { handler: async () => 'deep' } };
exports.fails = async () => { const e = new RangeError('too far'); e.code = 7; throw e; };
exports.throws = () => { throw new TypeError('at once'); };
exports.callbackFails = (event, context, callback) => callback(new Error('called back'));
exports.callbackText = (event, context, callback) => callback('a text');
exports.contextFails = (event, context) => context.fail(new Error('context'));
exports.rejectsText = async () => { throw 'thrown text'; };
exports.never = () => new Promise(() => {});
exports.circular = async () => { const a = {}; a.a = a; return a; };
exports.bigint = async () => 1n;
`

func TestNodeHandlersOfEveryStyle(t *testing.T) {
	needs(t, "node")
	const got = `{"got":{"n":1}}`
	for name, want := range map[string]string{
		"promise": got, "async": got, "callback": got, "atOnce": got, "done": got, "succeed": got, "plain": got,
		"nothing": "null", "asyncNothing": "null", "waits": `"early"`, "doesNotWait": `"early"`, "twice": `"first"`, "nested.deeper.handler": `"deep"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := nodeHandler(t, new(recorder), "index."+name, map[string]string{"index.js": nodeStyles})
			for range 2 {
				begun := time.Now()
				answer(t, f, `{"n":1}`, want)
				if took := time.Since(begun); name == "waits" && took < 100*time.Millisecond {
					t.Errorf("answered after %s, before the event loop was empty", took)
				} else if name == "doesNotWait" && took > 2*time.Second {
					t.Errorf("answered after %s, when the event loop was empty", took)
				}
			}
		})
	}
}

func TestNodeErrorsHaveLambdasShape(t *testing.T) {
	needs(t, "node")
	for name, want := range map[string]string{
		"fails":         `{"errorType":"RangeError","errorMessage":"too far","trace":["RangeError: too far","    at `,
		"throws":        `{"errorType":"TypeError","errorMessage":"at once","trace":["TypeError: at once","    at `,
		"callbackFails": `{"errorType":"Error","errorMessage":"called back","trace":["Error: called back","    at `,
		"contextFails":  `{"errorType":"Error","errorMessage":"context","trace":["Error: context","    at `,
		"callbackText":  `{"errorType":"string","errorMessage":"a text","trace":[]}`,
		"rejectsText":   `{"errorType":"string","errorMessage":"thrown text","trace":[]}`,
		"never":         `{"errorType":"Runtime.NodeJsExit","errorMessage":"The Lambda runtime client detected an unexpected Node.js exit. This is most commonly caused by a Promise that was never settled.`,
		"circular":      `{"errorType":"Runtime.MarshalError","errorMessage":"Unable to stringify response body: Converting circular structure to JSON`,
		"bigint":        `{"errorType":"Runtime.MarshalError","errorMessage":"Unable to stringify response body: Do not know how to serialize a BigInt"`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var rec recorder
			f := nodeHandler(t, &rec, "index."+name, map[string]string{"index.js": nodeStyles})
			for _, id := range []string{"r-1", "r-2"} { // the process lives on
				res := invoke(t, f, id, `{}`)
				var doc struct{ ErrorType string }
				if !strings.HasPrefix(string(res.Payload), want) || res.FunctionError != "Unhandled" || json.Unmarshal(res.Payload, &doc) != nil {
					t.Errorf("got %s, %q; want %s…", res.Payload, res.FunctionError, want)
				}
			}
			if rec.starts != 1 {
				t.Errorf("%d starts, want one", rec.starts)
			}
		})
	}
}

func TestNodeErrorsAreLogged(t *testing.T) {
	var rec recorder
	f := nodeHandler(t, &rec, "index.fails", map[string]string{"index.js": nodeStyles})
	invoke(t, f, "r-1", `{}`)
	form := regexp.MustCompile(`^r-1: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\tr-1\tERROR\tInvoke Error \t{"errorType":"RangeError","errorMessage":"too far","code":7,"stack":\["RangeError: too far",`)
	rec.wait(t, "the error's line", func() bool { return len(rec.lines) == 1 && form.MatchString(rec.lines[0]) })
}

func TestNodeLogLines(t *testing.T) {
	var rec recorder
	f := nodeHandler(t, &rec, "index.handler", map[string]string{"index.js": `
console.log('loading');
exports.handler = async () => {
  console.log('a %s', 'text', { n: 1 }); console.info('i'); console.debug('d'); console.warn('w'); console.error('e');
  process.stdout.write('raw\n'); process.stderr.write('err\n');
};`})
	invoke(t, f, "r-1", `{}`)
	want := []string{"r-1\tINFO\ta text { n: 1 }", "r-1\tINFO\ti", "r-1\tDEBUG\td", "r-1\tWARN\tw", "r-1\tERROR\te", "raw", "err"}
	rec.wait(t, "the lines", func() bool { return len(rec.lines) == 8 })
	stamp := regexp.MustCompile(`^(r-1)?: (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t)?`)
	if got := stamp.ReplaceAllString(rec.lines[0], ""); got != "undefined\tINFO\tloading" {
		t.Errorf("while loading: %q", rec.lines[0])
	}
	for i, w := range want {
		if got := stamp.ReplaceAllString(rec.lines[i+1], ""); got != w || !strings.HasPrefix(rec.lines[i+1], "r-1: ") {
			t.Errorf("line %q, want %q", rec.lines[i+1], w)
		}
	}
}

func TestNodeContext(t *testing.T) {
	f := nodeHandler(t, new(recorder), "index.handler", map[string]string{"index.mjs": `
export const handler = async (event, context) => ({
  left: context.getRemainingTimeInMillis(), keys: Object.keys(context).sort().join(),
  id: context.awsRequestId, arn: context.invokedFunctionArn, name: context.functionName, version: context.functionVersion,
  memory: context.memoryLimitInMB, group: context.logGroupName, stream: context.logStreamName,
  trace: process.env._X_AMZN_TRACE_ID, env: process.env.AWS_EXECUTION_ENV, handler: process.env._HANDLER, cwd: process.cwd(),
});`})
	var got struct {
		Left                                                                          int
		Keys, ID, Arn, Name, Version, Memory, Group, Stream, Trace, Env, Handler, Cwd string
	}
	res, err := f.Invoke(t.Context(), runtime.Invocation{RequestID: "r-1", TraceID: "Root=1-2-3", Payload: []byte("{}"), Deadline: time.Now().Add(5 * time.Second)})
	if err != nil || json.Unmarshal(res.Payload, &got) != nil {
		t.Fatalf("%s, %v", res.Payload, err)
	}
	keys := "awsRequestId,callbackWaitsForEmptyEventLoop,clientContext,done,fail,functionName,functionVersion,getRemainingTimeInMillis,identity,invokedFunctionArn,logGroupName,logStreamName,memoryLimitInMB,succeed,tenantId"
	if got.Left < 3000 || got.Left > 5000 || got.Keys != keys || got.ID != "r-1" || got.Arn != "arn:aws:lambda:eu-west-1:123456789012:function:f" ||
		got.Name != "f" || got.Version != "$LATEST" || got.Memory != "256" || got.Group != "/aws/lambda/f" || !strings.Contains(got.Stream, "/[$LATEST]") ||
		got.Trace != "Root=1-2-3" || !regexp.MustCompile(`^AWS_Lambda_nodejs\d+\.x$`).MatchString(got.Env) || got.Handler != "index.handler" {
		t.Errorf("%+v", got)
	}
}

// The forms of modules, where the handler may lie, and what is found on the path of layers.
func TestNodeModules(t *testing.T) {
	needs(t, "node")
	layers := func(a *runtime.Artifact, _ *runtime.Limits) {
		a.Layers = []string{
			files(t, map[string]string{"nodejs/node_modules/shared/index.js": "module.exports = 'old'", "nodejs/node_modules/first/index.js": "module.exports = 'first'"}),
			files(t, map[string]string{"nodejs/node_modules/shared/index.js": "module.exports = 'new'"}),
		}
	}
	for what, c := range map[string]struct {
		handler string
		files   map[string]string
		want    string
	}{
		"CommonJS":        {"", map[string]string{"index.js": "exports.handler = async () => 'cjs'"}, `"cjs"`},
		".cjs":            {"", map[string]string{"index.cjs": "exports.handler = async () => 'cjs'"}, `"cjs"`},
		".mjs":            {"", map[string]string{"index.mjs": "import 'fs'; export const handler = async () => 'esm'"}, `"esm"`},
		"type module":     {"", map[string]string{"package.json": `{"type": "module"}`, "index.js": "import 'fs'; export const handler = async () => 'esm'"}, `"esm"`},
		"top-level await": {"", map[string]string{"index.mjs": "const v = await Promise.resolve('awaited'); export const handler = async () => v"}, `"awaited"`},
		"default export":  {"", map[string]string{"index.mjs": "export default { handler: async () => 'default' }"}, `"default"`},
		"in a folder":     {"src/app.run", map[string]string{"src/app.js": "exports.run = async () => require('./other')", "src/other.js": "module.exports = 'other'"}, `"other"`},
		"own packages":    {"", map[string]string{"index.js": "exports.handler = async () => require('dep')", "node_modules/dep/index.js": "module.exports = 'dep'"}, `"dep"`},
		"layers":          {"", map[string]string{"index.js": "exports.handler = async () => [require('first'), require('shared')]"}, `["first","new"]`},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			answer(t, nodeHandler(t, new(recorder), c.handler, c.files, layers), "{}", c.want)
		})
	}
}

func TestNodeInitErrors(t *testing.T) {
	needs(t, "node")
	const begin = "the Node.js process of function f failed to start: "
	for what, c := range map[string]struct {
		handler string
		file    string
		want    string
	}{
		"no module":   {"other.handler", "", "Runtime.ImportModuleError: Error: Cannot find module 'other'"},
		"no package":  {"", "require('nowhere')", "Runtime.ImportModuleError: Error: Cannot find module 'nowhere'"},
		"syntax":      {"", "exports.handler = async () => {", "Runtime.UserCodeSyntaxError: SyntaxError: Unexpected end of input"},
		"no export":   {"", "exports.other = 1", "Runtime.HandlerNotFound: index.handler is undefined or not exported"},
		"no function": {"", "exports.handler = 1", "Runtime.HandlerNotFound: index.handler is not a function"},
		"malformed":   {"index", "", "Runtime.MalformedHandlerName: Bad handler"},
		"dots":        {"../index.handler", "", "Runtime.MalformedHandlerName: '../index.handler' is not a valid handler name. Use absolute paths when specifying root directories in handler names."},
		"throws":      {"", "throw new RangeError('on load')", "RangeError: on load"},
		"rejects":     {"", "Promise.reject(new Error('lost')); exports.handler = async () => 1", "Runtime.UnhandledPromiseRejection: Error: lost"},
		"ends":        {"", "process.exit(3)", "it ended (exit: status 3) before it asked for an event"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			_, err := handler(t, new(recorder), runtime.KindNode, c.handler, map[string]string{"index.js": c.file})
			if !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), begin+c.want) {
				t.Errorf("got  %v\nwant %s%s…", err, begin, c.want)
			}
		})
	}
}

func TestNodeErrorsThatNobodyCatchesEndTheProcess(t *testing.T) {
	needs(t, "node")
	for what, c := range map[string]struct{ code, want, end string }{
		"uncaught":  {"setTimeout(() => { throw new Error('later') }, 1); return new Promise(() => {})", `{"errorType":"Error","errorMessage":"later","trace":["Error: later",`, "exit: status 129"},
		"unhandled": {"Promise.reject(new Error('lost')); return new Promise(() => {})", `{"errorType":"Runtime.UnhandledPromiseRejection","errorMessage":"Error: lost","trace":["Error: lost",`, "exit: status 128"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			var rec recorder
			f := nodeHandler(t, &rec, "", map[string]string{"index.js": "exports.handler = async (event) => { if (event.ok) return 1; " + c.code + " }"})
			res := invoke(t, f, "r-1", "{}")
			if !strings.HasPrefix(string(res.Payload), c.want) || res.FunctionError != "Unhandled" {
				t.Errorf("got %s, want %s…", res.Payload, c.want)
			}
			rec.waitEnd(t, c.end)
			answer(t, f, `{"ok":1}`, "1") // by another process
		})
	}
}

func TestNodeStreamedAnswers(t *testing.T) {
	needs(t, "node")
	const code = `
const { pipeline } = require('stream/promises');
exports.parts = awslambda.streamifyResponse(async (event, stream, context) => {
  stream.write('one '); await new Promise((r) => setTimeout(r, 5)); stream.write(Buffer.from('two ')); stream.write(context.awsRequestId); stream.end();
});
exports.piped = awslambda.streamifyResponse(async (event, stream) => pipeline(require('stream').Readable.from(['a', 'b']), stream));
exports.http = awslambda.streamifyResponse(async (event, stream) => {
  stream = awslambda.HttpResponseStream.from(stream, { statusCode: 201 }); stream.write('body'); stream.end();
});
exports.early = awslambda.streamifyResponse(async () => { throw new Error('before'); });
exports.late = awslambda.streamifyResponse(async (event, stream) => { stream.write('half'); await new Promise((r) => setTimeout(r, 20)); throw new RangeError('midway'); });
exports.large = awslambda.streamifyResponse(async (event, stream) => {
  for (let i = 0; i < event.mb; i++) if (!stream.write(Buffer.alloc(1 << 20, 'x'))) await new Promise((r) => stream.once('drain', r));
  stream.end();
});
`
	run := func(t *testing.T, name, payload string) runtime.Result {
		f := nodeHandler(t, new(recorder), "index."+name, map[string]string{"index.js": code})
		invoke(t, f, "r-0", payload)
		return invoke(t, f, "r-1", payload)
	}
	for name, want := range map[string]string{"parts": "one two r-1", "piped": "ab", "http": `{"statusCode":201}` + "\x00\x00\x00\x00\x00\x00\x00\x00body"} {
		if res := run(t, name, "{}"); string(res.Payload) != want || res.FunctionError != "" {
			t.Errorf("%s: %q, %q; want %q", name, res.Payload, res.FunctionError, want)
		}
	}
	for name, want := range map[string]string{"early": `{"errorType":"Error","errorMessage":"before",`, "late": `{"errorType":"RangeError","errorMessage":"midway",`} {
		if res := run(t, name, "{}"); !strings.HasPrefix(string(res.Payload), want) || res.FunctionError != "Unhandled" {
			t.Errorf("%s: %.200q, %q; want %s…", name, res.Payload, res.FunctionError, want)
		}
	}
	if res := run(t, "large", `{"mb":20}`); len(res.Payload) != 20<<20 || res.FunctionError != "" {
		t.Errorf("20 MiB came as %d bytes, %q", len(res.Payload), res.FunctionError)
	}
	if res := run(t, "large", `{"mb":21}`); res.ErrorType != runtime.ErrorResponseTooLarge || documentMessage(res.Payload) != "Response payload size exceeded maximum allowed payload size (20971520 bytes)." {
		t.Errorf("21 MiB: %.200s", res.Payload)
	}
}

func TestAMissingInterpreterIsNamed(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for kind, want := range map[runtime.ArtifactKind]string{
		runtime.KindNode:   "function f is a Node.js handler, and there is no node on the PATH of this host: install Node.js 18 or later (apt-get install nodejs) and touch the plugin",
		runtime.KindPython: "function f is a Python handler, and there is no python3 on the PATH of this host: install Python 3.8 or later (apt-get install python3) and touch the plugin",
		runtime.KindJava:   "function f is a Java handler, and there is no java on the PATH of this host: install a Java runtime (apt-get install default-jre-headless) and touch the plugin",
	} {
		_, err := handler(t, new(recorder), kind, "x", nil)
		if !errs.Is(err, errs.Invalid) || err.Error() != want {
			t.Errorf("%s: got %v\nwant %s", kind, err, want)
		}
	}
}

func TestAnOldInterpreterIsRefused(t *testing.T) {
	dir := files(t, map[string]string{"node": "#!/bin/sh\necho v12.22.1 /usr/bin/node\n"})
	t.Setenv("PATH", dir)
	_, err := handler(t, new(recorder), runtime.KindNode, "", nil)
	want := fmt.Sprintf("function f is a Node.js handler, and %s/node is of version 12.22: install Node.js 18 or later (apt-get install nodejs) and touch the plugin", dir)
	if !errs.Is(err, errs.Invalid) || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}
