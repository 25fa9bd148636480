package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/crashfs"
	"github.com/shardmill/shardmill/shards"
)

// chain drives one store through several crashes and checks after each that every acknowledged
// record is there once, in order, at its position, and nothing else but unacknowledged ones.
type chain struct {
	rng  *rand.Rand
	lie  crashfs.Lie
	torn atomic.Int32 // torn tails met

	acked   [3]map[shards.Pos]string // by shard, up to the crash
	horizon [3]shards.Pos
	next    int
}

const chainShards = 3

func newChain(seed uint64, lie crashfs.Lie) *chain {
	c := &chain{rng: rand.New(rand.NewPCG(seed, 7)), lie: lie}
	for i := range c.acked {
		c.acked[i] = make(map[shards.Pos]string)
	}
	return c
}

// run crashes the store five times. Two crashes of three are power cuts, which keep a random part
// of what was not synced; one is a kill, which keeps all of it until the next power cut.
func (c *chain) run() error {
	mem := vfs.NewCrashableMem()
	for i := range 5 {
		kill := c.rng.IntN(3) == 0
		next, err := c.life(mem, kill)
		if err != nil {
			return fmt.Errorf("life %d: %w", i, err)
		}
		mem = next
	}
	return nil
}

// life opens the store, checks it, and writes until the crash, which is placed before a random
// operation. It returns the file system as it is after the crash.
func (c *chain) life(mem *vfs.MemFS, kill bool) (after *vfs.MemFS, err error) {
	fs := &crashfs.FS{FS: mem, Folder: "data/log", Lie: c.lie}
	var mu sync.Mutex // orders acknowledgements against the crash
	left, crashed := 1+c.rng.IntN(60), false
	cut := vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 70, 100}[c.rng.IntN(4)], RNG: rand.New(rand.NewPCG(c.rng.Uint64(), 1))}
	crash := func() {
		mu.Lock()
		defer mu.Unlock()
		if crashed {
			return
		}
		if left--; left == 0 {
			crashed = true
			if kill {
				fs.Killed.Store(true)
				after = mem
			} else {
				after = mem.CrashClone(cut)
			}
		}
	}
	fs.Opening.Store(true)
	s, err := Open("data", Options{FS: fs, SegmentSize: 64 << 10, TailBytes: 16 << 10,
		Events: Events{TornTail: func(string, int64) { c.torn.Add(1) }}})
	fs.Opening.Store(false)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	defer func() {
		fs.Killed.Store(true) // the dead store must not touch the files any more
		s.Close()
	}()
	if err := c.check(s); err != nil {
		return nil, err
	}
	if err := s.Create(context.Background(), []shards.ShardID{1, 2, 3}); err != nil {
		return nil, err
	}
	if c.rng.IntN(4) == 0 { // a power cut right after recovery: what was served must still be there
		return mem.CrashClone(cut), nil
	}
	fs.Before, fs.SyncDelay = crash, 100*time.Microsecond
	var wg sync.WaitGroup
	for w := range 5 {
		wg.Add(1)
		seed := c.rng.Uint64()
		go func() {
			defer wg.Done()
			c.write(s, rand.New(rand.NewPCG(seed, uint64(w))), &mu, &crashed)
		}()
	}
	wg.Wait()
	if after == nil {
		return nil, errors.New("the writers stopped before the crash")
	}
	return after, nil
}

func (c *chain) write(s *Store, rng *rand.Rand, mu *sync.Mutex, crashed *bool) {
	for {
		mu.Lock()
		over := *crashed
		c.next++
		id := c.next
		mu.Unlock()
		if over {
			return
		}
		var runs []shards.Run
		var texts []string
		for shard := range chainShards {
			if rng.IntN(2) == 0 {
				continue
			}
			text := fmt.Sprintf("%d-%d-%s", id, shard, strings.Repeat("r", rng.IntN(4000)))
			runs = append(runs, shards.Run{Shard: shards.ShardID(shard + 1), Entries: []shards.Entry{{Data: []byte(text)}}})
			texts = append(texts, text)
		}
		res := make([]shards.Result, len(runs))
		s.Append(context.Background(), runs, res)
		trim := func() {}
		mu.Lock()
		if !*crashed {
			for i, r := range res {
				if r.Err == nil {
					c.acked[runs[i].Shard-1][r.First] = texts[i]
				}
			}
			if rng.IntN(8) == 0 && len(runs) > 0 {
				trim = c.trim(s, int(runs[0].Shard-1), rng)
			}
		}
		mu.Unlock()
		trim()
	}
}

// trim gives up about half of a shard. A trim may be forgotten by a crash, so the check accepts
// trimmed records, but never misses others.
func (c *chain) trim(s *Store, shard int, rng *rand.Rand) (do func()) {
	var top shards.Pos
	for p := range c.acked[shard] {
		top = max(top, p)
	}
	to := shards.Pos(rng.Uint64N(uint64(top) + 1))
	c.horizon[shard] = max(c.horizon[shard], to)
	return func() { s.Trim(context.Background(), shards.ShardID(shard+1), to) }
}

// check compares the store with what was acknowledged, then takes what it found as the truth to
// be kept from now on: readers have seen it.
func (c *chain) check(s *Store) error {
	for shard := range chainShards {
		recs, err := s.Read(context.Background(), shards.ShardID(shard+1), 0, everything, nil)
		if err != nil {
			if len(c.acked[shard]) == 0 {
				continue
			}
			return err
		}
		found := make(map[shards.Pos]string)
		for i, r := range recs {
			if i > 0 && r.Pos != recs[i-1].Pos+1 {
				return fmt.Errorf("shard %d: position %d follows %d", shard, r.Pos, recs[i-1].Pos)
			}
			found[r.Pos] = string(r.Data)
			if was, ok := c.acked[shard][r.Pos]; ok && was != string(r.Data) {
				return fmt.Errorf("shard %d: position %d holds %.20q, acknowledged was %.20q", shard, r.Pos, r.Data, was)
			}
			var id, of int
			if n, _ := fmt.Sscanf(string(r.Data), "%d-%d-", &id, &of); n != 2 || of != shard {
				return fmt.Errorf("shard %d: position %d holds the foreign record %.20q", shard, r.Pos, r.Data)
			}
		}
		for p, text := range c.acked[shard] {
			if found[p] == "" && p > c.horizon[shard] {
				return fmt.Errorf("shard %d: acknowledged record %d (%.12q) is lost", shard, p, text)
			}
		}
		b, _ := s.Bounds(context.Background(), shards.ShardID(shard+1))
		if b.Last < c.horizon[shard] {
			return fmt.Errorf("shard %d: last is %d although %d was trimmed", shard, b.Last, c.horizon[shard])
		}
		c.acked[shard] = found
	}
	return nil
}

// chains is how many chains a run plays at least. What it must meet by chance, a torn tail or the
// failure of a control, it gets mostChains for.
func chains(t *testing.T) uint64 {
	if testing.Short() {
		return 15
	}
	return 60
}

const mostChains = 400

func TestNothingAcknowledgedIsLostInCrashes(t *testing.T) {
	torn := int32(0)
	for seed := uint64(0); seed < chains(t) || torn == 0 && seed < mostChains; seed++ {
		c := newChain(seed, nil)
		if err := c.run(); err != nil {
			t.Fatalf("chain %d: %v", seed, err)
		}
		torn += c.torn.Load()
	}
	if torn == 0 {
		t.Fatal("no crash tore a group: the suite does not reach what it is for")
	}
	t.Logf("%d torn tails", torn)
}

// The controls remove one safeguard each. If the suite above could not fail, these would pass.
func TestCrashControls(t *testing.T) {
	inLog := func(path string) bool { return strings.HasSuffix(path, segmentSuffix) }
	for name, lie := range map[string]crashfs.Lie{
		"no fdatasync of segments":  func(path string, dir, opening bool) bool { return inLog(path) },
		"no sync of the log folder": func(path string, dir, opening bool) bool { return dir && strings.HasSuffix(path, "data/log") },
		"no fdatasync at recovery":  func(path string, dir, opening bool) bool { return opening && inLog(path) },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(mostChains) {
				if err := newChain(seed, lie).run(); err != nil {
					t.Logf("chain %d: %v", seed, err)
					return
				}
			}
			t.Fatal("no chain failed although a safeguard was removed")
		})
	}
}
