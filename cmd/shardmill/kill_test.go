package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	fhtypes "github.com/aws/aws-sdk-go-v2/service/firehose/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/shardmill/shardmill/examples/earthquakes"
)

// TestNothingAcknowledgedIsLostWhenTheHostIsKilled kills a host with SIGKILL at random moments
// under load, again and again, and then asks: is every acknowledged record in its shard once, at
// the sequence number that was acknowledged, in the order of its writer? Is every record of the
// stream in the objects of the delivery stream that reads it, once, transformed? Is every direct
// put delivered, once? The control, the same with syncs that do nothing on a file system that
// crashes, is TestPowerCuts in package firehose: a killed process does not lose what it wrote.
func TestNothingAcknowledgedIsLostWhenTheHostIsKilled(t *testing.T) {
	kills := 50
	if testing.Short() {
		kills = 8
	}
	h := &killed{t: t, dir: t.TempDir(), acked: make(map[string]string), direct: make(map[string]bool)}
	h.dropPlugin()
	h.start()
	t.Cleanup(func() { h.cmd.Process.Kill() }) // whatever has gone wrong
	h.create()
	for range kills {
		h.load(time.Duration(30+rand.IntN(150)) * time.Millisecond)
		h.start()
	}
	h.verify()
	h.stop()
	t.Logf("%d kills, %d acknowledged stream records, %d acknowledged direct puts", kills, len(h.acked), len(h.direct))
}

const killShards = 3

type killed struct {
	t   *testing.T
	dir string
	cmd *exec.Cmd
	url string

	mu     sync.Mutex
	next   int
	acked  map[string]string // id -> "shard/sequence number"
	direct map[string]bool
}

func (h *killed) start() {
	h.t.Helper()
	h.cmd = exec.Command(os.Args[0], "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(h.dir, "data"), "--log-level", "error")
	h.cmd.Env = append(os.Environ(), asCommand+"=1")
	h.cmd.Stderr = os.Stderr
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		h.t.Fatalf("the host did not start again: %v", err)
	}
	_, line, _ = strings.Cut(line, " on ")
	h.url, _, _ = strings.Cut(line, " ")
}

func (h *killed) stop() {
	h.cmd.Process.Signal(os.Interrupt)
	if err := h.cmd.Wait(); err != nil {
		h.t.Errorf("the host did not stop in peace: %v", err)
	}
}

// config makes one attempt a call one attempt: retries would hide what was acknowledged.
func (h *killed) config() aws.Config {
	return aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(h.url), RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "any", SecretAccessKey: "any"}, nil
		})}
}

// dropPlugin puts the plugin where a host that starts finds it: it is ready when the host is.
func (h *killed) dropPlugin() {
	h.t.Helper()
	dir := filepath.Join(h.dir, "data", "plugins")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		h.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "severity.wasm"), earthquakes.Severity, 0o600); err != nil {
		h.t.Fatal(err)
	}
}

func (h *killed) create() {
	h.t.Helper()
	k, f := kinesis.NewFromConfig(h.config()), firehose.NewFromConfig(h.config())
	if _, err := k.CreateStream(h.t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("s"), ShardCount: aws.Int32(killShards)}); err != nil {
		h.t.Fatal(err)
	}
	s3 := func(prefix, function string) *fhtypes.ExtendedS3DestinationConfiguration {
		c := &fhtypes.ExtendedS3DestinationConfiguration{RoleARN: aws.String(quakeRole), BucketARN: aws.String("arn:aws:s3:::bucket"), Prefix: aws.String(prefix),
			BufferingHints: &fhtypes.BufferingHints{SizeInMBs: aws.Int32(1), IntervalInSeconds: aws.Int32(0)}}
		if function != "" {
			c.ProcessingConfiguration = &fhtypes.ProcessingConfiguration{Enabled: aws.Bool(true), Processors: []fhtypes.Processor{{Type: "Lambda",
				Parameters: []fhtypes.ProcessorParameter{{ParameterName: "LambdaArn", ParameterValue: aws.String(function)}}}}}
		}
		return c
	}
	_, err := f.CreateDeliveryStream(h.t.Context(), &firehose.CreateDeliveryStreamInput{DeliveryStreamName: aws.String("transformed"), DeliveryStreamType: "KinesisStreamAsSource",
		KinesisStreamSourceConfiguration:   &fhtypes.KinesisStreamSourceConfiguration{KinesisStreamARN: aws.String("arn:aws:kinesis:us-east-1:000000000000:stream/s"), RoleARN: aws.String(quakeRole)},
		ExtendedS3DestinationConfiguration: s3("transformed/", "severity")})
	if err != nil {
		h.t.Fatal(err)
	}
	_, err = f.CreateDeliveryStream(h.t.Context(), &firehose.CreateDeliveryStreamInput{DeliveryStreamName: aws.String("direct"), ExtendedS3DestinationConfiguration: s3("direct/", "")})
	if err != nil {
		h.t.Fatal(err)
	}
}

// load puts records from several writers and kills the host after a while.
func (h *killed) load(after time.Duration) {
	ctx, cancel := context.WithCancel(h.t.Context())
	defer cancel()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { h.write(ctx, kinesis.NewFromConfig(h.config())) })
	}
	wg.Go(func() { h.putDirect(ctx, firehose.NewFromConfig(h.config())) })
	time.Sleep(after) // not synchronization: the moment of the kill is what is random
	h.cmd.Process.Kill()
	h.cmd.Wait()
	cancel()
	wg.Wait()
}

func (h *killed) ids(n int) (ids []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for range n {
		h.next++
		ids = append(ids, fmt.Sprintf("r%07d", h.next))
	}
	return ids
}

func quake(id string) []byte {
	return fmt.Appendf(nil, `{"id": %q, "mag": 4.5, "pad": %q}`, id, strings.Repeat("x", rand.IntN(400)))
}

func (h *killed) write(ctx context.Context, k *kinesis.Client) {
	for ctx.Err() == nil {
		ids := h.ids(1 + rand.IntN(40))
		in := &kinesis.PutRecordsInput{StreamName: aws.String("s")}
		for _, id := range ids {
			in.Records = append(in.Records, types.PutRecordsRequestEntry{Data: quake(id), PartitionKey: aws.String(id)})
		}
		out, err := k.PutRecords(ctx, in)
		if err != nil {
			continue // outcome unknown: the records may be there, once
		}
		h.mu.Lock()
		for i, r := range out.Records {
			if r.SequenceNumber != nil {
				h.acked[ids[i]] = *r.ShardId + "/" + *r.SequenceNumber
			}
		}
		h.mu.Unlock()
	}
}

func (h *killed) putDirect(ctx context.Context, f *firehose.Client) {
	for ctx.Err() == nil {
		id := h.ids(1)[0]
		_, err := f.PutRecord(ctx, &firehose.PutRecordInput{DeliveryStreamName: aws.String("direct"), Record: &fhtypes.Record{Data: append(quake(id), '\n')}})
		if err == nil {
			h.mu.Lock()
			h.direct[id] = true
			h.mu.Unlock()
		}
	}
}

// verify reads everything back.
func (h *killed) verify() {
	present := h.readStream()
	for id, where := range h.acked {
		if present[id] != where {
			h.t.Fatalf("record %s was acknowledged at %s and is at %q", id, where, present[id])
		}
	}
	h.await("transformed", func(found map[string]int) error {
		for id := range present {
			if found[id] != 1 {
				return fmt.Errorf("record %s of the stream is in %d objects of its delivery stream", id, found[id])
			}
		}
		for id := range found {
			if present[id] == "" {
				return fmt.Errorf("record %s was delivered but is not in the stream", id)
			}
		}
		return nil
	})
	h.await("direct", func(found map[string]int) error {
		for id := range h.direct {
			if found[id] != 1 {
				return fmt.Errorf("direct put %s is in %d objects", id, found[id])
			}
		}
		return nil
	})
}

// readStream returns where each record is, and fails on doubles and on disorder.
func (h *killed) readStream() map[string]string {
	k := kinesis.NewFromConfig(h.config())
	present := make(map[string]string)
	for n := range killShards {
		shard := fmt.Sprintf("shardId-%012d", n)
		it, err := k.GetShardIterator(h.t.Context(), &kinesis.GetShardIteratorInput{StreamName: aws.String("s"), ShardId: &shard, ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
		if err != nil {
			h.t.Fatal(err)
		}
		last := ""
		for next := it.ShardIterator; ; {
			out, err := k.GetRecords(h.t.Context(), &kinesis.GetRecordsInput{ShardIterator: next})
			if err != nil {
				h.t.Fatal(err)
			}
			for _, r := range out.Records {
				id := recordID(h.t, r.Data)
				if present[id] != "" {
					h.t.Fatalf("record %s is at %s and at %s/%s", id, present[id], shard, *r.SequenceNumber)
				}
				if *r.SequenceNumber <= last { // all have 56 digits
					h.t.Fatalf("%s: %s does not follow %s", shard, *r.SequenceNumber, last)
				}
				last = *r.SequenceNumber
				present[id] = shard + "/" + last
			}
			if *out.MillisBehindLatest == 0 && len(out.Records) == 0 {
				break
			}
			next = out.NextShardIterator
		}
	}
	return present
}

func recordID(t *testing.T, data []byte) string {
	var r struct{ ID string }
	if err := json.Unmarshal(data, &r); err != nil || r.ID == "" {
		t.Fatalf("a record is damaged: %.100q", data)
	}
	return r.ID
}

// await counts the records in a delivery stream's objects until check is content.
func (h *killed) await(delivery string, check func(found map[string]int) error) {
	h.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		found := h.delivered(delivery)
		err := check(found)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s: %v (of %d delivered)", delivery, err, len(found))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (h *killed) delivered(delivery string) map[string]int {
	found := make(map[string]int)
	filepath.WalkDir(filepath.Join(h.dir, "data", "objects", "bucket", delivery), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		body, err := io.ReadAll(f)
		if err != nil {
			return err
		}
		for line := range bytes.Lines(body) {
			found[recordID(h.t, line)]++
		}
		return nil
	})
	return found
}
