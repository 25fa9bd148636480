package journal

import (
	"context"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// recovery is the state of Open while it rebuilds the index.
type recovery struct {
	s        *Store
	list     *listing
	highest  shards.ShardID // ever created
	buf      []byte
	records  int64
	segments []*volume
	chunks   int
	obsolete []string // files that others replace
	replaced []uint64 // segments that chunks replace
	repair   *repair  // nil: what is damaged is refused
}

// recover rebuilds the index from chunks and segments, by the rules of the package comment.
func (s *Store) recover() (err error) {
	start := time.Now()
	r := &recovery{s: s}
	if err := r.loadShards(); err != nil {
		return err
	}
	if r.list, err = s.list(); err != nil {
		return err
	}
	if s.opts.Repair != nil {
		if r.repair, err = s.beginRepair(r.list); err != nil {
			return err
		}
		if r.list, err = s.list(); err != nil {
			return err
		}
	} else if len(r.list.bad) > 0 {
		return errs.New(errs.Invalid, "%s was left by a repair that did not finish: run serve --repair again", r.list.bad[0].path)
	}
	s.commit.number, s.commit.off = r.list.highest+1, segmentHeader
	for _, n := range r.list.numbers {
		if err := r.number(n); err != nil {
			return err
		}
	}
	if err := r.checkEnds(); err != nil {
		return err
	}
	if r.repair != nil {
		if err := r.repair.finish(); err != nil {
			return err
		}
	}
	if f := s.opts.Events.Recovered; f != nil && len(r.list.numbers) > 0 {
		f(len(r.segments), r.chunks, r.records, time.Since(start))
	}
	return r.tidy() // only now: a store that is refused keeps what it has
}

// loadShards makes the index of the shards that metadata know.
func (r *recovery) loadShards() error {
	s := r.s
	s.index.shards = make(map[shards.ShardID]*shardIndex)
	s.index.volumes = make(map[volumeID]*volume)
	floors, err := s.meta.floors()
	if err != nil {
		return errs.Wrap(errs.Unavailable, err, "the metadata in %s cannot be read", s.fs.PathJoin(s.dir, "meta"))
	}
	for id, f := range floors {
		s.index.shards[id] = &shardIndex{horizon: f.Trimmed, last: f.Trimmed, sealed: f.Sealed, closing: f.Sealed, kept: f.floor, gaps: f.Gaps}
	}
	r.highest, err = s.meta.highest()
	return err
}

// number recovers what there is of one segment: the newest sound chunk, or else the segment.
func (r *recovery) number(n uint64) error {
	var damage error
	gens := r.list.chunks[n]
	for i, gen := range gens {
		id := volumeID{n, gen}
		rows, f, what, err := r.s.readIndex(id)
		if err != nil {
			return err
		}
		r.obsolete = append(r.obsolete, r.s.path(id))
		if what != "" {
			if damage == nil {
				damage = errs.New(errs.Invalid, "%s is damaged: %s. %s", r.s.path(id), what, restore)
			}
			continue
		}
		r.obsolete = r.obsolete[:len(r.obsolete)-1]
		for _, older := range gens[i+1:] { // made of it, and given up only after it was durable
			r.obsolete = append(r.obsolete, r.s.path(volumeID{n, older}))
		}
		if r.list.segments[n] {
			r.replaced = append(r.replaced, n)
		}
		return r.chunk(id, rows, f, int(gens[0]-gen))
	}
	if !r.list.segments[n] {
		return damage // nil if all that is left of the number is a damaged file that a repair gave up
	}
	attempts := 0
	if len(gens) > 0 {
		attempts = int(gens[0])
	}
	return r.segment(n, attempts, damage)
}

const restore = "Records that were acknowledged are lost with it; restore the folder from a copy, or leave them out with serve --repair"

// chunk takes a chunk's rows into the index.
func (r *recovery) chunk(id volumeID, rows []row, f footer, attempts int) error {
	s := r.s
	v := &volume{volumeID: id, seed: seed(s.storeID, id.number), size: int64(f.indexOff) - chunkHeader, lastArrival: f.lastArrival, closed: true, attempts: attempts}
	s.index.volumes[id] = v
	s.commit.lastMs = max(s.commit.lastMs, f.lastArrival)
	r.chunks++
	for i := range rows {
		if err := r.ref(v, rows[i].shard, rows[i].ref(id)); err != nil {
			return err
		}
	}
	return nil
}

// segment reads a segment into the index. damage is that of its chunks, if there are any: then the
// segment must be whole to take their place.
func (r *recovery) segment(number uint64, attempts int, damage error) error {
	s := r.s
	id := volumeID{number: number}
	path := s.path(id)
	file, err := s.fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	v := &volume{volumeID: id, file: file, seed: seed(s.storeID, number), closed: true, attempts: attempts}
	s.index.volumes[id] = v // from here on release closes the file
	// What a killed process wrote may not be on the disk yet, and readers will see it.
	if err := file.SyncData(); err != nil {
		return err
	}
	if err := readAll(file, &r.buf); err != nil {
		return err
	}
	scan := scanSegment(r.buf, s.storeID, number)
	switch {
	case scan.foreign:
		return errs.New(errs.Invalid, "%s belongs to another store than %s: two data folders were mixed up", path, s.dir)
	case scan.damage != "":
		return errs.New(errs.Invalid, "%s is damaged at offset %d: %s. %s", path, scan.end, scan.damage, restore)
	case damage != nil && len(scan.frames) == 0:
		return damage
	}
	r.segments = append(r.segments, v)
	for _, f := range scan.frames {
		v.size += frameHeader + int64(f.bodyLen)
		v.lastArrival = max(v.lastArrival, f.arrival)
		if f.count > 0 {
			err = r.ref(v, f.shard, ref{first: f.firstPos, arrival: f.arrival, number: uint32(number), off: uint32(f.off), size: frameHeader + f.bodyLen, count: f.count})
		}
		if err != nil {
			return err
		}
	}
	s.commit.lastMs = max(s.commit.lastMs, v.lastArrival)
	if scan.torn && s.opts.Events.TornTail != nil {
		s.opts.Events.TornTail(path, scan.end)
	}
	return nil
}

// ref takes records into their shard's index, unless the shard is gone or has been trimmed beyond
// them.
func (r *recovery) ref(v *volume, id shards.ShardID, f ref) error {
	s := r.s
	if id > r.highest {
		return errs.New(errs.Invalid, "%s has records of shard log %d, which the metadata in %s do not know: they are damaged or too old; restore the folder from a copy", s.path(v.volumeID), id, s.fs.PathJoin(s.dir, "meta"))
	}
	sh := s.index.shards[id]
	if sh == nil || f.last() <= sh.horizon {
		return nil
	}
	switch want := sh.end() + 1; {
	case f.first > want && !sh.missing(want, f.first-1):
		if r.repair == nil {
			return errs.New(errs.Invalid, "%s continues shard log %d at position %d, but the records from %d on are missing: a segment was removed or replaced. %s", s.path(v.volumeID), id, f.first, want, restore)
		}
		r.repair.lose(id, sh, gap{want, f.first - 1}, true)
	case f.first < want && len(sh.refs) > 0:
		return errs.New(errs.Invalid, "%s has records %d to %d of shard log %d once more: two data folders were mixed up", s.path(v.volumeID), f.first, min(f.last(), want-1), id)
	}
	sh.refs = append(sh.refs, f)
	v.live += int64(f.size)
	r.records += int64(f.count)
	return nil
}

// end is the last position up to which a shard's records were found.
func (sh *shardIndex) end() shards.Pos {
	if n := len(sh.refs); n > 0 {
		return sh.refs[n-1].last()
	}
	return sh.horizon
}

// checkEnds compares what was found with what the floors tell of, and sets where each shard goes on.
func (r *recovery) checkEnds() error {
	for id, sh := range r.s.index.shards {
		end, told := sh.end(), max(sh.kept.Next, 1)-1
		if end < told && !sh.missing(end+1, told) { // floors only tell of records that were synced
			if r.repair == nil {
				return errs.New(errs.Invalid, "the records %d to %d of shard log %d are missing in %s: a segment was removed, replaced or cut short. %s", end+1, told, id, r.s.dir, restore)
			}
			r.repair.lose(id, sh, gap{end + 1, told}, true)
		}
		if sh.sealed && end > told {
			return errs.New(errs.Invalid, "shard log %d was sealed at position %d, and %s has records up to %d: the metadata are damaged or too old; restore the folder from a copy", id, told, r.s.dir, end)
		}
		sh.last = end
		if r.repair != nil {
			r.repair.skip(id, sh)
		}
		sh.next = max(sh.after(), told+1)
	}
	return nil
}

// tidy removes what others replace and gives the sealer its work.
func (r *recovery) tidy() error {
	s := r.s
	for _, path := range append(r.obsolete, r.list.tmp...) {
		if err := s.fs.Remove(path); err != nil {
			return err
		}
	}
	for _, n := range r.list.free {
		path := s.fs.PathJoin(s.logDir, segmentName(n, freeSuffix))
		if r.list.segments[n] || len(s.commit.free) >= keepFree { // a rename that may show both names: the segment is the truth
			if err := s.fs.Remove(path); err != nil {
				return err
			}
			continue
		}
		s.commit.free = append(s.commit.free, path)
	}
	for _, n := range r.replaced {
		if err := s.recycle(n); err != nil {
			return err
		}
	}
	s.index.mu.Lock()
	for _, v := range s.index.volumes {
		s.judge(v)
	}
	for _, v := range r.segments {
		if v.live > 0 {
			s.seal.backlog = append(s.seal.backlog, v)
		}
	}
	s.index.mu.Unlock()
	return s.reclaim(context.Background())
}
