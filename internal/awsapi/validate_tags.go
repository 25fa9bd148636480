package awsapi

import (
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// constraint is what a value has to satisfy beside being there. Its zero value allows everything.
type constraint struct {
	min, max *int64
	pattern  *pattern
	enum     []string
}

// inner is a constraint on the strings inside a list or map. Text is AWS's whole clause about it,
// which names every part of the constraint whichever is broken.
type inner struct {
	of         innerKind
	constraint constraint
	text       string
}

type innerKind uint8

const (
	innerElem innerKind = iota
	innerKey
	innerValue
)

// newMember reads the tags of field f of struct t.
func newMember(t reflect.Type, f reflect.StructField, index []int) *member {
	m := &member{name: f.Name, path: lowerFirst(f.Name), index: index}
	bad := func(format string, args ...any) {
		panic(fmt.Sprintf("awsapi: field %s of %s: %s", f.Name, t, fmt.Sprintf(format, args...)))
	}
	typ := f.Type
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	wire := typeOf(typ)
	for part := range strings.SplitSeq(f.Tag.Get("aws"), ",") {
		switch part {
		case "":
		case "required":
			m.required = true
		default:
			if err := m.own.parseBound(part); err != nil {
				bad("aws tag: %v", err)
			}
		}
	}
	if p, ok := f.Tag.Lookup("pattern"); ok {
		var err error
		if m.own.pattern, err = compile(p, f.Tag.Get("re2")); err != nil {
			bad("pattern tag: %v", err)
		}
	}
	if e, ok := f.Tag.Lookup("enum"); ok {
		m.own.enum = strings.Split(e, ",")
	}
	for of, name := range [...]string{innerElem: "elem", innerKey: "key", innerValue: "value"} {
		if tag, ok := f.Tag.Lookup(name); ok {
			in, err := newInner(innerKind(of), tag)
			if err != nil {
				bad("%s tag: %v", name, err)
			}
			m.inner = append(m.inner, in)
		}
	}
	if err := m.fits(f.Type, typ, wire); err != nil {
		bad("%v", err)
	}
	return m
}

// fits checks that the constraints can apply to a field of the given type, typ without pointer.
func (m *member) fits(field, typ reflect.Type, wire wireType) error {
	switch field.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
	default:
		if m.required {
			return fmt.Errorf("required needs a type that can be absent, such as *%s", field)
		}
	}
	if wire != typeString && (m.own.pattern != nil || m.own.enum != nil) {
		return fmt.Errorf("pattern and enum apply to strings; for those in a list or map use elem, key or value")
	}
	bounded := m.own.min != nil || m.own.max != nil
	if bounded && (wire == typeBoolean || wire == typeTimestamp || wire == typeStructure) {
		return fmt.Errorf("min and max do not apply to %s", field)
	}
	for _, in := range m.inner {
		isList := wire == typeList && typ.Elem().Kind() == reflect.String
		if in.of == innerElem && !isList || in.of != innerElem && wire != typeMap {
			return fmt.Errorf("elem applies to lists of strings, key and value to maps; not to %s", field)
		}
	}
	return nil
}

// newInner reads an elem, key or value tag.
func newInner(of innerKind, tag string) (inner, error) {
	in := inner{of: of}
	c := &in.constraint
	tag, regex, hasPattern := cutPattern(tag)
	for part := range strings.SplitSeq(tag, ",") {
		var err error
		if list, ok := strings.CutPrefix(part, "enum="); ok {
			c.enum = strings.Split(list, "|")
		} else if part != "" {
			err = c.parseBound(part)
		}
		if err != nil {
			return in, err
		}
	}
	var parts []string
	if c.max != nil {
		parts = append(parts, fmt.Sprintf("Member must have length less than or equal to %d", *c.max))
	}
	if c.min != nil {
		parts = append(parts, fmt.Sprintf("Member must have length greater than or equal to %d", *c.min))
	}
	if hasPattern {
		var err error
		if c.pattern, err = compile(regex, ""); err != nil {
			return in, err
		}
		parts = append(parts, c.pattern.sentence())
	}
	if c.enum != nil {
		parts = append(parts, enumSentence(c.enum))
	}
	subject := [...]string{innerElem: "Member", innerKey: "Map keys", innerValue: "Map value"}[of]
	in.text = subject + " must satisfy constraint: [" + strings.Join(parts, ", ") + "]"
	return in, nil
}

// cutPattern splits pattern=…, which takes the rest of the tag, from the parts before it.
func cutPattern(tag string) (before, regex string, found bool) {
	if regex, found = strings.CutPrefix(tag, "pattern="); found {
		return "", regex, true
	}
	return strings.Cut(tag, ",pattern=")
}

func (c *constraint) parseBound(part string) error {
	name, text, _ := strings.Cut(part, "=")
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case name != "min" && name != "max":
		return fmt.Errorf("%q is not known; see Validate", part)
	case err != nil:
		return fmt.Errorf("%q needs an integer", part)
	case name == "min":
		c.min = &n
	default:
		c.max = &n
	}
	return nil
}

func enumSentence(values []string) string {
	return "Member must satisfy enum value set: [" + strings.Join(values, ", ") + "]"
}

// pattern is a regular expression of AWS's model, which is written in Java's dialect.
type pattern struct {
	text  string
	whole *regexp.Regexp // matches the whole string
	ahead []lookahead    // in front of it
}

// lookahead is a (?=…) or (?!…) at the beginning of a pattern.
type lookahead struct {
	re   *regexp.Regexp
	want bool
}

func (p *pattern) sentence() string {
	return "Member must satisfy regular expression pattern: " + p.text
}

func (p *pattern) matches(s string) bool {
	for _, l := range p.ahead {
		if l.re.MatchString(s) != l.want {
			return false
		}
	}
	return p.whole.MatchString(s)
}

// java holds the spellings of Java that occur in AWS's models and mean the same in other words: a
// fixed count is as possessive as it is greedy.
var (
	javaUnicode    = regexp.MustCompile(`\\u([0-9A-Fa-f]{4})`)
	javaPossessive = regexp.MustCompile(`(\{\d+\})\+`)
)

// compile compiles text, or re2 in its stead if that is not empty.
func compile(text, re2 string) (*pattern, error) {
	p := &pattern{text: text}
	rest := text
	if re2 != "" {
		rest = re2
	}
	rest = javaUnicode.ReplaceAllString(rest, `\x{$1}`)
	rest = javaPossessive.ReplaceAllString(rest, `$1`)
	if strings.HasPrefix(rest, "^(?") {
		rest = rest[1:] // the pattern is anchored anyway
	}
	for strings.HasPrefix(rest, "(?=") || strings.HasPrefix(rest, "(?!") {
		end := closing(rest)
		if end < 0 {
			return nil, fmt.Errorf("the lookahead of %q is not closed", text)
		}
		re, err := regexp.Compile("^(?:" + rest[3:end] + ")")
		if err != nil {
			return nil, err
		}
		p.ahead = append(p.ahead, lookahead{re, rest[2] == '='})
		rest = rest[end+1:]
	}
	var err error
	p.whole, err = regexp.Compile("^(?:" + rest + ")$")
	return p, err
}

// closing is the index of the parenthesis that closes the one at the start of regex, -1 if none.
func closing(regex string) int {
	depth, inClass := 0, false
	for i := 0; i < len(regex); i++ {
		switch c := regex[i]; {
		case c == '\\':
			i++
		case inClass:
			inClass = c != ']'
		case c == '[':
			inClass = true
		case c == '(':
			depth++
		case c == ')':
			depth--
			if depth == 0 {
				return i
			}
		}
	}
	return -1
}
