package layers

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const module = "github.com/shardmill/shardmill/"

// floors says what each package may import of ours. A package that is not here may not exist.
// "x/..." allows x and everything below it. Tests may import more: they tie packages together.
var floors = map[string][]string{
	// 0: nothing, or almost
	"internal/errs":                {},
	"internal/sigv4":               {},
	"internal/kpl":                 {},
	"internal/limits":              {},
	"internal/layers":              {},
	"internal/crashfs":             {},
	"internal/awsapi/jsonscan":     {},
	"internal/awsapi/cbor":         {"internal/awsapi/jsonscan"},
	"internal/awsapi/eventstream":  {"internal/errs", "internal/awsapi/jsonscan"},
	"internal/awsapi":              {"internal/errs", "internal/sigv4", "internal/awsapi/jsonscan", "internal/awsapi/cbor", "internal/awsapi/eventstream"},
	"internal/awsapi/rest":         {"internal/errs", "internal/sigv4", "internal/awsapi"},
	"internal/objects":             {"internal/errs", "internal/sigv4"},
	"internal/objects/objectstest": {"internal/errs", "internal/objects"},
	"internal/objects/s3api":       {"internal/errs", "internal/sigv4", "internal/objects"},
	"internal/nearest":             {},
	"internal/config":              {"internal/errs", "internal/nearest"},
	"internal/localca":             {"internal/errs"},
	"internal/localkms":            {"internal/errs"},
	"internal/policy":              {"internal/errs"},
	"internal/keyfile":             {"internal/errs", "internal/sigv4"},
	"internal/goguest":             {"internal/errs"},
	"sdk":                          {"internal/errs"},
	"sdk/conformance":              {},
	"internal/functionlog":         {"internal/errs"},

	// 1: two ground rooms that do not know each other
	"shards":  {"internal/errs"},
	"runtime": {"internal/errs"},

	// 2: what stands on one ground room
	"shards/journal":       {"internal/errs", "shards"},
	"shards/metrics":       {"shards"},
	"runtime/wasm":         {"internal/errs", "runtime"},
	"runtime/lambda":       {"internal/errs", "runtime"},
	"plugins/manifest":     {"internal/errs", "internal/nearest", "runtime"},
	"plugins":              {"internal/errs", "runtime", "plugins/manifest"},
	"firehose/keys":        {"internal/errs"},
	"firehose/compress":    {"internal/errs"},
	"firehose/lambdaevent": {},
	"firehose":             {"internal/errs", "internal/kpl", "shards", "runtime", "firehose/lambdaevent"},

	// 3: destinations
	"firehose/destinations/s3": {"internal/errs", "internal/objects", "firehose", "firehose/keys", "firehose/compress"},
	"firehose/destinations":    {"internal/errs", "internal/objects", "firehose", "firehose/destinations/..."},

	"plugins/eventsource": {"internal/errs", "internal/kpl", "shards", "runtime"},

	"plugins/eventsource/onfailure": {"internal/errs", "internal/objects", "shards", "runtime", "firehose", "plugins/eventsource"},

	// 4: the wire
	"shards/kinesisapi":    {"internal/errs", "internal/policy", "internal/awsapi/...", "shards"},
	"plugins/lambdaapi":    {"internal/errs", "internal/sigv4", "internal/awsapi", "internal/awsapi/rest", "runtime", "plugins", "plugins/eventsource"},
	"firehose/firehoseapi": {"internal/errs", "internal/awsapi/...", "shards", "firehose", "firehose/destinations/s3"},
	"plugins/pluginsapi":   {"internal/functionlog", "internal/sigv4", "plugins"},
	"internal/httpd":       {"internal/objects/s3api"},

	// 5 and 6: the host ties everything together, the command opens a host
	"internal/host":                {"..."},
	"cmd/shardmill":                {"internal/errs", "internal/config", "internal/host", "internal/limits", "internal/sigv4", "internal/awsapi/cbor", "internal/awsapi/eventstream", "runtime/wasm", "firehose", "plugins", "plugins/pluginsapi", "examples/earthquakes", "internal/goguest", "sdk"},
	"examples/earthquakes":         {},
	"examples/earthquakes/regions": {},
}

// root is the module's folder, seen from this package.
const root = "../.."

// file is one Go source file of the module.
type file struct {
	pkg  string // folder relative to the module
	name string
	ast  *ast.File
}

func sources(t *testing.T) (out []file) {
	t.Helper()
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			_, nested := os.Stat(filepath.Join(path, "go.mod"))
			if name := d.Name(); path != root && (strings.HasPrefix(name, ".") || name == "testdata" || nested == nil) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, path, nil, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		out = append(out, file{filepath.ToSlash(rel), filepath.Base(path), f})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("only %d source files were found: the walk is broken", len(out))
	}
	return out
}

func allowed(list []string, pkg string) bool {
	for _, a := range list {
		if a == pkg || a == "..." {
			return true
		}
		if base, tree := strings.CutSuffix(a, "/..."); tree && (pkg == base || strings.HasPrefix(pkg, base+"/")) {
			return true
		}
	}
	return false
}

func TestImportsGoDownTheHouse(t *testing.T) {
	for _, f := range sources(t) {
		if strings.HasSuffix(f.name, "_test.go") {
			continue
		}
		list, known := floors[f.pkg]
		if !known {
			t.Errorf("package %s has no place in the house: give it a floor in this test and in docs/ARCHITECTURE.md", f.pkg)
			continue
		}
		for _, imp := range f.ast.Imports {
			path, ours := strings.CutPrefix(strings.Trim(imp.Path.Value, `"`), module)
			if ours && !allowed(list, path) {
				t.Errorf("%s/%s imports %s, which its floor does not allow", f.pkg, f.name, path)
			}
		}
	}
}

func TestRuntimeNeverMeansTwoThings(t *testing.T) {
	// What Go's runtime exports and we could be tempted to.
	gos := map[string]bool{}
	for _, n := range []string{"BlockProfile", "Breakpoint", "CPUProfile", "Caller", "Callers", "Error", "Frame", "Frames", "Func", "FuncForPC",
		"GC", "GOARCH", "GOMAXPROCS", "GOOS", "GOROOT", "Goexit", "GoroutineProfile", "Gosched", "KeepAlive", "LockOSThread", "MemProfile",
		"MemProfileRecord", "MemStats", "NumCPU", "NumCgoCall", "NumGoroutine", "Pinner", "ReadMemStats", "ReadTrace", "SetFinalizer", "AddCleanup",
		"Cleanup", "Stack", "StackRecord", "StartTrace", "StopTrace", "ThreadCreateProfile", "TypeAssertionError", "PanicNilError", "UnlockOSThread", "Version"} {
		gos[n] = true
	}
	for _, f := range sources(t) {
		if f.pkg == "runtime" {
			for _, d := range f.ast.Decls {
				for _, name := range declared(d) {
					if gos[name] {
						t.Errorf("package runtime declares %s, a name of Go's runtime", name)
					}
				}
			}
		}
		for _, imp := range f.ast.Imports {
			if imp.Path.Value == `"runtime"` && (imp.Name == nil || imp.Name.Name != "goruntime") {
				t.Errorf("%s/%s imports Go's runtime under its own name: call it goruntime", f.pkg, f.name)
			}
		}
	}
}

// declared lists the names that a top-level declaration introduces, methods excluded.
func declared(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil {
			names = append(names, d.Name.Name)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				names = append(names, s.Name.Name)
			case *ast.ValueSpec:
				for _, n := range s.Names {
					names = append(names, n.Name)
				}
			}
		}
	}
	return names
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	said := map[string]bool{}
	for _, f := range sources(t) {
		if strings.HasSuffix(f.name, "_test.go") {
			continue
		}
		said[f.pkg] = said[f.pkg] || f.ast.Doc != nil && (strings.HasPrefix(f.ast.Doc.Text(), "Package ") || strings.HasPrefix(f.ast.Doc.Text(), "Command "))
	}
	for pkg, ok := range said {
		if !ok {
			t.Errorf("package %s has no package comment", pkg)
		}
	}
}

func TestNoInitAndNoLongFiles(t *testing.T) {
	for _, f := range sources(t) {
		if strings.HasSuffix(f.name, "_test.go") {
			continue
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s/%s has an init function: wire things up in internal/host", f.pkg, f.name)
			}
		}
		b, err := os.ReadFile(filepath.Join(root, f.pkg, f.name))
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(b), "\n"); n > 800 {
			t.Errorf("%s/%s has %d lines: split it along what it does", f.pkg, f.name, n)
		}
	}
}
