package shards_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// load puts a second's worth of records of size bytes, perSecond of them for each second, under one key.
func load(t *testing.T, s *shards.Stream, seconds, perSecond, size int) {
	t.Helper()
	data := make([]byte, size)
	recs := make([]shards.PutRecord, perSecond*seconds)
	for i := range recs {
		recs[i] = shards.PutRecord{Key: []byte("a"), Data: data}
	}
	out := make([]shards.Placed, len(recs))
	s.Put(context.Background(), recs, out)
	for i := range out {
		if out[i].Err != nil {
			t.Fatal(out[i].Err)
		}
	}
}

func TestAnOnDemandStreamFollowsItsLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem(), shards.Events{})
		s := create(t, h, shards.Spec{Name: "s", Shards: shards.OnDemandShards, Mode: shards.OnDemand})
		fixed := create(t, h, shards.Spec{Name: "fixed", Shards: 1})
		minute := func(perSecond int) int {
			load(t, s, 60, perSecond, 1)
			load(t, fixed, 60, perSecond, 1)
			time.Sleep(time.Minute)
			synctest.Wait()
			return len(s.OpenShards())
		}
		if n := minute(400); n != 4 {
			t.Fatalf("%d shards at less than half of what a shard may take", n)
		}
		if n := minute(600); n != 5 {
			t.Fatalf("%d shards after a minute in which one was hot", n)
		}
		checkTiling(t, s)
		for range 6 {
			minute(600) // one key is in one shard, however often that is split
		}
		grown := len(s.OpenShards())
		if grown != 11 || len(fixed.OpenShards()) != 1 {
			t.Fatalf("%d shards, and %d of the stream that is not on demand", grown, len(fixed.OpenShards()))
		}
		time.Sleep(24 * time.Hour) // the next day: room for twice the peak of 0.6 shards, and not below 4
		synctest.Wait()
		if n := len(s.OpenShards()); n != 4 {
			t.Fatalf("%d shards a day later", n)
		}
		checkTiling(t, s)
		h.close()
	})
}

// An error of the metadata anywhere in a change of the shards delays the change, and nothing else.
func TestReshardingUnderErrorsOfMeta(t *testing.T) {
	for _, after := range []bool{false, true} {
		for at := 0; ; at++ {
			reached := false
			synctest.Test(t, func(t *testing.T) { reached = reshardWithFault(t, at, after) })
			if !reached {
				if at < 5 {
					t.Fatalf("only %d transactions", at)
				}
				break
			}
		}
	}
}

func reshardWithFault(t *testing.T, at int, after bool) (reached bool) {
	ss, tap := openTapped(t, vfs.NewMem(), shards.Events{})
	s, err := ss.Create(t.Context(), here, shards.Spec{Name: "s", Shards: 1})
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "a", "b")
	var n atomic.Int64
	var off, hit atomic.Bool
	tap.txn = func(_ []shards.Op, apply func() (bool, error)) (bool, error) {
		if off.Load() || n.Add(1)-1 != int64(at) {
			return apply()
		}
		hit.Store(true)
		if after {
			apply()
		}
		return false, errs.New(errs.Unavailable, "injected")
	}
	_, failed := ss.Scale(t.Context(), s, 3)
	off.Store(true)
	reached = hit.Load()
	if reached != (failed != nil) {
		t.Fatalf("transaction %d failed, and Scale answered %v", at, failed)
	}
	time.Sleep(5 * time.Second) // a change that has begun is finished in the background
	synctest.Wait()
	if s.State() != shards.Active {
		t.Fatalf("transaction %d failed: the stream stays %s", at, s.State())
	}
	if _, err := ss.Scale(t.Context(), s, 3); err != nil || len(s.OpenShards()) != 3 {
		t.Fatalf("transaction %d failed: %d shards: %v", at, len(s.OpenShards()), err)
	}
	put(t, s, "a", "b")
	checkTiling(t, s)
	if err := collectAll(t, s, 4); err != nil {
		t.Fatalf("transaction %d failed: %v", at, err)
	}
	ss.Close()
	return reached
}

// A stream that is to be warm has a shard for each MiB/s at once, and keeps them without any load.
func TestAWarmStreamKeepsItsShards(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem(), shards.Events{})
		defer h.close()
		s := create(t, h, shards.Spec{Name: "s", Shards: shards.OnDemandShards, Mode: shards.OnDemand})
		warm := func(mibps int32, mode string) int {
			t.Helper()
			err := h.UpdateSlowly(t.Context(), s, func(a *shards.Attributes) error {
				a.WarmMiBps, a.Mode = mibps, mode
				return nil
			})
			if err != nil || s.State() != shards.Active {
				t.Fatal(s.State(), err)
			}
			return len(s.OpenShards())
		}
		if n := warm(9, shards.OnDemand); n != 9 {
			t.Errorf("%d shards for 9 MiB/s", n)
		}
		checkTiling(t, s)
		time.Sleep(50 * time.Hour)
		synctest.Wait()
		if n := len(s.OpenShards()); n != 9 {
			t.Errorf("%d shards two days later", n)
		}
		if n := warm(5, shards.OnDemand); n != 9 {
			t.Errorf("%d shards at once for less", n)
		}
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		if n := len(s.OpenShards()); n != 5 {
			t.Errorf("%d shards when there was time to merge", n)
		}
		if n := warm(20, shards.Provisioned); n != 5 {
			t.Errorf("%d shards of a provisioned stream", n)
		}
	})
}
