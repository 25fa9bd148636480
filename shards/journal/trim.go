package journal

import (
	"context"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

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
	at, written, err := s.closeToWriters(ids)
	if err != nil {
		return 0, err
	}
	// Nothing is held while we wait: the writer may wait for the sealer, and that for s.maintain.
	if written != nil && !s.opts.omit.has(omitSealWait) {
		<-written
	}
	if err := s.stopped(); err != nil {
		return 0, err // what was in flight may be stored or not
	}
	s.maintain.Lock()
	defer s.maintain.Unlock()
	logs := make([]*shardIndex, len(ids))
	floors := make(map[shards.ShardID]storedFloor, len(ids))
	for i, id := range ids {
		if logs[i], err = s.shard(id); err != nil {
			return 0, err // deleted meanwhile
		}
		logs[i].mu.RLock()
		f := logs[i].floors()
		logs[i].mu.RUnlock()
		f.Sealed = true
		floors[id] = f
	}
	if err := s.meta.putFloors(ctx, ids, func(id shards.ShardID) storedFloor { return floors[id] }); err != nil {
		return 0, errs.Wrap(errs.Unavailable, err, "the end of the shards could not be stored")
	}
	for i, sh := range logs {
		sh.mu.Lock()
		sh.sealed, sh.kept = true, floors[ids[i]].floor
		sh.wake()
		sh.mu.Unlock()
	}
	return at, nil
}

// closeToWriters lets no append begin to the shards any more. What began before is done when
// written is closed; nil if there was nothing.
func (s *Store) closeToWriters(ids []shards.ShardID) (at int64, written <-chan struct{}, err error) {
	c := &s.commit
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop {
		return 0, nil, s.closing()
	}
	logs := make([]*shardIndex, len(ids))
	for i, id := range ids {
		if logs[i], err = s.shard(id); err != nil {
			return 0, nil, err
		}
	}
	for _, sh := range logs {
		sh.closing = true
	}
	c.lastMs = max(time.Now().UnixMilli(), c.lastMs)
	return c.lastMs, c.newest, nil
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
			s.dropBytes(gone)
		}
	}
	return nil
}

// Trim implements shards.Keeper. The new horizon holds at once; it is stored when records are about
// to be given up for it.
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
	s.dropBytes(gone)
	return s.reclaim(ctx)
}

// dropThrough removes the refs that end at or before p and counts their bytes by volume.
func (sh *shardIndex) dropThrough(p shards.Pos) map[volumeID]int64 {
	n := sh.find(p)
	if n == 0 {
		return nil
	}
	gone := make(map[volumeID]int64)
	for i := range sh.refs[:n] {
		gone[sh.refs[i].volume()] += int64(sh.refs[i].size)
	}
	sh.refs = sh.refs[n:]
	sh.shrink()
	return gone
}
