package wasm

import "fmt"

// reader walks bytes that may lie. After its first error it stands still and reads zeros, so
// that callers check err once a loop.
type reader struct {
	b   []byte
	off int
	err error
}

func (r *reader) more() bool { return r.err == nil && r.off < len(r.b) }

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) failf(format string, args ...any) { r.fail(fmt.Errorf(format, args...)) }

func (r *reader) truncated() { r.failf("the module is truncated at offset %d", r.off) }

func (r *reader) byte() byte {
	if r.err != nil || r.off >= len(r.b) {
		r.truncated()
		return 0
	}
	r.off++
	return r.b[r.off-1]
}

func (r *reader) take(n int) []byte {
	if r.err != nil || n > len(r.b)-r.off {
		r.truncated()
		return nil
	}
	r.off += n
	return r.b[r.off-n : r.off]
}

// sub returns a reader of the next n bytes, whose offsets are still those of the file.
func (r *reader) sub(n uint32) *reader {
	if r.err != nil || int64(n) > int64(len(r.b)-r.off) {
		r.truncated()
		return &reader{err: r.err}
	}
	s := &reader{b: r.b[:r.off+int(n)], off: r.off}
	r.off += int(n)
	return s
}

// u32 reads an unsigned LEB128 number of at most 32 bits.
func (r *reader) u32() uint32 {
	var v uint64
	for shift := 0; shift < 35; shift += 7 {
		c := r.byte()
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if v > 1<<32-1 {
				break
			}
			return uint32(v)
		}
	}
	r.failf("the number before offset %d does not fit 32 bits", r.off)
	return 0
}

// skip passes n LEB128 numbers of any width.
func (r *reader) skip(n int) {
	for range n {
		for i := 0; r.byte() >= 0x80; i++ {
			if i == 9 {
				r.failf("the number before offset %d is longer than 10 bytes", r.off)
			}
		}
	}
}

func (r *reader) count(what string, limit int) int {
	n := r.u32()
	if int64(n) > int64(limit) {
		r.failf("the module has %d %s, the limit is %d", n, what, limit)
		return 0
	}
	return int(n)
}

func (r *reader) name() string { return string(r.take(r.count("bytes in a name", 1<<16))) }

// limits reads the limits of a table or memory and returns the minimum.
func (r *reader) limits() uint32 {
	flags := r.byte()
	if r.err == nil && flags > 1 {
		r.failf("limits with flags %#x at offset %d: shared and 64-bit memories are not supported", flags, r.off-1)
	}
	low := r.u32()
	if flags == 1 {
		r.u32()
	}
	return low
}
