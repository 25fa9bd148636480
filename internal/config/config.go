// Package config reads the settings of a host. Every setting has one name in three places: the flag
// --s3-endpoint is the variable SHARDMILL_S3_ENDPOINT and the line "s3-endpoint:" of the config
// file. A flag wins over the variable, the variable over the file, the file over the default.
//
// A name that does not exist and a value that cannot be are errors wherever they stand. Secrets may
// be given as env:NAME or file:PATH, so that they stand neither in a process list nor in the file.
package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"

	"github.com/shardmill/shardmill/internal/errs"
)

// Config is the settings of a host.
type Config struct {
	Listen      string // host:port; port 0 takes a free one
	AllowRemote bool   // Listen may be reachable from other machines
	Data        string // folder
	Plugins     string // folder; "" is Data/plugins
	Region      string
	Account     string // 12 digits
	LogFormat   string // console or json
	LogLevel    string
	S3          S3
	Concurrency int // execution environments of one function
}

// S3 is where buckets are when they are not on this machine's disk.
type S3 struct {
	Endpoint  string // "" keeps buckets in Data/objects
	Region    string
	AccessKey string
	SecretKey string
	PathStyle bool
}

const (
	envPrefix = "SHARDMILL_"
	// FileName is the config file that is read, if it is there, from the working directory.
	FileName = "shardmill.yaml"
)

// Bind declares the settings as flags of fs.
func (c *Config) Bind(fs *pflag.FlagSet) {
	fs.String("config", "", "config file (default "+FileName+" in the working directory, if there is one)")
	fs.StringVar(&c.Listen, "listen", "127.0.0.1:4566", "address to serve, host:port; port 0 takes a free one")
	fs.BoolVar(&c.AllowRemote, "allow-remote", false, "let --listen be an address that other machines reach: nothing is authenticated, whoever reaches it may read and write everything")
	fs.StringVar(&c.Data, "data", "shardmill-data", "folder for all data; made if it is not there")
	fs.StringVar(&c.Plugins, "plugins", "", "folder to pick functions up from (default DATA/plugins)")
	fs.StringVar(&c.Region, "region", "us-east-1", "region of callers whose signature names none")
	fs.StringVar(&c.Account, "account", "000000000000", "account of callers whose access key is not one, 12 digits")
	fs.StringVar(&c.LogFormat, "log-format", "console", "console or json")
	fs.StringVar(&c.LogLevel, "log-level", "info", "debug, info, warn or error")
	fs.IntVar(&c.Concurrency, "concurrency", 2, "execution environments of one function at most")
	fs.StringVar(&c.S3.Endpoint, "s3-endpoint", "", "S3 server for buckets, such as http://127.0.0.1:9000 (default: folders in DATA/objects)")
	fs.StringVar(&c.S3.Region, "s3-region", "us-east-1", "region of the S3 server")
	fs.StringVar(&c.S3.AccessKey, "s3-access-key", "", "access key for the S3 server; env:NAME and file:PATH are looked up")
	fs.StringVar(&c.S3.SecretKey, "s3-secret-key", "", "secret key for the S3 server; env:NAME and file:PATH are looked up")
	fs.BoolVar(&c.S3.PathStyle, "s3-path-style", true, "put the bucket into the path of S3 requests, not before the host name")
}

// Load completes c, whose flags have been parsed, from the environment (as os.Environ gives it)
// and the config file, and checks it. All faults are told at once.
func (c *Config) Load(fs *pflag.FlagSet, environ []string) error {
	vars := make(map[string]string)
	var faults []error
	for _, kv := range environ {
		name, v, _ := strings.Cut(kv, "=")
		short, ours := strings.CutPrefix(name, envPrefix)
		if !ours {
			continue
		}
		flag := strings.ReplaceAll(strings.ToLower(short), "_", "-")
		if fs.Lookup(flag) == nil {
			faults = append(faults, unknown("variable", name, fs, func(s string) string { return envPrefix + strings.ToUpper(strings.ReplaceAll(s, "-", "_")) }))
			continue
		}
		vars[flag] = v
	}
	file, err := c.readFile(fs, vars["config"])
	if err != nil {
		faults = append(faults, err)
	}
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed {
			return
		}
		if v, ok := vars[f.Name]; ok {
			faults = append(faults, set(fs, f.Name, v, "variable "+envPrefix+strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))))
		} else if v, ok := file[f.Name]; ok {
			faults = append(faults, set(fs, f.Name, v.text, v.place))
		}
	})
	return errors.Join(append(faults, c.check())...)
}

func set(fs *pflag.FlagSet, name, v, place string) error {
	if err := fs.Set(name, v); err != nil {
		return errs.New(errs.Invalid, "%s: %q is no value for %s", place, v, name)
	}
	return nil
}

type fileValue struct{ text, place string }

// readFile reads the config file: a flat YAML mapping of setting names to scalars.
func (c *Config) readFile(fs *pflag.FlagSet, fromEnv string) (map[string]fileValue, error) {
	path, _ := fs.GetString("config")
	if path == "" {
		path = fromEnv
	}
	b, err := os.ReadFile(first(path, FileName))
	if path == "" && errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	path = first(path, FileName)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "the config file cannot be read")
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(b, &doc); err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "%s is not YAML", path)
	}
	if len(doc.Content) == 0 {
		return nil, nil
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, errs.New(errs.Invalid, "%s:%d: the config file is a mapping of names to values", path, root.Line)
	}
	out := make(map[string]fileValue)
	var faults []error
	for i := 0; i+1 < len(root.Content); i += 2 {
		k, v := root.Content[i], root.Content[i+1]
		place := fmt.Sprintf("%s:%d", path, k.Line)
		switch {
		case fs.Lookup(k.Value) == nil || k.Value == "config" || k.Value == "help":
			faults = append(faults, unknown(place+": setting", k.Value, fs, func(s string) string { return s }))
		case v.Kind != yaml.ScalarNode:
			faults = append(faults, errs.New(errs.Invalid, "%s: %s takes one value", place, k.Value))
		default:
			out[k.Value] = fileValue{v.Value, place}
		}
	}
	return out, errors.Join(faults...)
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// unknown complains about a name that does not exist and proposes the nearest that does.
func unknown(what, name string, fs *pflag.FlagSet, spell func(string) string) error {
	best, dist := "", 4
	var all []string
	fs.VisitAll(func(f *pflag.Flag) { all = append(all, f.Name) })
	sort.Strings(all)
	for _, n := range all {
		if d := distance(strings.ToLower(name), strings.ToLower(spell(n))); d < dist {
			best, dist = spell(n), d
		}
	}
	if best != "" {
		return errs.New(errs.Invalid, "%s %s does not exist; did you mean %s?", what, name, best)
	}
	return errs.New(errs.Invalid, "%s %s does not exist; see shardmill serve --help", what, name)
}

// distance is the Levenshtein distance of two names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			last, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, last+cost)
		}
	}
	return row[len(b)]
}

var (
	accountPattern = regexp.MustCompile(`^\d{12}$`)
	regionPattern  = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-\d+$`)
)

func (c *Config) check() error {
	var faults []error
	bad := func(format string, args ...any) { faults = append(faults, errs.New(errs.Invalid, format, args...)) }
	host, _, err := net.SplitHostPort(c.Listen)
	switch {
	case err != nil:
		bad("listen: %q is not host:port, such as 127.0.0.1:4566", c.Listen)
	case !c.AllowRemote && !loopback(host):
		bad("listen: %s can be reached from other machines and nothing is authenticated; listen on 127.0.0.1, or say --allow-remote if the network is trusted", c.Listen)
	}
	if !accountPattern.MatchString(c.Account) {
		bad("account: %q is not 12 digits", c.Account)
	}
	if !regionPattern.MatchString(c.Region) {
		bad("region: %q is not a region such as us-east-1", c.Region)
	}
	if c.LogFormat != "console" && c.LogFormat != "json" {
		bad("log-format: %q is neither console nor json", c.LogFormat)
	}
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
	default:
		bad("log-level: %q is none of debug, info, warn, error", c.LogLevel)
	}
	if c.Concurrency < 1 || c.Concurrency > 1000 {
		bad("concurrency: %d is not in 1..1000", c.Concurrency)
	}
	if c.Data == "" {
		bad("data: the name of a folder is missing")
	}
	if c.Plugins == "" {
		c.Plugins = filepath.Join(c.Data, "plugins")
	}
	if c.S3.Endpoint == "" && (c.S3.AccessKey != "" || c.S3.SecretKey != "") {
		bad("s3-access-key and s3-secret-key need s3-endpoint")
	}
	for name, p := range map[string]*string{"s3-access-key": &c.S3.AccessKey, "s3-secret-key": &c.S3.SecretKey} {
		if err := lookUp(name, p); err != nil {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// lookUp replaces env:NAME and file:PATH by what is there.
func lookUp(name string, p *string) error {
	if v, ok := strings.CutPrefix(*p, "env:"); ok {
		if *p, ok = os.LookupEnv(v); !ok {
			return errs.New(errs.Invalid, "%s: the variable %s is not set", name, v)
		}
	} else if path, ok := strings.CutPrefix(*p, "file:"); ok {
		b, err := os.ReadFile(path)
		if err != nil {
			return errs.Wrap(errs.Invalid, err, "%s cannot be read", name)
		}
		*p = strings.TrimSpace(string(b))
	}
	return nil
}
