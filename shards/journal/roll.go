package journal

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// rollTo makes the segment of that number the current one, from a recycled body if there is one.
// Its directory entry is durable when rollTo returns: the first group may be acknowledged.
func (s *Store) rollTo(number uint64) error {
	c := &s.commit
	if c.current != nil && c.current.number == number {
		return nil
	}
	s.seal.await()
	name := s.fs.PathJoin(s.logDir, segmentName(number, segmentSuffix))
	file, err := s.newSegmentFile(name)
	if err != nil {
		return err
	}
	// The name first: if a recycled body got its new header while the old name could still come
	// back, the old segment would look damaged after a crash.
	err = s.logHandle.Sync()
	if err == nil {
		_, err = file.WriteAt(encodeSegmentHeader(s.storeID, number, time.Now().UnixMilli()), 0)
	}
	if err == nil {
		err = file.SyncData()
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	s.closeCurrent()
	seg := &volume{volumeID: volumeID{number: number}, file: file, seed: seed(s.storeID, number)}
	s.index.mu.Lock()
	s.index.volumes[seg.volumeID] = seg
	s.index.mu.Unlock()
	c.current = seg
	return nil
}

// closeCurrent hands the current segment, if there is one, to the sealer.
func (s *Store) closeCurrent() {
	v := s.commit.current
	if v == nil {
		return
	}
	s.commit.current = nil
	s.index.mu.Lock()
	v.closed = true
	s.judge(v)
	dead := v.live == 0
	s.index.mu.Unlock()
	if !dead {
		s.seal.add(v)
	}
}

// newSegmentFile makes a file of that name, from a recycled body if there is one.
func (s *Store) newSegmentFile(name string) (vfs.File, error) {
	c := &s.commit
	c.mu.Lock()
	var recycled string
	if n := len(c.free); n > 0 {
		recycled, c.free = c.free[n-1], c.free[:n-1]
	}
	c.mu.Unlock()
	if recycled != "" {
		if err := s.fs.Rename(recycled, name); err != nil {
			return nil, err
		}
		return s.fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
	}
	if _, err := s.fs.Stat(name); !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("segment %s exists already: %w", name, err)
	}
	f, err := s.fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	return s.fs.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
}

// recycle keeps a segment's body for reuse under another number, or deletes it.
func (s *Store) recycle(number uint64) error {
	name := s.path(volumeID{number: number})
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
