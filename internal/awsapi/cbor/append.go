package cbor

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// tagEpoch is the tag of timestamps.
const tagEpoch = 1

// appendHead appends an initial byte and its argument in the shortest form.
func appendHead(dst []byte, major byte, arg uint64) []byte {
	major <<= 5
	switch {
	case arg < info8:
		return append(dst, major|byte(arg))
	case arg <= math.MaxUint8:
		return append(dst, major|info8, byte(arg))
	case arg <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(dst, major|info16), uint16(arg))
	case arg <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(dst, major|info32), uint32(arg))
	}
	return binary.BigEndian.AppendUint64(append(dst, major|info64), arg)
}

// AppendMapHeader starts a map of n entries: the caller appends n names (AppendText), each with its
// value after it.
func AppendMapHeader(dst []byte, n int) []byte { return appendHead(dst, majorMap, uint64(n)) }

// AppendArrayHeader starts an array of n elements, which the caller appends.
func AppendArrayHeader(dst []byte, n int) []byte { return appendHead(dst, majorArray, uint64(n)) }

// AppendText appends a text string. Every byte that is not UTF-8 becomes U+FFFD.
func AppendText[S string | []byte](dst []byte, s S) []byte {
	if isUTF8(s) {
		return append(appendHead(dst, majorText, uint64(len(s))), s...)
	}
	var text []byte
	for _, r := range string(s) {
		text = utf8.AppendRune(text, r)
	}
	return append(appendHead(dst, majorText, uint64(len(text))), text...)
}

// TextLen is the length of what AppendText appends for s.
func TextLen[S string | []byte](s S) int {
	if !isUTF8(s) {
		return len(AppendText(nil, s))
	}
	return HeaderLen(len(s)) + len(s)
}

// HeaderLen is the length of the header of a string of n bytes, or of an array or map of n elements.
func HeaderLen(n int) int {
	switch {
	case n < info8:
		return 1
	case n <= math.MaxUint8:
		return 2
	case n <= math.MaxUint16:
		return 3
	case n <= math.MaxUint32:
		return 5
	}
	return 9
}

// AppendTextHeader starts a text string of n bytes of UTF-8, which the caller appends.
func AppendTextHeader(dst []byte, n int) []byte { return appendHead(dst, majorText, uint64(n)) }

// AppendBytesHeader starts a byte string of n bytes, which the caller appends.
func AppendBytesHeader(dst []byte, n int) []byte { return appendHead(dst, majorBytes, uint64(n)) }

func isUTF8[S string | []byte](s S) bool {
	if b, ok := any(s).([]byte); ok {
		return utf8.Valid(b)
	}
	return utf8.ValidString(string(s))
}

// AppendBytes appends data as a byte string.
func AppendBytes(dst, data []byte) []byte {
	return append(appendHead(dst, majorBytes, uint64(len(data))), data...)
}

// AppendUint appends an integer.
func AppendUint(dst []byte, n uint64) []byte { return appendHead(dst, majorUnsigned, n) }

// AppendInt appends an integer.
func AppendInt(dst []byte, n int64) []byte {
	if n < 0 {
		return appendHead(dst, majorNegative, uint64(-1-n))
	}
	return appendHead(dst, majorUnsigned, uint64(n))
}

// AppendFloat appends a float of 64 bits.
func AppendFloat(dst []byte, f float64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, majorSimple<<5|info64), math.Float64bits(f))
}

// AppendBool appends true or false.
func AppendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, majorSimple<<5|simpleTrue)
	}
	return append(dst, majorSimple<<5|simpleFalse)
}

// AppendNull appends null.
func AppendNull(dst []byte) []byte { return append(dst, majorSimple<<5|simpleNull) }

// AppendTimestamp appends a point in time, ms milliseconds since 1970 UTC, as AWS's SDKs read it: tag
// 1 and an integer. They do not read a float there.
func AppendTimestamp(dst []byte, ms int64) []byte {
	return AppendInt(appendHead(dst, majorTag, tagEpoch), ms)
}
