package shards

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestEveryHashKeyHasItsShard: at the edges of the ranges and between them, in streams of equal
// shards and of any.
func TestEveryHashKeyHasItsShard(t *testing.T) {
	layouts := [][]Hash{}
	for _, n := range []int{1, 2, 3, 7, 16, 1000} {
		layouts = append(layouts, splitHashSpace(n))
	}
	for range 50 {
		starts := []Hash{{}}
		for range rand.IntN(30) {
			starts = append(starts, Hash{rand.Uint64() >> rand.IntN(64), rand.Uint64()})
		}
		slices.SortFunc(starts, func(a, b Hash) int {
			if a.Less(b) {
				return -1
			}
			return 1
		})
		layouts = append(layouts, slices.Compact(starts))
	}
	for _, starts := range layouts {
		var all []*Shard
		for i, s := range starts {
			all = append(all, &Shard{Number: uint32(i), Start: s})
		}
		l := newLayout(all)
		check := func(h Hash) {
			want := len(starts) - 1
			for h.Less(starts[want]) {
				want--
			}
			if got := l.route(h).Number; got != uint32(want) {
				t.Fatalf("%s of shards from %v goes to %d, want %d", h, starts, got, want)
			}
		}
		check(MaxHash)
		for _, s := range starts {
			check(s)
			check(s.Next())
			if s != (Hash{}) {
				check(Hash{s.Hi - map[bool]uint64{true: 1}[s.Lo == 0], s.Lo - 1})
			}
			check(Hash{rand.Uint64(), rand.Uint64()})
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	for _, n := range []int{16, 1000} {
		var all []*Shard
		for i, s := range splitHashSpace(n) {
			all = append(all, &Shard{Number: uint32(i), Start: s})
		}
		l := newLayout(all)
		hashes := make([]Hash, 1024)
		for i := range hashes {
			hashes[i] = Hash{rand.Uint64(), rand.Uint64()}
		}
		b.Run(fmt.Sprint("shards=", n), func(b *testing.B) {
			for i := 0; b.Loop(); i++ {
				l.route(hashes[i&1023])
			}
		})
	}
}
