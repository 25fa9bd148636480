package firehoseapi_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"
)

// client is AWS's own client, pointed at the server.
func (s *server) client() *firehose.Client {
	return firehose.New(firehose.Options{
		BaseEndpoint: aws.String(s.url),
		Region:       "us-east-1",
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: "secret"}, nil
		}),
		Retryer: aws.NopRetryer{},
	})
}

// The life of a delivery stream as AWS's client lives it.
func TestAWSClient(t *testing.T) {
	s := serve(t)
	c, ctx := s.client(), t.Context()
	name := aws.String("orders")
	created, err := c.CreateDeliveryStream(ctx, &firehose.CreateDeliveryStreamInput{
		DeliveryStreamName: name,
		DeliveryStreamType: types.DeliveryStreamTypeDirectPut,
		ExtendedS3DestinationConfiguration: &types.ExtendedS3DestinationConfiguration{
			RoleARN: aws.String(role), BucketARN: aws.String(bucket),
			BufferingHints:    &types.BufferingHints{SizeInMBs: aws.Int32(1), IntervalInSeconds: aws.Int32(0)},
			CompressionFormat: types.CompressionFormatUncompressed,
		},
		Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("blue")}},
	})
	if err != nil {
		t.Fatal(err)
	}
	const arn = "arn:aws:firehose:us-east-1:000000000000:deliverystream/orders"
	if got := aws.ToString(created.DeliveryStreamARN); got != arn {
		t.Fatalf("ARN %s, want %s", got, arn)
	}

	described, err := c.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: name})
	if err != nil {
		t.Fatal(err)
	}
	d := described.DeliveryStreamDescription
	to := d.Destinations[0].ExtendedS3DestinationDescription
	got := fmt.Sprint(aws.ToString(d.DeliveryStreamARN), d.DeliveryStreamStatus, d.DeliveryStreamType, aws.ToString(d.VersionId),
		d.DeliveryStreamEncryptionConfiguration.Status, aws.ToBool(d.HasMoreDestinations), aws.ToString(to.BucketARN),
		aws.ToInt32(to.BufferingHints.SizeInMBs), aws.ToInt32(to.BufferingHints.IntervalInSeconds), to.CompressionFormat, to.S3BackupMode)
	if want := fmt.Sprint(arn, "ACTIVE", "DirectPut", "1", "DISABLED", false, bucket, 1, 0, "UNCOMPRESSED", "Disabled"); got != want {
		t.Fatalf("described as %s, want %s", got, want)
	}
	if at := aws.ToTime(d.CreateTimestamp); time.Since(at).Abs() > time.Minute {
		t.Fatalf("created at %s", at)
	}

	one, err := c.PutRecord(ctx, &firehose.PutRecordInput{DeliveryStreamName: name, Record: &types.Record{Data: []byte("one\n")}})
	if err != nil || !recordID.MatchString(aws.ToString(one.RecordId)) || aws.ToBool(one.Encrypted) {
		t.Fatalf("%+v, %v", one, err)
	}
	s.waitDelivered("orders")
	batch, err := c.PutRecordBatch(ctx, &firehose.PutRecordBatchInput{DeliveryStreamName: name,
		Records: []types.Record{{Data: []byte("two\n")}, {Data: []byte{}}, {Data: []byte("three\n")}}})
	if err != nil || aws.ToInt32(batch.FailedPutCount) != 0 || len(batch.RequestResponses) != 3 {
		t.Fatalf("%+v, %v", batch, err)
	}
	s.waitDelivered("orders")
	if got := s.contents(); got != "one\ntwo\nthree\n" && got != "two\nthree\none\n" { // two objects, of the same second perhaps
		t.Fatalf("delivered %q", got)
	}

	list, err := c.ListDeliveryStreams(ctx, &firehose.ListDeliveryStreamsInput{})
	if err != nil || fmt.Sprint(list.DeliveryStreamNames) != "[orders]" || aws.ToBool(list.HasMoreDeliveryStreams) {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, err := c.DeleteDeliveryStream(ctx, &firehose.DeleteDeliveryStreamInput{DeliveryStreamName: name}); err != nil {
		t.Fatal(err)
	}
	_, err = c.PutRecord(ctx, &firehose.PutRecordInput{DeliveryStreamName: name, Record: &types.Record{Data: []byte("late")}})
	if e := new(types.ResourceNotFoundException); !errors.As(err, &e) {
		t.Fatalf("a put after the deletion: %v", err)
	}
}

// Errors reach the client as the types that its code tells apart.
func TestAWSClientSeesTypedErrors(t *testing.T) {
	s := serve(t)
	c, ctx := s.client(), t.Context()
	s.create("taken")
	create := func(in firehose.CreateDeliveryStreamInput) error {
		in.ExtendedS3DestinationConfiguration = &types.ExtendedS3DestinationConfiguration{RoleARN: aws.String(role), BucketARN: aws.String(bucket)}
		_, err := c.CreateDeliveryStream(ctx, &in)
		return err
	}
	inUse := new(types.ResourceInUseException)
	if err := create(firehose.CreateDeliveryStreamInput{DeliveryStreamName: aws.String("taken")}); !errors.As(err, &inUse) ||
		inUse.ErrorMessage() != "Firehose taken under accountId 000000000000 already exists" {
		t.Errorf("a name that is taken: %v", err)
	}
	invalid := new(types.InvalidArgumentException)
	if err := create(firehose.CreateDeliveryStreamInput{DeliveryStreamName: aws.String("d"), DeliveryStreamType: types.DeliveryStreamTypeKinesisStreamAsSource,
		KinesisStreamSourceConfiguration: &types.KinesisStreamSourceConfiguration{RoleARN: aws.String(role),
			KinesisStreamARN: aws.String("arn:aws:kinesis:us-east-1:000000000000:stream/none")}}); !errors.As(err, &invalid) {
		t.Errorf("a source that does not exist: %v", err)
	}
	_, err := c.DescribeDeliveryStream(ctx, &firehose.DescribeDeliveryStreamInput{DeliveryStreamName: aws.String("none")})
	if e := new(types.ResourceNotFoundException); !errors.As(err, &e) {
		t.Errorf("an unknown name: %v", err)
	}
}
