package localkms

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/crashfs"
	"github.com/shardmill/shardmill/internal/errs"
)

const (
	account = "111111111111"
	region  = "eu-west-1"
	keyID   = "1234abcd-12ab-34cd-56ef-1234567890ab"
)

func open(t *testing.T, fs vfs.FS) *Service {
	t.Helper()
	s, err := Open("data/keys", Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func number(t *testing.T, s *Service, id string) uint32 {
	t.Helper()
	n, err := s.Number(account, region, id, true)
	if err != nil || n == 0 {
		t.Fatalf("%s has the number %d, %v", id, n, err)
	}
	return n
}

// The four forms of an id name the same key; other names, accounts and regions name others.
func TestNamesOfKeys(t *testing.T) {
	s := open(t, vfs.NewMem())
	for short, arn := range map[string]string{
		keyID:                                  "arn:aws:kms:eu-west-1:111111111111:key/" + keyID,
		"alias/aws/kinesis":                    "arn:aws:kms:eu-west-1:111111111111:alias/aws/kinesis",
		"mrk-1234abcd12ab34cd56ef1234567890ab": "arn:aws-cn:kms:eu-west-1:111111111111:key/mrk-1234abcd12ab34cd56ef1234567890ab",
	} {
		if a, b := number(t, s, short), number(t, s, arn); a != b {
			t.Errorf("%s is the key %08x, its ARN is %08x", short, a, b)
		}
	}
	seen := map[uint32]bool{}
	for _, scope := range [][2]string{{account, region}, {account, "us-east-1"}, {"222222222222", region}} {
		for _, id := range []string{"alias/a", "alias/b"} {
			n, err := s.Number(scope[0], scope[1], id, true)
			if err != nil || seen[n] {
				t.Errorf("%s of %v shares its key with another name, or has none: %v", id, scope, err)
			}
			seen[n] = true
		}
	}
	for id, want := range map[string]error{
		"orders":               errs.New(errs.KeyMissing, "Invalid keyId orders: it is neither a key id, nor an alias that begins with alias/, nor the ARN of one of them."),
		strings.ToUpper(keyID): errs.New(errs.KeyMissing, "Invalid keyId %s: it is neither a key id, nor an alias that begins with alias/, nor the ARN of one of them.", strings.ToUpper(keyID)),
		"arn:aws:kms:us-east-1:111111111111:alias/a": errs.New(errs.KeyMissing, "Key arn:aws:kms:us-east-1:111111111111:alias/a is not in region eu-west-1."),
		"arn:aws:kms:eu-west-1:222222222222:alias/a": errs.New(errs.KeyDenied, "Key arn:aws:kms:eu-west-1:222222222222:alias/a belongs to another account: streams of account 111111111111 can only be encrypted with its own keys."),
	} {
		_, err := s.Number(account, region, id, true)
		if errs.KindOf(err) != errs.KindOf(want) || err.Error() != want.Error() {
			t.Errorf("%s: %v, want %v", id, err, want)
		}
	}
	if n, err := s.Number(account, region, "alias/never", false); n != 0 || err != nil {
		t.Errorf("a key that was only asked for was made: %08x, %v", n, err)
	}
}

func TestSecretsAreKeptAndDiffer(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs)
	a, b := number(t, s, "alias/a"), number(t, s, "alias/b")
	derive := func(s *Service, n uint32, info string) []byte {
		t.Helper()
		out, err := s.Derive(n, info)
		if err != nil || len(out) != 32 {
			t.Fatal(out, err)
		}
		return out
	}
	was := derive(s, a, "x")
	if bytes.Equal(was, derive(s, b, "x")) || bytes.Equal(was, derive(s, a, "y")) {
		t.Error("different keys, or different uses of one, have the same secret")
	}
	s = open(t, fs)
	if n := number(t, s, "alias/a"); n != a || !bytes.Equal(was, derive(s, n, "x")) {
		t.Error("a key is another one after a restart")
	}
	if err := fs.Remove("data/keys/" + fileName(b)); err != nil {
		t.Fatal(err)
	}
	s = open(t, fs)
	if err := s.Usable(b); !errs.Is(err, errs.KeyMissing) {
		t.Errorf("a key whose file is gone: %v", err)
	}
	if number(t, s, "alias/b") == b {
		t.Error("a new key got the number of a lost one")
	}
}

// crashable is a file system with a folder data that survives power cuts.
func crashable(t *testing.T) *vfs.MemFS {
	t.Helper()
	mem := vfs.NewCrashableMem()
	if err := mem.MkdirAll("data", 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := mem.OpenDir("")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(root.Sync(), root.Close()); err != nil {
		t.Fatal(err)
	}
	return mem
}

// A key that was given out survives a power cut at any moment after.
func TestPowerCuts(t *testing.T) {
	survives := func(lie crashfs.Lie) error {
		mem := crashable(t)
		s := open(t, &crashfs.FS{FS: mem, Folder: "keys", Lie: lie})
		n := number(t, s, "alias/a")
		after, err := Open("data/keys", Options{FS: mem.CrashClone(vfs.CrashCloneCfg{})})
		if err != nil {
			return err
		}
		return after.Usable(n)
	}
	if err := survives(nil); err != nil {
		t.Error(err)
	}
	for name, lie := range map[string]crashfs.Lie{
		"file":                 func(_ string, dir, _ bool) bool { return !dir },
		"folder":               func(path string, dir, _ bool) bool { return dir && strings.HasSuffix(path, "keys") },
		"folder of the folder": func(path string, dir, _ bool) bool { return dir && strings.HasSuffix(path, "data") },
	} {
		if err := survives(lie); err == nil {
			t.Errorf("control: without syncing the %s the key survived as well", name)
		}
	}
}

// A crash before any step leaves a folder that can be opened, and a name never has two keys.
func TestCrashesWhileAKeyIsMade(t *testing.T) {
	for steps := 0; ; steps++ {
		mem := crashable(t)
		fs := &crashfs.FS{FS: mem, Folder: "keys"}
		s := open(t, fs)
		left := steps
		fs.Before = func() {
			if left--; left < 0 {
				fs.Killed.Store(true)
			}
		}
		_, err := s.Number(account, region, "alias/a", true)
		fs.Killed.Store(false)
		fs.Before = nil
		if err == nil {
			if steps < 4 {
				t.Fatalf("only %d steps were seen", steps)
			}
			return
		}
		if !errs.Is(err, errs.Unavailable) {
			t.Fatal(err)
		}
		n := number(t, s, "alias/a") // the same host, when it can write again
		for _, after := range []vfs.FS{mem, mem.CrashClone(vfs.CrashCloneCfg{})} {
			if again := open(t, after); number(t, again, "alias/a") != n {
				t.Errorf("after a crash before step %d the name has another key", steps)
			}
		}
	}
}

func TestFilesOfKeysAreForTheirOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	n := number(t, s, "alias/a")
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, fileName(n)): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has the mode %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("the folder holds %v, %v", all, err)
	}
}

func TestDamagedFilesAreNotBelieved(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, fileName(number(t, s, "alias/a")))
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var d map[string]any
	if err := json.Unmarshal(good, &d); err != nil {
		t.Fatal(err)
	}
	change := func(member string, value any) string {
		was := d[member]
		d[member] = value
		text, _ := json.Marshal(d)
		d[member] = was
		return string(text)
	}
	for text, want := range map[string]string{
		"{":                            path + " is damaged: it is not the file of a key; put it back from a backup",
		change("format", 2):            path + " is of format 2, this version reads 1: it was written by a newer shardmill",
		change("secret", "AAAA"):       path + " is damaged: its number, name or secret is not what was written; put it back from a backup",
		change("check", "00"):          path + " is damaged: its number, name or secret is not what was written; put it back from a backup",
		change("number", "00000000"):   path + " is damaged: its number, name or secret is not what was written; put it back from a backup",
		change("number", "00000001"):   path + " holds key arn:aws:kms:eu-west-1:111111111111:alias/a with the number 00000001, which is not its name or is in another file as well: files of keys must not be renamed or copied",
		change("name", "not/an/alias"): path + " is damaged: its number, name or secret is not what was written; put it back from a backup",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, Options{}); err == nil || err.Error() != want {
			t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
		}
	}
}

func FuzzKeyFile(f *testing.F) {
	f.Add([]byte(`{"format":1,"number":"0000000a","account":"111111111111","region":"eu-west-1","name":"alias/a","created":"2026-01-01T00:00:00Z","secret":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","check":"66687aadf862bd77"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if k, err := parseFile("f", text); err == nil && (k.number == 0 || len(k.secret) != secretSize || !isLocal(k.name.local)) {
			t.Errorf("%s was taken as %+v", text, k)
		}
	})
}

func FuzzIDs(f *testing.F) {
	f.Add(keyID)
	f.Add("arn:aws:kms:eu-west-1:111111111111:alias/aws/kinesis")
	f.Fuzz(func(t *testing.T, id string) {
		n, err := parseID(account, region, id)
		if err != nil {
			return
		}
		if again, err := parseID(account, region, n.String()); err != nil || again != n {
			t.Errorf("%s is %s, which is %v, %v", id, n, again, err)
		}
	})
}

func FuzzStates(f *testing.F) {
	f.Add([]byte("keys:\n  - {key: alias/a, state: disabled}\n"))
	f.Fuzz(func(_ *testing.T, text []byte) { parseStates("f", text) })
}

func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "states.yaml")
		write := func(text string) {
			t.Helper()
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(lookInterval)
		}
		write("keys:\n  - {key: alias/a, state: disabled}\n  - {key: 'arn:aws:kms:eu-west-1:111111111111:alias/b', state: missing}\n  - {key: alias/c, state: enabled}\n")
		var told []string
		s, err := Open("keys", Options{FS: vfs.NewMem(), States: path, Events: Events{
			Reloaded: func(keys int) { told = append(told, "reloaded") },
			Failed:   func(err error) { told = append(told, err.Error()) },
		}})
		if err != nil {
			t.Fatal(err)
		}
		use := func(id, region string) error {
			n, err := s.Number(account, region, id, true)
			if err == nil {
				_, err = s.Derive(n, "")
			}
			return err
		}
		is := func(id, region string, kind errs.Kind, sentence string) {
			t.Helper()
			if err := use(id, region); errs.KindOf(err) != kind || err.Error() != sentence {
				t.Errorf("%s in %s: %v, want %s", id, region, err, sentence)
			}
		}
		is("alias/a", "eu-west-1", errs.KeyDisabled, "Key arn:aws:kms:eu-west-1:111111111111:alias/a is disabled.")
		is("alias/a", "us-east-1", errs.KeyDisabled, "Key arn:aws:kms:us-east-1:111111111111:alias/a is disabled.")
		is("alias/b", "eu-west-1", errs.KeyMissing, "Key arn:aws:kms:eu-west-1:111111111111:alias/b does not exist.")
		for id, region := range map[string]string{"alias/b": "us-east-1", "alias/c": "eu-west-1", "alias/d": "eu-west-1"} {
			if err := use(id, region); err != nil {
				t.Error(err)
			}
		}
		for state, want := range map[string]struct {
			kind     errs.Kind
			sentence string
		}{
			"denied":           {errs.KeyDenied, "may not be used by this account."},
			"pending-deletion": {errs.KeyState, "is pending deletion."},
			"opt-in-required":  {errs.KeyOptIn, "cannot be used: the account has no subscription to the key service."},
			"throttled":        {errs.KeyThrottled, "is asked for too often."},
		} {
			write("keys:\n  - {key: alias/d, state: " + state + "}\n")
			is("alias/d", "eu-west-1", want.kind, "Key arn:aws:kms:eu-west-1:111111111111:alias/d "+want.sentence)
		}
		write("keys:\n  - {key: alias/d, state: throttled}\n")
		is("alias/d", "eu-west-1", errs.KeyThrottled, "Key arn:aws:kms:eu-west-1:111111111111:alias/d is asked for too often.")
		told = nil
		write("keys:\n  - {key: alias/d, state: disabled}\n  - {key: d, state: lost}\n  - {key: alias/e, state: lost}\n  - {key: alias/d, state: missing}\n  - {key: alias/f}\n")
		is("alias/d", "eu-west-1", errs.KeyThrottled, "Key arn:aws:kms:eu-west-1:111111111111:alias/d is asked for too often.")
		is("alias/d", "eu-west-1", errs.KeyThrottled, "Key arn:aws:kms:eu-west-1:111111111111:alias/d is asked for too often.")
		want := path + " has changed and is wrong: the states from before stay in use until it is right: " +
			path + `:3: "d" is not a key id, nor an alias that begins with alias/, nor the ARN of one of them` + "\n" +
			path + `:4: "lost" is none of the states enabled, disabled, denied, missing, pending-deletion, opt-in-required, throttled` + "\n" +
			path + `:5: key alias/d has a state already: leave one` + "\n" +
			path + `: entry 5 of keys needs both key and state`
		if len(told) != 1 || told[0] != want {
			t.Errorf("told %q\nwant %q", told, want)
		}
		write("# nothing is wrong any more\n")
		if err := use("alias/d", "eu-west-1"); err != nil {
			t.Error(err)
		}
		if _, err := Open("keys", Options{FS: vfs.NewMem(), States: path + "2"}); !errs.Is(err, errs.Invalid) {
			t.Errorf("a file of states that is not there: %v", err)
		}
	})
}
