package keys

import (
	"fmt"
	"strings"
	"time"
)

// pattern is a compiled pattern of Java's DateTimeFormatter. Optional sections leave no trace in
// it: they are left out only when a field has no value, and an instant has them all.
type pattern []field

// field is a run of one pattern letter, or literal text (letter 0).
type field struct {
	letter byte
	count  int
	pad    int // characters to fill up to with spaces on the left; 0 for none
	text   string
}

// longest is how often each letter may be repeated.
var longest = map[byte]int{
	'y': 19, 'u': 19, 'Y': 19, 'M': 5, 'L': 5, 'd': 2, 'D': 3, 'E': 5, 'e': 5, 'c': 5, 'w': 2, 'W': 1, 'F': 1,
	'Q': 5, 'q': 5, 'G': 5, 'a': 1, 'H': 2, 'h': 2, 'K': 2, 'k': 2, 'm': 2, 's': 2, 'S': 9, 'n': 19, 'A': 19, 'N': 19,
	'V': 2, 'z': 4, 'X': 5, 'x': 5, 'Z': 5, 'O': 4,
}

// compile checks a pattern by Java's rules. The error is a sentence about the pattern.
func compile(source string, z *zone) (pattern, error) {
	var p pattern
	depth, pad := 0, 0
	for i := 0; i < len(source); {
		c := source[i]
		if !isLetter(c) && pad > 0 {
			return nil, fmt.Errorf("p, which pads, must be followed by a letter of the pattern")
		}
		switch {
		case c == 'p' && pad == 0:
			pad = run(source[i:])
			i += pad
		case isLetter(c):
			f := field{letter: c, count: run(source[i:]), pad: pad}
			if err := f.check(z); err != nil {
				return nil, err
			}
			p = append(p, f)
			i, pad = i+f.count, 0
		case c == '\'':
			text, n := quoted(source[i:])
			if n == 0 {
				return nil, fmt.Errorf("the quoted text has no closing quote")
			}
			p = append(p, field{text: text})
			i += n
		case c == '[':
			depth++
			i++
		case c == ']':
			if depth--; depth < 0 {
				return nil, fmt.Errorf("] closes an optional section that was not opened")
			}
			i++
		case c == '{' || c == '}' || c == '#':
			return nil, fmt.Errorf("%c is reserved in patterns; quote it", c)
		default:
			p = append(p, field{text: source[i : i+1]})
			i++
		}
	}
	if pad > 0 {
		return nil, fmt.Errorf("p, which pads, must be followed by a letter of the pattern")
	}
	return p, nil
}

func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }

// run is how often the first byte of s repeats.
func run(s string) int {
	return len(s) - len(strings.TrimLeft(s, s[:1]))
}

// quoted reads the quoted text at the start of s and its length in s, 0 if it has no end.
func quoted(s string) (text string, n int) {
	for i := 1; i < len(s); i++ {
		if s[i] != '\'' {
			continue
		}
		if i+1 < len(s) && s[i+1] == '\'' {
			i++
			continue
		}
		if i == 1 {
			return "'", 2
		}
		return strings.ReplaceAll(s[1:i], "''", "'"), i + 1
	}
	return "", 0
}

func (f *field) check(z *zone) error {
	most, known := longest[f.letter]
	if !known {
		return fmt.Errorf("the pattern letter %c is not supported; use y u Y M L d D E e c w W F H h K k m s S n A N a Q q G V z X x Z O p, or quote it", f.letter)
	}
	ok := f.count <= most
	switch f.letter {
	case 'V':
		ok = f.count == 2
	case 'O':
		ok = f.count == 1 || f.count == 4
	case 'c':
		ok = ok && f.count != 2
	}
	if !ok {
		return fmt.Errorf("the pattern letter %c cannot be repeated %d times", f.letter, f.count)
	}
	if f.letter == 'z' && z.names == nil {
		return fmt.Errorf("the name of the time zone %s is not known; use VV, O or X in place of z", z.id)
	}
	return f.checkPad(z)
}

// checkPad refuses a field that can be wider than what it is padded to: Java could not print it.
func (f *field) checkPad(z *zone) error {
	if f.pad == 0 {
		return nil
	}
	if f.pad > maxEvaluated {
		return fmt.Errorf("a field cannot be padded to %d characters", f.pad)
	}
	var buf []byte
	for t := range widestInstants(z) {
		if buf = f.appendBare(buf[:0], t, z); runes(buf) > f.pad {
			return fmt.Errorf("%s can be as long as %q, which exceeds the %d characters it is padded to", strings.Repeat(string(f.letter), f.count), buf, f.pad)
		}
	}
	return nil
}

// append prints the instant t, which must be in the zone z.
func (p pattern) append(dst []byte, t time.Time, z *zone) []byte {
	for i := range p {
		f := &p[i]
		start := len(dst)
		dst = f.appendBare(dst, t, z)
		if f.pad == 0 {
			continue
		}
		if gap := f.pad - runes(dst[start:]); gap > 0 {
			dst = append(dst, strings.Repeat(" ", gap)...)
			copy(dst[start+gap:], dst[start:])
			copy(dst[start:], strings.Repeat(" ", gap))
		}
	}
	return dst
}
