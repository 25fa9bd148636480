package kinesisapi

import (
	"context"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// Tags: AddTagsToStream, RemoveTagsFromStream, ListTagsForStream, and the newer TagResource,
// UntagResource, ListTagsForResource, which name a stream or a consumer by its ARN. Both see the same
// tags of a stream. AWS's sentences about the tags of consumers are not known: they speak of the
// consumer's stream here.

const (
	maxTags        = 50 // of one stream or consumer
	listTagsLimit  = 50
	tagPunctuation = "_.:/=+-@"
)

type addTagsToStreamIn struct {
	Tags map[string]string `aws:"required,min=1,max=200" key:"min=1,max=128" value:"min=0,max=256"`
	streamRef
}

func (a *api) addTagsToStream(ctx context.Context, in *addTagsToStreamIn) (*empty, error) {
	s, err := a.target(ctx, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	return nil, a.setTags(ctx, s, nil, in.Tags)
}

type tagResourceIn struct {
	Tags        map[string]string `aws:"required,min=1,max=200" key:"min=1,max=128" value:"min=0,max=256"`
	ResourceARN *string           `aws:"required,min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:.*stream/\\S+"`
	StreamId    *string           `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
}

func (a *api) tagResource(ctx context.Context, in *tagResourceIn) (*empty, error) {
	s, c, err := a.resource(ctx, *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	return nil, a.setTags(ctx, s, c, in.Tags)
}

// resource finds the stream, or with c the consumer of the stream, that has an ARN.
func (a *api) resource(ctx context.Context, arn string) (s *shards.Stream, c *shards.Consumer, err error) {
	if strings.Contains(arn, consumerPart) {
		return a.consumer(ctx, &consumerRef{ConsumerARN: &arn})
	}
	s, err = a.target(ctx, nil, &arn)
	return s, nil, err
}

// changeTags changes the tags of a stream, or with c those of its consumer.
func (a *api) changeTags(ctx context.Context, s *shards.Stream, c *shards.Consumer, change func(map[string]string) error) error {
	if c != nil {
		return s.UpdateConsumer(ctx, c, func(c *shards.Consumer) error { return change(c.Tags) })
	}
	return a.streams.Update(ctx, s, func(at *shards.Attributes) error { return change(at.Tags) })
}

func (a *api) setTags(ctx context.Context, s *shards.Stream, c *shards.Consumer, tags map[string]string) error {
	if err := checkTags(s.Scope, s.Name, tags); err != nil {
		return err
	}
	return a.changeTags(ctx, s, c, func(all map[string]string) error {
		maps.Copy(all, tags)
		return checkTagCount(s.Scope, s.Name, len(all))
	})
}

// checkTags checks tags that are to be added to a stream.
func checkTags(sc shards.Scope, name string, tags map[string]string) error {
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		if err := checkTag(sc, name, "Failed to add tags to stream", k, tags[k]); err != nil {
			return err
		}
	}
	return checkTagCount(sc, name, len(tags))
}

// checkTagCount allows 50 tags; the number in AWS's sentence is AWS's own, and stale.
func checkTagCount(sc shards.Scope, name string, n int) error {
	if n > maxTags {
		return errs.New(errs.Invalid, "Failed to add tags to stream %s under account %s because a given stream cannot have more than 10 tags associated with it.", name, sc.Account)
	}
	return nil
}

// checkTag applies AWS's rules for the characters of tags.
func checkTag(sc shards.Scope, name, failed, key, value string) error {
	for _, r := range key + value {
		if r == '%' {
			return errs.New(errs.Invalid, "%s %s under account %s because some tags contained illegal characters. The allowed characters are Unicode letters, white-spaces, '_',',','/','=','+','-','@'.", failed, name, sc.Account)
		}
		if !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsSpace(r) && !strings.ContainsRune(tagPunctuation, r) {
			return errs.New(errs.Invalid, "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - %% @.")
		}
	}
	if strings.HasPrefix(key, "aws:") { // AWS's sentence is not known
		return errs.New(errs.Invalid, "Tag key %s begins with aws:, which is reserved.", key)
	}
	return nil
}

type removeTagsFromStreamIn struct {
	TagKeys []string `aws:"required,min=1,max=50" elem:"min=1,max=128"`
	streamRef
}

func (a *api) removeTagsFromStream(ctx context.Context, in *removeTagsFromStreamIn) (*empty, error) {
	s, err := a.target(ctx, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	return nil, a.dropTags(ctx, s, nil, in.TagKeys)
}

type untagResourceIn struct {
	TagKeys     []string `aws:"required,min=1,max=50" elem:"min=1,max=128"`
	ResourceARN *string  `aws:"required,min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:.*stream/\\S+"`
	StreamId    *string  `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
}

func (a *api) untagResource(ctx context.Context, in *untagResourceIn) (*empty, error) {
	s, c, err := a.resource(ctx, *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	return nil, a.dropTags(ctx, s, c, in.TagKeys)
}

// dropTags removes tags; keys that are not there are no error.
func (a *api) dropTags(ctx context.Context, s *shards.Stream, c *shards.Consumer, keys []string) error {
	for _, k := range keys {
		if err := checkTag(s.Scope, s.Name, "Failed to remove tags from stream", k, ""); err != nil {
			return err
		}
	}
	return a.changeTags(ctx, s, c, func(all map[string]string) error {
		for _, k := range keys {
			delete(all, k)
		}
		return nil
	})
}

type tagOut struct{ Key, Value string }

type listTagsForStreamIn struct {
	Limit                *int32  `aws:"min=1,max=50"`
	ExclusiveStartTagKey *string `aws:"min=1,max=128"`
	streamRef
}

type listTagsForStreamOut struct {
	Tags        []tagOut
	HasMoreTags bool
}

func (a *api) listTagsForStream(ctx context.Context, in *listTagsForStreamIn) (*listTagsForStreamOut, error) {
	s, err := a.target(ctx, in.StreamName, in.StreamARN)
	if err != nil {
		return nil, err
	}
	limit := listTagsLimit
	if in.Limit != nil {
		limit = int(*in.Limit)
	}
	all := tagsAfter(s.Attributes().Tags, value(in.ExclusiveStartTagKey))
	page, more := cutPage(all, 0, limit)
	return &listTagsForStreamOut{page, more}, nil
}

// tagsAfter lists the tags whose keys come after one, in the order of keys.
func tagsAfter(tags map[string]string, after string) []tagOut {
	out := []tagOut{}
	for _, k := range slices.Sorted(maps.Keys(tags)) {
		if k > after {
			out = append(out, tagOut{k, tags[k]})
		}
	}
	return out
}

type resourceIn struct {
	ResourceARN *string `aws:"required,min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:.*stream/\\S+"`
	StreamId    *string `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
}

type listTagsForResourceOut struct{ Tags []tagOut }

func (a *api) listTagsForResource(ctx context.Context, in *resourceIn) (*listTagsForResourceOut, error) {
	s, c, err := a.resource(ctx, *in.ResourceARN)
	if err != nil {
		return nil, err
	}
	if c != nil {
		return &listTagsForResourceOut{tagsAfter(c.Tags, "")}, nil
	}
	return &listTagsForResourceOut{tagsAfter(s.Attributes().Tags, "")}, nil
}
