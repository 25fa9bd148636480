package kinesisapi

import (
	"context"
	"time"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/shards"
)

// DescribeAccountSettings and UpdateAccountSettings: the commitment of an account to a minimum of
// throughput in a region. Nobody is billed here; it unlocks what it unlocks on AWS.

type describeAccountSettingsIn struct{}

type accountSettingsOut struct {
	MinimumThroughputBillingCommitment commitmentOut
}

type commitmentOut struct {
	Status               string
	StartedAt            *awsapi.Timestamp
	EndedAt              *awsapi.Timestamp // only of one that has ended
	EarliestAllowedEndAt *awsapi.Timestamp
}

func (a *api) describeAccountSettings(ctx context.Context, _ *describeAccountSettingsIn) (*accountSettingsOut, error) {
	c, err := a.streams.Commitment(ctx, scopeOf(ctx))
	if err != nil {
		return nil, err
	}
	return describeCommitment(c, time.Now()), nil
}

type commitmentIn struct {
	Status *string `aws:"required" enum:"ENABLED,DISABLED"`
}

type updateAccountSettingsIn struct {
	MinimumThroughputBillingCommitment *commitmentIn `aws:"required"`
}

func (a *api) updateAccountSettings(ctx context.Context, in *updateAccountSettingsIn) (*accountSettingsOut, error) {
	c, err := a.streams.Commit(ctx, scopeOf(ctx), *in.MinimumThroughputBillingCommitment.Status == "ENABLED")
	if err != nil {
		return nil, err
	}
	return describeCommitment(c, time.Now()), nil
}

func describeCommitment(c shards.Commitment, now time.Time) *accountSettingsOut {
	out := commitmentOut{Status: "DISABLED"}
	switch {
	case c.Ending(now):
		out.Status = "ENABLED_UNTIL_EARLIEST_ALLOWED_END"
	case c.On(now):
		out.Status = "ENABLED"
	case c.EndedMs != 0:
		out.EndedAt = ptr(awsapi.Timestamp(c.EndedMs))
	}
	if c.StartedMs != 0 {
		out.StartedAt = ptr(awsapi.Timestamp(c.StartedMs))
		out.EarliestAllowedEndAt = ptr(awsapi.Timestamp(c.EarliestEndMs()))
	}
	return &accountSettingsOut{out}
}
