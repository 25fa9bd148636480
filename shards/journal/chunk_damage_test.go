package journal

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// sealedStore is a store of several chunks and a segment, closed in peace, and what it holds.
func sealedStore(t testing.TB) (*vfs.MemFS, string) {
	t.Helper()
	fs := vfs.NewMem()
	s := open(t, fs, Options{SegmentSize: 1 << 10})
	create(t, s, 1, 2)
	for i := range 8 {
		put(t, s, 1, fmt.Sprint(i, strings.Repeat("x", 200)))
		put(t, s, 2, "y")
	}
	if err := s.Trim(t.Context(), 1, 1); err != nil {
		t.Fatal(err)
	}
	settle(t, s)
	whole := content(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := len(chunkNames(t, fs)); n < 2 {
		t.Fatalf("%d chunks", n)
	}
	return fs, whole
}

// Every byte of every chunk is flipped in turn: the store is refused, or what is read is right, or
// reading tells of damage and names file and offset. Nothing wrong is served, and nothing is gone
// without notice.
func TestFlippedBytesOfChunks(t *testing.T) {
	t.Parallel()
	fs, whole := sealedStore(t)
	refusedAt, told := 0, 0
	for _, name := range chunkNames(t, fs) {
		path := "data/chunks/" + name
		good := slurp(t, fs, path)
		for i := 0; i < len(good); i += int(stride(1)) {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << (i % 8)
			fs2 := reopened(t, fs)
			spill(t, fs2, path, bad)
			s, err := Open("data", Options{FS: fs2, SegmentSize: 1 << 10, omit: omitSealing})
			if err != nil {
				refusedAt++
				if !strings.Contains(err.Error(), path+" is damaged") {
					t.Fatalf("%s byte %d: %v", name, i, err)
				}
				continue
			}
			told += checkTold(t, s, path, whole, i)
			s.Close()
		}
		spill(t, fs, path, good)
	}
	if refusedAt == 0 || told == 0 {
		t.Fatalf("%d flips were refused, %d told when read: the suite does not reach what it is for", refusedAt, told)
	}
	t.Logf("%d flips were refused by Open, %d were told by Read", refusedAt, told)
}

// checkTold reads both shards to their end, beyond damage, and returns how much of that was met.
func checkTold(t *testing.T, s *Store, path, whole string, i int) (told int) {
	t.Helper()
	var got []string
	for id := range shards.ShardID(2) {
		b, _ := s.Bounds(t.Context(), id+1)
		for at := b.Horizon; at < b.Last; {
			recs, err := s.Read(t.Context(), id+1, at, everything, nil)
			if err == nil && len(recs) == 0 {
				t.Fatalf("byte %d: shard %d ends at %d instead of %d", i, id+1, at, b.Last)
			}
			if err != nil {
				if !errs.Is(err, errs.Internal) || !strings.HasPrefix(err.Error(), path+" is damaged at offset ") {
					t.Fatalf("byte %d: %v", i, err)
				}
				told++
				at++
				continue
			}
			for _, r := range recs {
				got = append(got, fmt.Sprintf("%d=%s", r.Pos, r.Data))
			}
			at = recs[len(recs)-1].Pos
		}
	}
	all := strings.Split(whole, " ")
	if len(got)+told != len(all) {
		t.Fatalf("byte %d: %d records read and %d damaged, of %d", i, len(got), told, len(all))
	}
	for _, r := range got {
		if !slices.Contains(all, r) {
			t.Fatalf("byte %d: the store serves %.60q", i, r)
		}
	}
	return told
}

// A chunk that is cut short, or is not there, is refused.
func TestShortAndMissingChunks(t *testing.T) {
	fs, _ := sealedStore(t)
	for _, name := range chunkNames(t, fs) {
		path := "data/chunks/" + name
		good := slurp(t, fs, path)
		for n := 0; n < len(good); n += 1 + 16*int(stride(1)) {
			fs2 := reopened(t, fs)
			spill(t, fs2, path, good[:n])
			refused(t, fs2, path+" is damaged")
		}
		fs2 := reopened(t, fs)
		if err := fs2.Remove(path); err != nil {
			t.Fatal(err)
		}
		refused(t, fs2, "missing")
	}
}

func TestChunksOfAnotherStore(t *testing.T) {
	fs, _ := sealedStore(t)
	other, _ := sealedStore(t)
	if err := fs.RemoveAll("data/chunks"); err != nil {
		t.Fatal(err)
	}
	copyTree(t, other, fs, "data/chunks")
	refused(t, fs, "another store")
}

func TestAFileThatDoesNotBelongThere(t *testing.T) {
	for _, name := range []string{"chunks/notes.txt", "chunks/0000000000000001.wal", "chunks/0000000000000001.0.chunk", "chunks/0000000000000001.01.chunk", "log/0000000000000001.1.chunk", "log/0000000000000001.wal.tmp"} {
		fs, _ := sealedStore(t)
		spill(t, fs, "data/"+name, []byte("?"))
		refused(t, fs, "data/"+name+" does not belong into a journal")
	}
}

// A segment and its chunk, two generations of a chunk, an unfinished chunk: whatever a crash can
// leave side by side, the records are there once.
func TestTwoFilesOfTheSameRecords(t *testing.T) {
	before := vfs.NewMem() // segments only
	s := open(t, before, Options{SegmentSize: 1 << 10, omit: omitSealing})
	create(t, s, 1, 2)
	for i := range 8 {
		put(t, s, 1, fmt.Sprint(i, strings.Repeat("x", 200)))
		put(t, s, 2, "y")
	}
	whole := content(t, s)
	s.Close()
	after := reopened(t, before) // the same, sealed
	s = open(t, after, Options{SegmentSize: 1 << 10})
	settle(t, s)
	s.Close()
	names := chunkNames(t, after)
	first := "data/chunks/" + names[0]
	wal := "data/log/" + names[0][:16] + segmentSuffix
	broken := slurp(t, after, first)
	broken[len(broken)-1] ^= 1

	for _, c := range []struct {
		what string
		make func(fs *vfs.MemFS)
		gone []string
	}{
		{"a chunk beside its segment", func(fs *vfs.MemFS) { spill(t, fs, first, slurp(t, after, first)) }, []string{wal}},
		{"a damaged chunk beside its segment", func(fs *vfs.MemFS) { spill(t, fs, first, broken) }, []string{wal}},
		{"an unfinished chunk beside its segment", func(fs *vfs.MemFS) { spill(t, fs, first+tmpSuffix, broken[:100]) }, []string{wal, first + tmpSuffix}},
		{"the chunk, its recycled segment back under the old name", func(fs *vfs.MemFS) {
			spill(t, fs, first, slurp(t, after, first))
			spill(t, fs, strings.Replace(wal, segmentSuffix, freeSuffix, 1), slurp(t, before, wal))
		}, []string{wal}},
	} {
		t.Run(c.what, func(t *testing.T) {
			fs := reopened(t, before)
			c.make(fs)
			s := open(t, fs, Options{SegmentSize: 1 << 10, TailBytes: 1})
			if got := content(t, s); got != whole {
				t.Fatalf("the store serves %.60q", got)
			}
			settle(t, s)
			if got := content(t, s); got != whole {
				t.Fatalf("when sealed, the store serves %.60q", got)
			}
			for _, path := range c.gone {
				if _, err := fs.Stat(path); err == nil {
					t.Errorf("%s is still there", path)
				}
			}
		})
	}
	t.Run("a damaged chunk beside a segment that is empty", func(t *testing.T) {
		fs := reopened(t, after)
		spill(t, fs, first, broken)
		spill(t, fs, wal, make([]byte, 500))
		refused(t, fs, first+" is damaged: its footer fails the checksum")
	})
	for _, newer := range []bool{true, false} {
		t.Run(fmt.Sprint("two generations, the newer one sound: ", newer), func(t *testing.T) {
			fs := reopened(t, after)
			id, _ := parseChunkName(names[0])
			b := slurp(t, fs, first)
			next := rewrite(t, s, b, volumeID{id.number, id.gen + 1})
			if !newer {
				next[len(next)-1] ^= 1
			}
			path := "data/chunks/" + volumeID{id.number, id.gen + 1}.name("")
			spill(t, fs, path, next)
			s := open(t, fs, Options{SegmentSize: 1 << 10, omit: omitSealing})
			if got := content(t, s); got != whole {
				t.Fatalf("the store serves %.60q", got)
			}
			left, gone := first, path
			if newer {
				left, gone = path, first
			}
			if _, err := fs.Stat(left); err != nil {
				t.Error(err)
			}
			if _, err := fs.Stat(gone); err == nil {
				t.Errorf("%s is still there", gone)
			}
		})
	}
}

// rewrite gives a chunk another generation.
func rewrite(t *testing.T, s *Store, b []byte, id volumeID) []byte {
	t.Helper()
	sd := seed(s.storeID, id.number)
	f, what := decodeFooter(b[len(b)-chunkFooter:], int64(len(b)), sd, volumeID{id.number, id.gen - 1})
	if what != "" {
		t.Fatal(what)
	}
	f.id = id
	out := encodeChunkHeader(s.storeID, id, 0)
	out = append(out, b[chunkHeader:len(b)-chunkFooter]...)
	return append(out, f.encode(sd)...)
}

// Damage that the sealer meets in a segment stays where it is: the segment is not given up for a
// chunk that lacks the record, appends go on, and reading names the place.
func TestTheSealerLeavesADamagedSegmentAlone(t *testing.T) {
	fs := vfs.NewMem()
	damaged := make(chan error, 1)
	entered, release := make(chan struct{}, 10), make(chan struct{})
	f := &stuck{entered: entered, release: release}
	s := open(t, f.over(fs), Options{TailBytes: 1, Events: Events{Damaged: func(err error) { damaged <- err }}})
	create(t, s, 1, 2)
	put(t, s, 1, strings.Repeat("a", 12<<10)) // its segment keeps the sealer busy
	put(t, s, 1, strings.Repeat("b", 12<<10))
	put(t, s, 2, "b2")
	put(t, s, 1, strings.Repeat("c", 12<<10))
	<-entered
	v := s.pin(volumeID{number: 2})
	if _, err := v.file.WriteAt([]byte{'X'}, segmentHeader+frameHeader+recordHeader+1); err != nil {
		t.Fatal(err)
	}
	s.unpin(v)
	put(t, s, 1, strings.Repeat("d", 12<<10))
	close(release)
	err := <-damaged
	if !strings.Contains(err.Error(), "data/log/0000000000000002.wal is damaged at offset 64") {
		t.Fatal(err)
	}
	settle(t, s)
	if _, err := s.Read(t.Context(), 1, 1, everything, nil); !errs.Is(err, errs.Internal) || !strings.Contains(err.Error(), "data/log/0000000000000002.wal is damaged at offset 64") {
		t.Fatalf("reading the damaged record: %v", err)
	}
	if got := read(t, s, 1, 2, everything); len(got) != 2 {
		t.Fatalf("behind the damage are %d records", len(got))
	}
	want(t, "the other shard", read(t, s, 2, 0, everything), "1=b2")
}

func FuzzChunkIndex(f *testing.F) {
	fs, _ := sealedStore(f)
	s := open(f, fs, Options{})
	name := chunkNames(f, fs)[0]
	id, _ := parseChunkName(name)
	b := slurp(f, fs, "data/chunks/"+name)
	sd := seed(s.storeID, id.number)
	f.Add(b, false)
	f.Add(b[len(b)-chunkFooter:], true)
	f.Add(b[len(b)-chunkFooter-rowSize:], true)
	f.Fuzz(func(t *testing.T, b []byte, fix bool) {
		if len(b) < chunkFooter {
			return
		}
		b = bytes.Clone(b)
		tail := b[len(b)-chunkFooter:]
		if fix { // let the fuzzer reach what lies behind the checksums
			fixFooter(b, sd)
		}
		ft, what := decodeFooter(tail, int64(len(b)), sd, id)
		if what != "" {
			return
		}
		rows, what := decodeIndex(b[ft.indexOff:len(b)-chunkFooter], &ft, sd)
		if what != "" {
			return
		}
		end := uint64(chunkHeader)
		for i := range rows {
			r := rows[i].ref(id)
			if rows[i].off != end || r.last() != rows[i].last || decodeRow(rows[i].appendTo(nil)) != rows[i] {
				t.Fatalf("row %d is %+v", i, rows[i])
			}
			end += uint64(rows[i].size)
		}
		if end != ft.indexOff {
			t.Fatalf("the rows end at %d, the index begins at %d", end, ft.indexOff)
		}
	})
}

func FuzzParseBlock(f *testing.F) {
	fs, _ := sealedStore(f)
	s := open(f, fs, Options{})
	id, _ := parseChunkName(chunkNames(f, fs)[0])
	sd := seed(s.storeID, id.number)
	b := slurp(f, fs, "data/chunks/"+id.name(""))
	f.Add(b[chunkHeader:], 5)
	f.Add(b, 100)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		frames := parseBlock(nil, b, sd, 1)
		for i := range frames {
			fr := &frames[i]
			if int(fr.off)+int(fr.size) > len(b) || fr.count == 0 || i > 0 && (fr.off < frames[i-1].off+frames[i-1].size || fr.first <= frames[i-1].last()) {
				t.Fatalf("frame %d of %+v", i, frames)
			}
		}
		r := reading{s: s, id: 1, max: everything}
		if len(frames) > 0 {
			last := frames[len(frames)-1].last()
			ref := ref{first: frames[0].first, count: uint16(last - frames[0].first + 1), number: 1}
			if err := r.take(&ref, &block{b, frames}); err == nil && r.after < last && int(last-frames[0].first) < 1<<16-1 {
				t.Fatalf("read to %d of %d without an error", r.after, last)
			}
		}
	})
}

func FuzzChunkName(f *testing.F) {
	f.Add("0000000000000001.1.chunk")
	f.Add("00000000000000ff.65535.chunk")
	f.Fuzz(func(t *testing.T, name string) {
		if id, ok := parseChunkName(name); ok && (id.gen == 0 || id.name("") != name) {
			t.Fatalf("%q is %+v, whose name is %q", name, id, id.name(""))
		}
	})
}

// fixFooter makes the checksums of a chunk's index and footer right, whatever they say.
func fixFooter(b []byte, sd uint32) {
	tail := b[len(b)-chunkFooter:]
	off := binary.LittleEndian.Uint64(tail)
	if off < uint64(len(b)-chunkFooter) {
		binary.LittleEndian.PutUint32(tail[12:], crc32.Update(sd, castagnoli, b[off:len(b)-chunkFooter]))
	}
	binary.LittleEndian.PutUint32(tail[60:], crc32.Update(sd, castagnoli, tail[:60]))
}
