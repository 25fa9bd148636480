package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/shardmill/shardmill/internal/awsapi/eventstream"
)

// fanOut measures from the sending of a put to the arrival of its event at each consumer, and the
// puts themselves beside consumers and without.
func (b *bench) fanOut(ctx context.Context) error {
	if err := b.api.call(ctx, kinesisTarget+"CreateStream", object{"StreamName": "bench", "ShardCount": 1}, nil); err != nil {
		return err
	}
	alone, _, err := b.write(ctx, new(fan))
	if err != nil {
		return err
	}
	f := &fan{sent: make([]time.Time, 0, b.records), want: b.records}
	for i := range b.consumers {
		body, err := b.subscribe(ctx, fmt.Sprint("consumer-", i))
		if err != nil {
			return err
		}
		defer body.Close()
		f.reading.Go(func() {
			if err := f.read(body); err != nil {
				f.fail(err)
			}
		})
	}
	beside, lasted, err := b.write(ctx, f)
	if err != nil {
		return err
	}
	f.reading.Wait()
	if f.failed != nil {
		return f.failed
	}
	slices.Sort(f.took)
	fmt.Fprintf(b.out, "put -> event over HTTP, %d consumers of one shard, %.0f records of %d B a second, fdatasync before both\n", b.consumers, float64(b.records)/lasted.Seconds(), benchSize)
	fmt.Fprintf(b.out, "  event:  p50 %.2f ms, p99 %.2f ms, last %.2f ms after the put was sent\n", rank(f.took, .5), rank(f.took, .99), rank(f.took, 1))
	fmt.Fprintf(b.out, "  answer: p50 %.2f ms, p99 %.2f ms; without consumers p50 %.2f ms, p99 %.2f ms\n",
		rank(beside, .5), rank(beside, .99), rank(alone, .5), rank(alone, .99))
	return nil
}

// write puts one record after the other at the rate that is asked for, and returns how long each
// took, sorted, and how long all took.
func (b *bench) write(ctx context.Context, f *fan) (took []time.Duration, all time.Duration, err error) {
	data := make([]byte, benchSize)
	began := time.Now()
	for i := range b.records {
		if err := pause(ctx, time.Until(began.Add(time.Duration(i)*time.Second/time.Duration(b.rate)))); err != nil {
			return nil, 0, err
		}
		binary.BigEndian.PutUint64(data, uint64(i))
		body, err := json.Marshal(object{"StreamName": "bench", "PartitionKey": "key", "Data": data})
		if err != nil {
			return nil, 0, err
		}
		start := f.send()
		if _, err := b.post(ctx, "PutRecord", body, nil); err != nil {
			return nil, 0, err
		}
		took = append(took, time.Since(start))
	}
	all = time.Since(began)
	slices.Sort(took)
	return took, all, nil
}

// subscribe registers a consumer and returns its stream of events, which starts behind the first
// event: the subscription stands.
func (b *bench) subscribe(ctx context.Context, name string) (io.ReadCloser, error) {
	const account = "000000000000"
	var made struct{ Consumer struct{ ConsumerARN string } }
	err := b.api.call(ctx, kinesisTarget+"RegisterStreamConsumer", object{"StreamARN": "arn:aws:kinesis:us-east-1:" + account + ":stream/bench", "ConsumerName": name}, &made)
	if err != nil {
		return nil, err
	}
	body, err := json.Marshal(object{"ConsumerARN": made.Consumer.ConsumerARN, "ShardId": "shardId-000000000000", "StartingPosition": object{"Type": "LATEST"}})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.api.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", kinesisTarget+"SubscribeToShard")
	res, err := b.api.http.Do(req)
	if err != nil {
		return nil, err
	}
	for range 2 { // initial-response and an empty event
		m, err := readMessage(res.Body, nil)
		if err != nil {
			return nil, errors.Join(err, res.Body.Close())
		}
		if kind := m.Header(":message-type"); kind != "event" {
			return nil, errors.Join(fmt.Errorf("SubscribeToShard: %s: %s", kind, m.Payload), res.Body.Close())
		}
	}
	return res.Body, nil
}

// fan is when each record was sent, and how long it took to each consumer.
type fan struct {
	reading sync.WaitGroup
	want    int // records for each consumer

	mu     sync.Mutex
	sent   []time.Time
	took   []time.Duration
	failed error
}

func (f *fan) send() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.sent = append(f.sent, now)
	return now
}

func (f *fan) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = errors.Join(f.failed, err)
}

// read takes events until every record has come, in order.
func (f *fan) read(events io.Reader) error {
	var buf []byte
	for next := 0; next < f.want; {
		m, err := readMessage(events, buf)
		if err != nil {
			return err
		}
		buf = m.Payload[:0]
		var event struct{ Records []struct{ Data string } }
		if err := json.Unmarshal(m.Payload, &event); err != nil {
			return err
		}
		now := time.Now()
		f.mu.Lock()
		for _, r := range event.Records {
			start, err := base64.StdEncoding.DecodeString(r.Data[:12])
			if err != nil || binary.BigEndian.Uint64(start) != uint64(next) {
				f.mu.Unlock()
				return fmt.Errorf("record %d came as %q", next, r.Data[:12])
			}
			f.took = append(f.took, now.Sub(f.sent[next]))
			next++
		}
		f.mu.Unlock()
	}
	return nil
}

// readMessage reads one message of an event stream.
func readMessage(r io.Reader, buf []byte) (m eventstream.Message, err error) {
	const prelude = 12
	buf = slices.Grow(buf[:0], prelude)[:prelude]
	if _, err = io.ReadFull(r, buf); err != nil {
		return m, err
	}
	rest := int(binary.BigEndian.Uint32(buf)) - prelude
	if rest < 0 || rest > eventstream.MaxPayload+eventstream.MaxHeaders {
		return m, fmt.Errorf("a message claims to have %d bytes behind its first %d", rest, prelude)
	}
	buf = slices.Grow(buf, rest)[:prelude+rest]
	if _, err = io.ReadFull(r, buf[prelude:]); err != nil {
		return m, err
	}
	m, _, err = eventstream.Decode(buf)
	return m, err
}
