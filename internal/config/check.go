package config

import (
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

var (
	accountPattern = regexp.MustCompile(`^\d{12}$`)
	regionPattern  = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-\d+$`)
)

// maxFunctionTimeout is Lambda's.
const maxFunctionTimeout = 15 * time.Minute

// checker gathers what is wrong with values, each with its place.
type checker struct {
	places map[string]string
	faults []error
}

func (k *checker) bad(setting, format string, args ...any) {
	k.faults = append(k.faults, errs.New(errs.Invalid, "%s: "+format, append([]any{k.places[setting]}, args...)...))
}

// check finds everything that is wrong, looks secrets up and sets what depends on other settings.
func (c *Config) check(places map[string]string, environ []string) []error {
	k := &checker{places: places}
	c.checkListen(k)
	if c.Data == "" {
		k.bad("data", "the name of a folder is missing")
	}
	if c.Plugins == "" {
		c.Plugins = filepath.Join(c.Data, "plugins")
	}
	if !regionPattern.MatchString(c.Region) {
		k.bad("region", "%q is not a region such as us-east-1", c.Region)
	}
	if !accountPattern.MatchString(c.Account) {
		k.bad("account", "%q is not 12 digits", c.Account)
	}
	if c.LogFormat != "console" && c.LogFormat != "json" {
		k.bad("log-format", "%q is neither console nor json", c.LogFormat)
	}
	switch c.LogLevel {
	case "debug", "info", "warn", "error":
	default:
		k.bad("log-level", "%q is none of debug, info, warn, error", c.LogLevel)
	}
	if c.Concurrency < 1 || c.Concurrency > 1000 {
		k.bad("concurrency", "%d is not in 1..1000", c.Concurrency)
	}
	if c.FunctionTimeout <= 0 || c.FunctionTimeout > maxFunctionTimeout {
		k.bad("function-timeout", "%s is not above 0s and at most 15m", c.FunctionTimeout)
	}
	if c.Limits != "off" && c.Limits != "aws" {
		k.bad("limits", "%q is neither off nor aws", c.Limits)
	}
	if c.Timing != "instant" && c.Timing != "aws" {
		k.bad("timing", "%q is neither instant nor aws", c.Timing)
	}
	c.checkAccess(k)
	c.checkS3(k, environ)
	return k.faults
}

// checkAccess checks who may connect and how.
func (c *Config) checkAccess(k *checker) {
	switch {
	case c.Auth != "off" && c.Auth != "keys":
		k.bad("auth", "%q is neither off nor keys", c.Auth)
	case c.Auth == "keys" && c.KeyFile == "":
		k.bad("auth", "keys needs key-file as well")
	case c.Auth == "off" && c.KeyFile != "":
		k.bad("key-file", "it has no use without auth keys")
	}
	own := c.TLS.Cert != "" || c.TLS.Key != ""
	switch {
	case c.TLS.Mode != "off" && c.TLS.Mode != "self":
		k.bad("tls", "%q is neither off nor self", c.TLS.Mode)
	case c.TLS.Mode == "self" && own:
		k.bad("tls", "self and tls-cert exclude each other")
	case (c.TLS.Cert == "") != (c.TLS.Key == ""):
		k.bad("tls-cert", "it and tls-key need each other")
	case c.TLS.Mode == "off" && c.TLS.Names != "":
		k.bad("tls-name", "it has no use without tls self")
	}
}

func (c *Config) checkListen(k *checker) {
	host, _, err := net.SplitHostPort(c.Listen)
	switch {
	case err != nil:
		k.bad("listen", "%q is not host:port, such as 127.0.0.1:4566", c.Listen)
	case !c.AllowRemote && c.Auth != "keys" && !loopback(host):
		k.bad("listen", "%s can be reached from other machines and nothing is authenticated; listen on 127.0.0.1, use --auth keys, or say --allow-remote if the network is trusted", c.Listen)
	}
}

func loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func (c *Config) checkS3(k *checker, environ []string) {
	for _, s := range []struct {
		name  string
		value *string
	}{{"s3-access-key", &c.S3.AccessKey}, {"s3-secret-key", &c.S3.SecretKey}} {
		given := *s.value != ""
		found := k.lookUp(s.name, s.value, environ)
		switch {
		case given && c.S3.Endpoint == "":
			k.bad(s.name, "it has no use without s3-endpoint")
		case !given && c.S3.Endpoint != "":
			k.bad("s3-endpoint", "it needs %s as well", s.name)
		case given && found && *s.value == "":
			k.bad(s.name, "it is empty")
		}
	}
}

// lookUp replaces env:NAME and file:PATH by what is there. The value itself is never shown.
func (k *checker) lookUp(setting string, value *string, environ []string) bool {
	if name, ok := strings.CutPrefix(*value, "env:"); ok {
		for _, kv := range environ {
			if n, v, _ := strings.Cut(kv, "="); n == name {
				*value = v
				return true
			}
		}
		k.bad(setting, "the variable %s is not set", name)
		return false
	}
	if path, ok := strings.CutPrefix(*value, "file:"); ok {
		b, err := os.ReadFile(path)
		if err != nil {
			k.faults = append(k.faults, errs.Wrap(errs.Invalid, err, "%s cannot be read", k.places[setting]))
			return false
		}
		*value = strings.TrimSpace(string(b))
	}
	return true
}
