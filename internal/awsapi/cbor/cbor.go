// Package cbor reads and writes the CBOR (RFC 8949) of AWS's CBOR 1.1 protocol, which the Java SDKs
// speak with Kinesis. A request is what it would be in JSON, with three differences: blobs are byte
// strings and not base64, timestamps are tag 1 before a number of milliseconds (RFC 8949 says
// seconds), and names and values have lengths in front of them.
//
// It has three layers, each usable without the ones after it:
//
//   - A [Reader] walks over items one by one. It copies nothing but strings that come in chunks, and
//     it checks every length against what is left of the input before it believes it.
//   - The Append functions write items, each in its shortest form.
//   - [ScanPutRecord] and [ScanPutRecords] are to CBOR what package jsonscan is to JSON: the fast
//     path of the calls that carry records. awsapi's DecodeCBOR and Validate remain the definition of
//     what a request means.
//
// It knows no Go structs; awsapi.DecodeCBOR and awsapi.EncodeCBOR do. It is no general CBOR library
// either: names in maps have to be text, as in JSON, and tags have no meaning here.
package cbor

import (
	"encoding/binary"
	"unicode/utf8"
)

// Kind is what kind of item comes next.
type Kind uint8

const (
	Invalid Kind = iota // the end of the input, a break, or a byte that no item begins with
	Integer             // from -2^64 to 2^64-1
	Bytes
	Text
	Array
	Map
	Tag
	Simple // a simple value that is none of those below
	Bool
	Null // null or undefined
	Float
)

// Indefinite is the number of elements of an array or map whose end is marked by a break.
const Indefinite = -1

// Major types, the upper three bits of an item's initial byte.
const (
	majorUnsigned = iota
	majorNegative
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorSimple
)

// Additional information, the lower five bits of an initial byte: below 24 it is the argument.
const (
	info8          = 24 // the argument is in the next byte
	info16         = 25
	info32         = 26
	info64         = 27
	infoIndefinite = 31
)

// Simple values.
const (
	simpleFalse = 20
	simpleTrue  = 21
	simpleNull  = 22
	undefined   = 23
)

// breakByte ends an item of indefinite length.
const breakByte = majorSimple<<5 | infoIndefinite

// Reader is a position in a CBOR text. A method that reads an item returns false when another one
// comes next or when it is malformed; where the reader stands then does not matter any more.
//
// Slices that it returns alias the input and cannot grow into what follows them.
type Reader struct {
	b []byte
	i int
}

// NewReader returns a Reader at the start of b.
func NewReader(b []byte) Reader { return Reader{b: b} }

// AtEnd reports whether nothing is left.
func (r *Reader) AtEnd() bool { return r.i == len(r.b) }

// Kind looks at the next item's initial byte without moving.
func (r *Reader) Kind() Kind {
	if r.i >= len(r.b) {
		return Invalid
	}
	c := r.b[r.i]
	if c < majorSimple<<5 {
		return [...]Kind{Integer, Integer, Bytes, Text, Array, Map, Tag}[c>>5]
	}
	switch info := c & 31; info {
	case simpleFalse, simpleTrue:
		return Bool
	case simpleNull, undefined:
		return Null
	case info16, info32, info64:
		return Float
	default:
		if info > info8 {
			return Invalid
		}
		return Simple
	}
}

// head reads an initial byte and the argument after it. There is no argument if info is
// infoIndefinite.
func (r *Reader) head() (major, info byte, arg uint64, ok bool) {
	if r.i >= len(r.b) {
		return 0, 0, 0, false
	}
	major, info = r.b[r.i]>>5, r.b[r.i]&31
	r.i++
	if info < info8 {
		return major, info, uint64(info), true
	}
	rest := r.b[r.i:]
	switch info {
	case info8:
		if ok = len(rest) >= 1; ok {
			arg = uint64(rest[0])
			r.i++
		}
	case info16:
		if ok = len(rest) >= 2; ok {
			arg = uint64(binary.BigEndian.Uint16(rest))
			r.i += 2
		}
	case info32:
		if ok = len(rest) >= 4; ok {
			arg = uint64(binary.BigEndian.Uint32(rest))
			r.i += 4
		}
	case info64:
		if ok = len(rest) >= 8; ok {
			arg = binary.BigEndian.Uint64(rest)
			r.i += 8
		}
	case infoIndefinite:
		ok = major >= majorBytes && major <= majorMap
	}
	return major, info, arg, ok
}

// Map starts a map: it returns the number of entries or Indefinite. Each entry is a name, read by
// Text, and a value. A map may claim no more entries than there is input for.
func (r *Reader) Map() (entries int, ok bool) { return r.container(majorMap, 2) }

// Array starts an array: it returns the number of elements or Indefinite. An array may claim no
// more elements than there is input for.
func (r *Reader) Array() (elements int, ok bool) { return r.container(majorArray, 1) }

// container starts an array or map whose elements take up at least size bytes each.
func (r *Reader) container(want byte, size uint64) (n int, ok bool) {
	major, info, arg, ok := r.head()
	switch {
	case !ok || major != want || arg > uint64(len(r.b)-r.i)/size:
		return 0, false
	case info == infoIndefinite:
		return Indefinite, true
	}
	return int(arg), true
}

// More reports whether another element comes in the array or map that was started with left
// elements, and counts it. It takes the break at the end of an indefinite one:
//
//	for left, _ := r.Array(); r.More(&left); {
//		… read one element …
//	}
func (r *Reader) More(left *int) bool {
	switch *left {
	case 0:
		return false
	case Indefinite:
		return !r.takeBreak()
	}
	*left--
	return true
}

func (r *Reader) takeBreak() bool {
	if r.i < len(r.b) && r.b[r.i] == breakByte {
		r.i++
		return true
	}
	return false
}

// Text reads a text string. Whether it is UTF-8 is for Skip or the caller to check. A string in
// chunks is copied into one.
func (r *Reader) Text() ([]byte, bool) { return r.stringOf(majorText) }

// Bytes reads a byte string, never nil. A string in chunks is copied into one.
func (r *Reader) Bytes() ([]byte, bool) { return r.stringOf(majorBytes) }

func (r *Reader) stringOf(major byte) ([]byte, bool) {
	if !r.startsChunks(major) {
		return r.chunk(major)
	}
	r.i++
	whole := []byte{}
	for !r.takeBreak() {
		v, ok := r.chunk(major)
		if !ok {
			return nil, false
		}
		whole = append(whole, v...)
	}
	return whole, true
}

func (r *Reader) startsChunks(major byte) bool {
	return r.i < len(r.b) && r.b[r.i] == major<<5|infoIndefinite
}

// chunk reads a string of known length.
func (r *Reader) chunk(want byte) ([]byte, bool) {
	major, info, n, ok := r.head()
	if !ok || major != want || info == infoIndefinite || n > uint64(len(r.b)-r.i) {
		return nil, false
	}
	start := r.i
	r.i += int(n)
	return r.b[start:r.i:r.i], true
}

// Bool reads true or false.
func (r *Reader) Bool() (value, ok bool) {
	if r.Kind() != Bool {
		return false, false
	}
	value = r.b[r.i]&31 == simpleTrue
	r.i++
	return value, true
}

// Null reads null or undefined.
func (r *Reader) Null() bool {
	if r.Kind() != Null {
		return false
	}
	r.i++
	return true
}

// SkipTags moves to the item that the tags at this place, if any, belong to.
func (r *Reader) SkipTags() bool {
	for r.Kind() == Tag {
		if _, _, _, ok := r.head(); !ok {
			return false
		}
	}
	return true
}

// Skip passes over one item with its tags. It is strict: it returns false unless the item is well
// formed, all text in it is UTF-8, the names in maps are text, and at most depth arrays and maps are
// open at once. What it has passed over can be read without looking at errors.
func (r *Reader) Skip(depth int) bool {
	if !r.SkipTags() {
		return false
	}
	switch r.Kind() {
	case Bytes:
		return r.skipString(majorBytes)
	case Text:
		return r.skipString(majorText)
	case Array:
		left, ok := r.Array()
		return ok && depth > 0 && r.skipElements(left, depth-1, false)
	case Map:
		left, ok := r.Map()
		return ok && depth > 0 && r.skipElements(left, depth-1, true)
	case Simple:
		_, info, value, ok := r.head()
		return ok && (info < info8 || value >= 32) // those below have a form without the second byte
	case Integer, Float, Bool, Null:
		_, _, _, ok := r.head()
		return ok
	}
	return false
}

func (r *Reader) skipElements(left, depth int, named bool) bool {
	for r.More(&left) {
		if named && !r.skipString(majorText) || !r.Skip(depth) {
			return false
		}
	}
	return true
}

// skipString passes over a string; every chunk of a text has to be UTF-8 by itself.
func (r *Reader) skipString(major byte) bool {
	if !r.startsChunks(major) {
		v, ok := r.chunk(major)
		return ok && (major == majorBytes || utf8.Valid(v))
	}
	r.i++
	for !r.takeBreak() {
		if v, ok := r.chunk(major); !ok || major == majorText && !utf8.Valid(v) {
			return false
		}
	}
	return true
}
