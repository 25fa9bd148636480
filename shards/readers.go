package shards

import (
	"context"
	"fmt"
	"maps"
)

// A reader is a name with a checkpoint: a position in each shard up to which it is done. Here are
// its life and what it holds back; consume.go is the loop that moves it.

func (s *Stream) readerKey(name string) string { return s.readerKeys() + name }

// Register makes a reader durable at its starting point. A reader that exists keeps its place.
func (s *Stream) Register(ctx context.Context, name string, start Start) error {
	if !s.usable() {
		return s.notFound()
	}
	s.mu.Lock() // other readers trim nothing between the choice of the starting point and its keeping
	defer s.mu.Unlock()
	st := readerState{Positions: make(map[uint32]Pos)}
	for _, sh := range s.Shards() {
		var err error
		if start == FromLatest {
			st.Positions[sh.Number], err = s.Tip(ctx, sh)
		} else {
			st.Positions[sh.Number], err = s.Horizon(ctx, sh)
		}
		if err != nil {
			return err
		}
	}
	v, err := encodeMeta(st)
	if err != nil {
		return err
	}
	fresh, err := s.owner.store.Meta().Txn(ctx, []Cmp{{s.readerKey(name), 0}}, []Op{{Key: s.readerKey(name), Value: v}})
	if err == nil && fresh {
		s.readers[name] = st.Positions
	}
	return err
}

// Unregister removes a reader and its checkpoint.
func (s *Stream) Unregister(ctx context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.owner.store.Meta().Txn(ctx, nil, []Op{{Key: s.readerKey(name), Delete: true}})
	if err == nil {
		delete(s.readers, name)
	}
	return err
}

// CaughtUp reports whether a reader is done with every record of the stream.
func (s *Stream) CaughtUp(ctx context.Context, name string) (bool, error) {
	v, rev, err := s.owner.store.Meta().Get(ctx, s.readerKey(name))
	if err != nil || rev == 0 {
		return false, err
	}
	var st readerState
	if err := decodeMeta(v, &st); err != nil {
		return false, err
	}
	for _, sh := range s.Shards() {
		if tip, err := s.Tip(ctx, sh); err != nil || tip > st.Positions[sh.Number] {
			return false, err
		}
	}
	return true, nil
}

// loadReaders reads how far each reader is.
func (s *Stream) loadReaders(ctx context.Context) error {
	for kv, err := range s.owner.store.Meta().Scan(ctx, s.readerKeys()) {
		if err != nil {
			return err
		}
		var st readerState
		if err := decodeMeta(kv.Value, &st); err != nil {
			return err
		}
		s.readers[kv.Key[len(s.readerKeys()):]] = st.Positions
	}
	return nil
}

// trimBehind lets go of what every reader of a private stream is done with. A failure is told, and
// made good by the next trim.
func (s *Stream) trimBehind(ctx context.Context, reader string, done map[uint32]Pos) {
	if !s.Private {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.readers[reader] == nil { // removed meanwhile: it must not hold back the others
		return
	}
	s.readers[reader] = maps.Clone(done)
	for _, sh := range s.Shards() {
		low := done[sh.Number]
		for _, other := range s.readers {
			low = min(low, other[sh.Number])
		}
		if err := s.owner.store.Keeper().Trim(ctx, sh.ID, low); err != nil && s.owner.events.TrimFailed != nil && ctx.Err() == nil {
			s.owner.events.TrimFailed(s, fmt.Errorf("trim behind the readers of %s: %w", s.Name, err))
		}
	}
}
