package journal

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shardmill/shardmill/internal/limits"
	"github.com/shardmill/shardmill/shards"
)

const (
	coldShards = 256
	coldTotal  = 1 << 30
	coldRecord = 1000
)

// BenchmarkColdCatchUp reads one shard of 256 after the other from their beginning, with nothing in
// the page cache, and reports the ratio to reading the same files from end to end.
func BenchmarkColdCatchUp(b *testing.B) {
	dir := b.TempDir()
	s, err := Open(dir, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	start := time.Now()
	scatter(b, s, coldTotal, nil)
	written := time.Since(start)
	settle(b, s)
	b.Logf("1 GiB appended in %v, sealed %v later; %d bytes of refs", written.Round(time.Millisecond), (time.Since(start) - written).Round(time.Millisecond), 32*countRefs(s))
	var sequential, bytes float64
	dropCache(b, dir)
	seqStart := time.Now()
	n := readFiles(b, filepath.Join(dir, "chunks"))
	sequential = float64(n) / time.Since(seqStart).Seconds()
	var took time.Duration
	for i := range b.N {
		dropCache(b, dir)
		start := time.Now()
		for k := range 8 {
			bytes += float64(catchUp(b, s, shards.ShardID(1+(i*8+k)%coldShards)))
		}
		took += time.Since(start)
	}
	cold := bytes / took.Seconds()
	b.ReportMetric(cold/1e6, "MB/s")
	b.ReportMetric(sequential/1e6, "sequential-MB/s")
	b.ReportMetric(cold/sequential, "of-sequential")
	b.ReportMetric(0, "ns/op")
}

// scatter appends batches of 500 records, each to a random shard.
func scatter(b *testing.B, s *Store, total int, each func(done int)) {
	b.Helper()
	ids := make([]shards.ShardID, coldShards)
	for i := range ids {
		ids[i] = shards.ShardID(i + 1)
	}
	if err := s.Create(b.Context(), ids); err != nil {
		b.Fatal(err)
	}
	data := make([]byte, coldRecord)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	runs, results := make([]shards.Run, coldShards), make([]shards.Result, coldShards)
	for done := 0; done < total; done += 500 * coldRecord {
		for i := range runs {
			runs[i].Shard, runs[i].Entries = ids[i], runs[i].Entries[:0]
		}
		for range 500 {
			r := &runs[rand.IntN(coldShards)]
			r.Entries = append(r.Entries, shards.Entry{Data: data})
		}
		s.Append(context.Background(), runs, results)
		for i := range results {
			if results[i].Err != nil {
				b.Fatal(results[i].Err)
			}
		}
		if each != nil {
			each(done + 500*coldRecord)
		}
	}
}

// BenchmarkSustained appends 3 GiB over 256 shards, of which the newest one is kept: every 256 MiB
// the shards are trimmed. It reports what the kernel was told to write for each byte, what the folder
// takes for each byte that is kept, the largest resident memory, and the ratio to writing and
// syncing the same batches to one file.
func BenchmarkSustained(b *testing.B) {
	const total, kept, every = 3 << 30, 1 << 30, 256 << 20
	for range b.N {
		dir := b.TempDir()
		s, err := Open(dir, Options{})
		if err != nil {
			b.Fatal(err)
		}
		var ends []map[shards.ShardID]shards.Pos // of each 256 MiB
		wrote, start := ioBytes(b), time.Now()
		scatter(b, s, total, func(done int) {
			if done/every == len(ends) {
				return
			}
			end := make(map[shards.ShardID]shards.Pos)
			for id := range shards.ShardID(coldShards) {
				bounds, _ := s.Bounds(b.Context(), id+1)
				end[id+1] = bounds.Last
			}
			ends = append(ends, end)
			if n := len(ends) - 1 - kept/every; n >= 0 {
				for id, p := range ends[n] {
					if err := s.Trim(b.Context(), id, p); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
		settle(b, s)
		took := time.Since(start)
		b.ReportMetric(float64(total)/1e6/took.Seconds(), "MB/s")
		b.ReportMetric(float64(ioBytes(b)-wrote)/total, "written/byte")
		b.ReportMetric(float64(treeSize(b, dir))/kept, "disk/kept")
		b.ReportMetric(float64(peakRSS(b))/1e6, "peak-RSS-MB")
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		os.RemoveAll(dir)
		raw, err := limits.AppendSync(b.TempDir(), total/500/coldRecord, 500*coldRecord, 1)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(raw.Seconds()/took.Seconds(), "of-raw")
		b.ReportMetric(0, "ns/op")
	}
}

// ioBytes is what this process has had written to disks so far.
func ioBytes(b *testing.B) int64 { return procNumber(b, "/proc/self/io", "write_bytes:") }

func peakRSS(b *testing.B) int64 { return 1024 * procNumber(b, "/proc/self/status", "VmHWM:") }

func procNumber(b *testing.B, path, key string) (n int64) {
	b.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		b.Skip("needs /proc:", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, key); ok {
			fmt.Sscan(rest, &n)
		}
	}
	return n
}

func treeSize(b *testing.B, dir string) (n int64) {
	b.Helper()
	err := filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		b.Fatal(err)
	}
	return n
}

func catchUp(b *testing.B, s *Store, id shards.ShardID) (bytes int) {
	b.Helper()
	var recs []shards.Record
	for at := shards.Pos(0); ; at = recs[len(recs)-1].Pos {
		var err error
		if recs, err = s.Read(context.Background(), id, at, shards.Budget{Records: 10_000, Bytes: 10 << 20}, recs[:0]); err != nil {
			b.Fatal(err)
		}
		if len(recs) == 0 {
			return bytes
		}
		for i := range recs {
			bytes += len(recs[i].Data)
		}
	}
}

func countRefs(s *Store) (n int) {
	for _, sh := range s.index.shards {
		n += len(sh.refs)
	}
	return n
}

// dropCache has the kernel forget what it holds of the store's files.
func dropCache(b *testing.B, dir string) {
	b.Helper()
	for _, pattern := range []string{"log/*", "chunks/*"} {
		names, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			b.Fatal(err)
		}
		for _, name := range names {
			f, err := os.Open(name)
			if err == nil {
				err = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
				f.Close()
			}
			if err != nil {
				b.Fatal(fmt.Errorf("drop %s: %w", name, err))
			}
		}
	}
}

func readFiles(b *testing.B, dir string) (n int64) {
	b.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 1<<20)
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			b.Fatal(err)
		}
		for {
			k, err := f.Read(buf)
			n += int64(k)
			if err == io.EOF {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		f.Close()
	}
	return n
}
