package shards_test

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
)

func hash(t *testing.T, text string) shards.Hash {
	t.Helper()
	h, ok := shards.ParseHash(text)
	if !ok {
		t.Fatalf("%s is no hash key", text)
	}
	return h
}

const half = "170141183460469231731687303715884105728" // 2^127

func TestASplitShardIsReadToItsEndAndFollowedByItsChildren(t *testing.T) {
	fs := vfs.NewMem()
	h := open(t, fs, shards.Events{})
	s := create(t, h, shards.Spec{Name: "s", Shards: 1})
	before := put(t, s, "a", "b", "c")
	if err := h.Split(t.Context(), s, 0, hash(t, half)); err != nil {
		t.Fatal(err)
	}
	after := put(t, s, "a", "b")
	for restarted := range 2 {
		if restarted == 1 {
			h.close()
			h = open(t, fs, shards.Events{})
			s, _ = h.Get(here, "s")
		}
		parent, low, high := s.Shard(0), s.Shard(1), s.Shard(2)
		if s.State() != shards.Active || len(s.Shards()) != 3 || parent.Open() || !low.Open() || !high.Open() {
			t.Fatalf("%s with %+v", s.State(), s.Shards())
		}
		if low.Start != parent.Start || low.End.Next() != hash(t, half) || high.Start != hash(t, half) || high.End != shards.MaxHash {
			t.Fatalf("the children hold %s … %s and %s … %s", low.Start, low.End, high.Start, high.End)
		}
		if !slices.Equal(low.Parents, []uint32{0}) || !slices.Equal(high.Parents, []uint32{0}) || len(s.Children(0)) != 2 {
			t.Fatalf("parents %v and %v, %d children", low.Parents, high.Parents, len(s.Children(0)))
		}
		if parent.ClosedMs != low.OpenedMs || parent.ClosedMs != high.OpenedMs {
			t.Fatalf("closed at %d, opened at %d and %d", parent.ClosedMs, low.OpenedMs, high.OpenedMs)
		}
		if recs, behind, err := s.Read(t.Context(), parent, 0, everything, nil); err != nil || len(recs) != 3 || behind != 0 {
			t.Fatalf("%d records of the parent, %d ms behind: %v", len(recs), behind, err)
		}
		if s.Ended(0, 2) || !s.Ended(0, 3) || s.Ended(1, 100) {
			t.Fatalf("ended before the last record: %t, after: %t; the open child: %t", s.Ended(0, 2), s.Ended(0, 3), s.Ended(1, 100))
		}
	}
	// "a" hashes to the lower half, "b" to the upper one.
	for i, number := range []uint32{1, 2} {
		if after[i].Shard.Number != number {
			t.Fatalf("record %d went to %s", i, after[i].Shard)
		}
		if old, now := before[i].Seq().String(), after[i].Seq().String(); len(old) != len(now) || now <= old {
			t.Fatalf("the sequence number %s of a child is not above %s of its parent", now, old)
		}
	}
	if end := s.Shard(0).EndingSeq().String(); end <= before[2].Seq().String() || end >= after[0].Seq().String() {
		t.Fatalf("the parent's ending number %s does not lie between its records and its children's", end)
	}
}

func TestMergedShardsHaveOneChild(t *testing.T) {
	h := open(t, vfs.NewMem(), shards.Events{})
	s := create(t, h, shards.Spec{Name: "s", Shards: 3})
	if err := h.Merge(t.Context(), s, 1, 2); err != nil {
		t.Fatal(err)
	}
	child := s.Shard(3)
	if child.Start != s.Shard(1).Start || child.End != shards.MaxHash || !slices.Equal(child.Parents, []uint32{1, 2}) || !slices.Equal(s.Children(2), []*shards.Shard{child}) {
		t.Fatalf("%+v", child)
	}
	checkTiling(t, s)
}

func TestShardsThatCannotBeSplitOrMerged(t *testing.T) {
	h := open(t, vfs.NewMem(), shards.Events{})
	s := create(t, h, shards.Spec{Name: "s", Shards: 3})
	if err := h.Split(t.Context(), s, 0, hash(t, "1000")); err != nil { // 3 and 4
		t.Fatal(err)
	}
	const third = "113427455640312821154458202477256070485" // the last key of shard 0
	for _, c := range []struct {
		what string
		err  error
		want string
	}{
		{"unknown", h.Split(t.Context(), s, 9, hash(t, half)), "Could not find shard shardId-000000000009 in stream s under account 000000000000."},
		{"closed", h.Split(t.Context(), s, 0, hash(t, "500")), "Shard shardId-000000000000 in stream s under account 000000000000 has already been merged or split, and thus is not eligible for merging or splitting."},
		{"at the start", h.Split(t.Context(), s, 3, hash(t, "1")), "NewStartingHashKey 1 used in SplitShard() on shard shardId-000000000003 in stream s under account 000000000000 is not both greater than one plus the shard's StartingHashKey 0 and less than the shard's EndingHashKey 999."},
		{"at the end", h.Split(t.Context(), s, 4, hash(t, third)), "NewStartingHashKey " + third + " used in SplitShard() on shard shardId-000000000004 in stream s under account 000000000000 is not both greater than one plus the shard's StartingHashKey 1000 and less than the shard's EndingHashKey " + third[:len(third)-1] + "4."},
		{"not adjacent", h.Merge(t.Context(), s, 3, 2), "Shards shardId-000000000003 and shardId-000000000002 in stream s under account 000000000000 are not an adjacent pair of shards eligible for merging"},
		{"the wrong way round", h.Merge(t.Context(), s, 4, 3), "Shards shardId-000000000004 and shardId-000000000003 in stream s under account 000000000000 are not an adjacent pair of shards eligible for merging"},
		{"itself", h.Merge(t.Context(), s, 2, 2), "Shards shardId-000000000002 and shardId-000000000002 in stream s under account 000000000000 are not an adjacent pair of shards eligible for merging"},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("%s: %v", c.what, c.err)
		}
	}
	if s.State() != shards.Active || len(s.Shards()) != 5 {
		t.Fatalf("%s with %d shards after refusals", s.State(), len(s.Shards()))
	}
}

var everything = shards.Budget{Records: 1 << 20, Bytes: 1 << 30}

// checkTiling checks that the shards open at any time cover every hash key once, and that every shard
// has a child or is open.
func checkTiling(t *testing.T, s *shards.Stream) {
	t.Helper()
	var times []int64
	for _, sh := range s.Shards() {
		times = append(times, sh.OpenedMs, sh.ClosedMs)
		if !sh.Open() && len(s.Children(sh.Number)) == 0 {
			t.Errorf("%s is closed and has no children", sh)
		}
		if len(sh.Parents) > 2 {
			t.Errorf("%s has parents %v", sh, sh.Parents)
		}
	}
	for _, ms := range times {
		if ms < max(s.CreatedMs, time.Now().Add(-s.Attributes().Retention).UnixMilli()) {
			continue // 0: open; or so long ago that the shards are forgotten
		}
		var open []*shards.Shard
		for _, sh := range s.Shards() {
			if sh.OpenedMs <= ms && (sh.Open() || sh.ClosedMs > ms) {
				open = append(open, sh)
			}
		}
		slices.SortFunc(open, func(a, b *shards.Shard) int {
			if a.Start.Less(b.Start) {
				return -1
			}
			return 1
		})
		next := shards.Hash{}
		for i, sh := range open {
			if sh.Start != next {
				t.Fatalf("at %d the range after %s begins at %s", ms, next, sh.Start)
			}
			if next = sh.End.Next(); i == len(open)-1 && sh.End != shards.MaxHash {
				t.Fatalf("at %d the last range ends at %s", ms, sh.End)
			}
		}
	}
}

func TestScalingGivesEvenRanges(t *testing.T) {
	h := open(t, vfs.NewMem(), shards.Events{})
	for i, counts := range [][]int{{1, 2, 4, 3, 1}, {3, 6, 12, 7, 4, 2}, {5, 10, 9, 8, 7, 6, 5, 4, 3}, {7, 13, 26, 13}, {2, 3, 2, 3, 2}, {100, 173, 87}} {
		s := create(t, h, shards.Spec{Name: fmt.Sprint("s", i), Shards: counts[0]})
		for _, n := range counts[1:] {
			had := len(s.OpenShards())
			if before, err := h.Scale(t.Context(), s, n); err != nil || before != had || len(s.OpenShards()) != n {
				t.Fatalf("%v: to %d: %d shards before and %d after: %v", counts, n, before, len(s.OpenShards()), err)
			}
			checkTiling(t, s)
			for j, sh := range s.OpenShards() {
				ideal := new(big.Int).Div(new(big.Int).Mul(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(int64(j))), big.NewInt(int64(n)))
				start, _ := new(big.Int).SetString(sh.Start.String(), 10)
				if off := ideal.Sub(ideal, start); off.BitLen() > 65 { // bounds are moved by less than 2^64
					t.Errorf("%v: shard %d of %d begins at %s, off by %s", counts, j, n, start, off)
				}
			}
		}
	}
}

func TestScalingToTenThousandShardsAndBack(t *testing.T) {
	if testing.Short() {
		t.Skip("scales to 10,000 shards; run without -short")
	}
	fs := vfs.NewMem()
	h := open(t, fs, shards.Events{})
	s := create(t, h, shards.Spec{Name: "s", Shards: 5000})
	for _, n := range []int{10_000, 5000} {
		if _, err := h.Scale(t.Context(), s, n); err != nil || len(s.OpenShards()) != n {
			t.Fatalf("%d shards: %v", len(s.OpenShards()), err)
		}
	}
	if err := h.Split(t.Context(), s, s.OpenShards()[0].Number, hash(t, "1000")); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Scale(t.Context(), s, 10_001); err == nil {
		t.Fatal("a stream got more than 10,000 shards")
	}
}

// writer puts numbered records of one key, one after another, until stop is closed.
func writer(s *shards.Stream, key string, progress chan<- struct{}, stop <-chan struct{}) (acked int, err error) {
	for {
		select {
		case <-stop:
			return acked, nil
		case progress <- struct{}{}:
		default:
		}
		out := make([]shards.Placed, 1)
		s.Put(context.Background(), []shards.PutRecord{{Key: []byte(key), Data: []byte(strconv.Itoa(acked))}}, out)
		if out[0].Err != nil {
			return acked, out[0].Err
		}
		acked++
	}
}

// collect consumes until it has seen as many records of each key as acked says, and checks their order.
func collect(t *testing.T, s *shards.Stream, acked map[string]int) error {
	t.Helper()
	if err := s.Register(t.Context(), "r", shards.FromHorizon); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	seen, left := make(map[string]int), 0
	for _, n := range acked {
		left += n
	}
	var wrong error
	err := s.Consume(ctx, shards.Reader{Name: "r", Policy: func() shards.Policy { return shards.Policy{Records: 37} }, Handle: func(ctx context.Context, b *shards.Batch) error {
		err := b.Each(ctx, func(sh *shards.Shard, recs []shards.Record) error {
			for _, r := range recs {
				if n := seen[string(r.Key)]; strconv.Itoa(n) != string(r.Data) && wrong == nil {
					wrong = fmt.Errorf("key %s: record %s of %s comes when %d is due", r.Key, r.Data, sh, n)
				}
				seen[string(r.Key)]++
			}
			return nil
		})
		if left -= b.Records; left <= 0 || wrong != nil {
			cancel()
		}
		return err
	}})
	if wrong != nil {
		return wrong
	}
	if !errors.Is(err, context.Canceled) {
		return fmt.Errorf("%d keys of %d were seen: %w", len(seen), len(acked), err)
	}
	for key, n := range acked {
		if seen[key] != n {
			return fmt.Errorf("key %s: %d records were acknowledged and %d are there", key, n, seen[key])
		}
	}
	return nil
}

// lyingStore is a store that does not seal shards.
type lyingStore struct{ shards.Store }

type lyingKeeper struct{ shards.Keeper }

func (s lyingStore) Keeper() shards.Keeper { return lyingKeeper{s.Store.Keeper()} }

func (lyingKeeper) Seal(context.Context, []shards.ShardID) (int64, error) {
	return time.Now().UnixMilli(), nil
}

// reshardUnderLoad splits, merges and scales at random while eight keys are written, and returns what
// is wrong with what can be read then.
func reshardUnderLoad(t *testing.T, seed uint64, wrap func(shards.Store) shards.Store) error {
	rng := rand.New(rand.NewPCG(seed, 3))
	store, err := journal.Open("data", journal.Options{FS: vfs.NewMem(), SegmentSize: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	ss, err := shards.Open(t.Context(), wrap(store), shards.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ss.Close()
	s, err := ss.Create(t.Context(), here, shards.Spec{Name: "s", Shards: 2})
	if err != nil {
		t.Fatal(err)
	}
	stop, progress := make(chan struct{}), make(chan struct{})
	acked := make(map[string]int)
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	for i := range 8 {
		wg.Go(func() {
			key := fmt.Sprint("key-", i)
			n, err := writer(s, key, progress, stop)
			mu.Lock()
			defer mu.Unlock()
			acked[key] = n
			failed = errors.Join(failed, err)
		})
	}
	for range 12 {
		for range 20 {
			<-progress
		}
		open := s.OpenShards()
		i := rng.IntN(len(open))
		switch n := rng.IntN(3); {
		case n == 0 && i+1 < len(open):
			err = ss.Merge(t.Context(), s, open[i].Number, open[i+1].Number)
		case n == 1:
			_, err = ss.Scale(t.Context(), s, 1+rng.IntN(6))
		default:
			at := shards.Hash{Hi: open[i].Start.Hi + (open[i].End.Hi-open[i].Start.Hi)/3}
			if err = ss.Split(t.Context(), s, open[i].Number, at); errs.Is(err, errs.Invalid) {
				err = nil // too small
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	if failed != nil {
		return failed
	}
	checkTiling(t, s)
	return collect(t, s, acked)
}

func TestPutsDuringReshardingLoseNothingAndKeepOrder(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		if err := reshardUnderLoad(t, seed, func(s shards.Store) shards.Store { return s }); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// The check above notices a store that goes on taking records into shards that have ended.
func TestPutsDuringReshardingControl(t *testing.T) {
	for seed := range uint64(60) {
		if reshardUnderLoad(t, seed, func(s shards.Store) shards.Store { return lyingStore{s} }) != nil {
			return
		}
	}
	t.Fatal("a store that does not seal was not noticed")
}

func TestStreamStatesWithTiming(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ss := openWith(t, vfs.NewMem(), 256<<10, shards.Options{Timing: shards.Timing{Create: time.Second, Update: 2 * time.Second, Delete: 3 * time.Second}})
		defer ss.close()
		s, err := ss.Create(t.Context(), here, shards.Spec{Name: "s", Shards: 1})
		if err != nil {
			t.Fatal(err)
		}
		state := func(after time.Duration, want shards.State, open int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if s.State() != want || len(s.OpenShards()) != open {
				t.Fatalf("%s with %d open shards, not %s with %d", s.State(), len(s.OpenShards()), want, open)
			}
		}
		busy := func(err error) {
			t.Helper()
			if !errs.Is(err, errs.InUse) || !strings.HasSuffix(err.Error(), "not ACTIVE, instead in state "+string(s.State())) {
				t.Fatalf("%v", err)
			}
		}
		state(999*time.Millisecond, shards.Creating, 0)
		out := make([]shards.Placed, 1)
		if s.Put(t.Context(), make([]shards.PutRecord, 1), out); !errs.Is(out[0].Err, errs.NotFound) {
			t.Fatalf("a put into a stream being created: %v", out[0].Err)
		}
		busy(ss.Split(t.Context(), s, 0, hash(t, half)))
		state(time.Millisecond, shards.Active, 1)
		if err := ss.Split(t.Context(), s, 0, hash(t, half)); err != nil {
			t.Fatal(err)
		}
		state(1999*time.Millisecond, shards.Updating, 1)
		put(t, s, "a", "b")
		_, err = ss.Scale(t.Context(), s, 4)
		busy(err)
		busy(ss.Delete(t.Context(), s))
		busy(ss.Update(t.Context(), s, func(*shards.Attributes) error { return nil }))
		state(time.Millisecond, shards.Active, 2)
		if err := ss.Delete(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		state(2999*time.Millisecond, shards.Deleting, 2)
		if found, err := ss.Find(here, "s"); err != nil || found != s {
			t.Fatalf("a stream being deleted is not shown: %v", err)
		}
		if s.Put(t.Context(), make([]shards.PutRecord, 1), out); !errs.Is(out[0].Err, errs.NotFound) {
			t.Fatalf("a put into a stream being deleted: %v", out[0].Err)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if _, err := ss.Find(here, "s"); !errs.Is(err, errs.NotFound) {
			t.Fatalf("a stream that was deleted: %v", err)
		}
	})
}

// A change that waits for its time when the host stops is complete after the next start.
func TestARestartFinishesAChange(t *testing.T) {
	fs := vfs.NewMem()
	ss := openWith(t, fs, 256<<10, shards.Options{Timing: shards.Timing{Update: time.Hour}})
	s, err := ss.Create(t.Context(), here, shards.Spec{Name: "s", Shards: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ss.Scale(t.Context(), s, 5); err != nil {
		t.Fatal(err)
	}
	if s.State() != shards.Updating || len(s.OpenShards()) != 1 {
		t.Fatalf("%s with %d shards", s.State(), len(s.OpenShards()))
	}
	ss.close()
	h := open(t, fs, shards.Events{})
	if s, err = h.Get(here, "s"); err != nil || s.State() != shards.Active || len(s.OpenShards()) != 5 {
		t.Fatalf("%s with %d shards: %v", s.State(), len(s.OpenShards()), err)
	}
}

// A closed shard stays as long as its records may, and no longer.
func TestClosedShardsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem(), shards.Events{})
		s := create(t, h, shards.Spec{Name: "s", Shards: 1})
		put(t, s, "a")
		if err := h.Split(t.Context(), s, 0, hash(t, half)); err != nil {
			t.Fatal(err)
		}
		closed := s.Shard(0).ClosedMs
		if n := len(s.Listed(closed + shards.DefaultRetention.Milliseconds() - 1)); n != 3 {
			t.Fatalf("%d shards listed in the last moment", n)
		}
		if n := len(s.Listed(closed + shards.DefaultRetention.Milliseconds())); n != 2 {
			t.Fatalf("%d shards listed after the end", n)
		}
		time.Sleep(shards.DefaultRetention + time.Minute)
		synctest.Wait()
		if s.Shard(0) != nil || len(s.Shards()) != 2 {
			t.Fatalf("%d shards are left", len(s.Shards()))
		}
		if s.Shard(1).Parents[0] != 0 || len(s.Children(0)) != 2 {
			t.Fatal("the children forgot their parent")
		}
		if err := h.Split(t.Context(), s, 2, hash(t, "1000")); err == nil {
			t.Fatal("split beyond the range")
		}
		if err := h.Merge(t.Context(), s, 1, 2); err != nil || s.Shard(3) == nil {
			t.Fatalf("numbers go on: %v", err)
		}
		h.close()
		h2 := open(t, h.fs, shards.Events{})
		if again, err := h2.Get(here, "s"); err != nil || len(again.Shards()) != 3 || again.Shard(0) != nil {
			t.Fatalf("after a restart: %v", err)
		}
		h2.close()
	})
}

// A reader that is late by more than the retention is told what it lost with a shard, and goes on.
func TestAReaderOutlivesTheShardItWasIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lost []string
		h := open(t, vfs.NewMem(), shards.Events{Expired: func(_ *shards.Stream, reader string, sh *shards.Shard, n uint64) {
			lost = append(lost, fmt.Sprintf("%s: %d of %s", reader, n, sh))
		}})
		s := create(t, h, shards.Spec{Name: "s", Shards: 1})
		register(t, s, "r", shards.FromHorizon)
		put(t, s, "a", "b")
		ctx, cancel := context.WithCancel(t.Context())
		release := make(chan struct{})
		var got []string
		done := make(chan error, 1)
		go func() {
			done <- s.Consume(ctx, shards.Reader{Name: "r", Policy: func() shards.Policy { return shards.Policy{Records: 1} }, Handle: func(ctx context.Context, b *shards.Batch) error {
				if b.Number == 1 {
					<-release
				}
				return b.Each(ctx, func(_ *shards.Shard, recs []shards.Record) error {
					for _, r := range recs {
						got = append(got, string(r.Data))
					}
					return nil
				})
			}})
		}()
		synctest.Wait()
		if err := h.Split(t.Context(), s, 0, hash(t, half)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(shards.DefaultRetention + time.Minute)
		put(t, s, "c")
		close(release)
		synctest.Wait()
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if want := []string{"r: 1 of shardId-000000000000", "r: 1 of shardId-000000000000"}; !slices.Equal(lost, want) || !slices.Equal(got, []string{"c"}) {
			t.Fatalf("lost %v, got %v", lost, got)
		}
		h.close()
	})
}
