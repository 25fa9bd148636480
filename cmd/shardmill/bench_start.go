package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

// startUp measures a host that starts with streams, once with all shards in one stream and once
// with ten in each.
func (b *bench) startUp(ctx context.Context) error {
	const few = 10
	if b.shards < few {
		return errs.New(errs.Invalid, "--shards: %d is below %d, the shards of one of several streams", b.shards, few)
	}
	fmt.Fprintf(b.out, "start of a host with %d shards\n", b.shards)
	for i, streams := range []int{1, b.shards / few} {
		if i > 0 {
			if err := b.restartEmpty(ctx); err != nil {
				return err
			}
		}
		began := time.Now()
		for n := range streams {
			if err := b.api.call(ctx, kinesisTarget+"CreateStream", object{"StreamName": "bench-" + strconv.Itoa(n), "ShardCount": b.shards / streams}, nil); err != nil {
				return err
			}
		}
		created := time.Since(began)
		if err := b.stop(); err != nil {
			return err
		}
		took, err := b.start(ctx)
		if err != nil {
			return err
		}
		resident, err := b.memory("VmRSS")
		if err != nil {
			return err
		}
		fmt.Fprintf(b.out, "  %d x %d: ready after %d ms, %.0f MB resident, %d ms of processor time; the streams were created in %.1f s\n",
			streams, b.shards/streams, took.Milliseconds(), resident, b.serverCPU().Milliseconds(), created.Seconds())
	}
	return nil
}

// restartEmpty starts the host over with nothing in it.
func (b *bench) restartEmpty(ctx context.Context) error {
	if err := b.stop(); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(b.work, "data")); err != nil {
		return err
	}
	_, err := b.start(ctx)
	return err
}
