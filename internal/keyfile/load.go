package keyfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/sigv4"
)

var (
	accessKeyPattern = regexp.MustCompile(`^[0-9A-Za-z_.-]{1,128}$`)
	accountPattern   = regexp.MustCompile(`^[0-9]{12}$`)
	regionPattern    = regexp.MustCompile(`^[a-z]{2,}(-[a-z]+)+-[0-9]+$`)
)

// minSecret is the least length of a secret, in bytes. One signed request is enough to try secrets
// against without asking anybody, so that short ones are found.
const minSecret = 16

// loader reads a key file and gathers what is wrong with it. No fault shows a secret, nor a text
// that could be a misplaced one.
type loader struct {
	path    string
	sources sources
	environ []string
	used    map[string]bool // the files that secrets are in
	faults  []error
}

// load reads the keys out of s. It adds the files that secrets are in to s, and on success leaves
// only these.
func load(path string, s sources, environ []string) (map[string]sigv4.Key, error) {
	if s.keyFile.err != nil {
		return nil, errs.Wrap(errs.Invalid, s.keyFile.err, "the key file cannot be read")
	}
	l := &loader{path: path, sources: s, environ: environ, used: make(map[string]bool)}
	if s.keyFile.mode&0o077 != 0 {
		l.faults = append(l.faults, errs.New(errs.Invalid, "%s may be used by others than its owner (mode %04o): run chmod 600 %s", path, s.keyFile.mode.Perm(), path))
	}
	keys := l.file(s.keyFile.text)
	if l.faults != nil {
		return nil, errors.Join(l.faults...)
	}
	for p := range s.secrets {
		if !l.used[p] {
			delete(s.secrets, p)
		}
	}
	return keys, nil
}

func (l *loader) bad(n *yaml.Node, format string, args ...any) {
	l.faults = append(l.faults, errs.New(errs.Invalid, "%s:%d: "+format, append([]any{l.path, n.Line}, args...)...))
}

func (l *loader) file(text []byte) map[string]sigv4.Key {
	var doc, second yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	err := d.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF):
		l.faults = append(l.faults, errs.New(errs.Invalid, "%s has no keys: it needs a list named keys", l.path))
		return nil
	case err != nil:
		l.faults = append(l.faults, errs.New(errs.Invalid, "%s is not YAML: %s; put secrets between quotes", l.path, withoutTexts(err)))
		return nil
	}
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		l.faults = append(l.faults, errs.New(errs.Invalid, "%s has more than one YAML document: leave one", l.path))
	}
	top := l.mapping(doc.Content[0], "the key file", "keys")
	list := top["keys"]
	switch {
	case list == nil && l.faults == nil:
		l.bad(doc.Content[0], "the list named keys is missing")
	case list == nil:
	case list.Kind != yaml.SequenceNode || len(list.Content) == 0:
		l.bad(list, "keys is a list of one key or more")
	default:
		return l.keys(list)
	}
	return nil
}

// withoutTexts is what is wrong with a file that is not YAML, without the parts of it that the
// parser quotes: a secret that begins with * is an alias to it.
func withoutTexts(err error) string {
	before, _, quotes := strings.Cut(strings.TrimPrefix(err.Error(), "yaml: "), "'")
	if quotes {
		return strings.TrimSpace(before) + " …"
	}
	return before
}

// mapping finds the settings of n, which may have the names given.
func (l *loader) mapping(n *yaml.Node, what string, names ...string) map[string]*yaml.Node {
	if n.Kind != yaml.MappingNode {
		l.bad(n, "%s is a mapping with the names %s", what, strings.Join(names, ", "))
		return nil
	}
	out := make(map[string]*yaml.Node)
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		switch earlier := out[k.Value]; {
		case k.Kind != yaml.ScalarNode || !slices.Contains(names, k.Value):
			l.bad(k, "%s does not take what stands here, it takes %s", what, strings.Join(names, ", "))
		case earlier != nil:
			l.bad(k, "%s was set before, in line %d: leave one", k.Value, earlier.Line)
		default:
			out[k.Value] = v
		}
	}
	return out
}

func (l *loader) keys(list *yaml.Node) map[string]sigv4.Key {
	keys, lines := make(map[string]sigv4.Key), make(map[string]int)
	for _, n := range list.Content {
		accessKey, key := l.key(n)
		if line, twice := lines[accessKey]; twice && accessKey != "" {
			l.bad(n, "access key %s was set before, in line %d: leave one", accessKey, line)
		}
		lines[accessKey] = n.Line
		keys[accessKey] = key
	}
	return keys
}

func (l *loader) key(n *yaml.Node) (accessKey string, key sigv4.Key) {
	m := l.mapping(n, "a key", "access-key", "secret-key", "account", "regions", "session-token", "disabled")
	if m == nil {
		return "", key
	}
	for _, name := range []string{"access-key", "secret-key", "account"} {
		if m[name] == nil {
			l.bad(n, "%s is missing", name)
		}
	}
	accessKey = l.pattern(m, "access-key", accessKeyPattern, "an access key: up to 128 letters, digits, '_', '.' and '-'")
	key.Account = l.pattern(m, "account", accountPattern, "an account: 12 digits")
	var found bool
	if key.Secret, found = l.secret(m, "secret-key"); found && len(key.Secret) < minSecret {
		l.bad(m["secret-key"], "secret-key has %d characters, it needs %d: openssl rand -base64 30 makes a good one", len(key.Secret), minSecret)
	}
	if key.SessionToken, found = l.secret(m, "session-token"); found && key.SessionToken == "" {
		l.bad(m["session-token"], "session-token is empty: leave it out, or give the token")
	}
	key.Regions = l.regions(m["regions"])
	if n := m["disabled"]; n != nil && l.scalar(n, "disabled") {
		if n.Decode(&key.Disabled) != nil || n.Tag != "!!bool" {
			l.bad(n, "disabled is true or false")
		}
	}
	return accessKey, key
}

// scalar is true if n is one value; else it is a fault.
func (l *loader) scalar(n *yaml.Node, name string) bool {
	ok := n.Kind == yaml.ScalarNode && n.Tag != "!!null" && (n.Style&yaml.TaggedStyle == 0)
	if !ok {
		l.bad(n, "%s takes one value", name)
	}
	return ok
}

func (l *loader) pattern(m map[string]*yaml.Node, name string, pattern *regexp.Regexp, what string) string {
	n := m[name]
	if n == nil || !l.scalar(n, name) {
		return ""
	}
	if !pattern.MatchString(n.Value) {
		l.bad(n, "%s is not %s", name, what)
		return ""
	}
	return n.Value
}

func (l *loader) regions(n *yaml.Node) (regions []string) {
	if n == nil {
		return nil
	}
	if n.Kind != yaml.SequenceNode || len(n.Content) == 0 {
		l.bad(n, "regions is a list such as [eu-west-1]: leave it out to allow all regions")
		return nil
	}
	for _, r := range n.Content {
		switch {
		case !l.scalar(r, "a region"):
		case !regionPattern.MatchString(r.Value):
			l.bad(r, "%q is not a region such as us-east-1", r.Value)
		case slices.Contains(regions, r.Value):
			l.bad(r, "region %s is given twice: leave one", r.Value)
		default:
			regions = append(regions, r.Value)
		}
	}
	return regions
}

// secret is the value of a setting, or what is at env:NAME or file:PATH.
func (l *loader) secret(m map[string]*yaml.Node, name string) (value string, found bool) {
	n := m[name]
	if n == nil || !l.scalar(n, name) {
		return "", false
	}
	if variable, ok := strings.CutPrefix(n.Value, "env:"); ok {
		for _, kv := range l.environ {
			if k, v, _ := strings.Cut(kv, "="); k == variable {
				return v, true
			}
		}
		l.bad(n, "%s: the variable %s is not set", name, variable)
		return "", false
	}
	if path, ok := strings.CutPrefix(n.Value, "file:"); ok {
		l.used[path] = true
		text, err := l.sources.secret(path)
		if err != nil {
			l.faults = append(l.faults, errs.Wrap(errs.Invalid, err, "%s cannot be read", fmt.Sprintf("%s:%d: %s", l.path, n.Line, name)))
			return "", false
		}
		return strings.TrimSpace(string(text)), true
	}
	return n.Value, true
}
