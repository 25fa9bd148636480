package jsonscan

import (
	"bytes"
	"unicode/utf8"
)

// scanner walks a body once. Every method starts at the next token, skips white space before it,
// and returns false for anything that is not exactly what it reads; the scan is over then, so the
// position does not matter any more.
type scanner struct {
	b []byte
	i int
}

// peek skips white space and returns the next byte, 0 at the end (0 is no JSON token).
func (s *scanner) peek() byte {
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

func (s *scanner) take(c byte) bool {
	if s.peek() != c || s.i >= len(s.b) {
		return false
	}
	s.i++
	return true
}

func (s *scanner) atEnd() bool { return s.peek() == 0 && s.i == len(s.b) }

// object calls member for each name, with the scanner before the value that member has to read.
func (s *scanner) object(member func(name []byte) bool) bool {
	if !s.take('{') {
		return false
	}
	if s.take('}') {
		return true
	}
	for {
		name, ok := s.span()
		if !ok || !s.take(':') || !member(name) {
			return false
		}
		if !s.take(',') {
			return s.take('}')
		}
	}
}

// array calls element for each element, with the scanner before it.
func (s *scanner) array(element func() bool) bool {
	if !s.take('[') {
		return false
	}
	if s.take(']') {
		return true
	}
	for {
		if !element() {
			return false
		}
		if !s.take(',') {
			return s.take(']')
		}
	}
}

// span reads a string up to the first quote. The quote may be an escaped one: callers refuse spans
// with a backslash, names do so by being none that is known.
func (s *scanner) span() ([]byte, bool) {
	if !s.take('"') {
		return nil, false
	}
	rest := s.b[s.i:]
	n := bytes.IndexByte(rest, '"')
	if n < 0 {
		return nil, false
	}
	s.i += n + 1
	return rest[:n:n], true
}

// blob reads base64 of up to limit bytes. The alphabet is left to Put.Decode; checked here is what
// the decoder would let through: line breaks, and loose bits before the padding.
func (s *scanner) blob(into *[]byte, limit int) bool {
	v, ok := s.span()
	if !ok {
		return false
	}
	*into = v
	n, ok := blobLen(v)
	return ok && n <= limit && bytes.IndexByte(v, '\\') < 0 && bytes.IndexByte(v, '\n') < 0 && bytes.IndexByte(v, '\r') < 0
}

// text reads a string of 1 to limit characters.
func (s *scanner) text(into *[]byte, limit int) bool {
	v, ok := s.span()
	if !ok || len(v) == 0 || len(v) > limit*utf8.UTFMax || hasControl(v) || bytes.IndexByte(v, '\\') >= 0 {
		return false
	}
	*into = v
	return utf8.Valid(v) && (len(v) <= limit || utf8.RuneCount(v) <= limit)
}

// hasControl reports whether v has a byte that JSON allows in strings only as an escape.
func hasControl(v []byte) bool {
	for _, c := range v {
		if c < ' ' {
			return true
		}
	}
	return false
}

// name reads a string of 1 to limit characters of [a-zA-Z0-9_.-].
func (s *scanner) name(into *[]byte, limit int) bool {
	v, ok := s.span()
	*into = v
	return ok && isName(v) && len(v) <= limit
}

func isName(v []byte) bool {
	for _, c := range v {
		if !isAlphanumeric(c) && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return len(v) > 0
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || isDigit(c)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// decimal reads a string of up to limit digits without leading zeros.
func (s *scanner) decimal(into *[]byte, limit int) bool {
	v, ok := s.span()
	*into = v
	if !ok || len(v) == 0 || len(v) > limit || v[0] == '0' && len(v) > 1 {
		return false
	}
	for _, c := range v {
		if !isDigit(c) {
			return false
		}
	}
	return true
}

// arn reads a stream ARN in the form in which AWS writes it, arn:aws*:kinesis:REGION:ACCOUNT:stream/NAME.
// The model's pattern allows odder ones; those are left to the general path.
func (s *scanner) arn(into *[]byte) bool {
	v, ok := s.span()
	*into = v
	v, ok1 := bytes.CutPrefix(v, []byte("arn:aws"))
	partition, v, ok2 := bytes.Cut(v, []byte(":kinesis:"))
	region, v, ok3 := bytes.Cut(v, []byte(":"))
	account, name, ok4 := bytes.Cut(v, []byte(":stream/"))
	if !ok || !ok1 || !ok2 || !ok3 || !ok4 || len(*into) > 2048 || len(account) != 12 {
		return false
	}
	for _, c := range account {
		if !isDigit(c) {
			return false
		}
	}
	return (len(partition) == 0 || isName(partition)) && isName(region) && isName(name)
}

func (s *scanner) boolean(into *bool) bool {
	s.peek()
	rest := s.b[s.i:]
	switch {
	case bytes.HasPrefix(rest, []byte("true")):
		*into, s.i = true, s.i+4
	case bytes.HasPrefix(rest, []byte("false")):
		*into, s.i = false, s.i+5
	default:
		return false
	}
	return true
}
