package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"sort"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// recover rebuilds the index from the segments, by the rules of the package comment.
func (s *Store) recover() error {
	start := time.Now()
	s.index.shards = make(map[shards.ShardID]*shardIndex)
	s.index.segments = make(map[uint64]*segment)
	floors, err := s.meta.floors()
	if err != nil {
		return errs.Wrap(errs.Unavailable, err, "the metadata in %s cannot be read", s.fs.PathJoin(s.dir, "meta"))
	}
	for id, f := range floors {
		s.index.shards[id] = &shardIndex{horizon: f.Trimmed, last: max(f.Next, 1) - 1, sealed: f.Sealed, closing: f.Sealed, kept: f}
	}
	highest, err := s.meta.highest()
	if err != nil {
		return err
	}
	numbers, err := s.listSegments()
	if err != nil {
		return err
	}
	var records int64
	var buf []byte
	for _, number := range numbers {
		n, err := s.recoverSegment(number, highest, &buf)
		if err != nil {
			return err
		}
		records += n
	}
	for id, sh := range s.index.shards {
		if end := sh.end(); end < sh.last { // floors only tell of records that were synced
			return errs.New(errs.Invalid, "the records %d to %d of shard log %d are missing in %s: a segment was removed, replaced or cut short; restore the folder from a copy", end+1, sh.last, id, s.logDir)
		}
		if sh.sealed && sh.last >= sh.kept.Next {
			return errs.New(errs.Invalid, "shard log %d was sealed at position %d, and %s has records up to %d: the metadata are damaged or too old; restore the folder from a copy", id, sh.kept.Next-1, s.logDir, sh.last)
		}
		sh.next = sh.last + 1
	}
	s.commit.off = segmentHeader
	if f := s.opts.Events.Recovered; f != nil && len(numbers) > 0 {
		f(len(numbers), records, time.Since(start))
	}
	return s.reclaim(context.Background()) // only now: a store that is refused keeps what it has
}

// listSegments returns the numbers of the segments in order, takes the recycled bodies into the
// free list, and sets the number that the next segment gets.
func (s *Store) listSegments() (numbers []uint64, err error) {
	names, err := s.fs.List(s.logDir)
	if err != nil {
		return nil, err
	}
	live := make(map[uint64]bool)
	var free []uint64
	c := &s.commit
	for _, name := range names {
		n, suffix, ok := parseSegmentName(name)
		switch {
		case !ok:
			return nil, errs.New(errs.Invalid, "%s does not belong into a journal: move it away", s.fs.PathJoin(s.logDir, name))
		case suffix == segmentSuffix:
			live[n] = true
			numbers = append(numbers, n)
		default:
			free = append(free, n)
		}
		c.number = max(c.number, n)
	}
	c.number++
	sort.Slice(numbers, func(i, j int) bool { return numbers[i] < numbers[j] })
	for _, n := range free {
		path := s.fs.PathJoin(s.logDir, segmentName(n, freeSuffix))
		if live[n] || len(c.free) >= keepFree { // a rename that may show both names: the segment is the truth
			if err := s.fs.Remove(path); err != nil {
				return nil, err
			}
			continue
		}
		c.free = append(c.free, path)
	}
	return numbers, nil
}

// recoverSegment reads one segment into the index.
func (s *Store) recoverSegment(number uint64, highest shards.ShardID, buf *[]byte) (records int64, err error) {
	path := s.fs.PathJoin(s.logDir, segmentName(number, segmentSuffix))
	file, err := s.fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return 0, err
	}
	seg := &segment{number: number, file: file, seed: seed(s.storeID, number), closed: true}
	s.index.segments[number] = seg // from here on release closes the file
	// What a killed process wrote may not be on the disk yet, and readers will see it.
	if err := file.SyncData(); err != nil {
		return 0, err
	}
	if err := readAll(file, buf); err != nil {
		return 0, err
	}
	scan := scanSegment(*buf, s.storeID, number)
	if scan.foreign {
		return 0, errs.New(errs.Invalid, "%s belongs to another store than %s: two data folders were mixed up", path, s.dir)
	}
	if scan.damage != "" {
		return 0, errs.New(errs.Invalid, "%s is damaged at offset %d: %s. Records that were acknowledged are lost with it; restore the folder from a copy", path, scan.end, scan.damage)
	}
	for _, f := range scan.frames {
		if f.shard > highest {
			return 0, errs.New(errs.Invalid, "%s has records of shard log %d, which the metadata in %s do not know: they are damaged or too old; restore the folder from a copy", path, f.shard, s.fs.PathJoin(s.dir, "meta"))
		}
		n, err := s.recoverFrame(seg, f, path)
		if err != nil {
			return 0, err
		}
		records += n
	}
	if scan.torn && s.opts.Events.TornTail != nil {
		s.opts.Events.TornTail(path, scan.end)
	}
	return records, nil
}

// recoverFrame puts a frame into its shard's index, unless the shard is gone or has been trimmed
// beyond it.
func (s *Store) recoverFrame(seg *segment, f scannedFrame, path string) (records int64, err error) {
	s.commit.lastMs = max(s.commit.lastMs, f.arrival)
	sh := s.index.shards[f.shard]
	if sh == nil || f.count == 0 {
		return 0, nil
	}
	r := ref{first: f.firstPos, arrival: f.arrival, segment: uint32(seg.number), off: uint32(f.off), bodyLen: f.bodyLen, count: f.count}
	if r.last() <= sh.horizon {
		return 0, nil
	}
	want := sh.end() + 1
	if r.first > want || len(sh.refs) > 0 && r.first != want {
		return 0, errs.New(errs.Invalid, "%s continues shard log %d at position %d, but the records from %d on are missing: a segment was removed or replaced", path, f.shard, r.first, want)
	}
	sh.refs = append(sh.refs, r)
	sh.last = max(sh.last, r.last())
	seg.live++
	return int64(f.count), nil
}

// end is the last position up to which a shard's records were found without a gap.
func (sh *shardIndex) end() shards.Pos {
	if n := len(sh.refs); n > 0 {
		return sh.refs[n-1].last()
	}
	return sh.horizon
}

func readAll(file vfs.File, buf *[]byte) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if size := int(info.Size()); cap(*buf) < size {
		*buf = make([]byte, size)
	} else {
		*buf = (*buf)[:size]
	}
	if n, err := file.ReadAt(*buf, 0); err != nil && !(err == io.EOF && n == len(*buf)) {
		return err
	}
	return nil
}

// scanned is what a segment's bytes say.
type scanned struct {
	frames  []scannedFrame
	end     int64  // where the frames end
	torn    bool   // the last group is not whole
	foreign bool   // it is a sound segment of another store
	damage  string // why the segment cannot be trusted; "" if it can
}

type scannedFrame struct {
	frame
	off int64
}

// scanSegment reads frames up to the first that is not whole, then decides whether what follows
// is the torn tail of a group that was never acknowledged or damage to one that was.
func scanSegment(b []byte, storeID [16]byte, number uint64) (out scanned) {
	sd := seed(storeID, number)
	if id, n, ok := decodeSegmentHeader(b); !ok || id != storeID || n != number {
		out.foreign = ok && id != storeID
		if laterGroup(b, sd, 0) {
			out.damage = "its header fails the checksum although groups were committed behind it"
		}
		return out
	}
	off, group, ended := int64(segmentHeader), uint32(0), true
	for {
		f, _, ok := decodeFrame(b[off:], sd)
		if !ok || f.group != group && !(ended && f.group == group+1) || f.group == group && ended {
			break
		}
		group, ended = f.group, f.flags&flagEnd != 0
		out.frames = append(out.frames, scannedFrame{f, off})
		off += frameHeader + int64(f.bodyLen)
	}
	out.end, out.torn = off, !ended
	open := group // the group that the first missing frame would belong to
	if ended {
		open++
	}
	if laterGroup(b[off:], sd, open) {
		out.damage = "a frame fails its checksum although a later group was committed behind it"
	}
	return out
}

// laterGroup reports whether b holds the header of a frame of a group after g: such a frame was
// written only after group g had been synced.
func laterGroup(b []byte, sd uint32, g uint32) bool {
	magic := binary.LittleEndian.AppendUint32(nil, frameMagic)
	for {
		i := bytes.Index(b, magic)
		if i < 0 || len(b)-i < frameHeader {
			return false
		}
		h := b[i : i+frameHeader]
		if binary.LittleEndian.Uint32(h[4:]) == crc32.Update(sd, castagnoli, h[8:]) && binary.LittleEndian.Uint32(h[16:]) > g {
			return true
		}
		b = b[i+1:]
	}
}
