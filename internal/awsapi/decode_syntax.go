package awsapi

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth is how many lists and objects may be open at once, the outermost included.
const maxDepth = 64

// cursor is a position in a JSON text. skip is strict; the other readers rely on a text that skip
// has accepted as a whole.
type cursor struct {
	b []byte
	i int
}

// peek skips white space and returns the next byte, 0 at the end (0 is no JSON token).
func (c *cursor) peek() byte {
	for ; c.i < len(c.b); c.i++ {
		switch b := c.b[c.i]; b {
		case ' ', '\t', '\n', '\r':
		default:
			return b
		}
	}
	return 0
}

func (c *cursor) take(b byte) bool {
	if c.i >= len(c.b) || c.peek() != b {
		return false
	}
	c.i++
	return true
}

// skip passes over one value and reports whether it is valid JSON (RFC 8259) in UTF-8 with at most
// depth levels of lists and objects.
func (c *cursor) skip(depth int) bool {
	switch b := c.peek(); b {
	case '{', '[':
		return depth > 0 && c.skipContainer(b, depth-1)
	case '"':
		return c.skipString()
	case 't':
		return c.skipWord("true")
	case 'f':
		return c.skipWord("false")
	case 'n':
		return c.skipWord("null")
	default:
		return c.skipNumber()
	}
}

func (c *cursor) skipContainer(open byte, depth int) bool {
	end := open + 2 // ']' follows '[' and '}' follows '{' at this distance in ASCII
	c.i++
	if c.take(end) {
		return true
	}
	for {
		if open == '{' && (c.peek() != '"' || !c.skipString() || !c.take(':')) {
			return false
		}
		if !c.skip(depth) {
			return false
		}
		if !c.take(',') {
			return c.take(end)
		}
	}
}

// skipString passes over a string in one sweep if it has no escapes, else byte by byte.
func (c *cursor) skipString() bool {
	c.i++
	rest := c.b[c.i:]
	n := bytes.IndexByte(rest, '"')
	if n < 0 {
		return false
	}
	if bytes.IndexByte(rest[:n], '\\') < 0 {
		c.i += n + 1
		return !hasControl(rest[:n]) && utf8.Valid(rest[:n])
	}
	for start := c.i; c.i < len(c.b); c.i++ {
		switch b := c.b[c.i]; {
		case b == '"':
			c.i++
			return utf8.Valid(c.b[start:c.i])
		case b == '\\':
			if !c.skipEscape() {
				return false
			}
		case b < ' ':
			return false
		}
	}
	return false
}

func hasControl(b []byte) bool {
	for _, c := range b {
		if c < ' ' {
			return true
		}
	}
	return false
}

// skipEscape moves from a backslash to the last byte of its escape.
func (c *cursor) skipEscape() bool {
	c.i++
	if c.i >= len(c.b) || bytes.IndexByte([]byte(`"\/bfnrtu`), c.b[c.i]) < 0 {
		return false
	}
	if c.b[c.i] != 'u' {
		return true
	}
	_, ok := hex4(c.b[c.i+1:])
	c.i += 4
	return ok
}

func (c *cursor) skipWord(word string) bool {
	if !bytes.HasPrefix(c.b[c.i:], []byte(word)) {
		return false
	}
	c.i += len(word)
	return true
}

func (c *cursor) skipNumber() bool {
	c.skipByte('-')
	if !c.skipByte('0') && !c.skipDigits() {
		return false
	}
	if c.skipByte('.') && !c.skipDigits() {
		return false
	}
	if c.skipByte('e') || c.skipByte('E') {
		if !c.skipByte('+') {
			c.skipByte('-')
		}
		return c.skipDigits()
	}
	return true
}

func (c *cursor) skipByte(b byte) bool {
	if c.i >= len(c.b) || c.b[c.i] != b {
		return false
	}
	c.i++
	return true
}

func (c *cursor) skipDigits() bool {
	start := c.i
	for c.i < len(c.b) && '0' <= c.b[c.i] && c.b[c.i] <= '9' {
		c.i++
	}
	return c.i > start
}

// number reads a number as it is written.
func (c *cursor) number() string {
	c.peek()
	start := c.i
	c.skipNumber()
	return string(c.b[start:c.i])
}

// text reads a string and resolves its escapes; a string without any is a slice of the text.
func (c *cursor) text() []byte {
	c.take('"')
	raw := c.b[c.i:]
	if n := bytes.IndexByte(raw, '"'); bytes.IndexByte(raw[:n], '\\') < 0 {
		c.i += n + 1
		return raw[:n:n]
	}
	start := c.i
	c.i-- // back to the quote
	c.skipString()
	raw = c.b[start : c.i-1]
	out := make([]byte, 0, len(raw))
	for {
		n := bytes.IndexByte(raw, '\\')
		if n < 0 {
			return append(out, raw...)
		}
		out = append(out, raw[:n]...)
		out, raw = unescape(out, raw[n+1:])
	}
}

// unescape appends what the escape after a backslash stands for and returns what follows it.
func unescape(out, raw []byte) (extended, rest []byte) {
	switch raw[0] {
	case 'b':
		return append(out, '\b'), raw[1:]
	case 'f':
		return append(out, '\f'), raw[1:]
	case 'n':
		return append(out, '\n'), raw[1:]
	case 'r':
		return append(out, '\r'), raw[1:]
	case 't':
		return append(out, '\t'), raw[1:]
	case 'u':
		r, _ := hex4(raw[1:])
		raw = raw[5:]
		if utf16.IsSurrogate(r) {
			low, ok := rune(0), false
			if bytes.HasPrefix(raw, []byte(`\u`)) {
				low, ok = hex4(raw[2:])
			}
			r = utf16.DecodeRune(r, low) // U+FFFD unless the two are a pair
			if ok && r != utf8.RuneError {
				raw = raw[6:]
			}
		}
		return utf8.AppendRune(out, r), raw
	default: // quote, backslash, slash
		return append(out, raw[0]), raw[1:]
	}
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}
