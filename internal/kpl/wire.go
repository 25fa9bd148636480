package kpl

import (
	"encoding/binary"
	"iter"
)

// The wire types of protobuf that still exist. Types 3 and 4, groups, end a walk.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// field is one field of a message.
type field struct {
	number uint64
	wire   uint64
	value  uint64 // wireVarint
	bytes  []byte // wireBytes; a part of the message
	rest   int    // bytes of the message after this field: 0 for the last one of a whole message
}

// fields walks over a message and stops at the first thing that is no field. The message was
// whole if the last field had no rest.
func fields(message []byte) iter.Seq[field] {
	return func(yield func(field) bool) {
		for b := message; len(b) > 0; {
			f, n := next(b)
			if n == 0 {
				return
			}
			b = b[n:]
			f.rest = len(b)
			if !yield(f) {
				return
			}
		}
	}
}

// next reads the field at the start of b. A length of 0 says that there is none.
func next(b []byte) (f field, length int) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 || tag>>3 > 1<<29-1 {
		return f, 0
	}
	f.number, f.wire = tag>>3, tag&7
	body := b[n:]
	switch f.wire {
	case wireVarint:
		value, m := binary.Uvarint(body)
		if m <= 0 {
			return f, 0
		}
		f.value = value
		return f, n + m
	case wireBytes:
		size, m := binary.Uvarint(body)
		if m <= 0 || size > uint64(len(body)-m) {
			return f, 0
		}
		f.bytes = body[m : m+int(size) : m+int(size)]
		return f, n + m + int(size)
	case wireFixed64:
		if len(body) >= 8 {
			return f, n + 8
		}
	case wireFixed32:
		if len(body) >= 4 {
			return f, n + 4
		}
	}
	return f, 0
}
