package journal

import (
	"container/list"
	"sync"
)

// lru keeps the values that were used last, up to a number of bytes.
type lru[V any] struct {
	mu    sync.Mutex
	max   int64
	used  int64
	byKey map[blockKey]*list.Element
	order list.List // most recently used first
}

// blockKey names a ref's bytes: chunks are never changed, and their names never used again.
type blockKey struct {
	volumeID
	off uint32
}

type lruEntry[V any] struct {
	key   blockKey
	value V
	bytes int64
}

func newLRU[V any](max int64) *lru[V] {
	return &lru[V]{max: max, byKey: make(map[blockKey]*list.Element)}
}

func (c *lru[V]) get(k blockKey) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byKey[k]
	if e == nil {
		return v, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*lruEntry[V]).value, true
}

func (c *lru[V]) put(k blockKey, v V, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byKey[k] != nil || bytes > c.max {
		return
	}
	c.byKey[k] = c.order.PushFront(&lruEntry[V]{k, v, bytes})
	for c.used += bytes; c.used > c.max; {
		last := c.order.Back()
		e := c.order.Remove(last).(*lruEntry[V])
		delete(c.byKey, e.key)
		c.used -= e.bytes
	}
}
