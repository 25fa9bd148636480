package shards_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/limits"
	"github.com/shardmill/shardmill/internal/localkms"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
)

// openWithKeys is open with keys on the same file system.
func openWithKeys(t *testing.T, fs vfs.FS) *host {
	t.Helper()
	keys, err := localkms.Open("data/keys", localkms.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return openWith(t, fs, 4<<20, shards.Options{Keys: keys})
}

func encrypt(t *testing.T, h *host, s *shards.Stream, key string) {
	t.Helper()
	if err := h.StartEncryption(t.Context(), s, key); err != nil {
		t.Fatal(err)
	}
}

func whole(t *testing.T, s *shards.Stream, shard uint32) []shards.Record {
	t.Helper()
	recs, _, err := s.Read(t.Context(), s.Shard(shard), 0, shards.Budget{Records: 100, Bytes: 1 << 20}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return recs
}

// Whatever the stream's encryption has been, every record reads as it was put, over a restart too;
// the log holds the plain data of none that was put under a key.
func TestEncryptedRecords(t *testing.T) {
	fs := vfs.NewMem()
	h := openWithKeys(t, fs)
	s := create(t, h, shards.Spec{Name: "s", Shards: 1})
	step := func(text string, wantEncrypted bool) {
		t.Helper()
		for _, p := range put(t, s, text, "") {
			if p.Err != nil || p.Encrypted != wantEncrypted {
				t.Fatalf("%s: %+v", text, p)
			}
		}
	}
	step("first, in the clear", false)
	encrypt(t, h, s, "alias/a")
	step("under a", true)
	encrypt(t, h, s, "alias/b")
	step("under b", true)
	if err := h.StopEncryption(t.Context(), s, "alias/b"); err != nil {
		t.Fatal(err)
	}
	step("at last in the clear", false)
	for range 2 {
		got := ""
		for _, r := range whole(t, s, 0) {
			got += fmt.Sprintf("%d:%s|", r.Flags, r.Data)
		}
		if want := "0:first, in the clear|0:|2:under a|2:|2:under b|2:|0:at last in the clear|0:|"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
		raw, err := h.store.Log().Read(t.Context(), s.Shard(0).ID, 0, shards.Budget{Records: 100, Bytes: 1 << 20}, nil)
		if err != nil {
			t.Fatal(err)
		}
		clear := 0
		for i := range raw {
			if bytes.Contains(raw[i].Data, []byte("under")) {
				t.Errorf("the log holds %q", raw[i].Data)
			}
			clear += bytes.Count(raw[i].Data, []byte("clear"))
		}
		if clear != 2 {
			t.Errorf("control: %d of the 2 records in the clear are seen in the log", clear)
		}
		h.close()
		h = openWithKeys(t, fs)
		if s, err = h.Get(here, "s"); err != nil {
			t.Fatal(err)
		}
	}
}

// An encrypted record can be read nowhere but where it was put, under its own key and unchanged.
func TestEncryptedRecordsCannotBeMoved(t *testing.T) {
	h := openWithKeys(t, vfs.NewMem())
	s, other := create(t, h, shards.Spec{Name: "s", Shards: 2}), create(t, h, shards.Spec{Name: "t", Shards: 1})
	encrypt(t, h, s, "alias/a")
	at := put(t, s, "secret")[0]
	raw, err := h.store.Log().Read(t.Context(), at.Shard.ID, at.Pos-1, shards.Budget{Records: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	good := shards.Entry{Key: raw[0].Key, Data: raw[0].Data, Flags: raw[0].Flags}
	change := func(f func(*shards.Entry)) shards.Entry {
		e := good
		e.Key, e.Data = bytes.Clone(e.Key), bytes.Clone(e.Data)
		f(&e)
		return e
	}
	try := func(s *shards.Stream, sh *shards.Shard, e shards.Entry) error {
		t.Helper()
		result := make([]shards.Result, 1)
		h.store.Log().Append(t.Context(), []shards.Run{{Shard: sh.ID, Entries: []shards.Entry{e}}}, result)
		if result[0].Err != nil {
			t.Fatal(result[0].Err)
		}
		recs, _, err := s.Read(t.Context(), sh, result[0].First-1, shards.Budget{Records: 1}, nil)
		if err == nil && string(recs[0].Data) != "secret" {
			t.Errorf("%q was read", recs[0].Data)
		}
		return err
	}
	if err := try(s, at.Shard, good); err != nil {
		t.Fatal("control: the record does not open where it was put:", err)
	}
	for name, err := range map[string]error{
		"another shard":     try(s, s.Shard(1-at.Shard.Number), good),
		"another stream":    try(other, other.Shard(0), good),
		"another key":       try(s, at.Shard, change(func(e *shards.Entry) { e.Key = []byte("x") })),
		"another flag":      try(s, at.Shard, change(func(e *shards.Entry) { e.Flags |= 4 })),
		"a changed bit":     try(s, at.Shard, change(func(e *shards.Entry) { e.Data[len(e.Data)-1] ^= 1 })),
		"another hour":      try(s, at.Shard, change(func(e *shards.Entry) { e.Data[8] ^= 1 })),
		"an unknown format": try(s, at.Shard, change(func(e *shards.Entry) { e.Data[0] = 2 })),
		"too short":         try(s, at.Shard, change(func(e *shards.Entry) { e.Data = e.Data[:36] })),
	} {
		if !errs.Is(err, errs.Internal) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := try(s, at.Shard, change(func(e *shards.Entry) { e.Data[1] ^= 1 })); !errs.Is(err, errs.KeyMissing) {
		t.Errorf("a key that is not there: %v", err)
	}
}

// Readers of the host get plain data, and batches are cut by their size.
func TestConsumingEncryptedRecords(t *testing.T) {
	h := openWithKeys(t, vfs.NewMem())
	s := create(t, h, shards.Spec{Name: "s", Shards: 1})
	encrypt(t, h, s, "alias/a")
	register(t, s, "r", shards.FromHorizon)
	put(t, s, strings.Repeat("a", 50), strings.Repeat("b", 50), strings.Repeat("c", 50))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var got []string
	err := s.Consume(ctx, shards.Reader{
		Name:   "r",
		Policy: func() shards.Policy { return shards.Policy{Bytes: 100, Wait: time.Millisecond} },
		Handle: func(ctx context.Context, b *shards.Batch) error {
			text := fmt.Sprint(b.Bytes)
			err := b.Each(ctx, func(_ *shards.Shard, recs []shards.Record) error {
				for i := range recs {
					text += fmt.Sprintf(" %d%c", len(recs[i].Data), recs[i].Data[0])
				}
				return nil
			})
			if got = append(got, text); len(got) == 2 {
				cancel()
			}
			return err
		},
	})
	if ctx.Err() == nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got) != "[100 50a 50b 50 50c]" {
		t.Errorf("%q", got)
	}
}

// Records that meet a shard that is being split are encrypted anew for the shard that takes them.
func TestEncryptedRecordsOverASplit(t *testing.T) {
	h := openWithKeys(t, vfs.NewMem())
	s := create(t, h, shards.Spec{Name: "s", Shards: 1})
	encrypt(t, h, s, "alias/a")
	const writers, each = 4, 300
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				out := make([]shards.Placed, 1)
				data := fmt.Sprint(w, "/", i)
				if s.Put(t.Context(), []shards.PutRecord{{Key: []byte(data), Data: []byte(data)}}, out); out[0].Err != nil {
					t.Error(out[0].Err)
				}
			}
		})
	}
	for range 4 {
		for _, sh := range s.OpenShards() {
			if err := h.Split(t.Context(), s, sh.Number, middle(sh)); err != nil {
				t.Error(err)
			}
		}
	}
	all.Wait()
	seen, used := make(map[string]int), 0
	for _, sh := range s.Shards() {
		recs, _, err := s.Read(t.Context(), sh, 0, shards.Budget{Records: writers * each, Bytes: 1 << 20}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(recs) > 0 {
			used++
		}
		for i := range recs {
			seen[string(recs[i].Data)]++
			if !bytes.Equal(recs[i].Data, recs[i].Key) {
				t.Errorf("%s reads as %q", recs[i].Key, recs[i].Data)
			}
		}
	}
	if len(seen) != writers*each || used < 2 {
		t.Errorf("%d of %d records in %d shards", len(seen), writers*each, used)
	}
}

// middle is a hash key in the middle of a shard's range.
func middle(sh *shards.Shard) shards.Hash {
	return shards.Hash{Hi: sh.Start.Hi + (sh.End.Hi-sh.Start.Hi)/2}
}

func TestStoppingWithTheWrongKey(t *testing.T) {
	h := openWithKeys(t, vfs.NewMem())
	s := create(t, h, shards.Spec{Name: "s", Shards: 1})
	stop := func(key string) error { return h.StopEncryption(t.Context(), s, key) }
	if err := stop("alias/a"); err != nil {
		t.Error("a stream that is not encrypted:", err)
	}
	encrypt(t, h, s, "alias/a")
	if err := stop("alias/b"); !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), "Stream s under account 000000000000 is encrypted with key alias/a, not with alias/b.") {
		t.Error(err)
	}
	if p := put(t, s, "x")[0]; !p.Encrypted {
		t.Error("the encryption was stopped all the same")
	}
	if err := stop("arn:aws:kms:us-east-1:000000000000:alias/a"); err != nil {
		t.Error("the same key by its ARN:", err)
	}
	if p := put(t, s, "x")[0]; p.Encrypted {
		t.Error("the encryption was not stopped")
	}
}

func TestAHostWithoutKeys(t *testing.T) {
	fs := vfs.NewMem()
	h := openWithKeys(t, fs)
	s := create(t, h, shards.Spec{Name: "s", Shards: 1})
	encrypt(t, h, s, "alias/a")
	put(t, s, "x")
	h.close()
	h = open(t, fs, shards.Events{})
	s, err := h.Get(here, "s")
	if err != nil {
		t.Fatal(err)
	}
	out := make([]shards.Placed, 1)
	s.Put(t.Context(), []shards.PutRecord{{Key: []byte("k")}}, out)
	_, _, readErr := s.Read(t.Context(), s.Shard(0), 0, shards.Budget{Records: 1}, nil)
	for what, err := range map[string]error{"put": out[0].Err, "read": readErr,
		"start": h.StartEncryption(t.Context(), s, "alias/b"), "stop": h.StopEncryption(t.Context(), s, "alias/b")} {
		if !errs.Is(err, errs.KeyOptIn) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Each hour has an AES key of its own; records of all of them are read in one go.
func TestEncryptedRecordsOfManyHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := openWithKeys(t, vfs.NewMem())
		s := create(t, h, shards.Spec{Name: "s", Shards: 1})
		encrypt(t, h, s, "alias/a")
		want := ""
		for i := range 20 {
			text := fmt.Sprint("r", i)
			put(t, s, text)
			want += text
			time.Sleep(time.Hour)
		}
		got := ""
		for _, r := range whole(t, s, 0) {
			got += string(r.Data)
		}
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		h.close()
	})
}

func TestRecordsAreSpreadEvenly(t *testing.T) {
	h := open(t, vfs.NewMem(), shards.Events{})
	s := create(t, h, shards.Spec{Name: "s", Shards: 4, Mode: shards.OnDemand, Distribution: shards.Auto})
	count := make(map[uint32]int)
	for _, n := range []int{1, 1, 1, 1, 3, 5, 100, 7, 1} { // 120 in all
		recs, out := make([]shards.PutRecord, n), make([]shards.Placed, n)
		s.Put(t.Context(), recs, out)
		in := make(map[uint32]int)
		for i := range out {
			if out[i].Err != nil {
				t.Fatal(out[i].Err)
			}
			in[out[i].Shard.Number]++
			count[out[i].Shard.Number]++
		}
		for sh := range uint32(4) {
			if in[sh] < n/4 || in[sh] > (n+3)/4 {
				t.Errorf("of %d records of one call %d went to shard %d", n, in[sh], sh)
			}
		}
	}
	for sh := range uint32(4) {
		if count[sh] != 30 {
			t.Errorf("shard %d got %d of 120 records", sh, count[sh])
		}
	}
}

// BenchmarkEncryption is what encryption adds to a put and to a read of 500 records of 1 KB.
func BenchmarkEncryption(b *testing.B) {
	for _, key := range []string{"", "alias/a"} {
		name := "plain"
		if key != "" {
			name = "encrypted"
		}
		fs := vfs.NewMem()
		store, err := journal.Open("data", journal.Options{FS: fs})
		if err != nil {
			b.Fatal(err)
		}
		defer store.Close()
		keys, err := localkms.Open("data/keys", localkms.Options{FS: fs})
		if err != nil {
			b.Fatal(err)
		}
		ss, err := shards.Open(b.Context(), store, shards.Options{Keys: keys})
		if err != nil {
			b.Fatal(err)
		}
		defer ss.Close()
		s, err := ss.Create(b.Context(), here, shards.Spec{Name: "s", Shards: 4})
		if err != nil {
			b.Fatal(err)
		}
		if key != "" {
			if err := ss.StartEncryption(b.Context(), s, key); err != nil {
				b.Fatal(err)
			}
		}
		recs, out := benchBatch(), make([]shards.Placed, benchRecords)
		for i := range recs {
			recs[i].Explicit = &shards.Hash{Hi: rand.Uint64()}
		}
		s.Put(b.Context(), recs, out)
		b.Run("read/"+name, func(b *testing.B) {
			sh := s.Shard(0)
			var buf []shards.Record
			n, cpu := 0, limits.CPU()
			for b.Loop() {
				if buf, _, err = s.Read(b.Context(), sh, 0, shards.Budget{Records: 500, Bytes: 10 << 20}, buf[:0]); err != nil {
					b.Fatal(err)
				}
				n += len(buf)
			}
			b.ReportMetric(float64((limits.CPU()-cpu).Nanoseconds())/float64(n), "cpu-ns/record")
		})
		b.Run("put/"+name, func(b *testing.B) {
			n, cpu := 0, limits.CPU()
			for b.Loop() {
				s.Put(b.Context(), recs, out)
				if n += len(out); n%100_000 == 0 {
					b.StopTimer()
					for _, sh := range s.Shards() {
						tip, err := s.Tip(b.Context(), sh)
						if err == nil {
							err = store.Keeper().Trim(b.Context(), sh.ID, tip)
						}
						if err != nil {
							b.Fatal(err)
						}
					}
					b.StartTimer()
				}
			}
			b.ReportMetric(float64((limits.CPU()-cpu).Nanoseconds())/float64(n), "cpu-ns/record")
		})
	}
}
