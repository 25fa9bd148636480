package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/shardmill/shardmill/examples/earthquakes"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/limits"
)

func benchCommand() *cobra.Command {
	b := &bench{}
	cmd := &cobra.Command{
		Use:   "bench put|e2e",
		Short: "Measure this machine: put throughput, or put-to-object latency",
		Long: `Measure a host of its own, started as a process beside this one on a temporary data folder.
Every put is durable before it is answered.

  put   PutRecords of 500 records of 1 KB over HTTP with JSON, as a ratio to the raw limit of the
        disk: appending the same bytes to a file and calling fdatasync for each batch
  e2e   one record at a time: put, transformed by a WebAssembly plugin, visible as an object,
        with interval hint 0`,
		ValidArgs: []string{"put", "e2e"},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(cmd.ValidArgs, args[0]) {
				return errs.New(errs.Invalid, "bench measures put or e2e, not %q", strings.Join(args, " "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			b.out = cmd.OutOrStdout()
			if err := b.check(); err != nil {
				return err
			}
			return b.run(cmd.Context(), args[0])
		},
	}
	cmd.Flags().IntVar(&b.batches, "batches", 400, "put: requests in all")
	cmd.Flags().IntVar(&b.clients, "clients", 16, "put: requests at a time")
	cmd.Flags().IntVar(&b.shards, "shards", 16, "put: shards of the stream")
	cmd.Flags().IntVar(&b.records, "records", 200, "e2e: records")
	cmd.Flags().StringVar(&b.dir, "dir", "", "folder to measure in (default: the system's temporary folder)")
	return cmd
}

const (
	benchBatch = 500
	benchSize  = 1000
)

// bench is one measurement.
type bench struct {
	batches, clients, shards, records int
	dir                               string
	out                               io.Writer

	server *exec.Cmd
	api    client
}

// check refuses numbers with which nothing would be measured.
func (b *bench) check() error {
	for _, n := range []struct {
		flag  string
		value int
	}{{"batches", b.batches}, {"clients", b.clients}, {"shards", b.shards}, {"records", b.records}} {
		if n.value < 1 {
			return errs.New(errs.Invalid, "--%s: %d is not above 0", n.flag, n.value)
		}
	}
	return nil
}

func (b *bench) run(ctx context.Context, what string) error {
	dir, err := os.MkdirTemp(b.dir, "shardmill-bench-")
	if err != nil {
		return errs.Wrap(errs.Unavailable, err, "a folder to measure in cannot be made")
	}
	defer os.RemoveAll(dir)
	if err := b.start(ctx, dir); err != nil {
		return err
	}
	defer b.stop()
	if what == "put" {
		return b.put(ctx, dir)
	}
	return b.endToEnd(ctx, dir)
}

// start runs a host as a process of its own, so that its processor time can be told from ours.
func (b *bench) start(ctx context.Context, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b.server = exec.CommandContext(ctx, self, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--log-level", "error")
	b.server.Stderr = os.Stderr
	out, err := b.server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := b.server.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.stop()
		return errs.Wrap(errs.Unavailable, err, "the host did not start")
	}
	_, line, _ = strings.Cut(line, " on ")
	b.api.url, _, _ = strings.Cut(line, " ")
	b.api.http.Transport = &http.Transport{MaxIdleConnsPerHost: b.clients}
	return nil
}

func (b *bench) stop() {
	if err := b.server.Process.Signal(syscall.SIGTERM); err == nil {
		b.server.Wait() // its exit code says nothing about the measurement
	}
}

// serverCPU is the processor time that the host has used, from /proc.
func (b *bench) serverCPU() time.Duration {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", b.server.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.Atoi(fields[11])
	system, _ := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond // clock ticks are 1/100 s on Linux
}

func (b *bench) put(ctx context.Context, dir string) error {
	if err := b.api.call(ctx, kinesisTarget+"CreateStream", object{"StreamName": "bench", "ShardCount": b.shards}, nil); err != nil {
		return err
	}
	bodies := make([][]byte, b.clients)
	for i := range bodies {
		bodies[i] = putBody()
	}
	warm := min(b.clients*2, b.batches)
	if _, err := b.putAll(ctx, bodies, warm); err != nil {
		return err
	}
	before, own := b.serverCPU(), limits.CPU()
	took, err := b.putAll(ctx, bodies, b.batches)
	if err != nil {
		return err
	}
	used, client := b.serverCPU()-before, limits.CPU()-own
	raw, err := limits.AppendSync(dir, b.batches, benchBatch*benchSize, b.clients)
	if err != nil {
		return err
	}
	n := float64(b.batches * benchBatch)
	fmt.Fprintf(b.out, "PutRecords over HTTP, JSON, %d x %d B a request, %d shards, %d clients on the same machine, fdatasync before the answer\n", benchBatch, benchSize, b.shards, b.clients)
	fmt.Fprintf(b.out, "  %.0f records/s, %.1f MB/s of data\n", n/took.Seconds(), n*benchSize/1e6/took.Seconds())
	fmt.Fprintf(b.out, "  %.2f of the raw limit (append + fdatasync of the same bytes: %.0f records/s)\n", raw.Seconds()/took.Seconds(), n/raw.Seconds())
	fmt.Fprintf(b.out, "  processor: host %.2f us a record, client %.2f us a record\n", used.Seconds()*1e6/n, client.Seconds()*1e6/n)
	return nil
}

func putBody() []byte {
	var recs []object
	data := make([]byte, benchSize)
	for range benchBatch {
		for j := range data {
			data[j] = byte(rand.Uint32())
		}
		recs = append(recs, object{"Data": base64.StdEncoding.EncodeToString(data), "PartitionKey": strconv.FormatUint(rand.Uint64(), 36)})
	}
	body, err := json.Marshal(object{"StreamName": "bench", "Records": recs})
	if err != nil {
		panic(err) // strings and maps always marshal
	}
	return body
}

// putAll sends n requests and fails if any record was not stored.
func (b *bench) putAll(ctx context.Context, bodies [][]byte, n int) (time.Duration, error) {
	failed := make([]error, b.clients)
	took := limits.Share(n, b.clients, func(c int) {
		if failed[c] == nil {
			failed[c] = b.putOnce(ctx, bodies[c])
		}
	})
	for _, err := range failed {
		if err != nil {
			return 0, err
		}
	}
	return took, nil
}

func (b *bench) putOnce(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, b.api.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", kinesisTarget+"PutRecords")
	res, err := b.api.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusOK || !bytes.HasPrefix(answer, []byte(`{"FailedRecordCount":0,`))) {
		err = fmt.Errorf("PutRecords: %s %.200s", res.Status, answer)
	}
	return err
}

// endToEnd measures from the put of a record to its object.
func (b *bench) endToEnd(ctx context.Context, dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "data", "plugins", "severity.wasm"), earthquakes.Severity, 0o600); err != nil {
		return err
	}
	err := b.api.call(ctx, firehoseTarget+"CreateDeliveryStream", object{"DeliveryStreamName": "bench",
		"ExtendedS3DestinationConfiguration": object{"RoleARN": quakeRole, "BucketARN": "arn:aws:s3:::bench",
			"BufferingHints": object{"SizeInMBs": 1, "IntervalInSeconds": 0},
			"ProcessingConfiguration": object{"Enabled": true, "Processors": []object{{"Type": "Lambda", "Parameters": []object{
				{"ParameterName": "LambdaArn", "ParameterValue": "severity"}}}}}}}, nil)
	if err != nil {
		return err
	}
	bucket := filepath.Join(dir, "data", "objects", "bench")
	line, _, _ := bytes.Cut(earthquakes.Feed, []byte("\n"))
	var took []time.Duration
	for i := range b.records + 1 {
		start := time.Now()
		if err := b.api.call(ctx, firehoseTarget+"PutRecord", object{"DeliveryStreamName": "bench", "Record": object{"Data": line}}, nil); err != nil {
			return err
		}
		for countObjects(bucket) <= i {
			if time.Since(start) > 10*time.Second {
				return fmt.Errorf("record %d is not visible after 10 s", i)
			}
			if err := pause(ctx, 500*time.Microsecond); err != nil {
				return err
			}
		}
		took = append(took, time.Since(start))
	}
	took = took[1:] // the first one waited for the plugin to be picked up
	slices.Sort(took)
	fmt.Fprintf(b.out, "put -> WebAssembly plugin -> visible object, one record at a time, interval hint 0, everything fsync'd\n")
	fmt.Fprintf(b.out, "  p50 %.1f ms, p99 %.1f ms\n", took[len(took)/2].Seconds()*1e3, took[len(took)*99/100].Seconds()*1e3)
	return nil
}

func countObjects(dir string) (n int) {
	filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return nil // a bucket that is not there yet has no objects
	})
	return n
}
