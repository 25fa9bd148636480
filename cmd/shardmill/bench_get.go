package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/shardmill/shardmill/internal/awsapi/cbor"
	"github.com/shardmill/shardmill/internal/limits"
)

// pages is how many answers the shard is good for. Together they fit into the memory that the host
// keeps for readers at the tip.
const pages = 2

// page is one answer of GetRecords that was looked at closely, for comparison with later ones.
type page struct {
	request []byte
	records int
	size    int // bytes up to the end of the records; what follows depends on the time
}

// get measures GetRecords. Nothing is left out on the way, and nothing but the host's own answer is
// kept from one request to the next: an iterator may be used again and again.
func (b *bench) get(ctx context.Context) error {
	all, err := b.fill(ctx)
	if err != nil {
		return err
	}
	bufs, turn := make([][]byte, b.clients), make([]int, b.clients)
	fetch := func(c int) error {
		p := &all[turn[c]%pages]
		turn[c]++
		buf, err := b.post(ctx, "GetRecords", p.request, bufs[c])
		if err != nil {
			return err
		}
		bufs[c] = buf
		if size, _ := b.recordsEnd(buf); size != p.size {
			return fmt.Errorf("GetRecords: the records take %d bytes, and took %d at first", size, p.size)
		}
		return nil
	}
	if _, err := share(min(b.clients*2, b.batches), b.clients, fetch); err != nil { // warm up
		return err
	}
	before := b.load()
	took, err := share(b.batches, b.clients, fetch)
	if err != nil {
		return err
	}
	n := float64(b.batches * all[0].records)
	cost, err := b.cost(before, n)
	if err != nil {
		return err
	}
	bare, err := limits.HTTP(ctx, b.batches, b.clients, bufs[0])
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "GetRecords over HTTP, %s, %d x %d B an answer, one shard, warm, %d clients on the same machine\n", b.wire(), all[0].records, benchSize, b.clients)
	fmt.Fprintf(b.out, "  %.0f records/s, %.1f MB/s of data\n", n/took.Seconds(), n*benchSize/1e6/took.Seconds())
	fmt.Fprintf(b.out, "  %.2f of the raw limit (a bare HTTP server sends the same bytes from memory: %.0f records/s)\n", bare.Seconds()/took.Seconds(), n/bare.Seconds())
	fmt.Fprintf(b.out, "  %s\n", cost)
	return nil
}

// fill puts the records and reads them once.
func (b *bench) fill(ctx context.Context) ([]page, error) {
	const perAnswer = 10_000
	if err := b.api.call(ctx, kinesisTarget+"CreateStream", object{"StreamName": "bench", "ShardCount": 1}, nil); err != nil {
		return nil, err
	}
	body := b.putBody()
	for range pages * perAnswer / benchBatch {
		if err := b.putOnce(ctx, body); err != nil {
			return nil, err
		}
	}
	var start struct{ ShardIterator string }
	err := b.api.call(ctx, kinesisTarget+"GetShardIterator", object{"StreamName": "bench", "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"}, &start)
	if err != nil {
		return nil, err
	}
	all := make([]page, pages)
	for i, at := 0, start.ShardIterator; i < pages; i++ {
		p := &all[i]
		if p.request, err = b.getBody(at); err != nil {
			return nil, err
		}
		answer, err := b.post(ctx, "GetRecords", p.request, nil)
		if err != nil {
			return nil, err
		}
		p.records = bytes.Count(answer, []byte("ApproximateArrivalTimestamp"))
		if p.size, at = b.recordsEnd(answer); p.records != perAnswer || at == "" {
			return nil, fmt.Errorf("GetRecords: an answer has %d records in place of %d, next iterator %q", p.records, perAnswer, at)
		}
	}
	return all, nil
}

func (b *bench) getBody(iterator string) ([]byte, error) {
	if b.cbor {
		return cbor.AppendText(cbor.AppendText(cbor.AppendMapHeader(nil, 1), "ShardIterator"), iterator), nil
	}
	return json.Marshal(object{"ShardIterator": iterator})
}

// recordsEnd finds where the records of an answer end, and the next iterator behind them.
func (b *bench) recordsEnd(answer []byte) (size int, next string) {
	const name = "NextShardIterator"
	size = bytes.LastIndex(answer, []byte(name))
	if size < 0 {
		return size, ""
	}
	rest := answer[size+len(name):]
	if b.cbor {
		r := cbor.NewReader(rest)
		text, _ := r.Text()
		return size, string(text)
	}
	if parts := bytes.SplitN(rest, []byte(`"`), 4); len(parts) == 4 {
		next = string(parts[2])
	}
	return size, next
}
