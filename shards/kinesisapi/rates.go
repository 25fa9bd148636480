package kinesisapi

import (
	"context"
	"sync"
	"time"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// AWS's limits on calls, for hosts that are told to keep them: so many a second for each operation and
// account ("Kinesis docs: quotas and limits"), and a few a day for each stream. Operations that are
// limited by shard are not here: their room does that.

var callsASecond = map[string]float64{
	"CreateStream": 5, "DeleteStream": 5, "DescribeStream": 10, "DescribeStreamSummary": 20, "ListStreams": 5,
	"ListShards": 1000, "SplitShard": 5, "MergeShards": 5, "UpdateShardCount": 10,
	"RegisterStreamConsumer": 5, "DeregisterStreamConsumer": 5, "DescribeStreamConsumer": 20, "ListStreamConsumers": 5,
	"IncreaseStreamRetentionPeriod": 5, "DecreaseStreamRetentionPeriod": 5, "EnableEnhancedMonitoring": 5, "DisableEnhancedMonitoring": 5,
	"UpdateStreamWarmThroughput": 5, "AddTagsToStream": 5, "RemoveTagsFromStream": 5, "ListTagsForStream": 5,
	"DescribeLimits": 1, "DescribeAccountSettings": 5, "UpdateAccountSettings": 5,
	"CreateChannel": 5, "UpdateChannel": 5, "DescribeChannel": 5, "DeleteChannel": 5, "ListChannels": 5,
}

// What may be asked of one stream in 24 hours.
const (
	scalingsADay    = 10
	modeChangesADay = 2
	encryptionsADay = 25 // started, and as many stopped
	day             = 24 * time.Hour
)

// rates counts calls by operation and account.
type rates struct {
	mu  sync.Mutex
	all map[rateKey]*shards.Bucket
}

type rateKey struct {
	operation string
	scope     shards.Scope
}

// limit makes an operation refuse the calls that are too many.
func (r *rates) limit(op awsapi.Op) awsapi.Op {
	perSecond, limited := callsASecond[op.Name]
	if !limited {
		return op
	}
	return op.After(func(ctx context.Context) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		key := rateKey{op.Name, scopeOf(ctx)}
		calls := r.all[key]
		if calls == nil {
			calls = new(shards.Bucket)
			r.all[key] = calls
		}
		if !calls.Take(time.Now(), perSecond) {
			return errs.New(errs.Limit, "Rate exceeded for %s under account %s: %g calls a second are allowed.", op.Name, key.scope.Account, perSecond)
		}
		return nil
	})
}

// daily counts a change of a stream, and refuses it if there were as many in the last 24 hours as there
// may be.
func (a *api) daily(ctx context.Context, s *shards.Stream, what string, most int) error {
	if !a.limits {
		return nil
	}
	return a.streams.Update(ctx, s, func(at *shards.Attributes) error {
		now := time.Now()
		var kept []int64
		for _, ms := range at.Changes[what] {
			if now.Sub(time.UnixMilli(ms)) < day {
				kept = append(kept, ms)
			}
		}
		if len(kept) >= most {
			return errs.New(errs.Limit, "%s was called %d times for stream %s under account %s in the last 24 hours, which is as often as it may be.", what, len(kept), s.Name, s.Account)
		}
		changes := map[string][]int64{}
		for k, v := range at.Changes {
			changes[k] = v
		}
		changes[what] = append(kept, now.UnixMilli())
		at.Changes = changes
		return nil
	})
}

// Limits of an account, and how many streams may be CREATING at once.
const (
	shardLimit    = 20_000
	onDemandLimit = 50
	creatingLimit = 5
)

// room refuses a new stream that would be beyond the account's limits.
func (a *api) room(sc shards.Scope, spec shards.Spec) error {
	if !a.limits {
		return nil
	}
	open, onDemand, creating := 0, 0, 0
	for _, s := range a.streams.List(sc) {
		open += len(s.OpenShards())
		if s.Attributes().Mode == shards.OnDemand {
			onDemand++
		}
		if s.State() == shards.Creating {
			creating++
		}
	}
	switch {
	case open+spec.Shards > shardLimit:
		return a.tooManyShards(sc, shardLimit, spec.Shards)
	case spec.Mode == shards.OnDemand && onDemand >= onDemandLimit:
		return errs.New(errs.Limit, "The account %s has %d on-demand streams in %s, which is as many as it may have.", sc.Account, onDemand, sc.Region)
	case creating >= creatingLimit:
		return errs.New(errs.Limit, "%d streams of the account %s are being created in %s, which is as many as may be at once.", creating, sc.Account, sc.Region)
	}
	return nil
}
