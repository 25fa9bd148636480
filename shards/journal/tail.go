package journal

import (
	"sort"
	"sync"
)

// tail keeps the newest commit groups in memory, where most readers find what they want. Groups
// are immutable once they are here.
type tail struct {
	mu     sync.RWMutex
	groups []tailGroup // oldest first: ordered by (segment, off)
	bytes  int64
}

type tailGroup struct {
	segment uint64
	off     int64
	buf     []byte
}

func (t *tail) add(g tailGroup, budget int64) {
	t.mu.Lock()
	t.groups = append(t.groups, g)
	t.bytes += int64(cap(g.buf))
	n := 0
	for t.bytes > budget && n < len(t.groups) {
		n = t.drop(n)
	}
	t.groups = t.groups[n:]
	t.mu.Unlock()
}

// forget lets go of a segment that was sealed, and of older ones.
func (t *tail) forget(segment uint64) {
	t.mu.Lock()
	n := 0
	for n < len(t.groups) && t.groups[n].segment <= segment {
		n = t.drop(n)
	}
	t.groups = t.groups[n:]
	t.mu.Unlock()
}

func (t *tail) drop(n int) int {
	t.bytes -= int64(cap(t.groups[n].buf))
	t.groups[n].buf = nil
	return n + 1
}

// get returns the bytes [off, off+n) of a segment if they are in memory.
func (t *tail) get(segment uint64, off int64, n int) []byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	i := sort.Search(len(t.groups), func(i int) bool {
		g := &t.groups[i]
		return g.segment > segment || g.segment == segment && g.off > off
	}) - 1
	if i < 0 || t.groups[i].segment != segment {
		return nil
	}
	g := &t.groups[i]
	if at := off - g.off; at+int64(n) <= int64(len(g.buf)) {
		return g.buf[at : at+int64(n) : at+int64(n)]
	}
	return nil
}
