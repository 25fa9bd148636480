package manifest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/shardmill/shardmill/internal/nearest"
)

// reader turns YAML nodes into values and gathers what is wrong with them.
type reader struct {
	file   string
	faults []string
}

// field takes the value of one key.
type field func(*yaml.Node)

func (r *reader) bad(n *yaml.Node, format string, args ...any) {
	const most = 20 // a manifest of nothing but faults is told of by its first ones
	if len(r.faults) < most {
		r.faults = append(r.faults, fmt.Sprintf("%s:%d: ", r.file, n.Line)+printable(fmt.Sprintf(format, args...)))
	}
}

// mapping reads the keys of n, each at most once, and returns the lines they stand in.
func (r *reader) mapping(n *yaml.Node, what string, fields map[string]field) map[string]int {
	lines := map[string]int{}
	if n.Kind != yaml.MappingNode {
		r.bad(n, "%s is a mapping of names to values", what)
		return lines
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		read := fields[k.Value]
		switch {
		case k.Kind != yaml.ScalarNode:
			r.bad(k, "%s has a key that is not a name", what)
		case read == nil:
			r.bad(k, "%s", unknown(k.Value, what, slices.Sorted(maps.Keys(fields))))
		case lines[k.Value] > 0:
			r.bad(k, "%s was set before, in line %d: leave one", k.Value, lines[k.Value])
		default:
			lines[k.Value] = k.Line
			read(v)
		}
	}
	return lines
}

// list reads each item of n, of which there is one at least.
func (r *reader) list(n *yaml.Node, name, example string, most int, item field) {
	switch {
	case n.Kind != yaml.SequenceNode || len(n.Content) == 0:
		r.bad(n, "%s is a list of %s; without any, leave the key out", name, example)
	case len(n.Content) > most:
		r.bad(n, "%s has %d items, over the limit of %d", name, len(n.Content), most)
	default:
		for _, c := range n.Content {
			item(c)
		}
	}
}

// texts reads a mapping of any names to scalars, whose text is kept as it is written.
func (r *reader) texts(n *yaml.Node, name string) map[string]string {
	if n.Kind != yaml.MappingNode {
		r.bad(n, "%s is a mapping of names to texts", name)
		return nil
	}
	out := map[string]string{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		key, ok := r.scalar(k, "a name in "+name)
		v, vok := r.scalar(n.Content[i+1], key)
		if _, twice := out[key]; twice && ok {
			r.bad(k, "%s was set before: leave one", key)
		}
		if ok && vok {
			out[key] = v
		}
	}
	return out
}

// scalar is the text of one value.
func (r *reader) scalar(n *yaml.Node, name string) (string, bool) {
	ok := n.Kind == yaml.ScalarNode && n.Tag != "!!null" && n.Style&yaml.TaggedStyle == 0
	if !ok {
		r.bad(n, "%s takes one value", name)
	}
	return n.Value, ok
}

func (r *reader) pattern(n *yaml.Node, name string, form *regexp.Regexp, what string) string {
	s, ok := r.scalar(n, name)
	if ok && !form.MatchString(s) {
		r.bad(n, "%s: %q is not %s", name, s, what)
		return ""
	}
	return s
}

func (r *reader) oneOf(n *yaml.Node, name string, words ...string) string {
	s, ok := r.scalar(n, name)
	if ok && !slices.Contains(words, s) {
		r.bad(n, "%s: %q is none of %s", name, s, strings.Join(words, ", "))
		return ""
	}
	return s
}

func (r *reader) boolean(n *yaml.Node, name string) bool {
	return r.oneOf(n, name, "true", "false") == "true"
}

func (r *reader) integer(n *yaml.Node, name string, least, most int) int {
	s, ok := r.scalar(n, name)
	if !ok {
		return 0
	}
	v, err := strconv.Atoi(s)
	if err != nil || v < least || v > most {
		r.bad(n, "%s: %q is not a whole number in %d..%d", name, s, least, most)
		return 0
	}
	return v
}

func (r *reader) duration(n *yaml.Node, name string, least, most time.Duration) time.Duration {
	s, ok := r.scalar(n, name)
	if !ok {
		return 0
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil || s == "0":
		r.bad(n, "%s: %q is not a duration with a unit, such as 3s or 500ms", name, s)
		return 0
	case d < least || d > most:
		r.bad(n, "%s: %s is not in %s..%s", name, s, short(least), short(most))
		return 0
	}
	return d
}

// short is a duration without zero parts at its end: 15m, not 15m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}}

// size reads a number of bytes, in whole MiB.
func (r *reader) size(n *yaml.Node, name string, least, most int64) int64 {
	s, ok := r.scalar(n, name)
	if !ok {
		return 0
	}
	for _, u := range units {
		digits, found := strings.CutSuffix(s, u.suffix)
		v, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		switch {
		case !found || err != nil:
			continue
		case v < 0 || v > most/u.bytes || v*u.bytes < least:
			r.bad(n, "%s: %s is not in %dMiB..%dGiB", name, s, least>>20, most>>30)
			return 0
		case v*u.bytes%(1<<20) != 0:
			r.bad(n, "%s: %s is not a whole number of MiB", name, s)
			return 0
		}
		return v * u.bytes
	}
	r.bad(n, "%s: %q is not a size with a unit, such as 64MiB or 1GiB", name, s)
	return 0
}

// unknown complains about a key and proposes the nearest that exists.
func unknown(key, what string, known []string) string {
	best, dist := "", len(key)/2+1
	for _, k := range known {
		if d := nearest.Distance(strings.ToLower(key), k); d < dist {
			best, dist = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("%s has no key %s; did you mean %s?", what, clip(key), best)
	}
	return fmt.Sprintf("%s has no key %s; it takes %s", what, clip(key), strings.Join(known, ", "))
}

// clip bounds a text of the user's in a sentence.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// printable is s with everything escaped that could steer a terminal.
func printable(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, func(c rune) bool { return !unicode.IsPrint(c) }) < 0 {
		return s
	}
	q := strconv.Quote(s)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}
