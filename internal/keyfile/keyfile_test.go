package keyfile

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/sigv4"
)

const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

// write replaces a file, readable by its owner.
func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// entry is a key file with one key.
func entry(accessKey, secretKey string, more ...string) string {
	return "keys:\n  - access-key: " + accessKey + "\n    secret-key: " + secretKey + "\n    account: \"123456789012\"\n" +
		strings.Join(append(more, ""), "\n")
}

func TestOpen(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "token", "  TOKEN/+=\n")
	path := write(t, "keys.yaml", `# who may connect
keys:
  - access-key: AKIAIOSFODNN7EXAMPLE
    secret-key: env:KINESIS_SECRET
    account: 012345678901
    regions: [eu-west-1, eu-central-1]
  - {access-key: build.agent_1, secret-key: "`+secret+`", account: "123456789012", session-token: "file:token", disabled: true}
`)
	f, err := Open(path, []string{"KINESIS_SECRET=" + secret}, Events{})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]sigv4.Key{
		"AKIAIOSFODNN7EXAMPLE": {Secret: secret, Account: "012345678901", Regions: []string{"eu-west-1", "eu-central-1"}},
		"build.agent_1":        {Secret: secret, Account: "123456789012", SessionToken: "TOKEN/+=", Disabled: true},
	} {
		if got, found := f.Lookup(name); !found || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v; want %+v", name, got, found, want)
		}
	}
	for _, name := range []string{"", "akiaiosfodnn7example", "keys"} {
		if got, found := f.Lookup(name); found {
			t.Errorf("%q: %+v", name, got)
		}
	}
}

// Every fault names its line and no secret.
func TestFaultsSayWhereWhatAndHow(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "empty", "\n")
	const good = "keys:\n- {access-key: A, secret-key: " + secret + ", account: 123456789012"
	for _, c := range []struct{ name, text, want string }{
		{"empty", "", "keys.yaml has no keys: it needs a list named keys"},
		{"no mapping", "- a\n", "keys.yaml:1: the key file is a mapping with the names keys"},
		{"another name", "\nkey: []\n", "keys.yaml:2: the key file does not take what stands here, it takes keys"},
		{"nothing", "{}\n", "keys.yaml:1: the list named keys is missing"},
		{"no list", "keys: {}\n", "keys.yaml:1: keys is a list of one key or more"},
		{"empty list", "keys: []\n", "keys.yaml:1: keys is a list of one key or more"},
		{"two documents", good + "}\n---\n" + good + "}\n", "keys.yaml has more than one YAML document: leave one"},
		{"no YAML", "keys: [\n", "keys.yaml is not YAML: line 1: did not find expected node content; put secrets between quotes"},
		{"a secret that is YAML", "keys:\n- secret-key: *" + "SECRETxSECRET\n", "keys.yaml is not YAML: unknown anchor …; put secrets between quotes"},
		{"no key", "keys:\n- AKID\n", "keys.yaml:2: a key is a mapping with the names access-key, secret-key, account, regions, session-token, disabled"},
		{"all missing", "keys:\n- {}\n", "keys.yaml:2: access-key is missing\nkeys.yaml:2: secret-key is missing\nkeys.yaml:2: account is missing"},
		{"unknown setting", good + ",\n  SECRETxSECRET: 1}\n", "keys.yaml:3: a key does not take what stands here, it takes access-key, secret-key, account, regions, session-token, disabled"},
		{"setting twice", good + ",\n  account: 210987654321}\n", "keys.yaml:3: account was set before, in line 2: leave one"},
		{"key twice", good + "}\n" + strings.TrimPrefix(good, "keys:\n") + "}\n", "keys.yaml:3: access key A was set before, in line 2: leave one"},
		{"access key", strings.Replace(good, ": A,", ": a/b,", 1) + "}\n", "keys.yaml:2: access-key is not an access key: up to 128 letters, digits, '_', '.' and '-'"},
		{"account", strings.Replace(good, "123456789012", "12345", 1) + "}\n", "keys.yaml:2: account is not an account: 12 digits"},
		{"short secret", strings.Replace(good, secret, "SECRETxSECRET", 1) + "}\n", "keys.yaml:2: secret-key has 13 characters, it needs 16: openssl rand -base64 30 makes a good one"},
		{"list for a secret", strings.Replace(good, secret, "[SECRETxSECRET]", 1) + "}\n", "keys.yaml:2: secret-key takes one value"},
		{"nothing for a secret", strings.Replace(good, secret, "", 1) + "}\n", "keys.yaml:2: secret-key takes one value"},
		{"tagged secret", strings.Replace(good, secret, "!SECRETxSECRET abc", 1) + "}\n", "keys.yaml:2: secret-key takes one value"},
		{"no such variable", strings.Replace(good, secret, "env:NONE", 1) + "}\n", "keys.yaml:2: secret-key: the variable NONE is not set"},
		{"no such file", strings.Replace(good, secret, "file:nowhere", 1) + "}\n", "keys.yaml:2: secret-key cannot be read: open nowhere: no such file or directory"},
		{"a folder", strings.Replace(good, secret, "file:.", 1) + "}\n", "keys.yaml:2: secret-key cannot be read: . is not a file"},
		{"empty file", strings.Replace(good, secret, "file:empty", 1) + "}\n", "keys.yaml:2: secret-key has 0 characters, it needs 16: openssl rand -base64 30 makes a good one"},
		{"empty token", good + ", session-token: ''}\n", "keys.yaml:2: session-token is empty: leave it out, or give the token"},
		{"no regions", good + ", regions: []}\n", "keys.yaml:2: regions is a list such as [eu-west-1]: leave it out to allow all regions"},
		{"one region", good + ", regions: eu-west-1}\n", "keys.yaml:2: regions is a list such as [eu-west-1]: leave it out to allow all regions"},
		{"wrong regions", good + ", regions: [Frankfurt, eu-west-1,\n  eu-west-1, []]}\n", "keys.yaml:2: \"Frankfurt\" is not a region such as us-east-1\nkeys.yaml:3: region eu-west-1 is given twice: leave one\nkeys.yaml:3: a region takes one value"},
		{"disabled", good + ", disabled: maybe}\n", "keys.yaml:2: disabled is true or false"},
		{"disabled, text", good + ", disabled: 'true'}\n", "keys.yaml:2: disabled is true or false"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(write(t, "keys.yaml", c.text), nil, Events{})
			if err == nil || err.Error() != c.want {
				t.Fatalf("got  %v\nwant %s", err, c.want)
			}
			if strings.Contains(err.Error(), "SECRETxSECRET") {
				t.Error("the sentence shows a secret")
			}
		})
	}
	if _, err := Open(write(t, "keys.yaml", good+"}\n"), nil, Events{}); err != nil {
		t.Error("the file that the cases spoil is refused:", err)
	}
}

func TestOnlyTheOwnerMayUseTheFile(t *testing.T) {
	t.Chdir(t.TempDir())
	path := write(t, "keys.yaml", entry("AKID", secret))
	for mode, ok := range map[os.FileMode]bool{0o600: true, 0o400: true, 0o700: true, 0o640: false, 0o604: false, 0o644: false, 0o620: false, 0o601: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path, nil, Events{})
		if want := fmt.Sprintf("keys.yaml may be used by others than its owner (mode %04o): run chmod 600 keys.yaml", mode); !ok && (err == nil || err.Error() != want) {
			t.Errorf("mode %04o: %v\nwant %s", mode, err, want)
		}
		if ok && err != nil {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
}

func TestWhatIsNoFileOrTooLarge(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := syscall.Mkfifo("pipe", 0o600); err != nil {
		t.Fatal(err)
	}
	write(t, "large", strings.Repeat("#", maxSize+1))
	for path, want := range map[string]string{
		"nowhere": "the key file cannot be read: open nowhere: no such file or directory",
		"pipe":    "the key file cannot be read: pipe is not a file",
		"large":   "the key file cannot be read: large has 1048577 bytes, the limit is 1048576",
	} {
		_, err := Open(path, nil, Events{})
		if err == nil || err.Error() != want || !errs.Is(err, errs.Invalid) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// watched is an open file whose events are noted.
func watched(t *testing.T, path string) (*File, *[]string) {
	t.Helper()
	var seen []string
	f, err := Open(path, nil, Events{
		Reloaded: func(keys int) { seen = append(seen, fmt.Sprintf("reloaded %d", keys)) },
		Failed:   func(err error) { seen = append(seen, err.Error()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return f, &seen
}

func expect(t *testing.T, f *File, seen *[]string, accessKey, secretKey string, events ...string) {
	t.Helper()
	if got, found := f.Lookup(accessKey); got.Secret != secretKey || found != (secretKey != "") {
		t.Errorf("%s has the secret %q, want %q", accessKey, got.Secret, secretKey)
	}
	if got, want := strings.Join(*seen, "\n"), strings.Join(events, "\n"); got != want {
		t.Errorf("events\n%s\nwant\n%s", got, want)
	}
	*seen = nil
}

func TestAChangedFileIsReadAgainWithinASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := write(t, filepath.Join(t.TempDir(), "keys.yaml"), entry("OLD", secret))
		f, seen := watched(t, path)
		time.Sleep(Interval / 2)
		write(t, path, entry("NEW", secret))
		expect(t, f, seen, "OLD", secret) // looked at half a second ago
		time.Sleep(Interval / 2)
		expect(t, f, seen, "OLD", "", "reloaded 1")
		expect(t, f, seen, "NEW", secret)
		time.Sleep(Interval)
		expect(t, f, seen, "NEW", secret) // nothing has changed
		write(t, path, entry("NEW", secret, "    disabled: true"))
		time.Sleep(Interval)
		if k, _ := f.Lookup("NEW"); !k.Disabled {
			t.Error("the key is not disabled")
		}
	})
}

func TestABrokenFileKeepsTheKeysAndIsReportedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := write(t, filepath.Join(t.TempDir(), "keys.yaml"), entry("AKID", secret))
		f, seen := watched(t, path)
		kept := path + " has changed and is wrong: the keys from before stay in use until it is right: "
		next := func(change func(), events ...string) {
			t.Helper()
			change()
			for range 2 { // once, not every second
				time.Sleep(Interval)
				expect(t, f, seen, "AKID", secret, events...)
				events = nil
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		next(func() { write(t, path, "keys: []\n") }, kept+path+":1: keys is a list of one key or more")
		next(func() { write(t, path, "keys: {}\n\n") }, kept+path+":1: keys is a list of one key or more")
		next(func() { must(os.Remove(path)) }, kept+"the key file cannot be read: open "+path+": no such file or directory")
		next(func() { write(t, path, entry("AKID", secret)) }, "reloaded 1")
		next(func() { must(os.Chmod(path, 0o644)) }, kept+path+" may be used by others than its owner (mode 0644): run chmod 600 "+path)
		next(func() { must(os.Chmod(path, 0o400)) }, "reloaded 1")
	})
}

func TestAChangedSecretFileIsReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		one, other := write(t, filepath.Join(dir, "one"), secret+"\n"), write(t, filepath.Join(dir, "other"), secret+"/other\n")
		path := write(t, filepath.Join(dir, "keys.yaml"), entry("AKID", "file:"+one))
		f, seen := watched(t, path)
		write(t, one, secret+"/rotated\n")
		time.Sleep(Interval)
		expect(t, f, seen, "AKID", secret+"/rotated", "reloaded 1")
		if err := os.Remove(one); err != nil {
			t.Fatal(err)
		}
		time.Sleep(Interval)
		expect(t, f, seen, "AKID", secret+"/rotated", path+" has changed and is wrong: the keys from before stay in use until it is right: "+
			path+":3: secret-key cannot be read: open "+one+": no such file or directory")
		write(t, path, entry("AKID", "file:"+other))
		time.Sleep(Interval)
		expect(t, f, seen, "AKID", secret+"/other", "reloaded 1")
		write(t, one, "no longer of interest")
		time.Sleep(Interval)
		expect(t, f, seen, "AKID", secret+"/other")
	})
}

func TestLookupFromManyGoroutines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := write(t, filepath.Join(t.TempDir(), "keys.yaml"), entry("AKID", secret))
		f, err := Open(path, nil, Events{})
		if err != nil {
			t.Fatal(err)
		}
		for range 8 {
			go func() {
				for range 20 {
					if _, found := f.Lookup("AKID"); !found {
						t.Error("the key is gone")
					}
					time.Sleep(Interval / 4)
				}
			}()
		}
		for i := range 5 {
			time.Sleep(Interval)
			temporary := write(t, path+".new", entry("AKID", fmt.Sprintf("%s/%d", secret, i)))
			if err := os.Rename(temporary, path); err != nil {
				t.Error(err)
			}
		}
		time.Sleep(2 * Interval)
		if k, _ := f.Lookup("AKID"); k.Secret != secret+"/4" {
			t.Errorf("the last secret is %q", k.Secret)
		}
	})
}

// FuzzLoad: whatever is in the file, it ends in keys that can be used or in faults that name it.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(entry("AKID", secret, "    regions: [eu-west-1]", "    disabled: true", "    session-token: T")))
	for _, seed := range []string{"", "keys: []", "keys: *a", "keys: &a [*a]", "- 1", "keys:\n- {<<: {account: 1}}", "\x00", "--- a\n--- b\n", "keys: !!binary AAA=", "keys:\n- ? [a]\n  : b", "keys:\n- !!null"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if strings.Contains(string(text), "file:") {
			t.Skip("it would read files of this machine")
		}
		keys, err := load("keys.yaml", sources{source{text: text, mode: 0o600}, map[string]source{}}, nil)
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if !strings.HasPrefix(line, "keys.yaml") {
					t.Errorf("fault %q does not name the file", line)
				}
			}
			return
		}
		if len(keys) == 0 {
			t.Error("neither keys nor faults")
		}
		for name, k := range keys {
			if !accessKeyPattern.MatchString(name) || len(k.Secret) < minSecret || !accountPattern.MatchString(k.Account) {
				t.Errorf("key %q: %+v", name, k)
			}
		}
	})
}
