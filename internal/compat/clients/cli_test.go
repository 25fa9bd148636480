package clients

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// cli lives through the plan with the AWS CLI, versions 1 and 2.
type cli struct {
	*testing.T
	path string
	env  []string
	dir  string   // for files
	raw  []string // options that make blobs in JSON plain text
	plan plan
	seen observed
}

func TestCLI(t *testing.T) {
	if testing.Short() {
		t.Skip("each command of the AWS CLI takes about a second")
	}
	path, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("the AWS CLI (aws) is not on the PATH")
	}
	t.Parallel()
	h, p := newServer(t), newPlan("cli")
	p.Single = p.Single[:2]
	c := &cli{T: t, path: path, env: environ(h.URL()), dir: t.TempDir(), plan: p}
	if strings.HasPrefix(c.run("--version"), "aws-cli/2") {
		c.raw = []string{"--cli-binary-format", "raw-in-base64-out"}
	}
	var delivery sync.WaitGroup
	delivery.Go(c.delivers) // meanwhile: each command starts a program
	c.puts()
	c.describes()
	c.reads()
	p.check(t, &c.seen, time.Second) // botocore sends whole seconds
	delivery.Wait()
	h.awaitDelivery(t, len(p.Lines))
	c.run("s3", "cp", "--recursive", "--quiet", "s3://"+p.Bucket+"/", filepath.Join(c.dir, "objects"))
	var objects []string
	err = filepath.WalkDir(filepath.Join(c.dir, "objects"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		objects = append(objects, string(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	p.checkObjects(t, objects)
}

// try runs a command and returns what it wrote to standard output and standard error.
func (c *cli) try(args ...string) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(c.Context(), c.path, append(args, "--output", "json")...)
	var out, complaints strings.Builder
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = c.env, c.dir, &out, &complaints
	err = cmd.Run()
	return out.String(), complaints.String(), err
}

func (c *cli) run(args ...string) string {
	c.Helper()
	stdout, stderr, err := c.try(args...)
	if err != nil {
		c.Errorf("aws %s: %v\n%s", strings.Join(args, " "), err, stderr)
	}
	return stdout
}

// get runs a command and reads its answer.
func (c *cli) get(into any, args ...string) {
	c.Helper()
	if out := c.run(args...); json.Unmarshal([]byte(out), into) != nil {
		c.Errorf("aws %s answers %q", strings.Join(args, " "), out)
	}
}

// file writes a file for an argument and returns its name.
func (c *cli) file(name string, data []byte) string {
	c.Helper()
	if err := os.WriteFile(filepath.Join(c.dir, name), data, 0o600); err != nil {
		c.Error(err)
	}
	return name
}

// asJSON writes a file of JSON for an argument and returns its name.
func (c *cli) asJSON(name string, v any) string {
	c.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		c.Error(err)
	}
	return c.file(name, b)
}

func (c *cli) put(e entry) {
	var at struct{ ShardId, SequenceNumber string }
	c.get(&at, "kinesis", "put-record", "--stream-name", c.plan.Stream, "--partition-key", e.Key, "--data", "fileb://"+c.file("data", e.Data))
	c.seen.Put = append(c.seen.Put, placed{at.ShardId, at.SequenceNumber})
}

type object = map[string]any

func (c *cli) puts() {
	c.run("kinesis", "create-stream", "--stream-name", c.plan.Stream, "--shard-count", "2")
	c.run("kinesis", "wait", "stream-exists", "--stream-name", c.plan.Stream)
	for _, e := range c.plan.Single {
		c.put(e)
	}
	var batch []object
	for _, e := range c.plan.Batch {
		batch = append(batch, object{"PartitionKey": e.Key, "Data": string(e.Data)})
	}
	var out struct {
		FailedRecordCount int
		Records           []struct{ ShardId, SequenceNumber string }
	}
	c.get(&out, append([]string{"kinesis", "put-records", "--stream-name", c.plan.Stream, "--records", "file://" + c.asJSON("batch", batch)}, c.raw...)...)
	if out.FailedRecordCount != 0 {
		c.Fatalf("%d records failed", out.FailedRecordCount)
	}
	for _, r := range out.Records {
		c.seen.Put = append(c.seen.Put, placed{r.ShardId, r.SequenceNumber})
	}
}

func (c *cli) describes() {
	var described struct {
		StreamDescription struct{ StreamStatus, StreamARN string }
	}
	c.get(&described, "kinesis", "describe-stream", "--stream-name", c.plan.Stream)
	c.seen.Status, c.seen.ARN = described.StreamDescription.StreamStatus, described.StreamDescription.StreamARN
	// Not with --page-size: the CLI would send the name beside NextToken, which the service refuses.
	for more := []string{"--stream-name", c.plan.Stream}; more != nil; {
		var page struct {
			Shards    []struct{ ShardId string }
			NextToken string
		}
		c.get(&page, append([]string{"kinesis", "list-shards", "--no-paginate", "--max-results", "1"}, more...)...)
		for _, sh := range page.Shards {
			c.seen.Shards = append(c.seen.Shards, sh.ShardId)
		}
		more = nil
		if page.NextToken != "" {
			more = []string{"--next-token", page.NextToken}
		}
	}
	_, stderr, err := c.try("kinesis", "describe-stream-summary", "--stream-name", "none")
	if err == nil {
		c.Error("a stream that is not there is described")
	}
	_, c.seen.Error, _ = strings.Cut(strings.TrimSpace(stderr), "(ResourceNotFoundException) when calling the DescribeStreamSummary operation: ")
}

// page is an answer of get-records.
type page struct {
	Records []struct {
		SequenceNumber, PartitionKey string
		Data                         []byte
		ApproximateArrivalTimestamp  json.RawMessage // a number in version 1, a text in version 2
	}
	NextShardIterator  string
	MillisBehindLatest int64
}

func (c *cli) iterator(shard, kind string, more ...string) string {
	var out struct{ ShardIterator string }
	c.get(&out, append([]string{"kinesis", "get-shard-iterator", "--stream-name", c.plan.Stream, "--shard-id", shard, "--shard-iterator-type", kind}, more...)...)
	return out.ShardIterator
}

// read reads with one call: the plan's records fit into it.
func (c *cli) read(shard, kind string, pivot int, iterator string) read {
	var out page
	c.get(&out, "kinesis", "get-records", "--shard-iterator", iterator)
	if out.MillisBehindLatest != 0 {
		c.Errorf("%s %s stopped %d ms before the tip", shard, kind, out.MillisBehindLatest)
	}
	r := read{Shard: shard, Type: kind, Pivot: pivot}
	for _, rec := range out.Records {
		r.Records = append(r.Records, record{rec.SequenceNumber, rec.PartitionKey, rec.Data, c.millis(rec.ApproximateArrivalTimestamp)})
	}
	return r
}

func (c *cli) millis(text json.RawMessage) int64 {
	var seconds float64
	if json.Unmarshal(text, &seconds) == nil {
		return int64(math.Round(seconds * 1000))
	}
	var at time.Time
	if err := json.Unmarshal(text, &at); err != nil {
		c.Errorf("%s is no time: %v", text, err)
	}
	return at.UnixMilli()
}

// reads reads both shards at a time, and tries the types of iterator with a place on one of them.
func (c *cli) reads() {
	reads, latest := make([][]read, len(c.seen.Shards)), make([]string, len(c.seen.Shards))
	each := func(do func(i int, shard string)) {
		var all sync.WaitGroup
		for i, shard := range c.seen.Shards {
			all.Go(func() { do(i, shard) })
		}
		all.Wait()
	}
	each(func(i int, shard string) {
		r := c.read(shard, "TRIM_HORIZON", -1, c.iterator(shard, "TRIM_HORIZON"))
		reads[i] = append(reads[i], r)
		if len(r.Records) == 0 {
			c.Errorf("%s is empty", shard)
			return
		}
		latest[i] = c.iterator(shard, "LATEST")
		if i > 0 {
			return
		}
		at := len(r.Records) / 2
		seq, when := r.Records[at].Seq, fmt.Sprintf("%.3f", float64(r.Records[at].Arrived)/1000)
		reads[i] = append(reads[i],
			c.read(shard, "AT_SEQUENCE_NUMBER", at, c.iterator(shard, "AT_SEQUENCE_NUMBER", "--starting-sequence-number", seq)),
			c.read(shard, "AFTER_SEQUENCE_NUMBER", at, c.iterator(shard, "AFTER_SEQUENCE_NUMBER", "--starting-sequence-number", seq)),
			c.read(shard, "AT_TIMESTAMP", at, c.iterator(shard, "AT_TIMESTAMP", "--timestamp", when)))
	})
	c.put(c.plan.Last)
	each(func(i int, shard string) { reads[i] = append(reads[i], c.read(shard, "LATEST", -1, latest[i])) })
	for _, r := range reads {
		c.seen.Reads = append(c.seen.Reads, r...)
	}
}

func (c *cli) delivers() {
	destination := object{"RoleARN": "arn:aws:iam::000000000000:role/firehose", "BucketARN": "arn:aws:s3:::" + c.plan.Bucket,
		"BufferingHints": object{"SizeInMBs": 1, "IntervalInSeconds": 0}}
	c.run("firehose", "create-delivery-stream", "--delivery-stream-name", c.plan.Delivery, "--extended-s3-destination-configuration", "file://"+c.asJSON("destination", destination))
	var lines []object
	for _, line := range c.plan.Lines {
		lines = append(lines, object{"Data": line})
	}
	put := []string{"firehose", "put-record", "--delivery-stream-name", c.plan.Delivery, "--record", "file://" + c.asJSON("line", lines[0])}
	c.run(append(put, c.raw...)...)
	batch := []string{"firehose", "put-record-batch", "--delivery-stream-name", c.plan.Delivery, "--records", "file://" + c.asJSON("lines", lines[1:])}
	var out struct {
		FailedPutCount   int
		RequestResponses []struct{ RecordId string }
	}
	c.get(&out, append(batch, c.raw...)...)
	if out.FailedPutCount != 0 || len(out.RequestResponses) != len(lines)-1 {
		c.Errorf("%d of %d lines failed", out.FailedPutCount, len(out.RequestResponses))
	}
}
