// Package config reads the settings of a host. Every setting has one name in three places: the flag
// --s3-endpoint is the variable SHARDMILL_S3_ENDPOINT and the line "s3-endpoint:" of the config
// file. A flag wins over the variable, the variable over the file, the file over the default.
//
// A name that does not exist and a value that cannot be are errors wherever they stand. Secrets may
// be given as env:NAME or file:PATH, so that they stand neither in a process list nor in the file.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

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
	Auth        string // off, or keys: requests must be signed with a key of KeyFile
	KeyFile     string
	KMSKeys     string // file of the states of encryption keys; "" is none
	TLS         TLS
	Repair      bool // leave out what is damaged of the records in Data, where it would be refused
	Concurrency int  // execution environments of one function

	FunctionTimeout time.Duration // of one invocation
	Limits          string        // off, or aws: what a shard takes and gives, and how often operations are called, is limited as at AWS
	Timing          string        // instant, or aws: streams are CREATING, UPDATING and DELETING for a while
}

// TLS is whether and how the port serves TLS beside plain connections.
type TLS struct {
	Mode  string // off, or self: certificates of a local authority in Data/tls
	Cert  string // a certificate chain and its key, PEM, in place of Mode self
	Key   string
	Names string // further host names and IP addresses of Mode self, with commas between them
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
	envPrefix  = "SHARDMILL_"
	configFlag = "config"
	// FileName is the config file that is read, if it is there, from the working directory.
	FileName = "shardmill.yaml"
)

// Bind declares the settings as flags of fs.
func (c *Config) Bind(fs *pflag.FlagSet) {
	fs.String("config", "", "config file (default "+FileName+" in the working directory, if there is one)")
	fs.StringVar(&c.Listen, "listen", "127.0.0.1:4566", "address to serve, host:port; port 0 takes a free one")
	fs.BoolVar(&c.AllowRemote, "allow-remote", false, "let --listen be an address that other machines reach although --auth is off: whoever reaches it may read and write everything")
	fs.StringVar(&c.Data, "data", "shardmill-data", "folder for all data; made if it is not there")
	fs.BoolVar(&c.Repair, "repair", false, "check all stored records and open a folder of which some are damaged: they are left out, reported, and put aside in DATA/damaged")
	fs.StringVar(&c.Plugins, "plugins", "", "folder to pick functions up from (default DATA/plugins)")
	fs.StringVar(&c.Region, "region", "us-east-1", "region of callers whose signature names none")
	fs.StringVar(&c.Account, "account", "000000000000", "account of callers whose access key is not one, 12 digits")
	fs.StringVar(&c.LogFormat, "log-format", "console", "console or json")
	fs.StringVar(&c.LogLevel, "log-level", "info", "debug, info, warn or error")
	fs.StringVar(&c.Auth, "auth", "off", "off, or keys: requests must be signed (SigV4) with a key of --key-file, which says their account")
	fs.StringVar(&c.KeyFile, "key-file", "", "YAML file of access keys for --auth keys")
	fs.StringVar(&c.KMSKeys, "kms-keys", "", "YAML file that marks encryption keys as disabled, denied, missing …, to try programs against their errors")
	fs.StringVar(&c.TLS.Mode, "tls", "off", "off, or self: serve TLS on the same port, certified by a local authority that clients are told to trust")
	fs.StringVar(&c.TLS.Cert, "tls-cert", "", "certificate chain, PEM; with --tls-key serves TLS on the same port")
	fs.StringVar(&c.TLS.Key, "tls-key", "", "key of --tls-cert, PEM")
	fs.StringVar(&c.TLS.Names, "tls-name", "", "host names and IP addresses that --tls self certifies beside localhost and this machine's name, with commas between them")
	fs.IntVar(&c.Concurrency, "concurrency", 2, "execution environments of one function at most")
	fs.DurationVar(&c.FunctionTimeout, "function-timeout", time.Minute, "time that one invocation of a function may take, at most 15m; then it is killed")
	fs.StringVar(&c.Limits, "limits", "off", "off, or aws: limit shards to 1 MB/s and 1,000 records/s in and 2 MB/s out, and calls, streams and shards to AWS's numbers")
	fs.StringVar(&c.Timing, "timing", "instant", "instant, or aws: streams stay CREATING, UPDATING and DELETING for half a second")
	fs.StringVar(&c.S3.Endpoint, "s3-endpoint", "", "S3 server for buckets, such as http://127.0.0.1:9000 (default: folders in DATA/objects)")
	fs.StringVar(&c.S3.Region, "s3-region", "us-east-1", "region of the S3 server")
	fs.StringVar(&c.S3.AccessKey, "s3-access-key", "", "access key for the S3 server; env:NAME and file:PATH are looked up")
	fs.StringVar(&c.S3.SecretKey, "s3-secret-key", "", "secret key for the S3 server; env:NAME and file:PATH are looked up")
	fs.BoolVar(&c.S3.PathStyle, "s3-path-style", true, "put the bucket into the path of S3 requests, not before the host name")
}

// Load completes c, whose flags have been parsed, from the environment (as os.Environ gives it)
// and the config file, and checks it. All faults are told at once.
func (c *Config) Load(fs *pflag.FlagSet, environ []string) error {
	vars, faults := variables(fs, environ)
	path, _ := fs.GetString("config")
	file, more := readFile(fs, first(path, vars["config"]))
	faults = append(faults, more...)
	places := make(map[string]string) // of the settings, for what is found wrong later
	fs.VisitAll(func(f *pflag.Flag) {
		places[f.Name] = "--" + f.Name
		if f.Changed {
			return
		}
		text, given := vars[f.Name]
		if given {
			places[f.Name] = variable(f.Name)
		} else if v, ok := file[f.Name]; ok {
			places[f.Name], text, given = v.place, v.text, true
		}
		if given && fs.Set(f.Name, text) != nil {
			faults = append(faults, errs.New(errs.Invalid, "%s: %s", places[f.Name], unfit(f, text)))
			f.Value.Set(f.DefValue) // one fault is enough: what was not parsed is not out of range too
		}
	})
	return errors.Join(append(faults, c.check(places, environ)...)...)
}

// variable is the name of a setting's environment variable.
func variable(setting string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(setting, "-", "_"))
}

// variables finds the settings in the environment. --config is one of them: it may stand there.
func variables(fs *pflag.FlagSet, environ []string) (vars map[string]string, faults []error) {
	vars = make(map[string]string)
	for _, kv := range environ {
		name, v, _ := strings.Cut(kv, "=")
		short, ours := strings.CutPrefix(name, envPrefix)
		if !ours {
			continue
		}
		setting := strings.ReplaceAll(strings.ToLower(short), "_", "-")
		if known := append(settings(fs), configFlag); slices.Contains(known, setting) {
			vars[setting] = v
		} else {
			for i := range known {
				known[i] = variable(known[i])
			}
			faults = append(faults, unknown("variable "+name, name, known))
		}
	}
	return vars, faults
}

// settings lists the names that may stand in the config file.
func settings(fs *pflag.FlagSet) (names []string) {
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Name != configFlag && f.Name != "help" {
			names = append(names, f.Name)
		}
	})
	return names
}

type fileValue struct{ text, place string }

// readFile reads the config file: a flat YAML mapping of setting names to scalars. Without a path
// it reads FileName, if that is there.
func readFile(fs *pflag.FlagSet, path string) (map[string]fileValue, []error) {
	b, err := os.ReadFile(first(path, FileName))
	if path == "" && errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	path = first(path, FileName)
	if err != nil {
		return nil, []error{errs.Wrap(errs.Invalid, err, "the config file cannot be read")}
	}
	var doc, second yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil // nothing but comments
	} else if err != nil {
		return nil, []error{errs.Wrap(errs.Invalid, err, "%s is not YAML", path)}
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, []error{errs.New(errs.Invalid, "%s:%d: the config file is a mapping of names to values, such as listen: 127.0.0.1:4566", path, root.Line)}
	}
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, []error{errs.New(errs.Invalid, "%s has more than one YAML document: leave one", path)}
	}
	return fileValues(fs, path, root)
}

func fileValues(fs *pflag.FlagSet, path string, root *yaml.Node) (map[string]fileValue, []error) {
	out := make(map[string]fileValue)
	var faults []error
	for i := 0; i+1 < len(root.Content); i += 2 {
		k, v := root.Content[i], root.Content[i+1]
		place := fmt.Sprintf("%s:%d", path, k.Line)
		known := settings(fs)
		switch earlier, twice := out[k.Value]; {
		case !slices.Contains(known, k.Value):
			faults = append(faults, unknown(fmt.Sprintf("%s: setting %s", place, k.Value), k.Value, known))
		case twice:
			faults = append(faults, errs.New(errs.Invalid, "%s: %s was set before, at %s: leave one", place, k.Value, earlier.place))
		case v.Kind != yaml.ScalarNode || v.Tag == "!!null":
			faults = append(faults, errs.New(errs.Invalid, "%s: %s takes one value", place, k.Value))
		default:
			out[k.Value] = fileValue{v.Value, place + ": " + k.Value}
		}
	}
	return out, faults
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
