package kinesisapi

import (
	"context"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// Settings of streams: retention, mode, record size; and the limits of the account.

const (
	minRetention = 24   // hours
	maxRetention = 8760 // hours
)

type retentionIn struct {
	RetentionPeriodHours *int32 `aws:"required"`
	streamRef
}

// increaseStreamRetentionPeriod takes the present period too, as AWS does. Raising it brings
// nothing back that has expired.
func (a *api) increaseStreamRetentionPeriod(ctx context.Context, in *retentionIn) (*empty, error) {
	return nil, a.setRetention(ctx, in, func(s *shards.Stream, wanted, now int32) error {
		if wanted < now {
			return errs.New(errs.Invalid, "Requested retention period (%d hours) for stream %s can not be shorter than existing retention period (%d hours). Use DecreaseRetentionPeriod API.", wanted, s.Name, now)
		}
		return nil
	})
}

func (a *api) decreaseStreamRetentionPeriod(ctx context.Context, in *retentionIn) (*empty, error) {
	return nil, a.setRetention(ctx, in, func(s *shards.Stream, wanted, now int32) error {
		if wanted > now {
			return errs.New(errs.Invalid, "Requested retention period (%d hours) for stream %s can not be longer than existing retention period (%d hours). Use IncreaseRetentionPeriod API.", wanted, s.Name, now)
		}
		return nil
	})
}

func (a *api) setRetention(ctx context.Context, in *retentionIn, check func(s *shards.Stream, wanted, now int32) error) error {
	s, err := a.target(ctx, in.StreamName, in.StreamARN)
	if err != nil {
		return err
	}
	hours := *in.RetentionPeriodHours
	switch {
	case hours < minRetention:
		return errs.New(errs.Invalid, "Minimum allowed retention period is %d hours. Requested retention period (%d hours) is too short.", minRetention, hours)
	case hours > maxRetention:
		return errs.New(errs.Invalid, "Maximum allowed retention period is %d hours. Requested retention period (%d hours) is too long.", maxRetention, hours)
	}
	return a.streams.SetRetention(ctx, s, time.Duration(hours)*time.Hour, func(now time.Duration) error {
		return check(s, hours, int32(now/time.Hour))
	})
}

type updateStreamModeIn struct {
	StreamARN           *string      `aws:"required,min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"`
	StreamId            *string      `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
	StreamModeDetails   *modeDetails `aws:"required"`
	WarmThroughputMiBps *int32       `aws:"min=0"`
}

// updateStreamMode keeps the shards as they are; the present mode is no error. A provisioned stream
// has no warm throughput, and what it had as an on-demand one is forgotten.
func (a *api) updateStreamMode(ctx context.Context, in *updateStreamModeIn) (*empty, error) {
	s, err := a.active(ctx, nil, in.StreamARN)
	if err != nil {
		return nil, err
	}
	mode := *in.StreamModeDetails.StreamMode
	if in.WarmThroughputMiBps != nil {
		if err := a.mayWarm(ctx, s.Scope, s.Name, mode, *in.WarmThroughputMiBps); err != nil {
			return nil, err
		}
	}
	if s.Attributes().Mode != mode {
		if err := a.daily(ctx, s, "UpdateStreamMode", modeChangesADay); err != nil {
			return nil, err
		}
	} else if in.WarmThroughputMiBps == nil {
		return nil, nil
	}
	return nil, a.streams.UpdateSlowly(ctx, s, func(at *shards.Attributes) error {
		at.Mode = mode
		if mode == shards.Provisioned {
			at.WarmMiBps = 0
			if at.Distribution == shards.Auto { // AWS's sentence is not known
				return errs.New(errs.Invalid, "Stream %s under account %s has the RecordDistributionStrategy AUTO, which provisioned streams cannot have: change it with UpdateStreamRecordDistributionStrategy first.", s.Name, s.Account)
			}
		}
		if in.WarmThroughputMiBps != nil {
			at.WarmMiBps = *in.WarmThroughputMiBps
		}
		return nil
	})
}

type updateMaxRecordSizeIn struct {
	StreamARN          *string `aws:"min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"`
	StreamId           *string `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
	MaxRecordSizeInKiB *int32  `aws:"required,min=1024,max=10240"`
}

func (a *api) updateMaxRecordSize(ctx context.Context, in *updateMaxRecordSizeIn) (*empty, error) {
	s, err := a.target(ctx, nil, in.StreamARN)
	if err != nil {
		return nil, err
	}
	return nil, a.streams.Update(ctx, s, func(at *shards.Attributes) error {
		at.MaxRecordSize = int(*in.MaxRecordSizeInKiB) << 10
		return nil
	})
}

type describeLimitsIn struct{}

type describeLimitsOut struct {
	ShardLimit               int32
	OpenShardCount           int32
	OnDemandStreamCount      int32
	OnDemandStreamCountLimit int32
}

// describeLimits tells the limits that a host keeps which is told to keep them, and never less than
// what there is.
func (a *api) describeLimits(ctx context.Context, _ *describeLimitsIn) (*describeLimitsOut, error) {
	out := &describeLimitsOut{ShardLimit: shardLimit, OnDemandStreamCountLimit: onDemandLimit}
	for _, s := range a.streams.List(scopeOf(ctx)) {
		if s.Attributes().Mode == shards.OnDemand {
			out.OnDemandStreamCount++
		} else {
			out.OpenShardCount += int32(len(s.OpenShards()))
		}
	}
	out.ShardLimit = max(out.ShardLimit, out.OpenShardCount)
	out.OnDemandStreamCountLimit = max(out.OnDemandStreamCountLimit, out.OnDemandStreamCount)
	return out, nil
}
