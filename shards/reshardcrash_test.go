package shards_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/crashfs"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
)

// crashScript is resharding with puts in between. Every step that was acknowledged is told to done.
func crashScript(ss *shards.Streams, s *shards.Stream, done func(step int)) {
	ctx := context.Background()
	put := func(n int) bool {
		out := make([]shards.Placed, 6)
		recs := make([]shards.PutRecord, 6)
		for i := range recs {
			recs[i] = shards.PutRecord{Key: fmt.Append(nil, "key-", i), Data: []byte(strconv.Itoa(n))}
		}
		s.Put(ctx, recs, out)
		for i := range out {
			if out[i].Err != nil {
				return false
			}
		}
		return true
	}
	for step, do := range []func() error{
		func() error { return ss.Split(ctx, s, 0, shards.Hash{Hi: 1 << 63}) },
		func() error { return ss.Merge(ctx, s, 1, 2) },
		func() error { _, err := ss.Scale(ctx, s, 5); return err },
		func() error { _, err := ss.Scale(ctx, s, 2); return err },
	} {
		if !put(2*step) || do() != nil {
			return
		}
		done(2 * step)
		if !put(2*step + 1) {
			return
		}
		done(2*step + 1)
	}
}

// reshardCut cuts the power before the at-th file operation of the script and returns what is wrong
// with what is left; over says that the script has fewer operations.
func reshardCut(t *testing.T, at int, seed uint64, lie crashfs.Lie) (over bool, wrong error) {
	mem := vfs.NewCrashableMem()
	rng := rand.New(rand.NewPCG(seed, uint64(at)))
	cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[rng.IntN(3)], RNG: rng}
	var armed, dead atomic.Bool
	var after *vfs.MemFS
	var seen atomic.Int64
	fs := &crashfs.FS{FS: mem, Folder: "data", Lie: lie}
	fs.Before = func() {
		if armed.Load() && seen.Add(1) == int64(at)+1 {
			after = mem.CrashClone(cfg)
			dead.Store(true)
		}
	}
	store, err := journal.Open("data", journal.Options{FS: fs, SegmentSize: 64 << 10})
	if err != nil {
		t.Fatal(err)
	}
	ss, err := shards.Open(t.Context(), store, shards.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := ss.Create(t.Context(), here, shards.Spec{Name: "s", Shards: 1})
	if err != nil {
		t.Fatal(err)
	}
	armed.Store(true)
	acked := -1
	crashScript(ss, s, func(step int) {
		if !dead.Load() {
			acked = step
		}
	})
	armed.Store(false)
	ss.Close()
	store.Close()
	if after == nil {
		return true, nil
	}
	return false, checkCut(t, after, acked)
}

// checkCut opens what the cut left: the stream must be whole and usable, with everything up to the
// acknowledged step.
func checkCut(t *testing.T, fs *vfs.MemFS, acked int) error {
	store, err := journal.Open("data", journal.Options{FS: fs, SegmentSize: 64 << 10})
	if err != nil {
		return err
	}
	defer store.Close()
	ss, err := shards.Open(t.Context(), store, shards.Options{})
	if err != nil {
		return err
	}
	defer ss.Close()
	s, err := ss.Get(here, "s")
	if err != nil {
		return err
	}
	open := []int{1, 2, 2, 1, 1, 5, 5, 2, 2, 2} // shards before the script and after each of its steps
	if n := len(s.OpenShards()); s.State() != shards.Active || n != open[acked+1] && n != open[acked+2] {
		return fmt.Errorf("step %d was acknowledged; the stream is %s with %d open shards", acked, s.State(), n)
	}
	checkTiling(t, s)
	var end [6]int // one behind the last record of each key
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for r, err := range inOrder(ctx, s) {
		if err != nil {
			return err
		}
		i := int(r.Key[len("key-")] - '0')
		if n, _ := strconv.Atoi(string(r.Data)); n != end[i] {
			return fmt.Errorf("key %d: record %d comes where %d is due", i, n, end[i])
		}
		end[i]++
	}
	for i, n := range end {
		if n <= acked {
			return fmt.Errorf("key %d: %d records, and step %d was acknowledged", i, n, acked)
		}
	}
	out := make([]shards.Placed, 1)
	if s.Put(ctx, []shards.PutRecord{{Key: []byte("new")}}, out); out[0].Err != nil {
		return out[0].Err
	}
	return nil
}

// inOrder yields all records of a stream, parents before children.
func inOrder(ctx context.Context, s *shards.Stream) func(func(shards.Record, error) bool) {
	return func(yield func(shards.Record, error) bool) {
		for _, sh := range s.Shards() { // numbers of children are higher
			recs, _, err := s.Read(ctx, sh, 0, everything, nil)
			if err != nil && !yield(shards.Record{}, err) {
				return
			}
			for _, r := range recs {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
}

func TestPowerCutsWhileResharding(t *testing.T) {
	step := 1
	if testing.Short() {
		step = 7
	}
	cuts := 0
	for at := 0; ; at += step {
		over := false
		for seed := range uint64(3) {
			var err error
			if over, err = reshardCut(t, at, seed, nil); err != nil {
				t.Fatalf("cut before operation %d, seed %d: %v", at, seed, err)
			}
		}
		if over {
			break
		}
		cuts++
	}
	if cuts < 40/step {
		t.Fatalf("only %d cuts", cuts)
	}
	t.Logf("%d cuts", cuts)
}

// Without the syncs that resharding relies on, the test above fails.
func TestPowerCutsWhileReshardingControls(t *testing.T) {
	for name, lie := range map[string]crashfs.Lie{
		"no fsync of metadata":    func(path string, _, _ bool) bool { return strings.Contains(path, "/meta") },
		"no fsync of the journal": func(path string, _, _ bool) bool { return strings.HasSuffix(path, ".wal") },
	} {
		t.Run(name, func(t *testing.T) {
			for at := 0; ; at += 5 {
				over, err := reshardCut(t, at, 1, lie)
				if err != nil {
					return
				}
				if over {
					t.Fatal("no cut was noticed")
				}
			}
		})
	}
}

// collectAll checks how many records there are in the shards of a stream.
func collectAll(t *testing.T, s *shards.Stream, want int) error {
	t.Helper()
	n := 0
	for _, err := range inOrder(t.Context(), s) {
		if err != nil {
			return err
		}
		n++
	}
	if n != want {
		return fmt.Errorf("%d records, not %d", n, want)
	}
	return nil
}
