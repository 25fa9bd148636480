package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/shardmill/shardmill/examples/earthquakes"
	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/internal/config"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/host"
	"github.com/shardmill/shardmill/plugins"
)

func quickstartCommand() *cobra.Command {
	var q quickstart
	cmd := &cobra.Command{
		Use:   "quickstart",
		Short: "Run the main job on a week of earthquakes, and show what happened",
		Long: `Start a host on a free port with a temporary data folder, put a week of earthquakes into a stream,
let a WebAssembly plugin and a Lambda handler transform them, deliver both to a bucket, and show
what was delivered. Everything is removed at the end, unless --keep is given.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q.out, q.err = cmd.OutOrStdout(), cmd.ErrOrStderr()
			return q.run(cmd.Context())
		},
	}
	cmd.Flags().BoolVar(&q.keep, "keep", false, "leave the host running until Ctrl-C")
	return cmd
}

const (
	quakeStream = "earthquakes"
	quakeBucket = "quakes"
	quakeRole   = "arn:aws:iam::000000000000:role/firehose"
)

// job is one of the two delivery streams: its function and what became of the records.
type job struct {
	delivery, function, kind string
	got                      firehose.Delivered
}

// quickstart is the main job, as a demonstration.
type quickstart struct {
	keep bool
	out  io.Writer
	err  io.Writer

	cfg  config.Config
	host *host.Host
	api  client

	mu   sync.Mutex
	jobs []*job
}

func (q *quickstart) run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "shardmill-quickstart-")
	if err != nil {
		return errs.Wrap(errs.Unavailable, err, "a temporary folder cannot be made")
	}
	defer os.RemoveAll(dir)
	q.cfg = config.Config{Listen: "127.0.0.1:0", Data: dir, Plugins: filepath.Join(dir, "plugins"), Region: "us-east-1",
		Account: "000000000000", LogFormat: "console", LogLevel: "warn", Concurrency: 2}
	q.jobs = []*job{
		{delivery: "by-severity", function: "severity", kind: "WebAssembly, written in C"},
		{delivery: "by-region", function: "regions", kind: "aws-lambda-go handler, unmodified"},
	}
	if q.host, err = host.Open(ctx, q.cfg, newLogger(q.cfg, q.err), host.Observer{Delivered: q.delivered}); err != nil {
		return err
	}
	defer func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := q.host.Close(drain); err != nil {
			fmt.Fprintln(q.err, "shardmill:", err)
		}
	}()
	q.api.url = q.host.URL()
	fmt.Fprintf(q.out, "host        %s, data in %s\n", q.host.URL(), dir)
	for _, step := range []func(context.Context) error{q.dropFunctions, q.createStreams, q.feed, q.show} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if q.keep {
		fmt.Fprintf(q.out, "\nThe host is running; Ctrl-C ends it and removes its data.\n")
		<-ctx.Done()
	}
	return nil
}

func (q *quickstart) delivered(stream string, what firehose.Delivered) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, j := range q.jobs {
		if j.delivery == stream {
			j.got.Records += what.Records
			j.got.Ok += what.Ok
			j.got.Dropped += what.Dropped
			j.got.Failed += what.Failed
		}
	}
}

// dropFunctions puts both functions into the plugin folder of the running host and waits until the
// host has picked them up.
func (q *quickstart) dropFunctions(ctx context.Context) error {
	if err := os.WriteFile(filepath.Join(q.cfg.Plugins, "severity.wasm"), earthquakes.Severity, 0o600); err != nil {
		return err
	}
	built := filepath.Join(q.cfg.Data, "regions") // aside, then renamed into the folder
	build := exec.CommandContext(ctx, "go", "build", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-o", built, earthquakes.RegionsPackage)
	build.Cancel = func() error { return build.Process.Signal(os.Interrupt) } // so that it removes its own temporary files
	build.WaitDelay = 5 * time.Second
	if text, err := build.CombinedOutput(); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		return errs.Wrap(errs.Unavailable, err, "the example handler could not be built; quickstart needs Go and a checkout of shardmill as working directory\n%s", bytes.TrimSpace(text))
	}
	if err := os.Rename(built, filepath.Join(q.cfg.Plugins, "regions")); err != nil {
		return err
	}
	for _, j := range q.jobs {
		if err := q.awaitFunction(ctx, j.function); err != nil {
			return err
		}
		fmt.Fprintf(q.out, "function    %-10s %s\n", j.function, j.kind)
	}
	return nil
}

func (q *quickstart) awaitFunction(ctx context.Context, name string) error {
	deadline := time.Now().Add(time.Minute)
	for {
		for _, f := range q.host.Functions.List() {
			if f.Name == name && f.State == plugins.Active {
				return nil
			}
			if f.Name == name && f.Reason != "" {
				return errors.New(f.Reason)
			}
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("function %s was not picked up from %s within a minute", name, q.cfg.Plugins)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

type object = map[string]any

// createStreams creates the stream and two delivery streams that read it.
func (q *quickstart) createStreams(ctx context.Context) error {
	if err := q.api.call(ctx, kinesisTarget+"CreateStream", object{"StreamName": quakeStream, "ShardCount": 2}, nil); err != nil {
		return err
	}
	fmt.Fprintf(q.out, "stream      %s, 2 shards\n", quakeStream)
	for _, j := range q.jobs {
		err := q.api.call(ctx, firehoseTarget+"CreateDeliveryStream", object{
			"DeliveryStreamName": j.delivery, "DeliveryStreamType": "KinesisStreamAsSource",
			"KinesisStreamSourceConfiguration": object{"RoleARN": quakeRole, "KinesisStreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/" + quakeStream},
			"ExtendedS3DestinationConfiguration": object{
				"RoleARN": quakeRole, "BucketARN": "arn:aws:s3:::" + quakeBucket,
				"Prefix": j.delivery + "/", "ErrorOutputPrefix": "errors/" + j.delivery + "/",
				"BufferingHints": object{"SizeInMBs": 1, "IntervalInSeconds": 1},
				"ProcessingConfiguration": object{"Enabled": true, "Processors": []object{{"Type": "Lambda", "Parameters": []object{
					{"ParameterName": "LambdaArn", "ParameterValue": "arn:aws:lambda:us-east-1:000000000000:function:" + j.function}}}}},
			}}, nil)
		if err != nil {
			return err
		}
		fmt.Fprintf(q.out, "delivery    %s: %s -> %s -> s3://%s/%s/\n", j.delivery, quakeStream, j.function, quakeBucket, j.delivery)
	}
	return nil
}

// feed puts all records and waits until both deliveries have answered for every one.
func (q *quickstart) feed(ctx context.Context) error {
	lines := bytes.Split(bytes.TrimSpace(earthquakes.Feed), []byte("\n"))
	start := time.Now()
	for at := 0; at < len(lines); at += 500 {
		var recs []object
		for _, line := range lines[at:min(at+500, len(lines))] {
			recs = append(recs, object{"Data": line, "PartitionKey": quakeID(line)})
		}
		var answer putRecordsAnswer
		if err := q.api.call(ctx, kinesisTarget+"PutRecords", object{"StreamName": quakeStream, "Records": recs}, &answer); err != nil {
			return err
		}
		if answer.FailedRecordCount > 0 {
			return fmt.Errorf("%d records were not stored", answer.FailedRecordCount)
		}
	}
	put := time.Since(start)
	fmt.Fprintf(q.out, "put         %d records, %d KB, durable after %d ms (%.0f records/s)\n", len(lines), len(earthquakes.Feed)>>10, put.Milliseconds(), float64(len(lines))/put.Seconds())
	bar := progressBar{out: q.err, total: len(lines) * len(q.jobs)}
	defer bar.end()
	for {
		done := 0
		q.mu.Lock()
		for _, j := range q.jobs {
			done += j.got.Records
		}
		q.mu.Unlock()
		bar.show(done)
		if done >= bar.total {
			fmt.Fprintf(q.out, "delivered   after %.1f s, of which 1 s is the buffer interval\n", time.Since(start).Seconds())
			return nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// quakeID is the event's id, the first member of each line.
func quakeID(line []byte) string {
	_, rest, _ := bytes.Cut(line, []byte(`"id": "`))
	id, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(id)
}

// show prints what was delivered and how to look further.
func (q *quickstart) show(ctx context.Context) error {
	fmt.Fprintf(q.out, "\n%-12s %8s %10s %8s %7s %8s\n", "delivery", "in", "delivered", "dropped", "failed", "objects")
	for _, j := range q.jobs {
		infos, err := q.host.Objects.List(ctx, quakeBucket, j.delivery+"/", "", 1000)
		if err != nil {
			return err
		}
		g := j.got
		fmt.Fprintf(q.out, "%-12s %8d %10d %8d %7d %8d\n", j.delivery, g.Records, g.Ok, g.Dropped, g.Failed, len(infos))
		if g.Records != g.Ok+g.Dropped+g.Failed {
			return fmt.Errorf("%s: %d records in, but %d accounted for", j.delivery, g.Records, g.Ok+g.Dropped+g.Failed)
		}
	}
	fmt.Fprintf(q.out, "every record is accounted for: in = delivered + dropped + failed\n")
	for _, j := range q.jobs {
		if err := q.sample(ctx, j); err != nil {
			return err
		}
	}
	fmt.Fprintf(q.out, "\nLook further with the AWS CLI%s:\n", map[bool]string{false: " (run quickstart with --keep first)", true: ""}[q.keep])
	fmt.Fprintf(q.out, "  export AWS_ENDPOINT_URL=%s AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any AWS_DEFAULT_REGION=us-east-1\n", q.host.URL())
	fmt.Fprintf(q.out, "  aws kinesis list-shards --stream-name %s\n", quakeStream)
	fmt.Fprintf(q.out, "  aws firehose describe-delivery-stream --delivery-stream-name %s\n", q.jobs[0].delivery)
	fmt.Fprintf(q.out, "  aws s3 ls s3://%s --recursive\n", quakeBucket)
	return nil
}

// sample prints the first lines that a delivery wrote.
func (q *quickstart) sample(ctx context.Context, j *job) error {
	infos, err := q.host.Objects.List(ctx, quakeBucket, j.delivery+"/", "", 1)
	if err != nil || len(infos) == 0 {
		return err
	}
	body, _, err := q.host.Objects.Get(ctx, quakeBucket, infos[0].Key)
	if err != nil {
		return err
	}
	defer body.Close()
	head, err := io.ReadAll(io.LimitReader(body, 4096))
	if err != nil {
		return err
	}
	fmt.Fprintf(q.out, "\ns3://%s/%s\n", quakeBucket, infos[0].Key)
	for _, line := range strings.SplitN(string(head), "\n", 3)[:2] {
		fmt.Fprintf(q.out, "  %s\n", line)
	}
	return nil
}

// progressBar draws on a terminal and is silent elsewhere.
type progressBar struct {
	out   io.Writer
	total int
	drawn bool
}

func (b *progressBar) show(done int) {
	if f, ok := b.out.(*os.File); !ok || !isTerminal(f) {
		return
	}
	const width = 40
	full := min(width*done/max(b.total, 1), width)
	fmt.Fprintf(b.out, "\rdelivering  [%s%s] %d/%d", strings.Repeat("#", full), strings.Repeat(".", width-full), done, b.total)
	b.drawn = true
}

func (b *progressBar) end() {
	if b.drawn {
		fmt.Fprint(b.out, "\r\x1b[K")
	}
}
