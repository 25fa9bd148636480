package shards

import "math/bits"

// gatherer brings things of the same kind together in one pass over them, in place of sorting. Its
// memory is reused.
type gatherer struct {
	slots []slot // open addressing: a power of two of them, at most half of them taken
	group []int32
	next  []int32
	was   []int
}

// slot is the group of a shard number.
type slot struct {
	number uint32
	group  int32 // from 1; 0 is a free slot
}

// gather brings the elements of order together that go to the same shard: shards come in the order
// of their first element, the elements of a shard keep theirs. shard has the shard of each element.
func (g *gatherer) gather(order []int, shard []*Shard) {
	if size := 2 << bits.Len(uint(len(order))); len(g.slots) < size {
		g.slots = make([]slot, size)
	} else {
		clear(g.slots)
	}
	g.group, g.next = g.group[:0], g.next[:0]
	for _, k := range order {
		i := g.groupOf(shard[k].Number)
		g.group = append(g.group, i)
		g.next[i]++
	}
	var at int32
	for i, n := range g.next { // from lengths to starts
		g.next[i] = at
		at += n
	}
	g.was = append(g.was[:0], order...)
	for j, k := range g.was {
		i := g.group[j]
		order[g.next[i]] = k
		g.next[i]++
	}
}

// groupOf is the group of a shard number, a new one if it has none yet. Numbers that follow each
// other, which is what streams have, never meet in a slot.
func (g *gatherer) groupOf(number uint32) int32 {
	mask := uint32(len(g.slots) - 1)
	for at := number & mask; ; at = (at + 1) & mask {
		switch s := &g.slots[at]; {
		case s.group == 0:
			g.next = append(g.next, 0)
			*s = slot{number, int32(len(g.next))}
			return s.group - 1
		case s.number == number:
			return s.group - 1
		}
	}
}
