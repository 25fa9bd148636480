package shards

import (
	"math/bits"
	"slices"
	"sort"
)

// Shard is a shard of a stream. It is never changed: a shard that is closed is replaced by a copy
// that says so.
type Shard struct {
	Number  uint32  `json:"number"`
	ID      ShardID `json:"id"`
	Start   Hash    `json:"start"`
	End     Hash    `json:"end"`
	Created int64   `json:"created"` // seconds; part of every sequence number

	// OpenedMs and ClosedMs are when it began and ceased to take records, ms since the epoch. ClosedMs
	// is 0 while it is open. A parent is closed at the very time at which its children open, so that
	// the shards open at any time cover every hash key once.
	OpenedMs int64 `json:"openedMs,omitempty"`
	ClosedMs int64 `json:"closedMs,omitempty"`
	Last     Pos   `json:"last,omitempty"` // of a closed shard: its last position
	// Parents are the numbers of the shards that it came from: none, the one that was split, or the
	// two that were merged, the one named ShardToMerge first.
	Parents []uint32 `json:"parents,omitempty"`

	traffic *traffic // shared with the copy
}

// Open reports whether the shard takes records.
func (sh *Shard) Open() bool { return sh.ClosedMs == 0 }

// Seq is the sequence number of the record at a position of the shard.
func (sh *Shard) Seq(pos Pos, arrivedMs int64) Seq {
	return Seq{Created: sh.Created, Shard: sh.Number, Pos: pos, Time: max(arrivedMs/1000, sh.Created)}
}

// StartingSeq is the number that the shard's SequenceNumberRange starts with: below every record.
func (sh *Shard) StartingSeq() Seq { return sh.Seq(0, 0) }

// EndingSeq is the number that the range of a closed shard ends with: above every record.
func (sh *Shard) EndingSeq() Seq { return sh.Seq(maxPos, sh.ClosedMs) }

// String is the shard's id as clients see it.
func (sh *Shard) String() string { return FormatShardID(sh.Number) }

// closed is the shard as it is from ms on.
func (sh *Shard) closed(ms int64, last Pos) *Shard {
	c := *sh
	c.ClosedMs, c.Last = ms, last
	return &c
}

// layout is an immutable view of a stream's shards.
type layout struct {
	shards  []*Shard      // all, by number
	open    []*Shard      // those that take records, by hash range
	starts  []Hash        // of open, side by side for route
	changed chan struct{} // closed when another layout has taken its place
}

func newLayout(all []*Shard) *layout {
	l := &layout{shards: all, changed: make(chan struct{})}
	for _, sh := range all {
		if sh.traffic == nil {
			sh.traffic = new(traffic)
		}
		if sh.Open() {
			l.open = append(l.open, sh)
		}
	}
	slices.SortFunc(l.open, func(a, b *Shard) int {
		if a.Start.Less(b.Start) {
			return -1
		}
		return 1
	})
	l.starts = make([]Hash, len(l.open))
	for i, sh := range l.open {
		l.starts[i] = sh.Start
	}
	return l
}

// route returns the open shard whose range holds h. It looks first where that is if all ranges are
// equally wide, as they are in a stream that was never resharded.
func (l *layout) route(h Hash) *Shard {
	guess, _ := bits.Mul64(h.Hi, uint64(len(l.starts)))
	i := int(guess)
	if h.Less(l.starts[i]) || i+1 < len(l.starts) && !h.Less(l.starts[i+1]) {
		i = sort.Search(len(l.starts), func(i int) bool { return h.Less(l.starts[i]) }) - 1 // the first one is 0
	}
	return l.open[i]
}

func (l *layout) shard(number uint32) *Shard {
	i, ok := slices.BinarySearchFunc(l.shards, number, func(sh *Shard, n uint32) int { return int(int64(sh.Number) - int64(n)) })
	if !ok {
		return nil
	}
	return l.shards[i]
}

// next is the number that the next shard gets. The shard of the highest number is never removed
// before one with a higher number was made: what closes it makes that one.
func (l *layout) next() uint32 {
	if n := len(l.shards); n > 0 {
		return l.shards[n-1].Number + 1
	}
	return 0
}

// parentsDone reports whether done holds for every parent of sh that still exists.
func (l *layout) parentsDone(sh *Shard, done func(parent *Shard) bool) bool {
	for _, n := range sh.Parents {
		if p := l.shard(n); p != nil && !done(p) {
			return false
		}
	}
	return true
}

// Shards are the stream's shards by number, open and closed. The slice must not be changed.
func (s *Stream) Shards() []*Shard { return s.layout.Load().shards }

// OpenShards are the shards that take records, by hash range. The slice must not be changed.
func (s *Stream) OpenShards() []*Shard { return s.layout.Load().open }

// Shard finds a shard by number; nil if there is none.
func (s *Stream) Shard(number uint32) *Shard { return s.layout.Load().shard(number) }

// Children are the shards that a closed shard was split or merged into; none while it is open.
func (s *Stream) Children(number uint32) (children []*Shard) {
	for _, sh := range s.Shards() {
		if slices.Contains(sh.Parents, number) {
			children = append(children, sh)
		}
	}
	return children
}

// Changed returns a channel that is closed when the stream's shards change. Who waits for a change
// takes the channel before looking at the shards.
func (s *Stream) Changed() <-chan struct{} { return s.layout.Load().changed }

// setLayout makes all the stream's shards. Only one change is under way at a time.
func (s *Stream) setLayout(all []*Shard) {
	if old := s.layout.Swap(newLayout(all)); old != nil {
		close(old.changed)
	}
}
