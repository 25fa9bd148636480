package lambda

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/runtime"
)

// javaRoot is a task root with the handler of testdata/java, compiled, and the client's jars in lib.
func javaRoot(t testing.TB) string {
	t.Helper()
	needs(t, "java")
	needs(t, "javac")
	dir := os.Getenv("SHARDMILL_JAVA_RIC")
	if dir == "" {
		dir = "../../.bin/java-ric"
	}
	jars, _ := filepath.Glob(filepath.Join(dir, "*.jar"))
	if len(jars) == 0 {
		t.Skip("needs the runtime interface client for Java: run scripts/install-java-ric.sh")
	}
	root := t.TempDir()
	cmd := exec.Command("javac", "-d", root, "-cp", strings.Join(jars, ":"), "testdata/java/Handler.java")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Mkdir(filepath.Join(root, "lib"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, jar := range jars {
		text, err := os.ReadFile(jar)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "lib", filepath.Base(jar)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestJavaHandlers(t *testing.T) {
	if testing.Short() {
		t.Skip("a Java process takes a second to start")
	}
	path := javaRoot(t)
	load := func(handler string, rec *recorder) (runtime.Function, error) {
		a := artifact(path, nil)
		a.Kind, a.Handler = runtime.KindJava, handler
		f, err := New(Options{Dir: t.TempDir(), Events: rec.events()}).Load(t.Context(), a, runtime.Limits{Concurrency: 1, Memory: 512 << 20, InitTimeout: time.Minute})
		if err == nil {
			t.Cleanup(func() { f.Close() })
		}
		return f, err
	}
	var rec recorder
	f, err := load("demo.Handler", &rec)
	if err != nil {
		t.Fatal(err)
	}
	res := invoke(t, f, "0b6c5e4e-2f6d-4d0e-9c0a-000000000001", `{"who":"me"}`)
	var got map[string]any
	if err := json.Unmarshal(res.Payload, &got); err != nil || res.FunctionError != "" {
		t.Fatalf("%s, %v", res.Payload, err)
	}
	if got["got"] != "me" || got["id"] != "0b6c5e4e-2f6d-4d0e-9c0a-000000000001" || got["function"] != "f" || got["memory"] != 512.0 || !regexp.MustCompile(`^AWS_Lambda_java\d+$`).MatchString(got["env"].(string)) {
		t.Errorf("%s", res.Payload)
	}
	rec.wait(t, "the log line", rec.has("0b6c5e4e-2f6d-4d0e-9c0a-000000000001: hello me"))
	res = invoke(t, f, "", `{"fail":"boom"}`)
	if want := `{"errorMessage":"boom","errorType":"java.lang.IllegalStateException","stackTrace":["demo.Handler.handleRequest(Handler.java:12)"`; !strings.HasPrefix(string(res.Payload), want) || res.FunctionError != "Unhandled" {
		t.Errorf("got %s, want %s…", res.Payload, want)
	}
	if f, err = load("demo.Handler::method", new(recorder)); err != nil {
		t.Fatal(err)
	}
	answer(t, f, `"text"`, `"TEXT"`)
	if f, err = load("demo.Nowhere", new(recorder)); err != nil { // the client looks for the class with the first event
		t.Fatal(err)
	}
	if res = invoke(t, f, "", "{}"); res.FunctionError != "Unhandled" || !strings.Contains(string(res.Payload), "Class not found: demo.Nowhere") {
		t.Errorf("got %s", res.Payload)
	}
	if _, err = load("", new(recorder)); err == nil || err.Error() != "function f is a Java handler, and nothing says its name: put a manifest beside it, with handler: package.Class::method" {
		t.Errorf("got %v", err)
	}
}
