package clients

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	firehosetypes "github.com/aws/aws-sdk-go-v2/service/firehose/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

var anyone = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "AK", SecretAccessKey: "SK"}, nil
})

// goClient lives through the plan with the AWS SDK for Go.
type goClient struct {
	*testing.T
	kinesis *kinesis.Client
	plan    plan
	seen    observed
}

func TestGo(t *testing.T) {
	if testing.Short() {
		t.Skip("runs a whole host")
	}
	t.Parallel()
	h, p := newServer(t), newPlan("go")
	url := h.URL()
	c := &goClient{T: t, plan: p, kinesis: kinesis.New(kinesis.Options{Region: "us-east-1", BaseEndpoint: &url, Credentials: anyone})}
	c.puts()
	c.describes()
	c.reads()
	p.check(t, &c.seen, time.Millisecond)
	c.sets()
	c.delivers(firehose.New(firehose.Options{Region: "us-east-1", BaseEndpoint: &url, Credentials: anyone}))
	h.awaitDelivery(t, len(p.Lines))
	p.checkObjects(t, objectsOf(t, url, p.Bucket))
}

func (c *goClient) must(err error) {
	c.Helper()
	if err != nil {
		c.Fatal(err)
	}
}

func (c *goClient) put(e entry) {
	out, err := c.kinesis.PutRecord(c.Context(), &kinesis.PutRecordInput{StreamName: &c.plan.Stream, PartitionKey: &e.Key, Data: e.Data})
	c.must(err)
	c.seen.Put = append(c.seen.Put, placed{*out.ShardId, *out.SequenceNumber})
}

func (c *goClient) puts() {
	_, err := c.kinesis.CreateStream(c.Context(), &kinesis.CreateStreamInput{StreamName: &c.plan.Stream, ShardCount: aws.Int32(2)})
	c.must(err)
	c.must(kinesis.NewStreamExistsWaiter(c.kinesis).Wait(c.Context(), &kinesis.DescribeStreamInput{StreamName: &c.plan.Stream}, 5*time.Second))
	for _, e := range c.plan.Single {
		c.put(e)
	}
	var batch []types.PutRecordsRequestEntry
	for _, e := range c.plan.Batch {
		batch = append(batch, types.PutRecordsRequestEntry{PartitionKey: &e.Key, Data: e.Data})
	}
	out, err := c.kinesis.PutRecords(c.Context(), &kinesis.PutRecordsInput{StreamName: &c.plan.Stream, Records: batch})
	c.must(err)
	if *out.FailedRecordCount != 0 {
		c.Fatalf("%d records failed", *out.FailedRecordCount)
	}
	for _, r := range out.Records {
		c.seen.Put = append(c.seen.Put, placed{*r.ShardId, *r.SequenceNumber})
	}
}

func (c *goClient) describes() {
	out, err := c.kinesis.DescribeStream(c.Context(), &kinesis.DescribeStreamInput{StreamName: &c.plan.Stream})
	c.must(err)
	c.seen.Status, c.seen.ARN = string(out.StreamDescription.StreamStatus), *out.StreamDescription.StreamARN
	for in := (&kinesis.ListShardsInput{StreamARN: &c.seen.ARN, MaxResults: aws.Int32(1)}); in != nil; {
		page, err := c.kinesis.ListShards(c.Context(), in)
		c.must(err)
		for _, sh := range page.Shards {
			c.seen.Shards = append(c.seen.Shards, *sh.ShardId)
		}
		in = nil
		if page.NextToken != nil {
			in = &kinesis.ListShardsInput{NextToken: page.NextToken}
		}
	}
	_, err = c.kinesis.DescribeStreamSummary(c.Context(), &kinesis.DescribeStreamSummaryInput{StreamName: aws.String("none")})
	var missing *types.ResourceNotFoundException
	if !errors.As(err, &missing) {
		c.Fatal(err)
	}
	c.seen.Error = missing.ErrorMessage()
}

func (c *goClient) iterator(shard, kind string, pivot *types.Record) *string {
	in := &kinesis.GetShardIteratorInput{StreamName: &c.plan.Stream, ShardId: &shard, ShardIteratorType: types.ShardIteratorType(kind)}
	switch kind {
	case "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER":
		in.StartingSequenceNumber = pivot.SequenceNumber
	case "AT_TIMESTAMP":
		in.Timestamp = pivot.ApproximateArrivalTimestamp
	}
	out, err := c.kinesis.GetShardIterator(c.Context(), in)
	c.must(err)
	return out.ShardIterator
}

func (c *goClient) read(shard, kind string, at int, it *string) []types.Record {
	r, all := read{Shard: shard, Type: kind, Pivot: at}, []types.Record(nil)
	for behind := int64(1); behind > 0; {
		page, err := c.kinesis.GetRecords(c.Context(), &kinesis.GetRecordsInput{ShardIterator: it, Limit: aws.Int32(20)})
		c.must(err)
		for _, rec := range page.Records {
			r.Records = append(r.Records, record{*rec.SequenceNumber, *rec.PartitionKey, rec.Data, rec.ApproximateArrivalTimestamp.UnixMilli()})
		}
		it, behind, all = page.NextShardIterator, *page.MillisBehindLatest, append(all, page.Records...)
	}
	c.seen.Reads = append(c.seen.Reads, r)
	return all
}

func (c *goClient) reads() {
	latest := make(map[string]*string)
	for _, shard := range c.seen.Shards {
		all := c.read(shard, "TRIM_HORIZON", -1, c.iterator(shard, "TRIM_HORIZON", nil))
		at := len(all) / 2
		for _, kind := range []string{"AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "AT_TIMESTAMP"} {
			c.read(shard, kind, at, c.iterator(shard, kind, &all[at]))
		}
		latest[shard] = c.iterator(shard, "LATEST", nil)
	}
	c.put(c.plan.Last)
	for _, shard := range c.seen.Shards {
		c.read(shard, "LATEST", -1, latest[shard])
	}
}

// sets changes settings: encryption, monitoring, tags of a consumer, distribution.
func (c *goClient) sets() {
	ctx := c.Context()
	key := aws.String("alias/aws/kinesis")
	_, err := c.kinesis.StartStreamEncryption(ctx, &kinesis.StartStreamEncryptionInput{StreamName: &c.plan.Stream, EncryptionType: types.EncryptionTypeKms, KeyId: key})
	c.must(err)
	put, err := c.kinesis.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: &c.plan.Stream, PartitionKey: aws.String("secret"), Data: []byte("sealed")})
	c.must(err)
	it, err := c.kinesis.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: &c.plan.Stream, ShardId: put.ShardId, ShardIteratorType: types.ShardIteratorTypeAtSequenceNumber, StartingSequenceNumber: put.SequenceNumber})
	c.must(err)
	page, err := c.kinesis.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
	c.must(err)
	if put.EncryptionType != types.EncryptionTypeKms || len(page.Records) != 1 || string(page.Records[0].Data) != "sealed" || page.Records[0].EncryptionType != types.EncryptionTypeKms {
		c.Errorf("an encrypted record: %+v, %+v", put, page.Records)
	}
	d, err := c.kinesis.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: &c.plan.Stream})
	c.must(err)
	if s := d.StreamDescriptionSummary; s.EncryptionType != types.EncryptionTypeKms || *s.KeyId != *key {
		c.Errorf("an encrypted stream: %+v", s)
	}
	_, err = c.kinesis.StopStreamEncryption(ctx, &kinesis.StopStreamEncryptionInput{StreamName: &c.plan.Stream, EncryptionType: types.EncryptionTypeKms, KeyId: key})
	c.must(err)

	m, err := c.kinesis.EnableEnhancedMonitoring(ctx, &kinesis.EnableEnhancedMonitoringInput{StreamName: &c.plan.Stream, ShardLevelMetrics: []types.MetricsName{types.MetricsNameAll}})
	c.must(err)
	if len(m.CurrentShardLevelMetrics) != 0 || len(m.DesiredShardLevelMetrics) != 7 {
		c.Errorf("monitoring: %+v", m)
	}

	r, err := c.kinesis.RegisterStreamConsumer(ctx, &kinesis.RegisterStreamConsumerInput{StreamARN: &c.seen.ARN, ConsumerName: aws.String("tagged"), Tags: map[string]string{"a": "1"}})
	c.must(err)
	_, err = c.kinesis.TagResource(ctx, &kinesis.TagResourceInput{ResourceARN: r.Consumer.ConsumerARN, Tags: map[string]string{"b": "2"}})
	c.must(err)
	tags, err := c.kinesis.ListTagsForResource(ctx, &kinesis.ListTagsForResourceInput{ResourceARN: r.Consumer.ConsumerARN})
	c.must(err)
	if len(tags.Tags) != 2 || *tags.Tags[0].Key != "a" || *tags.Tags[1].Value != "2" {
		c.Errorf("tags of a consumer: %+v", tags.Tags)
	}

	auto := aws.String("auto-" + c.plan.Stream)
	_, err = c.kinesis.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: auto, RecordDistributionStrategy: types.RecordDistributionStrategyAuto})
	c.must(err)
	out, err := c.kinesis.PutRecords(ctx, &kinesis.PutRecordsInput{StreamName: auto, Records: []types.PutRecordsRequestEntry{{Data: []byte("a")}, {Data: []byte("b")}}})
	c.must(err)
	if *out.FailedRecordCount != 0 || *out.Records[0].ShardId == *out.Records[1].ShardId {
		c.Errorf("records without keys: %+v", out.Records)
	}
}

func (c *goClient) delivers(f *firehose.Client) {
	_, err := f.CreateDeliveryStream(c.Context(), &firehose.CreateDeliveryStreamInput{
		DeliveryStreamName: &c.plan.Delivery,
		ExtendedS3DestinationConfiguration: &firehosetypes.ExtendedS3DestinationConfiguration{
			RoleARN: aws.String("arn:aws:iam::000000000000:role/firehose"), BucketARN: aws.String("arn:aws:s3:::" + c.plan.Bucket),
			BufferingHints: &firehosetypes.BufferingHints{SizeInMBs: aws.Int32(1), IntervalInSeconds: aws.Int32(0)},
		},
	})
	c.must(err)
	var lines []firehosetypes.Record
	for _, line := range c.plan.Lines {
		lines = append(lines, firehosetypes.Record{Data: []byte(line)})
	}
	_, err = f.PutRecord(c.Context(), &firehose.PutRecordInput{DeliveryStreamName: &c.plan.Delivery, Record: &lines[0]})
	c.must(err)
	out, err := f.PutRecordBatch(c.Context(), &firehose.PutRecordBatchInput{DeliveryStreamName: &c.plan.Delivery, Records: lines[1:]})
	c.must(err)
	if *out.FailedPutCount != 0 || len(out.RequestResponses) != len(lines)-1 {
		c.Fatalf("%d of %d lines failed", *out.FailedPutCount, len(out.RequestResponses))
	}
}

// objectsOf reads all objects of a bucket with the AWS SDK for Go.
func objectsOf(t *testing.T, url, bucket string) (texts []string) {
	t.Helper()
	c := s3.New(s3.Options{Region: "us-east-1", BaseEndpoint: &url, Credentials: anyone, UsePathStyle: true})
	listed, err := c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: &bucket})
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range listed.Contents {
		object, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: &bucket, Key: o.Key})
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(object.Body)
		object.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		texts = append(texts, string(b))
	}
	return texts
}
