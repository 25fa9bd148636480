package shards

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
)

// Seq is a sequence number: 186 bits, written as 56 decimal digits.
//
//	bits 185..184  2
//	bits 183..148  the shard's creation, seconds since the epoch
//	bits 147..144  shard number, low 4 bits
//	bits 143..80   position in the shard (63 bits)
//	bits  79..72   0
//	bits  71..36   the record's arrival, seconds since the epoch
//	bits  35..4    shard number
//	bits   3..0    2, the version
//
// Within a shard positions alone order the numbers, so comparing positions is comparing sequence
// numbers.
type Seq struct {
	Created int64 // the shard's creation, seconds
	Shard   uint32
	Pos     Pos
	Time    int64 // seconds
}

const (
	maxPos        = 1<<63 - 1
	maxSeqSeconds = 16025175000 // AWS refuses numbers of shards made later
)

func (s Seq) wide() wide {
	c, sh, p, t := uint64(s.Created)&(1<<36-1), uint64(s.Shard), uint64(s.Pos), uint64(s.Time)&(1<<36-1)
	return wide{
		2<<56 | c<<20 | (sh&15)<<16 | p>>48,
		p<<16 | t>>28,
		t<<36 | sh<<4 | 2,
	}
}

// SeqDigits is the length of every sequence number's decimal form: the bits on top make the number
// at least 2^185, which has 56 digits, and less than 3*2^184, which has as many.
const SeqDigits = 56

// AppendTo appends the decimal form to dst.
func (s Seq) AppendTo(dst []byte) []byte {
	w := s.wide()
	const chunk = 10_000_000_000_000_000_000 // 10^19, the largest power of ten in a word
	// The first word is below 2^58 and the quotient below 2^123: the first digits of two long
	// divisions are 0, and what is left of the second quotient are the 18 digits in front.
	high, rem := bits.Div64(w[0], w[1], chunk)
	low, last := bits.Div64(rem, w[2], chunk)
	first, middle := bits.Div64(high, low, chunk)
	dst = slices.Grow(dst, SeqDigits)
	n := len(dst)
	dst = dst[:n+SeqDigits]
	put18((*[18]byte)(dst[n:]), first)
	put19((*[19]byte)(dst[n+18:]), middle)
	put19((*[19]byte)(dst[n+37:]), last)
	return dst
}

// put19 writes v, which is below 10^19, with zeros in front.
func put19(dst *[19]byte, v uint64) {
	dst[0] = byte('0' + v/1e18)
	put18((*[18]byte)(dst[1:]), v%1e18)
}

// put18 writes v, which is below 10^18, with zeros in front.
func put18(dst *[18]byte, v uint64) {
	top := v / 1e16
	dst[0], dst[1] = byte('0'+top/10), byte('0'+top%10)
	put8(dst[2:], uint32(v/1e8%1e8))
	put8(dst[10:], uint32(v%1e8))
}

// put8 writes v, which is below 10^8, with zeros in front. The digits are computed side by side in
// one word: halves of four, then pairs, then single ones, the first in the lowest byte. Division by
// 100 and by 10 is multiplication by 10486/2^20 and 103/2^10, exact below 10^4 and 100.
func put8(dst []byte, v uint32) {
	halves := uint64(v/10_000) | uint64(v%10_000)<<32
	high := halves * 10_486 >> 20 & 0x7f_0000_007f
	pairs := high | (halves-100*high)<<16
	tens := pairs * 103 >> 10 & 0x0f_000f_000f_000f
	digits := tens | (pairs-10*tens)<<8
	binary.LittleEndian.PutUint64(dst, digits|0x3030303030303030)
}

func (s Seq) String() string { return string(s.AppendTo(nil)) }

// ParseSeq reads a sequence number of the form above. ok is false for everything else, also for
// numbers of older forms, which no stream of ours has ever given out.
func ParseSeq(text string) (s Seq, ok bool) {
	w, ok := parseWide(text)
	if !ok || w[0]>>56 != 2 || w[1]>>8&(1<<8-1) != 0 || w[2]&15 != 2 {
		return Seq{}, false
	}
	s = Seq{
		Created: int64(w[0] >> 20 & (1<<36 - 1)),
		Shard:   uint32(w[2] >> 4),
		Pos:     Pos(w[0]&(1<<16-1)<<48 | w[1]>>16),
		Time:    int64(w[1]&(1<<8-1)<<28 | w[2]>>36),
	}
	if s.Pos > maxPos || s.Created >= maxSeqSeconds || w[0]>>16&15 != uint64(s.Shard&15) {
		return Seq{}, false
	}
	return s, true
}

const noShardDigits = "shardId-000000000000"

// ShardIDLen is the length of every shard id.
const ShardIDLen = len(noShardDigits)

// FormatShardID is the id that clients see of shard number n.
func FormatShardID(n uint32) string { return string(AppendShardID(nil, n)) }

// AppendShardID appends the id that clients see of shard number n.
func AppendShardID(dst []byte, n uint32) []byte {
	dst = append(dst, noShardDigits...)
	for i := len(dst) - 1; n > 0; i-- {
		dst[i] = byte('0' + n%10)
		n /= 10
	}
	return dst
}

// ParseShardID reads a shard id as leniently as AWS: the digits after the first hyphen, or the
// whole text if there is none.
func ParseShardID(id string) (n uint32, ok bool) {
	if _, after, found := strings.Cut(id, "-"); found {
		id = after
	}
	if id == "" || len(id) > 20 {
		return 0, false
	}
	var v uint64
	for i := range len(id) {
		if id[i] < '0' || id[i] > '9' || v > 1<<31 {
			return 0, false
		}
		v = v*10 + uint64(id[i]-'0')
	}
	return uint32(v), v <= 1<<31-1
}
