package journal

import (
	"bytes"
	"encoding/binary"
	"sort"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

const (
	blockCache = 16 << 20 // bytes of chunks kept for readers that take a row in small steps
	tableCache = 4 << 20  // bytes of frame tables kept for seeking: every read asks for the horizon

	rowsAhead = 8 // rows that a sequential reader has the disk fetch in advance
)

// block is a ref's bytes and the frames in them whose checksums are right.
type block struct {
	buf    []byte
	frames []frameAt
}

// frameAt is a sound frame of a block: 32 bytes.
type frameAt struct {
	first   shards.Pos
	arrival int64
	off     uint32 // in the block
	size    uint32
	count   uint16
}

func (f *frameAt) last() shards.Pos { return f.first + shards.Pos(f.count) - 1 }

// body is a frame's records.
func (b *block) body(f *frameAt) []byte { return b.buf[f.off+frameHeader : f.off+f.size] }

// find returns the place of the first frame that holds a position after p.
func (b *block) find(p shards.Pos) int {
	return sort.Search(len(b.frames), func(i int) bool { return b.frames[i].last() > p })
}

// parseBlock lists the frames of a shard in buf. What lies between two sound frames and is none is
// passed over: the positions that are missing tell of it.
func parseBlock(dst []frameAt, buf []byte, seed uint32, id shards.ShardID) []frameAt {
	for off := 0; off < len(buf); {
		f, body, ok := decodeFrame(buf[off:], seed)
		if !ok || f.shard != id || f.count == 0 {
			skip := bytes.Index(buf[off+1:], frameMagicBytes)
			if skip < 0 {
				break
			}
			off += 1 + skip
			continue
		}
		size := frameHeader + len(body)
		if n := len(dst); n == 0 || f.firstPos > dst[n-1].last() {
			dst = append(dst, frameAt{first: f.firstPos, arrival: f.arrival, off: uint32(off), size: uint32(size), count: f.count})
		}
		off += size
	}
	return dst
}

var frameMagicBytes = binary.LittleEndian.AppendUint32(nil, frameMagic)

// load returns a ref's block, from memory or from its file. one is where the frame of a segment's
// block is put, so that reading the tip costs no memory.
func (s *Store) load(id shards.ShardID, r *ref, one *[1]frameAt) (b block, err error) {
	if r.gen == 0 {
		if buf := s.tail.get(uint64(r.number), int64(r.off), int(r.size)); buf != nil {
			one[0] = frameAt{first: r.first, arrival: r.arrival, size: r.size, count: r.count}
			return block{buf, one[:]}, nil
		}
	} else if b, ok := s.blocks.get(blockKey{r.volume(), r.off}); ok {
		return b, nil
	}
	v := s.pin(r.volume())
	if v == nil {
		if s.closed.Load() {
			return b, s.closing()
		}
		return b, errRecycled
	}
	defer s.unpin(v)
	b.buf = make([]byte, r.size)
	if err := s.readVolume(v, b.buf, int64(r.off)); err != nil {
		return b, errs.Wrap(errs.Internal, err, "%s could not be read at offset %d", s.path(v.volumeID), r.off)
	}
	b.frames = parseBlock(one[:0], b.buf, v.seed, id)
	if r.gen > 0 {
		b.frames = append([]frameAt(nil), b.frames...)
		s.blocks.put(blockKey{r.volume(), r.off}, b, int64(r.size)+int64(len(b.frames))*32)
	}
	return b, nil
}

// table returns a block's frames for seeking.
func (s *Store) table(id shards.ShardID, r *ref) ([]frameAt, error) {
	key := blockKey{r.volume(), r.off}
	if t, ok := s.tables.get(key); ok {
		return t, nil
	}
	var one [1]frameAt
	b, err := s.load(id, r, &one)
	if err != nil {
		return nil, err
	}
	if t := b.frames; r.gen > 0 {
		s.tables.put(key, t, int64(len(t))*32)
	}
	return b.frames, nil
}

// readVolume fills buf from a volume that is pinned.
func (s *Store) readVolume(v *volume, buf []byte, off int64) error {
	if v.gen == 0 {
		_, err := v.file.ReadAt(buf, off)
		return err
	}
	f, err := s.fs.Open(s.path(v.volumeID), vfs.RandomReadsOption)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.ReadAt(buf, off)
	return err
}

// prefetch has the disk begin to fetch what a reader will want next. Failures show when it is read.
func (s *Store) prefetch(refs []ref) {
	for i := range refs {
		r := &refs[i]
		if r.gen == 0 {
			return // what is not sealed yet is in the page cache
		}
		v := s.pin(r.volume())
		if v == nil {
			return
		}
		if f, err := s.fs.Open(s.path(v.volumeID), vfs.RandomReadsOption); err == nil {
			_ = f.Prefetch(int64(r.off), int64(r.size))
			f.Close()
		}
		s.unpin(v)
	}
}

// damage is the error of a range whose frames are not sound. at is the place in the volume.
func (s *Store) damage(r *ref, b *block, next int) error {
	at := int64(r.off)
	if next > 0 {
		at += int64(b.frames[next-1].off) + int64(b.frames[next-1].size)
	}
	to := r.last()
	if next < len(b.frames) {
		to = b.frames[next].first - 1
	}
	return errs.New(errs.Internal, "%s is damaged at offset %d: the records up to position %d fail their checksum; those behind can be read. serve --repair leaves the damaged ones out for good", s.path(r.volume()), at, to)
}
