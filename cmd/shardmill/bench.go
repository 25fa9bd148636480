package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/limits"
)

// measure is one thing that bench can measure, with what it takes where no flag says otherwise. A
// number that is 0 has no meaning for it.
type measure struct {
	run func(*bench, context.Context) error
	amounts
}

// amounts are the numbers that flags may set.
type amounts struct{ batches, clients, shards, records, consumers, rate int }

var measures = map[string]measure{
	"put":    {(*bench).put, amounts{batches: 400, clients: 16, shards: 16}},
	"get":    {(*bench).get, amounts{batches: 200, clients: 4}},
	"fanout": {(*bench).fanOut, amounts{records: 1000, consumers: 10, rate: 200}},
	"start":  {(*bench).startUp, amounts{shards: 10_000}},
	"e2e":    {(*bench).endToEnd, amounts{records: 200}},
}

func benchCommand() *cobra.Command {
	b := &bench{}
	cmd := &cobra.Command{
		Use:   "bench put|get|fanout|start|e2e",
		Short: "Measure this machine: throughput of puts and gets, latencies, start",
		Long: `Measure a host of its own, started as a process beside this one on a temporary data folder.
Every put is durable before it is answered.

  put     PutRecords of 500 records of 1 KB over HTTP, as a ratio to the raw limit of the disk:
          appending the same bytes to a file and calling fdatasync for each batch
  get     GetRecords of 10,000 records of 1 KB from one shard over HTTP, as a ratio to a bare
          HTTP server that sends the same bytes from memory
  fanout  from the put of a record of 1 KB to its event at consumers that are subscribed to its
          shard, and what the consumers cost the writer
  start   a host with many shards, in one stream and in streams of 10: time from the start of its
          process to ready, and memory then
  e2e     one record at a time: put, transformed by a WebAssembly plugin, visible as an object,
          with interval hint 0`,
		ValidArgs: []string{"put", "get", "fanout", "start", "e2e"},
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(cmd.ValidArgs, args[0]) {
				return errs.New(errs.Invalid, "bench measures put, get, fanout, start or e2e, not %q", strings.Join(args, " "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			b.out = cmd.OutOrStdout()
			if err := b.settle(cmd, args[0]); err != nil {
				return err
			}
			return b.run(cmd.Context(), measures[args[0]])
		},
	}
	cmd.Flags().IntVar(&b.batches, "batches", 0, "put, get: requests in all (default: put 400, get 200)")
	cmd.Flags().IntVar(&b.clients, "clients", 0, "put, get: requests at a time (default: put 16, get 4)")
	cmd.Flags().IntVar(&b.shards, "shards", 0, "put: shards of the stream; start: shards in all (default: put 16, start 10000)")
	cmd.Flags().IntVar(&b.records, "records", 0, "fanout, e2e: records (default: fanout 1000, e2e 200)")
	cmd.Flags().IntVar(&b.consumers, "consumers", 0, "fanout: consumers of the shard (default: 10)")
	cmd.Flags().IntVar(&b.rate, "rate", 0, "fanout: records a second (default: 200)")
	cmd.Flags().BoolVar(&b.cbor, "cbor", false, "put, get: speak CBOR in place of JSON")
	cmd.Flags().StringVar(&b.dir, "dir", "", "folder to measure in (default: the system's temporary folder)")
	return cmd
}

const (
	benchBatch = 500
	benchSize  = 1000
)

// bench is one measurement.
type bench struct {
	amounts
	cbor bool
	dir  string
	out  io.Writer

	work   string // folder made for this measurement
	server *exec.Cmd
	api    client
}

// settle fills in what the flags leave open. It refuses numbers with which nothing would be
// measured, and flags that the measurement has no use for.
func (b *bench) settle(cmd *cobra.Command, what string) error {
	own := measures[what].amounts
	for _, n := range []struct {
		flag  string
		value *int
		usual int
	}{{"batches", &b.batches, own.batches}, {"clients", &b.clients, own.clients}, {"shards", &b.shards, own.shards},
		{"records", &b.records, own.records}, {"consumers", &b.consumers, own.consumers}, {"rate", &b.rate, own.rate}} {
		switch given := cmd.Flags().Changed(n.flag); {
		case given && n.usual == 0:
			return errs.New(errs.Invalid, "--%s means nothing to bench %s", n.flag, what)
		case given && *n.value < 1:
			return errs.New(errs.Invalid, "--%s: %d is not above 0", n.flag, *n.value)
		case !given:
			*n.value = n.usual
		}
	}
	if b.cbor && what != "put" && what != "get" {
		return errs.New(errs.Invalid, "--cbor means nothing to bench %s", what)
	}
	return nil
}

func (b *bench) run(ctx context.Context, m measure) (err error) {
	b.work, err = os.MkdirTemp(b.dir, "shardmill-bench-")
	if err != nil {
		return errs.Wrap(errs.Unavailable, err, "a folder to measure in cannot be made")
	}
	defer os.RemoveAll(b.work)
	if _, err := b.start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.stop()) }()
	return m.run(b, ctx)
}

// start runs a host as a process of its own, so that its processor time can be told from ours, and
// returns how long it took to be ready.
func (b *bench) start(ctx context.Context) (time.Duration, error) {
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	b.server = exec.CommandContext(ctx, self, "serve", "--listen", "127.0.0.1:0", "--data", filepath.Join(b.work, "data"), "--log-level", "error")
	b.server.Stderr = os.Stderr
	out, err := b.server.StdoutPipe()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := b.server.Start(); err != nil {
		return 0, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	took := time.Since(began)
	if err != nil {
		return 0, errors.Join(errs.Wrap(errs.Unavailable, err, "the host did not start"), b.stop())
	}
	_, line, _ = strings.Cut(line, " on ")
	b.api.url, _, _ = strings.Cut(line, " ")
	b.api.http.Transport = &http.Transport{MaxIdleConnsPerHost: max(b.clients, b.consumers+1)}
	return took, nil
}

// stop stops the host and waits for its end. It may be called again.
func (b *bench) stop() error {
	if b.server.ProcessState != nil {
		return nil
	}
	b.api.http.CloseIdleConnections()
	if err := b.server.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	_ = b.server.Wait() // its exit code says nothing about the measurement
	return nil
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

// memory is a line of the host's /proc/PID/status in MB: VmRSS is what is resident, VmHWM the most
// that ever was.
func (b *bench) memory(line string) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.server.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(text, []byte("\n"+line+":"))
	kb, _, _ := bytes.Cut(rest, []byte(" kB"))
	n, err := strconv.Atoi(string(bytes.TrimSpace(kb)))
	return float64(n) * 1024 / 1e6, err
}

// load is the processor time that host and client have used.
type load struct{ host, client time.Duration }

func (b *bench) load() load { return load{b.serverCPU(), limits.CPU()} }

// cost tells what each of n records has cost since before.
func (b *bench) cost(before load, n float64) (string, error) {
	now := b.load()
	highest, err := b.memory("VmHWM")
	return fmt.Sprintf("processor: host %.2f us a record, client %.2f us a record; host at most %.0f MB resident",
		(now.host-before.host).Seconds()*1e6/n, (now.client-before.client).Seconds()*1e6/n, highest), err
}

// wire is the name of the encoding that is measured.
func (b *bench) wire() string {
	if b.cbor {
		return "CBOR"
	}
	return "JSON"
}

// rank is the value below which the given share of sorted durations lies, in milliseconds.
func rank(sorted []time.Duration, share float64) float64 {
	return sorted[int(share*float64(len(sorted)-1))].Seconds() * 1e3
}
