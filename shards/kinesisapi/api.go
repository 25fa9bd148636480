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

			errs.KeyMissing:   "KMSNotFoundException",
			errs.KeyDisabled:  "KMSDisabledException",
			errs.KeyDenied:    "KMSAccessDeniedException",
			errs.KeyState:     "KMSInvalidStateException",
			errs.KeyOptIn:     "KMSOptInRequired",
			errs.KeyThrottled: "KMSThrottlingException",
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
			awsapi.Handle("StartStreamEncryption", a.startStreamEncryption),
			awsapi.Handle("StopStreamEncryption", a.stopStreamEncryption),
			awsapi.Handle("EnableEnhancedMonitoring", a.enableEnhancedMonitoring),
			awsapi.Handle("DisableEnhancedMonitoring", a.disableEnhancedMonitoring),
			awsapi.Handle("UpdateStreamMode", a.updateStreamMode),
			awsapi.Handle("UpdateStreamWarmThroughput", a.updateStreamWarmThroughput),
			awsapi.Handle("UpdateStreamRecordDistributionStrategy", a.updateStreamRecordDistributionStrategy),
			awsapi.Handle("UpdateMaxRecordSize", a.updateMaxRecordSize),
			awsapi.Handle("PutResourcePolicy", a.putResourcePolicy),
			awsapi.Handle("GetResourcePolicy", a.getResourcePolicy),
			awsapi.Handle("DeleteResourcePolicy", a.deleteResourcePolicy),
			awsapi.Handle("DescribeLimits", a.describeLimits),
			awsapi.Handle("DescribeAccountSettings", a.describeAccountSettings),
			awsapi.Handle("UpdateAccountSettings", a.updateAccountSettings),
		},
	}
	if a.limits {
		r := &rates{all: make(map[rateKey]*shards.Bucket)}
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

// target finds the stream that a request names, if the caller may do with it what it asks for.
func (a *api) target(ctx context.Context, name, arn *string) (*shards.Stream, error) {
	scope, n, err := named(ctx, name, arn)
	if err != nil {
		return nil, err
	}
	return a.permitted(ctx, scope, n)
}

// active is target for operations that change a stream.
func (a *api) active(ctx context.Context, name, arn *string) (*shards.Stream, error) {
	s, err := a.target(ctx, name, arn)
	if err == nil && s.State() != shards.Active {
		err = s.NotActive()
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
		if name != nil && *name != byARN {
			return fault("StreamName %s and StreamARN %s name different streams.", *name, *arn)
		}
		return s, byARN, nil
	case name != nil:
		return scope, *name, nil
	}
	return fault("Either StreamName or StreamARN should be provided.")
}

func noStream(s *shards.Stream) error {
	return errs.New(errs.NotFound, "Stream %s under account %s not found.", s.Name, s.Account)
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
