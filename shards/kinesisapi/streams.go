package kinesisapi

import (
	"context"
	"time"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// The life of streams: CreateStream, DeleteStream, DescribeStream, DescribeStreamSummary,
// ListStreams. A stream is ACTIVE when CreateStream answers and gone when DeleteStream answers, unless
// the host is told to take its time as AWS does.

const (
	pageLimit = 100 // DescribeStream and ListStreams: default and most
)

type modeDetails struct {
	StreamMode *string `aws:"required" enum:"PROVISIONED,ON_DEMAND"`
}

type createStreamIn struct {
	ShardCount                 *int32  `aws:"min=1"`
	StreamName                 *string `aws:"required,min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	StreamModeDetails          *modeDetails
	Tags                       map[string]string `aws:"min=1,max=200" key:"min=1,max=128" value:"min=0,max=256"`
	WarmThroughputMiBps        *int32            `aws:"min=0"`
	MaxRecordSizeInKiB         *int32            `aws:"min=1024,max=10240"`
	RecordDistributionStrategy *string           `enum:"AUTO,USER_PARTITION_KEY"`
}

func (a *api) createStream(ctx context.Context, in *createStreamIn) (*empty, error) {
	spec := shards.Spec{Name: *in.StreamName, Tags: in.Tags, Mode: shards.OnDemand, Shards: shards.OnDemandShards}
	mode := ""
	if in.StreamModeDetails != nil {
		mode = *in.StreamModeDetails.StreamMode
	}
	switch {
	case mode == shards.OnDemand && in.ShardCount != nil:
		return nil, errs.New(errs.Invalid, "ShardCount is not expected when StreamMode=ON_DEMAND")
	case mode == shards.Provisioned && in.ShardCount == nil:
		return nil, errs.New(errs.Invalid, "ShardCount is required when StreamMode=PROVISIONED")
	case in.ShardCount != nil:
		spec.Mode, spec.Shards = shards.Provisioned, int(*in.ShardCount)
	}
	if err := a.createForThroughput(ctx, in, &spec); err != nil {
		return nil, err
	}
	if spec.Shards > shards.MaxShards {
		return nil, a.tooManyShards(scopeOf(ctx), shards.MaxShards, spec.Shards)
	}
	if err := checkTags(scopeOf(ctx), spec.Name, in.Tags); err != nil {
		return nil, err
	}
	if in.MaxRecordSizeInKiB != nil {
		spec.MaxRecordSize = int(*in.MaxRecordSizeInKiB) << 10
	}
	if err := a.room(scopeOf(ctx), spec); err != nil {
		return nil, err
	}
	_, err := a.streams.Create(ctx, scopeOf(ctx), spec)
	return nil, err
}

// tooManyShards speaks of the account, as AWS does, also where the limit is a stream's.
func (a *api) tooManyShards(sc shards.Scope, limit, wanted int) error {
	have := 0
	for _, s := range a.streams.List(sc) {
		have += len(s.OpenShards())
	}
	return errs.New(errs.Limit, "This request would exceed the shard limit for the account %s in %s. Current shard count for the account: %d. Limit: %d. Number of additional shards that would have resulted from this request: %d. "+
		"Refer to the AWS Service Limits page (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current limits and how to request higher limits.",
		sc.Account, sc.Region, have, limit, wanted)
}

// streamRef is how most operations name their stream.
type streamRef struct {
	StreamName *string `aws:"min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	StreamARN  *string `aws:"min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"`
	StreamId   *string `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
}

type deleteStreamIn struct {
	EnforceConsumerDeletion *bool
	streamRef
}

func (a *api) deleteStream(ctx context.Context, in *deleteStreamIn) (*empty, error) {
	s, err := a.target(ctx, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	consumers, err := s.Consumers(ctx)
	if err != nil {
		return nil, err
	}
	if len(consumers) > 0 && !value(in.EnforceConsumerDeletion) {
		return nil, errs.New(errs.InUse, "DeleteStream can't delete %s because there are consumers associated with this data stream. To delete %s anyway, set the EnforceConsumerDeletion parameter to true to force the deletion of all the consumers that are associated with it.", s.ARN(), s.Name)
	}
	return nil, a.streams.Delete(ctx, s)
}

type hashKeyRange struct{ StartingHashKey, EndingHashKey string }

type sequenceNumberRange struct {
	StartingSequenceNumber string
	EndingSequenceNumber   *string
}

type shardOut struct {
	ShardId               string
	ParentShardId         *string
	AdjacentParentShardId *string
	HashKeyRange          hashKeyRange
	SequenceNumberRange   sequenceNumberRange
}

func describeShard(sh *shards.Shard) shardOut {
	out := shardOut{
		ShardId: sh.String(), HashKeyRange: hashKeyRange{sh.Start.String(), sh.End.String()},
		SequenceNumberRange: sequenceNumberRange{StartingSequenceNumber: sh.StartingSeq().String()},
	}
	for i, parent := range []**string{&out.ParentShardId, &out.AdjacentParentShardId} {
		if i < len(sh.Parents) {
			*parent = ptr(shards.FormatShardID(sh.Parents[i]))
		}
	}
	if !sh.Open() {
		out.SequenceNumberRange.EndingSequenceNumber = ptr(sh.EndingSeq().String())
	}
	return out
}

type modeOut struct{ StreamMode string }

type streamDescription struct {
	StreamName              string
	StreamARN               string
	StreamStatus            string
	StreamModeDetails       modeOut
	Shards                  []shardOut
	HasMoreShards           bool
	RetentionPeriodHours    int32
	StreamCreationTimestamp awsapi.Timestamp
	EnhancedMonitoring      []monitoring
	encryption
}

type describeStreamIn struct {
	Limit                 *int32  `aws:"min=1,max=10000"`
	ExclusiveStartShardId *string `aws:"min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	streamRef
}

type describeStreamOut struct{ StreamDescription streamDescription }

func (a *api) describeStream(ctx context.Context, in *describeStreamIn) (*describeStreamOut, error) {
	s, err := a.target(ctx, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	from := int64(0)
	if in.ExclusiveStartShardId != nil {
		n, err := shardNumber(s.Account, s.Name, *in.ExclusiveStartShardId)
		if err != nil {
			return nil, err
		}
		from = int64(n) + 1
	}
	limit := pageLimit
	if in.Limit != nil {
		limit = min(limit, int(*in.Limit))
	}
	listed := keep(s.Listed(time.Now().UnixMilli()), func(sh *shards.Shard) bool { return int64(sh.Number) >= from })
	page, more := cutPage(listed, 0, limit)
	d := streamDescription{
		StreamName: s.Name, StreamARN: s.ARN(), StreamStatus: string(s.State()),
		StreamModeDetails: modeOut{s.Attributes().Mode}, Shards: []shardOut{}, HasMoreShards: more,
		RetentionPeriodHours: int32(s.Attributes().Retention / time.Hour), StreamCreationTimestamp: awsapi.TimestampOf(s.Created()),
		EnhancedMonitoring: monitoringOf(s), encryption: encryptionOf(s),
	}
	for _, sh := range page {
		d.Shards = append(d.Shards, describeShard(sh))
	}
	return &describeStreamOut{d}, nil
}

func cutPage[T any](all []T, from, limit int) (page []T, more bool) {
	from = min(from, len(all))
	to := min(from+limit, len(all))
	return all[from:to], to < len(all)
}

type streamSummary struct {
	StreamName              string
	StreamARN               string
	StreamStatus            string
	StreamModeDetails       modeOut
	StreamCreationTimestamp awsapi.Timestamp
}

type describeStreamSummaryOut struct{ StreamDescriptionSummary streamDescriptionSummary }

type streamDescriptionSummary struct {
	streamSummary
	RetentionPeriodHours int32
	EnhancedMonitoring   []monitoring
	encryption
	OpenShardCount     int32
	ConsumerCount      int32
	ChannelCount       int32
	MaxRecordSizeInKiB int32
	throughput
}

type describeStreamSummaryIn struct{ streamRef }

func (a *api) describeStreamSummary(ctx context.Context, in *describeStreamSummaryIn) (*describeStreamSummaryOut, error) {
	s, err := a.target(ctx, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	consumers, err := s.Consumers(ctx)
	if err != nil {
		return nil, err
	}
	through, err := a.throughputOf(ctx, s)
	if err != nil {
		return nil, err
	}
	return &describeStreamSummaryOut{streamDescriptionSummary{
		ConsumerCount:        int32(len(consumers)),
		streamSummary:        summarize(s),
		RetentionPeriodHours: int32(s.Attributes().Retention / time.Hour),
		EnhancedMonitoring:   monitoringOf(s),
		encryption:           encryptionOf(s),
		OpenShardCount:       int32(len(s.OpenShards())),
		MaxRecordSizeInKiB:   int32(s.Attributes().MaxRecordSize >> 10),
		throughput:           through,
	}}, nil
}

func summarize(s *shards.Stream) streamSummary {
	return streamSummary{s.Name, s.ARN(), string(s.State()), modeOut{s.Attributes().Mode}, awsapi.TimestampOf(s.Created())}
}

type listStreamsIn struct {
	Limit                    *int32  `aws:"min=1,max=10000"`
	ExclusiveStartStreamName *string `aws:"min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	NextToken                *string `aws:"min=1,max=1048576"`
}

type listStreamsOut struct {
	StreamNames     []string
	HasMoreStreams  bool
	NextToken       *string
	StreamSummaries []streamSummary
}

// listStreams pages by name: the token is the last name listed, as ExclusiveStartStreamName is.
func (a *api) listStreams(ctx context.Context, in *listStreamsIn) (*listStreamsOut, error) {
	after := value(in.ExclusiveStartStreamName)
	if in.NextToken != nil {
		if in.ExclusiveStartStreamName != nil {
			return nil, errs.New(errs.Invalid, "NextToken and ExclusiveStartStreamName cannot be provided together.")
		}
		t, ok := a.tokens.open(*in.NextToken, listStreamsToken)
		if !ok {
			return nil, errs.New(errs.Invalid, "The NextToken is not one that ListStreams has given out.")
		}
		if t.expired() {
			return nil, expiredToken()
		}
		after = t.extra
	}
	limit := pageLimit
	if in.Limit != nil {
		limit = min(limit, int(*in.Limit))
	}
	all := a.streams.List(scopeOf(ctx))
	from := 0
	for from < len(all) && all[from].Name <= after {
		from++
	}
	page, more := cutPage(all, from, limit)
	out := &listStreamsOut{StreamNames: []string{}, HasMoreStreams: more, StreamSummaries: []streamSummary{}}
	for _, s := range page {
		out.StreamNames = append(out.StreamNames, s.Name)
		out.StreamSummaries = append(out.StreamSummaries, summarize(s))
	}
	if more {
		out.NextToken = ptr(a.tokens.seal(token{kind: listStreamsToken, issued: time.Now(), extra: page[len(page)-1].Name}))
	}
	return out, nil
}

func expiredToken() error {
	return &awsapi.Error{Name: "ExpiredNextTokenException", Message: "The NextToken is older than 300 seconds: list from the start again."}
}
