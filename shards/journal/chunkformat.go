package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"strings"

	"github.com/shardmill/shardmill/shards"
)

// A chunk is what a segment becomes when it is sealed: the frames that are still wanted, byte for
// byte, sorted by shard and position, then an index of runs of them, then a footer.
// docs/formats/chunk.md is the reference.
const (
	chunkMagic  = "SMCHNK01"
	footerMagic = "SMCHKF01"
	chunkHeader = 64
	chunkFooter = 64
	rowSize     = 56

	maxRow = 256 << 10 // bytes of frames in a row, unless one frame alone is larger

	chunkSuffix = ".chunk"
	tmpSuffix   = ".tmp"
	badSuffix   = ".bad" // a damaged file that a repair has not put aside yet
)

// row is one line of a chunk's index: frames of one shard whose positions follow one another.
type row struct {
	shard       shards.ShardID
	first, last shards.Pos
	arrival     int64 // of the first frame
	lastArrival int64
	off         uint64 // in the file
	size        uint32
	frames      uint32
}

func (r *row) appendTo(b []byte) []byte {
	for _, v := range [...]uint64{uint64(r.shard), uint64(r.first), uint64(r.last), uint64(r.arrival), uint64(r.lastArrival), r.off} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	b = binary.LittleEndian.AppendUint32(b, r.size)
	return binary.LittleEndian.AppendUint32(b, r.frames)
}

func decodeRow(b []byte) row {
	u := func(i int) uint64 { return binary.LittleEndian.Uint64(b[8*i:]) }
	return row{shard: shards.ShardID(u(0)), first: shards.Pos(u(1)), last: shards.Pos(u(2)), arrival: int64(u(3)), lastArrival: int64(u(4)),
		off: u(5), size: binary.LittleEndian.Uint32(b[48:]), frames: binary.LittleEndian.Uint32(b[52:])}
}

// ref is where readers find the row's frames.
func (r *row) ref(id volumeID) ref {
	return ref{first: r.first, arrival: r.arrival, number: uint32(id.number), off: uint32(r.off), size: r.size, count: uint16(r.last - r.first + 1), gen: id.gen}
}

func encodeChunkHeader(storeID [16]byte, id volumeID, createdMs int64) []byte {
	b := make([]byte, chunkHeader)
	copy(b, chunkMagic)
	binary.LittleEndian.PutUint64(b[8:], id.number)
	copy(b[16:32], storeID[:])
	binary.LittleEndian.PutUint64(b[32:], uint64(createdMs))
	binary.LittleEndian.PutUint32(b[40:], uint32(id.gen))
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

func decodeChunkHeader(b []byte) (storeID [16]byte, id volumeID, ok bool) {
	if len(b) < chunkHeader || string(b[:8]) != chunkMagic || binary.LittleEndian.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli) {
		return storeID, id, false
	}
	copy(storeID[:], b[16:32])
	return storeID, volumeID{binary.LittleEndian.Uint64(b[8:]), uint16(binary.LittleEndian.Uint32(b[40:]))}, true
}

// footer ends a chunk.
type footer struct {
	indexOff    uint64
	rows        uint32
	indexCRC    uint32
	lastArrival int64 // of the whole segment, also of frames that are not in the chunk
	id          volumeID
}

func (f *footer) encode(seed uint32) []byte {
	b := make([]byte, chunkFooter)
	binary.LittleEndian.PutUint64(b, f.indexOff)
	binary.LittleEndian.PutUint32(b[8:], f.rows)
	binary.LittleEndian.PutUint32(b[12:], f.indexCRC)
	binary.LittleEndian.PutUint64(b[16:], uint64(f.lastArrival))
	binary.LittleEndian.PutUint64(b[24:], f.id.number)
	binary.LittleEndian.PutUint32(b[32:], uint32(f.id.gen))
	copy(b[52:], footerMagic)
	binary.LittleEndian.PutUint32(b[60:], crc32.Update(seed, castagnoli, b[:60]))
	return b
}

// decodeFooter reads the last bytes of a chunk of size bytes. what says what is wrong with them.
func decodeFooter(b []byte, size int64, seed uint32, id volumeID) (f footer, what string) {
	if len(b) != chunkFooter || string(b[52:60]) != footerMagic || binary.LittleEndian.Uint32(b[60:]) != crc32.Update(seed, castagnoli, b[:60]) {
		return f, "its footer fails the checksum"
	}
	f = footer{indexOff: binary.LittleEndian.Uint64(b), rows: binary.LittleEndian.Uint32(b[8:]), indexCRC: binary.LittleEndian.Uint32(b[12:]),
		lastArrival: int64(binary.LittleEndian.Uint64(b[16:])),
		id:          volumeID{binary.LittleEndian.Uint64(b[24:]), uint16(binary.LittleEndian.Uint32(b[32:]))}}
	if f.id != id {
		return f, fmt.Sprintf("its footer is that of chunk %s", f.id)
	}
	if f.indexOff < chunkHeader || f.indexOff > uint64(size) || int64(f.indexOff)+int64(f.rows)*rowSize+chunkFooter != size {
		return f, fmt.Sprintf("its footer tells of %d rows from offset %d, which do not fit %d bytes", f.rows, f.indexOff, size)
	}
	return f, ""
}

// decodeIndex reads a chunk's rows. They must cover the frames without a hole, in order.
func decodeIndex(b []byte, f *footer, seed uint32) (rows []row, what string) {
	if len(b) != int(f.rows)*rowSize || crc32.Update(seed, castagnoli, b) != f.indexCRC {
		return nil, "its index fails the checksum"
	}
	rows = make([]row, 0, f.rows)
	at := uint64(chunkHeader)
	for ; len(b) > 0; b = b[rowSize:] {
		r := decodeRow(b)
		if r.off != at || r.size < frameHeader || r.frames == 0 || r.first == 0 || r.last < r.first || r.last-r.first >= 1<<16-1 {
			return nil, fmt.Sprintf("row %d of its index cannot be", len(rows))
		}
		if n := len(rows); n > 0 && (r.shard < rows[n-1].shard || r.shard == rows[n-1].shard && r.first <= rows[n-1].last) {
			return nil, fmt.Sprintf("row %d of its index is out of order", len(rows))
		}
		at += uint64(r.size)
		rows = append(rows, r)
	}
	if at != f.indexOff {
		return nil, "its index does not cover its frames"
	}
	return rows, ""
}

// volumeID names a file of records: segment number as it was written (gen 0), or the chunk made of
// it, whose generation grows with every rewriting.
type volumeID struct {
	number uint64
	gen    uint16
}

func (id volumeID) String() string { return id.name(segmentSuffix) }

// name is the file's name in its folder. suffix is that of a segment; chunks have their own.
func (id volumeID) name(suffix string) string {
	if id.gen == 0 {
		return segmentName(id.number, suffix)
	}
	return segmentName(id.number, "."+strconv.Itoa(int(id.gen))+chunkSuffix)
}

// parseChunkName reads the name of a chunk.
func parseChunkName(name string) (id volumeID, ok bool) {
	base, isChunk := strings.CutSuffix(name, chunkSuffix)
	hex, gen, dotted := strings.Cut(base, ".")
	if !isChunk || !dotted {
		return id, false
	}
	g, err := strconv.ParseUint(gen, 10, 16)
	if err != nil || g == 0 || strconv.FormatUint(g, 10) != gen {
		return id, false
	}
	n, suffix, ok := parseSegmentName(hex + segmentSuffix)
	return volumeID{n, uint16(g)}, ok && suffix == segmentSuffix
}
