package journal

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// A segment that a reader was in when it was trimmed is given up by the next trim, even if that one
// trims nothing.
func TestATrimIsFinishedByTheNext(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, Options{TailBytes: 1, omit: omitSealing})
	create(t, s, 1)
	for range 60 {
		put(t, s, 1, strings.Repeat("x", 1000))
	}
	seg := s.pin(volumeID{number: 1}) // a reader is inside the oldest segment
	if err := s.Trim(t.Context(), 1, 60); err != nil {
		t.Fatal(err)
	}
	if n := len(segments(t, fs)); n != 2 {
		t.Fatalf("%d segments while a reader is in the oldest, want that and the current one", n)
	}
	s.unpin(seg)
	if err := s.Trim(t.Context(), 1, 60); err != nil {
		t.Fatal(err)
	}
	if n := len(segments(t, fs)); n != 1 {
		t.Fatalf("%d segments after the next trim, want the current one", n)
	}
}

// Deleting a shard while its floors are being stored must not bring it back: its segments are
// gone, and the next Open would miss them.
func TestDeleteRacesTrim(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, Options{SegmentSize: 1 << 10})
	const others = 20
	create(t, s, 1)
	for id := range shards.ShardID(others) {
		create(t, s, 100+id)
	}
	for id := range shards.ShardID(others) {
		for range 8 {
			put(t, s, 100+id, strings.Repeat("x", 200))
			put(t, s, 1, strings.Repeat("y", 100))
		}
	}
	var wg sync.WaitGroup
	for id := range shards.ShardID(others) {
		wg.Add(2)
		go func() {
			defer wg.Done()
			for p := range shards.Pos(8) {
				s.Trim(context.Background(), 100+id, p+1)
			}
		}()
		go func() {
			defer wg.Done()
			s.Delete(context.Background(), []shards.ShardID{100 + id})
		}()
	}
	for p := range shards.Pos(8 * others / 2) {
		s.Trim(t.Context(), 1, p)
	}
	wg.Wait()
	s.Close()
	s = open(t, fs, Options{SegmentSize: 1 << 10})
	for id := range shards.ShardID(others) {
		if _, err := s.Bounds(t.Context(), 100+id); !errs.Is(err, errs.NotFound) {
			t.Fatalf("shard %d is back: %v", 100+id, err)
		}
	}
}

// A closed store answers; it neither spins nor panics.
func TestAClosedStoreRefuses(t *testing.T) {
	s := open(t, vfs.NewMem(), Options{TailBytes: 1})
	create(t, s, 1)
	put(t, s, 1, "a")
	s.Close()
	inTime(t, "a call of a closed store", func() {
		ctx := context.Background()
		_, err := s.Read(ctx, 1, 0, everything, nil)
		_, _, get := s.Meta().Get(ctx, "k")
		_, txn := s.Meta().Txn(ctx, nil, nil)
		for what, err := range map[string]error{"Read": err, "Append": appendOne(s, 1, "b"), "Trim": s.Trim(ctx, 1, 1),
			"Delete": s.Delete(ctx, []shards.ShardID{1}), "Create": s.Create(ctx, []shards.ShardID{2}), "Get": get, "Txn": txn} {
			if !errs.Is(err, errs.Unavailable) {
				t.Errorf("%s: %v, want Unavailable", what, err)
			}
		}
	})
}

// Close in the middle of everything.
func TestCloseUnderLoad(t *testing.T) {
	s := open(t, vfs.NewMem(), Options{SegmentSize: 4 << 10, TailBytes: 1 << 10})
	create(t, s, 1, 2)
	var wg sync.WaitGroup
	var stop atomic.Bool
	ctx := context.Background()
	started := make(chan struct{}, 6)
	for _, do := range []func(i int){
		func(int) { appendOne(s, 1, strings.Repeat("x", 500)) },
		func(int) { appendOne(s, 2, strings.Repeat("x", 500)) },
		func(i int) { s.Read(ctx, 1, shards.Pos(i), shards.Budget{Records: 20, Bytes: 1 << 20}, nil) },
		func(i int) { s.Trim(ctx, 1, shards.Pos(i/2)) },
		func(int) { s.Meta().Txn(ctx, nil, []shards.Op{{Key: "a/b", Value: []byte("v")}}) },
		func(int) {
			for range s.Meta().Scan(ctx, "a/") {
				s.Meta().Get(ctx, "a/b")
			}
		},
	} {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := 0; !stop.Load(); i++ {
				do(i)
				if i == 5 {
					started <- struct{}{}
				}
			}
		}()
	}
	for range 6 {
		<-started
	}
	inTime(t, "Close", func() { s.Close() })
	stop.Store(true)
	wg.Wait()
}

// A sealed shard takes nothing more, whatever was under way; what it had can be read, also after a
// crash.
func TestASealIsTheEndForWriters(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := open(t, fs, Options{})
	create(t, s, 1, 2)
	var wg sync.WaitGroup
	var acked, refused atomic.Int64
	begun := make(chan struct{}, 4)
	for range 4 {
		wg.Go(func() {
			for i := 0; ; i++ {
				if i == 10 {
					begun <- struct{}{}
				}
				switch err := appendOne(s, 1, "x"); {
				case err == nil:
					acked.Add(1)
				case errors.Is(err, shards.ErrSealed):
					refused.Add(1)
					return
				default:
					t.Error(err)
					return
				}
			}
		})
	}
	for range 4 {
		<-begun
	}
	at, err := s.Seal(t.Context(), []shards.ShardID{1})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := s.Bounds(t.Context(), 1)
	wg.Wait()
	if after, _ := s.Bounds(t.Context(), 1); !b.Sealed || after != b || int64(b.Last) != acked.Load() || refused.Load() != 4 {
		t.Fatalf("%+v when sealed, %+v later; %d acknowledged, %d refused", b, after, acked.Load(), refused.Load())
	}
	if r := put(t, s, 2, "later"); r.Arrived < at {
		t.Fatalf("a later record arrived at %d, before the seal's %d", r.Arrived, at)
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	s = open(t, crashed, Options{})
	if after, _ := s.Bounds(t.Context(), 1); after != b {
		t.Fatalf("%+v when sealed, %+v after a power cut", b, after)
	}
	if err := appendOne(s, 1, "x"); !errors.Is(err, shards.ErrSealed) {
		t.Fatalf("an append after a power cut: %v", err)
	}
	if got := read(t, s, 1, 0, everything); len(got) != int(b.Last) {
		t.Fatalf("%d records of %d", len(got), b.Last)
	}
	if _, err := s.Seal(t.Context(), []shards.ShardID{1}); err != nil {
		t.Fatalf("sealing again: %v", err)
	}
	if _, err := s.Seal(t.Context(), []shards.ShardID{9}); !errs.Is(err, errs.NotFound) {
		t.Fatalf("sealing a shard that does not exist: %v", err)
	}
}
