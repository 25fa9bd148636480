package lambdaevent

import (
	"slices"
	"unicode/utf8"

	"github.com/segmentio/asm/base64"
)

const hexDigits = "0123456789abcdef"

// plain reports whether c stands for itself in a JSON string and is ASCII.
func plain(c byte) bool { return c >= 0x20 && c < utf8.RuneSelf && c != '"' && c != '\\' }

// appendString appends s as a JSON string. Bytes that are not UTF-8 become U+FFFD.
func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		start := i
		for i < len(s) && plain(s[i]) {
			i++
		}
		dst = append(dst, s[start:i]...)
		if i == len(s) {
			break
		}
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
			r, n := decodeRune(s[i:])
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		default:
			dst = append(dst, '\\', c)
		}
		i++
	}
	return append(dst, '"')
}

// stringSize is the number of bytes that appendString appends.
func stringSize[T string | []byte](s T) int {
	size := 2
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case plain(c):
			size++
		case c >= utf8.RuneSelf:
			r, n := decodeRune(s[i:])
			size += utf8.RuneLen(r)
			i += n
			continue
		case c < 0x20:
			size += 6
		default:
			size += 2
		}
		i++
	}
	return size
}

func decodeRune[T string | []byte](s T) (rune, int) {
	return utf8.DecodeRuneInString(string(s[:min(len(s), utf8.UTFMax)]))
}

func appendBase64(dst, data []byte) []byte {
	n := base64.StdEncoding.EncodedLen(len(data))
	dst = slices.Grow(dst, n)
	end := len(dst) + n
	base64.StdEncoding.Encode(dst[len(dst):end], data)
	return dst[:end]
}

func intSize(n int64) int {
	if n < 0 {
		return 1 + uintSize(-uint64(n))
	}
	return uintSize(uint64(n))
}

func uintSize(n uint64) int {
	size := 1
	for ; n >= 10; n /= 10 {
		size++
	}
	return size
}
