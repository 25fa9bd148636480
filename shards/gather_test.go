package shards

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"testing"
)

// TestGatherAgreesWithSorting: within a shard the order is that of a stable sort, and every shard is
// in one piece.
func TestGatherAgreesWithSorting(t *testing.T) {
	var g gatherer
	for range 2000 {
		numbers := make([]uint32, 1+rand.IntN(40))
		for i := range numbers {
			numbers[i] = []uint32{uint32(i), uint32(i) * 64, rand.Uint32(), 1<<32 - 1 - uint32(i)}[rand.IntN(4)]
		}
		var all []*Shard
		for _, n := range numbers {
			all = append(all, &Shard{Number: n})
		}
		n := rand.IntN(501)
		shard, order := make([]*Shard, n), make([]int, 0, n)
		for i := range shard {
			shard[i] = all[rand.IntN(len(all))]
			if rand.IntN(5) > 0 { // a second round has only some of the records
				order = append(order, i)
			}
		}
		first := make(map[uint32]int)
		for i, k := range order {
			if _, seen := first[shard[k].Number]; !seen {
				first[shard[k].Number] = i
			}
		}
		want := slices.Clone(order)
		sort.SliceStable(want, func(a, b int) bool { return first[shard[want[a]].Number] < first[shard[want[b]].Number] })
		if g.gather(order, shard); !slices.Equal(order, want) {
			t.Fatalf("of shards %v\n got %v\nwant %v", numbers, order, want)
		}
	}
}

func BenchmarkGather(b *testing.B) {
	for _, shards := range []int{16, 1000} {
		shard, order := make([]*Shard, 500), make([]int, 500)
		for i := range shard {
			shard[i] = &Shard{Number: uint32(rand.IntN(shards))}
		}
		b.Run(fmt.Sprint("shards=", shards), func(b *testing.B) {
			var g gatherer
			for b.Loop() {
				for i := range order {
					order[i] = i
				}
				g.gather(order, shard)
			}
		})
		b.Run(fmt.Sprint("sort/shards=", shards), func(b *testing.B) {
			for b.Loop() {
				for i := range order {
					order[i] = i
				}
				sort.SliceStable(order, func(a, b int) bool { return shard[order[a]].Number < shard[order[b]].Number })
			}
		})
	}
}
