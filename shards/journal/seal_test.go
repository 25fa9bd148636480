package journal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

func chunkNames(t testing.TB, fs vfs.FS) (names []string) {
	t.Helper()
	all, err := fs.List("data/chunks")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if strings.HasSuffix(n, chunkSuffix) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// fill appends n records of size bytes to shards 1 and 2 in turn, and returns what each should hold.
func fill(t testing.TB, s *Store, n, size int) map[shards.ShardID][]string {
	t.Helper()
	all := make(map[shards.ShardID][]string)
	for i := range n {
		id := shards.ShardID(1 + i%2)
		text := fmt.Sprintf("%d.%d-%s", id, i, strings.Repeat("x", size))
		r := put(t, s, id, text)
		all[id] = append(all[id], fmt.Sprintf("%d=%s", r.First, text))
	}
	return all
}

// A closed segment becomes a chunk and is recycled; nobody who reads can tell.
func TestSealedSegmentsReadAlike(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, Options{TailBytes: 1})
	create(t, s, 1, 2)
	all := fill(t, s, 200, 400)
	settle(t, s)
	if segs, chunks := segments(t, fs), chunkNames(t, fs); len(segs) != 1 || len(chunks) < 4 {
		t.Fatalf("segments %v and chunks %v, want one segment and several chunks", segs, chunks)
	}
	for range 2 {
		for id, want := range all {
			if got := read(t, s, id, 0, everything); !slices.Equal(got, want) {
				t.Fatalf("shard %d: %d records, want %d", id, len(got), len(want))
			}
			for after := range shards.Pos(100) {
				if got := read(t, s, id, after, shards.Budget{Records: 3, Bytes: 1 << 20}); !slices.Equal(got, want[after:min(int(after)+3, len(want))]) {
					t.Fatalf("shard %d after %d: %v", id, after, got)
				}
			}
		}
		s.Close()
		s = open(t, fs, Options{TailBytes: 1})
	}
}

// A time is found within a row of many frames.
func TestSeekWithinAChunk(t *testing.T) {
	s := open(t, vfs.NewMem(), Options{TailBytes: 1})
	create(t, s, 1, 2)
	var at []int64
	for range 8 {
		r := put(t, s, 1, "a", "b")
		at = append(at, r.Arrived)
		for time.Now().UnixMilli() <= r.Arrived {
		}
	}
	fill(t, s, 40, 1000)
	settle(t, s)
	if refs := s.index.shards[1].refs; refs[0].gen == 0 || refs[0].count < 16 {
		t.Fatalf("the first ref is %+v: the test does not reach what it is for", refs[0])
	}
	for i, ms := range at {
		for ms, want := range map[int64]shards.Pos{ms: shards.Pos(2 * i), ms + 1: shards.Pos(2*i + 2)} {
			if p, err := s.Seek(t.Context(), 1, ms); p != want || err != nil {
				t.Fatalf("Seek to arrival %d: %d, want %d; %v", i, p, want, err)
			}
		}
	}
}

// Sealed records cost a row of 32 bytes for each run of up to 256 KiB, not one for each frame.
func TestRowsOfAChunkAreLong(t *testing.T) {
	s := openDisk(t, t.TempDir(), Options{SegmentSize: 4 << 20, TailBytes: 1})
	create(t, s, 1, 2)
	for range 400 {
		for id := range shards.ShardID(2) {
			put(t, s, 1+id, strings.Repeat("x", 6000), strings.Repeat("y", 6000))
		}
	}
	settle(t, s)
	if n := unsafe.Sizeof(ref{}); n != 32 {
		t.Fatalf("a ref has %d bytes", n)
	}
	rows, bytes := 0, 0
	for _, r := range s.index.shards[1].refs {
		if r.gen > 0 {
			rows++
			bytes += int(r.size)
		}
	}
	if rows == 0 || bytes/rows < 200<<10 {
		t.Fatalf("%d rows for %d bytes", rows, bytes)
	}
}

// A chunk without live records is deleted by the trim itself; one that is mostly trimmed is
// rewritten, so that a shard that is kept for long does not hold what others have given up.
func TestTrimFreesTheSpaceOfChunks(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, Options{TailBytes: 1})
	create(t, s, 1, 2, 3)
	for i := range 100 {
		put(t, s, 1, strings.Repeat("a", 1000))
		if i%10 == 0 {
			put(t, s, 2, fmt.Sprint("kept-", i))
		}
	}
	fill(t, s, 40, 1000)
	settle(t, s)
	before := size(t, fs, "data/chunks")
	if err := s.Trim(t.Context(), 1, 100); err != nil {
		t.Fatal(err)
	}
	settle(t, s)
	after := size(t, fs, "data/chunks")
	if after > before-90_000 {
		t.Fatalf("chunks of %d bytes before the trim, of %d after it", before, after)
	}
	got := read(t, s, 2, 0, shards.Budget{Records: 10, Bytes: 1 << 20})
	want(t, "the other shard", got, "1=kept-0 2=kept-10 3=kept-20 4=kept-30 5=kept-40 6=kept-50 7=kept-60 8=kept-70 9=kept-80 10=kept-90")
	if err := s.Delete(t.Context(), []shards.ShardID{1}); err != nil {
		t.Fatal(err)
	}
	if err := s.Trim(t.Context(), 2, 1000); err != nil {
		t.Fatal(err)
	}
	if names := chunkNames(t, fs); len(names) != 0 {
		t.Fatalf("chunks %v are left although nothing is", names)
	}
	s.Close()
	s = open(t, fs, Options{})
	if b, err := s.Bounds(t.Context(), 2); err != nil || b != (shards.Bounds{Horizon: 30, Last: 30}) {
		t.Fatalf("bounds after reopening: %+v, %v", b, err)
	}
}

func size(t testing.TB, fs vfs.FS, dir string) (n int64) {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		info, err := fs.Stat(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size()
	}
	return n
}

// A segment is not recycled under a reader. Without that wait it is: the control.
func TestASealedSegmentWaitsForItsReaders(t *testing.T) {
	for _, omit := range []omission{0, omitReaders} {
		fs := vfs.NewMem()
		sealed := make(chan struct{}, 100)
		s := open(t, fs, Options{TailBytes: 1, omit: omit, Events: Events{Sealed: func(bool, int64, int64) { sealed <- struct{}{} }}})
		create(t, s, 1, 2)
		put(t, s, 1, "x")
		v := s.pin(volumeID{number: 1}) // a reader is inside
		fill(t, s, 20, 1000)
		<-sealed
		if omit != 0 {
			settle(t, s)
		}
		_, err := fs.Stat("data/log/0000000000000001.wal")
		if there := err == nil; there != (omit == 0) {
			t.Fatalf("omitting %b, a segment with a reader inside is there: %v", omit, there)
		}
		s.unpin(v)
		settle(t, s)
		if _, err := fs.Stat("data/log/0000000000000001.wal"); err == nil {
			t.Fatal("the segment is there although its reader has left")
		}
	}
}

// stuck is a file system whose chunks cannot be made until release.
type stuck struct {
	err     atomic.Pointer[error]
	entered chan struct{}
	release chan struct{}
}

func (f *stuck) over(fs vfs.FS) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, tmpSuffix) && strings.Contains(op.Path, chunkSuffix) {
			if err := f.err.Load(); err != nil {
				return *err
			}
			if f.entered != nil {
				f.entered <- struct{}{}
				<-f.release
			}
		}
		return nil
	}))
}

// Three closed segments wait for the sealer, then appends wait; they go on when it does.
func TestAppendsWaitForTheSealer(t *testing.T) {
	fs := vfs.NewMem()
	f := &stuck{entered: make(chan struct{}, 100), release: make(chan struct{})}
	s := open(t, f.over(fs), Options{})
	create(t, s, 1)
	big := strings.Repeat("x", 12<<10) // one to a segment
	for range 4 {
		put(t, s, 1, big)
	}
	done := make(chan error, 1)
	go func() { done <- appendOne(s, 1, big) }()
	<-f.entered
	for waits := false; !waits; {
		s.seal.mu.Lock()
		waits = len(s.seal.waiting) == maxWaiting
		s.seal.mu.Unlock()
	}
	select {
	case err := <-done:
		t.Fatalf("a fifth segment was begun with %d of them waiting: %v", maxWaiting, err)
	case <-time.After(20 * time.Millisecond):
	}
	if n := len(segments(t, fs)); n != 4 {
		t.Fatalf("%d segments, want the current one and three that wait", n)
	}
	// Whatever holds the floors must not wait for the writer: the sealer would wait for it.
	sealing := make(chan error, 1)
	go func() {
		_, err := s.Seal(context.Background(), []shards.ShardID{1})
		sealing <- err
	}()
	close(f.release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := <-sealing; err != nil {
		t.Fatal(err)
	}
}

// A sealer that fails does not hang appends: they are refused by name until it works again, which
// it does by itself. Reading, trimming and metadata go on.
func TestASealerThatFails(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
		fs := vfs.NewMem()
		f := &stuck{}
		f.err.Store(&cause)
		var told atomic.Int32
		first := make(chan struct{}, 1)
		s := open(t, f.over(fs), Options{sealRetry: time.Millisecond, Events: Events{SealFailed: func(error) {
			if told.Add(1) == 1 {
				first <- struct{}{}
			}
		}}})
		create(t, s, 1, 2)
		big := strings.Repeat("x", 12<<10)
		acked := 0
		var err error
		for err == nil {
			if err = appendOne(s, 1, big); err == nil {
				acked++
			}
		}
		if !errs.Is(err, errs.Unavailable) || !errors.Is(err, cause) || !strings.Contains(err.Error(), "segments to be sealed, which fails") {
			t.Fatalf("the append: %v", err)
		}
		<-first // told after appends are refused
		if !errors.Is(s.Fault(), cause) || told.Load() != 1 {
			t.Fatalf("fault %v, told %d times", s.Fault(), told.Load())
		}
		if got := read(t, s, 1, 0, everything); len(got) != acked || acked < maxWaiting {
			t.Fatalf("%d records of %d can be read", len(got), acked)
		}
		if err := s.Trim(t.Context(), 1, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Seal(t.Context(), []shards.ShardID{2}); err != nil {
			t.Fatal(err)
		}
		f.err.Store(nil)
		for s.Fault() != nil {
			time.Sleep(time.Millisecond)
		}
		put(t, s, 1, "again")
		settle(t, s)
		if got := read(t, s, 1, 0, everything); len(got) != acked {
			t.Fatalf("%d records of %d", len(got), acked)
		}
	}
}

// Below its own reserve the sealer writes nothing: the rest is for metadata.
func TestSealingLeavesRoomForMetadata(t *testing.T) {
	fs := vfs.NewMem()
	free := func(n uint64) {
		fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: n, TotalBytes: 1 << 40, UsedBytes: 1})
	}
	free(1 << 30)
	failed := make(chan error, 10)
	s := open(t, fs, Options{Reserve: 64 << 20, sealRetry: time.Millisecond, Events: Events{SealFailed: func(err error) { failed <- err }}})
	create(t, s, 1, 2)
	put(t, s, 1, strings.Repeat("x", 12<<10))
	free(16 << 20)
	put(t, s, 1, strings.Repeat("x", 12<<10))
	if err := <-failed; !strings.Contains(err.Error(), "is full: 16 MiB are free, sealing needs 0 MiB and 16 MiB are kept for metadata") {
		t.Fatal(err)
	}
	if names := chunkNames(t, fs); len(names) != 0 {
		t.Fatalf("chunks %v", names)
	}
	free(17 << 20)
	settled := make(chan struct{})
	go func() { settle(t, s); close(settled) }()
	<-settled
	if names := chunkNames(t, fs); len(names) != 1 {
		t.Fatalf("chunks %v", names)
	}
}

// A write that meets a full disk pauses the store: what was in flight is of unknown outcome, later
// appends are refused, and when there is space they go on at the position that was not stored.
func TestAFullDiskInTheMiddleOfAWrite(t *testing.T) {
	fs := vfs.NewMem()
	var full atomic.Bool
	var paused, resumed atomic.Int32
	s := open(t, errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && (op.Kind == errorfs.OpFileWriteAt || op.Kind == errorfs.OpCreate) && notMeta(op) {
			return syscall.ENOSPC
		}
		return nil
	})), Options{sealRetry: time.Millisecond, Events: Events{Paused: func(error) { paused.Add(1) }, Resumed: func() { resumed.Add(1) }}})
	create(t, s, 1, 2)
	put(t, s, 1, "a")
	full.Store(true)
	if err := appendOne(s, 1, "b"); !errs.Is(err, errs.Unknown) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the append: %v", err)
	}
	if err := appendOne(s, 1, "c"); !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "records are taken again when there is space") {
		t.Fatalf("the append after it: %v", err)
	}
	if _, err := s.Seal(t.Context(), []shards.ShardID{2}); !errors.Is(err, syscall.ENOSPC) || !errors.Is(s.Fault(), syscall.ENOSPC) {
		t.Fatalf("sealing shards meanwhile: %v; fault %v", err, s.Fault())
	}
	want(t, "reading", read(t, s, 1, 0, everything), "1=a")
	if err := s.Trim(t.Context(), 1, 0); err != nil {
		t.Fatal(err)
	}
	full.Store(false)
	for s.Fault() != nil {
		time.Sleep(time.Millisecond)
	}
	if r := put(t, s, 1, "d"); r.First != 2 {
		t.Fatalf("the next record is at %d", r.First)
	}
	if paused.Load() != 1 || resumed.Load() != 1 {
		t.Fatalf("paused %d times, resumed %d times", paused.Load(), resumed.Load())
	}
	s.Close()
	s = open(t, fs, Options{})
	want(t, "after a restart", read(t, s, 1, 0, everything), "1=a 2=d")
}

// Seal answers only when what was under way is done: an append acknowledged after it would be a
// record behind the end. Without that wait it would be so: the control.
func TestSealWaitsForWhatIsUnderWay(t *testing.T) {
	for _, omit := range []omission{0, omitSealWait} {
		inSync, release := make(chan struct{}), make(chan struct{})
		var block atomic.Bool
		s := open(t, errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
			if op.Kind == errorfs.OpFileSyncData && strings.HasSuffix(op.Path, segmentSuffix) && block.CompareAndSwap(true, false) {
				inSync <- struct{}{}
				<-release
			}
			return nil
		})), Options{omit: omit})
		create(t, s, 1)
		put(t, s, 1, "a")
		block.Store(true)
		appended, sealed := make(chan error, 1), make(chan shards.Bounds, 1)
		go func() { appended <- appendOne(s, 1, "b") }()
		<-inSync
		go func() {
			s.Seal(context.Background(), []shards.ShardID{1})
			b, _ := s.Bounds(context.Background(), 1)
			sealed <- b
		}()
		var early shards.Bounds
		if omit != 0 {
			early = <-sealed
		}
		close(release)
		if err := <-appended; err != nil {
			t.Fatal(err)
		}
		if omit == 0 {
			early = <-sealed
		}
		if right := early.Last == 2; right != (omit == 0) {
			t.Fatalf("omitting %b, the sealed shard ended at %d, and then the record at 2 was acknowledged", omit, early.Last)
		}
	}
}

// Ten thousand idle shards: opening is quick, and each costs little memory.
func TestManyIdleShards(t *testing.T) {
	dir := t.TempDir()
	s := openDisk(t, dir, Options{})
	ids := make([]shards.ShardID, 10_000)
	for i := range ids {
		ids[i] = shards.ShardID(i + 1)
	}
	create(t, s, ids...)
	for i := 0; i < len(ids); i += 100 {
		put(t, s, ids[i], "x")
	}
	s.Close()
	start := time.Now()
	s = openDisk(t, dir, Options{})
	if took := time.Since(start); took > 2*time.Second {
		t.Fatalf("Open took %v", took)
	} else {
		t.Logf("Open of 10,000 shards took %v", took)
	}
	if n := unsafe.Sizeof(shardIndex{}); n > 250 {
		t.Fatalf("an idle shard's index has %d bytes", n)
	}
	if b, err := s.Bounds(t.Context(), 9901); err != nil || b.Last != 1 {
		t.Fatalf("%+v, %v", b, err)
	}
}

// Open reads what is sealed from the indexes of the chunks: it does not read their frames, and no
// more segments than could wait for the sealer.
func TestOpenReadsNoSealedFrames(t *testing.T) {
	mem := vfs.NewMem()
	s := open(t, mem, Options{})
	create(t, s, 1, 2)
	fill(t, s, 400, 1000)
	settle(t, s)
	s.Close()
	var mu sync.Mutex
	opened := map[string]int{}
	s = open(t, errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileReadAt && notMeta(op) {
			mu.Lock()
			opened[op.Path]++
			mu.Unlock()
		}
		return nil
	})), Options{omit: omitSealing, Events: Events{Recovered: func(segments, chunks int, records int64, _ time.Duration) {
		if segments != 1 || chunks < 20 || records != 400 {
			t.Errorf("recovered %d records from %d segments and %d chunks", records, segments, chunks)
		}
	}}})
	segs, chunks := 0, 0
	for path, n := range opened {
		if strings.HasSuffix(path, segmentSuffix) {
			segs++
		} else if chunks++; n > 2 {
			t.Errorf("%s was read %d times", path, n)
		}
	}
	if segs != 1 || chunks < 20 {
		t.Fatalf("%d segments and %d chunks were read", segs, chunks)
	}
	if got := read(t, s, 1, 0, everything); len(got) != 200 {
		t.Fatalf("%d records", len(got))
	}
}
