package kinesisapi

import (
	"strings"
	"unicode"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

const maxTags = 50 // of one stream

// checkTags applies AWS's rules for tags that the model does not express. The sentences are those
// of AddTagsToStream; the 10 in the last one is AWS's own, left over from an older limit.
func checkTags(sc shards.Scope, stream string, tags map[string]string) error {
	failed := func(why string) error {
		return errs.New(errs.Invalid, "Failed to add tags to stream %s under account %s because %s.", stream, sc.Account, why)
	}
	percent := false
	for k, v := range tags {
		if strings.ContainsFunc(k+v, notInTag) {
			return errs.New(errs.Invalid, "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - %% @.")
		}
		percent = percent || strings.Contains(k+v, "%")
	}
	if percent {
		return failed("some tags contained illegal characters. The allowed characters are Unicode letters, white-spaces, '_',',','/','=','+','-','@'")
	}
	for k := range tags {
		if strings.HasPrefix(k, "aws:") {
			return errs.New(errs.Invalid, "Tag key %s begins with aws:, which is reserved.", k) // ours
		}
	}
	if len(tags) > maxTags {
		return failed("a given stream cannot have more than 10 tags associated with it")
	}
	return nil
}

func notInTag(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsSpace(r) && !strings.ContainsRune("_.:/=+-@%", r)
}
