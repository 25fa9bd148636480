package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// A repair (Options.Repair) reads every byte of the journal, also those of chunks that an ordinary
// Open does not read. Nothing is deleted:
//
//  1. A damaged file is renamed to NAME.bad. From here on a folder without --repair is refused,
//     so that a repair that was cut short is taken up again.
//  2. Its sound frames are written to a chunk, synced and named.
//  3. Open goes on with what is there. Positions that are missing are stored with their shard's
//     floor: they are never given out again, and a later Open does not miss them.
//  4. NAME.bad is moved to DIR/damaged/, where a person may look at it.
//
// What bytes held that no checksum vouches for is not known. A record takes at least 8 bytes, so
// every shard that still takes records skips one position for each 8 such bytes: maybe they had been
// given out.

// Repaired is what a repair did.
type Repaired struct {
	Files []RepairedFile
	Lost  []LostRange
}

// RepairedFile is a file that was damaged.
type RepairedFile struct {
	Path    string // where it was
	Aside   string // where it is now
	Offset  int64  // of the first damage
	What    string
	Kept    int64 // records of it that are kept
	Unknown int64 // bytes of which is not known what they held
}

// LostRange is a range of positions of which no record is left.
type LostRange struct {
	Shard    shards.ShardID
	From, To shards.Pos
	Certain  bool // false: maybe none of them was ever given out, they are left out for safety
}

type repair struct {
	s       *Store
	report  Repaired
	aside   []badFile // to be moved
	seen    map[shards.ShardID]shards.Pos
	unknown int64
	changed map[shards.ShardID]*shardIndex
}

// beginRepair checks every file and replaces the damaged ones by what is sound in them.
func (s *Store) beginRepair(l *listing) (*repair, error) {
	r := &repair{s: s, seen: make(map[shards.ShardID]shards.Pos), changed: make(map[shards.ShardID]*shardIndex)}
	for _, n := range l.numbers {
		if err := r.number(l, n); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// number mends one segment, or the chunk it became.
func (r *repair) number(l *listing, n uint64) error {
	var ids []volumeID // what Open would look at, the best first
	for _, gen := range l.chunks[n] {
		ids = append(ids, volumeID{n, gen})
	}
	top := uint16(0)
	if len(ids) > 0 {
		top = ids[0].gen
	}
	if l.segments[n] {
		ids = append(ids, volumeID{number: n})
	}
	var salvaged salvage
	sound, whole := false, false
	for i := 0; i < len(ids) && !sound; i++ {
		found, err := r.read(ids[i], r.s.path(ids[i]))
		if err != nil {
			return err
		}
		sound = found.what == ""
		whole = sound && i == 0 // nothing has to be put together
		salvaged.add(found)
		if !sound {
			if err := r.condemn(ids[i], found); err != nil {
				return err
			}
		}
	}
	for _, b := range l.bad { // left by a repair that was cut short
		if b.id.number == n {
			found, err := r.read(b.id, b.path)
			if err != nil {
				return err
			}
			r.note(b.path, found)
			r.aside = append(r.aside, b)
			top = max(top, b.id.gen)
			salvaged.add(found)
		}
	}
	if whole || len(salvaged.frames) == 0 {
		return nil
	}
	return r.write(volumeID{n, top + 1}, salvaged.frames)
}

// salvage is what a file holds.
type salvage struct {
	frames  []keptFrame // sound ones
	rows    []row       // of a chunk's index, if that is sound
	offset  int64       // of the first damage
	what    string      // "" if there is none
	unknown int64
	records int64
}

type keptFrame struct {
	frame
	raw []byte
}

func (a *salvage) add(b *salvage) { a.frames = append(a.frames, b.frames...) }

// read checks a whole file.
func (r *repair) read(id volumeID, path string) (*salvage, error) {
	b, unreadable, err := r.s.readRough(path)
	if err != nil {
		return nil, err
	}
	out := &salvage{}
	if id.gen == 0 {
		r.readSegment(b, id.number, out)
	} else if rows, what, err := r.chunkRows(b, id, path); err != nil {
		return nil, err
	} else if what != "" {
		out.what = what
	} else {
		out.rows = rows
	}
	end := r.collect(b, seed(r.s.storeID, id.number), out)
	for i := range out.rows { // each row must be made of frames from end to end
		if at := rowDamage(b, &out.rows[i], seed(r.s.storeID, id.number)); at >= 0 {
			out.fault(at, "a frame fails its checksum")
			r.saw(out.rows[i].shard, out.rows[i].last)
		}
	}
	if unreadable >= 0 {
		out.fault(unreadable, "the disk cannot read it")
	}
	if out.what != "" && out.rows == nil {
		out.unknown = max(out.unknown, end)
	}
	return out, nil
}

func (a *salvage) fault(at int64, what string) {
	if a.what == "" || at < a.offset {
		a.offset, a.what = at, what
	}
}

func (r *repair) saw(id shards.ShardID, p shards.Pos) { r.seen[id] = max(r.seen[id], p) }

func (r *repair) readSegment(b []byte, number uint64, out *salvage) {
	scan := scanSegment(b, r.s.storeID, number)
	switch {
	case scan.foreign:
		out.what = "it belongs to another store"
	case scan.damage != "":
		out.offset, out.what = scan.end, scan.damage
	}
}

// chunkRows reads the index within a chunk's bytes.
func (r *repair) chunkRows(b []byte, id volumeID, path string) (rows []row, what string, err error) {
	if storeID, hid, ok := decodeChunkHeader(b); !ok || storeID != r.s.storeID || hid != id {
		return nil, "its header fails the checksum, or is that of another chunk", nil
	}
	if len(b) < chunkHeader+chunkFooter {
		return nil, fmt.Sprintf("it has %d bytes", len(b)), nil
	}
	sd := seed(r.s.storeID, id.number)
	f, what := decodeFooter(b[len(b)-chunkFooter:], int64(len(b)), sd, id)
	if what != "" {
		return nil, what, nil
	}
	rows, what = decodeIndex(b[f.indexOff:len(b)-chunkFooter], &f, sd)
	return rows, what, nil
}

// rowDamage is where the frames of a row stop being sound, -1 if they do not.
func rowDamage(b []byte, r *row, seed uint32) int64 {
	raw := b[r.off : r.off+uint64(r.size)]
	pos := r.first
	for at := 0; at < len(raw); {
		f, body, ok := decodeFrame(raw[at:], seed)
		if !ok || f.shard != r.shard || f.firstPos != pos {
			return int64(r.off) + int64(at)
		}
		pos += shards.Pos(f.count)
		at += frameHeader + len(body)
	}
	if pos != r.last+1 {
		return int64(r.off)
	}
	return -1
}

// collect finds all sound frames in b, whatever lies between them, and notes the positions of which
// a header tells. It returns how many bytes were neither.
func (r *repair) collect(b []byte, seed uint32, out *salvage) (unknown int64) {
	for at := 0; at < len(b); {
		f, body, ok := decodeFrame(b[at:], seed)
		if ok {
			at += frameHeader + len(body)
			if f.count > 0 {
				out.frames = append(out.frames, keptFrame{f, b[at-frameHeader-len(body) : at]})
				out.records += int64(f.count)
				r.saw(f.shard, f.firstPos+shards.Pos(f.count)-1)
			}
			continue
		}
		if f, ok := decodeFrameHeader(b[at:], seed); ok {
			if f.count > 0 {
				r.saw(f.shard, f.firstPos+shards.Pos(f.count)-1)
			}
			at += frameHeader + int(f.bodyLen) // its header tells what is lost with the body
			continue
		}
		unknown++
		at++
	}
	return unknown
}

// decodeFrameHeader reads a header whose body may be damaged.
func decodeFrameHeader(b []byte, seed uint32) (f frame, ok bool) {
	if len(b) < frameHeader || binary.LittleEndian.Uint32(b) != frameMagic || binary.LittleEndian.Uint32(b[4:]) != crc32.Update(seed, castagnoli, b[8:frameHeader]) {
		return f, false
	}
	return frame{bodyLen: min(binary.LittleEndian.Uint32(b[8:]), maxFrameBody), count: binary.LittleEndian.Uint16(b[20:]), shard: shards.ShardID(binary.LittleEndian.Uint64(b[24:])),
		firstPos: shards.Pos(binary.LittleEndian.Uint64(b[32:]))}, true
}

func (r *repair) note(path string, found *salvage) {
	r.report.Files = append(r.report.Files, RepairedFile{Path: path, Offset: found.offset, What: found.what, Kept: found.records, Unknown: found.unknown})
	r.unknown += found.unknown
}

// condemn renames a damaged file.
func (r *repair) condemn(id volumeID, found *salvage) error {
	path := r.s.path(id)
	bad := path + badSuffix
	if err := r.s.fs.Rename(path, bad); err != nil {
		return err
	}
	r.note(path, found)
	r.aside = append(r.aside, badFile{id, bad})
	return r.s.syncDir(r.s.fs.PathDir(bad))
}

// write makes a chunk of salvaged frames.
func (r *repair) write(id volumeID, frames []keptFrame) error {
	slices.SortStableFunc(frames, func(a, b keptFrame) int {
		if a.shard != b.shard {
			return int(min(1, max(-1, int64(a.shard)-int64(b.shard))))
		}
		return int(min(1, max(-1, int64(a.firstPos)-int64(b.firstPos))))
	})
	if err := r.s.upgrade(); err != nil { // no chunk before FORMAT tells of chunks
		return err
	}
	w, err := r.s.newChunkWriter(id)
	if err != nil {
		return err
	}
	var last keptFrame
	for i := range frames {
		f := &frames[i]
		if last.raw != nil && f.shard == last.shard && f.firstPos <= last.firstPos+shards.Pos(last.count)-1 {
			continue // the same frame of another file
		}
		if err := w.frame(&f.frame, f.raw); err != nil {
			return errors.Join(err, w.file.Close(), w.discard())
		}
		last = *f
	}
	if err := w.finish(0); err != nil {
		return errors.Join(err, w.discard())
	}
	return w.install()
}

// lose records positions of a shard that are nowhere.
func (r *repair) lose(id shards.ShardID, sh *shardIndex, g gap, certain bool) {
	r.report.Lost = append(r.report.Lost, LostRange{id, g.From, g.To, certain})
	sh.gaps = append(sh.gaps, g)
	slices.SortFunc(sh.gaps, func(a, b gap) int { return int(min(1, max(-1, int64(a.From)-int64(b.From)))) })
	r.changed[id] = sh
}

// skip leaves out the positions that may have been given out in what is lost.
func (r *repair) skip(id shards.ShardID, sh *shardIndex) {
	if sh.sealed || len(r.report.Files) == 0 {
		return
	}
	next := sh.after()
	if seen := r.seen[id]; seen >= next {
		r.lose(id, sh, gap{next, seen}, true)
		next = seen + 1
	}
	if r.unknown > 0 {
		r.lose(id, sh, gap{next, next + shards.Pos(r.unknown/recordHeader)}, false)
	}
}

// finish stores the gaps, then puts the damaged files aside.
func (r *repair) finish() error {
	if err := r.storeGaps(); err != nil {
		return err
	}
	s := r.s
	if len(r.aside) > 0 {
		dir := s.fs.PathJoin(s.dir, "damaged")
		if err := s.fs.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		for i, b := range r.aside {
			to, err := s.unused(s.fs.PathJoin(dir, s.fs.PathBase(b.path)))
			if err != nil {
				return err
			}
			if err := s.fs.Rename(b.path, to); err != nil {
				return err
			}
			r.report.Files[i].Aside = to
		}
		for _, d := range []string{s.dir, dir, s.logDir, s.chunkDir} {
			if err := s.syncDir(d); err != nil {
				return err
			}
		}
	}
	s.opts.Repair(r.report)
	return nil
}

// unused is path, or path with a number behind it if there is such a file.
func (s *Store) unused(path string) (string, error) {
	for n, free := 2, path; ; n++ {
		if _, err := s.fs.Stat(free); errors.Is(err, os.ErrNotExist) {
			return free, nil
		} else if err != nil {
			return "", err
		}
		free = fmt.Sprintf("%s.%d", path, n)
	}
}

func (r *repair) storeGaps() error {
	if len(r.changed) == 0 || r.s.opts.omit.has(omitGaps) {
		return nil
	}
	var ids []shards.ShardID
	for id := range r.changed {
		ids = append(ids, id)
	}
	err := r.s.meta.putFloors(context.Background(), ids, func(id shards.ShardID) storedFloor { return r.changed[id].floors() })
	if err != nil {
		return errs.Wrap(errs.Unavailable, err, "what is lost could not be stored in the metadata")
	}
	return nil
}

// readRough reads a file as far as the disk lets it; what it does not is zero. unreadable is the
// first such place, -1 if there is none.
func (s *Store) readRough(path string) (b []byte, unreadable int64, err error) {
	f, err := s.fs.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return nil, -1, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, -1, err
	}
	b, unreadable = make([]byte, info.Size()), -1
	if readFull(f, b, 0) == nil {
		return b, -1, nil
	}
	for at := int64(0); at < int64(len(b)); at += 4096 {
		block := b[at:min(at+4096, int64(len(b)))]
		if readFull(f, block, at) != nil {
			clear(block)
			if unreadable < 0 {
				unreadable = at
			}
		}
	}
	return b, unreadable, nil
}
