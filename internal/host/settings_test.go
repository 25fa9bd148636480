package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsfirehose "github.com/aws/aws-sdk-go-v2/service/firehose"
	firehosetypes "github.com/aws/aws-sdk-go-v2/service/firehose/types"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/rs/zerolog"

	"github.com/shardmill/shardmill/internal/config"
)

// Records of an encrypted stream are delivered in the clear, are nowhere in the journal, and read
// after a restart as before.
func TestAnEncryptedStreamFromPutToObject(t *testing.T) {
	states := filepath.Join(t.TempDir(), "states.yaml")
	if err := os.WriteFile(states, []byte("keys:\n  - {key: alias/off, state: disabled}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := open(t, func(c *config.Config) { c.KMSKeys = states })
	k, ctx := caller(w, "any", "any"), t.Context()
	name, arn := aws.String("s"), aws.String("arn:aws:kinesis:us-east-1:000000000000:stream/s")
	if _, err := k.CreateStream(ctx, &kinesis.CreateStreamInput{StreamName: name, ShardCount: aws.Int32(2)}); err != nil {
		t.Fatal(err)
	}
	var disabled *types.KMSDisabledException
	if _, err := k.StartStreamEncryption(ctx, &kinesis.StartStreamEncryptionInput{StreamName: name, EncryptionType: types.EncryptionTypeKms, KeyId: aws.String("alias/off")}); !errors.As(err, &disabled) {
		t.Fatalf("a key that is marked as disabled: %v", err)
	}
	if _, err := k.StartStreamEncryption(ctx, &kinesis.StartStreamEncryptionInput{StreamName: name, EncryptionType: types.EncryptionTypeKms, KeyId: aws.String("alias/aws/kinesis")}); err != nil {
		t.Fatal(err)
	}
	_, err := w.api.CreateDeliveryStream(ctx, &awsfirehose.CreateDeliveryStreamInput{DeliveryStreamName: aws.String("d"), DeliveryStreamType: firehosetypes.DeliveryStreamTypeKinesisStreamAsSource,
		KinesisStreamSourceConfiguration: &firehosetypes.KinesisStreamSourceConfiguration{KinesisStreamARN: arn, RoleARN: aws.String("arn:aws:iam::000000000000:role/r")},
		ExtendedS3DestinationConfiguration: &firehosetypes.ExtendedS3DestinationConfiguration{
			RoleARN: aws.String("arn:aws:iam::000000000000:role/r"), BucketARN: aws.String("arn:aws:s3:::bucket"), Prefix: aws.String("d/"),
			BufferingHints: &firehosetypes.BufferingHints{SizeInMBs: aws.Int32(1), IntervalInSeconds: aws.Int32(0)}}})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 20 {
		id := fmt.Sprint("unmistakable-", i)
		want = append(want, id)
		out, err := k.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: name, PartitionKey: &id, Data: event(id)})
		if err != nil || out.EncryptionType != types.EncryptionTypeKms {
			t.Fatal(out, err)
		}
	}
	w.awaitDelivered("d", len(want))
	exactlyOnce(t, want, w.ids("d"))
	w.close()

	journal, err := filepath.Glob(filepath.Join(w.cfg.Data, "log", "*"))
	if err != nil || len(journal) == 0 {
		t.Fatal(journal, err)
	}
	keys := 0
	for _, path := range journal {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if keys += strings.Count(string(b), "unmistakable-"); strings.Contains(string(b), "Somewhere") {
			t.Errorf("%s holds plain data", path)
		}
	}
	if keys != len(want) {
		t.Errorf("control: the partition keys are seen %d times in the journal, want %d", keys, len(want))
	}

	if w.host, err = Open(ctx, w.cfg, zerolog.New(w.log).Level(zerolog.InfoLevel), Observer{}); err != nil {
		t.Fatal(err)
	}
	k = caller(w, "any", "any")
	read := 0
	for shard := range 2 {
		it, err := k.GetShardIterator(ctx, &kinesis.GetShardIteratorInput{StreamName: name, ShardId: aws.String(fmt.Sprint(shard)), ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
		if err != nil {
			t.Fatal(err)
		}
		page, err := k.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range page.Records {
			if read++; string(r.Data) != string(event(*r.PartitionKey)) || r.EncryptionType != types.EncryptionTypeKms {
				t.Errorf("%s reads as %s %s", *r.PartitionKey, r.Data, r.EncryptionType)
			}
		}
	}
	if read != len(want) {
		t.Errorf("%d records, want %d", read, len(want))
	}
}

func TestMetricsOverHTTP(t *testing.T) {
	w := open(t)
	k := caller(w, "any", "any")
	put := func(ctx context.Context) {
		t.Helper()
		if _, err := k.PutRecord(ctx, &kinesis.PutRecordInput{StreamName: aws.String("s"), PartitionKey: aws.String("k"), Data: []byte("abc")}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("s"), ShardCount: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	put(t.Context())
	if _, err := k.EnableEnhancedMonitoring(t.Context(), &kinesis.EnableEnhancedMonitoringInput{StreamName: aws.String("s"), ShardLevelMetrics: []types.MetricsName{types.MetricsNameIncomingRecords}}); err != nil {
		t.Fatal(err)
	}
	put(t.Context())
	res, err := http.Get(w.host.URL() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/plain; version=0.0.4; charset=utf-8" {
		t.Fatalf("%s %s %v", res.Status, res.Header.Get("Content-Type"), err)
	}
	for _, line := range []string{
		`shardmill_incoming_bytes_total{account="000000000000",region="us-east-1",stream="s"} 8`,
		`shardmill_shard_incoming_records_total{account="000000000000",region="us-east-1",stream="s",shard="shardId-000000000000"} 1`,
	} {
		if !strings.Contains(string(text), "\n"+line+"\n") {
			t.Errorf("%s is not in\n%s", line, text)
		}
	}
}
