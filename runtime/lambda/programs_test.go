package lambda

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// Layers stand on the paths of a program in the order of their precedence: the last one named first.
func TestLayersAreOnTheProgramsPaths(t *testing.T) {
	a := artifact(files(t, nil), nil)
	a.Layers = []string{files(t, nil), files(t, map[string]string{"bootstrap": "#!/bin/sh\n"})}
	l := runtime.Limits{}.Defaults()
	p, err := New(Options{}).program(t.Context(), a, l)
	if err != nil || p.path != filepath.Join(a.Layers[1], "bootstrap") || p.handler != "bootstrap" {
		t.Fatalf("%+v, %v; want the bootstrap of the second layer", p, err)
	}
	s := surroundings{artifact: a, memory: l.Memory, program: p}
	got := s.variables()
	for _, want := range []string{
		"PATH=/usr/local/bin:/usr/bin:/bin:" + a.Layers[1] + "/bin:" + a.Layers[0] + "/bin",
		"LD_LIBRARY_PATH=" + a.Path + ":" + a.Path + "/lib:" + a.Layers[1] + "/lib:" + a.Layers[0] + "/lib",
	} {
		if !strings.Contains(strings.Join(got, "\n")+"\n", want+"\n") {
			t.Errorf("no %s in %q", want, got)
		}
	}
}

// A wrapper script gets the command of the runtime, and what it sets reaches the handler.
func TestAWrapperScript(t *testing.T) {
	needs(t, "python3")
	layer := files(t, map[string]string{"wrapper": "#!/bin/sh\nexport WRAPPED=\"$1\"\nexec \"$@\"\n", "plain": "no script"})
	code := map[string]string{"app.py": "import os, sys\ndef handler(event, context): return os.environ['WRAPPED'] == sys.executable"}
	wrapper := func(path string) func(*runtime.Artifact, *runtime.Limits) {
		return func(a *runtime.Artifact, _ *runtime.Limits) {
			a.Layers, a.Env = []string{layer}, map[string]string{"AWS_LAMBDA_EXEC_WRAPPER": path}
		}
	}
	answer(t, pythonFunction(t, new(recorder), "", code, wrapper("/opt/wrapper")), "{}", "true")
	for _, path := range []string{"/opt/plain", "/opt/nothing", "/var/task/app.py", "/bin/sh"} {
		_, err := handler(t, new(recorder), runtime.KindPython, "", code, wrapper(path))
		if want := "AWS_LAMBDA_EXEC_WRAPPER of function f names \"" + path + "\", which is no executable of its package or layers: give a path below /var/task or /opt"; !errs.Is(err, errs.Invalid) || err.Error() != want {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

// Each version gets keys of its own, which are taken back when it is closed.
func TestCredentialsLiveAsLongAsTheVersion(t *testing.T) {
	revoked := 0
	engine := New(Options{Dir: t.TempDir(), Credentials: func(a runtime.Artifact) (Credentials, func()) {
		return Credentials{"key of " + a.Name, "secret", "token"}, func() { revoked++ }
	}})
	f, err := engine.Load(t.Context(), artifact(root(t), nil), runtime.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Env map[string]string }
	if err := json.Unmarshal(invoke(t, f, "", `{"do":"context"}`).Payload, &got); err != nil {
		t.Fatal(err)
	}
	if got.Env["AWS_ACCESS_KEY_ID"] != "key of f" || got.Env["AWS_SECRET_ACCESS_KEY"] != "secret" || got.Env["AWS_SESSION_TOKEN"] != "token" || revoked != 0 {
		t.Errorf("%q, revoked %d times", got.Env, revoked)
	}
	f.Close()
	f.Close()
	if revoked != 1 {
		t.Errorf("revoked %d times, want once", revoked)
	}
	if _, err := engine.Load(t.Context(), artifact(root(t), map[string]string{"INIT": "exit"}), runtime.Limits{}); err == nil || revoked != 2 {
		t.Errorf("after a load that failed: %v, revoked %d times", err, revoked)
	}
}

// The runtimes that we ship are on the disk once, whole, and not written by others.
func TestShippedRuntimes(t *testing.T) {
	dir := t.TempDir()
	e := New(Options{Runtimes: dir})
	path, err := e.shipped("node", "bootstrap.cjs", nodeBootstrap)
	if err != nil || path != filepath.Join(dir, "node", "bootstrap.cjs") {
		t.Fatal(path, err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != string(nodeBootstrap) {
		t.Errorf("%d bytes, %v", len(text), err)
	}
	if list, _ := os.ReadDir(filepath.Dir(path)); len(list) != 1 {
		t.Errorf("the folder holds %v", list)
	}
	os.WriteFile(path, []byte("half"), 0o644) // what a power failure may leave
	if _, err := New(Options{Runtimes: dir}).shipped("node", "bootstrap.cjs", nodeBootstrap); err != nil {
		t.Error(err)
	}
	if text, _ := os.ReadFile(path); string(text) != string(nodeBootstrap) {
		t.Error("a damaged runtime stayed")
	}
}
