package journal

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/crashfs"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// A shard, seen from outside, is a list that records are appended to until it is sealed. Clients
// append, read and seal at the same time, through kills and power cuts, and note when each call
// began and ended; porcupine then looks for an order of the calls that explains every answer.

type callKind uint8

const (
	callAppend callKind = iota
	callRead
	callSeal
)

type call struct {
	kind  callKind
	shard shards.ShardID
	text  string // of an append
}

// answer is what a call returned.
type answer struct {
	err  error
	pos  shards.Pos // of an append
	list listState  // of a read
}

// listState is a shard's content: a hash chain instead of the records, so that states are small.
type listState struct {
	n      shards.Pos
	chain  uint64
	sealed bool
}

func (l listState) with(text string) listState {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s", l.chain, text)
	return listState{l.n + 1, h.Sum64(), l.sealed}
}

// uncertain reports whether a call may have done something although it failed.
func (a *answer) uncertain() bool { return a.err != nil && !errors.Is(a.err, shards.ErrSealed) }

var listModel = (&porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		by := map[shards.ShardID][]porcupine.Operation{}
		for _, op := range history {
			by[op.Input.(call).shard] = append(by[op.Input.(call).shard], op)
		}
		for _, p := range by {
			parts = append(parts, p)
		}
		return parts
	},
	Init: func() []any { return []any{listState{}} },
	Step: func(state, input, output any) []any {
		l, c, a := state.(listState), input.(call), output.(answer)
		sealed := l
		sealed.sealed = true
		switch {
		case c.kind == callRead && a.err == nil:
			a.list.sealed = l.sealed
			if a.list != l {
				return nil
			}
			return []any{l}
		case c.kind == callAppend && a.err == nil:
			if l.sealed || a.pos != l.n+1 {
				return nil
			}
			return []any{l.with(c.text)}
		case c.kind == callSeal && a.err == nil:
			return []any{sealed}
		case c.kind == callAppend && errs.Is(a.err, errs.Unknown) && !l.sealed:
			return []any{l, l.with(c.text)}
		case c.kind == callSeal:
			return []any{l, sealed}
		}
		return []any{l} // refused: nothing was done
	},
}).ToModel()

// history collects what clients did.
type history struct {
	mu    sync.Mutex
	start time.Time
	ops   []porcupine.Operation
}

func (h *history) do(client int, c call, run func() answer) {
	began := time.Since(h.start).Nanoseconds()
	a := run()
	ended := time.Since(h.start).Nanoseconds()
	if c.kind == callRead && a.err != nil || c.kind == callAppend && errs.Is(a.err, errs.Unavailable) {
		return // nothing was done, nothing was learnt
	}
	if a.uncertain() {
		ended = math.MaxInt64 // it may take effect later
	}
	h.mu.Lock()
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: c, Call: began, Output: a, Return: ended})
	h.mu.Unlock()
}

// settled notes that a new life has begun: what was uncertain in the last one has been done by now,
// or never will be.
func (h *history) settled() {
	now := time.Since(h.start).Nanoseconds()
	for i := range h.ops {
		h.ops[i].Return = min(h.ops[i].Return, now)
	}
}

const linearShards = 4

// client makes calls until the store is killed or it has made enough.
func (h *history) client(s *Store, killed *atomic.Bool, n int, seed uint64, toSeal shards.ShardID) {
	rng := rand.New(rand.NewPCG(seed, uint64(n)))
	ctx := context.Background()
	for i := 0; i < 40 && !killed.Load(); i++ {
		id := 1 + shards.ShardID(rng.IntN(linearShards))
		switch {
		case n == 0 && i == 20: // one client seals a shard
			h.do(n, call{kind: callSeal, shard: toSeal}, func() answer {
				_, err := s.Seal(ctx, []shards.ShardID{toSeal})
				return answer{err: err}
			})
		case rng.IntN(3) == 0:
			h.do(n, call{kind: callRead, shard: id}, func() (a answer) {
				recs, err := s.Read(ctx, id, 0, everything, nil)
				for _, r := range recs {
					a.list = a.list.with(string(r.Data))
				}
				a.err = err
				return a
			})
		default:
			text := fmt.Sprintf("%d.%d.%d-%s", seed, n, i, strings.Repeat("l", rng.IntN(400)))
			h.do(n, call{callAppend, id, text}, func() answer {
				var res [1]shards.Result
				s.Append(ctx, []shards.Run{{Shard: id, Entries: entries(text)}}, res[:])
				return answer{err: res[0].Err, pos: res[0].First}
			})
		}
	}
}

// record lets clients loose on a store for several lives and returns what they saw.
func record(t *testing.T, seed uint64, omit omission) ([]porcupine.Operation, error) {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 3))
	mem := vfs.NewCrashableMem()
	h := &history{start: time.Now()}
	for life := range 4 {
		left := 20 + rng.IntN(60)
		fs := &crashfs.FS{FS: mem, Folder: "data/", Except: "data/meta", SyncDelay: 50 * time.Microsecond}
		var mu sync.Mutex
		armed := false
		fs.Before = func() {
			mu.Lock()
			defer mu.Unlock()
			if left--; armed && left <= 0 {
				fs.Killed.Store(true)
			}
		}
		s, err := Open("data", Options{FS: fs, SegmentSize: 4 << 10, TailBytes: 2 << 10, omit: omit, sealRetry: time.Millisecond})
		if err != nil {
			return h.ops, err
		}
		h.settled()
		create(t, s, 1, 2, 3, 4)
		mu.Lock()
		armed, left = true, 20+rng.IntN(150)
		mu.Unlock()
		var wg sync.WaitGroup
		for n := range 6 {
			wg.Go(func() { h.client(s, &fs.Killed, n, seed*10+uint64(life), shards.ShardID(life%linearShards+1)) })
		}
		wg.Wait()
		fs.Killed.Store(true)
		s.Close()
		if rng.IntN(2) == 0 {
			mem = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(seed, 5))})
		}
	}
	return h.ops, nil
}

func linear(ops []porcupine.Operation) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(listModel, ops, 20*time.Second)
}

// Every answer that concurrent clients got can be explained by one order of their calls, over
// kills, power cuts and seals of shards.
func TestHistoriesAreLinearizable(t *testing.T) {
	t.Parallel()
	rounds := uint64(40)
	if testing.Short() {
		rounds = 3
	}
	var mu sync.Mutex
	var last []porcupine.Operation
	unknown := 0
	var wg sync.WaitGroup
	for seed := range rounds {
		wg.Go(func() {
			ops, err := record(t, seed, 0)
			if err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
			if got := linear(ops); got != porcupine.Ok {
				t.Errorf("seed %d: %d calls: %s", seed, len(ops), got)
			}
			mu.Lock()
			defer mu.Unlock()
			last = ops
			for _, op := range ops {
				if a := op.Output.(answer); op.Input.(call).kind == callAppend && errs.Is(a.err, errs.Unknown) {
					unknown++
				}
			}
		})
	}
	wg.Wait()
	if unknown == 0 {
		t.Fatal("no append was of unknown outcome: the test does not reach what it is for")
	}
	t.Logf("%d appends of unknown outcome", unknown)
	t.Run("control: an acknowledged record that nobody reads", func(t *testing.T) {
		if got := linear(forget(last)); got != porcupine.Illegal {
			t.Fatalf("a history with a lost record is %s", got)
		}
	})
	t.Run("control: a seal that does not wait", func(t *testing.T) {
		for seed := range uint64(60) {
			ops, err := record(t, seed, omitSealWait)
			if err != nil || linear(ops) == porcupine.Illegal {
				t.Logf("seed %d was refused; error of Open: %v", seed, err)
				return
			}
		}
		t.Fatal("no history was refused although seals did not wait")
	})
}

// forget takes an acknowledged append out of a history that has a read behind it.
func forget(ops []porcupine.Operation) []porcupine.Operation {
	for i, op := range ops {
		c, a := op.Input.(call), op.Output.(answer)
		if c.kind != callAppend || a.err != nil || a.pos != 1 {
			continue
		}
		out := append([]porcupine.Operation(nil), ops[:i]...)
		return append(out, ops[i+1:]...)
	}
	return ops
}
