package eventsource

import (
	"context"
	"encoding/json"
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
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
)

// elsewhere is a function on a machine that keeps its power. It fails now and then. What it handled in
// a life that had ended by then does not count.
type elsewhere struct {
	mu      sync.Mutex
	rng     *rand.Rand
	life    int
	steady  bool           // it fails no more
	handled map[string]int // highest number of each key
	wrong   error
}

type elsewhereInLife struct {
	e    *elsewhere
	life int
}

func (f elsewhereInLife) Function(string) (runtime.Function, func(), error) { return f, func() {}, nil }
func (elsewhereInLife) Close() error                                        { return nil }

func (f elsewhereInLife) Invoke(_ context.Context, in runtime.Invocation) (runtime.Result, error) {
	var ev event
	if err := json.Unmarshal(in.Payload, &ev); err != nil {
		return runtime.Result{}, err
	}
	e := f.e
	e.mu.Lock()
	defer e.mu.Unlock()
	if f.life != e.life {
		return runtime.Result{}, errors.New("no power")
	}
	if !e.steady && e.rng.IntN(4) == 0 {
		return runtime.Result{FunctionError: "Unhandled"}, nil
	}
	for _, r := range ev.Records {
		var n int
		key := r.Kinesis.PartitionKey
		if _, err := fmt.Sscanf(string(r.Kinesis.Data), key+" %d", &n); err != nil {
			e.wrong = err
		}
		if n > e.handled[key]+1 && e.wrong == nil { // again is allowed, a gap is not
			e.wrong = fmt.Errorf("key %s: %d was handled, then %d", key, e.handled[key], n)
		}
		e.handled[key] = max(e.handled[key], n)
	}
	return runtime.Result{}, nil
}

// crashChain cuts the power four times while records are put, handled and the stream is resharded. In
// the end every acknowledged record must have been handled, each key's in order.
func crashChain(seed uint64, lie crashfs.Lie) error {
	rng := rand.New(rand.NewPCG(seed, 11))
	e := &elsewhere{rng: rand.New(rand.NewPCG(seed, 12)), handled: make(map[string]int)}
	fs := vfs.NewCrashableMem()
	acked := make(map[string]int)
	for life := range 5 {
		next, err := crashLife(rng, fs, e, acked, lie, life == 4)
		if err != nil {
			return fmt.Errorf("life %d: %w", life, err)
		}
		fs = next
	}
	return e.wrong
}

func crashLife(rng *rand.Rand, mem *vfs.MemFS, e *elsewhere, acked map[string]int, lie crashfs.Lie, last bool) (after *vfs.MemFS, err error) {
	fs := &crashfs.FS{FS: mem, Folder: "data", Lie: lie}
	var armed, dead atomic.Bool
	left := int64(10 + rng.IntN(120))
	cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[rng.IntN(3)], RNG: rand.New(rand.NewPCG(rng.Uint64(), 1))}
	var mu sync.Mutex
	fs.Before = func() {
		mu.Lock()
		defer mu.Unlock()
		if !armed.Load() {
			return
		}
		if left--; left == 0 {
			e.mu.Lock()
			after = mem.CrashClone(cfg)
			e.life++
			e.mu.Unlock()
			dead.Store(true)
		}
	}
	store, err := journal.Open("data", journal.Options{FS: fs, SegmentSize: 64 << 10})
	if err != nil {
		return nil, err
	}
	defer store.Close()
	ctx := context.Background()
	streams, err := shards.Open(ctx, store, shards.Options{})
	if err != nil {
		return nil, err
	}
	defer streams.Close()
	e.mu.Lock()
	life := e.life
	e.steady = last
	e.mu.Unlock()
	ms, err := Open(ctx, Options{Streams: streams, Meta: store.Meta(), Functions: elsewhereInLife{e, life}})
	if err != nil {
		return nil, err
	}
	defer ms.Close()
	s, err := streams.Get(here, "s")
	if err != nil {
		if len(acked) > 0 {
			return nil, errors.New("the stream is lost")
		}
		if s, err = streams.Create(ctx, here, shards.Spec{Name: "s", Shards: 1}); err != nil {
			return nil, err
		}
	}
	if len(ms.List()) == 0 {
		if len(acked) > 0 {
			return nil, errors.New("the mapping is lost")
		}
		c := Defaults()
		c.EventSourceARN, c.StartingPosition, c.BatchSize, c.Parallelization, c.Bisect = streamARN, TrimHorizon, 7, 2, true
		if _, err := ms.Create(ctx, c, functionARN); err != nil {
			return nil, err
		}
	}
	if last {
		return nil, crashAccount(e, acked)
	}
	armed.Store(true)
	for i := 0; !dead.Load(); i++ {
		key := fmt.Sprint("k", rng.IntN(5))
		out := make([]shards.Placed, 1)
		s.Put(ctx, []shards.PutRecord{{Key: []byte(key), Data: fmt.Appendf(nil, "%s %d", key, acked[key]+1)}}, out)
		mu.Lock()
		if out[0].Err == nil && !dead.Load() {
			acked[key]++
		}
		mu.Unlock()
		if i%10 == 9 {
			streams.Scale(ctx, s, 1+rng.IntN(3))
		}
	}
	return after, nil
}

// crashAccount waits until everything acknowledged is handled.
func crashAccount(e *elsewhere, acked map[string]int) error {
	end := time.Now().Add(20 * time.Second)
	for {
		missing := ""
		e.mu.Lock()
		for key, n := range acked {
			if e.handled[key] < n {
				missing = fmt.Sprintf("key %s: %d records were acknowledged and %d handled", key, n, e.handled[key])
			}
		}
		wrong := e.wrong
		e.mu.Unlock()
		if wrong != nil || missing == "" {
			return wrong
		}
		if time.Now().After(end) {
			return errors.New(missing)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestPowerCuts(t *testing.T) {
	seeds := uint64(20)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		if err := crashChain(seed, nil); err != nil {
			t.Fatalf("chain %d: %v", seed, err)
		}
	}
}

func TestPowerCutControls(t *testing.T) {
	for name, lie := range map[string]crashfs.Lie{
		"no fsync of the journal": func(path string, _, _ bool) bool { return strings.HasSuffix(path, ".wal") },
		"no fsync of metadata":    func(path string, _, _ bool) bool { return strings.Contains(path, "/meta") },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(60) {
				if err := crashChain(seed, lie); err != nil {
					return
				}
			}
			t.Fatal("no chain failed although syncs were off")
		})
	}
}
