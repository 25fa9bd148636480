package jsonscan

import (
	"slices"
	"unicode/utf8"

	"github.com/segmentio/asm/base64"
)

// AppendString appends s to dst as a JSON string with its quotes. Only what JSON demands is
// escaped (no HTML escapes); bytes that are not UTF-8 become U+FFFD.
func AppendString[S string | []byte](dst []byte, s S) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if plain[c] {
			i++
			continue
		}
		size := 1
		if c < utf8.RuneSelf {
			dst = appendEscape(append(dst, s[start:i]...), c)
			start = i + 1
		} else {
			var r rune
			r, size = utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
			if r == utf8.RuneError && size == 1 {
				dst = utf8.AppendRune(append(dst, s[start:i]...), utf8.RuneError)
				start = i + 1
			}
		}
		i += size
	}
	return append(append(dst, s[start:]...), '"')
}

// StringLen is the length of what AppendString appends for s.
func StringLen[S string | []byte](s S) int {
	for i := range len(s) {
		if !plain[s[i]] {
			return len(AppendString(nil, s))
		}
	}
	return len(s) + 2
}

// Base64Len is the length of what AppendBase64 appends for n bytes.
func Base64Len(n int) int { return base64.StdEncoding.EncodedLen(n) }

// plain tells the ASCII bytes that stand for themselves in a JSON string.
var plain = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

func appendEscape(dst []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
}

// AppendBase64 appends the padded standard base64 of data to dst, without quotes. data and dst
// must not overlap.
func AppendBase64(dst, data []byte) []byte {
	n := base64.StdEncoding.EncodedLen(len(data))
	dst = slices.Grow(dst, n)
	base64.StdEncoding.Encode(dst[len(dst):len(dst)+n], data)
	return dst[:len(dst)+n]
}
