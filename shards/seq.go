package shards

import (
	"strconv"
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

// AppendTo appends the decimal form to dst.
func (s Seq) AppendTo(dst []byte) []byte { return s.wide().appendDecimal(dst) }

func (s Seq) String() string { return s.wide().decimal() }

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

// FormatShardID is the id that clients see of shard number n.
func FormatShardID(n uint32) string {
	const zeros = "shardId-000000000000"
	digits := strconv.FormatUint(uint64(n), 10)
	return zeros[:len(zeros)-len(digits)] + digits
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
