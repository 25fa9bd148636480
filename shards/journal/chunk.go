package journal

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/shards"
)

const (
	chunkWrite = 1 << 20 // bytes of one write to a chunk
	chunkFlush = 8 << 20 // bytes after which the disk is asked to begin writing, so that the sync is short
)

// chunkWriter writes a chunk's file under a temporary name.
type chunkWriter struct {
	s    *Store
	id   volumeID
	seed uint32
	file vfs.File
	off  int64
	rows []row
	last int64 // arrival
}

func (s *Store) newChunkWriter(id volumeID) (w *chunkWriter, err error) {
	w = &chunkWriter{s: s, id: id, seed: seed(s.storeID, id.number)}
	if cap(s.seal.out) == 0 {
		s.seal.out = make([]byte, 0, chunkWrite)
	}
	w.file, err = s.fs.Create(s.path(id)+tmpSuffix, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	s.seal.out = append(s.seal.out[:0], encodeChunkHeader(s.storeID, id, time.Now().UnixMilli())...)
	w.off = chunkHeader
	return w, nil
}

// write takes bytes; what it is given may be reused when it returns.
func (w *chunkWriter) write(b []byte) error {
	out := w.s.seal.out
	for len(b) > 0 {
		n := min(len(b), chunkWrite-len(out))
		out = append(out, b[:n]...)
		b = b[n:]
		if len(out) == chunkWrite {
			if _, err := w.file.Write(out); err != nil {
				return err
			}
			out = out[:0]
		}
	}
	w.s.seal.out = out
	return nil
}

// frame adds a frame. Frames come sorted by shard and position.
func (w *chunkWriter) frame(f *frame, raw []byte) error {
	last := f.firstPos + shards.Pos(f.count) - 1
	if n := len(w.rows); n > 0 && w.rows[n-1].extends(f, len(raw)) {
		r := &w.rows[n-1]
		r.last, r.lastArrival = last, f.arrival
		r.size += uint32(len(raw))
		r.frames++
	} else {
		w.rows = append(w.rows, row{shard: f.shard, first: f.firstPos, last: last, arrival: f.arrival, lastArrival: f.arrival,
			off: uint64(w.off), size: uint32(len(raw)), frames: 1})
	}
	w.last = max(w.last, f.arrival)
	before := w.off / chunkFlush
	w.off += int64(len(raw))
	if err := w.write(raw); err != nil {
		return err
	}
	if w.off/chunkFlush > before {
		_, err := w.file.SyncTo(w.off - int64(len(w.s.seal.out)))
		return err
	}
	return nil
}

// extends reports whether a frame of size bytes belongs into the row.
func (r *row) extends(f *frame, size int) bool {
	return r.shard == f.shard && r.last+1 == f.firstPos && int(r.size)+size <= maxRow && uint64(f.firstPos-r.first)+uint64(f.count) <= 1<<16-1
}

// finish writes index and footer and makes the file durable, still under its temporary name.
func (w *chunkWriter) finish(lastArrival int64) error {
	f := footer{indexOff: uint64(w.off), rows: uint32(len(w.rows)), lastArrival: max(w.last, lastArrival), id: w.id, indexCRC: w.seed}
	var b []byte
	for i := range w.rows {
		b = w.rows[i].appendTo(b[:0])
		f.indexCRC = crc32.Update(f.indexCRC, castagnoli, b)
		if err := w.write(b); err != nil {
			return errors.Join(err, w.file.Close())
		}
	}
	err := w.write(f.encode(w.seed))
	if err == nil && len(w.s.seal.out) > 0 {
		_, err = w.file.Write(w.s.seal.out)
	}
	if err == nil {
		err = w.file.Sync()
	}
	return errors.Join(err, w.file.Close())
}

// discard removes the unfinished file; one that stays is removed by the next Open.
func (w *chunkWriter) discard() error { return w.s.fs.Remove(w.s.path(w.id) + tmpSuffix) }

// install gives the finished file its name, durably.
func (w *chunkWriter) install() error {
	path := w.s.path(w.id)
	if err := w.s.fs.Rename(path+tmpSuffix, path); err != nil {
		return errors.Join(err, w.discard())
	}
	return w.s.syncDir(w.s.chunkDir)
}

// chunkBuilder is a chunk made of what is live in a volume.
type chunkBuilder struct {
	*chunkWriter
	parts  []part
	fewer  bool // something of the volume is left out
	volume *volume
}

// buildChunk writes, and makes durable under a temporary name, the chunk that replaces v.
func (s *Store) buildChunk(v *volume) (b *chunkBuilder, err error) {
	s.index.mu.Lock()
	live, size := v.live, v.size
	s.index.mu.Unlock()
	if err := s.checkSealing(live + live/32 + rowSize*int64(len(s.shardIDs()))); err != nil {
		return nil, err
	}
	if v.attempts == 1<<16-1-int(v.gen) {
		return nil, fmt.Errorf("%s was tried %d times", s.path(v.volumeID), v.attempts)
	}
	v.attempts++ // a name is not used twice: the one before may be there, or come back
	read, err := s.sealSource(v)
	if err != nil {
		return nil, err
	}
	w, err := s.newChunkWriter(volumeID{v.number, v.gen + uint16(v.attempts)})
	if err != nil {
		return nil, err
	}
	b = &chunkBuilder{chunkWriter: w}
	if err := b.copyFrames(v, read); err != nil {
		return nil, errors.Join(err, w.file.Close(), w.discard())
	}
	if err := w.finish(v.lastArrival); err != nil {
		return nil, errors.Join(err, w.discard())
	}
	b.volume = &volume{volumeID: w.id, seed: w.seed, size: w.off - chunkHeader, lastArrival: max(w.last, v.lastArrival)}
	b.fewer = b.volume.size < size
	for i := range w.rows {
		p, _ := slices.BinarySearchFunc(b.parts, w.rows[i].shard, func(p part, id shards.ShardID) int { return cmp.Compare(p.id, id) })
		b.parts[p].rows = append(b.parts[p].rows, w.rows[i].ref(w.id))
	}
	return b, nil
}

// sealSource returns how the bytes of v are read: all of a segment at once, of a chunk the rows that
// are still wanted.
func (s *Store) sealSource(v *volume) (read func(r *ref) ([]byte, error), err error) {
	if v.gen > 0 {
		return func(r *ref) ([]byte, error) {
			s.seal.buf = slices.Grow(s.seal.buf[:0], int(r.size))[:r.size]
			return s.seal.buf, s.readVolume(v, s.seal.buf, int64(r.off))
		}, nil
	}
	if err := readAll(v.file, &s.seal.buf); err != nil {
		return nil, err
	}
	buf := s.seal.buf
	return func(r *ref) ([]byte, error) {
		if int64(r.off)+int64(r.size) > int64(len(buf)) {
			return nil, fmt.Errorf("%s ends at %d: %w", s.path(v.volumeID), len(buf), errDamaged)
		}
		return buf[r.off : r.off+r.size], nil
	}, nil
}

// shardIDs lists the live shards in order.
func (s *Store) shardIDs() []shards.ShardID {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	ids := make([]shards.ShardID, 0, len(s.index.shards))
	for id := range s.index.shards {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// copyFrames writes the live frames of v, shard by shard.
func (b *chunkBuilder) copyFrames(v *volume, read func(r *ref) ([]byte, error)) error {
	var refs []ref
	for _, id := range b.s.shardIDs() {
		sh, err := b.s.shard(id)
		if err != nil {
			continue // deleted meanwhile
		}
		sh.mu.RLock()
		from, to := sh.within(v.volumeID)
		refs = append(refs[:0], sh.refs[from:to]...)
		horizon := sh.horizon
		sh.mu.RUnlock()
		if len(refs) == 0 {
			continue
		}
		b.parts = append(b.parts, part{id: id, sh: sh})
		for i := range refs {
			select {
			case <-b.s.seal.stop:
				return errStopped
			default:
			}
			raw, err := read(&refs[i])
			if err == nil {
				err = b.copyRef(v, id, &refs[i], raw, horizon)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// copyRef writes the frames of a ref that end behind the horizon. Every checksum is verified: what
// is damaged must not replace anything.
func (b *chunkBuilder) copyRef(v *volume, id shards.ShardID, r *ref, raw []byte, horizon shards.Pos) error {
	for at, pos := 0, r.first; at < len(raw); {
		f, body, ok := decodeFrame(raw[at:], b.seed)
		if !ok || f.shard != id || f.firstPos != pos {
			return fmt.Errorf("%s is %w at offset %d: a frame of shard log %d fails its checksum; serve --repair mends it", b.s.path(v.volumeID), errDamaged, int(r.off)+at, id)
		}
		n := frameHeader + len(body)
		pos += shards.Pos(f.count)
		if pos-1 > horizon {
			if err := b.frame(&f, raw[at:at+n]); err != nil {
				return err
			}
		}
		at += n
	}
	return nil
}
