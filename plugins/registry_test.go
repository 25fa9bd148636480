package plugins

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

func TestEveryFormBecomesAFunctionWithinTwoSeconds(t *testing.T) {
	h := newHost(t)
	r, err := Open(t.Context(), h.o) // with the standard patience
	if err != nil {
		t.Fatal(err)
	}
	h.r = r
	defer r.Close()
	start := time.Now()
	os.WriteFile(filepath.Join(h.dir, "module.wasm"), []byte(wasm("1")), 0o644)
	os.WriteFile(filepath.Join(h.dir, "program"), []byte(script), 0o600)
	os.Mkdir(filepath.Join(h.dir, "folder"), 0o755)
	os.WriteFile(filepath.Join(h.dir, "folder", "bootstrap"), []byte(script+"folder"), 0o644)
	os.WriteFile(filepath.Join(h.dir, "packed.zip"), zipOf(t, file("bootstrap", script+"zip")), 0o644)
	os.WriteFile(filepath.Join(h.dir, "packed-module.zip"), zipOf(t, file("x.wasm", wasm("2")), file("LICENSE", "MIT")), 0o644)
	h.expect("loaded module", "loaded program", "loaded folder", "loaded packed", "loaded packed-module")
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %s, want at most 2 s", took)
	}
	for name, want := range map[string]string{"module": wasm("1"), "program": script, "folder": script + "folder",
		"packed": script + "zip", "packed-module": wasm("2")} {
		if got := h.answer(name); got != want {
			t.Errorf("%s answers %q, want %q", name, got, want)
		}
	}
	for _, f := range h.exe.loaded {
		if info, err := os.Stat(filepath.Join(f.artifact.Path, "bootstrap")); err != nil || info.Mode() != 0o755 {
			t.Errorf("bootstrap of %s: %v %v, want mode 0755", f.artifact.Name, info.Mode(), err)
		}
	}
}

func TestTheEngineGetsACopyWithItsNames(t *testing.T) {
	h := newHost(t)
	h.write("upper.wasm", wasm(""))
	h.open()
	sha := "93a44bbb96c751218e4c00d479e4c14358122a389acca16205b1e4d0dc5f9476" // sha256sum upper.wasm
	want := runtime.Artifact{Name: "upper", ARN: "arn:aws:lambda:us-east-1:000000000000:function:upper", Kind: runtime.KindWasm,
		Path: filepath.Join(h.o.Versions, sha, "module.wasm"), Version: sha, Region: "us-east-1", Account: "000000000000",
		Endpoint: "http://127.0.0.1:4566"}
	if got := h.wasm.loaded[0].artifact; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("artifact\n%v, want\n%v", got, want)
	}
	wantInfo := Info{Name: "upper", ARN: want.ARN, Kind: runtime.KindWasm, Version: sha, State: Active, Limits: runtime.Limits{}.Defaults()}
	if got := h.r.List(); len(got) != 1 || !reflect.DeepEqual(got[0], wantInfo) {
		t.Errorf("List = %v, want %v", got, wantInfo)
	}
	if info, _ := os.Stat(h.o.Versions); info.Mode().Perm() != 0o700 {
		t.Errorf("the versions store has mode %v, want 0700", info.Mode())
	}
}

func TestOpenReturnsWithEverythingLoaded(t *testing.T) {
	h := newHost(t)
	for i := range 20 {
		h.write(fmt.Sprintf("f%d.wasm", i), wasm(fmt.Sprint(i)))
	}
	h.write("broken.wasm", wasm("unfit"))
	os.WriteFile(filepath.Join(h.dir, "fresh.wasm"), []byte(wasm("fresh")), 0o644) // has not rested yet
	h.open()
	if n := len(h.r.List()); n != 22 {
		t.Fatalf("%d functions after Open, want 22", n)
	}
	if got := h.answer("fresh"); got != wasm("fresh") {
		t.Errorf("fresh answers %q", got)
	}
}

func TestOpenThatIsCancelledGivesEverythingBack(t *testing.T) {
	h := newHost(t)
	h.write("slow.wasm", wasm(""))
	h.wasm.gate = make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for h.wasm.loads.Load() == 0 {
			time.Sleep(time.Millisecond) // a poll: the engine tells nobody
		}
		cancel()
	}()
	if _, err := open(ctx, h.o, quick); !errors.Is(err, context.Canceled) {
		t.Fatalf("err = %v, want context.Canceled", err)
	}
	close(h.wasm.gate)
	h.open() // the store was given back
	h.expect("loaded slow")
}

func TestAFunctionThatIsLoadingForTheFirstTimeIsPending(t *testing.T) {
	h := newHost(t).open()
	h.wasm.gate = make(chan struct{})
	h.write("slow.wasm", wasm(""))
	for h.wasm.loads.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if got := h.r.List()[0].State; got != Pending {
		t.Errorf("state %s, want Pending", got)
	}
	_, _, err := h.r.Function("slow")
	wantErr(t, err, errs.InUse, "function slow is being loaded for the first time: try again")
	close(h.wasm.gate)
	h.expect("loaded slow")
}

func TestTouchingWithoutChangeDoesNothing(t *testing.T) {
	h := newHost(t)
	h.write("upper.wasm", wasm("1"))
	h.write("broken.wasm", wasm("unfit"))
	h.write("short.wasm", "\x00as")
	h.open()
	loads := h.wasm.loads.Load()
	for range 3 {
		h.write("upper.wasm", wasm("1"))
		h.write("broken.wasm", wasm("unfit"))
		h.write("short.wasm", "\x00as")
		drainEvents(h)
		h.quiet()
		loads++ // quiet's own
	}
	if got := h.wasm.loads.Load(); got != loads {
		t.Errorf("%d loads, want %d", got, loads)
	}
}

// drainEvents forgets the events of Open.
func drainEvents(h *host) {
	for {
		select {
		case <-h.events:
		default:
			return
		}
	}
}

func TestAVersionThatDoesNotLoadLeavesTheOldOneServing(t *testing.T) {
	h := newHost(t)
	h.write("upper.wasm", wasm("1"))
	h.open()
	h.expect("loaded upper")
	h.write("upper.wasm", wasm("unfit"))
	reason := "function upper does not export shardmill_process: build it with the SDK"
	h.expect("refused upper upper.wasm: " + reason)
	if got := h.answer("upper"); got != wasm("1") {
		t.Errorf("upper answers %q, want the old version", got)
	}
	if i := h.r.List()[0]; i.State != Active || i.Reason != reason {
		t.Errorf("state %s, reason %q; want Active and the refusal", i.State, i.Reason)
	}
	h.quiet() // it is not tried again
	h.write("upper.wasm", wasm("2"))
	h.expect("swapped upper", "closed upper <nil>")
	if i := h.r.List()[0]; i.Reason != "" || h.answer("upper") != wasm("2") {
		t.Errorf("after a good version: %+v", i)
	}
	h.write("upper.wasm", wasm("unfit"))
	h.expect("refused upper upper.wasm: " + reason)
	h.write("upper.wasm", wasm("2")) // back to what serves: no load, and the reason goes
	h.quiet()
	if i := h.r.List()[0]; i.Reason != "" {
		t.Errorf("reason %q after the good file came back", i.Reason)
	}
}

func TestAFunctionThatNeverLoadedSaysWhy(t *testing.T) {
	h := newHost(t)
	h.write("upper.wasm", wasm("unfit"))
	h.open()
	_, _, err := h.r.Function("upper")
	wantErr(t, err, errs.Unavailable, "function upper has no version that can be used: "+
		"function upper does not export shardmill_process: build it with the SDK")
	if i := h.r.List()[0]; i.State != Failed || i.Version != "" || i.Kind != 0 {
		t.Errorf("info %+v, want Failed", i)
	}
}

func TestAFaultOfTheHostIsTriedAgainAtATouch(t *testing.T) {
	h := newHost(t)
	h.write("upper.wasm", wasm("1"))
	h.wasm.refusal = errs.New(errs.Unavailable, "no process could be started")
	h.open()
	h.expect("refused upper upper.wasm: no process could be started")
	h.write("upper.wasm", wasm("1"))
	h.expect("refused upper upper.wasm: no process could be started")
	h.wasm.mu.Lock()
	h.wasm.refusal = nil
	h.wasm.mu.Unlock()
	h.write("upper.wasm", wasm("1"))
	h.expect("loaded upper")
}

func TestWithoutAnEngineTheRefusalNamesTheKind(t *testing.T) {
	h := newHost(t)
	h.o.Engines = nil
	h.write("upper.wasm", wasm("1"))
	h.write("tool", script)
	h.open()
	h.expect("refused upper upper.wasm: function upper cannot run: this host has no engine for WebAssembly modules",
		"refused tool tool: function tool cannot run: this host has no engine for executables")
}

func TestAnUnlinkFollowedByACreateDoesNotInterrupt(t *testing.T) {
	h := newHost(t)
	h.write("upper.wasm", wasm("1"))
	tune := quick
	tune.settle = time.Hour // what is absent now is not gone for long
	r, err := open(t.Context(), h.o, tune)
	if err != nil {
		t.Fatal(err)
	}
	h.r = r
	defer r.Close()
	h.expect("loaded upper")
	h.remove("upper.wasm")
	h.write("other.wasm", wasm("")) // finished long ago and renamed in: taken at once
	h.expect("loaded other")        // so the absence of upper was seen
	if got := h.answer("upper"); got != wasm("1") {
		t.Errorf("upper answers %q", got)
	}
}

func TestTwoEntriesThatClaimOneNameAreBothRefused(t *testing.T) {
	h := newHost(t)
	h.write("upper.wasm", wasm("1"))
	h.open()
	h.expect("loaded upper")
	h.write("upper.zip", string(zipOf(t, file("bootstrap", script))))
	reason := "upper.wasm and upper.zip claim the function name upper: keep one of them"
	h.expect("refused upper upper.wasm: "+reason, "refused upper upper.zip: "+reason)
	if i := h.r.List()[0]; h.answer("upper") != wasm("1") || i.Reason != reason || i.State != Active {
		t.Errorf("during the clash: %+v", i)
	}
	h.write("upper", script)
	reason = "upper and upper.wasm and upper.zip claim the function name upper: keep one of them"
	h.expect("refused upper upper: "+reason, "refused upper upper.wasm: "+reason, "refused upper upper.zip: "+reason)
	h.remove("upper")
	h.remove("upper.wasm")
	h.expect("swapped upper", "closed upper <nil>")
	if i := h.r.List()[0]; h.answer("upper") != script || i.Reason != "" {
		t.Errorf("after the clash: %+v", i)
	}
}

func TestAnotherFormMayTakeOverWithoutAClash(t *testing.T) {
	h := newHost(t)
	h.write("upper.wasm", wasm("1"))
	tune := quick
	tune.settle = time.Hour // what lies side by side for less is no clash
	r, err := open(t.Context(), h.o, tune)
	if err != nil {
		t.Fatal(err)
	}
	h.r = r
	defer r.Close()
	h.expect("loaded upper")
	h.write("upper.zip", string(zipOf(t, file("bootstrap", script))))
	h.write("other.wasm", wasm(""))
	h.expect("loaded other") // so both forms of upper were seen
	h.remove("upper.wasm")
	h.expect("swapped upper", "closed upper <nil>")
	if got := h.answer("upper"); got != script {
		t.Errorf("upper answers %q, want the zip's", got)
	}
}

func TestAClashFromTheStartLoadsNeither(t *testing.T) {
	h := newHost(t)
	h.write("upper.wasm", wasm("1"))
	h.write("upper", script)
	h.open()
	reason := "upper and upper.wasm claim the function name upper: keep one of them"
	h.expect("refused upper upper: "+reason, "refused upper upper.wasm: "+reason)
	_, _, err := h.r.Function("upper")
	wantErr(t, err, errs.Unavailable, "function upper has no version that can be used: "+reason)
	h.remove("upper")
	h.expect("loaded upper")
}

func TestOpenRefusesWhatCannotWork(t *testing.T) {
	dir := t.TempDir()
	notDir := filepath.Join(dir, "file")
	os.WriteFile(notDir, nil, 0o644)
	good := Options{Dir: filepath.Join(dir, "p"), Versions: filepath.Join(dir, "v"), Region: "us-east-1", Account: "000000000000"}
	for want, change := range map[string]func(*Options){
		"no plugin directory was given: set Dir":                                                                                  func(o *Options) { o.Dir = "" },
		"no versions store was given: set Versions to a directory outside " + good.Dir:                                            func(o *Options) { o.Versions = "" },
		`region "" is not a region: give one like us-east-1`:                                                                      func(o *Options) { o.Region = "" },
		`account "1234" is not an account: give 12 digits`:                                                                        func(o *Options) { o.Account = "1234" },
		"the plugin directory " + notDir + " cannot be created: not a directory":                                                  func(o *Options) { o.Dir = notDir },
		"the plugin directory " + good.Dir + " and the versions store " + good.Dir + "/v lie within one another: keep them apart": func(o *Options) { o.Versions = good.Dir + "/v" },
	} {
		o := good
		change(&o)
		_, err := Open(t.Context(), o)
		wantErr(t, err, errs.Invalid, want)
	}
}

func wantErr(t *testing.T, err error, kind errs.Kind, want string) {
	t.Helper()
	if err == nil || !errs.Is(err, kind) || err.Error() != want {
		t.Errorf("err = %v (%v)\nwant %s (%v)", err, errs.KindOf(err), want, kind)
	}
}
