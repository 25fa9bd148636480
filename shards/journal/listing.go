package journal

import (
	"slices"
	"strings"

	"github.com/shardmill/shardmill/internal/errs"
)

// listing is what lies in the folders of segments and chunks.
type listing struct {
	numbers  []uint64            // of segments and chunks, in order
	segments map[uint64]bool     // numbers with a .wal
	chunks   map[uint64][]uint16 // generations, the newest first
	free     []uint64            // numbers of recycled bodies
	tmp      []string            // paths of unfinished chunks
	bad      []badFile           // what a repair has not put aside yet
	highest  uint64              // number that any name has
}

// badFile is a damaged file, renamed.
type badFile struct {
	id   volumeID
	path string
}

// list reads the folders. A file that does not belong there is refused: maybe it belongs elsewhere.
func (s *Store) list() (*listing, error) {
	l := &listing{segments: make(map[uint64]bool), chunks: make(map[uint64][]uint16)}
	for _, dir := range []string{s.logDir, s.chunkDir} {
		names, err := s.fs.List(dir)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			path := s.fs.PathJoin(dir, name)
			if !l.add(name, path, dir == s.chunkDir) {
				return nil, errs.New(errs.Invalid, "%s does not belong into a journal: move it away", path)
			}
		}
	}
	for n := range l.segments {
		l.numbers = append(l.numbers, n)
	}
	for n, gens := range l.chunks {
		slices.SortFunc(gens, func(a, b uint16) int { return int(b) - int(a) })
		l.numbers = append(l.numbers, n)
	}
	for _, b := range l.bad {
		l.numbers = append(l.numbers, b.id.number)
	}
	slices.Sort(l.numbers)
	l.numbers = slices.Compact(l.numbers)
	return l, nil
}

func (l *listing) add(name, path string, chunk bool) (known bool) {
	good, bad := strings.CutSuffix(name, badSuffix)
	plain, tmp := strings.CutSuffix(good, tmpSuffix)
	var id volumeID
	suffix, ok := "", false
	if chunk {
		id, ok = parseChunkName(plain)
	} else {
		id.number, suffix, ok = parseSegmentName(plain)
	}
	switch {
	case !ok || tmp && (bad || !chunk):
		return false
	case tmp:
		l.tmp = append(l.tmp, path)
	case bad:
		l.bad = append(l.bad, badFile{id, path})
	case chunk:
		l.chunks[id.number] = append(l.chunks[id.number], id.gen)
	case suffix == segmentSuffix:
		l.segments[id.number] = true
	default:
		l.free = append(l.free, id.number)
	}
	l.highest = max(l.highest, id.number)
	return true
}
