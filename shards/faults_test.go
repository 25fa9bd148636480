package shards_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
)

// tapped is a store whose transactions can be watched and broken.
type tapped struct {
	shards.Store
	txn    func(ops []shards.Op, apply func() (bool, error)) (bool, error)
	broken *atomic.Bool // nothing can be given up while it is set; nil: never
}

func (s *tapped) Keeper() shards.Keeper {
	if s.broken == nil {
		return s.Store.Keeper()
	}
	return brokenKeeper{s.Store.Keeper(), s.broken}
}

func (s *tapped) Meta() shards.Meta { return tappedMeta{s.Store.Meta(), s} }

type tappedMeta struct {
	shards.Meta
	s *tapped
}

func (m tappedMeta) Txn(ctx context.Context, conds []shards.Cmp, ops []shards.Op) (bool, error) {
	apply := func() (bool, error) { return m.Meta.Txn(ctx, conds, ops) }
	if m.s.txn == nil {
		return apply()
	}
	return m.s.txn(ops, apply)
}

// openTapped opens streams over a tapped store.
func openTapped(t *testing.T, fs vfs.FS, ev shards.Events) (*shards.Streams, *tapped) {
	t.Helper()
	store, err := journal.Open("data", journal.Options{FS: fs, SegmentSize: 4 << 10})
	if err != nil {
		t.Fatal(err)
	}
	tap := &tapped{Store: store}
	ss, err := shards.Open(t.Context(), tap, shards.Options{Events: ev})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ss.Close()
		store.Close()
	})
	return ss, tap
}

func register(t *testing.T, s *shards.Stream, name string, start shards.Start) {
	t.Helper()
	if err := s.Register(t.Context(), name, start); err != nil {
		t.Fatal(err)
	}
}

// Every transaction of a reader fails in turn, before or after it took effect. However often
// Consume is started again, a batch of one number has one content, and each record is in one batch.
func TestConsumeUnderErrorsOfMeta(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 0; ; at++ {
			ss, tap := openTapped(t, vfs.NewMem(), shards.Events{})
			s, err := ss.Create(t.Context(), here, shards.Spec{Name: "s", Shards: 2, Private: true})
			if err != nil {
				t.Fatal(err)
			}
			register(t, s, "r", shards.FromHorizon)
			n, failed := 0, false
			tap.txn = func(_ []shards.Op, apply func() (bool, error)) (bool, error) {
				if n++; n-1 != at {
					return apply()
				}
				failed = true
				if after {
					apply()
				}
				return false, errs.New(errs.Unavailable, "injected")
			}
			var all []string
			for i := range 7 {
				all = append(all, fmt.Sprint("record-", i))
			}
			put(t, s, all...)
			batches := map[uint64][]string{}
			for done := false; !done; {
				ctx, cancel := context.WithCancel(t.Context())
				err := s.Consume(ctx, shards.Reader{Name: "r", Policy: func() shards.Policy { return shards.Policy{Records: 2} }, Handle: func(ctx context.Context, b *shards.Batch) error {
					var data []string
					err := b.Each(ctx, func(_ *shards.Shard, recs []shards.Record) error {
						for _, r := range recs {
							data = append(data, string(r.Data))
						}
						return nil
					})
					if err != nil {
						t.Error(err)
					}
					if was, again := batches[b.Number]; again && !slices.Equal(was, data) {
						t.Errorf("transaction %d failed: batch %d was %v and is %v", at, b.Number, was, data)
					}
					batches[b.Number] = data
					if len(slices.Concat(slices.Collect(maps.Values(batches))...)) == len(all) {
						cancel()
					}
					return nil
				}})
				cancel()
				if !errors.Is(err, context.Canceled) && !errs.Is(err, errs.Unavailable) {
					t.Fatalf("transaction %d failed: Consume ended with %v", at, err)
				}
				if done, err = s.CaughtUp(t.Context(), "r"); err != nil {
					t.Fatal(err)
				}
			}
			got := slices.Concat(slices.Collect(maps.Values(batches))...)
			slices.Sort(got)
			if !slices.Equal(got, all) {
				t.Fatalf("transaction %d failed: the batches hold %v", at, got)
			}
			if !failed {
				break
			}
		}
	}
}

// A reader removed in the very moment in which its checkpoint was written must not write itself
// back: it would hold back a private stream's other readers for ever.
func TestARemovedReaderStaysRemoved(t *testing.T) {
	ss, tap := openTapped(t, vfs.NewMem(), shards.Events{})
	s, err := ss.Create(t.Context(), here, shards.Spec{Name: "s", Shards: 1, Private: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, again := range []bool{false, true} {
		register(t, s, "r", shards.FromHorizon)
		var once atomic.Bool
		tap.txn = func(ops []shards.Op, apply func() (bool, error)) (bool, error) {
			ok, err := apply()
			if !ops[0].Delete && once.CompareAndSwap(false, true) {
				if err := s.Unregister(t.Context(), "r"); err != nil {
					t.Error(err)
				}
				if again {
					register(t, s, "r", shards.FromHorizon)
				}
			}
			return ok, err
		}
		put(t, s, "a")
		err = s.Consume(t.Context(), shards.Reader{Name: "r", Policy: func() shards.Policy { return shards.Policy{} },
			Handle: func(context.Context, *shards.Batch) error { return nil }})
		tap.txn = nil
		if !errs.Is(err, errs.Conflict) {
			t.Fatalf("Consume of a removed reader ended with %v", err)
		}
		if _, rev, err := tap.Meta().Get(t.Context(), fmt.Sprintf("k/%016x/r", s.ID)); err != nil || (rev != 0) != again {
			t.Fatalf("the reader has revision %d, registered again: %v", rev, again)
		}
	}
}

// A new reader of a private stream gets every record after its starting point, although others are
// done with them and trim while it is registered.
func TestRegisterWhileOthersTrim(t *testing.T) {
	ss, tap := openTapped(t, vfs.NewMem(), shards.Events{})
	s, err := ss.Create(t.Context(), here, shards.Spec{Name: "s", Shards: 1, Private: true})
	if err != nil {
		t.Fatal(err)
	}
	register(t, s, "first", shards.FromHorizon)
	stored := make(chan struct{})
	var registered atomic.Bool
	tap.txn = func(ops []shards.Op, apply func() (bool, error)) (bool, error) {
		ok, err := apply()
		switch key := ops[0].Key; {
		case strings.HasSuffix(key, "/first") && strings.Contains(string(ops[0].Value), `{"positions":{"0":2},"cuts"`):
			close(stored)
		case strings.HasSuffix(key, "/second") && registered.CompareAndSwap(false, true):
			put(t, s, "meanwhile")
			<-stored // the first reader is done with it, and about to trim
		}
		return ok, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	policy := func() shards.Policy { return shards.Policy{Records: 1} }
	go func() {
		done <- s.Consume(ctx, shards.Reader{Name: "first", Policy: policy, Handle: func(context.Context, *shards.Batch) error { return nil }})
	}()
	put(t, s, "before")
	for p := shards.Pos(0); p < 1; { // until the first reader has trimmed
		if p, err = s.Horizon(t.Context(), s.Shard(0)); err != nil {
			t.Fatal(err)
		}
	}
	register(t, s, "second", shards.FromLatest)
	var got []string
	ctx2, cancel2 := context.WithCancel(t.Context())
	err = s.Consume(ctx2, shards.Reader{Name: "second", Policy: policy, Handle: func(ctx context.Context, b *shards.Batch) error {
		defer cancel2()
		return b.Each(ctx, func(_ *shards.Shard, recs []shards.Record) error {
			got = append(got, string(recs[0].Data))
			return nil
		})
	}})
	if !errors.Is(err, context.Canceled) || fmt.Sprint(got) != "[meanwhile]" {
		t.Fatalf("the second reader got %v, %v", got, err)
	}
	cancel()
	<-done
}

func TestConsumeEndsWithItsStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem(), shards.Events{})
		defer h.close()
		s := create(t, h, shards.Spec{Name: "s", Shards: 2})
		done := consume(t, t.Context(), s, shards.Policy{Wait: time.Hour}, func(*shards.Batch, []string) error { return nil })
		synctest.Wait()
		if err := h.Delete(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		if err := <-done; !errs.Is(err, errs.NotFound) {
			t.Fatalf("Consume of a deleted stream ended with %v", err)
		}
		for kv := range h.store.Meta().Scan(t.Context(), "k/") {
			t.Errorf("%s is left", kv.Key)
		}
		fresh := create(t, h, shards.Spec{Name: "s", Shards: 2})
		err := fresh.Consume(t.Context(), shards.Reader{Name: "r"})
		if !errs.Is(err, errs.NotFound) || err.Error() != "stream s has no reader r" {
			t.Fatalf("the reader of the old stream in a new one: %v", err)
		}
	})
}

// Records that arrived before the clock was put back by years must not wait for years.
func TestABatchIsCutAlthoughTheClockWasPutBack(t *testing.T) {
	fs := vfs.NewMem()
	h := open(t, fs, shards.Events{})
	put(t, create(t, h, shards.Spec{Name: "s", Shards: 1}), "today")
	h.close()
	synctest.Test(t, func(t *testing.T) { // its clock starts in 2000
		h := open(t, fs, shards.Events{})
		defer h.close()
		s, err := h.Get(here, "s")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		var took time.Duration
		done := consume(t, ctx, s, shards.Policy{Wait: time.Minute}, func(b *shards.Batch, data []string) error {
			took = time.Since(start)
			cancel()
			return nil
		})
		<-done
		if took != time.Minute {
			t.Fatalf("the batch came after %v, want the minute of the policy", took)
		}
	})
}

// A stream that is being created has no shards to read yet.
func TestAStreamBeingCreatedHasNoReaders(t *testing.T) {
	ss, tap := openTapped(t, vfs.NewMem(), shards.Events{})
	tried := false
	tap.txn = func(ops []shards.Op, apply func() (bool, error)) (bool, error) {
		if !strings.HasPrefix(ops[0].Key, "h/") {
			return apply()
		}
		tried = true
		s, err := ss.Get(here, "s")
		if err != nil || s.State() != shards.Creating {
			t.Errorf("the stream is %s, %v", s.State(), err)
		}
		if err := s.Register(t.Context(), "r", shards.FromHorizon); !errs.Is(err, errs.NotFound) {
			t.Errorf("Register: %v", err)
		}
		if err := s.Consume(t.Context(), shards.Reader{Name: "r"}); !errs.Is(err, errs.NotFound) {
			t.Errorf("Consume: %v", err)
		}
		return apply()
	}
	if _, err := ss.Create(t.Context(), here, shards.Spec{Name: "s", Shards: 1}); err != nil || !tried {
		t.Fatal(err)
	}
}

// brokenKeeper cannot give anything up while broken is set.
type brokenKeeper struct {
	shards.Keeper
	broken *atomic.Bool
}

func (k brokenKeeper) Trim(ctx context.Context, id shards.ShardID, through shards.Pos) error {
	if k.broken.Load() {
		return syscall.EIO
	}
	return k.Keeper.Trim(ctx, id, through)
}

func (k brokenKeeper) Delete(ctx context.Context, ids []shards.ShardID) error {
	if k.broken.Load() {
		return syscall.EIO
	}
	return k.Keeper.Delete(ctx, ids)
}

// A deletion that failed half-way is finished when its name is wanted again.
func TestTheNameOfAHalfDeletedStreamCanBeUsed(t *testing.T) {
	var broken atomic.Bool
	ss, tap := openTapped(t, vfs.NewMem(), shards.Events{})
	tap.broken = &broken
	s, err := ss.Create(t.Context(), here, shards.Spec{Name: "s", Shards: 1})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		put(t, s, strings.Repeat("x", 1000))
	}
	broken.Store(true)
	if err := ss.Delete(t.Context(), s); !errors.Is(err, syscall.EIO) {
		t.Fatalf("the deletion: %v", err)
	}
	broken.Store(false)
	fresh, err := ss.Create(t.Context(), here, shards.Spec{Name: "s", Shards: 1})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ss.Get(here, "s"); got != fresh || err != nil {
		t.Fatalf("%v", err)
	}
}

// Trimming serves space, not delivery: when it fails, batches go on and it is told.
func TestATrimThatFailsDoesNotEndConsume(t *testing.T) {
	var broken atomic.Bool
	var told atomic.Int32
	ss, tap := openTapped(t, vfs.NewMem(), shards.Events{TrimFailed: func(*shards.Stream, error) { told.Add(1) }})
	tap.broken = &broken
	s, err := ss.Create(t.Context(), here, shards.Spec{Name: "s", Shards: 1, Private: true})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		put(t, s, strings.Repeat("x", 1000))
	}
	broken.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	batches := 0
	done := consume(t, ctx, s, shards.Policy{Records: 1}, func(*shards.Batch, []string) error {
		if batches++; batches == 10 {
			cancel()
		}
		return nil
	})
	if err := <-done; !errors.Is(err, context.Canceled) || told.Load() == 0 {
		t.Fatalf("Consume ended after %d batches with %v; %d failures were told", batches, err, told.Load())
	}
}
