package plugins

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// versions lists the store.
func (h *host) versions() (shas, rest []string) {
	h.t.Helper()
	list, err := os.ReadDir(h.o.Versions)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, d := range list {
		if versionName.MatchString(d.Name()) {
			shas = append(shas, d.Name())
		} else {
			rest = append(rest, d.Name())
		}
	}
	return shas, rest
}

func TestTheLastTwoUnusedVersionsAreKept(t *testing.T) {
	h := newHost(t)
	h.write("upper.wasm", wasm("0"))
	h.open()
	h.expect("loaded upper")
	_, release, err := h.r.Function("upper")
	if err != nil {
		t.Fatal(err)
	}
	first := h.r.List()[0].Version
	var shas []string
	for i := 1; i <= 5; i++ {
		h.write("upper.wasm", wasm(fmt.Sprint(i)))
		if h.expect("swapped upper"); i > 1 {
			h.expect("closed upper <nil>")
		}
		shas = append(shas, h.r.List()[0].Version)
	}
	h.quiet() // whose own version counts as one that was used last
	exists := func(sha string) bool { _, err := os.Stat(filepath.Join(h.o.Versions, sha)); return err == nil }
	if !exists(first) {
		t.Error("a leased version was removed")
	}
	if exists(shas[0]) || exists(shas[1]) || !exists(shas[3]) || !exists(shas[4]) {
		t.Error("want the version that serves and the one before it, and none of the old")
	}
	release()
	h.expect("closed upper <nil>")
	h.r.Close()
	if got, rest := h.versions(); len(got) != 3 || len(rest) != 1 {
		t.Errorf("the store holds %v and %v, want the version that served, two unused, and the lock", got, rest)
	}
}

func TestTwoFunctionsMayShareAVersion(t *testing.T) {
	h := newHost(t)
	h.write("a.wasm", wasm("1"))
	h.write("b.wasm", wasm("1"))
	h.open()
	h.expect("loaded a", "loaded b")
	h.remove("a.wasm")
	h.expect("removed a", "closed a <nil>")
	for i := range 4 { // enough to push an unused version out
		name := fmt.Sprintf("x%d", i)
		h.write(name+".wasm", wasm(name))
		h.expect("loaded " + name)
		h.remove(name + ".wasm")
		h.expect("removed "+name, "closed "+name+" <nil>")
	}
	if _, err := os.Stat(h.wasm.loaded[0].artifact.Path); err != nil {
		t.Error("the version of b went with a:", err)
	}
}

func TestWhatAnEarlierProcessLeftIsNotBelieved(t *testing.T) {
	h := newHost(t)
	h.write("upper.wasm", wasm("1"))
	h.open()
	h.expect("loaded upper")
	sha := h.r.List()[0].Version
	h.r.Close()
	h.expect("closed upper <nil>")
	path := filepath.Join(h.o.Versions, sha, moduleFile)
	os.WriteFile(path, nil, 0o644) // what a power failure can leave
	os.MkdirAll(filepath.Join(h.o.Versions, "tmp-killed/task"), 0o755)
	for i := range 5 {
		old := filepath.Join(h.o.Versions, strings.Repeat(fmt.Sprint(i), 64))
		os.Mkdir(old, 0o755)
		at := time.Now().Add(-time.Duration(i) * time.Hour)
		os.Chtimes(old, at, at)
	}
	h.open()
	h.expect("loaded upper")
	if got := h.answer("upper"); got != wasm("1") {
		t.Errorf("upper answers %q: the spoilt version was used", got)
	}
	h.r.Close()
	shas, rest := h.versions()
	slices.Sort(shas)
	want := []string{strings.Repeat("0", 64), strings.Repeat("1", 64), sha}
	slices.Sort(want)
	if fmt.Sprint(shas) != fmt.Sprint(want) || fmt.Sprint(rest) != "[lock]" {
		t.Errorf("the store holds %v and %v, want %v and the lock", shas, rest, want)
	}
}

func TestAStoreBelongsToOneHost(t *testing.T) {
	h := newHost(t).open()
	other := h.o
	other.Dir = t.TempDir()
	_, err := Open(t.Context(), other)
	wantErr(t, err, errs.InUse, "the versions store "+h.o.Versions+" is in use by another host: give each host its own: resource temporarily unavailable")
	h.r.Close()
	r, err := Open(t.Context(), other)
	if err != nil {
		t.Fatal("after the other closed:", err)
	}
	r.Close()
}

const killedHost = "SHARDMILL_TEST_KILLED_HOST"

// TestMain makes this binary a host that is there to be killed, if it is told to be one.
func TestMain(m *testing.M) {
	if base := os.Getenv(killedHost); base != "" {
		o := Options{Dir: filepath.Join(base, "plugins"), Versions: filepath.Join(base, "versions"), Region: "us-east-1", Account: "000000000000",
			Engines: []runtime.Engine{&fakeEngine{kind: runtime.KindBootstrap}}}
		fmt.Println("opening")
		if _, err := open(context.Background(), o, quick); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("opened")
		select {}
	}
	os.Exit(m.Run())
}

func TestAKillAtAnyMomentLeavesAStoreThatOpens(t *testing.T) {
	h := newHost(t)
	folder := filepath.Join(h.dir, "upper")
	os.Mkdir(folder, 0o755)
	for i := range 200 {
		os.WriteFile(filepath.Join(folder, fmt.Sprint("data", i)), []byte(strings.Repeat("x", 10_000)), 0o644)
	}
	os.WriteFile(filepath.Join(folder, "bootstrap"), []byte(script), 0o755)
	base := filepath.Dir(h.dir)
	h.o.Versions = filepath.Join(base, "versions")
	os.Mkdir(h.o.Versions, 0o700)
	partials := 0
	for i := range 12 {
		host := exec.Command(os.Args[0])
		host.Env = append(os.Environ(), killedHost+"="+base)
		out, err := host.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := host.Start(); err != nil {
			t.Fatal(err)
		}
		io.ReadFull(out, make([]byte, len("opening\n")))
		time.Sleep(time.Duration(i) * 2 * time.Millisecond) // the moment of the kill, not a wait for something
		host.Process.Kill()
		host.Wait()
		if _, rest := h.versions(); len(rest) > 1 {
			partials++
		}
	}
	t.Logf("%d of 12 kills left a version half-written", partials)
	h.open()
	h.expect("loaded upper")
	if got := h.answer("upper"); got != script {
		t.Errorf("upper answers %q", got)
	}
	list, err := os.ReadDir(h.exe.loaded[0].artifact.Path)
	if err != nil || len(list) != 201 {
		t.Errorf("the task root has %d files (%v), want 201", len(list), err)
	}
	h.r.Close()
	if shas, rest := h.versions(); len(shas) != 1 || fmt.Sprint(rest) != "[lock]" {
		t.Errorf("the store holds %v and %v, want one version and the lock", shas, rest)
	}
}
