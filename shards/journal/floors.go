package journal

import (
	"context"
	"errors"
	"slices"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// keepFree is how many recycled bodies wait for reuse; more are deleted.
const keepFree = 2

// anyDead reports whether some volume waits to be given up.
func (s *Store) anyDead() bool { return len(s.deadVolumes()) > 0 }

// deadVolumes lists the volumes that hold nothing and have no reader.
func (s *Store) deadVolumes() (dead []*volume) {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	for _, v := range s.index.dead {
		if v.users == 0 && !v.sealing {
			dead = append(dead, v)
		}
	}
	return dead
}

// reclaim gives up the volumes that nobody needs any more. The floors that make their records
// expired, and that keep positions from being given out twice, are durable before.
func (s *Store) reclaim(ctx context.Context) error {
	s.maintain.Lock()
	defer s.maintain.Unlock()
	if s.closed.Load() {
		return s.closing()
	}
	dead := s.deadVolumes()
	if len(dead) == 0 {
		return nil
	}
	if !s.opts.omit.has(omitFloors) {
		if err := s.storeFloors(ctx); err != nil {
			return err
		}
	}
	var all []error
	for _, v := range dead {
		s.index.mu.Lock()
		if v.users > 0 || v.sealing { // someone came in between; the next reclaim takes it
			s.index.mu.Unlock()
			continue
		}
		delete(s.index.volumes, v.volumeID)
		s.index.dead = slices.DeleteFunc(s.index.dead, func(d *volume) bool { return d == v })
		s.index.mu.Unlock()
		all = append(all, s.discardFile(v))
	}
	return errors.Join(all...)
}

// keepFloors stores the floors.
func (s *Store) keepFloors() error {
	s.maintain.Lock()
	defer s.maintain.Unlock()
	return s.storeFloors(context.Background())
}

// floors returns what metadata are to know of the shard. The caller holds mu.
func (sh *shardIndex) floors() storedFloor {
	return storedFloor{floor{Trimmed: sh.horizon, Next: sh.after(), Sealed: sh.sealed}, sh.gapsBehind(sh.horizon)}
}

// storeFloors makes durable what has changed of the shards' floors. s.maintain is held.
func (s *Store) storeFloors(ctx context.Context) error {
	var ids []shards.ShardID
	floors := make(map[shards.ShardID]storedFloor)
	s.index.mu.RLock()
	for id, sh := range s.index.shards {
		sh.mu.RLock()
		if f := sh.floors(); f.floor != sh.kept {
			ids = append(ids, id)
			floors[id] = f
		}
		sh.mu.RUnlock()
	}
	s.index.mu.RUnlock()
	if len(ids) == 0 {
		return nil
	}
	if err := s.meta.putFloors(ctx, ids, func(id shards.ShardID) storedFloor { return floors[id] }); err != nil {
		return errs.Wrap(errs.Unavailable, err, "the trim horizons could not be stored")
	}
	for _, id := range ids {
		if sh, err := s.shard(id); err == nil {
			sh.mu.Lock()
			sh.kept = floors[id].floor
			sh.mu.Unlock()
		}
	}
	return nil
}

// gap is a range of positions that a repair found to be lost. They are not given out again.
type gap struct {
	From shards.Pos `json:"from"`
	To   shards.Pos `json:"to"`
}

// gapsBehind returns the gaps that reach beyond a horizon. The caller holds mu.
func (sh *shardIndex) gapsBehind(horizon shards.Pos) []gap {
	for i := range sh.gaps {
		if sh.gaps[i].To > horizon {
			return sh.gaps[i:]
		}
	}
	return nil
}

// missing reports whether the positions from a to b, ends included, are known to be lost.
func (sh *shardIndex) missing(a, b shards.Pos) bool {
	for i := range sh.gaps {
		if g := &sh.gaps[i]; g.From <= a && a <= g.To {
			a = g.To + 1
		}
	}
	return a > b
}
