package kinesisapi_test

import (
	"context"
	"errors"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func sdk(t *testing.T, h *host) *kinesis.Client {
	srv := httptest.NewServer(h.api)
	t.Cleanup(srv.Close)
	return kinesis.New(kinesis.Options{
		Region: "us-east-1", BaseEndpoint: &srv.URL, RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "any", SecretAccessKey: "any"}, nil
		}),
	})
}

// TestEveryOperationThroughTheGoSDK is the life of a stream as a program lives it.
func TestEveryOperationThroughTheGoSDK(t *testing.T) {
	c, ctx := sdk(t, open(t, vfs.NewMem())), t.Context()
	name := aws.String("orders")
	arn := "arn:aws:kinesis:us-east-1:000000000000:stream/orders"
	before := time.Now().Truncate(time.Millisecond)
	_, err := c.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: name, ShardCount: aws.Int32(2), MaxRecordSizeInKiB: aws.Int32(2048), Tags: map[string]string{"team": "ops: 1"},
		StreamModeDetails: &types.StreamModeDetails{StreamMode: types.StreamModeProvisioned}})
	if err != nil {
		t.Fatal(err)
	}
	if err := kinesis.NewStreamExistsWaiter(c).Wait(ctx, &kinesis.DescribeStreamInput{StreamName: name}, time.Second); err != nil {
		t.Fatal("a new stream is not ACTIVE at once:", err)
	}

	described, err := c.DescribeStream(ctx, &kinesis.DescribeStreamInput{StreamARN: &arn})
	if err != nil {
		t.Fatal(err)
	}
	d := described.StreamDescription
	if *d.StreamName != "orders" || *d.StreamARN != arn || d.StreamStatus != types.StreamStatusActive || d.StreamModeDetails.StreamMode != types.StreamModeProvisioned ||
		len(d.Shards) != 2 || *d.HasMoreShards || *d.RetentionPeriodHours != 24 || d.StreamCreationTimestamp.Before(before) || d.EncryptionType != types.EncryptionTypeNone ||
		len(d.EnhancedMonitoring) != 1 || len(d.EnhancedMonitoring[0].ShardLevelMetrics) != 0 {
		t.Errorf("DescribeStream: %+v", d)
	}
	summary, err := c.DescribeStreamSummary(ctx, &kinesis.DescribeStreamSummaryInput{StreamName: name})
	if err != nil {
		t.Fatal(err)
	}
	if s := summary.StreamDescriptionSummary; *s.StreamARN != arn || *s.OpenShardCount != 2 || *s.ConsumerCount != 0 || *s.MaxRecordSizeInKiB != 2048 || s.StreamId != nil || s.RecordDistributionStrategy != "" {
		t.Errorf("DescribeStreamSummary: %+v", s)
	}
	listed, err := c.ListStreams(ctx, &kinesis.ListStreamsInput{})
	if err != nil || !slices.Equal(listed.StreamNames, []string{"orders"}) || len(listed.StreamSummaries) != 1 || *listed.HasMoreStreams || listed.NextToken != nil {
		t.Errorf("ListStreams: %+v, %v", listed, err)
	}

	want := putThroughSDK(t, c, name)
	shards, err := c.ListShards(ctx, &kinesis.ListShardsInput{StreamName: name, ShardFilter: &types.ShardFilter{Type: types.ShardFilterTypeAtLatest}})
	if err != nil || len(shards.Shards) != 2 || shards.NextToken != nil {
		t.Fatalf("ListShards: %+v, %v", shards, err)
	}
	for _, sh := range shards.Shards {
		if got := readThroughSDK(t, c, name, *sh.ShardId); !slices.Equal(got, want[*sh.ShardId]) {
			t.Errorf("%s holds %q, want %q", *sh.ShardId, got, want[*sh.ShardId])
		}
	}

	if _, err := c.DeleteStream(ctx, &kinesis.DeleteStreamInput{StreamName: name, EnforceConsumerDeletion: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	if err := kinesis.NewStreamNotExistsWaiter(c).Wait(ctx, &kinesis.DescribeStreamInput{StreamName: name}, time.Second); err != nil {
		t.Fatal("a deleted stream is still there:", err)
	}
}

// putThroughSDK puts records one by one and in a batch, and returns their data by shard.
func putThroughSDK(t *testing.T, c *kinesis.Client, stream *string) map[string][]string {
	t.Helper()
	want := make(map[string][]string)
	note := func(shard *string, data []byte) { want[*shard] = append(want[*shard], string(data)) }
	for i := range 5 {
		data := fmt.Appendf(nil, "single-%d", i)
		out, err := c.PutRecord(t.Context(), &kinesis.PutRecordInput{StreamName: stream, PartitionKey: aws.String(fmt.Sprint(i)), Data: data})
		if err != nil || out.EncryptionType != "" {
			t.Fatal(out, err)
		}
		note(out.ShardId, data)
	}
	var batch []types.PutRecordsRequestEntry
	for i := range 500 {
		batch = append(batch, types.PutRecordsRequestEntry{PartitionKey: aws.String(fmt.Sprint("ключ-", i)), Data: fmt.Appendf(nil, "batch-%d", i)})
	}
	out, err := c.PutRecords(t.Context(), &kinesis.PutRecordsInput{StreamName: stream, Records: batch})
	if err != nil || *out.FailedRecordCount != 0 || len(out.Records) != len(batch) {
		t.Fatalf("PutRecords: %+v, %v", out, err)
	}
	for i, r := range out.Records {
		note(r.ShardId, batch[i].Data)
	}
	return want
}

// readThroughSDK reads a shard from its start to its tip, 100 records at a time.
func readThroughSDK(t *testing.T, c *kinesis.Client, stream *string, shard string) (data []string) {
	t.Helper()
	it, err := c.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamName: stream, ShardId: &shard, ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
	if err != nil {
		t.Fatal(err)
	}
	for next, behind := it.ShardIterator, int64(1); behind > 0; {
		page, err := c.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: next, Limit: aws.Int32(100)})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Records {
			data = append(data, string(r.Data))
		}
		next, behind = page.NextShardIterator, *page.MillisBehindLatest
	}
	return data
}

func TestTheGoSDKKnowsOurErrors(t *testing.T) {
	c := sdk(t, open(t, vfs.NewMem()))
	_, err := c.DescribeStream(t.Context(), &kinesis.DescribeStreamInput{StreamName: aws.String("none")})
	var notFound *types.ResourceNotFoundException
	if !errors.As(err, &notFound) || notFound.ErrorMessage() != "Stream none under account 000000000000 not found." {
		t.Errorf("DescribeStream: %v", err)
	}
	_, err = c.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: aws.String("AAAA")})
	var invalid *types.InvalidArgumentException
	if !errors.As(err, &invalid) || invalid.ErrorMessage() != "Invalid ShardIterator." {
		t.Errorf("GetRecords: %v", err)
	}
	_, err = c.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("s"), ShardCount: aws.Int32(1), RecordDistributionStrategy: types.RecordDistributionStrategyAuto})
	if !errors.As(err, &invalid) || invalid.ErrorMessage() != "RecordDistributionStrategy is for streams in On-Demand mode, and stream s under account 000000000000 is not, or is not to be." {
		t.Errorf("CreateStream: %v", err)
	}
}
