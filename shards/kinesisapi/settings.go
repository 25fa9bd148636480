package kinesisapi

import (
	"context"
	"encoding/json"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// Settings of streams: retention, mode, record size, resource policy; and the limits of the account.

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

// updateStreamMode keeps the shards as they are; the present mode is no error.
func (a *api) updateStreamMode(ctx context.Context, in *updateStreamModeIn) (*empty, error) {
	if in.WarmThroughputMiBps != nil {
		return nil, refuse("WarmThroughputMiBps", "streams here have no throughput to be warmed.")
	}
	s, err := a.active(ctx, nil, in.StreamARN)
	if err != nil || s.Attributes().Mode == *in.StreamModeDetails.StreamMode {
		return nil, err
	}
	if err := a.daily(ctx, s, "UpdateStreamMode", modeChangesADay); err != nil {
		return nil, err
	}
	return nil, a.streams.UpdateSlowly(ctx, s, func(at *shards.Attributes) error {
		at.Mode = *in.StreamModeDetails.StreamMode
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

type putResourcePolicyIn struct {
	ResourceARN *string `aws:"required,min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:.*stream/\\S+"`
	StreamId    *string `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
	Policy      *string `aws:"required"`
}

// putResourcePolicy keeps the text as it is given. Nothing evaluates it: whoever reaches the host
// may do everything.
func (a *api) putResourcePolicy(ctx context.Context, in *putResourcePolicyIn) (*empty, error) {
	s, err := a.target(ctx, nil, in.ResourceARN)
	if err != nil {
		return nil, err
	}
	var policy map[string]any
	if err := json.Unmarshal([]byte(*in.Policy), &policy); err != nil {
		return nil, errs.New(errs.Invalid, "The policy is not a JSON object: %v", err)
	}
	return nil, a.streams.Update(ctx, s, func(at *shards.Attributes) error {
		at.Policy = *in.Policy
		return nil
	})
}

type getResourcePolicyOut struct{ Policy string }

// getResourcePolicy answers an empty object for a stream without a policy, as AWS does.
func (a *api) getResourcePolicy(ctx context.Context, in *resourceIn) (*getResourcePolicyOut, error) {
	s, err := a.target(ctx, nil, in.ResourceARN)
	if err != nil {
		return nil, err
	}
	if p := s.Attributes().Policy; p != "" {
		return &getResourcePolicyOut{p}, nil
	}
	return &getResourcePolicyOut{"{}"}, nil
}

func (a *api) deleteResourcePolicy(ctx context.Context, in *resourceIn) (*empty, error) {
	s, err := a.target(ctx, nil, in.ResourceARN)
	if err != nil {
		return nil, err
	}
	return nil, a.streams.Update(ctx, s, func(at *shards.Attributes) error {
		if at.Policy == "" {
			return errs.New(errs.NotFound, "Stream %s under account %s has no resource policy.", s.Name, s.Account)
		}
		at.Policy = ""
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
