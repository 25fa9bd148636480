package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// format1 is a folder as the last shardmill of format 1 left it: six segments, shards 1 and 2
// trimmed, 3 deleted, 4 sealed.
func format1(t testing.TB) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewCrashableMem()
	if err := filepath.WalkDir("testdata/format1", func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := strings.Replace(filepath.ToSlash(path), "testdata/format1", "data", 1)
		if d.IsDir() {
			return fs.MkdirAll(to, 0o700)
		}
		b, err := os.ReadFile(path)
		if err == nil {
			spill(t, fs, to, b)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	syncAll(t, fs)
	return fs
}

// checkFormat1 compares a store with what was written into the fixture.
func checkFormat1(t testing.TB, s *Store, what string) {
	t.Helper()
	for id, want := range map[shards.ShardID]struct {
		bounds shards.Bounds
		text   string
	}{1: {shards.Bounds{Horizon: 10, Last: 60}, "one"}, 2: {shards.Bounds{Horizon: 20, Last: 120}, "two"},
		4: {shards.Bounds{Last: 2, Sealed: true}, "four"}} {
		if b, err := s.Bounds(t.Context(), id); err != nil || b != want.bounds {
			t.Fatalf("%s: shard %d is %+v, %v", what, id, b, err)
		}
		got := read(t, s, id, 0, everything)
		if len(got) != int(want.bounds.Last-want.bounds.Horizon) {
			t.Fatalf("%s: shard %d has %d records", what, id, len(got))
		}
		for i, r := range got {
			pos := int(want.bounds.Horizon) + i + 1
			if prefix := fmt.Sprintf("%d=%s-%d", pos, want.text, pos); r != prefix && !strings.HasPrefix(r, prefix+"-") {
				t.Fatalf("%s: shard %d has %.30q, want %s", what, id, r, prefix)
			}
		}
	}
	if _, err := s.Bounds(t.Context(), 3); !errs.Is(err, errs.NotFound) {
		t.Fatalf("%s: the deleted shard: %v", what, err)
	}
}

func TestUpgradeFromFormat1(t *testing.T) {
	fs := format1(t)
	var from, to int
	s := open(t, fs, Options{Events: Events{Upgraded: func(a, b int) { from, to = a, b }}})
	checkFormat1(t, s, "after the upgrade")
	if from != 1 || to != 2 {
		t.Fatalf("upgraded from %d to %d", from, to)
	}
	settle(t, s)
	if segs, chunks := segments(t, fs), chunkNames(t, fs); len(segs) != 0 || len(chunks) < 4 {
		t.Fatalf("segments %v, chunks %v", segs, chunks)
	}
	if r := put(t, s, 1, "one-61"); r.First != 61 {
		t.Fatalf("the next record is at %d", r.First)
	}
	s.Close()
	if b := slurp(t, fs, "data/FORMAT"); !strings.Contains(string(b), `"format":2,"storeId":"6eb19ef3-a650-4de7-92a9-375ca6ce073c"`) {
		t.Fatalf("FORMAT says %s", b)
	}
	if err := (formatFile{Format: 2}).check("data"); err != nil {
		t.Fatal(err)
	}
	from = 0
	s = open(t, fs, Options{Events: Events{Upgraded: func(a, b int) { from, to = a, b }}})
	if from != 0 {
		t.Fatal("upgraded twice")
	}
	if err := s.Trim(t.Context(), 1, 10); err != nil {
		t.Fatal(err)
	}
	if b, _ := s.Bounds(t.Context(), 1); b.Last != 61 {
		t.Fatalf("%+v", b)
	}
}

// A damaged folder is refused as it is: format 1, for the shardmill that wrote it.
func TestADamagedFormat1IsNotUpgraded(t *testing.T) {
	fs := format1(t)
	flip(t, fs, "data/log/0000000000000003.wal", 200)
	refused(t, fs, "0000000000000003.wal is damaged at offset")
	if b := slurp(t, fs, "data/FORMAT"); !strings.Contains(string(b), `"format":1`) {
		t.Fatalf("FORMAT says %s", b)
	}
	s, report := mend(t, fs, Options{})
	if len(report.Files) != 1 {
		t.Fatalf("%+v", report)
	}
	if b, _ := s.Bounds(t.Context(), 1); b.Last != 60 {
		t.Fatalf("%+v", b)
	}
}

// The upgrade is cut short before any of its operations, by a kill or a power cut. As long as
// FORMAT says 1 there is no chunk, so that a shardmill that knows none may open the folder; whoever
// opens it next finds everything.
func TestPowerCutsInAnUpgrade(t *testing.T) {
	t.Parallel()
	chunks, both := 0, 0
	for at := int64(0); ; at += stride(1) {
		for _, power := range []bool{true, false} {
			mem := format1(t)
			f := &failing{match: notMeta, at: at, lasting: true}
			s, err := Open("data", Options{FS: f.over(mem), SegmentSize: 4 << 10})
			if err == nil {
				for !f.reached() && !idle(s) {
				}
				s.Close()
			}
			if power {
				mem = mem.CrashClone(vfs.CrashCloneCfg{})
			}
			format := string(slurp(t, mem, "data/FORMAT"))
			if n := len(chunkNames2(mem)); n > 0 {
				chunks++
				if !strings.Contains(format, `"format":2`) {
					t.Fatalf("cut before operation %d, there are %d chunks and FORMAT says %s", at, n, format)
				}
				if len(segments(t, mem)) > 0 {
					both++
				}
			}
			s = open(t, mem, Options{SegmentSize: 4 << 10})
			checkFormat1(t, s, fmt.Sprint("after a cut before operation ", at))
			s.Close()
			if !f.reached() {
				if chunks == 0 || both == 0 {
					t.Fatalf("%d cuts left chunks, %d segments beside them: the test does not reach what it is for", chunks, both)
				}
				return
			}
		}
	}
}

func idle(s *Store) bool {
	s.seal.mu.Lock()
	defer s.seal.mu.Unlock()
	return len(s.seal.backlog)+len(s.seal.waiting)+len(s.seal.sparse) == 0
}

func chunkNames2(fs vfs.FS) (names []string) {
	all, _ := fs.List("data/chunks") // may not be there yet
	for _, n := range all {
		if strings.HasSuffix(n, chunkSuffix) {
			names = append(names, n)
		}
	}
	return names
}
