package journal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
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
	omit omission
	met  *met

	acked   [3]map[shards.Pos]string // by shard, up to the crash
	horizon [3]shards.Pos
	next    int
}

// met counts what chains came across: a suite that does not meet them proves nothing about them.
type met struct {
	torn, sealed, compacted, paused, resumed, inOpen atomic.Int32
}

const chainShards = 3

func newChain(seed uint64, lie crashfs.Lie, omit omission, m *met) *chain {
	c := &chain{rng: rand.New(rand.NewPCG(seed, 7)), lie: lie, omit: omit, met: m}
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
// operation: of the writer, the sealer, a trim, or of Open itself. It returns the file system as it
// is after the crash.
func (c *chain) life(mem *vfs.MemFS, kill bool) (after *vfs.MemFS, err error) {
	full := &fullFS{FS: mem, rng: rand.New(rand.NewPCG(c.rng.Uint64(), 2))}
	fs := &crashfs.FS{FS: full, Folder: "data/", Except: "data/meta", Lie: c.lie, SyncDelay: 100 * time.Microsecond}
	var mu sync.Mutex // orders acknowledgements against the crash
	left, crashed, armed := 1+c.rng.IntN(12), false, c.rng.IntN(4) == 0
	cut := vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 70, 100}[c.rng.IntN(4)], RNG: rand.New(rand.NewPCG(c.rng.Uint64(), 1))}
	crash := func() {
		mu.Lock()
		defer mu.Unlock()
		if crashed || !armed {
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
	fs.Before = crash
	fs.Opening.Store(true)
	s, err := Open("data", c.options(fs))
	fs.Opening.Store(false)
	mu.Lock()
	dead := crashed
	armed = false
	mu.Unlock()
	if dead {
		c.met.inOpen.Add(1)
		fs.Killed.Store(true)
		if s != nil {
			s.Close()
		}
		return after, nil
	}
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
	if c.rng.IntN(3) == 0 {
		full.every.Store(25)
	}
	mu.Lock()
	left, armed = 1+c.rng.IntN(120), true
	mu.Unlock()
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

func (c *chain) options(fs vfs.FS) Options {
	m := c.met
	return Options{FS: fs, SegmentSize: 32 << 10, TailBytes: 16 << 10, omit: c.omit, sealRetry: time.Millisecond, Events: Events{
		TornTail: func(string, int64) { m.torn.Add(1) },
		Paused:   func(error) { m.paused.Add(1) },
		Resumed:  func() { m.resumed.Add(1) },
		Sealed: func(compacted bool, _, _ int64) {
			if compacted {
				m.compacted.Add(1)
			} else {
				m.sealed.Add(1)
			}
		}}}
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
			text := fmt.Sprintf("%d-%d-%s", id, shard, strings.Repeat("r", rng.IntN(2500)))
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

// playChains plays chains, several at a time since they mostly wait, while more says so, and
// returns the first failure.
func playChains(lie crashfs.Lie, omit omission, m *met, more func(seed uint64) bool) error {
	var next atomic.Uint64
	var failed atomic.Pointer[error]
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for seed := next.Add(1) - 1; more(seed) && failed.Load() == nil; seed = next.Add(1) - 1 {
				if err := newChain(seed, lie, omit, m).run(); err != nil {
					err = fmt.Errorf("chain %d: %w", seed, err)
					failed.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	return nil
}

func TestNothingAcknowledgedIsLostInCrashes(t *testing.T) {
	t.Parallel()
	var m met
	err := playChains(nil, 0, &m, func(seed uint64) bool { return seed < chains(t) || m.missing() != "" && seed < mostChains })
	if err != nil {
		t.Fatal(err)
	}
	if what := m.missing(); what != "" {
		t.Fatalf("no chain met %s: the suite does not reach what it is for", what)
	}
	t.Logf("%d torn tails, %d segments sealed, %d chunks compacted, %d pauses for a full disk of which %d ended, %d crashes in Open",
		m.torn.Load(), m.sealed.Load(), m.compacted.Load(), m.paused.Load(), m.resumed.Load(), m.inOpen.Load())
}

// missing names what was not met.
func (m *met) missing() string {
	for what, n := range map[string]*atomic.Int32{"a torn tail": &m.torn, "sealing": &m.sealed, "compaction": &m.compacted,
		"a full disk": &m.paused, "the end of a full disk": &m.resumed, "a crash in Open": &m.inOpen} {
		if n.Load() == 0 {
			return what
		}
	}
	return ""
}

// The controls remove one safeguard each. If the suite above could not fail, these would pass.
func TestCrashControls(t *testing.T) {
	t.Parallel()
	inLog := func(path string) bool { return strings.HasSuffix(path, segmentSuffix) }
	folder := func(name string) crashfs.Lie {
		return func(path string, dir, opening bool) bool { return dir && strings.HasSuffix(path, name) }
	}
	for name, c := range map[string]struct {
		lie  crashfs.Lie
		omit omission
	}{
		"no fdatasync of segments":                                          {lie: func(path string, dir, opening bool) bool { return inLog(path) }},
		"no sync of the log folder":                                         {lie: folder("data/log")},
		"no fdatasync at recovery":                                          {lie: func(path string, dir, opening bool) bool { return opening && inLog(path) }},
		"no sync of chunks, or only after the rename":                       {lie: func(path string, dir, opening bool) bool { return strings.HasSuffix(path, chunkSuffix+tmpSuffix) }},
		"no sync of the chunk folder: segments go before names are durable": {lie: folder("data/chunks")},
		"floors after the records they explain":                             {omit: omitFloors},
		"after a full disk, appends before the segment is sealed":           {omit: omitBrokenSeal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var m met
			err := playChains(c.lie, c.omit, &m, func(seed uint64) bool { return seed < mostChains })
			if err == nil {
				t.Fatal("no chain failed although a safeguard was removed")
			}
			t.Log(err)
		})
	}
}

// fullFS is a disk that is full now and then: a write of a segment or chunk stops in the middle, a
// sync or a new file fails.
type fullFS struct {
	vfs.FS
	every atomic.Int64 // one operation of so many fails; 0: none
	mu    sync.Mutex
	rng   *rand.Rand
}

func (f *fullFS) full() (part float64, yes bool) {
	n := f.every.Load()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.rng.Float64(), n > 0 && f.rng.Int64N(n) == 0
}

func (f *fullFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if _, full := f.full(); full && !strings.Contains(name, "data/meta") {
		return nil, syscall.ENOSPC
	}
	file, err := f.FS.Create(name, c)
	return f.wrap(name, file, err)
}

func (f *fullFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, c, o...)
	return f.wrap(name, file, err)
}

func (f *fullFS) wrap(name string, file vfs.File, err error) (vfs.File, error) {
	if err != nil || strings.Contains(name, "data/meta") {
		return file, err
	}
	return &fullFile{file, f}, nil
}

type fullFile struct {
	vfs.File
	fs *fullFS
}

func (f *fullFile) Write(p []byte) (int, error) {
	if part, full := f.fs.full(); full {
		n, _ := f.File.Write(p[:int(part*float64(len(p)))])
		return n, syscall.ENOSPC
	}
	return f.File.Write(p)
}

func (f *fullFile) WriteAt(p []byte, off int64) (int, error) {
	if part, full := f.fs.full(); full {
		n, _ := f.File.WriteAt(p[:int(part*float64(len(p)))], off)
		return n, syscall.ENOSPC
	}
	return f.File.WriteAt(p, off)
}

func (f *fullFile) SyncData() error {
	if _, full := f.fs.full(); full {
		return syscall.ENOSPC
	}
	return f.File.SyncData()
}

func (f *fullFile) Sync() error {
	if _, full := f.fs.full(); full {
		return syscall.ENOSPC
	}
	return f.File.Sync()
}
