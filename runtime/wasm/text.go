package wasm

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable returns at most limit bytes of guest text, fit for a terminal: bytes that are not
// UTF-8 and characters that do not print (escapes, controls, direction marks) become U+FFFD.
// Tabs stay; newlines stay if lines is set.
func printable(b []byte, limit int, lines bool) string {
	var s strings.Builder
	for len(b) > 0 {
		r, size := utf8.DecodeRune(b)
		b = b[size:]
		if (r == utf8.RuneError && size == 1) || !(unicode.IsPrint(r) || r == '\t' || lines && r == '\n') {
			r = utf8.RuneError
		}
		if s.Len()+utf8.RuneLen(r) > limit {
			break
		}
		s.WriteRune(r)
	}
	return s.String()
}
