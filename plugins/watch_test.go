package plugins

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestWhatIsNotForUs(t *testing.T) {
	h := newHost(t)
	for _, name := range []string{".hidden.wasm", "upper.wasm.part", "upper.wasm.tmp", "upper.wasm~"} {
		h.write(name, wasm("unfit"))
	}
	h.open()
	h.quiet()
	if l := h.r.List(); len(l) != 0 {
		t.Errorf("ignored files became %v", l)
	}
	if err := os.Rename(filepath.Join(h.dir, "upper.wasm.tmp"), filepath.Join(h.dir, "other.wasm")); err != nil {
		t.Fatal(err)
	}
	h.expect("refused other other.wasm: function other does not export shardmill_process: build it with the SDK")
}

func TestForeignFilesAreRefusedOnce(t *testing.T) {
	h := newHost(t)
	h.write("notes.txt", "1")
	h.write("README", "1")
	h.write("upper.json", "{}")
	h.write("upper.wasm", wasm("1"))
	h.write("\x1b]0;x\x07", "")
	h.open()
	h.expect("refused  notes.txt: notes.txt is not a plugin: "+accepted,
		"refused README README: README is neither an ELF file nor a script that starts with #!: "+accepted,
		"refused  upper.json: upper.json is not a plugin; if it is a manifest, name it upper.yaml",
		`refused  \x1b]0;x\a: \x1b]0;x\a does not give a function name: use 1 to 64 of the characters a-z, A-Z, 0-9, - and _ before the extension`,
		"loaded upper")
	h.write("notes.txt", "2")
	h.write("README", "2")
	h.quiet()
	if l := h.r.List(); len(l) != 1 || l[0].Name != "upper" || l[0].Reason != "" {
		t.Errorf("List = %v, want upper alone", l)
	}
	if got := h.answer("README"); got != "Function not found: arn:aws:lambda:us-east-1:000000000000:function:README" {
		t.Errorf("README: %s", got)
	}
	h.remove("notes.txt")
	h.remove("README")
	h.quiet()
	h.write("README", "3") // a new file, and news
	h.expect("refused README README: README is neither an ELF file nor a script that starts with #!: " + accepted)
}

func TestSomethingElseInThePlaceOfAPluginLeavesItServing(t *testing.T) {
	h := newHost(t)
	h.write("upper", script)
	h.open()
	h.expect("loaded upper")
	h.write("upper", "some text")
	reason := "upper is neither an ELF file nor a script that starts with #!: " + accepted
	h.expect("refused upper upper: " + reason)
	if i := h.r.List()[0]; i.State != Active || i.Reason != reason || h.answer("upper") != script {
		t.Errorf("info %+v", i)
	}
	h.remove("upper")
	if err := syscall.Mkfifo(filepath.Join(h.dir, "upper"), 0o644); err != nil {
		t.Fatal(err)
	}
	h.expect("refused upper upper: upper is a named pipe, not a file: " + accepted)
	if h.answer("upper") != script {
		t.Error("a pipe ended the function")
	}
}

func TestAFileIsNotReadHalfWay(t *testing.T) {
	h := newHost(t)
	tune := quick
	tune.settle = 500 * time.Millisecond // far more than the pauses of the writer
	r, err := open(t.Context(), h.o, tune)
	if err != nil {
		t.Fatal(err)
	}
	h.r = r
	defer r.Close()
	f, err := os.Create(filepath.Join(h.dir, "upper.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.WriteString(wasm(""))
	for range 40 {
		f.WriteString(strings.Repeat("x", 1000))
		time.Sleep(5 * time.Millisecond)
	}
	h.expect("loaded upper")
	if n := h.wasm.loads.Load(); n != 1 || len(h.answer("upper")) != 8+40_000 {
		t.Errorf("%d loads, %d bytes; want one load of all the bytes", n, len(h.answer("upper")))
	}
}

func TestAnEntryThatChangedSinceTheLookIsNotTaken(t *testing.T) {
	for what, c := range map[string]struct {
		change func(folder string) error
		again  bool
	}{
		"nothing":         {func(string) error { return nil }, false}, // the control
		"a file more":     {func(f string) error { return os.WriteFile(f+"/more", nil, 0o644) }, true},
		"a file less":     {func(f string) error { return os.Remove(f + "/data") }, true},
		"no bootstrap":    {func(f string) error { return os.Remove(f + "/bootstrap") }, true},
		"other content":   {func(f string) error { return os.WriteFile(f+"/data", []byte("y"), 0o644) }, true},
		"other mode":      {func(f string) error { return os.Chmod(f+"/data", 0o755) }, true},
		"a file now":      {func(f string) error { os.Rename(f, f+".tmp"); return os.WriteFile(f, nil, 0o644) }, true},
		"a link now":      {func(f string) error { os.Rename(f, f+".tmp"); return os.Symlink(f+".tmp", f) }, true},
		"a link inside":   {func(f string) error { os.Remove(f + "/data"); return os.Symlink("/etc/passwd", f+"/data") }, true},
		"gone":            {os.RemoveAll, true},
		"directory gone":  {func(f string) error { return os.RemoveAll(filepath.Dir(f)) }, true},
		"directory moved": {func(f string) error { return os.Rename(filepath.Dir(f), filepath.Dir(f)+".away") }, true},
	} {
		t.Run(what, func(t *testing.T) {
			h := newHost(t).open()
			h.r.watch.stop()
			folder := filepath.Join(h.dir, "upper")
			os.Mkdir(folder, 0o755)
			os.WriteFile(folder+"/bootstrap", []byte(script), 0o755)
			os.WriteFile(folder+"/data", []byte("x"), 0o644)
			if err := h.r.watch.scan.observe(time.Now()); err != nil {
				t.Fatal(err)
			}
			seen := *h.r.watch.scan.entries["upper"]
			seen.with(nil)
			if err := c.change(folder); err != nil {
				t.Fatal(err)
			}
			if again := h.r.update(t.Context(), &seen); again != c.again || h.exe.loads.Load() == 1 == c.again {
				t.Errorf("update = %v after %d loads, want %v", again, h.exe.loads.Load(), c.again)
			}
			if _, rest := h.versions(); fmt.Sprint(rest) != "[lock]" {
				t.Errorf("the store holds %v", rest)
			}
		})
	}
}

// Whatever a folder goes through, in the end its last content serves and nothing was refused.
func TestAFolderThatChangesAllTheTime(t *testing.T) {
	h := newHost(t).open()
	folder := filepath.Join(h.dir, "upper")
	os.Mkdir(folder, 0o755)
	os.WriteFile(filepath.Join(folder, "bootstrap"), []byte(script), 0o755)
	past := time.Now().Add(-time.Hour)
	for i := range 2000 {
		name := filepath.Join(folder, fmt.Sprint("f", i%50))
		os.WriteFile(name, []byte(fmt.Sprint(i)), 0o644)
		os.Chtimes(name, past, past) // pretends to have been finished long ago
		os.Remove(filepath.Join(folder, fmt.Sprint("f", (i+25)%50)))
		os.Chtimes(folder, past, past)
	}
	os.WriteFile(filepath.Join(folder, "bootstrap"), []byte(script+"last"), 0o755)
	for e := range h.events {
		if strings.HasPrefix(e, "refused") {
			t.Fatal(e)
		}
		if h.answer("upper") == script+"last" {
			return
		}
	}
}

func TestTheDirectoryMayVanishAndComeBack(t *testing.T) {
	h := newHost(t)
	h.write("upper.wasm", wasm("1"))
	h.write("lower.wasm", wasm("2"))
	h.open()
	h.expect("loaded upper", "loaded lower")
	away := h.dir + ".away"
	if err := os.Rename(h.dir, away); err != nil {
		t.Fatal(err)
	}
	h.expect("directory the plugin directory DIR cannot be read; the functions loaded from it go on serving: no such file or directory")
	if h.answer("upper") != wasm("1") {
		t.Error("upper went with the directory")
	}
	os.Remove(filepath.Join(away, "lower.wasm"))
	if err := os.Rename(away, h.dir); err != nil {
		t.Fatal(err)
	}
	h.expect("directory <nil>", "removed lower", "closed lower <nil>")
	if h.answer("upper") != wasm("1") || h.wasm.loads.Load() != 2 {
		t.Error("upper was loaded again, or went")
	}
	if err := os.RemoveAll(h.dir); err != nil { // for good, and made anew
		t.Fatal(err)
	}
	for e := range h.events {
		if strings.HasPrefix(e, "directory the plugin directory") {
			break
		}
		t.Log("while it was removed:", e) // the file may be seen to go before the directory does
	}
	if err := os.Mkdir(h.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h.write("fresh.wasm", wasm("3"))
	for e := range h.events {
		if e == "loaded fresh" {
			break
		}
	}
	if h.answer("fresh") != wasm("3") {
		t.Error("the directory that was made anew is not watched")
	}
}

func TestADirectoryThatEverybodyCanWriteToIsPointedOut(t *testing.T) {
	h := newHost(t)
	if err := os.Chmod(h.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	h.open()
	h.expect("directory everybody on this machine can put programs into the plugin directory DIR, and they will run: chmod o-w it")
}

// Without events of the file system, polling finds everything.
func TestPollingAloneFindsChanges(t *testing.T) {
	h := newHost(t).open()
	h.r.watch.notify.Remove(h.dir) // what a network file system amounts to
	h.write("upper.wasm", wasm("1"))
	h.expect("loaded upper")
	h.remove("upper.wasm")
	h.expect("removed upper", "closed upper <nil>")
}

// With events, no poll is needed.
func TestEventsAloneFindChanges(t *testing.T) {
	h := newHost(t)
	tune := quick
	tune.poll = time.Hour
	r, err := open(t.Context(), h.o, tune)
	if err != nil {
		t.Fatal(err)
	}
	h.r = r
	defer r.Close()
	h.write("upper.wasm", wasm("1"))
	h.expect("loaded upper")
	h.remove("upper.wasm")
	h.expect("removed upper", "closed upper <nil>")
}

func TestASlowLoadHoldsUpNobodyElse(t *testing.T) {
	h := newHost(t).open()
	h.exe.gate = make(chan struct{})
	for i := range 3 {
		h.write(fmt.Sprint("slow", i), script)
	}
	h.write("upper.wasm", wasm("1"))
	h.expect("loaded upper")
	close(h.exe.gate)
	h.expect("loaded slow0", "loaded slow1", "loaded slow2")
}
