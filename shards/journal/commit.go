package journal

import (
	"errors"
	"sync"
	"syscall"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

func (s *Store) startCommits() {
	c := &s.commit
	c.work = sync.NewCond(&c.mu)
	c.room = make(chan struct{})
	c.done = make(chan struct{})
	go s.writeLoop()
}

// stopCommits lets the writer finish what is queued and writes the mark of a clean close.
func (s *Store) stopCommits() error {
	c := &s.commit
	c.mu.Lock()
	c.stop = true
	c.work.Signal()
	c.mu.Unlock()
	<-c.done
	if s.stopped() != nil || c.current == nil {
		return nil
	}
	return s.writeMark()
}

// writeMark proves that everything before it was synced. It is the only group without records, and
// may make its segment a little larger than others.
func (s *Store) writeMark() error {
	c := &s.commit
	sd := c.current.seed
	f := frame{bodyCRC: sd, group: c.seq + 1, flags: flagEnd | flagMark}
	b := make([]byte, frameHeader)
	f.encode(b, sd)
	if _, err := c.current.file.WriteAt(b, c.off); err != nil {
		return err
	}
	return c.current.file.SyncData()
}

func (s *Store) writeLoop() {
	c := &s.commit
	defer close(c.done)
	for {
		g := c.take()
		if g == nil {
			return
		}
		if e := s.fault.Load(); e != nil {
			g.err = e // nothing of it was written
		} else if err := s.writeGroup(g); err != nil {
			g.err = errs.Wrap(errs.Unknown, err, "the records may have been stored or not")
			if errors.Is(err, syscall.ENOSPC) {
				s.suspend(g, err)
			} else {
				s.fence(err)
			}
		}
		c.mu.Lock()
		c.queued -= len(g.buf)
		close(c.room)
		c.room = make(chan struct{})
		c.mu.Unlock()
		close(g.done)
	}
}

// take closes and removes the front group, waiting for one; nil when the store stops and nothing
// is left.
func (c *commitState) take() *group {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.groups) == 0 || len(c.groups[0].frames) == 0 {
		if c.stop {
			return nil
		}
		c.work.Wait()
	}
	g := c.groups[0]
	c.groups = c.groups[1:]
	c.lastLen = min(len(g.buf), maxGroup)
	if len(c.groups) == 0 {
		c.off = g.off + int64(len(g.buf))
	}
	g.last.flags |= flagEnd
	g.last.encode(g.buf[g.lastAt:], g.seed)
	return g
}

// writeGroup makes a group durable and then visible.
func (s *Store) writeGroup(g *group) error {
	if err := s.rollTo(g.segment); err != nil {
		return err
	}
	seg := s.commit.current
	start := time.Now()
	if _, err := seg.file.WriteAt(g.buf, g.off); err != nil {
		return err
	}
	if err := seg.file.SyncData(); err != nil {
		return err
	}
	if f := s.opts.Events.Synced; f != nil {
		f(len(g.buf), time.Since(start))
	}
	s.tail.add(tailGroup{seg.number, g.off, g.buf}, s.opts.TailBytes)
	seg.lastArrival = g.last.arrival
	s.index.mu.Lock()
	seg.live += int64(len(g.buf))
	seg.size += int64(len(g.buf))
	s.index.mu.Unlock()
	for _, f := range g.frames {
		if !f.shard.publish(f.ref) {
			s.dropBytes(map[volumeID]int64{f.ref.volume(): int64(f.ref.size)})
		}
	}
	return nil
}
