package plugins

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/runtime"
)

// rename moves what lies in the plugin folder.
func (h *host) rename(from, to string) {
	h.t.Helper()
	if err := os.Rename(filepath.Join(h.dir, from), filepath.Join(h.dir, to)); err != nil {
		h.t.Fatal(err)
	}
}

// lay writes files below the plugin folder.
func (h *host) lay(content map[string]string) {
	h.t.Helper()
	for name, text := range content {
		path := filepath.Join(h.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			h.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			h.t.Fatal(err)
		}
	}
}

func TestAManifestReachesTheEngine(t *testing.T) {
	h := newHost(t)
	h.o.Limits = runtime.Limits{Concurrency: 2, Timeout: time.Minute}
	h.write("upper.yaml", "environment: {STAGE: prod}\ntimeout: 3s\nabi: stdio\ngrants: {state: true}")
	h.write("upper.wasm", wasm("1"))
	h.open()
	h.expect("loaded upper")
	a := h.wasm.loaded[0].artifact
	if a.Env["STAGE"] != "prod" || a.ABI != "stdio" || !a.Grants.State || len(a.Version) != 64 {
		t.Errorf("the engine got %+v", a)
	}
	i := h.r.List()[0]
	if i.Version != a.Version || i.Limits != (runtime.Limits{Concurrency: 2, Timeout: 3 * time.Second}).Defaults() {
		t.Errorf("List tells %+v", i)
	}
}

func TestAChangedManifestIsANewVersion(t *testing.T) {
	h := newHost(t)
	h.write("upper.wasm", wasm("1"))
	h.open()
	h.expect("loaded upper")
	bare := h.r.List()[0].Version
	h.write("upper.yaml", "timeout: 3s")
	h.expect("swapped upper", "closed upper <nil>")
	first := h.r.List()[0].Version
	h.write("upper.yaml", "timeout: 4s")
	h.expect("swapped upper", "closed upper <nil>")
	second := h.r.List()[0].Version
	h.write("upper.yaml", "timeout: 4s") // touched
	h.quiet()
	if bare == first || first == second {
		t.Errorf("versions %.8s, %.8s, %.8s; want three", bare, first, second)
	}
	if got := h.r.List()[0].Limits.Timeout; got != 4*time.Second {
		t.Errorf("timeout %s", got)
	}
	h.write("upper.yaml", "timout: 4s")
	h.expect("refused upper upper.wasm: upper.yaml:1: a manifest has no key timout; did you mean timeout?")
	if i := h.r.List()[0]; i.State != Active || i.Version != second || i.Reason != "upper.yaml:1: a manifest has no key timout; did you mean timeout?" {
		t.Errorf("%+v", i)
	}
	h.remove("upper.yaml")
	h.expect("swapped upper", "closed upper <nil>")
	if got := h.r.List()[0]; got.Version != bare || got.Reason != "" {
		t.Errorf("without the manifest: %+v", got)
	}
}

func TestAManifestWithoutAPluginIsTold(t *testing.T) {
	const told = "refused  upper.yaml: upper.yaml has no plugin beside it: put upper.wasm, upper.zip, upper.py … there, or remove it"
	h := newHost(t)
	h.write("upper.yaml", "timeout: 3s")
	h.open()
	h.expect(told)
	h.quiet()
	h.write("upper.wasm", wasm("1"))
	h.expect("loaded upper")
	h.remove("upper.wasm")
	h.expect("removed upper", "closed upper <nil>", told)
	if got := h.answer("upper"); !strings.HasPrefix(got, "Function not found: ") {
		t.Errorf("upper answers %q", got)
	}
}

func TestLayers(t *testing.T) {
	h := newHost(t)
	h.lay(map[string]string{".layers/a/python/x.py": "1", "upper.yaml": "layers: [.layers/a, .layers/b.zip]"})
	h.write(".layers/b.zip", string(zipOf(t, file("bin/tool", script))))
	h.write("upper", script)
	h.open()
	h.expect("loaded upper")
	a := h.exe.loaded[0].artifact
	if len(a.Layers) != 2 {
		t.Fatalf("layers %q", a.Layers)
	}
	for i, name := range []string{"python/x.py", "bin/tool"} {
		if _, err := os.Stat(filepath.Join(a.Layers[i], name)); err != nil {
			t.Error(err)
		}
	}
	h.lay(map[string]string{".layers/a/python/x.py": "2"})
	h.expect("swapped upper", "closed upper <nil>")
	if again := h.exe.loaded[1].artifact; again.Version == a.Version || again.Layers[0] == a.Layers[0] || again.Layers[1] != a.Layers[1] || again.Path != a.Path {
		t.Errorf("after a change of the first layer: %+v, before %+v", again, a)
	}
	h.remove(".layers/b.zip")
	h.expect("refused upper upper: layer .layers/b.zip cannot be read: put it into the plugin folder, at this path: no such file or directory")
	if got := h.answer("upper"); got != script {
		t.Errorf("upper answers %q", got)
	}
	if err := os.Symlink("/etc", filepath.Join(h.dir, ".layers/link")); err != nil {
		t.Fatal(err)
	}
	h.write("upper.yaml", "layers: [.layers/link/ssl]")
	h.expect("refused upper upper: layer .layers/link/ssl has a link or a file where a folder must be: links are never followed")
	h.write("upper.yaml", "layers: [.layers/a/python/x.py]")
	h.expect("refused upper upper: layer .layers/a/python/x.py is neither a folder nor a .zip archive")
}

func TestAPinnedFile(t *testing.T) {
	sum := sha256.Sum256([]byte(wasm("1")))
	h := newHost(t)
	h.write("upper.yaml", "sha256: "+hex.EncodeToString(sum[:]))
	h.write("upper.wasm", wasm("1"))
	h.open()
	h.expect("loaded upper")
	h.write("upper.wasm", wasm("2"))
	other := sha256.Sum256([]byte(wasm("2")))
	h.expect(fmt.Sprintf("refused upper upper.wasm: upper.yaml:1: sha256 is not that of upper.wasm, which has %x: the file is not the one that was meant, or the manifest is out of date", other))
	if got := h.answer("upper"); got != wasm("1") {
		t.Errorf("upper answers %q", got)
	}
	packed := zipOf(t, file("bootstrap", script))
	sum = sha256.Sum256(packed)
	h.write("packed.yaml", "sha256: "+hex.EncodeToString(sum[:]))
	h.write("packed.zip", string(packed))
	h.expect("loaded packed")
	h.write("folder.yaml", "sha256: "+hex.EncodeToString(sum[:]))
	h.lay(map[string]string{".aside/bootstrap": script})
	h.rename(".aside", "folder")
	h.expect("refused folder folder: folder.yaml:1: sha256 pins one file, and folder is a folder: pack it, or remove the key")
}

func TestAManifestInsideAPackage(t *testing.T) {
	h := newHost(t)
	h.write("in.zip", string(zipOf(t, file("bootstrap", script), file("shardmill.yaml", "timeout: 3s"))))
	h.open()
	h.expect("loaded in")
	if got := h.r.List()[0].Limits.Timeout; got != 3*time.Second {
		t.Errorf("timeout %s", got)
	}
	h.write("in.yaml", "timeout: 4s")
	h.expect("refused in in.zip: in.zip has a manifest at its root (shardmill.yaml) and one beside it: leave one")
	h.remove("in.yaml")
	h.quiet()
	h.write("in.zip", string(zipOf(t, file("bootstrap", script), file("shardmill.yaml", "layers: [a]"))))
	h.expect("refused in in.zip: in.zip/shardmill.yaml:1: layers lie in the plugin folder: name them in NAME.yaml beside the package")
}

func TestEventSourcesAreForWhoRunsThem(t *testing.T) {
	const text = "event-sources: [{stream: quakes, starting-position: LATEST}]"
	h := newHost(t)
	h.write("upper.yaml", text)
	h.write("upper.wasm", wasm("1"))
	h.open()
	h.expect("refused upper upper.wasm: upper.yaml:1: event-sources has no effect on this host, which runs no event source mappings: remove it")
	h.r.Close()
	h.o.EventSources = true
	h.open()
	h.expect("loaded upper")
	if got := h.r.List()[0].EventSources; len(got) != 1 || got[0].Stream != "quakes" || got[0].BatchSize != 100 {
		t.Errorf("%+v", got)
	}
}

// What the files of a package make it, alone and with a manifest.
func TestFormsOfPackages(t *testing.T) {
	for what, c := range map[string]struct {
		entry    string
		files    []item
		manifest string
		kind     runtime.ArtifactKind
		want     string // the refusal
	}{
		"bootstrap":          {"up.zip", []item{file("bootstrap", script)}, "", runtime.KindBootstrap, ""},
		"index.js":           {"up.zip", []item{file("index.js", ""), file("node_modules/x/y.py", "")}, "", runtime.KindNode, ""},
		"index.mjs":          {"up.zip", []item{file("index.mjs", ""), file("index.cjs", "")}, "", runtime.KindNode, ""},
		"app.py":             {"up.zip", []item{file("app.py", "")}, "", runtime.KindPython, ""},
		"lambda_function.py": {"up.zip", []item{file("lambda_function.py", "")}, "", runtime.KindPython, ""},
		"client jar":         {"up.zip", []item{file("lib/aws-lambda-java-runtime-interface-client-2.9.0.jar", ""), file("lib/x.jar", "")}, "handler: a.B::c", runtime.KindJava, ""},
		"one jar":            {"up.jar", []item{file(javaClientClass, ""), file("a/B.class", "")}, "handler: a.B::c", runtime.KindJava, ""},
		"java, no handler":   {"up.jar", []item{file(javaClientClass, "")}, "timeout: 3s", 0, "up.yaml names no handler, and a Java function has no default: say handler: package.Class::method"},
		"by handler, node":   {"up.zip", []item{file("src/main.js", "")}, "handler: src/main.run", runtime.KindNode, ""},
		"by handler, python": {"up.zip", []item{file("src/main.py", "")}, "handler: src.main.run", runtime.KindPython, ""},
		"by runtime":         {"up.zip", []item{file("x", "")}, "runtime: nodejs\nhandler: x.y", runtime.KindNode, ""},
		"two forms":          {"up.zip", []item{file("bootstrap", script), file("index.js", "")}, "", 0, "up.zip can be started in more than one way, by bootstrap (provided) and index.js (nodejs): leave one, or choose with a line such as runtime: provided in a manifest"},
		"two, chosen":        {"up.zip", []item{file("bootstrap", script), file("index.js", "")}, "runtime: provided", runtime.KindBootstrap, ""},
		"two, a module":      {"up.zip", []item{file("a.wasm", wasm("")), file("app.py", "")}, "", 0, "up.zip can be started in more than one way, by a.wasm (wasm) and app.py (python): leave one, or choose with a line such as runtime: provided in a manifest"},
		"two, by abi":        {"up.zip", []item{file("a.wasm", wasm("")), file("app.py", "")}, "abi: stdio", runtime.KindWasm, ""},
		"nothing":            {"up.zip", []item{file("README", "")}, "", 0, "up.zip has nothing at its root to start it by: " + rootForms},
		"too deep":           {"up.zip", []item{file("up/app.py", "")}, "", 0, `up.zip has nothing at its root to start it by, but app.py in the folder "up": pack that folder's content: ` + rootForms},
		"no bootstrap":       {"up.zip", []item{file("x", "")}, "runtime: provided", 0, "up.zip has no file bootstrap at its root, which runtime provided starts"},
		"key of modules":     {"up.zip", []item{file("app.py", "")}, "abi: stdio", 0, "up.yaml:1: abi is for WebAssembly modules, and this plugin is a Lambda handler: remove it"},
	} {
		t.Run(what, func(t *testing.T) {
			h := newHost(t)
			engines := map[runtime.ArtifactKind]*fakeEngine{}
			h.o.Engines = nil
			for k := runtime.KindWasm; k <= runtime.KindJava; k++ {
				engines[k] = &fakeEngine{kind: k}
				h.o.Engines = append(h.o.Engines, engines[k])
			}
			if c.manifest != "" {
				h.write("up.yaml", c.manifest)
			}
			h.write(c.entry, string(zipOf(t, c.files...)))
			h.open()
			if c.want != "" {
				h.expect("refused up " + c.entry + ": " + c.want)
				return
			}
			h.expect("loaded up")
			if n := engines[c.kind].loads.Load(); n != 1 || h.r.List()[0].Kind != c.kind {
				t.Errorf("%s was loaded %d times, and the plugin is %s", c.kind, n, h.r.List()[0].Kind)
			}
		})
	}
}

func TestSingleSourceFiles(t *testing.T) {
	for name, want := range map[string]struct {
		kind runtime.ArtifactKind
		file string
	}{
		"up.js": {runtime.KindNode, "index.js"}, "up.mjs": {runtime.KindNode, "index.mjs"}, "up.cjs": {runtime.KindNode, "index.cjs"},
		"up.py": {runtime.KindPython, "lambda_function.py"},
	} {
		h := newHost(t)
		engine := &fakeEngine{kind: want.kind}
		h.o.Engines = []runtime.Engine{engine}
		h.write(name, "code")
		h.write("up.yaml", "runtime: java")
		h.open()
		h.expect("refused up " + name + ": up.yaml:1: runtime is not the one of " + name + ", which is " + want.kind.String() + " by its form: remove it")
		h.write("up.yaml", "handler: a.b")
		h.expect("loaded up")
		a := engine.loaded[0].artifact
		if text, err := os.ReadFile(filepath.Join(a.Path, want.file)); err != nil || string(text) != "code" || a.Handler != "a.b" {
			t.Errorf("%s: %q, %v, handler %q", name, text, err, a.Handler)
		}
	}
}

func TestAFunctionThatFailsToStartIsListed(t *testing.T) {
	h := newHost(t)
	h.write("upper.wasm", wasm("1"))
	h.open()
	h.expect("loaded upper")
	h.wasm.loaded[0].failing.Store(true)
	i := h.r.List()[0]
	if want := (Info{Name: "upper", ARN: i.ARN, Kind: runtime.KindWasm, Version: i.Version, State: Failed, Reason: "no starts", Limits: runtime.Limits{}.Defaults()}); !reflect.DeepEqual(i, want) {
		t.Errorf("got %+v, want %+v", i, want)
	}
}
