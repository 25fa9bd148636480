package kinesisapi

import (
	"context"
	"slices"

	"github.com/shardmill/shardmill/shards"
)

// EnableEnhancedMonitoring and DisableEnhancedMonitoring: which metrics are kept shard by shard.
// Package shards/metrics serves them.

type monitoringIn struct {
	ShardLevelMetrics []string `aws:"required,min=1,max=7" elem:"enum=IncomingBytes|IncomingRecords|OutgoingBytes|OutgoingRecords|WriteProvisionedThroughputExceeded|ReadProvisionedThroughputExceeded|IteratorAgeMilliseconds|ALL"`
	streamRef
}

type monitoringOut struct {
	StreamName               string
	CurrentShardLevelMetrics []string // before the call
	DesiredShardLevelMetrics []string // after it
	StreamARN                string
}

func (a *api) enableEnhancedMonitoring(ctx context.Context, in *monitoringIn) (*monitoringOut, error) {
	return a.monitor(ctx, in, func(now []string, metric string) bool {
		return slices.Contains(now, metric) || in.names(metric)
	})
}

func (a *api) disableEnhancedMonitoring(ctx context.Context, in *monitoringIn) (*monitoringOut, error) {
	return a.monitor(ctx, in, func(now []string, metric string) bool {
		return slices.Contains(now, metric) && !in.names(metric)
	})
}

// names reports whether the request names a metric, by itself or with all others.
func (in *monitoringIn) names(metric string) bool {
	return slices.Contains(in.ShardLevelMetrics, metric) || slices.Contains(in.ShardLevelMetrics, "ALL")
}

// monitor sets the stream's metrics to those that want wants.
func (a *api) monitor(ctx context.Context, in *monitoringIn, want func(now []string, metric string) bool) (*monitoringOut, error) {
	s, err := a.target(ctx, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	out := &monitoringOut{StreamName: s.Name, StreamARN: s.ARN(), DesiredShardLevelMetrics: []string{}}
	err = a.streams.Update(ctx, s, func(at *shards.Attributes) error {
		out.CurrentShardLevelMetrics = append([]string{}, at.ShardMetrics...)
		for _, m := range shards.ShardMetrics {
			if want(at.ShardMetrics, m) {
				out.DesiredShardLevelMetrics = append(out.DesiredShardLevelMetrics, m)
			}
		}
		at.ShardMetrics = out.DesiredShardLevelMetrics
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

type monitoring struct{ ShardLevelMetrics []string }

func monitoringOf(s *shards.Stream) []monitoring {
	return []monitoring{{append([]string{}, s.Attributes().ShardMetrics...)}}
}
