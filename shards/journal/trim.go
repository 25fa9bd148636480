package journal

import (
	"context"
	"errors"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// keepFree is how many recycled bodies wait for reuse; more are deleted.
const keepFree = 2

// Create implements shards.Keeper. The list of live shards is in metadata: a shard needs no file.
func (s *Store) Create(_ context.Context, ids []shards.ShardID) error {
	s.maintain.Lock()
	defer s.maintain.Unlock()
	var fresh []shards.ShardID
	for _, id := range ids {
		if _, err := s.shard(id); err != nil {
			fresh = append(fresh, id)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	if err := s.meta.create(fresh); err != nil {
		return err
	}
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	for _, id := range fresh {
		if s.index.shards[id] == nil {
			s.index.shards[id] = &shardIndex{next: 1}
		}
	}
	return nil
}

// Seal implements shards.Keeper. It holds when the floors say so; a shard whose floor could not be
// stored takes no appends all the same, until the next Seal or Open.
func (s *Store) Seal(ctx context.Context, ids []shards.ShardID) (at int64, err error) {
	s.maintain.Lock()
	defer s.maintain.Unlock()
	logs, at, written, err := s.closeToWriters(ids)
	if err != nil {
		return 0, err
	}
	if written != nil {
		<-written
	}
	if err := s.Fault(); err != nil {
		return 0, err // what was in flight may be stored or not
	}
	floors := make(map[shards.ShardID]floor, len(ids))
	for i, sh := range logs {
		sh.mu.RLock()
		floors[ids[i]] = floor{Trimmed: sh.horizon, Next: sh.last + 1, Sealed: true}
		sh.mu.RUnlock()
	}
	if err := s.meta.putFloors(ctx, ids, func(id shards.ShardID) floor { return floors[id] }); err != nil {
		return 0, errs.Wrap(errs.Unavailable, err, "the end of the shards could not be stored")
	}
	for i, sh := range logs {
		sh.mu.Lock()
		sh.sealed, sh.kept = true, floors[ids[i]]
		sh.wake()
		sh.mu.Unlock()
	}
	return at, nil
}

// closeToWriters lets no append begin to the shards any more. What began
// before is done when written is closed; nil if there was nothing.
func (s *Store) closeToWriters(ids []shards.ShardID) (logs []*shardIndex, at int64, written <-chan struct{}, err error) {
	c := &s.commit
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop {
		return nil, 0, nil, s.closing()
	}
	for _, id := range ids {
		sh, err := s.shard(id)
		if err != nil {
			return nil, 0, nil, err
		}
		logs = append(logs, sh)
	}
	for _, sh := range logs {
		sh.closing = true
	}
	c.lastMs = max(time.Now().UnixMilli(), c.lastMs)
	return logs, c.lastMs, c.newest, nil
}

// Delete implements shards.Keeper.
func (s *Store) Delete(ctx context.Context, ids []shards.ShardID) error {
	if err := s.forget(ctx, ids); err != nil {
		return err
	}
	return s.reclaim(ctx)
}

// forget takes shards out of the metadata, then out of the index. No floors may be stored in
// between: they would bring back a shard whose segments are about to go.
func (s *Store) forget(ctx context.Context, ids []shards.ShardID) error {
	s.maintain.Lock()
	defer s.maintain.Unlock()
	if err := s.meta.deleteFloors(ctx, ids); err != nil {
		return err
	}
	for _, id := range ids {
		s.index.mu.Lock()
		sh := s.index.shards[id]
		delete(s.index.shards, id)
		s.index.mu.Unlock()
		if sh != nil {
			sh.mu.Lock()
			sh.deleted = true
			gone := sh.dropThrough(sh.last)
			sh.wake() // whoever waits finds that the shard is gone
			sh.mu.Unlock()
			s.dropFrames(gone)
		}
	}
	return nil
}

// Trim implements shards.Keeper. The new horizon holds at once; it is stored when a segment is
// about to be given up for it.
func (s *Store) Trim(ctx context.Context, id shards.ShardID, through shards.Pos) error {
	sh, err := s.shard(id)
	if err != nil {
		return err
	}
	sh.mu.Lock()
	through = min(through, sh.last)
	through = max(through, sh.horizon) // even then: an earlier reclaim may have failed, or met a reader
	gone := sh.dropThrough(through)
	sh.horizon = through
	sh.mu.Unlock()
	s.dropFrames(gone)
	return s.reclaim(ctx)
}

// dropThrough removes the frames that end at or before p and counts them by segment.
func (sh *shardIndex) dropThrough(p shards.Pos) map[uint32]int {
	n := sh.find(p)
	gone := make(map[uint32]int)
	for i := range sh.refs[:n] {
		gone[sh.refs[i].segment]++
	}
	if n == len(sh.refs) {
		sh.refs = nil
	} else if sh.refs = sh.refs[n:]; cap(sh.refs) > 4*len(sh.refs)+64 {
		sh.refs = append([]ref(nil), sh.refs...) // let go of the trimmed part
	}
	return gone
}

func (s *Store) dropFrames(gone map[uint32]int) {
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	for number, n := range gone {
		if seg := s.index.segments[uint64(number)]; seg != nil {
			seg.live -= n
		}
	}
}

// reclaim recycles the segments that nobody needs any more. The floors that make their records
// expired, and that keep positions from being given out twice, are durable before.
func (s *Store) reclaim(ctx context.Context) error {
	s.maintain.Lock()
	defer s.maintain.Unlock()
	if s.closed.Load() {
		return s.closing()
	}
	dead := s.deadSegments()
	if len(dead) == 0 {
		return nil
	}
	if err := s.storeFloors(ctx); err != nil {
		return err
	}
	var all []error
	for _, seg := range dead {
		s.index.mu.Lock()
		if seg.users > 0 { // a reader came in between; the next reclaim takes it
			s.index.mu.Unlock()
			continue
		}
		delete(s.index.segments, seg.number)
		s.index.mu.Unlock()
		all = append(all, seg.file.Close(), s.recycle(seg.number))
	}
	return errors.Join(all...)
}

func (s *Store) deadSegments() (dead []*segment) {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	for _, seg := range s.index.segments {
		if seg.closed && seg.live == 0 && seg.users == 0 {
			dead = append(dead, seg)
		}
	}
	return dead
}

// keepFloors stores the floors for a close.
func (s *Store) keepFloors() error {
	s.maintain.Lock()
	defer s.maintain.Unlock()
	return s.storeFloors(context.Background())
}

// storeFloors makes durable what has changed of the shards' floors. s.maintain is held.
func (s *Store) storeFloors(ctx context.Context) error {
	var ids []shards.ShardID
	floors := make(map[shards.ShardID]floor)
	s.index.mu.RLock()
	for id, sh := range s.index.shards {
		sh.mu.RLock()
		if f := (floor{Trimmed: sh.horizon, Next: sh.last + 1, Sealed: sh.sealed}); f != sh.kept {
			ids = append(ids, id)
			floors[id] = f
		}
		sh.mu.RUnlock()
	}
	s.index.mu.RUnlock()
	if len(ids) == 0 {
		return nil
	}
	if err := s.meta.putFloors(ctx, ids, func(id shards.ShardID) floor { return floors[id] }); err != nil {
		return errs.Wrap(errs.Unavailable, err, "the trim horizons could not be stored")
	}
	for _, id := range ids {
		if sh, err := s.shard(id); err == nil {
			sh.mu.Lock()
			sh.kept = floors[id]
			sh.mu.Unlock()
		}
	}
	return nil
}

// recycle keeps a segment's body for reuse under another number, or deletes it.
func (s *Store) recycle(number uint64) error {
	name := s.fs.PathJoin(s.logDir, segmentName(number, segmentSuffix))
	c := &s.commit
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.free) >= keepFree {
		return s.fs.Remove(name)
	}
	free := s.fs.PathJoin(s.logDir, segmentName(number, freeSuffix))
	if err := s.fs.Rename(name, free); err != nil {
		return err
	}
	c.free = append(c.free, free)
	return nil
}
