package awsapi

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// Inputs of Kinesis, with the members in the order in which AWS checks them.
type (
	createStream struct {
		ShardCount        *int32            `aws:"min=1"`
		StreamName        *string           `aws:"required,min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
		StreamModeDetails *modeDetails      ``
		Tags              map[string]string `aws:"min=1,max=200" key:"min=1,max=128" value:"min=0,max=256"`
	}
	modeDetails struct {
		StreamMode *string `aws:"required" enum:"PROVISIONED,ON_DEMAND"`
	}
	putRecords struct {
		Records    []putRecordsEntry `aws:"required,min=1,max=500"`
		StreamName *string           `aws:"min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
		StreamARN  *string           `aws:"min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"`
	}
	putRecordsEntry struct {
		PartitionKey    *string `aws:"required,min=1,max=256"`
		ExplicitHashKey *string `pattern:"0|([1-9]\\d{0,38})"`
		Data            []byte  `aws:"required,min=0,max=10485760"`
	}
	getShardIterator struct {
		ShardId                *string    `aws:"required,min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
		ShardIteratorType      *string    `aws:"required" enum:"AFTER_SEQUENCE_NUMBER,LATEST,AT_TIMESTAMP,AT_SEQUENCE_NUMBER,TRIM_HORIZON"`
		StartingSequenceNumber *string    `pattern:"0|([1-9]\\d{0,128})"`
		StreamName             *string    `aws:"min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
		Timestamp              *Timestamp ``
	}
	addTagsToStream struct {
		Tags       map[string]string `aws:"required,min=1,max=200" key:"min=1,max=128" value:"min=0,max=256"`
		StreamName *string           `aws:"min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	}
	removeTagsFromStream struct {
		TagKeys    []string `aws:"required,min=1,max=50" elem:"min=1,max=128"`
		StreamName *string  `aws:"min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	}
	listShards struct {
		ExclusiveStartShardId *string      `aws:"min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
		MaxResults            *int32       `aws:"min=1,max=10000"`
		NextToken             *string      `aws:"min=1,max=1048576"`
		StreamName            *string      `aws:"min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
		ShardFilter           *shardFilter ``
	}
	shardFilter struct {
		Type *string `aws:"required" enum:"AFTER_SHARD_ID,AT_TRIM_HORIZON,FROM_TRIM_HORIZON,AT_LATEST,AT_TIMESTAMP,FROM_TIMESTAMP"`
	}
	enableEnhancedMonitoring struct {
		ShardLevelMetrics []string `aws:"required,min=1,max=7" elem:"enum=IncomingBytes|ALL"`
	}
)

func TestValidate(t *testing.T) {
	const name = "Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"
	long := strings.Repeat("a", 129)
	for _, test := range []struct {
		in   any
		body string
		want string
	}{
		{&createStream{}, `{"StreamName":"a-Z_0.9","ShardCount":1,"StreamModeDetails":{"StreamMode":"ON_DEMAND"},"Tags":{"k":""}}`, ""},
		{&createStream{}, `{}`,
			"1 validation error detected: Value null at 'streamName' failed to satisfy constraint: Member must not be null"},
		{&createStream{}, `{"StreamName":"","ShardCount":0}`,
			"3 validation errors detected: Value '0' at 'shardCount' failed to satisfy constraint: Member must have value greater than or equal to 1; " +
				"Value '' at 'streamName' failed to satisfy constraint: " + name + "; " +
				"Value '' at 'streamName' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{&createStream{}, `{"StreamName":"` + long + `"}`,
			"1 validation error detected: Value '" + long + "' at 'streamName' failed to satisfy constraint: Member must have length less than or equal to 128"},
		{&createStream{}, `{"StreamName":"a/b"}`,
			"1 validation error detected: Value 'a/b' at 'streamName' failed to satisfy constraint: " + name},
		{&createStream{}, `{"StreamName":"a","StreamModeDetails":{}}`,
			"1 validation error detected: Value null at 'streamModeDetails.streamMode' failed to satisfy constraint: Member must not be null"},
		{&createStream{}, `{"StreamName":"a","StreamModeDetails":{"StreamMode":"on_demand"}}`,
			"1 validation error detected: Value 'on_demand' at 'streamModeDetails.streamMode' failed to satisfy constraint: Member must satisfy enum value set: [PROVISIONED, ON_DEMAND]"},

		{&putRecords{}, `{"Records":[{"Data":"","PartitionKey":"k","ExplicitHashKey":"0"}],"StreamARN":"arn:aws-cn:kinesis:r:123456789012:stream/s"}`, ""},
		{&putRecords{}, `{}`,
			"1 validation error detected: Value null at 'records' failed to satisfy constraint: Member must not be null"},
		{&putRecords{}, `{"Records":[]}`,
			"1 validation error detected: Value '[]' at 'records' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{&putRecords{}, `{"Records":[{"Data":"","PartitionKey":"k"},{"Data":"","PartitionKey":"","ExplicitHashKey":"01"}],"StreamARN":"arn"}`,
			"3 validation errors detected: Value '' at 'records.2.member.partitionKey' failed to satisfy constraint: Member must have length greater than or equal to 1; " +
				"Value '01' at 'records.2.member.explicitHashKey' failed to satisfy constraint: Member must satisfy regular expression pattern: 0|([1-9]\\d{0,38}); " +
				"Value 'arn' at 'streamARN' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"},
		{&putRecords{}, `{"Records":[{"Data":""},null]}`,
			"3 validation errors detected: Value null at 'records.1.member.partitionKey' failed to satisfy constraint: Member must not be null; " +
				"Value null at 'records.2.member.partitionKey' failed to satisfy constraint: Member must not be null; " +
				"Value null at 'records.2.member.data' failed to satisfy constraint: Member must not be null"},
		{&putRecords{}, `{"Records":[` + strings.Repeat(`{"Data":"","PartitionKey":"k"},`, 500) + `{"Data":"","PartitionKey":"k"}]}`,
			"1 validation error detected: Value at 'records' failed to satisfy constraint: Member must have length less than or equal to 500"},
		{&putRecords{}, `{"Records":[{"PartitionKey":"k","Data":"` + strings.Repeat("AAAA", 10<<20/3+1) + `"}]}`,
			"1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=10485762 cap=10485762]' at 'records.1.member.data' failed to satisfy constraint: Member must have length less than or equal to 10485760"},

		{&getShardIterator{}, `{"ShardId":"shardId-0","ShardIteratorType":"LATEST","Timestamp":1}`, ""},
		{&getShardIterator{}, `{"ShardId":"","ShardIteratorType":"latest","StartingSequenceNumber":"x"}`,
			"4 validation errors detected: Value '' at 'shardId' failed to satisfy constraint: " + name + "; " +
				"Value '' at 'shardId' failed to satisfy constraint: Member must have length greater than or equal to 1; " +
				"Value 'latest' at 'shardIteratorType' failed to satisfy constraint: Member must satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]; " +
				"Value 'x' at 'startingSequenceNumber' failed to satisfy constraint: Member must satisfy regular expression pattern: 0|([1-9]\\d{0,128})"},

		{&addTagsToStream{}, `{"Tags":{}}`,
			"1 validation error detected: Value '{}' at 'tags' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{&addTagsToStream{}, `{"Tags":{"b":"2","":"1"}}`,
			"1 validation error detected: Value '{=1, b=2}' at 'tags' failed to satisfy constraint: Map keys must satisfy constraint: " +
				"[Member must have length less than or equal to 128, Member must have length greater than or equal to 1]"},
		{&addTagsToStream{}, `{"Tags":{"a":"` + strings.Repeat("ä", 257) + `"}}`,
			"1 validation error detected: Value '{a=" + strings.Repeat("ä", 257) + "}' at 'tags' failed to satisfy constraint: Map value must satisfy constraint: " +
				"[Member must have length less than or equal to 256, Member must have length greater than or equal to 0]"},
		{&addTagsToStream{}, `{"Tags":{"a":"` + strings.Repeat("ä", 256) + `"}}`, ""}, // 512 bytes are 256 characters

		{&removeTagsFromStream{}, `{"TagKeys":["a",""]}`,
			"1 validation error detected: Value '[a, ]' at 'tagKeys' failed to satisfy constraint: Member must satisfy constraint: " +
				"[Member must have length less than or equal to 128, Member must have length greater than or equal to 1]"},

		{&listShards{}, `{"MaxResults":10001,"NextToken":"","ShardFilter":{}}`,
			"3 validation errors detected: Value '10001' at 'maxResults' failed to satisfy constraint: Member must have value less than or equal to 10000; " +
				"Value '' at 'nextToken' failed to satisfy constraint: Member must have length greater than or equal to 1; " +
				"Value null at 'shardFilter.type' failed to satisfy constraint: Member must not be null"},

		{&enableEnhancedMonitoring{}, `{"ShardLevelMetrics":["ALL","all"]}`,
			"1 validation error detected: Value '[ALL, all]' at 'shardLevelMetrics' failed to satisfy constraint: Member must satisfy constraint: " +
				"[Member must satisfy enum value set: [IncomingBytes, ALL]]"},
	} {
		if err := DecodeJSON([]byte(test.body), test.in); err != nil {
			t.Fatalf("%.200s: %v", test.body, err)
		}
		var v *ValidationError
		err := Validate(test.in)
		switch {
		case test.want == "" && err == nil:
		case !errors.As(err, &v) || v.Message != test.want:
			t.Errorf("%T %.200s\n got %v\nwant %s", test.in, test.body, err, test.want)
		}
	}
}

func TestValidateStopsAfterTenSentences(t *testing.T) {
	err := Validate(&putRecords{Records: make([]putRecordsEntry, 9)}) // two faults each
	const first = "10 validation errors detected: Value null at 'records.1.member.partitionKey' failed"
	if err == nil || !strings.HasPrefix(err.Error(), first) || strings.Count(err.Error(), "Value null") != 10 {
		t.Errorf("got %v", err)
	}
}

func TestValidateDoubleAndEmbedded(t *testing.T) {
	type ref struct {
		StreamName *string `aws:"required"`
	}
	type in struct {
		ref
		Proportion *float64 `aws:"min=0,max=1"`
		Items      []*ref   `aws:"max=5"`
	}
	const want = "3 validation errors detected: Value null at 'streamName' failed to satisfy constraint: Member must not be null; " +
		"Value '1.5' at 'proportion' failed to satisfy constraint: Member must have value less than or equal to 1; " +
		"Value null at 'items.2.member.streamName' failed to satisfy constraint: Member must not be null"
	err := Validate(&in{Proportion: ptr(1.5), Items: []*ref{nil, {}}})
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	if err := Validate(&in{ref: ref{ptr("")}, Proportion: ptr(1.0)}); err != nil {
		t.Error(err)
	}
}

// Patterns are Java's and match as a whole.
func TestPatterns(t *testing.T) {
	for _, test := range []struct{ pattern, re2, yes, no string }{
		{"[a-z]+", "", "abc", "abc1"},
		{"0|([1-9]\\d{0,38})", "", "10", "010"},
		{"^$|\\.[0-9a-z]+", "", "", "x.a"},
		{"^(?!\\s*$).+", "", " x", "  "},
		{"^(?=^\\$)(?=^\\S+$).*$", "", "$.a", "$. a"},
		{"^(?!aws:)[\\p{L}\\p{Z}\\p{N}_.:\\/=+\\-@%]*$", "", "my:täg 1", "aws:x"},
		{"(?![)(])[()a]", "", "a", "("},
		{"[\\u0001-\\uFFFF]*", "", "aß€", "a\x00"},
		{"[a-z]{2}-\\d{1}+", "", "eu-1", "eu-12"},
		{"((?!-)[a-z-]+(?<!-)\\.)+", "([a-z]([a-z-]*[a-z])?\\.)+", "a-b.c.", "-a."},
	} {
		p, err := compile(test.pattern, test.re2)
		if err != nil {
			t.Errorf("%s: %v", test.pattern, err)
			continue
		}
		if !p.matches(test.yes) || p.matches(test.no) {
			t.Errorf("%s: matches %q: %t, %q: %t; want true, false", test.pattern, test.yes, p.matches(test.yes), test.no, p.matches(test.no))
		}
		if want := "Member must satisfy regular expression pattern: " + test.pattern; p.sentence() != want {
			t.Errorf("got %s, want %s", p.sentence(), want)
		}
	}
}

func TestInnerPatternTakesTheRestOfTheTag(t *testing.T) {
	type in struct {
		Keys []string `elem:"min=1,enum=a|b,pattern=[a,b]{1,2}"`
	}
	const want = "1 validation error detected: Value '[c]' at 'keys' failed to satisfy constraint: Member must satisfy constraint: " +
		"[Member must have length greater than or equal to 1, Member must satisfy regular expression pattern: [a,b]{1,2}, Member must satisfy enum value set: [a, b]]"
	if err := Validate(&in{Keys: []string{"c"}}); err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestValidateRefusesWrongTags(t *testing.T) {
	for _, test := range []struct {
		in   any
		want string
	}{
		{struct {
			A *string `aws:"requird"`
		}{}, `aws tag: "requird" is not known; see Validate`},
		{struct {
			A *string `aws:"min=x"`
		}{}, `aws tag: "min=x" needs an integer`},
		{struct {
			A string `aws:"required"`
		}{}, `required needs a type that can be absent, such as *string`},
		{struct {
			A *string `pattern:"("`
		}{}, "pattern tag: error parsing regexp: missing closing ): `^(?:()$`"},
		{struct {
			A *string `pattern:"(?!a"`
		}{}, `pattern tag: the lookahead of "(?!a" is not closed`},
		{struct {
			A []string `pattern:"a"`
		}{}, `pattern and enum apply to strings; for those in a list or map use elem, key or value`},
		{struct {
			A *bool `aws:"min=1"`
		}{}, `min and max do not apply to *bool`},
		{struct {
			A []int32 `elem:"min=1"`
		}{}, `elem applies to lists of strings, key and value to maps; not to []int32`},
		{struct {
			A map[string]string `key:"max=a"`
		}{}, `key tag: "max=a" needs an integer`},
	} {
		func() {
			defer func() {
				want := "awsapi: field A of " + reflect.TypeOf(test.in).String() + ": " + test.want
				if got := recover(); got != want {
					t.Errorf("got  %v\nwant %v", got, want)
				}
			}()
			_ = Validate(test.in)
		}()
	}
}
