package firehose_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/firehose/destinations"
	"github.com/shardmill/shardmill/firehose/destinations/s3"
	"github.com/shardmill/shardmill/internal/crashfs"
	"github.com/shardmill/shardmill/internal/objects"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
)

// TestPowerCuts cuts the power again and again while records are put and delivered, each time
// before a random operation on the journal or the metadata, keeping a random part of what was not
// synced. In the end every acknowledged record must be in the stream once, and every record of the
// stream in the bucket once. The bucket is on another machine, which keeps its power.
func TestPowerCuts(t *testing.T) {
	for seed := range uint64(cutChains(t)) {
		if err := runCuts(seed, nil); err != nil {
			t.Fatalf("chain %d: %v", seed, err)
		}
	}
}

// The controls turn syncs off. Were nothing lost or doubled then, the test above would prove nothing.
func TestPowerCutControls(t *testing.T) {
	for name, lie := range map[string]crashfs.Lie{
		"no fsync at all":         func(string, bool, bool) bool { return true },
		"no fsync of the journal": func(path string, _, _ bool) bool { return strings.HasSuffix(path, ".wal") },
		"no fsync of metadata":    func(path string, _, _ bool) bool { return strings.Contains(path, "/meta/") },
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(4 * cutChains(t)) {
				if err := runCuts(seed, lie); err != nil {
					t.Logf("chain %d: %v", seed, err)
					return
				}
			}
			t.Fatal("no chain failed although syncs were off")
		})
	}
}

func cutChains(t *testing.T) int {
	if testing.Short() {
		return 5
	}
	return 25
}

var cutScope = shards.Scope{Account: "000000000000", Region: "us-east-1"}

// bucket is an object store in memory on a machine that does not crash.
type bucket struct {
	objects.Store // the methods that a delivery does not use
	mu            sync.Mutex
	bodies        map[string][]byte
	life          int // puts of earlier lives are too late: their machine has no power
}

func (b *bucket) of(life int) objects.Store { return &bucketConn{b.Store, b, life} }

type bucketConn struct {
	objects.Store
	b    *bucket
	life int
}

func (c *bucketConn) Put(_ context.Context, _, key string, body io.ReadSeeker, _ int64, _ objects.Attributes) error {
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	c.b.mu.Lock()
	defer c.b.mu.Unlock()
	if c.life != c.b.life {
		return errors.New("the machine has no power")
	}
	c.b.bodies[key] = data
	return nil
}

// cuts is one chain of lives.
type cuts struct {
	rng    *rand.Rand
	lie    crashfs.Lie
	bucket *bucket

	mu    sync.Mutex
	next  int
	acked map[string]bool
}

func runCuts(seed uint64, lie crashfs.Lie) error {
	c := &cuts{rng: rand.New(rand.NewPCG(seed, 3)), lie: lie, bucket: &bucket{bodies: make(map[string][]byte)}, acked: make(map[string]bool)}
	fs := vfs.NewCrashableMem()
	for life := range 5 {
		var err error
		if fs, err = c.live(fs, life < 4); err != nil {
			return fmt.Errorf("life %d: %w", life, err)
		}
	}
	return nil
}

// live opens everything, puts records and, if it is to crash, returns the file system as the cut
// leaves it; else it waits for the deliveries and accounts for every record.
func (c *cuts) live(mem *vfs.MemFS, crash bool) (after *vfs.MemFS, err error) {
	life := c.bucket.life
	fs := &crashfs.FS{FS: mem, Folder: "data", Lie: c.lie, SyncDelay: 20 * time.Microsecond}
	var armed atomic.Bool // the store works long before the cut may come
	var left int
	var cfg vfs.CrashCloneCfg
	dead := make(chan struct{})
	fs.Before = func() {
		if !armed.Load() {
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if left--; left == 0 {
			c.bucket.mu.Lock()
			after = mem.CrashClone(cfg)
			c.bucket.life++
			c.bucket.mu.Unlock()
			close(dead)
		}
	}
	store, err := journal.Open("data", journal.Options{FS: fs, SegmentSize: 64 << 10})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer func() { store.Close() }()
	streams, err := shards.Open(ctx, store, shards.Options{})
	if err != nil {
		cancel()
		return nil, err
	}
	defer streams.Close()
	ds, err := firehose.Open(ctx, firehose.Options{Streams: streams, Meta: store.Meta(), Open: destinations.Open(destinations.Deps{Objects: c.bucket.of(life)})})
	if err != nil {
		cancel()
		return nil, err
	}
	defer ds.Close(ctx)
	defer cancel() // before Close: what is under way is given up
	s, d, err := c.create(ctx, streams, ds)
	if err != nil {
		return nil, err
	}
	if !crash {
		return nil, c.account(ctx, s, d)
	}
	left = 20 + c.rng.IntN(150)
	cfg = vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[c.rng.IntN(3)], RNG: c.rng}
	armed.Store(true)
	c.put(s, dead)
	return after, nil
}

func (c *cuts) create(ctx context.Context, streams *shards.Streams, ds *firehose.DeliveryStreams) (*shards.Stream, *firehose.DeliveryStream, error) {
	s, err := streams.Get(cutScope, "s")
	if err != nil {
		if len(c.acked) > 0 {
			return nil, nil, errors.New("the stream is lost")
		}
		if s, err = streams.Create(ctx, cutScope, shards.Spec{Name: "s", Shards: 3}); err != nil {
			return nil, nil, err
		}
	}
	d, err := ds.Get(cutScope, "d")
	if err == nil {
		return s, d, nil
	}
	if len(c.acked) > 0 {
		return nil, nil, errors.New("the delivery stream is lost")
	}
	settings, err := json.Marshal(s3.Settings{BucketARN: "arn:aws:s3:::bucket"})
	if err != nil {
		return nil, nil, err
	}
	d, err = ds.Create(ctx, cutScope, firehose.Spec{Name: "d", Type: firehose.KinesisStreamAsSource, SourceARN: s.ARN(), Kind: s3.Kind,
		Settings: settings, Buffer: firehose.Buffer{Bytes: 2000}})
	return s, d, err
}

// put writes from three goroutines until the power is gone.
func (c *cuts) put(s *shards.Stream, dead chan struct{}) {
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				c.mu.Lock()
				c.next++
				id := fmt.Sprintf("r%06d", c.next)
				c.mu.Unlock()
				out := make([]shards.Placed, 1)
				s.Put(context.Background(), []shards.PutRecord{{Key: []byte(id), Data: []byte(id + "\n")}}, out)
				c.mu.Lock()
				select {
				case <-dead:
					c.mu.Unlock()
					return
				default:
					if out[0].Err == nil {
						c.acked[id] = true
					}
				}
				c.mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// account compares what was acknowledged, what the stream holds and what the bucket holds.
func (c *cuts) account(ctx context.Context, s *shards.Stream, d *firehose.DeliveryStream) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		done, err := d.CaughtUp(ctx)
		if err != nil {
			return err
		}
		if done {
			break
		}
		if time.Now().After(deadline) {
			return errors.New("delivery does not catch up")
		}
		time.Sleep(time.Millisecond)
	}
	inStream := make(map[string]int)
	for _, sh := range s.Shards() {
		recs, _, err := s.Read(ctx, sh, 0, shards.Budget{Records: 1 << 20, Bytes: 1 << 30}, nil)
		if err != nil {
			return err
		}
		for _, r := range recs {
			inStream[strings.TrimSpace(string(r.Data))]++
		}
	}
	inBucket := make(map[string]int)
	for _, body := range c.bucket.bodies {
		for line := range bytes.Lines(body) {
			inBucket[string(bytes.TrimSpace(line))]++
		}
	}
	for id := range c.acked {
		if inStream[id] != 1 {
			return fmt.Errorf("acknowledged record %s is %d times in the stream", id, inStream[id])
		}
	}
	for id, n := range inStream {
		if n != 1 || inBucket[id] != 1 {
			return fmt.Errorf("record %s is %d times in the stream and %d times in the bucket", id, n, inBucket[id])
		}
	}
	for id, n := range inBucket {
		if inStream[id] != 1 {
			return fmt.Errorf("record %s is %d times in the bucket and not in the stream", id, n)
		}
	}
	return nil
}
