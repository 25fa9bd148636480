package clients

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// lineageOf decides which shard is read next: a child when all its parents have ended.
type lineageOf struct {
	ready   []passage
	parents map[string][]string
	ended   map[string]bool
}

func newLineage(first ...string) *lineageOf {
	l := &lineageOf{parents: make(map[string][]string), ended: make(map[string]bool)}
	for _, shard := range first {
		l.ready = append(l.ready, passage{Shard: shard})
	}
	return l
}

func (l *lineageOf) next() (p passage, ok bool) {
	if len(l.ready) == 0 {
		return p, false
	}
	p, l.ready = l.ready[0], l.ready[1:]
	return p, true
}

// end notes that a shard has ended, and its children.
func (l *lineageOf) end(shard string, children map[string][]string) {
	l.ended[shard] = true
	for child, parents := range children {
		l.parents[child] = parents
	}
	for child, parents := range l.parents {
		if !slices.ContainsFunc(parents, func(p string) bool { return !l.ended[p] }) {
			l.ready = append(l.ready, passage{Shard: child, Parents: parents})
			delete(l.parents, child)
		}
	}
}

// cliAcross is the AWS CLI's turn. It splits only, which takes long enough, and polls only: the CLI
// has no subscribe-to-shard.
type cliAcross struct {
	*cli
	plan resharded
	seen reshardedSeen
}

func acrossCLI(t *testing.T, path string) {
	h, p := newServer(t), newResharded("cli")
	p.Parts = 3
	c := &cliAcross{cli: &cli{T: t, path: path, env: environ(h.URL()), dir: t.TempDir(), plan: plan{Stream: p.Stream}}, plan: p}
	if strings.HasPrefix(c.run("--version"), "aws-cli/2") {
		c.raw = []string{"--cli-binary-format", "raw-in-base64-out"}
	}
	c.run("kinesis", "create-stream", "--stream-name", p.Stream, "--shard-count", "1")
	c.putPart()
	var splitting sync.WaitGroup
	splitting.Go(func() {
		c.run("kinesis", "split-shard", "--stream-name", p.Stream, "--shard-to-split", shardNo(0), "--new-starting-hash-key", p.Half)
	})
	c.putPart()
	splitting.Wait()
	c.putPart()
	for l := newLineage(shardNo(0)); ; {
		shard, ok := l.next()
		if !ok {
			break
		}
		if children := c.poll(&shard); len(children) > 0 {
			l.end(shard.Shard, children)
		}
		c.seen.Polled = append(c.seen.Polled, shard)
	}
	p.check(t, &c.seen, false)
}

func (c *cliAcross) putPart() {
	var batch []object
	for i := range c.plan.Part {
		i += len(c.seen.Put)
		batch = append(batch, object{"PartitionKey": c.plan.Keys[i%len(c.plan.Keys)], "Data": strconv.Itoa(i)})
	}
	var out struct {
		Records []struct{ ShardId, SequenceNumber string }
	}
	c.get(&out, append([]string{"kinesis", "put-records", "--stream-name", c.plan.Stream, "--records", "file://" + c.asJSON("batch", batch)}, c.raw...)...)
	for _, r := range out.Records {
		c.seen.Put = append(c.seen.Put, placed{r.ShardId, r.SequenceNumber})
	}
}

// poll reads a shard to its end, or, if it is open, what one call gives: all that is there.
func (c *cliAcross) poll(shard *passage) (children map[string][]string) {
	for it := c.iterator(shard.Shard, "TRIM_HORIZON"); ; {
		var out struct {
			page
			ChildShards []struct {
				ShardId      string
				ParentShards []string
			}
		}
		c.get(&out, "kinesis", "get-records", "--shard-iterator", it)
		for _, r := range out.Records {
			shard.Records = append(shard.Records, numbered{r.SequenceNumber, r.PartitionKey, string(r.Data)})
		}
		if (out.NextShardIterator == "") != (len(out.ChildShards) > 0) {
			c.Fatalf("an answer has the iterator %q and %d children", out.NextShardIterator, len(out.ChildShards))
		}
		if it = out.NextShardIterator; it == "" {
			children = make(map[string][]string)
			for _, child := range out.ChildShards {
				children[child.ShardId] = child.ParentShards
			}
			return children
		}
		if shard.Parents != nil {
			return nil
		}
	}
}

// goAcross is the Go SDK's turn.
type goAcross struct {
	*testing.T
	plan     resharded
	kinesis  *kinesis.Client
	consumer string
	pushed   int // records
	seen     reshardedSeen
}

func acrossGo(t *testing.T) {
	h, p := newServer(t), newResharded("go")
	url := h.URL()
	a := &goAcross{T: t, plan: p, kinesis: kinesis.New(kinesis.Options{Region: "us-east-1", BaseEndpoint: &url, Credentials: anyone})}
	_, err := a.kinesis.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: &p.Stream, ShardCount: aws.Int32(1)})
	if err != nil {
		t.Fatal(err)
	}
	registered, err := a.kinesis.RegisterStreamConsumer(t.Context(), &kinesis.RegisterStreamConsumerInput{StreamARN: &p.ARN, ConsumerName: aws.String("go")})
	if err != nil {
		t.Fatal(err)
	}
	a.consumer = *registered.Consumer.ConsumerARN
	var pushing sync.WaitGroup
	pushing.Go(func() { a.seen.Pushed = a.follow(a.subscribe) })
	a.puts()
	a.seen.Polled = a.follow(a.poll)
	pushing.Wait()
	p.check(t, &a.seen, true)
}

func (a *goAcross) puts() {
	var resharding sync.WaitGroup
	for part := range a.plan.Parts {
		resharding.Go(func() { a.reshard(part) })
		for range a.plan.Part {
			i := len(a.seen.Put)
			out, err := a.kinesis.PutRecord(a.Context(), &kinesis.PutRecordInput{StreamName: &a.plan.Stream, PartitionKey: &a.plan.Keys[i%len(a.plan.Keys)], Data: []byte(strconv.Itoa(i))})
			if err != nil {
				a.Fatal(err)
			}
			a.seen.Put = append(a.seen.Put, placed{*out.ShardId, *out.SequenceNumber})
		}
		resharding.Wait()
	}
}

func (a *goAcross) reshard(part int) {
	var err error
	switch part {
	case 1:
		_, err = a.kinesis.SplitShard(a.Context(), &kinesis.SplitShardInput{StreamName: &a.plan.Stream, ShardToSplit: aws.String(shardNo(0)), NewStartingHashKey: &a.plan.Half})
	case 3:
		_, err = a.kinesis.MergeShards(a.Context(), &kinesis.MergeShardsInput{StreamName: &a.plan.Stream, ShardToMerge: aws.String(shardNo(1)), AdjacentShardToMerge: aws.String(shardNo(2))})
	}
	if err != nil {
		a.Error(err)
	}
}

// follow reads all shards, parents before children.
func (a *goAcross) follow(read func(shard *passage) ([]types.ChildShard, error)) (passages []passage) {
	for l := newLineage(shardNo(0)); ; {
		shard, ok := l.next()
		if !ok {
			return passages
		}
		named, err := read(&shard)
		if err != nil {
			a.Errorf("%s: %v", shard.Shard, err)
			return passages
		}
		children := make(map[string][]string)
		for _, c := range named {
			children[*c.ShardId] = c.ParentShards
		}
		if len(children) > 0 {
			l.end(shard.Shard, children)
		}
		passages = append(passages, shard)
	}
}

func (p *passage) take(records []types.Record) {
	for _, r := range records {
		p.Records = append(p.Records, numbered{*r.SequenceNumber, *r.PartitionKey, string(r.Data)})
	}
}

func (a *goAcross) poll(shard *passage) ([]types.ChildShard, error) {
	first, err := a.kinesis.GetShardIterator(a.Context(), &kinesis.GetShardIteratorInput{StreamName: &a.plan.Stream, ShardId: &shard.Shard, ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
	if err != nil {
		return nil, err
	}
	for it := first.ShardIterator; ; {
		out, err := a.kinesis.GetRecords(a.Context(), &kinesis.GetRecordsInput{ShardIterator: it, Limit: aws.Int32(25)})
		if err != nil {
			return nil, err
		}
		shard.take(out.Records)
		if (out.NextShardIterator == nil) != (len(out.ChildShards) > 0) {
			return nil, fmt.Errorf("an answer has the iterator %q and %d children", aws.ToString(out.NextShardIterator), len(out.ChildShards))
		}
		if it = out.NextShardIterator; it == nil || *out.MillisBehindLatest == 0 && len(out.Records) == 0 {
			return out.ChildShards, nil
		}
	}
}

func (a *goAcross) subscribe(shard *passage) (children []types.ChildShard, err error) {
	out, err := a.kinesis.SubscribeToShard(a.Context(), &kinesis.SubscribeToShardInput{ConsumerARN: &a.consumer, ShardId: &shard.Shard,
		StartingPosition: &types.StartingPosition{Type: types.ShardIteratorTypeTrimHorizon}})
	if err != nil {
		return nil, err
	}
	stream := out.GetStream()
	defer stream.Close()
	for e := range stream.Events() {
		event := e.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent).Value
		if len(children) > 0 || (event.ContinuationSequenceNumber == nil) != (len(event.ChildShards) > 0) {
			return nil, fmt.Errorf("an event has the continuation %q and %d children, after one with %d", aws.ToString(event.ContinuationSequenceNumber), len(event.ChildShards), len(children))
		}
		shard.take(event.Records)
		a.pushed += len(event.Records)
		children = event.ChildShards
		if len(children) == 0 && a.pushed == a.plan.Parts*a.plan.Part {
			return nil, nil
		}
	}
	return children, stream.Err()
}
