package journal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	goruntime "runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/crashfs"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

var everything = shards.Budget{Records: 1 << 30, Bytes: 1 << 40}

// open opens a store on a file system in memory, with segments so small that tests roll often.
func open(t testing.TB, fs vfs.FS, o Options) *Store {
	t.Helper()
	o.FS = fs
	if o.SegmentSize == 0 {
		o.SegmentSize = 16 << 10
	}
	s, err := Open("data", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// settle waits until the sealer has nothing to do.
func settle(t testing.TB, s *Store) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	q := &s.seal
	for {
		q.mu.Lock()
		for len(q.waiting)+len(q.sparse)+len(q.backlog) > 0 && q.failed == nil {
			q.room.Wait()
		}
		failed := q.failed
		q.mu.Unlock()
		if failed == nil && !s.anyDead() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the sealer does not come to an end: %v", failed)
		}
		goruntime.Gosched()
	}
}

func create(t testing.TB, s *Store, ids ...shards.ShardID) {
	t.Helper()
	if err := s.Create(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
}

func entries(data ...string) (out []shards.Entry) {
	for _, d := range data {
		out = append(out, shards.Entry{Key: []byte("k"), Data: []byte(d)})
	}
	return out
}

func put(t testing.TB, s *Store, id shards.ShardID, data ...string) shards.Result {
	t.Helper()
	var res [1]shards.Result
	s.Append(context.Background(), []shards.Run{{Shard: id, Entries: entries(data...)}}, res[:])
	if res[0].Err != nil {
		t.Fatal(res[0].Err)
	}
	return res[0]
}

func read(t testing.TB, s *Store, id shards.ShardID, after shards.Pos, max shards.Budget) (out []string) {
	t.Helper()
	recs, err := s.Read(context.Background(), id, after, max, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recs {
		out = append(out, fmt.Sprintf("%d=%s", r.Pos, r.Data))
	}
	return out
}

func want(t testing.TB, what string, got []string, list string) {
	t.Helper()
	if strings.Join(got, " ") != list {
		t.Fatalf("%s: got %v, want %s", what, got, list)
	}
}

func TestAppendAndRead(t *testing.T) {
	s := open(t, vfs.NewMem(), Options{})
	create(t, s, 7, 8)
	if r := put(t, s, 7, "a", "b"); r.First != 1 {
		t.Fatalf("the first record is at %d", r.First)
	}
	put(t, s, 8, "x")
	put(t, s, 7, "c")
	want(t, "shard 7", read(t, s, 7, 0, everything), "1=a 2=b 3=c")
	want(t, "shard 7 after 1", read(t, s, 7, 1, everything), "2=b 3=c")
	want(t, "two records", read(t, s, 7, 0, shards.Budget{Records: 2, Bytes: 1 << 20}), "1=a 2=b")
	want(t, "a budget too small for one", read(t, s, 7, 0, shards.Budget{Records: 9, Bytes: 1}), "1=a")
	want(t, "at the tip", read(t, s, 7, 3, everything), "")
	want(t, "shard 8", read(t, s, 8, 0, everything), "1=x")
	if _, err := s.Read(t.Context(), 9, 0, everything, nil); !errs.Is(err, errs.NotFound) {
		t.Fatalf("reading an unknown shard: %v", err)
	}
}

func TestRunsOfOneAppendFailApart(t *testing.T) {
	s := open(t, vfs.NewMem(), Options{})
	create(t, s, 1)
	var res [2]shards.Result
	s.Append(t.Context(), []shards.Run{{Shard: 1, Entries: entries("a")}, {Shard: 99, Entries: entries("b")}}, res[:])
	if res[0].Err != nil || !errs.Is(res[1].Err, errs.NotFound) {
		t.Fatalf("results: %v, %v", res[0].Err, res[1].Err)
	}
	want(t, "shard 1", read(t, s, 1, 0, everything), "1=a")
}

func TestReopenFindsEverythingAndGoesOn(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, Options{})
	create(t, s, 1, 2)
	var all []string
	for i := range 300 { // about 30 KB: several segments
		d := fmt.Sprintf("record-%03d-%s", i, strings.Repeat("x", 80))
		put(t, s, 1, d)
		put(t, s, 2, "y")
		all = append(all, fmt.Sprintf("%d=%s", i+1, d))
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, fs, Options{TailBytes: 1})
	if got := read(t, s, 1, 0, everything); !slices.Equal(got, all) {
		t.Fatalf("after reopening: %d records, want %d", len(got), len(all))
	}
	if r := put(t, s, 1, "next"); r.First != 301 {
		t.Fatalf("the next record is at %d, want 301", r.First)
	}
	want(t, "from the file", read(t, s, 1, 300, everything), "301=next")
}

func TestOnlyOneProcessOpensAStore(t *testing.T) {
	fs := vfs.NewMem()
	open(t, fs, Options{})
	_, err := Open("data", Options{FS: fs})
	if !errs.Is(err, errs.InUse) {
		t.Fatalf("a second open: %v", err)
	}
}

func TestSeekFindsTheFirstRecordOfATime(t *testing.T) {
	s := open(t, vfs.NewMem(), Options{})
	create(t, s, 1)
	a := put(t, s, 1, "a", "b")
	for time.Now().UnixMilli() <= a.Arrived {
	}
	b := put(t, s, 1, "c")
	for ms, wantPos := range map[int64]shards.Pos{0: 0, a.Arrived: 0, a.Arrived + 1: 2, b.Arrived: 2, b.Arrived + 1: 3} {
		if p, err := s.Seek(t.Context(), 1, ms); p != wantPos || err != nil {
			t.Errorf("Seek(%d) = %d, %v; want %d", ms-a.Arrived, p, err, wantPos)
		}
	}
}

func TestTrimFreesSegmentsAndKeepsPositions(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, Options{omit: omitSealing})
	create(t, s, 1)
	for range 100 {
		put(t, s, 1, strings.Repeat("x", 1000))
	}
	before := countSegments(t, fs)
	if err := s.Trim(t.Context(), 1, 100); err != nil {
		t.Fatal(err)
	}
	if after := countSegments(t, fs); before < 6 || after != 1 {
		t.Fatalf("segments before the trim %d, after it %d; want many, then the current one", before, after)
	}
	want(t, "after the trim", read(t, s, 1, 0, everything), "")
	s.Close()
	s = open(t, fs, Options{})
	if b, _ := s.Bounds(t.Context(), 1); b != (shards.Bounds{Horizon: 100, Last: 100}) {
		t.Fatalf("bounds after reopening: %+v", b)
	}
	if r := put(t, s, 1, "new"); r.First != 101 {
		t.Fatalf("position %d was given out again", r.First)
	}
	want(t, "a position before the horizon continues at it", read(t, s, 1, 5, everything), "101=new")
}

func countSegments(t testing.TB, fs vfs.FS) (n int) {
	names, err := fs.List("data/log")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, segmentSuffix) {
			n++
		}
	}
	return n
}

func TestDeletedShardsAreGoneAndTheirSpaceIsFree(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, Options{omit: omitSealing})
	create(t, s, 1, 2)
	for range 50 {
		put(t, s, 1, strings.Repeat("x", 1000))
	}
	if err := s.Delete(t.Context(), []shards.ShardID{1}); err != nil {
		t.Fatal(err)
	}
	if n := countSegments(t, fs); n != 1 {
		t.Fatalf("%d segments are left", n)
	}
	s.Close()
	s = open(t, fs, Options{})
	if _, err := s.Read(t.Context(), 1, 0, everything, nil); !errs.Is(err, errs.NotFound) {
		t.Fatalf("a deleted shard came back: %v", err)
	}
}

func TestNotifyAfterEveryPublish(t *testing.T) {
	s := open(t, vfs.NewMem(), Options{})
	create(t, s, 1, 2)
	ch := make(chan struct{}, 1)
	stop := s.Notify([]shards.ShardID{2}, ch)
	put(t, s, 1, "not ours")
	select {
	case <-ch:
		t.Fatal("notified of another shard")
	default:
	}
	put(t, s, 2, "ours")
	<-ch
	stop()
	put(t, s, 2, "after stop")
	if len(ch) != 0 {
		t.Fatal("notified after stop")
	}
}

// A failed sync fences the store: its own append is of unknown outcome, later ones are refused,
// reading goes on.
func TestAFailedSyncFencesTheStore(t *testing.T) {
	broken := &crashfs.FS{FS: vfs.NewMem(), Folder: "data/log"}
	s := open(t, broken, Options{})
	create(t, s, 1)
	put(t, s, 1, "kept")
	broken.FailSync.Store(true)
	var res [1]shards.Result
	run := []shards.Run{{Shard: 1, Entries: entries("lost")}}
	s.Append(t.Context(), run, res[:])
	if !errs.Is(res[0].Err, errs.Unknown) {
		t.Fatalf("the append whose sync failed: %v", res[0].Err)
	}
	broken.FailSync.Store(false)
	s.Append(t.Context(), run, res[:])
	if !errs.Is(res[0].Err, errs.Unavailable) || s.Fault() == nil {
		t.Fatalf("the append after it: %v; fault %v", res[0].Err, s.Fault())
	}
	want(t, "reading a fenced store", read(t, s, 1, 0, everything), "1=kept")
}

func TestConcurrentAppendsAreDenseAndOrdered(t *testing.T) {
	s := open(t, vfs.NewMem(), Options{SegmentSize: 64 << 10})
	create(t, s, 1, 2, 3)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 100 {
				res := make([]shards.Result, 3)
				var runs []shards.Run
				for id := range 3 {
					runs = append(runs, shards.Run{Shard: shards.ShardID(id + 1), Entries: entries(fmt.Sprintf("%d.%d", w, i))})
				}
				s.Append(context.Background(), runs, res)
			}
		}()
	}
	wg.Wait()
	for id := range shards.ShardID(3) {
		recs, err := s.Read(t.Context(), id+1, 0, everything, nil)
		if err != nil || len(recs) != 800 {
			t.Fatalf("shard %d: %d records, %v", id+1, len(recs), err)
		}
		next := map[byte]int{}
		for i, r := range recs {
			var w, n int
			fmt.Sscanf(string(r.Data), "%d.%d", &w, &n)
			if r.Pos != shards.Pos(i+1) || n != next[byte(w)] {
				t.Fatalf("shard %d: record %d at %d is writer %d's %d, want its %d", id+1, i, r.Pos, w, n, next[byte(w)])
			}
			next[byte(w)]++
		}
	}
}

// Every byte of a closed store is flipped in turn. Open must refuse, or every record must read
// right: a closed store has a mark at its end, so not even the last group may vanish.
func TestFlippedBytesAreNeverServed(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, Options{})
	create(t, s, 1)
	put(t, s, 1, "alpha", "beta")
	put(t, s, 1, "gamma")
	s.Close()
	name := "data/log/" + segmentName(1, segmentSuffix)
	good := slurp(t, fs, name)
	refused := 0
	for i := segmentHeader; i < len(good); i++ {
		bad := bytes.Clone(good)
		bad[i] ^= 0x40
		spill(t, fs, name, bad)
		s, err := Open("data", Options{FS: fs, SegmentSize: 16 << 10, omit: omitSealing})
		if err != nil {
			if !strings.Contains(err.Error(), "is damaged at offset") {
				t.Fatalf("byte %d: %v", i, err)
			}
			refused++
			continue
		}
		got := strings.Join(read(t, s, 1, 0, everything), " ")
		s.Close()
		if got != "1=alpha 2=beta 3=gamma" && i < len(good)-frameHeader {
			t.Fatalf("byte %d flipped: the store serves %s", i, got)
		}
	}
	if marks := len(good) - segmentHeader - frameHeader; refused != marks {
		t.Fatalf("%d flips were refused, want the %d in front of the mark", refused, marks)
	}
}

func slurp(t testing.TB, fs vfs.FS, name string) []byte {
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func spill(t testing.TB, fs vfs.FS, name string, b []byte) {
	f, err := fs.Create(name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestFolderOfANewerFormatIsRefused(t *testing.T) {
	fs := vfs.NewMem()
	open(t, fs, Options{}).Close()
	spill(t, fs, "data/FORMAT", []byte(`{"format":3,"storeId":"00000000-0000-4000-8000-000000000000"}`))
	_, err := Open("data", Options{FS: fs})
	if err == nil || err.Error() != "data has data format 3 and this shardmill knows formats up to 2: use a newer shardmill" {
		t.Fatal(err)
	}
}

func FuzzScanSegment(f *testing.F) {
	fs := vfs.NewMem()
	s := open(f, fs, Options{})
	create(f, s, 1)
	put(f, s, 1, "alpha", "beta")
	put(f, s, 1, "gamma")
	s.Close()
	f.Add(slurp(f, fs, "data/log/"+segmentName(1, segmentSuffix)))
	f.Add([]byte("SMF1"))
	id := s.storeID
	f.Fuzz(func(t *testing.T, b []byte) {
		out := scanSegment(b, id, 1)
		for _, fr := range out.frames {
			_, body, ok := decodeFrame(b[fr.off:], seed(id, 1))
			if !ok {
				t.Fatal("a frame was listed that does not decode")
			}
			for len(body) > 0 {
				if _, body, ok = decodeRecord(body); !ok {
					break
				}
			}
		}
	})
}
