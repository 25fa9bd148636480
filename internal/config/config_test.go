package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// load reads the settings as the command would in a folder of its own. The file's text is written
// to shardmill.yaml unless it is empty.
func load(t *testing.T, file string, environ, args []string) (Config, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	if file != "" {
		write(t, FileName, file)
	}
	var c Config
	fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	c.Bind(fs)
	fs.Bool("help", false, "as cobra adds it")
	if err := fs.Parse(args); err != nil {
		return c, FlagError(fs, err)
	}
	return c, c.Load(fs, environ)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDefaults(t *testing.T) {
	got, err := load(t, "", []string{"HOME=/root", "PATH=/bin"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{Listen: "127.0.0.1:4566", Data: "shardmill-data", Plugins: "shardmill-data/plugins", Region: "us-east-1", Account: "000000000000",
		LogFormat: "console", LogLevel: "info", S3: S3{Region: "us-east-1", PathStyle: true}, Auth: "off", TLS: TLS{Mode: "off"}, Concurrency: 2, FunctionTimeout: time.Minute, Limits: "off", Timing: "instant"}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestAFlagWinsOverTheVariableOverTheFileOverTheDefault(t *testing.T) {
	const file, variable, flag = "region: eu-west-1\n", "SHARDMILL_REGION=eu-west-2", "--region=eu-west-3"
	for _, c := range []struct {
		file, variable, flag, want string
	}{
		{"", "", "", "us-east-1"},
		{file, "", "", "eu-west-1"},
		{"", variable, "", "eu-west-2"},
		{file, variable, "", "eu-west-2"},
		{"", "", flag, "eu-west-3"},
		{file, "", flag, "eu-west-3"},
		{file, variable, flag, "eu-west-3"},
		{file, variable, "--region=us-east-1", "us-east-1"}, // a flag that says the default is a flag
	} {
		got, err := load(t, c.file, strings.Fields(c.variable), strings.Fields(c.flag))
		if err != nil {
			t.Fatal(err)
		}
		if got.Region != c.want {
			t.Errorf("file %q, variable %q, flag %q: region %s, want %s", c.file, c.variable, c.flag, got.Region, c.want)
		}
	}
}

// Every setting works in all three places under its one name.
func TestOneNameInThreePlaces(t *testing.T) {
	values := map[string]string{
		"listen": "127.0.0.1:1", "allow-remote": "true", "data": "d", "plugins": "p", "region": "eu-west-1", "account": "012345678901",
		"log-format": "json", "log-level": "warn", "concurrency": "7", "function-timeout": "1.5s", "s3-endpoint": "http://127.0.0.1:9000",
		"s3-region": "eu-west-2", "s3-access-key": "a", "s3-secret-key": "b", "s3-path-style": "false",
		"limits": "aws", "timing": "aws", "auth": "keys", "key-file": "k", "repair": "true", "kms-keys": "m", "tls": "self", "tls-name": "mill.example,10.1.2.3",
	}
	others := []string{"tls-cert", "tls-key"} // in TestOwnCertificates: they exclude tls self
	want := Config{Listen: "127.0.0.1:1", AllowRemote: true, Data: "d", Plugins: "p", Region: "eu-west-1", Account: "012345678901", LogFormat: "json", LogLevel: "warn",
		S3: S3{"http://127.0.0.1:9000", "eu-west-2", "a", "b", false}, Auth: "keys", KeyFile: "k", KMSKeys: "m", Repair: true, TLS: TLS{Mode: "self", Names: "mill.example,10.1.2.3"}, Concurrency: 7, Limits: "aws", Timing: "aws", FunctionTimeout: 1500 * time.Millisecond}
	var file strings.Builder
	var environ, args []string
	for name, v := range values {
		file.WriteString(name + ": " + v + "\n")
		environ = append(environ, variable(name)+"="+v)
		args = append(args, "--"+name+"="+v)
	}
	for place, load := range map[string]func() (Config, error){
		"file":        func() (Config, error) { return load(t, file.String(), nil, nil) },
		"environment": func() (Config, error) { return load(t, "", environ, nil) },
		"flags":       func() (Config, error) { return load(t, "", nil, args) },
	} {
		got, err := load()
		if err != nil || got != want {
			t.Errorf("%s: %v\ngot  %+v\nwant %+v", place, err, got, want)
		}
	}
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	new(Config).Bind(fs)
	for _, name := range settings(fs) {
		if values[name] == "" && !slices.Contains(others, name) {
			t.Errorf("setting %s is not part of this test: add it", name)
		}
	}
}

func TestOwnCertificates(t *testing.T) {
	for place, load := range map[string]func() (Config, error){
		"file": func() (Config, error) { return load(t, "tls-cert: c\ntls-key: k\n", nil, nil) },
		"environment": func() (Config, error) {
			return load(t, "", []string{"SHARDMILL_TLS_CERT=c", "SHARDMILL_TLS_KEY=k"}, nil)
		},
		"flags": func() (Config, error) { return load(t, "", nil, []string{"--tls-cert=c", "--tls-key=k"}) },
	} {
		if got, err := load(); err != nil || got.TLS != (TLS{Mode: "off", Cert: "c", Key: "k"}) {
			t.Errorf("%s: %+v, %v", place, got.TLS, err)
		}
	}
}

func TestWhoMayConnect(t *testing.T) {
	for args, want := range map[string]string{
		"--auth=maybe":                          `--auth: "maybe" is neither off nor keys`,
		"--auth=keys":                           "--auth: keys needs key-file as well",
		"--key-file=k":                          "--key-file: it has no use without auth keys",
		"--tls=yes":                             `--tls: "yes" is neither off nor self`,
		"--tls=self --tls-cert=c --tls-key=k":   "--tls: self and tls-cert exclude each other",
		"--tls-cert=c":                          "--tls-cert: it and tls-key need each other",
		"--tls-name=mill.example":               "--tls-name: it has no use without tls self",
		"--auth=keys --key-file=k --listen=:80": "", // signed requests may come from anywhere
		"--tls=self --tls-name=mill.example":    "",
	} {
		_, err := load(t, "", nil, strings.Fields(args))
		if got := fmt.Sprint(err); got != want && !(err == nil && want == "") {
			t.Errorf("%s: %s, want %q", args, got, want)
		}
	}
}

func TestFaultsSayWhereWhatAndHow(t *testing.T) {
	for _, c := range []struct {
		name, file    string
		environ, args []string
		want          string // one fault a line
	}{
		{"unknown flag", "", nil, []string{"--listne=x"}, "flag --listne does not exist; did you mean --listen?"},
		{"unknown flag, nothing near", "", nil, []string{"--telemetry"}, "flag --telemetry does not exist; --help lists what does"},
		{"unknown short flag", "", nil, []string{"-x"}, "flag -x does not exist; --help lists what does"},
		{"flag without value", "", nil, []string{"--listen"}, "flag needs an argument: --listen"},
		{"wrong value of a flag", "", nil, []string{"--concurrency=many"}, `--concurrency: "many" is not a whole number`},
		{"unknown variable", "", []string{"SHARDMILL_LISTNE=x"}, nil, "variable SHARDMILL_LISTNE does not exist; did you mean SHARDMILL_LISTEN?"},
		{"unknown variable, nothing near", "", []string{"SHARDMILL_TELEMETRY=x"}, nil, "variable SHARDMILL_TELEMETRY does not exist; --help lists what does"},
		{"help is no setting", "", []string{"SHARDMILL_HELP=1"}, nil, "variable SHARDMILL_HELP does not exist; --help lists what does"},
		{"wrong value of a variable", "", []string{"SHARDMILL_ALLOW_REMOTE=yes"}, nil, `SHARDMILL_ALLOW_REMOTE: "yes" is neither true nor false`},
		{"value out of range in a variable", "", []string{"SHARDMILL_CONCURRENCY=0"}, nil, "SHARDMILL_CONCURRENCY: 0 is not in 1..1000"},
		{"unknown setting in the file", "# comment\nregion: eu-west-1\ns3-endpont: x\n", nil, nil, "shardmill.yaml:3: setting s3-endpont does not exist; did you mean s3-endpoint?"},
		{"config in the file", "config: x\n", nil, nil, "shardmill.yaml:1: setting config does not exist; --help lists what does"},
		{"wrong value in the file", "\nfunction-timeout: 60\n", nil, nil, `shardmill.yaml:2: function-timeout: "60" is not a duration such as 60s`},
		{"value out of range in the file", "\n\naccount: 12345\n", nil, nil, `shardmill.yaml:3: account: "12345" is not 12 digits`},
		{"list in the file", "listen:\n  - a\n  - b\n", nil, nil, "shardmill.yaml:1: listen takes one value"},
		{"nothing in the file", "listen:\n", nil, nil, "shardmill.yaml:1: listen takes one value"},
		{"setting given twice", "region: a\ndata: d\nregion: eu-west-1\n", nil, nil,
			"shardmill.yaml:3: region was set before, at shardmill.yaml:1: region: leave one\nshardmill.yaml:1: region: \"a\" is not a region such as us-east-1"},
		{"no mapping", "- a\n", nil, nil, "shardmill.yaml:1: the config file is a mapping of names to values, such as listen: 127.0.0.1:4566"},
		{"two documents", "region: eu-west-1\n---\nregion: eu-west-2\n", nil, nil, "shardmill.yaml has more than one YAML document: leave one"},
		{"no YAML", "listen: [\n", nil, nil, "shardmill.yaml is not YAML: yaml: line 1: did not find expected node content"},
		{"no such file", "", nil, []string{"--config=nowhere.yaml"}, "the config file cannot be read: open nowhere.yaml: no such file or directory"},
		{"no such file, variable", "", []string{"SHARDMILL_CONFIG=nowhere.yaml"}, nil, "the config file cannot be read: open nowhere.yaml: no such file or directory"},
		{"no port", "", nil, []string{"--listen=127.0.0.1"}, `--listen: "127.0.0.1" is not host:port, such as 127.0.0.1:4566`},
		{"time-out too long", "", nil, []string{"--function-timeout=15m1s"}, "--function-timeout: 15m1s is not above 0s and at most 15m"},
		{"no time-out", "", nil, []string{"--function-timeout=0s"}, "--function-timeout: 0s is not above 0s and at most 15m"},
		{"no data", "", nil, []string{"--data="}, "--data: the name of a folder is missing"},
		{"no region", "", nil, []string{"--region=Frankfurt"}, `--region: "Frankfurt" is not a region such as us-east-1`},
		{"log format", "", nil, []string{"--log-format=xml"}, `--log-format: "xml" is neither console nor json`},
		{"log level", "", nil, []string{"--log-level=loud"}, `--log-level: "loud" is none of debug, info, warn, error`},
		{"keys without endpoint", "", nil, []string{"--s3-access-key=a"}, "--s3-access-key: it has no use without s3-endpoint"},
		{"endpoint without keys", "s3-endpoint: http://127.0.0.1:9000\ns3-access-key: a\n", nil, nil, "shardmill.yaml:1: s3-endpoint: it needs s3-secret-key as well"},
		{"all at once", "region: x\nnonsense: y\n", []string{"SHARDMILL_ACCOUNT=1", "SHARDMILL_CONCURRENCY=two"}, []string{"--log-level=loud", "--listen=0.0.0.0:80"},
			"shardmill.yaml:2: setting nonsense does not exist; --help lists what does\n" +
				"SHARDMILL_CONCURRENCY: \"two\" is not a whole number\n" +
				"--listen: 0.0.0.0:80 can be reached from other machines and nothing is authenticated; listen on 127.0.0.1, use --auth keys, or say --allow-remote if the network is trusted\n" +
				"shardmill.yaml:1: region: \"x\" is not a region such as us-east-1\n" +
				"SHARDMILL_ACCOUNT: \"1\" is not 12 digits\n" +
				"--log-level: \"loud\" is none of debug, info, warn, error"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := load(t, c.file, c.environ, c.args)
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestOnlyLoopbackUnlessAllowed(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "127.8.8.8:80", "localhost:4566", "[::1]:4566"} {
		if _, err := load(t, "", nil, []string{"--listen=" + listen}); err != nil {
			t.Errorf("%s: %v", listen, err)
		}
	}
	for _, listen := range []string{":4566", "0.0.0.0:4566", "[::]:4566", "192.168.1.2:4566", "example.com:4566", "localhost.example.com:1"} {
		if _, err := load(t, "", nil, []string{"--listen=" + listen}); err == nil || !strings.Contains(err.Error(), "say --allow-remote") {
			t.Errorf("%s: err = %v, want a refusal that names --allow-remote", listen, err)
		}
		if _, err := load(t, "", nil, []string{"--listen=" + listen, "--allow-remote"}); err != nil {
			t.Errorf("%s with --allow-remote: %v", listen, err)
		}
	}
}

func TestSecretsComeFromVariablesAndFiles(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	write(t, secret, "  s3cr3t\n")
	s3 := func(access, key string) []string {
		return []string{"--s3-endpoint=http://127.0.0.1:9000", "--s3-access-key=" + access, "--s3-secret-key=" + key}
	}
	c, err := load(t, "", []string{"KEY=AKID"}, s3("env:KEY", "file:"+secret))
	if err != nil {
		t.Fatal(err)
	}
	if c.S3.AccessKey != "AKID" || c.S3.SecretKey != "s3cr3t" {
		t.Errorf("keys %q and %q, want AKID and s3cr3t", c.S3.AccessKey, c.S3.SecretKey)
	}
	for _, f := range []struct{ access, key, want string }{
		{"env:NONE", "x", "--s3-access-key: the variable NONE is not set"},
		{"env:EMPTY", "x", "--s3-access-key: it is empty"},
		{"x", "file:/nowhere", "--s3-secret-key cannot be read: open /nowhere: no such file or directory"},
		{"env:NONE", "file:/nowhere", "--s3-access-key: the variable NONE is not set\n--s3-secret-key cannot be read: open /nowhere: no such file or directory"},
	} {
		if _, err := load(t, "", []string{"EMPTY="}, s3(f.access, f.key)); err == nil || err.Error() != f.want {
			t.Errorf("%s, %s: got %v\nwant %s", f.access, f.key, err, f.want)
		}
	}
}

func TestAnEmptyFileAndAnOtherFile(t *testing.T) {
	if _, err := load(t, "# nothing yet\n", nil, nil); err != nil {
		t.Error("a file of comments:", err)
	}
	other := filepath.Join(t.TempDir(), "other.yaml")
	write(t, other, "region: eu-west-1\n")
	for place, args := range map[string][][]string{"flag": {nil, {"--config", other}}, "variable": {{"SHARDMILL_CONFIG=" + other}, nil}} {
		c, err := load(t, "region: eu-west-9\n", args[0], args[1])
		if err != nil || c.Region != "eu-west-1" {
			t.Errorf("%s: region %s, %v; want that of the file named, eu-west-1", place, c.Region, err)
		}
	}
}

// FuzzFile: whatever is in the file, reading it ends in values or in faults that name it.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{"", "region: eu-west-1\n", "a: &x [*x]\n", "- 1\n", "region: {}\n", "? [a]\n: b\n", "region: !!binary AAA=\n", "<<: {region: a}\n", "\x00", "--- a\n--- b\n", "region: |\n  a\n  b\n", "!!str : x", "*a"} {
		f.Add([]byte(seed))
	}
	path := filepath.Join(f.TempDir(), "f.yaml")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		fs := pflag.NewFlagSet("serve", pflag.ContinueOnError)
		new(Config).Bind(fs)
		values, faults := readFile(fs, path)
		for name, v := range values {
			if fs.Lookup(name) == nil || !strings.HasPrefix(v.place, path+":") {
				t.Errorf("setting %q at %q", name, v.place)
			}
		}
		for _, err := range faults {
			if !strings.HasPrefix(err.Error(), path) {
				t.Errorf("fault %q does not name the file", err)
			}
		}
	})
}
