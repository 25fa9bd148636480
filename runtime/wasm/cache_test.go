package wasm

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// distinct is a module that differs from the others by its data.
func distinct(n int) []byte {
	return nativeModule(replyOf(), func(m *testModule) { m.data[512] = []byte{byte(n)} })
}

func folders(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestCacheGivesUpWhatWasUsedLongestAgo: five modules in a cache with room for three; the oldest
// ones go, but not the one that a function still runs.
func TestCacheGivesUpWhatWasUsedLongestAgo(t *testing.T) {
	dir := t.TempDir()
	size := func() int64 { // of one compiled module
		probe := New(Options{CacheDir: t.TempDir()})
		defer probe.Close()
		f := load(t, probe, artifact(t, distinct(0)), runtime.Limits{}).(*nativeFunction)
		facts, _ := probe.compiler.cache.look(f.job.hash)
		return facts.Bytes
	}()
	e := New(Options{CacheDir: dir, CacheBytes: 3*size + size/2})
	defer e.Close()
	os.MkdirAll(filepath.Join(dir, "not-a-module"), 0o700)
	var hashes []string
	for i := range 5 {
		f, err := e.Load(t.Context(), artifact(t, distinct(i)), runtime.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, f.(*nativeFunction).job.hash)
		if i > 0 {
			f.Close() // the first one stays in use
		} else {
			defer f.Close()
		}
		old := time.Now().Add(time.Duration(i-10) * time.Hour)
		os.Chtimes(e.compiler.cache.folder(hashes[i]), old, old)
	}
	want := []string{hashes[0], hashes[3], hashes[4], "not-a-module"}
	if got := folders(t, dir); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("left are %q\nwant %q", got, want)
	}
	// One that went compiles again.
	load(t, e, artifact(t, distinct(1)), runtime.Limits{})
	if !slices.Contains(folders(t, dir), hashes[1]) {
		t.Error("a module that was given up did not come back")
	}
}

// A folder of another version, or one that is damaged, is compiled again.
func TestCacheOfAnotherMaker(t *testing.T) {
	e := New(Options{CacheDir: t.TempDir()})
	defer e.Close()
	f := load(t, e, artifact(t, distinct(0)), runtime.Limits{}).(*nativeFunction)
	c := &e.compiler.cache
	path := filepath.Join(c.folder(f.job.hash), factsFile)
	if _, ok := c.look(f.job.hash); !ok {
		t.Fatal("the control: what was compiled is not known")
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var facts cacheFacts
	if err := json.Unmarshal(good, &facts); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*cacheFacts){
		"another maker":        func(f *cacheFacts) { f.Maker = "0 wazero v0" },
		"code of another size": func(f *cacheFacts) { f.Bytes++ },
		"no code":              func(f *cacheFacts) { f.Code = "wazero/none" },
		"a way out":            func(f *cacheFacts) { f.Code = "../" + filepath.Base(c.folder(f.Maker)) },
	} {
		changed := facts
		change(&changed)
		b, _ := json.Marshal(changed)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, ok := c.look(f.job.hash); ok {
			t.Errorf("%s is believed", name)
		}
		if _, err := e.compiler.compile(t.Context(), f.job); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, ok := c.look(f.job.hash); !ok {
			t.Errorf("%s: compiling again did not help", name)
		}
	}
}

// A module that is refused leaves nothing behind.
func TestRefusedModulesAreNotKept(t *testing.T) {
	dir := t.TempDir()
	e := New(Options{CacheDir: dir})
	defer e.Close()
	if _, err := e.Load(t.Context(), artifact(t, []byte("text")), runtime.Limits{}); err == nil {
		t.Fatal("text was loaded")
	}
	if got := folders(t, dir); len(got) != 0 {
		t.Errorf("left are %q", got)
	}
}

// A module that the scan lets through costs its compile job no more than its limits: the kernel ends
// the job, and nothing is left of it.
func TestCompileJobsAreBounded(t *testing.T) {
	if raceEnabled {
		t.Skip("processes of the race detector have no memory limit, and compile for minutes; run without -race")
	}
	const opMul, opStore, opLoad = 0x7e, 0x37, 0x29
	step := slices.Concat(i32(8), code(opLoad, 3, 0), i64(1<<40), code(opMul))
	body := slices.Concat(i32(0), i64(1), bytes.Repeat(slices.Concat(step, code(opMul)), 500), code(opStore, 3, 0))
	bomb := artifact(t, nativeModule(replyOf(), func(m *testModule) {
		for range 3000 {
			m.funcs = append(m.funcs, testFunc{typ: typeVoid, body: body})
		}
	}))
	for name, lower := range map[string]func(*compiler){
		"processor time": func(c *compiler) { c.cpuSeconds = func(int64) uint64 { return 1 } },
		"memory":         func(c *compiler) { c.dataBytes = 64 << 20 },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			e := New(Options{CacheDir: dir})
			defer e.Close()
			lower(e.compiler)
			_, err := e.Load(t.Context(), bomb, runtime.Limits{})
			if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), `compiling module "fn" took more than its limits of`) {
				t.Errorf("err = %v, want that the limits were passed", err)
			}
			if got := folders(t, dir); len(got) != 0 {
				t.Errorf("left are %q", got)
			}
		})
	}
	if testing.Short() {
		return
	}
	load(t, newEngine(t, &recorder{}), bomb, runtime.Limits{}) // the control: with the usual limits it compiles
}
