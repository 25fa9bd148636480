package journal

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/shards"
)

// closedStore is a store of two segments with two shards, closed in peace.
func closedStore(t testing.TB) *vfs.MemFS {
	t.Helper()
	fs := vfs.NewMem()
	s := open(t, fs, Options{SegmentSize: 1 << 10, omit: omitSealing})
	create(t, s, 1, 2)
	for i := range 6 {
		put(t, s, 1, fmt.Sprint(i, strings.Repeat("x", 200)))
	}
	put(t, s, 2, "y")
	if err := s.Trim(t.Context(), 1, 2); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return fs
}

// content is all that a reader of the store can see.
func content(t testing.TB, s *Store) string {
	t.Helper()
	return strings.Join(append(read(t, s, 1, 0, everything), read(t, s, 2, 0, everything)...), " ")
}

// copyTree copies a folder of a file system in memory into another one.
func copyTree(t testing.TB, from, to vfs.FS, dir string) {
	t.Helper()
	if _, err := vfs.Clone(from, to, dir, dir); err != nil {
		t.Fatal(err)
	}
}

func segments(t testing.TB, fs vfs.FS) (names []string) {
	t.Helper()
	all, err := fs.List("data/log")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if strings.HasSuffix(n, segmentSuffix) {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names
}

// refused opens a damaged store. It must be refused with a text that names what, and the refusal
// must leave the segments alone: what a person restores next must still fit them.
func refused(t *testing.T, fs vfs.FS, what string) {
	t.Helper()
	before := segments(t, fs)
	s, err := Open("data", Options{FS: fs, SegmentSize: 1 << 10})
	if err == nil {
		got := content(t, s)
		s.Close()
		t.Fatalf("the store was opened and serves %.60q", got)
	}
	if !strings.Contains(err.Error(), what) {
		t.Fatalf("refused with %q, which does not say %q", err, what)
	}
	if after := segments(t, fs); len(after) != len(before) {
		t.Fatalf("the refusal left segments %v of %v", after, before)
	}
}

// A damaged store id must not make every segment look like one of another store, to be recycled.
func TestEveryFlippedByteOfTheFormatFile(t *testing.T) {
	whole := content(t, open(t, closedStore(t), Options{SegmentSize: 1 << 10}))
	good := slurp(t, closedStore(t), "data/FORMAT")
	for i := range good {
		fs := closedStore(t)
		bad := slurp(t, fs, "data/FORMAT")
		bad[i] ^= 1
		spill(t, fs, "data/FORMAT", bad)
		before := segments(t, fs)
		s, err := Open("data", Options{FS: fs, SegmentSize: 1 << 10})
		if err != nil {
			if text := err.Error(); !strings.Contains(text, "FORMAT") && !strings.Contains(text, "data has data format") {
				t.Fatalf("byte %d: %v", i, err)
			}
			if after := segments(t, fs); len(after) != len(before) {
				t.Fatalf("byte %d: segments %v are left of %v", i, after, before)
			}
			continue
		}
		got := content(t, s)
		s.Close()
		if got != whole {
			t.Fatalf("byte %d of %s: the store serves %.60q", i, good, got)
		}
	}
}

func TestShortFormatFile(t *testing.T) {
	fs := closedStore(t)
	spill(t, fs, "data/FORMAT", nil)
	refused(t, fs, "data/FORMAT is damaged")
	spill(t, fs, "data/FORMAT", []byte(`{"format":1,"storeId":"xyz"}`))
	refused(t, fs, "data/FORMAT is damaged")
}

func TestLostFormatFile(t *testing.T) {
	fs := closedStore(t)
	if err := fs.Remove("data/FORMAT"); err != nil {
		t.Fatal(err)
	}
	refused(t, fs, "no FORMAT file")
}

// Segments without their metadata belong to shards nobody knows, and would be given up.
func TestLostMetadata(t *testing.T) {
	fs := closedStore(t)
	if err := fs.RemoveAll("data/meta"); err != nil {
		t.Fatal(err)
	}
	refused(t, fs, "data/meta")
}

func TestMetadataOfAnotherStore(t *testing.T) {
	fs, other := closedStore(t), closedStore(t)
	if err := fs.RemoveAll("data/meta"); err != nil {
		t.Fatal(err)
	}
	copyTree(t, other, fs, "data/meta")
	refused(t, fs, "data/meta")
}

func TestSegmentsOfAnotherStore(t *testing.T) {
	fs, other := closedStore(t), closedStore(t)
	if err := fs.RemoveAll("data/log"); err != nil {
		t.Fatal(err)
	}
	copyTree(t, other, fs, "data/log")
	refused(t, fs, "another store")
}

func TestMissingSegments(t *testing.T) {
	names := segments(t, closedStore(t))
	if len(names) < 2 {
		t.Fatalf("segments %v, want several", names)
	}
	for _, name := range names {
		fs := closedStore(t)
		if err := fs.Remove("data/log/" + name); err != nil {
			t.Fatal(err)
		}
		refused(t, fs, "missing")
	}
}

// A mark proves the last group even where it no longer fits below the segment's size.
func TestAFullSegmentIsMarkedToo(t *testing.T) {
	fs := vfs.NewMem()
	size := int64(1 << 10)
	s := open(t, fs, Options{SegmentSize: size})
	create(t, s, 1, 2)
	put(t, s, 1, strings.Repeat("x", int(size)-segmentHeader-frameHeader-recordHeader-1))
	s.Close()
	name := "data/log/" + segments(t, fs)[0]
	b := slurp(t, fs, name)
	b[200] ^= 1
	spill(t, fs, name, b)
	refused(t, fs, "is damaged at offset")
}

func TestShortSegments(t *testing.T) {
	whole := content(t, open(t, closedStore(t), Options{SegmentSize: 1 << 10}))
	for _, name := range segments(t, closedStore(t)) {
		good := slurp(t, closedStore(t), "data/log/"+name)
		for n := 0; n < len(good); n += 37 {
			fs := closedStore(t)
			spill(t, fs, "data/log/"+name, slurp(t, fs, "data/log/"+name)[:n])
			s, err := Open("data", Options{FS: fs, SegmentSize: 1 << 10})
			if err != nil {
				continue
			}
			got := content(t, s)
			s.Close()
			if got != whole {
				t.Errorf("%s cut to %d of %d bytes: the store serves %d of %d bytes", name, n, len(good), len(got), len(whole))
				break
			}
		}
	}
}

func TestFlippedBytesOfMetadata(t *testing.T) {
	whole := content(t, open(t, closedStore(t), Options{SegmentSize: 1 << 10}))
	fs := closedStore(t)
	names, err := fs.List("data/meta")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		good := slurp(t, fs, "data/meta/"+name)
		refusedAt, served := 0, 0
		for i := 0; i < len(good); i += 1 + len(good)/40 {
			fs2 := vfs.NewMem()
			copyTree(t, fs, fs2, "data")
			bad := bytes.Clone(good)
			bad[i] ^= 0x10
			spill(t, fs2, "data/meta/"+name, bad)
			func() {
				defer func() {
					if r := recover(); r != nil {
						t.Errorf("%s byte %d: panic %v", name, i, r)
					}
				}()
				s, err := Open("data", Options{FS: fs2, SegmentSize: 1 << 10})
				if err != nil {
					refusedAt++
					if !strings.Contains(err.Error(), "data/meta") {
						t.Errorf("%s byte %d: %v", name, i, err)
					}
					return
				}
				defer s.Close()
				served++
				if b, err := s.Bounds(t.Context(), 1); err != nil || b != (shards.Bounds{Horizon: 2, Last: 6}) {
					t.Errorf("%s byte %d: bounds %+v, %v", name, i, b, err)
				} else if got := content(t, s); got != whole {
					t.Errorf("%s byte %d: serves %.60q", name, i, got)
				}
			}()
		}
		t.Logf("%s: %d bytes, refused %d, served right %d", name, len(good), refusedAt, served)
	}
}
