package kinesisapi

import (
	"context"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// SplitShard, MergeShards and UpdateShardCount. The stream is UPDATING meanwhile, which takes no
// longer than the call unless the host is told to be as slow as AWS. Puts and reads go on.

type splitShardIn struct {
	NewStartingHashKey *string `aws:"required" pattern:"0|([1-9]\\d{0,38})"`
	StreamName         *string `aws:"min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	ShardToSplit       *string `aws:"required,min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	StreamARN          *string `aws:"min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"`
	StreamId           *string `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
}

func (a *api) splitShard(ctx context.Context, in *splitShardIn) (*empty, error) {
	s, err := a.reshardable(ctx, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	n, err := shardNumber(s.Account, s.Name, *in.ShardToSplit)
	if err != nil {
		return nil, err
	}
	at, ok := shards.ParseHash(*in.NewStartingHashKey)
	if !ok { // above 2^128-1, and so above the end of any shard
		at = shards.MaxHash
	}
	return nil, a.streams.Split(ctx, s, n, at)
}

type mergeShardsIn struct {
	ShardToMerge         *string `aws:"required,min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	AdjacentShardToMerge *string `aws:"required,min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	streamRef
}

func (a *api) mergeShards(ctx context.Context, in *mergeShardsIn) (*empty, error) {
	s, err := a.reshardable(ctx, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	lower, err := shardNumber(s.Account, s.Name, *in.ShardToMerge)
	if err != nil {
		return nil, err
	}
	upper, err := shardNumber(s.Account, s.Name, *in.AdjacentShardToMerge)
	if err != nil {
		return nil, err
	}
	return nil, a.streams.Merge(ctx, s, lower, upper)
}

type updateShardCountIn struct {
	StreamName       *string `aws:"min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	TargetShardCount *int32  `aws:"required,min=1"`
	ScalingType      *string `aws:"required" enum:"UNIFORM_SCALING"`
	StreamARN        *string `aws:"min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"`
	StreamId         *string `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
}

type updateShardCountOut struct {
	StreamName        string
	CurrentShardCount int32
	TargetShardCount  int32
	StreamARN         string
}

// updateShardCount takes what AWS takes: from half of the open shards, rounded down, to twice as many.
func (a *api) updateShardCount(ctx context.Context, in *updateShardCountIn) (*updateShardCountOut, error) {
	s, err := a.reshardable(ctx, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	target, open := int(*in.TargetShardCount), len(s.OpenShards())
	beyond := func(how string) error {
		return errs.New(errs.Limit, "UpdateShardCount cannot scale %s your current open shard count. Current open shard count: %d, Target shard count: %d", how, open, target)
	}
	switch {
	case target > shards.MaxShards:
		return nil, a.tooManyShards(s.Scope, shards.MaxShards, target-open)
	case target > 2*open:
		return nil, beyond("up over double")
	case target < open/2:
		return nil, beyond("down below half")
	}
	if err := a.daily(ctx, s, "UpdateShardCount", scalingsADay); err != nil {
		return nil, err
	}
	before, err := a.streams.Scale(ctx, s, target)
	if err != nil {
		return nil, err
	}
	return &updateShardCountOut{s.Name, int32(before), int32(target), s.ARN()}, nil
}

// reshardable finds a stream whose shards may be changed by request.
func (a *api) reshardable(ctx context.Context, name, arn *string) (*shards.Stream, error) {
	s, err := a.active(ctx, name, arn)
	if err == nil && s.Attributes().Mode == shards.OnDemand {
		err = &awsapi.ValidationError{Message: "Request is invalid. Stream " + s.Name + " under account " + s.Account + " is in On-Demand mode."}
	}
	return s, err
}
