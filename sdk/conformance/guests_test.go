package conformance

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shardmill/shardmill/examples/earthquakes"
	"github.com/shardmill/shardmill/internal/goguest"
	"github.com/shardmill/shardmill/runtime"
)

var update = flag.Bool("update", false, "build the kept guests again")

// guest is a program of the kit. Small ones are kept built beside their sources, so that they run
// where there is no compiler for them.
type guest struct {
	name  string
	abi   string // or "severity" for the example of an SDK
	sdk   string // folder of sources beside the guest's own; "" for none
	kept  bool
	needs []string // tools; see find
	build func(t *testing.T, dir, out string)
}

var guests = []guest{
	{"c", "native", "../c", true, []string{"clang", "wasm-ld"}, buildC},
	{"rust", "native", "../rust", true, []string{"cargo", "wasm32-unknown-unknown"}, buildRust},
	{"assemblyscript", "native", "../assemblyscript", true, []string{"asc"}, buildAssemblyScript},
	{"zig", "native", "../zig", true, []string{"zig"}, buildZig},
	{"go", "native", "../go", false, []string{"go"}, buildGo},
	{"stdio-c", "stdio", "", true, []string{"clang", "wasm-ld"}, buildC},
	{"stdio-rust", "stdio", "", true, []string{"cargo", "wasm32-wasip1"}, buildRust},
	{"stdio-go", "stdio", "", false, []string{"go"}, buildStdioGo},
	{"pull-c", "pull", "../c", true, []string{"clang", "wasm-ld"}, buildC},
	{"pull-go", "pull", "", false, []string{"go"}, buildGo},
	{"severity-rust", "severity", "../rust", true, []string{"cargo", "wasm32-unknown-unknown"}, buildRust},
	{"severity-assemblyscript", "severity", "../assemblyscript", true, []string{"asc"}, buildAssemblyScript},
	{"severity-zig", "severity", "../zig", true, []string{"zig"}, buildZig},
	{"severity-go", "severity", "../go", false, []string{"go"}, buildGo},
}

// find is where a tool is: on the PATH or where scripts/install-sdks.sh puts it. A name with
// wasm32 is a target of Rust.
func find(name string) (string, error) {
	switch {
	case strings.HasPrefix(name, "wasm32-"):
		out, err := exec.Command("rustc", "--print", "target-libdir", "--target", name).Output()
		if err == nil {
			_, err = os.Stat(strings.TrimSpace(string(out)))
		}
		return "", err
	case name == "asc" || name == "zig":
		path, _ := filepath.Abs(map[string]string{"asc": "../../.bin/assemblyscript/node_modules/.bin/asc", "zig": "../../.bin/zig/ziglang/zig"}[name])
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return exec.LookPath(name)
}

func (g guest) source() string {
	if g.abi == "severity" {
		return filepath.Join(g.sdk, "examples", "severity")
	}
	return filepath.Join("guests", g.name)
}
func (g guest) keptAt() string { return filepath.Join("guests", g.name+".wasm") }

// built builds the guest into the test's folder.
func (g guest) built(t *testing.T) string {
	t.Helper()
	for _, tool := range g.needs {
		if _, err := find(tool); err != nil {
			t.Skipf("%s is needed to build the guest: %v", tool, err)
		}
	}
	out := filepath.Join(t.TempDir(), g.name+".wasm")
	g.build(t, g.source(), out)
	return out
}

func run(t *testing.T, dir string, env []string, name string, args ...string) {
	t.Helper()
	path, err := find(name)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

func buildC(t *testing.T, dir, out string) {
	run(t, dir, nil, "clang", "--target=wasm32", "-O2", "-nostdlib", "-mbulk-memory", "-Wall", "-Wextra", "-Werror",
		"-I", "../../../c", "-Wl,--no-entry,--strip-all", "-o", out, "guest.c")
}

func buildRust(t *testing.T, dir, out string) {
	target := "wasm32-unknown-unknown"
	if strings.HasPrefix(filepath.Base(dir), "stdio") {
		target = "wasm32-wasip1"
	}
	work := t.TempDir()
	run(t, dir, []string{"CARGO_TARGET_DIR=" + work, "RUSTFLAGS=--remap-path-prefix=" + os.Getenv("HOME") + "=~"}, "cargo", "build", "--quiet", "--release", "--offline", "--target", target)
	copyFile(t, filepath.Join(work, target, "release", "guest.wasm"), out)
}

func buildAssemblyScript(t *testing.T, dir, out string) {
	run(t, dir, nil, "asc", "guest.ts", "-o", out, "-O3", "--runtime", "incremental")
}

func buildZig(t *testing.T, dir, out string) {
	work := t.TempDir()
	sdk, err := filepath.Abs("../zig/shardmill.zig")
	if err != nil {
		t.Fatal(err)
	}
	run(t, dir, []string{"ZIG_LOCAL_CACHE_DIR=" + work}, "zig", "build-exe", "-target", "wasm32-freestanding",
		"-fno-entry", "-rdynamic", "-O", "ReleaseFast", "-fstrip", "--dep", "shardmill", "-Mroot=guest.zig", "-Mshardmill="+sdk, "-femit-bin="+out)
}

// buildGo builds as "shardmill plugin build" does.
func buildGo(t *testing.T, dir, out string) {
	if _, err := goguest.Build(t.Context(), dir, out); err != nil {
		t.Fatal(err)
	}
}

func buildStdioGo(t *testing.T, dir, out string) {
	run(t, dir, []string{"GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=-buildvcs=false"}, "go", "build", "-ldflags=-s -w", "-o", out, ".")
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func runGuest(t *testing.T, module, abi string) {
	switch abi {
	case "native":
		runBatches(t, module)
	case "severity":
		runSeverity(t, module)
	default:
		runEvents(t, module, abi)
	}
}

// runSeverity compares an example with the one in C, which has tests of its own in runtime/wasm.
func runSeverity(t *testing.T, module string) {
	var in runtime.RecordBatch
	for _, line := range strings.SplitAfter(string(earthquakes.Feed), "\n") {
		in.Records = append(in.Records, runtime.InRecord{Data: []byte(line)})
		if n := len(in.Records); n%7 == 0 { // and what is cut off or changed
			in.Records = append(in.Records, runtime.InRecord{Data: []byte(line[:len(line)*(n%50)/50])},
				runtime.InRecord{Data: []byte(strings.Replace(line, `"mag":`, `"mag": "x`, 1))}, runtime.InRecord{Data: []byte(strings.Replace(line, `"mag":`, `"a\\\"":`, 1))})
		}
	}
	var want, got runtime.ProcessedBatch
	for path, out := range map[string]*runtime.ProcessedBatch{"../../examples/earthquakes/severity/severity.wasm": &want, module: &got} {
		_, f := load(t, path, "")
		if err := f.(runtime.RecordProcessor).Process(t.Context(), &in, out); err != nil {
			t.Fatal(err)
		}
	}
	if len(got.Records) != len(want.Records) || len(got.Records) != len(in.Records) {
		t.Fatalf("%d answers to %d records, the module in C gives %d", len(got.Records), len(in.Records), len(want.Records))
	}
	statuses := map[runtime.Status]int{}
	for i, r := range want.Records {
		statuses[r.Status]++
		if g := got.Records[i]; g.Status != r.Status || string(g.Data) != string(r.Data) {
			t.Fatalf("the record %s: %d %s, want %d %s", in.Records[i].Data, g.Status, g.Data, r.Status, r.Data)
		}
	}
	if len(statuses) != 3 {
		t.Errorf("the records lead to the statuses %v only", statuses)
	}
}

// TestKeptGuests runs the guests that are in the tree.
func TestKeptGuests(t *testing.T) {
	for _, g := range guests {
		if g.kept {
			t.Run(g.name, func(t *testing.T) { runGuest(t, g.keptAt(), g.abi) })
		}
	}
}

// TestBuiltGuests builds every guest with its own compiler and runs it.
func TestBuiltGuests(t *testing.T) {
	for _, g := range guests {
		t.Run(g.name, func(t *testing.T) {
			if testing.Short() && (!g.kept || g.abi != "native") {
				t.Skip("compiling takes seconds of processor time")
			}
			runGuest(t, g.built(t), g.abi)
		})
	}
}

// TestKeptGuestsAreOfTheirSources fails when a guest or its SDK changed and the module that is kept
// did not. -update builds it again.
func TestKeptGuestsAreOfTheirSources(t *testing.T) {
	const list = "guests/kept.json"
	kept := map[string]string{}
	if b, err := os.ReadFile(list); err == nil {
		if err := json.Unmarshal(b, &kept); err != nil {
			t.Fatal(err)
		}
	}
	now := map[string]string{}
	for _, g := range guests {
		if !g.kept {
			continue
		}
		if now[g.name] = hashOf(t, g); *update && now[g.name] != kept[g.name] {
			copyFile(t, g.built(t), g.keptAt())
		}
	}
	if *update {
		b, _ := json.MarshalIndent(now, "", "  ")
		if err := os.WriteFile(list, append(b, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !maps.Equal(kept, now) {
		t.Errorf("the sources of kept guests changed: go test ./sdk/conformance -run KeptGuestsAre -update builds them again\n%v\n%v", kept, now)
	}
	for name := range kept {
		if info, err := os.Stat(filepath.Join("guests", name+".wasm")); err != nil || info.Size() > 100<<10 {
			t.Errorf("%s: %v; a kept guest has at most 100 KiB", name, err)
		}
	}
}

// hashOf hashes the sources of a guest and of its SDK.
func hashOf(t *testing.T, g guest) string {
	h := sha256.New()
	dirs := []string{g.source()}
	if g.sdk != "" {
		dirs = append(dirs, g.sdk)
	}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			ext := filepath.Ext(path)
			if err != nil || !slices.Contains([]string{".c", ".h", ".rs", ".toml", ".ts", ".zig"}, ext) || dir == g.sdk && strings.Contains(path, "examples") {
				return err
			}
			b, err := os.ReadFile(path)
			rel, _ := filepath.Rel(dir, path)
			fmt.Fprintf(h, "%s %d\n%s", filepath.ToSlash(rel), len(b), b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// TestOtherGuest runs the module that -guest names.
func TestOtherGuest(t *testing.T) {
	if *otherGuest == "" {
		return
	}
	f, err := os.Open(*otherGuest)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	runGuest(t, *otherGuest, *otherABI)
}
