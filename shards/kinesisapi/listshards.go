package kinesisapi

import (
	"context"
	"encoding/json"
	"time"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

const listShardsLimit = 1000 // default and most

type shardFilter struct {
	Type      *string `aws:"required" enum:"AFTER_SHARD_ID,AT_TRIM_HORIZON,FROM_TRIM_HORIZON,AT_LATEST,AT_TIMESTAMP,FROM_TIMESTAMP"`
	ShardId   *string `aws:"min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	Timestamp *awsapi.Timestamp
}

type listShardsIn struct {
	ExclusiveStartShardId   *string `aws:"min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	MaxResults              *int32  `aws:"min=1,max=10000"`
	NextToken               *string `aws:"min=1,max=1048576"`
	StreamCreationTimestamp *awsapi.Timestamp
	ShardFilter             *shardFilter
	streamRef
}

type listShardsOut struct {
	Shards    []shardOut
	NextToken *string
}

// listShards lists by number. A token carries the stream, the last shard and the filter, so that
// MaxResults is all that may stand beside it.
func (a *api) listShards(ctx context.Context, in *listShardsIn) (*listShardsOut, error) {
	s, filter, from, err := a.listFrom(ctx, in)
	if err != nil {
		return nil, err
	}
	listed, err := filterShards(s, filter)
	if err != nil {
		return nil, err
	}
	for len(listed) > 0 && int64(listed[0].Number) <= from {
		listed = listed[1:]
	}
	limit := listShardsLimit
	if in.MaxResults != nil {
		limit = min(limit, int(*in.MaxResults))
	}
	page, more := cutPage(listed, 0, limit)
	out := &listShardsOut{Shards: []shardOut{}}
	for _, sh := range page {
		out.Shards = append(out.Shards, describeShard(sh))
	}
	if more {
		f, err := json.Marshal(filter)
		if err != nil {
			return nil, err
		}
		out.NextToken = ptr(a.tokens.seal(token{kind: listShardsToken, stream: s.ID, shard: page[len(page)-1].Number, issued: time.Now(), extra: string(f)}))
	}
	return out, nil
}

// listFrom finds the stream, the filter and the number of the shard after which the list starts.
func (a *api) listFrom(ctx context.Context, in *listShardsIn) (s *shards.Stream, f *shardFilter, after int64, err error) {
	if in.NextToken != nil {
		return a.listOn(ctx, in)
	}
	if in.StreamName == nil && in.StreamARN == nil {
		return nil, nil, 0, errs.New(errs.Invalid, "Either NextToken or StreamName should be provided.")
	}
	if s, err = a.target(ctx, in.StreamName, in.StreamARN); err != nil {
		return nil, nil, 0, err
	}
	if s.State() == shards.Creating {
		return nil, nil, 0, s.NotActive()
	}
	if t := in.StreamCreationTimestamp; t != nil && t.Time().Unix() != s.Created().Unix() {
		return nil, nil, 0, noStream(s)
	}
	if in.ExclusiveStartShardId == nil {
		return s, in.ShardFilter, -1, nil
	}
	n, err := shardNumber(s.Account, s.Name, *in.ExclusiveStartShardId)
	return s, in.ShardFilter, int64(n), err
}

func (a *api) listOn(ctx context.Context, in *listShardsIn) (*shards.Stream, *shardFilter, int64, error) {
	for _, other := range []struct {
		name  string
		given bool
	}{
		{"StreamName", in.StreamName != nil},
		{"StreamARN", in.StreamARN != nil},
		{"ExclusiveStartShardId", in.ExclusiveStartShardId != nil},
		{"StreamCreationTimestamp", in.StreamCreationTimestamp != nil},
		{"ShardFilter", in.ShardFilter != nil},
	} {
		if other.given {
			return nil, nil, 0, errs.New(errs.Invalid, "NextToken and %s cannot be provided together.", other.name)
		}
	}
	t, ok := a.tokens.open(*in.NextToken, listShardsToken)
	if !ok {
		return nil, nil, 0, errs.New(errs.Invalid, "The NextToken is not one that ListShards has given out.")
	}
	if t.expired() {
		return nil, nil, 0, expiredToken()
	}
	s := a.streams.ByID(t.stream)
	if s == nil {
		return nil, nil, 0, errs.New(errs.NotFound, "The stream of the NextToken does not exist any more.")
	}
	if err := permit(ctx, s); err != nil {
		return nil, nil, 0, err
	}
	var f *shardFilter
	err := json.Unmarshal([]byte(t.extra), &f)
	return s, f, int64(t.shard), err
}

func shardNumber(account, stream, id string) (uint32, error) {
	n, ok := shards.ParseShardID(id)
	if !ok {
		return 0, errs.New(errs.NotFound, "Could not find shard %s in stream %s under account %s.", id, stream, account)
	}
	return n, nil
}

func filterShards(s *shards.Stream, f *shardFilter) ([]*shards.Shard, error) {
	now := time.Now()
	all := s.Listed(now.UnixMilli())
	if f == nil {
		return all, nil
	}
	kind := *f.Type
	if (kind == "AT_TIMESTAMP" || kind == "FROM_TIMESTAMP") != (f.Timestamp != nil) {
		return nil, errs.New(errs.Invalid, "ShardFilter of type %s and Timestamp do not go together: the types AT_TIMESTAMP and FROM_TIMESTAMP need one, others must have none.", kind)
	}
	if (kind == "AFTER_SHARD_ID") != (f.ShardId != nil) {
		return nil, errs.New(errs.Invalid, "ShardFilter of type %s and ShardId do not go together: the type AFTER_SHARD_ID needs one, others must have none.", kind)
	}
	switch kind {
	case "AFTER_SHARD_ID":
		n, err := shardNumber(s.Account, s.Name, *f.ShardId)
		if err != nil {
			return nil, err
		}
		return keep(all, func(sh *shards.Shard) bool { return sh.Number > n }), nil
	case "AT_LATEST":
		return keep(all, (*shards.Shard).Open), nil
	case "AT_TRIM_HORIZON":
		return openAt(s, all, 0, now), nil
	case "AT_TIMESTAMP":
		if f.Timestamp.Time().After(now) {
			return nil, errs.New(errs.Invalid, "The Timestamp of the ShardFilter lies in the future.")
		}
		return openAt(s, all, int64(*f.Timestamp), now), nil
	case "FROM_TIMESTAMP":
		return keep(all, func(sh *shards.Shard) bool { return sh.Open() || sh.ClosedMs >= int64(*f.Timestamp) }), nil
	}
	return all, nil // FROM_TRIM_HORIZON
}

// openAt are the shards that were open at a time, or at the trim horizon if that is later. They cover
// every hash key once.
func openAt(s *shards.Stream, all []*shards.Shard, ms int64, now time.Time) []*shards.Shard {
	ms = max(ms, s.CreatedMs, now.Add(-s.Attributes().Retention).UnixMilli())
	return keep(all, func(sh *shards.Shard) bool { return sh.OpenedMs <= ms && (sh.Open() || sh.ClosedMs > ms) })
}

func keep(all []*shards.Shard, want func(*shards.Shard) bool) (out []*shards.Shard) {
	for _, sh := range all {
		if want(sh) {
			out = append(out, sh)
		}
	}
	return out
}
