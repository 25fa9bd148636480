package sdk

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/runtime/wasm"
)

func TestMain(m *testing.M) {
	wasm.WorkerMain()
	os.Exit(m.Run())
}

// What a new project of Go has as its SDK is sdk/go.
func TestTheCopyForGoIsOne(t *testing.T) {
	copies, err := filepath.Glob("scaffold/go/shardmill/*")
	if err != nil || len(copies) != 3 {
		t.Fatal(copies, err)
	}
	sources, _ := filepath.Glob("go/*.go")
	if len(sources) != len(copies) {
		t.Errorf("sdk/go has the files %q, the scaffold %q", sources, copies)
	}
	for _, path := range copies {
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		source := filepath.Join("go", strings.TrimSuffix(filepath.Base(path), ".txt"))
		want, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("%s differs from %s: copy it", path, source)
		}
	}
}

func TestProjectsThatCannotBe(t *testing.T) {
	if _, err := Project("cobol", "x"); !errs.Is(err, errs.Invalid) || err.Error() != `there is no SDK for "cobol"; there is one for assemblyscript, c, go, rust, zig` {
		t.Error(err)
	}
	for _, name := range []string{"", "a/b", "..", "A", "9", "a b", strings.Repeat("a", 65)} {
		if _, err := Project("c", name); !errs.Is(err, errs.Invalid) {
			t.Errorf("the name %q: %v", name, err)
		}
	}
}

// Every language's new project builds with its own build.sh, and the module drops empty records and
// ends the others with a newline.
func TestNewProjectsBuildAndRun(t *testing.T) {
	tools := map[string][]string{"c": {"clang", "wasm-ld"}, "go": {"go"}, "rust": {"cargo"}, "assemblyscript": {"asc"}, "zig": {"zig"}}
	bin, err := filepath.Abs("../.bin")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", strings.Join([]string{bin + "/zig/ziglang", bin + "/assemblyscript/node_modules/.bin", os.Getenv("PATH")}, ":"))
	for _, lang := range Languages() {
		t.Run(lang, func(t *testing.T) {
			if testing.Short() && (lang == "go" || lang == "zig") {
				t.Skip("compiling takes seconds of processor time")
			}
			for _, tool := range tools[lang] {
				if _, err := exec.LookPath(tool); err != nil {
					t.Skipf("%s is needed to build a project in %s: %v", tool, lang, err)
				}
			}
			dir := t.TempDir()
			project, err := Project(lang, "first-one")
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range project {
				path := filepath.Join(dir, filepath.FromSlash(f.Name))
				os.MkdirAll(filepath.Dir(path), 0o755)
				if err := os.WriteFile(path, f.Data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			build := exec.CommandContext(t.Context(), "sh", "build.sh")
			build.Dir = dir
			build.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false", "CARGO_TARGET_DIR="+filepath.Join(dir, "target"))
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			transforms(t, filepath.Join(dir, "first-one.wasm"))
		})
	}
}

func transforms(t *testing.T, module string) {
	e := wasm.New(wasm.Options{CacheDir: t.TempDir()})
	defer e.Close()
	f, err := e.Load(t.Context(), runtime.Artifact{Name: "first-one", Kind: runtime.KindWasm, Path: module}, runtime.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := runtime.RecordBatch{Records: []runtime.InRecord{{Data: []byte("one")}, {}, {Data: []byte("two")}}}
	var out runtime.ProcessedBatch
	if err := f.(runtime.RecordProcessor).Process(t.Context(), &in, &out); err != nil {
		t.Fatal(err)
	}
	want := []runtime.OutRecord{{Index: 0, Data: []byte("one\n")}, {Index: 1, Status: runtime.Dropped}, {Index: 2, Data: []byte("two\n")}}
	if !slices.EqualFunc(out.Records, want, func(a, b runtime.OutRecord) bool {
		return a.Index == b.Index && a.Status == b.Status && string(a.Data) == string(b.Data)
	}) {
		t.Errorf("answers %v, want %v", out.Records, want)
	}
}
