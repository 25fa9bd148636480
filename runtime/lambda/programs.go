package lambda

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// program is what the processes of a function run.
type program struct {
	path    string   // the executable
	args    []string // after its name
	handler string   // _HANDLER
	execEnv string   // AWS_EXECUTION_ENV; "" for provided.*, which has none
	dir     string   // LAMBDA_RUNTIME_DIR; "" when the runtime has no files
	vars    map[string]string
}

// The runtimes that we ship, each one file that the interpreter is started with.
var (
	//go:embed bootstrap/node/bootstrap.cjs
	nodeBootstrap []byte
	//go:embed bootstrap/python/bootstrap.py
	pythonBootstrap []byte
)

// language is what is known of the interpreter of a kind of handler.
type language struct {
	command  string         // looked up on the PATH
	name     string         // for people
	probe    []string       // arguments that print the version, and the path if the command may be a shim
	version  *regexp.Regexp // of what they print: the major version, the minor version, the path
	least    [2]int         // the oldest version that the runtime we ship works with
	install  string         // how to get it
	execForm string         // AWS_EXECUTION_ENV, from the two numbers
}

var languages = map[runtime.ArtifactKind]language{
	runtime.KindNode: {"node", "Node.js", []string{"-p", "process.version + ' ' + process.execPath"}, regexp.MustCompile(`^v(\d+)\.(\d+)\.\S+ (/.*)`), [2]int{16, 0},
		"Node.js 18 or later (apt-get install nodejs)", "AWS_Lambda_nodejs%[1]d.x"},
	runtime.KindPython: {"python3", "Python", []string{"-c", "import sys; print('%d.%d %s' % (sys.version_info[:2] + (sys.executable,)))"}, regexp.MustCompile(`^(\d+)\.(\d+) (/.*)`), [2]int{3, 8},
		"Python 3.8 or later (apt-get install python3)", "AWS_Lambda_python%[1]d.%[2]d"},
	runtime.KindJava: {"java", "Java", []string{"-version"}, regexp.MustCompile(`version "(?:1\.)?(\d+)(?:\.(\d+))?()`), [2]int{8, 0},
		"a Java runtime (apt-get install default-jre-headless)", "AWS_Lambda_java%[1]d"},
}

// installed is an interpreter as it was found.
type installed struct {
	path         string
	major, minor int
}

// interpreters remembers what was found, by path and modification time: an interpreter may be
// installed or replaced while the host runs.
type interpreters struct {
	mu   sync.Mutex
	seen map[string]installed
}

// find looks for the language's program. The error is errs.Invalid and says what to install.
func (i *interpreters) find(ctx context.Context, function string, l language) (installed, error) {
	path, err := exec.LookPath(l.command)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return installed{}, errs.New(errs.Invalid, "function %s is a %s handler, and there is no %s on the PATH of this host: install %s and touch the plugin", function, l.name, l.command, l.install)
	}
	key := path
	if info, err := os.Stat(path); err == nil {
		key += info.ModTime().String()
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if found, ok := i.seen[key]; ok {
		return found, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, l.probe...).CombinedOutput()
	m := l.version.FindStringSubmatch(string(out))
	if err != nil || m == nil {
		return installed{}, errs.New(errs.Unavailable, "function %s is a %s handler, and %s does not tell its version (%v, %q)", function, l.name, path, err, printable(out[:min(len(out), 200)]))
	}
	found := installed{path: path}
	found.major, _ = strconv.Atoi(m[1])
	found.minor, _ = strconv.Atoi(m[2])
	if m[3] != "" { // version managers put scripts on the PATH, which would run at every start
		found.path = m[3]
	}
	if found.major < l.least[0] || found.major == l.least[0] && found.minor < l.least[1] {
		return installed{}, errs.New(errs.Invalid, "function %s is a %s handler, and %s is of version %d.%d: install %s and touch the plugin", function, l.name, path, found.major, found.minor, l.install)
	}
	if i.seen == nil {
		i.seen = map[string]installed{}
	}
	i.seen[key] = found
	return found, nil
}

// program settles what the processes of a run.
func (e *Engine) program(ctx context.Context, a runtime.Artifact, l runtime.Limits) (program, error) {
	if a.Kind == runtime.KindBootstrap {
		path, err := findBootstrap(a)
		return program{path: path, handler: orElse(a.Handler, bootstrapName)}, err
	}
	lang := languages[a.Kind]
	found, err := e.interpreters.find(ctx, a.Name, lang)
	if err != nil {
		return program{}, err
	}
	var p program
	switch a.Kind {
	case runtime.KindNode:
		p, err = e.nodeProgram(a, l, found)
	case runtime.KindPython:
		p, err = e.pythonProgram(a, found)
	case runtime.KindJava:
		p, err = javaProgram(a, l)
	}
	if err != nil {
		return program{}, err
	}
	p.path, p.execEnv = found.path, fmt.Sprintf(lang.execForm, found.major, found.minor)
	return wrapped(a, p)
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}

// megabytes of a share of the memory limit, in percent.
func share(memory int64, percent int64) string {
	return strconv.FormatInt(max(memory>>20*percent/100, 1), 10)
}

func (e *Engine) nodeProgram(a runtime.Artifact, l runtime.Limits, found installed) (program, error) {
	file, err := e.shipped("node", "bootstrap.cjs", nodeBootstrap)
	if err != nil {
		return program{}, err
	}
	var paths []string
	for _, layer := range newestFirst(a.Layers) {
		paths = append(paths, filepath.Join(layer, "nodejs", fmt.Sprintf("node%d", found.major), "node_modules"), filepath.Join(layer, "nodejs", "node_modules"))
	}
	return program{
		// The heap's shares of the memory are Lambda's: the process is to collect garbage before it
		// is over its limit.
		args:    []string{"--max-old-space-size=" + share(l.Memory, 90), "--max-semi-space-size=" + share(l.Memory, 5), file},
		handler: orElse(a.Handler, "index.handler"), dir: filepath.Dir(file),
		vars: map[string]string{"NODE_PATH": strings.Join(append(paths, a.Path), ":")},
	}, nil
}

func (e *Engine) pythonProgram(a runtime.Artifact, found installed) (program, error) {
	file, err := e.shipped("python", "bootstrap.py", pythonBootstrap)
	if err != nil {
		return program{}, err
	}
	handler := a.Handler
	if handler == "" {
		if handler, err = pythonHandler(a.Path); err != nil {
			return program{}, err
		}
	}
	var paths []string
	for _, layer := range newestFirst(a.Layers) {
		paths = append(paths, filepath.Join(layer, "python"), filepath.Join(layer, "python", "lib", fmt.Sprintf("python%d.%d", found.major, found.minor), "site-packages"))
	}
	p := program{args: []string{file}, handler: handler, dir: filepath.Dir(file),
		// Task roots are shared by processes and never change: nobody is to write caches into them.
		vars: map[string]string{"PYTHONDONTWRITEBYTECODE": "1"}}
	if len(paths) > 0 {
		p.vars["PYTHONPATH"] = strings.Join(paths, ":")
	}
	return p, nil
}

// pythonNames finds the top-level functions that Lambda's examples call handlers.
var pythonNames = regexp.MustCompile(`(?m)^(?:async\s+)?(?:def\s+)?(lambda_handler|handler)\b\s*[(=]`)

// pythonHandler is the default handler: lambda_handler, else handler, of lambda_function.py, else app.py.
func pythonHandler(root string) (string, error) {
	for _, module := range []string{"lambda_function", "app"} {
		source, err := os.ReadFile(filepath.Join(root, module+".py"))
		if err != nil {
			continue
		}
		name := "lambda_handler"
		if m := pythonNames.FindAllSubmatch(source, -1); len(m) > 0 {
			name = "handler"
			for _, found := range m {
				if string(found[1]) == "lambda_handler" {
					name = "lambda_handler"
				}
			}
		}
		return module + "." + name, nil
	}
	return "", errs.New(errs.Invalid, "the package has neither app.py nor lambda_function.py at its root: name the handler in a manifest, as handler: folder.module.function")
}

// javaProgram starts the runtime interface client that the package brings. The flags are Lambda's:
// short starts and a small heap matter more than the last bit of speed.
func javaProgram(a runtime.Artifact, l runtime.Limits) (program, error) {
	if a.Handler == "" {
		return program{}, errs.New(errs.Invalid, "function %s is a Java handler, and nothing says its name: put a manifest beside it, with handler: package.Class::method", a.Name)
	}
	classes := []string{a.Path, filepath.Join(a.Path, "*"), filepath.Join(a.Path, "lib", "*")}
	for _, layer := range newestFirst(a.Layers) {
		classes = append(classes, filepath.Join(layer, "java", "lib", "*"))
	}
	return program{
		args: []string{"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xmx" + share(l.Memory, 80) + "m",
			"-cp", strings.Join(classes, ":"), "com.amazonaws.services.lambda.runtime.api.client.AWSLambda", a.Handler},
		handler: a.Handler,
	}, nil
}

// wrapped is p behind the user's wrapper script (AWS_LAMBDA_EXEC_WRAPPER), which gets p's command as
// its arguments. Paths below /opt and /var/task are looked up in the layers and the task root.
func wrapped(a runtime.Artifact, p program) (program, error) {
	script := a.Env["AWS_LAMBDA_EXEC_WRAPPER"]
	if script == "" {
		return p, nil
	}
	var places []string
	if rest, ok := strings.CutPrefix(script, "/opt/"); ok {
		for _, layer := range newestFirst(a.Layers) {
			places = append(places, filepath.Join(layer, rest))
		}
	} else if rest, ok := strings.CutPrefix(script, "/var/task/"); ok {
		places = []string{filepath.Join(a.Path, rest)}
	}
	for _, at := range places {
		if info, err := os.Stat(at); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			p.args = append([]string{p.path}, p.args...)
			p.path = at
			return p, nil
		}
	}
	return p, errs.New(errs.Invalid, "AWS_LAMBDA_EXEC_WRAPPER of function %s names %q, which is no executable of its package or layers: give a path below /var/task or /opt", a.Name, script)
}

// newestFirst is the search order of layers: the last one named wins.
func newestFirst(layers []string) []string {
	out := make([]string, 0, len(layers))
	for i := len(layers) - 1; i >= 0; i-- {
		out = append(out, layers[i])
	}
	return out
}

// findBootstrap looks for the bootstrap of provided.* in the task root, then in the layers.
func findBootstrap(a runtime.Artifact) (string, error) {
	for _, root := range append([]string{a.Path}, newestFirst(a.Layers)...) {
		if _, err := os.Stat(filepath.Join(root, bootstrapName)); err == nil {
			return filepath.Join(root, bootstrapName), checkBootstrap(root)
		}
	}
	return "", checkBootstrap(a.Path)
}

// shipped writes a runtime's file where processes find it, once an engine, and returns its path.
func (e *Engine) shipped(lang, name string, text []byte) (string, error) {
	dir := filepath.Join(orElse(e.opts.Runtimes, filepath.Join(orElse(e.opts.Dir, os.TempDir()), "runtimes")), lang)
	path := filepath.Join(dir, name)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.written[path] {
		return path, nil
	}
	fail := func(err error) (string, error) {
		return "", errs.Wrap(errs.Unavailable, err, "the runtime for %s cannot be written; once that is put right, touch the plugin", lang)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fail(err)
	}
	aside, err := os.CreateTemp(dir, ".new-")
	if err != nil {
		return fail(err)
	}
	_, err = aside.Write(text)
	if cerr := aside.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Chmod(aside.Name(), 0o644)
	}
	if err == nil {
		err = os.Rename(aside.Name(), path)
	}
	if err != nil {
		os.Remove(aside.Name())
		return fail(err)
	}
	e.written[path] = true
	return path, nil
}
