package journal

import (
	"context"
	"sort"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// refsARead is how many frames a read looks up at a time: enough that the lock is no cost, few
// enough to lie on the stack.
const refsARead = 64

// Read implements shards.Log.
func (s *Store) Read(ctx context.Context, id shards.ShardID, after shards.Pos, max shards.Budget, dst []shards.Record) ([]shards.Record, error) {
	sh, err := s.shard(id)
	if err != nil {
		return dst, err
	}
	start, size := len(dst), 0
	full := func(next int) bool {
		n := len(dst) - start
		return n > 0 && (n >= max.Records || size+next > max.Bytes)
	}
	for !full(0) && ctx.Err() == nil {
		var refs [refsARead]ref
		n, from := sh.lookUp(after, refs[:])
		if n == 0 {
			break
		}
		after = from
		for i := 0; i < n && !full(0); i++ {
			body, err := s.frameBody(id, &refs[i])
			if err == errRecycled {
				break // trimmed while we looked: look again from the new horizon
			}
			if err != nil {
				return dst, err
			}
			for pos := refs[i].first; len(body) > 0; pos++ {
				e, rest, ok := decodeRecord(body)
				if !ok {
					return dst, s.corrupt(&refs[i], "a record reaches beyond its frame")
				}
				body = rest
				if pos <= after {
					continue
				}
				if full(len(e.Key) + len(e.Data)) {
					return dst, nil
				}
				dst = append(dst, shards.Record{Pos: pos, Arrived: refs[i].arrival, Key: e.Key, Data: e.Data, Flags: e.Flags})
				size += len(e.Key) + len(e.Data)
				after = pos
				if full(0) {
					break
				}
			}
		}
	}
	return dst, ctx.Err()
}

// lookUp copies the frames that hold positions after p, and returns how many and the position
// after which reading goes on: p, or the horizon if that is beyond it.
func (sh *shardIndex) lookUp(p shards.Pos, refs []ref) (n int, after shards.Pos) {
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	after = max(p, sh.horizon)
	return copy(refs, sh.refs[sh.find(after):]), after
}

var errRecycled = errs.New(errs.Internal, "the segment was recycled")

// frameBody returns a frame's records, from memory or from its file.
func (s *Store) frameBody(id shards.ShardID, r *ref) ([]byte, error) {
	size := frameHeader + int(r.bodyLen)
	if b := s.tail.get(uint64(r.segment), int64(r.off), size); b != nil {
		return b[frameHeader:], nil
	}
	seg := s.pin(uint64(r.segment))
	if seg == nil && s.closed.Load() {
		return nil, s.closing()
	}
	if seg == nil {
		return nil, errRecycled
	}
	defer s.unpin(seg)
	buf := make([]byte, size)
	if _, err := seg.file.ReadAt(buf, int64(r.off)); err != nil {
		return nil, errs.Wrap(errs.Internal, err, "segment %x could not be read at %d", r.segment, r.off)
	}
	f, body, ok := decodeFrame(buf, seg.seed)
	if !ok || f.shard != id || f.firstPos != r.first || f.count != r.count {
		return nil, s.corrupt(r, "the frame fails its checksum")
	}
	return body, nil
}

func (s *Store) corrupt(r *ref, what string) error {
	return errs.New(errs.Internal, "segment %s is damaged at offset %d: %s",
		s.fs.PathJoin(s.logDir, segmentName(uint64(r.segment), segmentSuffix)), r.off, what)
}

func (s *Store) pin(number uint64) *segment {
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	seg := s.index.segments[number]
	if seg != nil {
		seg.users++
		s.index.reading.Add(1)
	}
	return seg
}

func (s *Store) unpin(seg *segment) {
	s.index.mu.Lock()
	seg.users--
	s.index.mu.Unlock()
	s.index.reading.Done()
}

// Seek implements shards.Log. All records of a frame arrived together, so frames are enough.
func (s *Store) Seek(_ context.Context, id shards.ShardID, ms int64) (shards.Pos, error) {
	sh, err := s.shard(id)
	if err != nil {
		return 0, err
	}
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	i := sort.Search(len(sh.refs), func(i int) bool { return sh.refs[i].arrival >= ms })
	if i == len(sh.refs) {
		return sh.last, nil
	}
	return max(sh.refs[i].first-1, sh.horizon), nil
}
