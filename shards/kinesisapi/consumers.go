package kinesisapi

import (
	"context"
	"strings"
	"time"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// Registered consumers: RegisterStreamConsumer, DeregisterStreamConsumer, DescribeStreamConsumer,
// ListStreamConsumers.

const (
	consumersLimit = 100 // ListStreamConsumers: default and most

	// AWS's quotas.
	consumersAStream        = 20
	consumersOfTheCommitted = 50 // with the account's commitment to a minimum of throughput
)

type consumerOut struct {
	ConsumerName              string
	ConsumerARN               string
	ConsumerStatus            string
	ConsumerCreationTimestamp awsapi.Timestamp
}

func describeConsumer(s *shards.Stream, c *shards.Consumer) consumerOut {
	return consumerOut{c.Name, c.ARN(s), string(s.ConsumerState(c)), awsapi.Timestamp(c.CreatedMs)}
}

type registerStreamConsumerIn struct {
	StreamARN    *string           `aws:"required,min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"`
	StreamId     *string           `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
	ConsumerName *string           `aws:"required,min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	Tags         map[string]string `aws:"min=1,max=200" key:"min=1,max=128" value:"min=0,max=256"`
}

type registerStreamConsumerOut struct{ Consumer consumerOut }

func (a *api) registerStreamConsumer(ctx context.Context, in *registerStreamConsumerIn) (*registerStreamConsumerOut, error) {
	s, err := a.target(ctx, nil, in.StreamARN)
	if err != nil {
		return nil, err
	}
	if err := checkTags(s.Scope, s.Name, in.Tags); err != nil {
		return nil, err
	}
	c, err := s.RegisterConsumer(ctx, *in.ConsumerName, in.Tags, func(others []*shards.Consumer) error {
		return a.mayRegister(ctx, s, others)
	})
	if err != nil {
		return nil, err
	}
	return &registerStreamConsumerOut{describeConsumer(s, c)}, nil
}

// mayRegister is nil if AWS's quotas allow the stream one more consumer, or nobody asked for them to
// be kept. The sentences are ours.
func (a *api) mayRegister(ctx context.Context, s *shards.Stream, others []*shards.Consumer) error {
	if !a.limits {
		return nil
	}
	commitment, err := a.streams.Commitment(ctx, s.Scope)
	if err != nil {
		return err
	}
	most, creating := consumersAStream, 0
	if commitment.On(time.Now()) {
		most = consumersOfTheCommitted
	}
	for _, c := range others {
		if s.ConsumerState(c) == shards.Creating {
			creating++
		}
	}
	switch {
	case len(others) >= most:
		return errs.New(errs.Limit, "Stream %s under account %s has %d consumers, as many as it can have.", s.Name, s.Account, len(others))
	case creating >= creatingLimit:
		return errs.New(errs.Limit, "Stream %s under account %s has %d consumers that are being created, as many as there can be at once.", s.Name, s.Account, creating)
	}
	return nil
}

func consumerNotActive(s *shards.Stream, c *shards.Consumer) error {
	return errs.New(errs.InUse, "Consumer %s with creation timestamp %d under stream: %s , account %s is not in ACTIVE status.", c.Name, c.CreatedMs/1000, s.Name, s.Account)
}

// consumerRef is how two operations name a consumer: by its ARN, by its stream and name, or both.
type consumerRef struct {
	StreamARN    *string `aws:"min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"`
	StreamId     *string `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
	ConsumerName *string `aws:"min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	ConsumerARN  *string `aws:"min=1,max=2048" pattern:"^(arn):aws.*:kinesis:.*:\\d{12}:.*stream\\/[a-zA-Z0-9_.-]+\\/consumer\\/[a-zA-Z0-9_.-]+:[0-9]+"`
}

// consumer finds the consumer that a request names, if the caller may do with it what it asks for:
// that is for the consumer's policy to say, not for its stream's.
func (a *api) consumer(ctx context.Context, in *consumerRef) (*shards.Stream, *shards.Consumer, error) {
	if in.ConsumerARN == nil && (in.StreamARN == nil || in.ConsumerName == nil) {
		return nil, nil, errs.New(errs.Invalid, "Either ConsumerARN or both StreamARN and ConsumerName should be provided.")
	}
	streamARN, name := value(in.StreamARN), value(in.ConsumerName)
	if in.ConsumerARN != nil {
		byARN, rest, _ := strings.Cut(*in.ConsumerARN, consumerPart)
		own, _, _ := strings.Cut(rest, ":")
		if streamARN != "" && streamARN != byARN || name != "" && name != own {
			return nil, nil, errs.New(errs.Invalid, "ConsumerARN %s and the other members name different consumers.", *in.ConsumerARN)
		}
		streamARN, name = byARN, own
	}
	scope, stream, err := named(ctx, nil, &streamARN)
	if err != nil {
		return nil, nil, err
	}
	s, c, err := a.findConsumer(ctx, scope, stream, name, in.ConsumerARN)
	switch {
	case err == nil:
		err = judge(ctx, s.Account, c.ARN(s), c.Policy)
	case stranger(ctx, scope.Account): // who must not learn what there is
		err = denied(ctx, streamARN+consumerPart+name, false)
	}
	return s, c, err
}

// consumerPart stands between the stream's part of a consumer's ARN and its own.
const consumerPart = "/consumer/"

func (a *api) findConsumer(ctx context.Context, scope shards.Scope, stream, name string, arn *string) (*shards.Stream, *shards.Consumer, error) {
	s, err := a.streams.Find(scope, stream)
	if err != nil {
		return nil, nil, err
	}
	c, err := s.Consumer(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if arn != nil && c.ARN(s) != *arn { // of an earlier registration under the name
		return nil, nil, errs.New(errs.NotFound, "Consumer %s not found.", *arn)
	}
	return s, c, nil
}

type deregisterStreamConsumerIn struct{ consumerRef }

func (a *api) deregisterStreamConsumer(ctx context.Context, in *deregisterStreamConsumerIn) (*empty, error) {
	s, c, err := a.consumer(ctx, &in.consumerRef)
	if err != nil {
		return nil, err
	}
	if err := s.DeregisterConsumer(ctx, c); err != nil {
		return nil, err
	}
	a.subscriptions.endAll(c.ARN(s))
	return nil, nil
}

type describeStreamConsumerIn struct{ consumerRef }

type consumerDescription struct {
	consumerOut
	StreamARN string
}

type describeStreamConsumerOut struct{ ConsumerDescription consumerDescription }

func (a *api) describeStreamConsumer(ctx context.Context, in *describeStreamConsumerIn) (*describeStreamConsumerOut, error) {
	s, c, err := a.consumer(ctx, &in.consumerRef)
	if err != nil {
		return nil, err
	}
	return &describeStreamConsumerOut{consumerDescription{describeConsumer(s, c), s.ARN()}}, nil
}

type listStreamConsumersIn struct {
	StreamARN               *string `aws:"required,min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"`
	StreamId                *string `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
	NextToken               *string `aws:"min=1,max=1048576"`
	MaxResults              *int32  `aws:"min=1,max=10000"`
	StreamCreationTimestamp *awsapi.Timestamp
}

type listStreamConsumersOut struct {
	Consumers []consumerOut
	NextToken *string
}

func (a *api) listStreamConsumers(ctx context.Context, in *listStreamConsumersIn) (*listStreamConsumersOut, error) {
	s, err := a.target(ctx, nil, in.StreamARN)
	if err != nil {
		return nil, err
	}
	if t := in.StreamCreationTimestamp; t != nil && t.Time().Unix() != s.Created().Unix() {
		return nil, errs.New(errs.NotFound, "Stream %s under account %s not found.", s.Name, s.Account)
	}
	after := ""
	if in.NextToken != nil {
		t, ok := a.tokens.open(*in.NextToken, listConsumersToken)
		if !ok || t.stream != s.ID {
			return nil, errs.New(errs.Invalid, "The NextToken is not one that ListStreamConsumers has given out for this stream.")
		}
		if t.expired() {
			return nil, expiredToken()
		}
		after = t.extra
	}
	all, err := s.Consumers(ctx)
	if err != nil {
		return nil, err
	}
	from := 0
	for from < len(all) && all[from].Name <= after {
		from++
	}
	limit := consumersLimit
	if in.MaxResults != nil {
		limit = min(limit, int(*in.MaxResults))
	}
	page, more := cutPage(all, from, limit)
	out := &listStreamConsumersOut{Consumers: []consumerOut{}}
	for _, c := range page {
		out.Consumers = append(out.Consumers, describeConsumer(s, c))
	}
	if more {
		out.NextToken = ptr(a.tokens.seal(token{kind: listConsumersToken, stream: s.ID, issued: time.Now(), extra: page[len(page)-1].Name}))
	}
	return out, nil
}
