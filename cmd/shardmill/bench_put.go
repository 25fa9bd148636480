package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"github.com/shardmill/shardmill/internal/awsapi/cbor"
	"github.com/shardmill/shardmill/internal/limits"
)

// put measures PutRecords.
func (b *bench) put(ctx context.Context) error {
	if err := b.api.call(ctx, kinesisTarget+"CreateStream", object{"StreamName": "bench", "ShardCount": b.shards}, nil); err != nil {
		return err
	}
	bodies := make([][]byte, b.clients)
	for i := range bodies {
		bodies[i] = b.putBody()
	}
	warm := min(b.clients*2, b.batches)
	if _, err := b.putAll(ctx, bodies, warm); err != nil {
		return err
	}
	before := b.load()
	took, err := b.putAll(ctx, bodies, b.batches)
	if err != nil {
		return err
	}
	n := float64(b.batches * benchBatch)
	cost, err := b.cost(before, n)
	if err != nil {
		return err
	}
	raw, err := limits.AppendSync(b.work, b.batches, benchBatch*benchSize, b.clients)
	if err != nil {
		return err
	}
	fmt.Fprintf(b.out, "PutRecords over HTTP, %s, %d x %d B a request, %d shards, %d clients on the same machine, fdatasync before the answer\n", b.wire(), benchBatch, benchSize, b.shards, b.clients)
	fmt.Fprintf(b.out, "  %.0f records/s, %.1f MB/s of data\n", n/took.Seconds(), n*benchSize/1e6/took.Seconds())
	fmt.Fprintf(b.out, "  %.2f of the raw limit (append + fdatasync of the same bytes: %.0f records/s)\n", raw.Seconds()/took.Seconds(), n/raw.Seconds())
	fmt.Fprintf(b.out, "  %s\n", cost)
	return nil
}

// putBody is a PutRecords request to the stream bench.
func (b *bench) putBody() []byte {
	data := make([]byte, benchSize)
	next := func() (key string) {
		for j := range data {
			data[j] = byte(rand.Uint32())
		}
		return strconv.FormatUint(rand.Uint64(), 36)
	}
	if b.cbor {
		body := cbor.AppendText(cbor.AppendMapHeader(nil, 2), "StreamName")
		body = cbor.AppendText(cbor.AppendText(body, "bench"), "Records")
		body = cbor.AppendArrayHeader(body, benchBatch)
		for range benchBatch {
			key := next()
			body = cbor.AppendText(cbor.AppendMapHeader(body, 2), "Data")
			body = cbor.AppendText(cbor.AppendBytes(body, data), "PartitionKey")
			body = cbor.AppendText(body, key)
		}
		return body
	}
	var recs []object
	for range benchBatch {
		key := next()
		recs = append(recs, object{"Data": base64.StdEncoding.EncodeToString(data), "PartitionKey": key})
	}
	body, err := json.Marshal(object{"StreamName": "bench", "Records": recs})
	if err != nil {
		panic(err) // strings and maps always marshal
	}
	return body
}

// putAll sends n requests and fails if any record was not stored.
func (b *bench) putAll(ctx context.Context, bodies [][]byte, n int) (time.Duration, error) {
	return share(n, b.clients, func(c int) error {
		return b.putOnce(ctx, bodies[c])
	})
}

// share runs fn n times from all clients at once. A client that failed stops.
func share(n, clients int, fn func(client int) error) (time.Duration, error) {
	failed := make([]error, clients)
	took := limits.Share(n, clients, func(c int) {
		if failed[c] == nil {
			failed[c] = fn(c)
		}
	})
	for _, err := range failed {
		if err != nil {
			return 0, err
		}
	}
	return took, nil
}

// noFailures is how the answer starts in which every record was stored.
func (b *bench) noFailures() []byte {
	if !b.cbor {
		return []byte(`{"FailedRecordCount":0,`)
	}
	return cbor.AppendUint(cbor.AppendText(cbor.AppendMapHeader(nil, 2), "FailedRecordCount"), 0)
}

func (b *bench) putOnce(ctx context.Context, body []byte) error {
	answer, err := b.post(ctx, "PutRecords", body, nil)
	if err == nil && !bytes.HasPrefix(answer, b.noFailures()) {
		err = fmt.Errorf("PutRecords: %.200s", answer)
	}
	return err
}

// post sends a request in the encoding that is measured, and reads the answer into buf, which is
// made larger when it has to be.
func (b *bench) post(ctx context.Context, operation string, body, buf []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.api.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	if b.cbor {
		req.Header.Set("Content-Type", "application/x-amz-cbor-1.1")
	}
	req.Header.Set("X-Amz-Target", kinesisTarget+operation)
	res, err := b.api.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.ContentLength < 0 {
		return nil, fmt.Errorf("%s: the answer does not say how long it is", operation)
	}
	if int64(cap(buf)) < res.ContentLength {
		buf = make([]byte, res.ContentLength)
	}
	buf = buf[:res.ContentLength]
	if _, err = io.ReadFull(res.Body, buf); err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s %.200s", operation, res.Status, buf)
	}
	return buf, err
}
