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
	// ExpiredMs is a time, ms since the epoch: what arrived before it had expired when the retention
	// was raised, and must not come back with the longer one.
	ExpiredMs int64 `json:"expiredMs,omitempty"`
}

// horizonMs is the time before which nothing can be read any more.
func (a *Attributes) horizonMs(now time.Time) int64 {
	return max(now.Add(-a.Retention).UnixMilli(), a.ExpiredMs)
}

// Attributes are the stream's present attributes. They must not be changed in place.
func (s *Stream) Attributes() *Attributes { return s.attributes.Load() }

// Update changes a stream's attributes, durably and then at once for everybody. change gets a copy;
// its error is Update's, and nothing changes then.
func (ss *Streams) Update(ctx context.Context, s *Stream, change func(*Attributes) error) error {
	s.update.Lock()
	defer s.update.Unlock()
	if s.State() != Active {
		return s.notFound()
	}
	next := *s.Attributes()
	next.Tags = maps.Clone(next.Tags)
	if next.Tags == nil {
		next.Tags = make(map[string]string)
	}
	if err := change(&next); err != nil {
		return err
	}
	r := s.record
	r.State, r.Attributes = s.State(), next
	v, err := encodeMeta(r)
	if err != nil {
		return err
	}
	if err := ss.apply(ctx, []Op{{Key: s.key(), Value: v}}); err != nil {
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
