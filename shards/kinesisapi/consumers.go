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
// ListStreamConsumers. A consumer is ACTIVE when it is registered and gone when it is deregistered.

const (
	consumersLimit = 100 // ListStreamConsumers: default and most
	consumerActive = "ACTIVE"
)

type consumerOut struct {
	ConsumerName              string
	ConsumerARN               string
	ConsumerStatus            string
	ConsumerCreationTimestamp awsapi.Timestamp
}

func describeConsumer(s *shards.Stream, c *shards.Consumer) consumerOut {
	return consumerOut{c.Name, c.ARN(s), consumerActive, awsapi.Timestamp(c.CreatedMs)}
}

type registerStreamConsumerIn struct {
	StreamARN    *string           `aws:"required,min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"`
	StreamId     *string           `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
	ConsumerName *string           `aws:"required,min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	Tags         map[string]string `aws:"min=1,max=200" key:"min=1,max=128" value:"min=0,max=256"`
}

type registerStreamConsumerOut struct{ Consumer consumerOut }

func (a *api) registerStreamConsumer(ctx context.Context, in *registerStreamConsumerIn) (*registerStreamConsumerOut, error) {
	if in.Tags != nil {
		return nil, refuse("Tags of a consumer", "this version tags streams only.")
	}
	s, err := a.target(ctx, nil, in.StreamARN)
	if err != nil {
		return nil, err
	}
	c, err := s.RegisterConsumer(ctx, *in.ConsumerName)
	if err != nil {
		return nil, err
	}
	return &registerStreamConsumerOut{describeConsumer(s, c)}, nil
}

// consumerRef is how two operations name a consumer: by its ARN, by its stream and name, or both.
type consumerRef struct {
	StreamARN    *string `aws:"min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"`
	StreamId     *string `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
	ConsumerName *string `aws:"min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	ConsumerARN  *string `aws:"min=1,max=2048" pattern:"^(arn):aws.*:kinesis:.*:\\d{12}:.*stream\\/[a-zA-Z0-9_.-]+\\/consumer\\/[a-zA-Z0-9_.-]+:[0-9]+"`
}

func (a *api) consumer(ctx context.Context, in *consumerRef) (*shards.Stream, *shards.Consumer, error) {
	if in.ConsumerARN == nil && (in.StreamARN == nil || in.ConsumerName == nil) {
		return nil, nil, errs.New(errs.Invalid, "Either ConsumerARN or both StreamARN and ConsumerName should be provided.")
	}
	streamARN, name := value(in.StreamARN), value(in.ConsumerName)
	if in.ConsumerARN != nil {
		byARN, rest, _ := strings.Cut(*in.ConsumerARN, "/consumer/")
		own, _, _ := strings.Cut(rest, ":")
		if streamARN != "" && streamARN != byARN || name != "" && name != own {
			return nil, nil, errs.New(errs.Invalid, "ConsumerARN %s and the other members name different consumers.", *in.ConsumerARN)
		}
		streamARN, name = byARN, own
	}
	s, err := a.target(ctx, nil, &streamARN)
	if err != nil {
		return nil, nil, err
	}
	c, err := s.Consumer(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if in.ConsumerARN != nil && c.ARN(s) != *in.ConsumerARN { // of an earlier registration under the name
		return nil, nil, errs.New(errs.NotFound, "Consumer %s not found.", *in.ConsumerARN)
	}
	return s, c, nil
}

type deregisterStreamConsumerIn struct{ consumerRef }

func (a *api) deregisterStreamConsumer(ctx context.Context, in *deregisterStreamConsumerIn) (*empty, error) {
	s, c, err := a.consumer(ctx, &in.consumerRef)
	if err != nil {
		return nil, err
	}
	if err := s.DeregisterConsumer(ctx, c.Name); err != nil {
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
