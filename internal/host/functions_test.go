package host

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/examples/earthquakes"
	"github.com/shardmill/shardmill/plugins"
)

// TestAFunctionIsPickedUpWhileRecordsFlow: records that come before the function does are errors,
// those that come after are transformed, without a restart of anything.
func TestAFunctionIsPickedUpWhileRecordsFlow(t *testing.T) {
	w := open(t)
	w.create("quakes", "severity", 0)
	if got := w.putOne("quakes", "early"); got != oneFailed {
		t.Fatalf("without a function: %+v, want one failed record", got)
	}
	stop := w.load("quakes", 2)
	w.drop("severity.wasm", earthquakes.Severity)
	_, took := w.awaitActive("severity", "")
	t.Logf("severity.wasm was picked up in %d ms", took.Milliseconds())
	if took > 2*time.Second {
		t.Errorf("the module was picked up after %s, want 2 s at most", took)
	}
	w.awaitDelivered("quakes", 1+len(stop()))
	if got := w.putOne("quakes", "late"); got != oneOk {
		t.Fatalf("with the function: %+v, want one record delivered", got)
	}
	if w.ids("quakes")["late"] != 1 || w.ids("quakes")["early"] != 0 {
		t.Error("the record from before is delivered, or the one from after is not")
	}
}

// TestAGoModuleIsPickedUp: a WASI command built with Go, megabytes of it, takes a while to compile;
// the records that flow do not wait for it.
func TestAGoModuleIsPickedUp(t *testing.T) {
	if testing.Short() {
		t.Skip("compiling a Go module takes seconds of processor time")
	}
	notUnderRace(t)
	w := open(t)
	w.create("quakes", "severity", 0)
	w.create("go", "good", 0)
	w.drop("severity.wasm", earthquakes.Severity)
	w.awaitActive("severity", "")
	w.drop("good.wasm", built(t, guestModule))
	slowest, n := time.Duration(0), 0
	_, took := w.awaitActiveMeanwhile("good", func() {
		start := time.Now()
		if got := w.putOne("quakes", fmt.Sprint("meanwhile-", n)); got != oneOk {
			t.Fatalf("meanwhile: %+v, want one record delivered", got)
		}
		slowest = max(slowest, time.Since(start))
		n++
	})
	t.Logf("a Go module of %d KB was picked up in %d ms; meanwhile %d records went through another function, the slowest in %d ms",
		len(built(t, guestModule))>>10, took.Milliseconds(), n, slowest.Milliseconds())
	if n == 0 || slowest > 5*time.Second {
		t.Errorf("%d records flowed while the module was compiled, the slowest took %s", n, slowest)
	}
	if got := w.putOne("go", "a"); got != oneOk || w.ids("go")["a"] != 1 {
		t.Errorf("through the Go module: %+v, want one record delivered", got)
	}
}

func (w *world) awaitActiveMeanwhile(name string, do func()) (string, time.Duration) {
	start := time.Now()
	for w.function(name).State != plugins.Active {
		if f := w.function(name); f.Reason != "" || time.Since(start) > time.Minute {
			w.t.Fatalf("%s is not active after %s: %s", name, time.Since(start), f.Reason)
		}
		do()
	}
	return w.function(name).Version, time.Since(start)
}

// notUnderRace skips: a worker is this test binary, and wazero built with -race compiles a Go
// module for minutes.
func notUnderRace(t *testing.T) {
	t.Helper()
	if raceEnabled {
		t.Skip("compiling a Go module in a race-enabled worker takes minutes; run without -race")
	}
}

// severityVersion is the plugin with n in a custom section: another version that does the same.
func severityVersion(n byte) []byte {
	return append(slices.Clone(earthquakes.Severity), 0, 3, 1, 'v', n)
}

// TestReplacedUnderLoad: no record fails because its function was replaced, none is lost
// and none is doubled.
func TestReplacedUnderLoad(t *testing.T) {
	replacements := 10
	if testing.Short() {
		replacements = 3
	}
	w := open(t)
	w.drop("severity.wasm", severityVersion(0))
	version, _ := w.awaitActive("severity", "")
	w.create("quakes", "severity", 3)
	stop := w.load("quakes", 2)
	var slowest time.Duration
	for n := range replacements {
		w.drop("severity.wasm", severityVersion(byte(n+1)))
		var took time.Duration
		version, took = w.awaitActive("severity", version)
		slowest = max(slowest, took)
	}
	acked := stop()
	got := w.awaitDelivered("quakes", len(acked))
	t.Logf("%d records over %d replacements, the slowest took %d ms", len(acked), replacements, slowest.Milliseconds())
	if got.Failed != 0 || got.Ok != len(acked) || len(acked) < 100 {
		t.Errorf("of %d records: %+v; want all delivered, of 100 at least", len(acked), got)
	}
	if f := w.failed("quakes"); len(f) != 0 {
		t.Errorf("%d records are in the error output, the first: %+v", len(f), f[0])
	}
	exactlyOnce(t, acked, w.ids("quakes"))
}

func zipOf(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range files {
		f, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// broken is a file that cannot be a version of a function.
type broken struct {
	what, reason string
	content      []byte
}

// TestABrokenReplacementLeavesTheOldOneServing: the old version goes on, and the list of functions
// says what is wrong with the new file. A good file afterwards is taken, and the reason is gone.
func TestABrokenReplacementLeavesTheOldOneServing(t *testing.T) {
	t.Parallel()
	w := open(t)
	other := slices.Clone(built(t, regions))
	other[18], other[19] = 0xf3, 0 // e_machine: RISC-V
	inZip := func(name string, content []byte) []byte { return zipOf(t, map[string][]byte{name: content}) }
	for _, f := range []struct {
		file   string
		good   []byte
		broken []broken
	}{
		{"severity.wasm", earthquakes.Severity, []broken{
			{"truncated", "the module is truncated", earthquakes.Severity[:len(earthquakes.Severity)/2]},
			{"empty", "not a WebAssembly module", nil},
			{"an ELF file", "not a WebAssembly module", []byte("\x7fELF this is no module")},
		}},
		{"regions", built(t, regions), []broken{
			{"of another machine", "riscv64 binary", other},
			{"empty", "neither an ELF", nil},
		}},
		{"zipped.zip", inZip("bootstrap", built(t, regions)), []broken{
			{"a zip bomb", "more than 100 times its packed size", inZip("bootstrap", make([]byte, 4<<20))},
			{"leaving its folder", `"../evil" leaves the archive's folder`, inZip("../evil", []byte("x"))},
			{"empty", "not a zip archive", nil},
		}},
	} {
		t.Run(f.file, func(t *testing.T) {
			if testing.Short() {
				f.broken = f.broken[:1]
			}
			for _, b := range f.broken {
				w.replaceByBroken(t, f.file, f.good, b)
			}
		})
	}
	if _, err := os.Stat(filepath.Join(w.cfg.Data, "evil")); !os.IsNotExist(err) {
		t.Error("an archive wrote outside its folder")
	}
}

func (w *world) replaceByBroken(t *testing.T, file string, good []byte, b broken) {
	name := strings.TrimSuffix(file, filepath.Ext(file))
	w.drop(file, good)
	within(t, 10*time.Second, "good version", func() bool { f := w.function(name); return f.State == plugins.Active && f.Reason == "" })
	version := w.function(name).Version
	if w.sum(name).Records == 0 {
		w.create(name, name, 0)
	}
	w.drop(file, b.content)
	within(t, 10*time.Second, "refusal of a file "+b.what, func() bool { return w.function(name).Reason != "" })
	now := w.function(name)
	if !strings.Contains(now.Reason, b.reason) {
		t.Errorf("%s: the reason %q does not say %q", b.what, now.Reason, b.reason)
	}
	if now.State != plugins.Active || now.Version != version {
		t.Errorf("%s: %s, version %.8s; want Active with version %.8s", b.what, now.State, now.Version, version)
	}
	if got := w.putOne(name, b.what); got != oneOk {
		t.Errorf("%s: %+v, want one record delivered by the old version", b.what, got)
	}
}

// TestARemovedFunctionFailsItsRecords by Firehose's rules: after the retries, as
// Lambda.ResourceNotFound, with the record as it came.
func TestARemovedFunctionFailsItsRecords(t *testing.T) {
	t.Parallel()
	w := open(t)
	w.drop("severity.wasm", earthquakes.Severity)
	w.awaitActive("severity", "")
	w.create("quakes", "severity", 2)
	if got := w.putOne("quakes", "before"); got != oneOk {
		t.Fatalf("before: %+v, want one record delivered", got)
	}
	if err := os.Remove(filepath.Join(w.cfg.Plugins, "severity.wasm")); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "end of the function", func() bool { return w.function("severity").Name == "" })
	if got := w.putOne("quakes", "after"); got != oneFailed {
		t.Fatalf("after: %+v, want one failed record", got)
	}
	f := w.failed("quakes")
	if len(f) != 1 {
		t.Fatalf("%d error records, want 1", len(f))
	}
	if f[0].Code != "Lambda.ResourceNotFound" || f[0].AttemptsMade != 3 || !bytes.Equal(f[0].RawData, event("after")) ||
		f[0].LambdaARN != "arn:aws:lambda:us-east-1:000000000000:function:severity" {
		t.Errorf("error record %+v, raw data %s", f[0], f[0].RawData)
	}
	w.drop("severity.wasm", earthquakes.Severity)
	w.awaitActive("severity", "")
	if got := w.putOne("quakes", "again"); got != oneOk {
		t.Errorf("with the function back: %+v, want one record delivered", got)
	}
}

// TestALambdaHandlerInEveryForm: one executable as a plain file, in a folder and in an archive.
func TestALambdaHandlerInEveryForm(t *testing.T) {
	t.Parallel()
	w := open(t)
	handler := built(t, regions)
	w.drop("plain", handler)
	folder := filepath.Join(w.cfg.Plugins, ".folder")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "bootstrap"), handler, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(folder, filepath.Join(w.cfg.Plugins, "folder")); err != nil {
		t.Fatal(err)
	}
	w.drop("zipped.zip", zipOf(t, map[string][]byte{"bootstrap": handler}))
	for _, name := range []string{"plain", "folder", "zipped"} {
		_, took := w.awaitActive(name, "")
		w.create(name, name, 0)
		if got := w.putOne(name, "x"); got != oneOk {
			t.Errorf("%s: %+v, want one record delivered", name, got)
			continue
		}
		got := lines[json.RawMessage](w, name)
		want := `{"id":"x","mag":4.5,"place":"5km N of Somewhere, Alaska","region":"Alaska"}`
		if len(got) != 1 || string(got[0]) != want {
			t.Errorf("%s: delivered %s, want %s", name, got, want)
		}
		t.Logf("%s: active %d ms after the wait began", name, took.Milliseconds())
	}
}
