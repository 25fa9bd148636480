package kinesisapi

import (
	"context"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/policy"
	"github.com/shardmill/shardmill/shards"
)

// Permission. Where requests are verified, the caller is an account. It may do everything with what
// is its own, and with another account's what the resource policy of the stream, or of the
// consumer, allows. What a policy denies to everybody it denies to the owner too, but for the
// operations on policies: nobody locks himself out. Where nothing is verified, anybody may name any
// account, and policies are kept but not asked.

// permitted finds a stream, if the caller may do with it what it asks for. To a stranger a stream
// that is not there looks like one that is not shared.
func (a *api) permitted(ctx context.Context, scope shards.Scope, name string) (*shards.Stream, error) {
	s, err := a.streams.Find(scope, name)
	if err != nil {
		if stranger(ctx, scope.Account) {
			err = denied(ctx, streamARN(scope, name), false)
		}
		return nil, err
	}
	return s, permit(ctx, s)
}

// permit is nil if the caller may do with the stream what it asks for.
func permit(ctx context.Context, s *shards.Stream) error {
	return judge(ctx, s.Account, s.ARN(), s.Attributes().Policy)
}

func stranger(ctx context.Context, account string) bool {
	c := awsapi.CallerOf(ctx)
	return c.Verified && account != c.Account
}

// policyOperations are for owners alone, and for owners always.
var policyOperations = map[string]bool{"PutResourcePolicy": true, "GetResourcePolicy": true, "DeleteResourcePolicy": true}

// judge asks the policy of a resource of an account.
func judge(ctx context.Context, account, arn, text string) error {
	c := awsapi.CallerOf(ctx)
	switch {
	case !c.Verified || account == c.Account && (text == "" || policyOperations[c.Operation]):
		return nil
	case text == "" || policyOperations[c.Operation]:
		return denied(ctx, arn, false)
	}
	p, err := policy.Parse(text, arn)
	if err != nil { // kept by an earlier version, which took what nothing could evaluate
		if account == c.Account {
			return nil
		}
		return errs.Wrap(errs.Denied, err, "The resource policy of %s cannot be evaluated: its owner has to put it again.", arn)
	}
	switch p.Decide(c.Account, "kinesis:"+c.Operation, arn) {
	case policy.Deny:
		return denied(ctx, arn, true)
	case policy.Silent:
		if account != c.Account {
			return denied(ctx, arn, false)
		}
	}
	return nil
}

// denied says in the words of AWS's services that the caller may not do what it asks for: because a
// policy says so, or because none says that it may.
func denied(ctx context.Context, arn string, explicitly bool) error {
	c := awsapi.CallerOf(ctx)
	action := "kinesis:" + c.Operation
	why := "because no resource-based policy allows the " + action + " action"
	if explicitly {
		why = "with an explicit deny in a resource-based policy"
	}
	return errs.New(errs.Denied, "User: arn:aws:iam::%s:root is not authorized to perform: %s on resource: %s %s", c.Account, action, arn, why)
}

func streamARN(sc shards.Scope, name string) string {
	return "arn:aws:kinesis:" + sc.Region + ":" + sc.Account + ":stream/" + name
}
