package awsapi

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ValidationError lists which members of a request break the constraints of AWS's model, in AWS's
// words.
type ValidationError struct{ Message string }

func (e *ValidationError) Error() string { return e.Message }

// maxFaults is how many sentences a ValidationError holds; AWS stops looking after that many.
const maxFaults = 10

// Validate checks the input that in points to, as DecodeJSON filled it, against the constraints in
// its fields' tags:
//
//	aws:"required,min=1,max=10000"   required: not absent (a pointer, slice or map that is nil).
//	                                 min, max: the value of a number; the length of a string in
//	                                 characters, of a blob in bytes, of a list or map in entries
//	pattern:"[a-z]+"                 a string matches as a whole; see below
//	enum:"A,B"                       a string is one of these, listed in AWS's order
//	elem:"min=1,max=128"             every string of a list: min, max, enum=A|B, and last pattern=…
//	key:"…" value:"…"                the same for the keys and values of a map
//
// Patterns are AWS's own text, which the sentences repeat. Lookaheads at their beginning are
// understood; for one that Go's regexp can not express otherwise, re2:"…" gives an equivalent. An
// unknown tag or one that cannot apply to its field is a mistake of the program, and a panic.
//
// The error is a *ValidationError of at most ten sentences, in the order of the fields and depth
// first: null, pattern, minimum, maximum, enum, then the constraints on strings inside.
func Validate(in any) error {
	var f faults
	f.structure("", reflect.Indirect(reflect.ValueOf(in)))
	switch len(f) {
	case 0:
		return nil
	case 1:
		return &ValidationError{"1 validation error detected: " + f[0]}
	}
	return &ValidationError{fmt.Sprintf("%d validation errors detected: %s", len(f), strings.Join(f, "; "))}
}

// faults collects sentences.
type faults []string

func (f *faults) full() bool { return len(*f) >= maxFaults }

// add adds the sentence that constraint text c does not hold for v, the value at path.
func (f *faults) add(v reflect.Value, path, c string) {
	if !f.full() {
		*f = append(*f, fmt.Sprintf("Value%s at '%s' failed to satisfy constraint: %s", quote(v), path, c))
	}
}

// structure checks the members of v, a structure whose members' paths start with prefix.
func (f *faults) structure(prefix string, v reflect.Value) {
	for _, m := range planOf(v.Type()).members {
		if f.full() {
			return
		}
		f.member(m, prefix+m.path, v.FieldByIndex(m.index))
	}
}

func (f *faults) member(m *member, path string, v reflect.Value) {
	if isAbsent(v) {
		if m.required {
			f.add(v, path, "Member must not be null")
		}
		return
	}
	v = reflect.Indirect(v)
	for _, c := range m.own.broken(v) {
		f.add(v, path, c)
	}
	for _, in := range m.inner {
		if in.brokenBy(v) {
			f.add(v, path, in.text)
		}
	}
	f.inside(path, v)
}

// inside checks the structures that v, the value at path, is or lists.
func (f *faults) inside(path string, v reflect.Value) {
	switch typeOf(v.Type()) {
	case typeStructure:
		f.structure(path+".", v)
	case typeList:
		if structWithin(v.Type()) == nil {
			return
		}
		for i := 0; i < v.Len() && !f.full(); i++ {
			if e := v.Index(i); !isAbsent(e) {
				f.inside(path+"."+strconv.Itoa(i+1)+".member", reflect.Indirect(e))
			}
		}
	}
}

// broken returns the texts of the constraints that v does not satisfy.
func (c *constraint) broken(v reflect.Value) []string {
	var out []string
	t := typeOf(v.Type())
	isString := t == typeString
	if isString && c.pattern != nil && !c.pattern.matches(v.String()) {
		out = append(out, c.pattern.sentence())
	}
	below, above, what := c.outside(t, v)
	if below {
		out = append(out, fmt.Sprintf("Member must have %s greater than or equal to %d", what, *c.min))
	}
	if above {
		out = append(out, fmt.Sprintf("Member must have %s less than or equal to %d", what, *c.max))
	}
	if isString && c.enum != nil && !slices.Contains(c.enum, v.String()) {
		out = append(out, enumSentence(c.enum))
	}
	return out
}

// outside compares v with the bounds; what says whether they bound its value or its length.
func (c *constraint) outside(t wireType, v reflect.Value) (below, above bool, what string) {
	if t == typeDouble {
		f := v.Float()
		return c.min != nil && f < float64(*c.min), c.max != nil && f > float64(*c.max), "value"
	}
	var n int64
	what = "length"
	switch t {
	case typeInteger, typeLong:
		n, what = v.Int(), "value"
	case typeString:
		n = int64(utf8.RuneCountInString(v.String()))
	case typeBlob, typeList, typeMap:
		n = int64(v.Len())
	}
	return c.min != nil && n < *c.min, c.max != nil && n > *c.max, what
}

// brokenBy reports whether one of the strings in v, a list or a map, breaks the constraint.
func (in *inner) brokenBy(v reflect.Value) bool {
	broken := func(s string) bool { return len(in.constraint.broken(reflect.ValueOf(s))) > 0 }
	switch {
	case in.of == innerElem:
		for i := range v.Len() {
			if broken(v.Index(i).String()) {
				return true
			}
		}
	case in.of == innerKey:
		for k := range stringsOf(v) {
			if broken(k) {
				return true
			}
		}
	default:
		for _, s := range stringsOf(v) {
			if broken(s) {
				return true
			}
		}
	}
	return false
}

// quote is the value as a sentence shows it, with a space before: null bare, everything else in
// single quotes, and nothing for values that hold structures, as newer AWS services do it.
func quote(v reflect.Value) string {
	if isAbsent(v) {
		return " null"
	}
	text := ""
	switch typeOf(v.Type()) {
	case typeString:
		text = v.String()
	case typeInteger, typeLong:
		text = strconv.FormatInt(v.Int(), 10)
	case typeDouble:
		text = strconv.FormatFloat(v.Float(), 'f', -1, 64)
	case typeBlob:
		text = fmt.Sprintf("java.nio.HeapByteBuffer[pos=0 lim=%d cap=%d]", v.Len(), v.Len())
	case typeList:
		if v.Len() > 0 && v.Type().Elem().Kind() != reflect.String {
			return ""
		}
		text = "[" + strings.Join(listOf(v), ", ") + "]"
	case typeMap:
		m := stringsOf(v)
		entries := make([]string, 0, len(m))
		for _, k := range slices.Sorted(maps.Keys(m)) {
			entries = append(entries, k+"="+m[k])
		}
		text = "{" + strings.Join(entries, ", ") + "}"
	default:
		return ""
	}
	return " '" + text + "'"
}

func listOf(v reflect.Value) []string {
	out := make([]string, v.Len())
	for i := range out {
		out[i] = v.Index(i).String()
	}
	return out
}
