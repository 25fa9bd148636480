package eventsource

import (
	"context"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// Starting positions.
const (
	TrimHorizon = "TRIM_HORIZON"
	Latest      = "LATEST"
	AtTimestamp = "AT_TIMESTAMP"
)

// ReportBatchItemFailures is the one FunctionResponseType there is.
const ReportBatchItemFailures = "ReportBatchItemFailures"

// Config is what a user says of a mapping, in Lambda's words and units.
type Config struct {
	EventSourceARN     string   `json:"eventSourceArn"` // of a stream, or of a registered consumer of one
	BatchSize          int      `json:"batchSize"`      // records, 1..10,000
	BatchingWindow     int      `json:"batchingWindow"` // seconds, 0..300
	Parallelization    int      `json:"parallelization"`
	StartingPosition   string   `json:"startingPosition"`
	StartingMs         int64    `json:"startingMs,omitempty"` // of AT_TIMESTAMP
	MaximumRetries     int      `json:"maximumRetries"`       // -1: until the records expire
	MaximumAge         int      `json:"maximumAge"`           // seconds, -1: no limit
	Bisect             bool     `json:"bisect"`
	TumblingWindow     int      `json:"tumblingWindow"` // seconds, 0..900; 0: none
	ReportItemFailures bool     `json:"reportItemFailures"`
	Filters            []string `json:"filters,omitempty"`
	OnFailure          string   `json:"onFailure,omitempty"` // ARN
	Enabled            bool     `json:"enabled"`
}

// Defaults are Lambda's for Kinesis.
func Defaults() Config {
	return Config{BatchSize: 100, Parallelization: 1, MaximumRetries: -1, MaximumAge: -1, Enabled: true}
}

// check refuses what cannot be. Ranges are checked where requests come in, too; here they hold for
// mappings from every origin.
func (c *Config) check(destination func(string) (Destination, error)) error {
	for _, r := range []struct {
		name        string
		v, min, max int
	}{
		{"BatchSize", c.BatchSize, 1, 10_000},
		{"MaximumBatchingWindowInSeconds", c.BatchingWindow, 0, 300},
		{"ParallelizationFactor", c.Parallelization, 1, 10},
		{"MaximumRetryAttempts", c.MaximumRetries, -1, 10_000},
		{"MaximumRecordAgeInSeconds", c.MaximumAge, -1, 604_800},
		{"TumblingWindowInSeconds", c.TumblingWindow, 0, 900},
	} {
		if r.v < r.min || r.v > r.max {
			return errs.New(errs.Invalid, "%s is %d, and must be between %d and %d.", r.name, r.v, r.min, r.max)
		}
	}
	if c.MaximumAge >= 0 && c.MaximumAge < 60 {
		return errs.New(errs.Invalid, "MaximumRecordAgeInSeconds is %d, and must be -1 or at least 60.", c.MaximumAge)
	}
	switch c.StartingPosition {
	case TrimHorizon, Latest:
		if c.StartingMs != 0 {
			return errs.New(errs.Invalid, "StartingPositionTimestamp goes with StartingPosition AT_TIMESTAMP only.")
		}
	case AtTimestamp:
		if c.StartingMs == 0 {
			return errs.New(errs.Invalid, "StartingPosition AT_TIMESTAMP needs a StartingPositionTimestamp.")
		}
		if c.StartingMs > time.Now().UnixMilli() {
			return errs.New(errs.Invalid, "StartingPositionTimestamp must not lie in the future.")
		}
	default:
		return errs.New(errs.Invalid, "StartingPosition is %q, and must be TRIM_HORIZON, LATEST or AT_TIMESTAMP.", c.StartingPosition)
	}
	if len(c.Filters) > 10 {
		return errs.New(errs.Invalid, "%d filters are more than 10.", len(c.Filters))
	}
	if _, err := compileFilters(c.Filters); err != nil {
		return err
	}
	if c.OnFailure != "" {
		if destination == nil {
			return errs.New(errs.Invalid, "OnFailure: this host has no destinations.")
		}
		if _, err := destination(c.OnFailure); err != nil {
			return err
		}
	}
	return nil
}

// lanes is on how many lanes a shard is read. A window's state is one a shard, so there is one lane.
func (c *Config) lanes() int {
	if c.TumblingWindow > 0 {
		return 1
	}
	return c.Parallelization
}

// startIn is the position after which a mapping begins in a shard that is there when it is created.
// Shards that had closed before the start are out of scope.
func (c *Config) startIn(ctx context.Context, s *shards.Stream, sh *shards.Shard) (pos shards.Pos, inScope bool, err error) {
	switch c.StartingPosition {
	case TrimHorizon:
		pos, err = s.Horizon(ctx, sh)
		return pos, true, err
	case AtTimestamp:
		pos, err = s.Seek(ctx, sh, c.StartingMs)
		return pos, sh.Open() || sh.ClosedMs >= c.StartingMs, err
	}
	pos, err = s.Tip(ctx, sh)
	return pos, sh.Open(), err
}
