package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// docs/formats/journal.md is the reference. Little-endian throughout. Format 2 has chunks beside the
// segments of format 1, which are unchanged.
const (
	formatVersion = 2

	segmentMagic  = "SMJRNL01"
	segmentHeader = 64
	frameMagic    = 0x31464d53 // "SMF1"
	frameHeader   = 48
	recordHeader  = 8
	maxFrameBody  = 16 << 20
	maxKey        = 1<<16 - 1

	flagEnd  = 1 // last frame of its commit group
	flagMark = 4 // no records: proves that everything before it was synced
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// seed starts every checksum of a segment: content of another segment number or another store,
// such as the old bytes of a recycled file, can never pass for this segment's.
func seed(storeID [16]byte, number uint64) uint32 {
	var b [24]byte
	copy(b[:], storeID[:])
	binary.LittleEndian.PutUint64(b[16:], number)
	return crc32.Checksum(b[:], castagnoli)
}

func encodeSegmentHeader(storeID [16]byte, number uint64, createdMs int64) []byte {
	b := make([]byte, segmentHeader)
	copy(b, segmentMagic)
	binary.LittleEndian.PutUint64(b[8:], number)
	copy(b[16:32], storeID[:])
	binary.LittleEndian.PutUint64(b[32:], uint64(createdMs))
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// decodeSegmentHeader tells which segment of which store b begins with. A recycled body may still
// name the number that it had before.
func decodeSegmentHeader(b []byte) (storeID [16]byte, number uint64, ok bool) {
	if len(b) < segmentHeader || string(b[:8]) != segmentMagic ||
		binary.LittleEndian.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli) {
		return storeID, 0, false
	}
	copy(storeID[:], b[16:32])
	return storeID, binary.LittleEndian.Uint64(b[8:]), true
}

// frame is a frame's header: a run of records of one shard.
//
//	 0 magic u32        4 header checksum u32 (over 8..47)
//	 8 body length u32 12 body checksum u32
//	16 group u32       20 record count u16     22 flags u16
//	24 shard u64       32 first position u64   40 arrival ms i64
type frame struct {
	bodyLen  uint32
	bodyCRC  uint32
	group    uint32
	count    uint16
	flags    uint16
	shard    shards.ShardID
	firstPos shards.Pos
	arrival  int64
}

func (f *frame) encode(b []byte, seed uint32) {
	binary.LittleEndian.PutUint32(b, frameMagic)
	binary.LittleEndian.PutUint32(b[8:], f.bodyLen)
	binary.LittleEndian.PutUint32(b[12:], f.bodyCRC)
	binary.LittleEndian.PutUint32(b[16:], f.group)
	binary.LittleEndian.PutUint16(b[20:], f.count)
	binary.LittleEndian.PutUint16(b[22:], f.flags)
	binary.LittleEndian.PutUint64(b[24:], uint64(f.shard))
	binary.LittleEndian.PutUint64(b[32:], uint64(f.firstPos))
	binary.LittleEndian.PutUint64(b[40:], uint64(f.arrival))
	binary.LittleEndian.PutUint32(b[4:], crc32.Update(seed, castagnoli, b[8:frameHeader]))
}

// decodeFrame reads the frame at the start of b, which is all that may belong to it. ok is false
// unless magic, bounds and both checksums are right; body is then the frame's body within b.
func decodeFrame(b []byte, seed uint32) (f frame, body []byte, ok bool) {
	if len(b) < frameHeader || binary.LittleEndian.Uint32(b) != frameMagic ||
		binary.LittleEndian.Uint32(b[4:]) != crc32.Update(seed, castagnoli, b[8:frameHeader]) {
		return frame{}, nil, false
	}
	f = frame{
		bodyLen: binary.LittleEndian.Uint32(b[8:]), bodyCRC: binary.LittleEndian.Uint32(b[12:]),
		group: binary.LittleEndian.Uint32(b[16:]),
		count: binary.LittleEndian.Uint16(b[20:]), flags: binary.LittleEndian.Uint16(b[22:]),
		shard:    shards.ShardID(binary.LittleEndian.Uint64(b[24:])),
		firstPos: shards.Pos(binary.LittleEndian.Uint64(b[32:])),
		arrival:  int64(binary.LittleEndian.Uint64(b[40:])),
	}
	if f.bodyLen > maxFrameBody || int(f.bodyLen) > len(b)-frameHeader {
		return frame{}, nil, false
	}
	body = b[frameHeader : frameHeader+int(f.bodyLen) : frameHeader+int(f.bodyLen)]
	return f, body, crc32.Update(seed, castagnoli, body) == f.bodyCRC
}

// appendRecord encodes a record: data length u32, key length u16, flags u8, a zero byte, key, data.
func appendRecord(b []byte, e *shards.Entry) []byte {
	var h [recordHeader]byte
	binary.LittleEndian.PutUint32(h[:], uint32(len(e.Data)))
	binary.LittleEndian.PutUint16(h[4:], uint16(len(e.Key)))
	h[6] = e.Flags
	b = append(b, h[:]...)
	b = append(b, e.Key...)
	return append(b, e.Data...)
}

// decodeRecord takes the first record off a body.
func decodeRecord(body []byte) (e shards.Entry, rest []byte, ok bool) {
	if len(body) < recordHeader {
		return e, nil, false
	}
	k, d := int(binary.LittleEndian.Uint16(body[4:])), int(binary.LittleEndian.Uint32(body))
	e.Flags = body[6]
	body = body[recordHeader:]
	if k+d > len(body) {
		return e, nil, false
	}
	e.Key, e.Data = body[:k:k], body[k:k+d:k+d]
	return e, body[k+d:], true
}

func recordSize(e *shards.Entry) int { return recordHeader + len(e.Key) + len(e.Data) }

const (
	segmentSuffix = ".wal"
	freeSuffix    = ".free"
)

func segmentName(number uint64, suffix string) string { return fmt.Sprintf("%016x%s", number, suffix) }

func parseSegmentName(name string) (number uint64, suffix string, ok bool) {
	if len(name) < 16 {
		return 0, "", false
	}
	hex, suffix := name[:16], name[16:]
	n, err := strconv.ParseUint(hex, 16, 64)
	if err != nil || suffix != segmentSuffix && suffix != freeSuffix || strings.ToLower(hex) != hex {
		return 0, "", false
	}
	return n, suffix, true
}

// formatFile is DIR/FORMAT.
type formatFile struct {
	Format  int    `json:"format"`
	StoreID string `json:"storeId"`
	Created string `json:"created"`
}

func (f formatFile) check(dir string) error {
	if f.Format > formatVersion {
		return errs.New(errs.Invalid, "%s has data format %d and this shardmill knows formats up to %d: use a newer shardmill", dir, f.Format, formatVersion)
	}
	if f.Format < 1 {
		return errs.New(errs.Invalid, "%s/FORMAT names data format %d, which never existed: the file is damaged", dir, f.Format)
	}
	return nil
}
