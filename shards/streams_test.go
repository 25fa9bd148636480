package shards_test

import (
	"context"
	"errors"
	"fmt"
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

var here = shards.Scope{Account: "000000000000", Region: "us-east-1"}

// host is the streams of a store on a file system in memory.
type host struct {
	*shards.Streams
	store *journal.Store
	fs    vfs.FS
}

func open(t *testing.T, fs vfs.FS, ev shards.Events) *host {
	t.Helper()
	return openWith(t, fs, 256<<10, shards.Options{Events: ev})
}

// openWith is open with options, on segments of a size.
func openWith(t *testing.T, fs vfs.FS, segment int64, o shards.Options) *host {
	t.Helper()
	store, err := journal.Open("data", journal.Options{FS: fs, SegmentSize: segment})
	if err != nil {
		t.Fatal(err)
	}
	ss, err := shards.Open(t.Context(), store, o)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{ss, store, fs}
	t.Cleanup(h.close)
	return h
}

func (h *host) close() {
	h.Streams.Close()
	h.store.Close()
}

func create(t *testing.T, h *host, spec shards.Spec) *shards.Stream {
	t.Helper()
	s, err := h.Create(t.Context(), here, spec)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func put(t *testing.T, s *shards.Stream, data ...string) []shards.Placed {
	t.Helper()
	recs := make([]shards.PutRecord, len(data))
	for i, d := range data {
		recs[i] = shards.PutRecord{Key: []byte(d), Data: []byte(d)}
	}
	out := make([]shards.Placed, len(recs))
	s.Put(context.Background(), recs, out)
	for i := range out {
		if out[i].Err != nil {
			t.Fatal(out[i].Err)
		}
	}
	return out
}

func TestStreamsSurviveARestart(t *testing.T) {
	fs := vfs.NewMem()
	h := open(t, fs, shards.Events{})
	a := create(t, h, shards.Spec{Name: "a", Shards: 2})
	create(t, h, shards.Spec{Name: "b", Shards: 1, Private: true})
	if _, err := h.Create(t.Context(), here, shards.Spec{Name: "a", Shards: 1}); err == nil || err.Error() != "Stream a under account 000000000000 already exists." {
		t.Fatalf("a second stream of that name: %v", err)
	}
	placed := put(t, a, "x", "y", "z")
	h.close()
	h = open(t, fs, shards.Events{})
	if list := h.List(here); len(list) != 1 || list[0].Name != "a" || list[0].CreatedMs != a.CreatedMs {
		t.Fatalf("streams after the restart: %+v", list)
	}
	if _, err := h.Private(here, "b"); err != nil {
		t.Fatal(err)
	}
	a, _ = h.Get(here, "a")
	for i, d := range []string{"x", "y", "z"} {
		recs, behind, err := a.Read(t.Context(), a.Shard(placed[i].Shard.Number), placed[i].Pos-1, shards.Budget{Records: 1, Bytes: 1}, nil)
		if err != nil || len(recs) != 1 || string(recs[0].Data) != d {
			t.Fatalf("%s: %v, %v", d, recs, err)
		}
		if atTip := placed[i].Pos == tip(t, a, placed[i].Shard.Number); atTip && behind != 0 {
			t.Fatalf("%s is the newest record and %d ms behind", d, behind)
		}
	}
}

func tip(t *testing.T, s *shards.Stream, n uint32) shards.Pos {
	p, err := s.Tip(t.Context(), s.Shard(n))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRecordsGoToTheShardOfTheirHash(t *testing.T) {
	h := open(t, vfs.NewMem(), shards.Events{})
	s := create(t, h, shards.Spec{Name: "s", Shards: 16})
	for i := range 200 {
		key := fmt.Sprint("key-", i)
		p := put(t, s, key)[0]
		if hash := shards.HashOf([]byte(key)); hash.Less(p.Shard.Start) || p.Shard.End.Less(hash) {
			t.Fatalf("%s with hash %s went to %s (%s … %s)", key, hash, p.Shard, p.Shard.Start, p.Shard.End)
		}
	}
	out := make([]shards.Placed, 1)
	s.Put(t.Context(), []shards.PutRecord{{Key: []byte("any"), Explicit: &shards.MaxHash}}, out)
	if out[0].Shard.Number != 15 {
		t.Fatalf("the last hash key went to %s", out[0].Shard)
	}
}

func TestADeletedStreamIsGoneAndItsNameIsFree(t *testing.T) {
	fs := vfs.NewMem()
	h := open(t, fs, shards.Events{})
	old := create(t, h, shards.Spec{Name: "s", Shards: 3})
	put(t, old, "x")
	if err := h.Delete(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	out := make([]shards.Placed, 1)
	old.Put(t.Context(), []shards.PutRecord{{Data: []byte("late")}}, out)
	if !errs.Is(out[0].Err, errs.NotFound) {
		t.Fatalf("a put into a deleted stream: %v", out[0].Err)
	}
	fresh := create(t, h, shards.Spec{Name: "s", Shards: 3})
	if fresh.ID == old.ID || fresh.Shard(0).ID <= old.Shard(2).ID {
		t.Fatal("ids of a deleted stream were used again")
	}
	h.close()
	h = open(t, fs, shards.Events{})
	if s, err := h.Get(here, "s"); err != nil || s.ID != fresh.ID {
		t.Fatalf("after a restart: %v", err)
	}
}

func TestRecordsExpireAtTheEndOfRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem(), shards.Events{})
		defer h.close() // inside the bubble
		s := create(t, h, shards.Spec{Name: "s", Shards: 1})
		put(t, s, "old")
		time.Sleep(23 * time.Hour)
		put(t, s, "new")
		read := func() string {
			recs, _, err := s.Read(t.Context(), s.Shard(0), 0, shards.Budget{Records: 10, Bytes: 1000}, nil)
			if err != nil {
				t.Fatal(err)
			}
			var out []string
			for _, r := range recs {
				out = append(out, string(r.Data))
			}
			return strings.Join(out, " ")
		}
		if got := read(); got != "old new" {
			t.Fatalf("after 23 hours: %q", got)
		}
		time.Sleep(time.Hour + time.Second)
		if got := read(); got != "new" {
			t.Fatalf("after 24 hours: %q", got)
		}
		time.Sleep(2 * time.Minute) // the trimmer's turn
		if b, _ := h.store.Log().Bounds(t.Context(), s.Shard(0).ID); b.Horizon != 1 {
			t.Fatalf("the log still keeps what is out of retention: %+v", b)
		}
	})
}

// consume runs Consume in the background; each batch's records go to got, and the handler answers
// what verdict says.
func consume(t *testing.T, ctx context.Context, s *shards.Stream, p shards.Policy, verdict func(b *shards.Batch, data []string) error) (done chan error) {
	t.Helper()
	if err := s.Register(t.Context(), "r", shards.FromHorizon); err != nil {
		t.Fatal(err)
	}
	done = make(chan error, 1)
	go func() {
		done <- s.Consume(ctx, shards.Reader{Name: "r", Policy: func() shards.Policy { return p }, Handle: func(ctx context.Context, b *shards.Batch) error {
			var data []string
			err := b.Each(ctx, func(sh *shards.Shard, recs []shards.Record) error {
				for _, r := range recs {
					data = append(data, string(r.Data))
				}
				return nil
			})
			if err != nil {
				return err
			}
			return verdict(b, data)
		}})
	}()
	return done
}

func TestBatchesAreCutBySizeOrAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem(), shards.Events{})
		defer h.close()
		s := create(t, h, shards.Spec{Name: "s", Shards: 1})
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		var batches []string
		got := func() string {
			mu.Lock()
			defer mu.Unlock()
			return fmt.Sprint(batches)
		}
		done := consume(t, ctx, s, shards.Policy{Bytes: 4, Wait: time.Minute}, func(b *shards.Batch, data []string) error {
			mu.Lock()
			defer mu.Unlock()
			batches = append(batches, fmt.Sprint(b.Number, data))
			return nil
		})
		put(t, s, "aa", "bb", "cc", "d")
		synctest.Wait()
		if got := got(); got != "[1 [aa bb]]" {
			t.Fatalf("by size: %s", got)
		}
		time.Sleep(59 * time.Second)
		synctest.Wait()
		if got := got(); got != "[1 [aa bb]]" {
			t.Fatalf("a batch was cut before its time: %s", got)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := got(); got != "[1 [aa bb] 2 [cc d]]" {
			t.Fatalf("by age: %s", got)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	})
}

// A batch whose handler failed, or whose host died while it was handled, comes again as it was,
// although more records have arrived.
func TestABatchIsNeverCutAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		h := open(t, fs, shards.Events{})
		s := create(t, h, shards.Spec{Name: "s", Shards: 4})
		put(t, s, "a", "b", "c")
		var tries []string
		ctx, cancel := context.WithCancel(t.Context())
		failing := func(b *shards.Batch, data []string) error {
			tries = append(tries, fmt.Sprint(b.Number, data))
			return errors.New("the sink is down")
		}
		done := consume(t, ctx, s, shards.Policy{}, failing)
		synctest.Wait()
		put(t, s, "later")
		time.Sleep(time.Minute)
		cancel()
		<-done
		h.close()

		h = open(t, fs, shards.Events{})
		defer h.close()
		s, _ = h.Get(here, "s")
		ctx, cancel = context.WithCancel(t.Context())
		var good []string
		done = consume(t, ctx, s, shards.Policy{}, func(b *shards.Batch, data []string) error {
			good = append(good, fmt.Sprint(b.Number, data))
			return nil
		})
		synctest.Wait()
		cancel()
		<-done
		if len(tries) < 3 || len(good) != 2 {
			t.Fatalf("tries %v, good %v", tries, good)
		}
		for _, try := range tries {
			if try != good[0] {
				t.Fatalf("the batch was %s and is now %s", good[0], try)
			}
		}
		if good[1] != "2 [later]" {
			t.Fatalf("the batch after it: %s", good[1])
		}
	})
}

func TestAPrivateStreamKeepsRecordsUntilItsReadersAreDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem(), shards.Events{})
		defer h.close()
		s := create(t, h, shards.Spec{Name: "s", Shards: 1, Private: true})
		if err := s.Register(t.Context(), "slow", shards.FromHorizon); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := consume(t, ctx, s, shards.Policy{}, func(*shards.Batch, []string) error { return nil })
		put(t, s, "a", "b")
		time.Sleep(30 * time.Hour)
		synctest.Wait()
		if p, _ := s.Horizon(t.Context(), s.Shard(0)); p != 0 {
			t.Fatalf("trimmed to %d although a reader has not read", p)
		}
		if err := s.Unregister(t.Context(), "slow"); err != nil {
			t.Fatal(err)
		}
		put(t, s, "c")
		synctest.Wait()
		if p, _ := s.Horizon(t.Context(), s.Shard(0)); p != 3 {
			t.Fatalf("trimmed to %d, want all 3", p)
		}
		cancel()
		<-done
	})
}

func TestAReaderTooLateIsToldWhatItLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var gone uint64
		h := open(t, vfs.NewMem(), shards.Events{Expired: func(_ *shards.Stream, reader string, _ *shards.Shard, n uint64) { gone += n }})
		defer h.close()
		s := create(t, h, shards.Spec{Name: "s", Shards: 1})
		if err := s.Register(t.Context(), "r", shards.FromHorizon); err != nil {
			t.Fatal(err)
		}
		put(t, s, "a", "b")
		time.Sleep(25 * time.Hour)
		put(t, s, "c")
		ctx, cancel := context.WithCancel(t.Context())
		var got []string
		done := consume(t, ctx, s, shards.Policy{}, func(_ *shards.Batch, data []string) error { got = append(got, data...); return nil })
		synctest.Wait()
		cancel()
		<-done
		if fmt.Sprint(got) != "[c]" || gone != 2 {
			t.Fatalf("got %v, told of %d lost records; want [c] and 2", got, gone)
		}
	})
}

func TestOnlyOneConsumerOfAReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem(), shards.Events{})
		defer h.close()
		s := create(t, h, shards.Spec{Name: "s", Shards: 1})
		ctx, cancel := context.WithCancel(t.Context())
		ok := func(*shards.Batch, []string) error { return nil }
		first := consume(t, ctx, s, shards.Policy{}, ok)
		second := consume(t, ctx, s, shards.Policy{}, ok)
		synctest.Wait()
		put(t, s, "a")
		synctest.Wait()
		cancel()
		a, b := <-first, <-second
		if errs.Is(a, errs.Conflict) == errs.Is(b, errs.Conflict) {
			t.Fatalf("the consumers ended with %v and %v; want one conflict", a, b)
		}
	})
}
