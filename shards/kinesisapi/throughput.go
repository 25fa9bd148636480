package kinesisapi

import (
	"context"
	"time"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// What on-demand streams have: warm throughput, which an account's commitment unlocks, and a strategy
// by which records are distributed. AWS's sentences about both are not known.

// maxWarmMiBps is 10 GiB/s.
const maxWarmMiBps = 10 << 10

// userPartitionKey is the strategy of streams that have no other.
const userPartitionKey = "USER_PARTITION_KEY"

// createForThroughput completes what a stream is created from. A stream that is to be warm begins
// with a shard for each MiB/s.
func (a *api) createForThroughput(ctx context.Context, in *createStreamIn, spec *shards.Spec) error {
	if in.RecordDistributionStrategy != nil {
		if spec.Mode != shards.OnDemand {
			return notDistributed(scopeOf(ctx), spec.Name)
		}
		spec.Distribution = distribution(*in.RecordDistributionStrategy)
	}
	if in.WarmThroughputMiBps == nil {
		return nil
	}
	spec.WarmMiBps = *in.WarmThroughputMiBps
	if err := a.mayWarm(ctx, scopeOf(ctx), spec.Name, spec.Mode, spec.WarmMiBps); err != nil {
		return err
	}
	spec.Shards = min(max(spec.Shards, int(spec.WarmMiBps)), shards.MaxShards)
	return nil
}

func invalidRequest(format string, args ...any) error {
	return &awsapi.ValidationError{Message: errs.New(errs.Invalid, format, args...).Msg}
}

// mayWarm is nil if a stream of the mode may have the warm throughput.
func (a *api) mayWarm(ctx context.Context, sc shards.Scope, name, mode string, mibps int32) error {
	if mode != shards.OnDemand {
		return invalidRequest("Request is invalid. WarmThroughputMiBps is for streams in On-Demand mode, and stream %s under account %s is not, or is not to be.", name, sc.Account)
	}
	c, err := a.streams.Commitment(ctx, sc)
	if err != nil {
		return err
	}
	if !c.On(time.Now()) {
		return invalidRequest("Request is invalid. WarmThroughputMiBps needs the MinimumThroughputBillingCommitment of account %s in %s to be ENABLED: see UpdateAccountSettings.", sc.Account, sc.Region)
	}
	if mibps > maxWarmMiBps {
		return errs.New(errs.Limit, "The warm throughput of stream %s under account %s can be at most %d MiB/s. Requested: %d.", name, sc.Account, maxWarmMiBps, mibps)
	}
	return nil
}

type updateStreamWarmThroughputIn struct {
	WarmThroughputMiBps *int32 `aws:"required,min=0"`
	streamRef
}

type updateStreamWarmThroughputOut struct {
	StreamARN      string
	StreamName     string
	WarmThroughput warmThroughput
}

func (a *api) updateStreamWarmThroughput(ctx context.Context, in *updateStreamWarmThroughputIn) (*updateStreamWarmThroughputOut, error) {
	s, err := a.active(ctx, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	err = a.streams.UpdateSlowly(ctx, s, func(at *shards.Attributes) error {
		at.WarmMiBps = *in.WarmThroughputMiBps
		return a.mayWarm(ctx, s.Scope, s.Name, at.Mode, at.WarmMiBps)
	})
	if err != nil {
		return nil, err
	}
	return &updateStreamWarmThroughputOut{s.ARN(), s.Name, warmthOf(s)}, nil
}

type warmThroughput struct {
	TargetMiBps  int32
	CurrentMiBps int32
}

// warmthOf is what a stream is to be ready for and what it is ready for, a shard taking 1 MiB/s.
func warmthOf(s *shards.Stream) warmThroughput {
	target := s.Attributes().WarmMiBps
	return warmThroughput{target, min(target, int32(len(s.OpenShards())))}
}

type updateStreamRecordDistributionStrategyIn struct {
	StreamARN                  *string `aws:"required,min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"`
	StreamId                   *string `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
	RecordDistributionStrategy *string `aws:"required" enum:"AUTO,USER_PARTITION_KEY"`
}

func (a *api) updateStreamRecordDistributionStrategy(ctx context.Context, in *updateStreamRecordDistributionStrategyIn) (*empty, error) {
	s, err := a.target(ctx, nil, in.StreamARN)
	if err != nil {
		return nil, err
	}
	return nil, a.streams.Update(ctx, s, func(at *shards.Attributes) error {
		if at.Mode != shards.OnDemand {
			return notDistributed(s.Scope, s.Name)
		}
		at.Distribution = distribution(*in.RecordDistributionStrategy)
		return nil
	})
}

// distribution is a strategy as streams keep it.
func distribution(strategy string) string {
	if strategy == userPartitionKey {
		return ""
	}
	return strategy
}

func notDistributed(sc shards.Scope, name string) error {
	return errs.New(errs.Invalid, "RecordDistributionStrategy is for streams in On-Demand mode, and stream %s under account %s is not, or is not to be.", name, sc.Account)
}

// throughput is what the summary of a stream says of these: nothing of a provisioned one, and nothing
// of warm throughput in an account that has no commitment.
type throughput struct {
	WarmThroughput             *warmThroughput
	RecordDistributionStrategy *string
}

func (a *api) throughputOf(ctx context.Context, s *shards.Stream) (out throughput, err error) {
	at := s.Attributes()
	if at.Mode != shards.OnDemand {
		return out, nil
	}
	out.RecordDistributionStrategy = ptr(userPartitionKey)
	if at.Distribution != "" {
		out.RecordDistributionStrategy = &at.Distribution
	}
	c, err := a.streams.Commitment(ctx, s.Scope)
	if c.On(time.Now()) {
		out.WarmThroughput = ptr(warmthOf(s))
	}
	return out, err
}
