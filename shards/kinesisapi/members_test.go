package kinesisapi

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/shardmill/shardmill/internal/awsapi"
)

// The constraints of AWS's model that several members share.
const (
	aName     = "string 1..128 [a-zA-Z0-9_.-]+"
	anARN     = `string 1..2048 arn:aws.*:kinesis:.*:\d{12}:stream/\S+`
	anID      = "string 1..24 [a-z0-9]{20}-[a-z0-9]{3}"
	aSeq      = `string 0|([1-9]\d{0,128})`
	aToken    = "string 1..1048576"
	aPage     = "integer 1..10000"
	aBlob     = "required blob 0..10485760"
	aKey      = "required string 1..256"
	aHash     = `string 0|([1-9]\d{0,38})`
	aRes      = `required string 1..2048 arn:aws.*:kinesis:.*:\d{12}:.*stream/\S+`
	aTags     = "required map 1..200 key 1..128 value 0..256"
	aConsumer = `1..2048 ^(arn):aws.*:kinesis:.*:\d{12}:.*stream\/[a-zA-Z0-9_.-]+\/consumer\/[a-zA-Z0-9_.-]+:[0-9]+`
	tagKey    = "required list 1..50 elem 1..128"
	aStrategy = "AUTO|USER_PARTITION_KEY"
)

// model is the input of every operation as AWS's model of 2013-12-02 has it, with what came later:
// RecordDistributionStrategy and DryRun. PartitionKey is no longer required by the newest models;
// here it is but for streams that do without (put.go).
var model = map[string]map[string]string{
	"CreateStream": {
		"StreamName": "required " + aName, "ShardCount": "integer 1..", "StreamModeDetails": "structure", "StreamModeDetails.StreamMode": "required string ON_DEMAND|PROVISIONED",
		"Tags": "map 1..200 key 1..128 value 0..256", "WarmThroughputMiBps": "integer 0..", "MaxRecordSizeInKiB": "integer 1024..10240", "RecordDistributionStrategy": "string " + aStrategy,
	},
	"DeleteStream":          {"StreamName": aName, "EnforceConsumerDeletion": "boolean", "StreamARN": anARN, "StreamId": anID},
	"DescribeStream":        {"StreamName": aName, "Limit": aPage, "ExclusiveStartShardId": aName, "StreamARN": anARN, "StreamId": anID},
	"DescribeStreamSummary": {"StreamName": aName, "StreamARN": anARN, "StreamId": anID},
	"ListStreams":           {"Limit": aPage, "ExclusiveStartStreamName": aName, "NextToken": aToken},
	"ListShards": {
		"StreamName": aName, "NextToken": aToken, "ExclusiveStartShardId": aName, "MaxResults": aPage, "StreamCreationTimestamp": "timestamp", "StreamARN": anARN, "StreamId": anID,
		"ShardFilter": "structure", "ShardFilter.Type": "required string AFTER_SHARD_ID|AT_LATEST|AT_TIMESTAMP|AT_TRIM_HORIZON|FROM_TIMESTAMP|FROM_TRIM_HORIZON", "ShardFilter.ShardId": aName, "ShardFilter.Timestamp": "timestamp",
	},
	"SplitShard":       {"StreamName": aName, "ShardToSplit": "required " + aName, "NewStartingHashKey": "required " + aHash, "StreamARN": anARN, "StreamId": anID},
	"MergeShards":      {"StreamName": aName, "ShardToMerge": "required " + aName, "AdjacentShardToMerge": "required " + aName, "StreamARN": anARN, "StreamId": anID},
	"UpdateShardCount": {"StreamName": aName, "TargetShardCount": "required integer 1..", "ScalingType": "required string UNIFORM_SCALING", "StreamARN": anARN, "StreamId": anID},
	"PutRecord":        {"StreamName": aName, "Data": aBlob, "PartitionKey": aKey, "ExplicitHashKey": aHash, "SequenceNumberForOrdering": aSeq, "DryRun": "boolean", "StreamARN": anARN, "StreamId": anID},
	"PutRecords": {
		"Records": "required list 1..500", "Records.Data": aBlob, "Records.ExplicitHashKey": aHash, "Records.PartitionKey": aKey,
		"StreamName": aName, "DryRun": "boolean", "StreamARN": anARN, "StreamId": anID,
	},
	"GetShardIterator": {
		"StreamName": aName, "ShardId": "required " + aName, "ShardIteratorType": "required string AFTER_SEQUENCE_NUMBER|AT_SEQUENCE_NUMBER|AT_TIMESTAMP|LATEST|TRIM_HORIZON",
		"StartingSequenceNumber": aSeq, "Timestamp": "timestamp", "DryRun": "boolean", "StreamARN": anARN, "StreamId": anID,
	},
	"GetRecords": {"ShardIterator": "required string 1..512", "Limit": aPage, "DryRun": "boolean", "StreamARN": anARN, "StreamId": anID},

	"AddTagsToStream":      {"Tags": aTags, "StreamName": aName, "StreamARN": anARN, "StreamId": anID},
	"RemoveTagsFromStream": {"TagKeys": tagKey, "StreamName": aName, "StreamARN": anARN, "StreamId": anID},
	"ListTagsForStream":    {"StreamName": aName, "ExclusiveStartTagKey": "string 1..128", "Limit": "integer 1..50", "StreamARN": anARN, "StreamId": anID},
	"TagResource":          {"Tags": aTags, "ResourceARN": aRes, "StreamId": anID},
	"UntagResource":        {"TagKeys": tagKey, "ResourceARN": aRes, "StreamId": anID},
	"ListTagsForResource":  {"ResourceARN": aRes, "StreamId": anID},

	"IncreaseStreamRetentionPeriod": {"RetentionPeriodHours": "required integer", "StreamName": aName, "StreamARN": anARN, "StreamId": anID},
	"DecreaseStreamRetentionPeriod": {"RetentionPeriodHours": "required integer", "StreamName": aName, "StreamARN": anARN, "StreamId": anID},
	"UpdateStreamMode": {
		"StreamARN": "required " + anARN, "StreamId": anID, "StreamModeDetails": "required structure",
		"StreamModeDetails.StreamMode": "required string ON_DEMAND|PROVISIONED", "WarmThroughputMiBps": "integer 0..",
	},
	"UpdateStreamWarmThroughput":             {"WarmThroughputMiBps": "required integer 0..", "StreamName": aName, "StreamARN": anARN, "StreamId": anID},
	"UpdateStreamRecordDistributionStrategy": {"StreamARN": "required " + anARN, "StreamId": anID, "RecordDistributionStrategy": "required string " + aStrategy},
	"StartStreamEncryption":                  {"EncryptionType": "required string KMS|NONE", "KeyId": "required string 1..2048", "StreamName": aName, "StreamARN": anARN, "StreamId": anID},
	"StopStreamEncryption":                   {"EncryptionType": "required string KMS|NONE", "KeyId": "required string 1..2048", "StreamName": aName, "StreamARN": anARN, "StreamId": anID},
	"EnableEnhancedMonitoring":               {"ShardLevelMetrics": "required list 1..7", "StreamName": aName, "StreamARN": anARN, "StreamId": anID},
	"DisableEnhancedMonitoring":              {"ShardLevelMetrics": "required list 1..7", "StreamName": aName, "StreamARN": anARN, "StreamId": anID},
	"DescribeAccountSettings":                {},
	"UpdateAccountSettings":                  {"MinimumThroughputBillingCommitment": "required structure", "MinimumThroughputBillingCommitment.Status": "required string DISABLED|ENABLED"},

	"UpdateMaxRecordSize":  {"StreamARN": anARN, "StreamId": anID, "MaxRecordSizeInKiB": "required integer 1024..10240"},
	"PutResourcePolicy":    {"ResourceARN": aRes, "StreamId": anID, "Policy": "required string"},
	"GetResourcePolicy":    {"ResourceARN": aRes, "StreamId": anID},
	"DeleteResourcePolicy": {"ResourceARN": aRes, "StreamId": anID},
	"DescribeLimits":       {},

	"RegisterStreamConsumer":   {"StreamARN": "required " + anARN, "StreamId": anID, "ConsumerName": "required " + aName, "Tags": "map 1..200 key 1..128 value 0..256"},
	"DeregisterStreamConsumer": {"StreamARN": anARN, "StreamId": anID, "ConsumerName": aName, "ConsumerARN": "string " + aConsumer},
	"DescribeStreamConsumer":   {"StreamARN": anARN, "StreamId": anID, "ConsumerName": aName, "ConsumerARN": "string " + aConsumer},
	"ListStreamConsumers":      {"StreamARN": "required " + anARN, "StreamId": anID, "NextToken": aToken, "MaxResults": aPage, "StreamCreationTimestamp": "timestamp"},
	"SubscribeToShard": {
		"ConsumerARN": "required string " + aConsumer, "StreamId": anID, "ShardId": "required " + aName, "DryRun": "boolean", "StartingPosition": "required structure",
		"StartingPosition.Type":           "required string AFTER_SEQUENCE_NUMBER|AT_SEQUENCE_NUMBER|AT_TIMESTAMP|LATEST|TRIM_HORIZON",
		"StartingPosition.SequenceNumber": aSeq, "StartingPosition.Timestamp": "timestamp",
	},
}

// inputs is what the operations read.
var inputs = map[string]any{
	"CreateStream": createStreamIn{}, "DeleteStream": deleteStreamIn{}, "DescribeStream": describeStreamIn{}, "DescribeStreamSummary": describeStreamSummaryIn{},
	"ListStreams": listStreamsIn{}, "ListShards": listShardsIn{}, "SplitShard": splitShardIn{}, "MergeShards": mergeShardsIn{}, "UpdateShardCount": updateShardCountIn{}, "PutRecord": putRecordIn{}, "PutRecords": putRecordsIn{},
	"GetShardIterator": getShardIteratorIn{}, "GetRecords": getRecordsIn{},
	"AddTagsToStream": addTagsToStreamIn{}, "RemoveTagsFromStream": removeTagsFromStreamIn{}, "ListTagsForStream": listTagsForStreamIn{},
	"TagResource": tagResourceIn{}, "UntagResource": untagResourceIn{}, "ListTagsForResource": resourceIn{},
	"IncreaseStreamRetentionPeriod": retentionIn{}, "DecreaseStreamRetentionPeriod": retentionIn{},
	"UpdateStreamMode": updateStreamModeIn{}, "UpdateMaxRecordSize": updateMaxRecordSizeIn{},
	"PutResourcePolicy": putResourcePolicyIn{}, "GetResourcePolicy": resourceIn{}, "DeleteResourcePolicy": resourceIn{},
	"DescribeLimits":        describeLimitsIn{},
	"StartStreamEncryption": encryptionIn{}, "StopStreamEncryption": encryptionIn{}, "EnableEnhancedMonitoring": monitoringIn{}, "DisableEnhancedMonitoring": monitoringIn{},
	"UpdateStreamWarmThroughput": updateStreamWarmThroughputIn{}, "UpdateStreamRecordDistributionStrategy": updateStreamRecordDistributionStrategyIn{},
	"DescribeAccountSettings": describeAccountSettingsIn{}, "UpdateAccountSettings": updateAccountSettingsIn{},
	"RegisterStreamConsumer": registerStreamConsumerIn{}, "DeregisterStreamConsumer": deregisterStreamConsumerIn{},
	"DescribeStreamConsumer": describeStreamConsumerIn{}, "ListStreamConsumers": listStreamConsumersIn{}, "SubscribeToShard": subscribeToShardIn{},
}

// TestEveryMemberOfTheModelIsKnown: a member that is not would be ignored without a word.
func TestEveryMemberOfTheModelIsKnown(t *testing.T) {
	for op, want := range model {
		got := make(map[string]string)
		describe(got, "", reflect.TypeOf(inputs[op]))
		for name, constraint := range want {
			if got[name] != constraint {
				t.Errorf("%s.%s is %q, the model has %q", op, name, got[name], constraint)
			}
		}
		for name := range got {
			if want[name] == "" {
				t.Errorf("%s.%s is not in the model", op, name)
			}
		}
	}
}

// describe says of every member what model says.
func describe(into map[string]string, prefix string, t reflect.Type) {
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous {
			continue
		}
		typ := f.Type
		if typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		words := []string{}
		own, isRequired := strings.CutPrefix(f.Tag.Get("aws"), "required")
		if isRequired {
			words = append(words, "required")
		}
		words = append(words, kind(typ))
		words = appendBounds(words, "", own)
		for _, part := range []string{"elem", "key", "value"} {
			words = appendBounds(words, part, f.Tag.Get(part))
		}
		if p := f.Tag.Get("pattern"); p != "" {
			words = append(words, p)
		}
		if e := f.Tag.Get("enum"); e != "" {
			values := strings.Split(e, ",")
			slices.Sort(values) // AWS's sentences have an order of their own
			words = append(words, strings.Join(values, "|"))
		}
		into[prefix+f.Name] = strings.Join(words, " ")
		if typ.Kind() == reflect.Slice {
			typ = typ.Elem()
		}
		if typ.Kind() == reflect.Struct {
			describe(into, prefix+f.Name+".", typ)
		}
	}
}

func kind(t reflect.Type) string {
	switch {
	case t == reflect.TypeFor[awsapi.Timestamp]():
		return "timestamp"
	case t == reflect.TypeFor[[]byte]():
		return "blob"
	}
	return map[reflect.Kind]string{reflect.String: "string", reflect.Int32: "integer", reflect.Bool: "boolean", reflect.Struct: "structure", reflect.Slice: "list", reflect.Map: "map"}[t.Kind()]
}

func appendBounds(words []string, of, tag string) []string {
	var low, high string
	for part := range strings.SplitSeq(tag, ",") {
		if v, ok := strings.CutPrefix(part, "min="); ok {
			low = v
		}
		if v, ok := strings.CutPrefix(part, "max="); ok {
			high = v
		}
	}
	if low == "" && high == "" {
		return words
	}
	if of != "" {
		words = append(words, of)
	}
	return append(words, low+".."+high)
}

func TestTheTableOfOperations(t *testing.T) {
	a, err := New(t.Context(), nil, secretOnly{}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for op := range model {
		want = append(want, op)
	}
	got := a.Operations()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("operations are %q, want %q", got, want)
	}
}
