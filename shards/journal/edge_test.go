package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// openDisk opens a store on the disk, for tests that write megabytes.
func openDisk(t *testing.T, dir string, o Options) *Store {
	t.Helper()
	s, err := Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// A run without entries stores nothing, and waits for nothing.
func TestAnEmptyRunIsDoneAtOnce(t *testing.T) {
	s := open(t, vfs.NewMem(), Options{})
	create(t, s, 1)
	inTime(t, "the append of an empty run", func() {
		var res [1]shards.Result
		s.Append(context.Background(), []shards.Run{{Shard: 1}}, res[:])
		if res[0].Err != nil {
			t.Error(res[0].Err)
		}
		s.Append(context.Background(), nil, nil)
	})
	want(t, "the shard", read(t, s, 1, 0, everything), "")
}

func TestARunOfMoreRecordsThanAFrameHolds(t *testing.T) {
	const n = 1<<16 - 1 + 1<<16 - 1 + 7
	dir := t.TempDir()
	s := openDisk(t, dir, Options{})
	create(t, s, 1)
	list := make([]shards.Entry, n)
	for i := range list {
		list[i].Data = []byte{byte(i), byte(i >> 8), byte(i >> 16)}
	}
	var res [1]shards.Result
	s.Append(t.Context(), []shards.Run{{Shard: 1, Entries: list}}, res[:])
	if res[0].Err != nil || res[0].First != 1 {
		t.Fatalf("%+v", res[0])
	}
	for range 2 {
		recs, err := s.Read(t.Context(), 1, 0, everything, nil)
		if err != nil || len(recs) != n {
			t.Fatalf("%d records of %d, %v", len(recs), n, err)
		}
		for i, r := range recs {
			if r.Pos != shards.Pos(i+1) || !bytes.Equal(r.Data, list[i].Data) {
				t.Fatalf("record %d is %x at %d", i, r.Data, r.Pos)
			}
		}
		s.Close()
		s = openDisk(t, dir, Options{})
	}
	if r := put(t, s, 1, "next"); r.First != n+1 {
		t.Fatalf("the next record is at %d", r.First)
	}
}

// A request of ten megabytes is larger than a commit group, and may be larger than a segment.
func TestAppendsLargerThanAGroupAndASegment(t *testing.T) {
	sizes := []int64{16 << 10, 12 << 20, 32 << 20}
	if testing.Short() {
		sizes = sizes[:1]
	}
	for _, size := range sizes {
		t.Run(fmt.Sprint("segments of ", size), func(t *testing.T) {
			dir := t.TempDir()
			s := openDisk(t, dir, Options{SegmentSize: size, TailBytes: 1})
			create(t, s, 1, 2)
			var wg sync.WaitGroup
			for w := range 3 {
				wg.Add(1)
				go func() {
					defer wg.Done()
					big := strings.Repeat(fmt.Sprint(w), 10<<20)
					put(t, s, 1, big)
					put(t, s, 2, "small", big[:1<<20])
				}()
			}
			wg.Wait()
			for range 2 {
				seen := map[byte]bool{}
				recs, err := s.Read(t.Context(), 1, 0, everything, nil)
				if err != nil || len(recs) != 3 {
					t.Fatalf("%d records, %v", len(recs), err)
				}
				for i, r := range recs {
					if r.Pos != shards.Pos(i+1) || len(r.Data) != 10<<20 || bytes.Count(r.Data, r.Data[:1]) != len(r.Data) {
						t.Fatalf("record %d: %d bytes at %d", i, len(r.Data), r.Pos)
					}
					seen[r.Data[0]] = true
				}
				if recs, err := s.Read(t.Context(), 2, 0, everything, nil); err != nil || len(recs) != 6 || len(seen) != 3 {
					t.Fatalf("shard 2 has %d records, %v; writers seen %v", len(recs), err, seen)
				}
				s.Close()
				s = openDisk(t, dir, Options{SegmentSize: size})
			}
		})
	}
}

func TestRunsThatAreTooLargeAreRefusedAlone(t *testing.T) {
	s := open(t, vfs.NewMem(), Options{})
	create(t, s, 1)
	var res [3]shards.Result
	s.Append(t.Context(), []shards.Run{
		{Shard: 1, Entries: []shards.Entry{{Data: make([]byte, maxFrameBody)}}},
		{Shard: 1, Entries: []shards.Entry{{Key: make([]byte, maxKey+1)}}},
		{Shard: 1, Entries: entries("ok")}}, res[:])
	if !errs.Is(res[0].Err, errs.Invalid) || !errs.Is(res[1].Err, errs.Invalid) || res[2].Err != nil {
		t.Fatalf("%v; %v; %v", res[0].Err, res[1].Err, res[2].Err)
	}
	want(t, "the shard", read(t, s, 1, 0, everything), "1=ok")
}

// A read never returns nothing for want of budget, and never more than the budget with the second
// record. Frames do not show: one of many records, or many of one, read alike.
func TestReadBudgets(t *testing.T) {
	const mib = 1 << 20
	s := openDisk(t, t.TempDir(), Options{TailBytes: 1})
	create(t, s, 1, 2, 3)
	five := strings.Repeat("x", 5*mib-1) // with its key of one byte, 5 MiB
	put(t, s, 1, five, five)
	put(t, s, 1, strings.Repeat("y", 10*mib))
	for range 200 {
		put(t, s, 2, "z")
	}
	var many []string
	for range 200 {
		many = append(many, "z")
	}
	put(t, s, 3, many...)
	for _, c := range []struct {
		id      shards.ShardID
		after   shards.Pos
		records int
		bytes   int
		want    int
	}{
		{1, 0, 100, 10 * mib, 2},
		{1, 0, 100, 10*mib - 1, 1},
		{1, 0, 100, 10*mib + 1, 2},
		{1, 0, 1, 10 * mib, 1},
		{1, 2, 100, 10 * mib, 1}, // larger than the budget
		{1, 2, 0, 0, 1},
		{1, 3, 100, 10 * mib, 0},
		{2, 0, 1000, 100, 50}, {3, 0, 1000, 100, 50},
		{2, 0, 64, mib, 64}, {3, 0, 64, mib, 64},
		{2, 0, 65, mib, 65}, {3, 0, 65, mib, 65},
		{2, 63, 1000, mib, 137}, {3, 63, 1000, mib, 137},
		{2, 199, 1000, mib, 1}, {3, 199, 1000, mib, 1},
		{2, 1 << 62, 1000, mib, 0}, {3, 1 << 62, 1000, mib, 0},
	} {
		recs, err := s.Read(t.Context(), c.id, c.after, shards.Budget{Records: c.records, Bytes: c.bytes}, nil)
		if err != nil || len(recs) != c.want {
			t.Errorf("%+v: %d records, %v", c, len(recs), err)
		}
		for i, r := range recs {
			if r.Pos != c.after+shards.Pos(i)+1 {
				t.Errorf("%+v: record %d is at %d", c, i, r.Pos)
			}
		}
	}
}

// A reader that falls behind a trim goes on at the horizon, without a gap behind it and without
// bytes of a segment's next life.
func TestReadersWhileSegmentsAreTrimmedAndRecycled(t *testing.T) {
	s := open(t, vfs.NewMem(), Options{SegmentSize: 2 << 10, TailBytes: 1})
	create(t, s, 1)
	var stop atomic.Bool
	var wg sync.WaitGroup
	var lastTrim atomic.Uint64
	for range 3 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for at := shards.Pos(0); !stop.Load(); {
				floor := shards.Pos(lastTrim.Load())
				recs, err := s.Read(context.Background(), 1, at, shards.Budget{Records: 50, Bytes: 1 << 20}, nil)
				if err != nil {
					t.Errorf("read after %d: %v", at, err)
					return
				}
				for i, r := range recs {
					if want := fmt.Sprint("r", r.Pos); !strings.HasPrefix(string(r.Data), want+"-") {
						t.Errorf("position %d holds %.10q", r.Pos, r.Data)
						return
					}
					if i > 0 && r.Pos <= recs[i-1].Pos || r.Pos <= floor {
						t.Errorf("position %d follows %d, trimmed to %d", r.Pos, at, floor)
						return
					}
					at = r.Pos
				}
				if len(recs) == 0 {
					at = 0
				}
			}
		}()
	}
	for i := 1; i <= 1500; i++ {
		put(t, s, 1, fmt.Sprint("r", i, "-", strings.Repeat("x", 100)))
		if i%10 == 0 {
			if err := s.Trim(t.Context(), 1, shards.Pos(i-20)*shards.Pos(min(i/20, 1))); err != nil {
				t.Fatal(err)
			}
			lastTrim.Store(uint64(max(i-20, 0)))
		}
	}
	stop.Store(true)
	wg.Wait()
}

// When the disk is behind, appends wait for room in the queue as long as their context allows.
func TestBackPressureHeedsTheContext(t *testing.T) {
	inSync, release := make(chan struct{}, 100), make(chan struct{})
	var stuck atomic.Bool
	s := openDisk(t, t.TempDir(), Options{FS: errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if stuck.Load() && op.Kind == errorfs.OpFileSyncData && strings.HasSuffix(op.Path, segmentSuffix) {
			inSync <- struct{}{}
			<-release
		}
		return nil
	}))})
	create(t, s, 1)
	stuck.Store(true)
	big := strings.Repeat("x", 15<<20)
	errsOf := make(chan error, 10)
	for range 4 {
		go func() { errsOf <- appendOne(s, 1, big) }()
	}
	<-inSync
	for full := false; !full; {
		s.commit.mu.Lock()
		full = s.commit.queued >= 60<<20
		s.commit.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	var res [1]shards.Result
	s.Append(ctx, []shards.Run{{Shard: 1, Entries: entries(big)}}, res[:])
	if !errs.Is(res[0].Err, errs.Throttled) {
		t.Fatalf("an append to a full queue: %v", res[0].Err)
	}
	go func() { errsOf <- appendOne(s, 1, big) }()
	stuck.Store(false)
	close(release)
	for range 5 {
		if err := <-errsOf; err != nil {
			t.Fatal(err)
		}
	}
	if b, _ := s.Bounds(t.Context(), 1); b.Last != 5 {
		t.Fatalf("%d records, want the 5 that were acknowledged", b.Last)
	}
}

// A data folder that an administrator made may stand in a folder that the host may enter but not
// open. Its name was made durable by whoever made it.
func TestAParentFolderThatMayNotBeOpened(t *testing.T) {
	mem := vfs.NewMem()
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpOpenDir && op.Path == "private" {
			return &os.PathError{Op: "open", Path: op.Path, Err: os.ErrPermission}
		}
		return nil
	}))
	if s, err := Open("private/fresh", Options{FS: fs}); !errors.Is(err, os.ErrPermission) {
		s.Close()
		t.Fatalf("a folder whose name can not be made durable was made: %v", err)
	}
	if err := mem.MkdirAll("private/made", 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := Open("private/made", Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

// The clock of a bubble starts in the year 2000: 25 years behind what was written before it.
func TestArrivalDoesNotGoBackWithTheClock(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, Options{})
	create(t, s, 1)
	before := put(t, s, 1, "today").Arrived
	s.Close()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, fs, Options{})
		defer s.Close()
		if now := time.Now().UnixMilli(); now >= before {
			t.Fatalf("the clock of the test is at %d", now)
		}
		if after := put(t, s, 1, "years ago").Arrived; after < before {
			t.Fatalf("arrival went back by %d ms", before-after)
		}
		if p, err := s.Seek(t.Context(), 1, before+1); err != nil || p != 2 {
			t.Fatalf("Seek: %d, %v", p, err)
		}
	})
}

// A store that was not closed: its metadata lie in Pebble's log, where a damaged byte looks like a
// torn tail. What vanishes with it must be missed, never given up.
func TestFlippedBytesOfMetadataAfterAnUncleanStop(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, Options{SegmentSize: 1 << 10})
	create(t, s, 1, 2)
	for range 8 {
		put(t, s, 1, strings.Repeat("x", 200))
	}
	put(t, s, 2, "y")
	if err := s.Trim(t.Context(), 1, 4); err != nil {
		t.Fatal(err)
	}
	put(t, s, 2, "z")
	whole := content(t, s)
	names, err := fs.List("data/meta")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, ".log") {
			continue
		}
		refusals := 0
		good := slurp(t, fs, "data/meta/"+name)
		for i := 0; i < len(good); i += int(stride(1)) {
			after := reopened(t, fs)
			bad := bytes.Clone(good)
			bad[i] ^= 1
			spill(t, after, "data/meta/"+name, bad)
			before := segments(t, after)
			s, err := Open("data", Options{FS: after, SegmentSize: 1 << 10})
			if err != nil {
				refusals++
				if now := segments(t, after); len(now) != len(before) {
					t.Fatalf("byte %d: refused, and segments %v are left of %v", i, now, before)
				}
				continue
			}
			if got := content(t, s); got != whole {
				t.Fatalf("byte %d: the store serves %.60q, want %.60q", i, got, whole)
			}
			s.Close()
		}
		t.Logf("%s: %d bytes, %d refused", name, len(good), refusals)
	}
}
