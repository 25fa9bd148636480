package kinesisapi

import (
	"context"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/policy"
	"github.com/shardmill/shardmill/shards"
)

// PutResourcePolicy, GetResourcePolicy, DeleteResourcePolicy, of streams and of consumers. permit.go
// asks them.

type putResourcePolicyIn struct {
	ResourceARN *string `aws:"required,min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:.*stream/\\S+"`
	StreamId    *string `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
	Policy      *string `aws:"required"`
}

// putResourcePolicy keeps the text as it is given, if it is a policy that can be evaluated. A
// consumer has to be ACTIVE.
func (a *api) putResourcePolicy(ctx context.Context, in *putResourcePolicyIn) (*empty, error) {
	s, c, err := a.resource(ctx, *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	if c != nil && s.ConsumerState(c) != shards.Active {
		return nil, consumerNotActive(s, c)
	}
	if _, err := policy.Parse(*in.Policy, resourceARN(s, c)); err != nil {
		return nil, err
	}
	return nil, a.changePolicy(ctx, s, c, func(p *string) error {
		*p = *in.Policy
		return nil
	})
}

func resourceARN(s *shards.Stream, c *shards.Consumer) string {
	if c != nil {
		return c.ARN(s)
	}
	return s.ARN()
}

// changePolicy changes the policy of a stream, or with c that of its consumer.
func (a *api) changePolicy(ctx context.Context, s *shards.Stream, c *shards.Consumer, change func(*string) error) error {
	if c != nil {
		return s.UpdateConsumer(ctx, c, func(c *shards.Consumer) error { return change(&c.Policy) })
	}
	return a.streams.Update(ctx, s, func(at *shards.Attributes) error { return change(&at.Policy) })
}

type getResourcePolicyOut struct{ Policy string }

// getResourcePolicy answers an empty object where there is no policy, as AWS does.
func (a *api) getResourcePolicy(ctx context.Context, in *resourceIn) (*getResourcePolicyOut, error) {
	s, c, err := a.resource(ctx, *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	text := s.Attributes().Policy
	if c != nil {
		text = c.Policy
	}
	if text == "" {
		text = "{}"
	}
	return &getResourcePolicyOut{text}, nil
}

func (a *api) deleteResourcePolicy(ctx context.Context, in *resourceIn) (*empty, error) {
	s, c, err := a.resource(ctx, *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	return nil, a.changePolicy(ctx, s, c, func(p *string) error {
		if *p == "" {
			return errs.New(errs.NotFound, "%s has no resource policy.", resourceARN(s, c))
		}
		*p = ""
		return nil
	})
}
