package journal

import (
	"errors"
	"fmt"
	"os"

	"github.com/shardmill/shardmill/internal/errs"
)

// A journal write that meets a full disk does not fence the store: it pauses it. Nothing of the
// group that failed, nor of those behind it, was acknowledged, so their positions may be given to
// other records - but only when the failed group can never come back. Its frames may be whole in
// the segment, or become so at the next power cut. So the segment is sealed first: the chunk has
// what was published, and nothing of the failed group. When the chunk is durable, the segment has
// lost its name and that is durable too, appends go on, in another segment.

// suspend takes no more records after group g met a full disk. It runs in the writer.
func (s *Store) suspend(g *group, err error) {
	c := &s.commit
	why := errs.Wrap(errs.Unavailable, err, "the disk of %s is full: records are taken again when there is space", s.dir)
	broken := c.current
	if broken == nil || broken.number != g.segment { // the segment could not even be made
		broken = nil
		_ = s.fs.Remove(s.path(volumeID{number: g.segment})) // if it stays, Open finds that it was never used
	}
	c.mu.Lock()
	s.paused.Store(why)
	behind := c.groups
	c.groups = nil
	for _, b := range behind {
		b.err = why
		c.queued -= len(b.buf)
	}
	c.number++
	c.off, c.seq = segmentHeader, 0
	s.rewind()
	c.mu.Unlock()
	for _, b := range behind {
		close(b.done)
	}
	if broken != nil && !s.opts.omit.has(omitBrokenSeal) {
		c.current = nil
		s.index.mu.Lock()
		broken.closed, broken.broken = true, true
		s.index.mu.Unlock()
	} else {
		broken = nil
		s.closeCurrent()
	}
	if f := s.opts.Events.Paused; f != nil {
		f(why)
	}
	s.seal.mend(broken)
}

// rewind takes back the positions that were given to records which will never be stored.
func (s *Store) rewind() {
	s.index.mu.RLock()
	defer s.index.mu.RUnlock()
	for _, sh := range s.index.shards {
		sh.mu.RLock()
		sh.next = sh.after()
		sh.mu.RUnlock()
	}
}

// resume takes records again if there is space and the segment that broke is out of the way. It
// runs in the sealer.
func (s *Store) resume() error {
	q := &s.seal
	q.mu.Lock()
	broken := q.broken
	q.mu.Unlock()
	if broken != nil {
		if err := s.sealVolume(broken); errors.Is(err, errDamaged) {
			s.fence(err)
			return nil
		} else if err != nil {
			return err
		}
		if err := s.unname(broken); err != nil {
			s.fence(err)
			return nil
		}
		q.mend(nil)
	}
	free, err := s.freeBytes()
	if err != nil {
		return err
	}
	if why := s.paused.Load(); free < s.opts.Reserve {
		return why
	}
	s.paused.Store(nil)
	if f := s.opts.Events.Resumed; f != nil {
		f()
	}
	return nil
}

// unname makes it durable that a segment's name is gone: it must not come back beside the records
// that take the place of its last ones.
func (s *Store) unname(v *volume) error {
	s.maintain.Lock() // whoever is giving it up is done then
	defer s.maintain.Unlock()
	if _, err := s.fs.Stat(s.path(v.volumeID)); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(err, fmt.Errorf("%s is still there", s.path(v.volumeID)))
	}
	return s.logHandle.Sync()
}
