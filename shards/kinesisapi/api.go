// Package kinesisapi speaks the wire protocol of Kinesis Data Streams (2013-12-02) for the room
// shards. One family of operations a file; the table below lists them all.
//
// Members of the model that this version does not implement are refused by name. The one exception
// is StreamId, which AWS reserves without giving it a meaning and which no answer of ours contains.
package kinesisapi

import (
	"context"
	"crypto/rand"
	"strings"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// api is the receiver of the operations.
type api struct {
	streams *shards.Streams
	tokens  *sealer
	service *awsapi.Service
	limits  bool

	subscriptions subscriptions
}

// keyName is the metadata key of the secret that seals iterators and tokens, so that they stay
// valid over restarts.
const keyName = "x/iterator-key"

// Options configure New.
type Options struct {
	// Limits keeps AWS's limits on the numbers of calls, streams and shards. Those on what a shard takes
	// and gives are shards.Options.Throughput.
	Limits bool
}

// New makes the service on streams. The secret for iterators is read from, or put into, meta.
func New(ctx context.Context, streams *shards.Streams, meta shards.Meta, o Options) (*awsapi.Service, error) {
	secret, err := loadSecret(ctx, meta)
	if err != nil {
		return nil, err
	}
	tokens, err := newSealer(secret)
	if err != nil {
		return nil, err
	}
	a := &api{streams: streams, tokens: tokens, limits: o.Limits}
	a.service = &awsapi.Service{
		Name:   "kinesis",
		Target: "Kinesis_20131202",
		CBOR:   true,
		Errors: map[errs.Kind]string{
			errs.Invalid:   "InvalidArgumentException",
			errs.NotFound:  "ResourceNotFoundException",
			errs.InUse:     "ResourceInUseException",
			errs.Limit:     "LimitExceededException",
			errs.Throttled: "ProvisionedThroughputExceededException",
			errs.Expired:   "ExpiredIteratorException",
			errs.Denied:    "AccessDeniedException",
		},
		Ops: []awsapi.Op{
			awsapi.Handle("CreateStream", a.createStream),
			awsapi.Handle("DeleteStream", a.deleteStream),
			awsapi.Handle("DescribeStream", a.describeStream),
			awsapi.Handle("DescribeStreamSummary", a.describeStreamSummary),
			awsapi.Handle("ListStreams", a.listStreams),
			awsapi.Handle("ListShards", a.listShards),
			awsapi.Handle("SplitShard", a.splitShard),
			awsapi.Handle("MergeShards", a.mergeShards),
			awsapi.Handle("UpdateShardCount", a.updateShardCount),
			awsapi.Raw("PutRecord", a.putRecord),
			awsapi.Raw("PutRecords", a.putRecords),
			awsapi.Handle("GetShardIterator", a.getShardIterator),
			awsapi.RawLong("GetRecords", a.getRecords),
			awsapi.Handle("RegisterStreamConsumer", a.registerStreamConsumer),
			awsapi.Handle("DeregisterStreamConsumer", a.deregisterStreamConsumer),
			awsapi.Handle("DescribeStreamConsumer", a.describeStreamConsumer),
			awsapi.Handle("ListStreamConsumers", a.listStreamConsumers),
			awsapi.Events("SubscribeToShard", a.subscribeToShard),
			awsapi.Handle("AddTagsToStream", a.addTagsToStream),
			awsapi.Handle("RemoveTagsFromStream", a.removeTagsFromStream),
			awsapi.Handle("ListTagsForStream", a.listTagsForStream),
			awsapi.Handle("TagResource", a.tagResource),
			awsapi.Handle("UntagResource", a.untagResource),
			awsapi.Handle("ListTagsForResource", a.listTagsForResource),
			awsapi.Handle("IncreaseStreamRetentionPeriod", a.increaseStreamRetentionPeriod),
			awsapi.Handle("DecreaseStreamRetentionPeriod", a.decreaseStreamRetentionPeriod),
			awsapi.Handle("UpdateStreamMode", a.updateStreamMode),
			awsapi.Handle("UpdateMaxRecordSize", a.updateMaxRecordSize),
			awsapi.Handle("PutResourcePolicy", a.putResourcePolicy),
			awsapi.Handle("GetResourcePolicy", a.getResourcePolicy),
			awsapi.Handle("DeleteResourcePolicy", a.deleteResourcePolicy),
			awsapi.Handle("DescribeLimits", a.describeLimits),
		},
	}
	if a.limits {
		r := &rates{all: make(map[rateKey]*rate)}
		for i := range a.service.Ops {
			a.service.Ops[i] = r.limit(a.service.Ops[i])
		}
	}
	return a.service, nil
}

func loadSecret(ctx context.Context, meta shards.Meta) ([]byte, error) {
	secret, rev, err := meta.Get(ctx, keyName)
	if err != nil || rev != 0 {
		return secret, err
	}
	secret = make([]byte, 32)
	rand.Read(secret)
	_, err = meta.Txn(ctx, []shards.Cmp{{Key: keyName}}, []shards.Op{{Key: keyName, Value: secret}})
	return secret, err
}

// empty is the answer of operations that answer nothing.
type empty struct{}

// target finds the stream that a request names.
func (a *api) target(ctx context.Context, name, arn *string) (*shards.Stream, error) {
	scope, n, err := named(ctx, name, arn)
	if err != nil {
		return nil, err
	}
	return a.streams.Find(scope, n)
}

// active is target for operations that change a stream.
func (a *api) active(ctx context.Context, name, arn *string) (*shards.Stream, error) {
	s, err := a.target(ctx, name, arn)
	if err == nil && s.State() != shards.Active {
		err = notActive(s)
	}
	return s, err
}

// named is the scope and the name of the stream that a request names, by name, by ARN or by both.
// AWS's sentences about the ways in which that can go wrong are not known.
func named(ctx context.Context, name, arn *string) (shards.Scope, string, error) {
	scope := scopeOf(ctx)
	fault := func(format string, args ...any) (shards.Scope, string, error) {
		return shards.Scope{}, "", errs.New(errs.Invalid, format, args...)
	}
	switch {
	case arn != nil:
		s, byARN, ok := parseARN(*arn)
		if !ok {
			return fault("StreamARN %s is not the ARN of a stream.", *arn)
		}
		if s.Region != scope.Region {
			return fault("StreamARN %s is of another region than the request, which is for %s.", *arn, scope.Region)
		}
		if err := allowed(ctx, s.Account); err != nil {
			return shards.Scope{}, "", err
		}
		if name != nil && *name != byARN {
			return fault("StreamName %s and StreamARN %s name different streams.", *name, *arn)
		}
		return s, byARN, nil
	case name != nil:
		return scope, *name, nil
	}
	return fault("Either StreamName or StreamARN should be provided.")
}

// notActive is AWS's complaint about a stream that cannot be used or changed just now.
func notActive(s *shards.Stream) error {
	return errs.New(errs.InUse, "Stream %s under account %s not ACTIVE, instead in state %s", s.Name, s.Account, s.State())
}

func noStream(s *shards.Stream) error {
	return errs.New(errs.NotFound, "Stream %s under account %s not found.", s.Name, s.Account)
}

// allowed refuses streams of other accounts to callers whose account has been verified. Without
// verification anybody may name any account.
func allowed(ctx context.Context, account string) error {
	c := awsapi.CallerOf(ctx)
	if c.Verified && account != c.Account {
		return errs.New(errs.Denied, "Account %s is not authorized to use streams of account %s.", c.Account, account)
	}
	return nil
}

func scopeOf(ctx context.Context) shards.Scope {
	c := awsapi.CallerOf(ctx)
	return shards.Scope{Account: c.Account, Region: c.Region}
}

// parseARN takes arn:aws:kinesis:REGION:ACCOUNT:stream/NAME apart.
func parseARN(arn string) (sc shards.Scope, name string, ok bool) {
	p := strings.SplitN(arn, ":", 6)
	if len(p) != 6 || p[0] != "arn" || p[2] != "kinesis" {
		return sc, "", false
	}
	name, ok = strings.CutPrefix(p[5], "stream/")
	return shards.Scope{Account: p[4], Region: p[3]}, name, ok && name != "" && !strings.Contains(name, "/")
}

// refuse is the error for a member of the model that has no effect here.
func refuse(member, why string) error {
	return errs.New(errs.Invalid, "%s is not supported: %s", member, why)
}

// dryRun is the answer to a request that would have succeeded. The sentence is ours.
func dryRun() error {
	return &awsapi.Error{Name: "DryRunOperationException", Message: "The request would have succeeded, but DryRun was set."}
}

func ptr[T any](v T) *T { return &v }

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
