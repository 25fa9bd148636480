package shards

import (
	"crypto/md5"
	"encoding/binary"
	"math/bits"
	"strconv"
)

// Hash is a hash key: an unsigned 128-bit number, written in decimal on the wire.
type Hash struct{ Hi, Lo uint64 }

// MaxHash is the last hash key, 2^128-1.
var MaxHash = Hash{^uint64(0), ^uint64(0)}

// HashOf is the hash key of a partition key: its MD5 read as a big-endian number.
func HashOf(partitionKey []byte) Hash {
	sum := md5.Sum(partitionKey)
	return Hash{binary.BigEndian.Uint64(sum[:8]), binary.BigEndian.Uint64(sum[8:])}
}

// Less orders hash keys.
func (h Hash) Less(o Hash) bool { return h.Hi < o.Hi || h.Hi == o.Hi && h.Lo < o.Lo }

// Next is h+1, wrapping to 0 after MaxHash.
func (h Hash) Next() Hash {
	lo, carry := bits.Add64(h.Lo, 1, 0)
	return Hash{h.Hi + carry, lo}
}

// prev is h-1, wrapping to MaxHash before 0.
func (h Hash) prev() Hash {
	lo, borrow := bits.Sub64(h.Lo, 1, 0)
	return Hash{h.Hi - borrow, lo}
}

// String is the decimal form.
func (h Hash) String() string { return wide{0, h.Hi, h.Lo}.decimal() }

// ParseHash reads the decimal form; ok is false for anything but 0 … 2^128-1 without leading
// zeros or signs.
func ParseHash(s string) (h Hash, ok bool) {
	w, ok := parseWide(s)
	return Hash{w[1], w[2]}, ok && w[0] == 0
}

// splitHashSpace cuts 0 … 2^128-1 into n ranges as CreateStream does: each floor(2^128/n) wide,
// the last one reaching to the end.
func splitHashSpace(n int) []Hash {
	width, _ := wide{1, 0, 0}.div(uint64(n)) // 2^128 / n
	starts := make([]Hash, n)
	var at Hash
	for i := range starts {
		starts[i] = at
		lo, carry := bits.Add64(at.Lo, width[2], 0)
		hi, _ := bits.Add64(at.Hi, width[1], carry)
		at = Hash{hi, lo}
	}
	return starts
}

// wide is a 192-bit unsigned number, most significant word first: enough for sequence numbers.
type wide [3]uint64

func (w wide) div(d uint64) (q wide, rem uint64) {
	for i, word := range w {
		q[i], rem = bits.Div64(rem, word, d)
	}
	return q, rem
}

func (w wide) appendDecimal(dst []byte) []byte {
	const chunk = 10_000_000_000_000_000_000 // 10^19, the largest power of ten in a word
	var parts [4]uint64
	n := 0
	for {
		w, parts[n] = w.div(chunk)
		n++
		if w == (wide{}) {
			break
		}
	}
	dst = strconv.AppendUint(dst, parts[n-1], 10)
	var buf [20]byte
	for i := n - 2; i >= 0; i-- {
		digits := strconv.AppendUint(buf[:0], parts[i], 10)
		for range 19 - len(digits) {
			dst = append(dst, '0')
		}
		dst = append(dst, digits...)
	}
	return dst
}

func (w wide) decimal() string {
	var buf [60]byte
	return string(w.appendDecimal(buf[:0]))
}

// parseWide reads decimal digits without leading zeros; ok is false on anything else and on
// numbers of more than 192 bits.
func parseWide(s string) (w wide, ok bool) {
	if s == "" || len(s) > 58 || len(s) > 1 && s[0] == '0' {
		return w, false
	}
	for i := range len(s) {
		c := s[i]
		if c < '0' || c > '9' {
			return w, false
		}
		carry := uint64(c - '0')
		for j := 2; j >= 0; j-- {
			hi, lo := bits.Mul64(w[j], 10)
			var c2 uint64
			w[j], c2 = bits.Add64(lo, carry, 0)
			carry = hi + c2
		}
		if carry != 0 {
			return w, false
		}
	}
	return w, true
}
