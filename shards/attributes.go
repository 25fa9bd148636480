package shards

import (
	"context"
	"maps"
	"slices"
	"time"
)

// Attributes are what may change about a stream while it lives.
type Attributes struct {
	Mode          string            `json:"mode"`
	Retention     time.Duration     `json:"retention"`
	MaxRecordSize int               `json:"maxRecordSize"` // bytes of data and key
	Tags          map[string]string `json:"tags,omitempty"`
	Policy        string            `json:"policy,omitempty"` // a resource policy, as it was given
	KeyID         string            `json:"keyId,omitempty"`  // what the stream is encrypted with, as it was named
	Key           uint32            `json:"key,omitempty"`    // the same key's number; 0: records are stored as they are
	ShardMetrics  []string          `json:"shardMetrics,omitempty"`
	Distribution  string            `json:"distribution,omitempty"` // Auto, or "" for by partition key
	// WarmMiBps is the throughput, MiB/s of puts, that an on-demand stream is to be ready for: it is
	// given at least as many open shards.
	WarmMiBps int32 `json:"warmMiBps,omitempty"`
	// ExpiredMs is a time, ms since the epoch: what arrived before it had expired when the retention
	// was raised, and must not come back with the longer one.
	ExpiredMs int64 `json:"expiredMs,omitempty"`
	// Changes are when operations were called that may be called so many times a day: ms since the
	// epoch, by operation. Kept only by hosts that limit them.
	Changes map[string][]int64 `json:"changes,omitempty"`
}

// warmShards is how many open shards the stream's warm throughput asks for, at 1 MiB/s each.
func (a *Attributes) warmShards() int {
	if a.Mode != OnDemand {
		return 0
	}
	return min(int(a.WarmMiBps), MaxShards)
}

// Auto is the Distribution of streams that place records themselves, evenly over their shards.
const Auto = "AUTO"

// horizonMs is the time before which nothing can be read any more.
func (a *Attributes) horizonMs(now time.Time) int64 {
	return max(now.Add(-a.Retention).UnixMilli(), a.ExpiredMs)
}

// Attributes are the stream's present attributes. They must not be changed in place.
func (s *Stream) Attributes() *Attributes { return s.attributes.Load() }

// Update changes a stream's attributes, durably and then at once for everybody. change gets a copy;
// its error is Update's, and nothing changes then. A stream that is not ACTIVE is errs.InUse.
func (ss *Streams) Update(ctx context.Context, s *Stream, change func(*Attributes) error) error {
	if s.State() != Active {
		return s.NotActive()
	}
	return ss.update(ctx, s, change)
}

// UpdateSlowly is Update for the attributes whose change takes a stream through UPDATING.
func (ss *Streams) UpdateSlowly(ctx context.Context, s *Stream, change func(*Attributes) error) error {
	if !s.state.CompareAndSwap(Active, Updating) {
		return s.NotActive()
	}
	if err := ss.update(ctx, s, change); err != nil {
		s.state.Store(Active)
		return err
	}
	return ss.finish(ctx, s, ss.delay(s, ss.options.Timing.Update))
}

func (ss *Streams) update(ctx context.Context, s *Stream, change func(*Attributes) error) error {
	s.update.Lock()
	defer s.update.Unlock()
	next := *s.Attributes()
	next.Tags = maps.Clone(next.Tags)
	if next.Tags == nil {
		next.Tags = make(map[string]string)
	}
	if err := change(&next); err != nil {
		return err
	}
	warm, open := next.warmShards(), len(s.OpenShards())
	warmer := warm > s.Attributes().warmShards() && warm > open
	err := ss.writeLocked(ctx, s, func(r *record) {
		r.Attributes = next
		if warmer { // UpdateSlowly goes on with it
			r.Target = warm
		}
	})
	if err != nil {
		return err
	}
	s.attributes.Store(&next)
	return nil
}

// SetRetention changes how long a stream keeps records. A shorter time holds at once. check may
// refuse, seeing the present retention.
func (ss *Streams) SetRetention(ctx context.Context, s *Stream, to time.Duration, check func(now time.Duration) error) error {
	return ss.Update(ctx, s, func(a *Attributes) error {
		if err := check(a.Retention); err != nil {
			return err
		}
		a.ExpiredMs = a.horizonMs(time.Now())
		a.Retention = to
		return nil
	})
}

// TagKeys are the keys of the stream's tags in order.
func (a *Attributes) TagKeys() []string { return slices.Sorted(maps.Keys(a.Tags)) }
