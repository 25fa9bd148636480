package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// failing counts the operations on paths that match and lets the one of the given index fail, and
// if lasting is set every later one too.
type failing struct {
	match   func(op errorfs.Op) bool
	at      int64
	lasting bool
	off     atomic.Bool
	seen    atomic.Int64
}

func (f *failing) over(fs vfs.FS) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if f.off.Load() || !f.match(op) {
			return nil
		}
		if n := f.seen.Add(1) - 1; n == f.at || f.lasting && n > f.at {
			return fmt.Errorf("injected: %w", syscall.EIO)
		}
		return nil
	}))
}

func (f *failing) reached() bool { return f.seen.Load() > f.at }

func notMeta(op errorfs.Op) bool { return !strings.Contains(op.Path, "data/meta") }

// answerable is every operation but the writes of metadata: when those fail, Pebble ends the
// process, maybe in the background.
func answerable(op errorfs.Op) bool {
	return notMeta(op) || op.Kind.ReadOrWrite() == errorfs.OpIsRead || op.Kind == errorfs.OpMkdirAll || op.Kind == errorfs.OpLock
}

// stride thins out the operations that fail.
func stride(every int64) int64 {
	if testing.Short() {
		return 5 * every
	}
	return every
}

// inTime fails the test if do hangs.
func inTime(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s hangs", what)
	}
}

// Every operation of Open fails in turn. Open must then fail, or do without; either way nothing is
// lost, and nothing it took stays taken: not the lock, not a file.
func TestOpenThatFailsGivesEverythingBack(t *testing.T) {
	whole := content(t, open(t, closedStore(t), Options{SegmentSize: 1 << 10}))
	failed := 0
	for at := int64(0); ; at += stride(1) {
		mem := closedStore(t)
		f := &failing{match: answerable, at: at}
		opened := false
		inTime(t, fmt.Sprint("Open with operation ", at, " failing"), func() {
			s, err := Open("data", Options{FS: f.over(mem), SegmentSize: 1 << 10})
			if opened = err == nil; opened {
				f.off.Store(true)
				if err := s.Close(); err != nil {
					t.Errorf("operation %d: close: %v", at, err)
				}
			}
		})
		if !opened {
			failed++
		}
		s, err := Open("data", Options{FS: mem, SegmentSize: 1 << 10})
		if err != nil {
			t.Fatalf("operation %d failed, and the next Open: %v", at, err)
		}
		if got := content(t, s); got != whole {
			t.Fatalf("operation %d failed, and the next Open serves %.60q", at, got)
		}
		s.Close()
		if !f.reached() {
			break
		}
	}
	if failed < 20/int(stride(1)) {
		t.Fatalf("only %d opens failed: the suite does not reach what it is for", failed)
	}
	t.Logf("%d opens failed", failed)
}

// A new store, too: what a failed first Open leaves is no obstacle to the second.
func TestFirstOpenThatFails(t *testing.T) {
	for at := int64(0); ; at += stride(1) {
		mem := vfs.NewMem()
		f := &failing{match: answerable, at: at}
		inTime(t, "Open", func() {
			if s, err := Open("data", Options{FS: f.over(mem)}); err == nil {
				f.off.Store(true)
				s.Close()
			}
		})
		s, err := Open("data", Options{FS: mem})
		if err != nil {
			t.Fatalf("operation %d failed, and the next Open: %v", at, err)
		}
		create(t, s, 1)
		put(t, s, 1, "x")
		s.Close()
		if !f.reached() {
			return
		}
	}
}

// workload appends, reads, trims and deletes, and returns what was acknowledged by position and
// up to where shard 1 was trimmed. Shard 2 is deleted in the middle.
func workload(s *Store) (acked map[shards.Pos]string, trimmed shards.Pos) {
	acked = make(map[shards.Pos]string)
	ctx := context.Background()
	for i := range 30 {
		text := fmt.Sprintf("%02d-%s", i, strings.Repeat("w", 150))
		var res [2]shards.Result
		s.Append(ctx, []shards.Run{{Shard: 1, Entries: entries(text)}, {Shard: 2, Entries: entries(text)}}, res[:])
		if res[0].Err == nil {
			acked[res[0].First] = text
		}
		s.Read(ctx, 1, 0, everything, nil)
		if i%8 == 7 {
			trimmed = shards.Pos(i / 2)
			s.Trim(ctx, 1, trimmed)
		}
		if i == 20 {
			s.Delete(ctx, []shards.ShardID{2})
		}
	}
	return acked, trimmed
}

// Every operation on the journal's own files fails in turn, once or from then on. What was
// acknowledged is there after a restart, nothing hangs, and no file is closed twice (the file
// system in memory panics on that).
func TestNothingAcknowledgedIsLostInErrors(t *testing.T) {
	t.Parallel()
	for _, lasting := range []bool{false, true} {
		fenced := 0
		for at := int64(0); ; at += stride(5) {
			mem := vfs.NewMem()
			f := &failing{match: notMeta, at: at, lasting: lasting}
			create(t, open(t, mem, Options{}), 1, 2)
			mem = reopened(t, mem)
			var acked map[shards.Pos]string
			var trimmed shards.Pos
			inTime(t, fmt.Sprint("the store with operation ", at, " failing"), func() {
				s, err := Open("data", Options{FS: f.over(mem), SegmentSize: 2 << 10, TailBytes: 1 << 10})
				if err != nil {
					return
				}
				acked, trimmed = workload(s)
				if s.Fault() != nil {
					fenced++
				}
				s.Close()
			})
			s, err := Open("data", Options{FS: mem, SegmentSize: 2 << 10})
			if err != nil {
				t.Fatalf("operation %d failed, and the next Open: %v", at, err)
			}
			recs, err := s.Read(t.Context(), 1, 0, everything, nil)
			if err != nil {
				t.Fatal(err)
			}
			found := make(map[shards.Pos]string)
			for _, r := range recs {
				found[r.Pos] = string(r.Data)
			}
			for p, text := range acked {
				if p > trimmed && found[p] != text {
					t.Fatalf("operation %d failed: record %d is %.10q, acknowledged was %.10q", at, p, found[p], text)
				}
			}
			s.Close()
			if !f.reached() {
				break
			}
		}
		if fenced == 0 {
			t.Fatal("no store was fenced: the suite does not reach what it is for")
		}
		t.Logf("lasting %v: %d stores were fenced", lasting, fenced)
	}
}

// reopened closes the file system's store by copying what is there, so that its lock is free.
func reopened(t *testing.T, fs *vfs.MemFS) *vfs.MemFS {
	t.Helper()
	out := vfs.NewMem()
	copyTree(t, fs, out, "data")
	return out
}

func appendOne(s *Store, id shards.ShardID, data string) error {
	var res [1]shards.Result
	s.Append(context.Background(), []shards.Run{{Shard: id, Entries: entries(data)}}, res[:])
	return res[0].Err
}

// On a full disk appends are refused before anything is written; reading and trimming go on; when
// there is space again, so do appends.
func TestFullDisk(t *testing.T) {
	fs := vfs.NewMem()
	free := func(n uint64) {
		fs.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: n, TotalBytes: 1 << 40, UsedBytes: 1})
	}
	free(1 << 30)
	s := open(t, fs, Options{Reserve: 64 << 20, SegmentSize: 4 << 20})
	create(t, s, 1)
	put(t, s, 1, "a", "b")
	free(64<<20 - 1)
	s.diskOK.Store(0) // as if 16 MiB had been written since the disk was asked
	err := appendOne(s, 1, "c")
	if !errs.Is(err, errs.Unavailable) || !strings.Contains(err.Error(), "is full: 63 MiB are free and 64 MiB are kept in reserve") {
		t.Fatalf("an append to a full disk: %v", err)
	}
	if s.Fault() != nil {
		t.Fatalf("a full disk fenced the store: %v", s.Fault())
	}
	want(t, "reading on a full disk", read(t, s, 1, 0, shards.Budget{Records: 2}), "1=a")
	if err := s.Trim(t.Context(), 1, 2); err != nil {
		t.Fatal(err)
	}
	if err := appendOne(s, 1, "still full"); !errs.Is(err, errs.Unavailable) {
		t.Fatalf("the next append: %v", err)
	}
	free(1 << 30)
	if err := appendOne(s, 1, "again"); err != nil {
		t.Fatalf("an append when there is space again: %v", err)
	}
}

// A write that fails for any other reason than a full disk fences the store for good, also when
// writing works again. TestAFullDiskInTheMiddleOfAWrite has the other side.
func TestAFailedWriteFencesForGood(t *testing.T) {
	fs := vfs.NewMem()
	var broken atomic.Bool
	var paused, fenced atomic.Int32
	s := open(t, errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind == errorfs.OpFileWriteAt {
			return syscall.EIO
		}
		return nil
	})), Options{Events: Events{Paused: func(error) { paused.Add(1) }, Fenced: func(error) { fenced.Add(1) }}})
	create(t, s, 1)
	put(t, s, 1, "a")
	broken.Store(true)
	if err := appendOne(s, 1, "b"); !errs.Is(err, errs.Unknown) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("the append: %v", err)
	}
	broken.Store(false)
	if err := appendOne(s, 1, "c"); !errs.Is(err, errs.Unavailable) || !errors.Is(s.Fault(), syscall.EIO) {
		t.Fatalf("the append after it: %v; fault %v", err, s.Fault())
	}
	if paused.Load() != 0 || fenced.Load() != 1 {
		t.Fatalf("paused %d times, fenced %d times", paused.Load(), fenced.Load())
	}
	want(t, "reading", read(t, s, 1, 0, everything), "1=a")
}

// What waited behind the write that failed was not stored, and is told so.
func TestAppendsBehindAFailedWriteAreRefused(t *testing.T) {
	inSync, release := make(chan struct{}), make(chan struct{})
	var broken atomic.Bool
	s := open(t, errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && op.Kind == errorfs.OpFileSyncData && strings.HasSuffix(op.Path, segmentSuffix) {
			inSync <- struct{}{}
			<-release
			return syscall.EIO
		}
		return nil
	})), Options{})
	create(t, s, 1)
	put(t, s, 1, "a")
	broken.Store(true)
	first, second := make(chan error, 1), make(chan error, 1)
	go func() { first <- appendOne(s, 1, "in flight") }()
	<-inSync
	go func() { second <- appendOne(s, 1, "queued") }()
	for queued := false; !queued; {
		s.commit.mu.Lock()
		queued = len(s.commit.groups) > 0
		s.commit.mu.Unlock()
	}
	close(release)
	if err := <-first; !errs.Is(err, errs.Unknown) {
		t.Errorf("in flight: %v", err)
	}
	if err := <-second; !errs.Is(err, errs.Unavailable) {
		t.Errorf("queued: %v", err)
	}
}

// The names of the folders above a new data folder are made durable with it.
func TestANewDataFolderDeepBelowSurvivesAPowerCut(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s, err := Open("a/b/c/data", Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	create(t, s, 1)
	put(t, s, 1, "a")
	fs = fs.CrashClone(vfs.CrashCloneCfg{})
	s.Close()
	s, err = Open("a/b/c/data", Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	want(t, "after the power cut", read(t, s, 1, 0, everything), "1=a")
}

// The first minutes of a store: a power cut before every operation of the first Open, the first
// shard and the first appends.
func TestPowerCutsInTheFirstMoments(t *testing.T) {
	for at := int64(0); ; at += stride(1) {
		mem := vfs.NewCrashableMem()
		var after *vfs.MemFS
		var mu sync.Mutex
		var acked, created int
		before := [2]int{}
		n := int64(0)
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if n++; n-1 == at {
				before = [2]int{created, acked}
				after = mem.CrashClone(vfs.CrashCloneCfg{})
			}
			return nil
		}))
		s, err := Open("data", Options{FS: fs, SegmentSize: 1 << 10})
		if err != nil {
			t.Fatal(err)
		}
		create(t, s, 1)
		mu.Lock()
		created = 1
		mu.Unlock()
		for range 8 {
			put(t, s, 1, strings.Repeat("x", 300))
			mu.Lock()
			acked++
			mu.Unlock()
		}
		s.Close()
		if after == nil {
			return
		}
		s, err = Open("data", Options{FS: after, SegmentSize: 1 << 10})
		if err != nil {
			t.Fatalf("a power cut before operation %d: %v", at, err)
		}
		recs, err := s.Read(t.Context(), 1, 0, everything, nil)
		if before[0] == 1 && err != nil || len(recs) < before[1] {
			t.Fatalf("a power cut before operation %d: %d records of %d, %v", at, len(recs), before[1], err)
		}
		s.Close()
	}
}
