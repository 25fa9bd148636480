package kinesisapi_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestSentences holds the errors of the operations against AWS's own, to the letter. The host has
// one stream s of two shards, created when the clock of the test began: 2000-01-01 00:00:00.
func TestSentences(t *testing.T) {
	const (
		validation    = "ValidationException"
		serialization = "SerializationException"
		invalid       = "InvalidArgumentException"
		notFound      = "ResourceNotFoundException"
		mode          = `"StreamModeDetails":{"StreamMode":"ON_DEMAND"}`
		shard0        = `"StreamName":"s","ShardId":"shardId-000000000000"`
		noStream      = "Stream none under account 000000000000 not found."
		first         = "49377645731838394239669026679143878219996818931772817410" // position 1 of shard 0, at the first second
	)
	long := strings.Repeat("a", 129)
	for _, c := range []struct{ op, body, name, message string }{
		// What a body must be.
		{"CreateStream", `[]`, serialization, ""},
		{"CreateStream", `{"StreamName":"s"`, serialization, ""},
		{"PutRecord", `"x"`, serialization, ""},
		{"PutRecords", `{} {}`, serialization, ""},
		{"GetRecords", `nonsense`, serialization, ""},
		{"CreateStream", `{"StreamName":true}`, serialization, "class java.lang.Boolean can not be converted to an String"},
		{"CreateStream", `{"ShardCount":false}`, serialization, "class java.lang.Boolean can not be converted to an Integer"},
		{"CreateStream", `{"StreamName":12}`, serialization, "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an String"},
		{"PutRecord", `{"Data":12}`, serialization, "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to a Blob"},
		{"DeleteStream", `{"EnforceConsumerDeletion":12}`, serialization, "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to an Boolean"},
		{"GetRecords", `{"Limit":"12"}`, serialization, "class java.lang.String can not be converted to an Integer"},
		{"GetShardIterator", `{"Timestamp":"2000-01-01"}`, serialization, "class java.lang.String can not be converted to milliseconds since epoch"},
		{"PutRecords", `{"DryRun":"maybe"}`, serialization, "'MAYBE' can not be converted to an Boolean"},
		{"ListStreams", `{"Limit":[1]}`, serialization, "Start of list found where not expected"},
		{"ListStreams", `{"NextToken":{}}`, serialization, "Start of structure or map found where not expected."},
		{"PutRecords", `{"Records":"r"}`, serialization, "Expected list or null"},
		{"PutRecords", `{"Records":{}}`, serialization, "Start of structure or map found where not expected."},
		{"PutRecords", `{"Records":["r"]}`, serialization, "Expected null"},
		{"CreateStream", `{"Tags":1}`, serialization, "Expected map or null"},
		{"CreateStream", `{"Tags":[]}`, serialization, "Start of list found where not expected"},
		{"ListShards", `{"ShardFilter":[]}`, serialization, "Start of list found where not expected"},
		{"PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":"abc"}`, serialization, "'abc' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: 3"},
		{"PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":"ab!="}`, serialization, "'ab!=' can not be converted to a Blob: Invalid Base64 character: '!'"},
		{"PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"k","Data":"aGk="},{"PartitionKey":"k","Data":"aGl="}]}`, serialization, "'aGl=' can not be converted to a Blob: Invalid last non-pad Base64 character dectected"},

		// What the model demands of members, in the order in which AWS looks.
		{"CreateStream", `{}`, validation, "1 validation error detected: Value null at 'streamName' failed to satisfy constraint: Member must not be null"},
		{"CreateStream", `{"StreamName":"","ShardCount":0}`, validation, "3 validation errors detected: Value '0' at 'shardCount' failed to satisfy constraint: Member must have value greater than or equal to 1; " +
			"Value '' at 'streamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; " +
			"Value '' at 'streamName' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"CreateStream", `{"StreamName":"` + long + `"}`, validation, "1 validation error detected: Value '" + long + "' at 'streamName' failed to satisfy constraint: Member must have length less than or equal to 128"},
		{"CreateStream", `{"StreamName":"n","StreamModeDetails":{}}`, validation, "1 validation error detected: Value null at 'streamModeDetails.streamMode' failed to satisfy constraint: Member must not be null"},
		{"CreateStream", `{"StreamName":"n","StreamModeDetails":{"StreamMode":"AUTO"}}`, validation, "1 validation error detected: Value 'AUTO' at 'streamModeDetails.streamMode' failed to satisfy constraint: Member must satisfy enum value set: [PROVISIONED, ON_DEMAND]"},
		{"CreateStream", `{"StreamName":"n","Tags":{}}`, validation, "1 validation error detected: Value '{}' at 'tags' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"CreateStream", `{"StreamName":"n","Tags":{"":"v"}}`, validation, "1 validation error detected: Value '{=v}' at 'tags' failed to satisfy constraint: Map keys must satisfy constraint: [Member must have length less than or equal to 128, Member must have length greater than or equal to 1]"},
		{"CreateStream", `{"StreamName":"n","Tags":{"k":"` + long + long + `"}}`, validation, "1 validation error detected: Value '{k=" + long + long + "}' at 'tags' failed to satisfy constraint: Map value must satisfy constraint: [Member must have length less than or equal to 256, Member must have length greater than or equal to 0]"},
		{"CreateStream", `{"StreamName":"n","MaxRecordSizeInKiB":1023}`, validation, "1 validation error detected: Value '1023' at 'maxRecordSizeInKiB' failed to satisfy constraint: Member must have value greater than or equal to 1024"},
		{"DescribeStream", `{"Limit":0,"ExclusiveStartShardId":"","StreamName":"a b"}`, validation, "4 validation errors detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1; " +
			"Value '' at 'exclusiveStartShardId' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; " +
			"Value '' at 'exclusiveStartShardId' failed to satisfy constraint: Member must have length greater than or equal to 1; " +
			"Value 'a b' at 'streamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"},
		{"DescribeStream", `{"Limit":10001}`, validation, "1 validation error detected: Value '10001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10000"},
		{"DescribeStreamSummary", `{"StreamARN":"arn"}`, validation, `1 validation error detected: Value 'arn' at 'streamARN' failed to satisfy constraint: Member must satisfy regular expression pattern: arn:aws.*:kinesis:.*:\d{12}:stream/\S+`},
		{"DescribeStreamSummary", `{"StreamName":"s","StreamId":"x"}`, validation, "1 validation error detected: Value 'x' at 'streamId' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-z0-9]{20}-[a-z0-9]{3}"},
		{"ListStreams", `{"Limit":0,"ExclusiveStartStreamName":"a b"}`, validation, "2 validation errors detected: Value '0' at 'limit' failed to satisfy constraint: Member must have value greater than or equal to 1; " +
			"Value 'a b' at 'exclusiveStartStreamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"},
		{"ListShards", `{"ExclusiveStartShardId":"a b","MaxResults":0,"NextToken":"","StreamName":"a b"}`, validation, "4 validation errors detected: Value 'a b' at 'exclusiveStartShardId' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; " +
			"Value '0' at 'maxResults' failed to satisfy constraint: Member must have value greater than or equal to 1; " +
			"Value '' at 'nextToken' failed to satisfy constraint: Member must have length greater than or equal to 1; " +
			"Value 'a b' at 'streamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"},
		{"ListShards", `{"StreamName":"s","ShardFilter":{}}`, validation, "1 validation error detected: Value null at 'shardFilter.type' failed to satisfy constraint: Member must not be null"},
		{"GetShardIterator", `{"StreamName":"s"}`, validation, "2 validation errors detected: Value null at 'shardId' failed to satisfy constraint: Member must not be null; " +
			"Value null at 'shardIteratorType' failed to satisfy constraint: Member must not be null"},
		{"GetShardIterator", `{"StreamName":"a b","ShardId":"a b","ShardIteratorType":"x","StartingSequenceNumber":"01"}`, validation, "4 validation errors detected: Value 'a b' at 'shardId' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+; " +
			"Value 'x' at 'shardIteratorType' failed to satisfy constraint: Member must satisfy enum value set: [AFTER_SEQUENCE_NUMBER, LATEST, AT_TIMESTAMP, AT_SEQUENCE_NUMBER, TRIM_HORIZON]; " +
			`Value '01' at 'startingSequenceNumber' failed to satisfy constraint: Member must satisfy regular expression pattern: 0|([1-9]\d{0,128}); ` +
			"Value 'a b' at 'streamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+"},
		{"GetRecords", `{"Limit":10001}`, validation, "2 validation errors detected: Value '10001' at 'limit' failed to satisfy constraint: Member must have value less than or equal to 10000; " +
			"Value null at 'shardIterator' failed to satisfy constraint: Member must not be null"},
		{"PutRecord", `{}`, validation, "2 validation errors detected: Value null at 'partitionKey' failed to satisfy constraint: Member must not be null; " +
			"Value null at 'data' failed to satisfy constraint: Member must not be null"},
		{"PutRecord", `{"StreamName":"s","Data":"","PartitionKey":"","ExplicitHashKey":"00","SequenceNumberForOrdering":"x"}`, validation, `3 validation errors detected: Value 'x' at 'sequenceNumberForOrdering' failed to satisfy constraint: Member must satisfy regular expression pattern: 0|([1-9]\d{0,128}); ` +
			"Value '' at 'partitionKey' failed to satisfy constraint: Member must have length greater than or equal to 1; " +
			`Value '00' at 'explicitHashKey' failed to satisfy constraint: Member must satisfy regular expression pattern: 0|([1-9]\d{0,38})`},
		{"PutRecords", `{"StreamName":"s"}`, validation, "1 validation error detected: Value null at 'records' failed to satisfy constraint: Member must not be null"},
		{"PutRecords", `{"StreamName":"s","Records":[]}`, validation, "1 validation error detected: Value '[]' at 'records' failed to satisfy constraint: Member must have length greater than or equal to 1"},
		{"PutRecords", `{"StreamName":"s","Records":[{"Data":"","PartitionKey":"k"},{"ExplicitHashKey":"-1"}]}`, validation, "3 validation errors detected: Value null at 'records.2.member.partitionKey' failed to satisfy constraint: Member must not be null; " +
			`Value '-1' at 'records.2.member.explicitHashKey' failed to satisfy constraint: Member must satisfy regular expression pattern: 0|([1-9]\d{0,38}); ` +
			"Value null at 'records.2.member.data' failed to satisfy constraint: Member must not be null"},
		{"PutRecords", `{"StreamName":"s","Records":[` + strings.Repeat(`{},`, 5) + `{}]}`, validation, "10 validation errors detected: " + tenNulls()},
		{"PutRecords", `{"StreamName":"s","Records":[` + strings.Repeat(`{"Data":"","PartitionKey":"k"},`, 500) + `{"Data":"","PartitionKey":"k"}]}`, validation, "1 validation error detected: Value at 'records' failed to satisfy constraint: Member must have length less than or equal to 500"},

		// Streams that are not there, or are already.
		{"CreateStream", `{"StreamName":"s","ShardCount":1}`, "ResourceInUseException", "Stream s under account 000000000000 already exists."},
		{"DeleteStream", `{"StreamName":"none"}`, notFound, noStream},
		{"DescribeStream", `{"StreamName":"none"}`, notFound, noStream},
		{"DescribeStreamSummary", `{"StreamName":"none"}`, notFound, noStream},
		{"ListShards", `{"StreamName":"none"}`, notFound, noStream},
		{"PutRecord", `{"StreamName":"none","PartitionKey":"k","Data":""}`, notFound, noStream},
		{"PutRecords", `{"StreamName":"none","Records":[{"PartitionKey":"k","Data":""}]}`, notFound, noStream},
		{"GetShardIterator", `{"StreamName":"none","ShardId":"shardId-000000000000","ShardIteratorType":"LATEST"}`, notFound, "Shard shardId-000000000000 in stream none under account 000000000000 does not exist"},
		{"ListShards", `{"StreamName":"s","StreamCreationTimestamp":946684799}`, notFound, "Stream s under account 000000000000 not found."},

		// CreateStream.
		{"CreateStream", `{"StreamName":"n","ShardCount":10001}`, "LimitExceededException", "This request would exceed the shard limit for the account 000000000000 in us-east-1. Current shard count for the account: 2. Limit: 10000. Number of additional shards that would have resulted from this request: 10001. " +
			"Refer to the AWS Service Limits page (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current limits and how to request higher limits."},
		{"CreateStream", `{"StreamName":"n","ShardCount":1,` + mode + `}`, invalid, "ShardCount is not expected when StreamMode=ON_DEMAND"},
		{"CreateStream", `{"StreamName":"n","StreamModeDetails":{"StreamMode":"PROVISIONED"}}`, invalid, "ShardCount is required when StreamMode=PROVISIONED"},
		{"CreateStream", `{"StreamName":"n","WarmThroughputMiBps":0,` + mode + `}`, validation, "Request is invalid. WarmThroughputMiBps needs the MinimumThroughputBillingCommitment of account 000000000000 in us-east-1 to be ENABLED: see UpdateAccountSettings."},
		{"CreateStream", `{"StreamName":"n","WarmThroughputMiBps":0,"ShardCount":1}`, validation, "Request is invalid. WarmThroughputMiBps is for streams in On-Demand mode, and stream n under account 000000000000 is not, or is not to be."},
		{"CreateStream", `{"StreamName":"n","RecordDistributionStrategy":"AUTO","ShardCount":1}`, invalid, "RecordDistributionStrategy is for streams in On-Demand mode, and stream n under account 000000000000 is not, or is not to be."},
		{"CreateStream", `{"StreamName":"n","RecordDistributionStrategy":"auto"}`, validation, "1 validation error detected: Value 'auto' at 'recordDistributionStrategy' failed to satisfy constraint: Member must satisfy enum value set: [AUTO, USER_PARTITION_KEY]"},
		{"CreateStream", `{"StreamName":"n","Tags":{"a":"b!"}}`, invalid, "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - % @."},
		{"CreateStream", `{"StreamName":"n","Tags":{"50%":"b"}}`, invalid, "Failed to add tags to stream n under account 000000000000 because some tags contained illegal characters. The allowed characters are Unicode letters, white-spaces, '_',',','/','=','+','-','@'."},
		{"CreateStream", `{"StreamName":"n","Tags":{"aws:a":"b"}}`, invalid, "Tag key aws:a begins with aws:, which is reserved."},
		{"CreateStream", `{"StreamName":"n","Tags":{` + manyTags(51) + `}}`, invalid, "Failed to add tags to stream n under account 000000000000 because a given stream cannot have more than 10 tags associated with it."},

		// Which stream is meant.
		{"DescribeStream", `{}`, invalid, "Either StreamName or StreamARN should be provided."},
		{"PutRecord", `{"PartitionKey":"k","Data":""}`, invalid, "Either StreamName or StreamARN should be provided."},
		{"GetShardIterator", `{"ShardId":"0","ShardIteratorType":"LATEST"}`, invalid, "Either StreamName or StreamARN should be provided."},
		{"ListShards", `{}`, invalid, "Either NextToken or StreamName should be provided."},
		{"ListShards", `{"StreamName":"s","NextToken":"x"}`, invalid, "NextToken and StreamName cannot be provided together."},

		// Puts.
		{"PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":"","ExplicitHashKey":"340282366920938463463374607431768211456"}`, invalid, "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was 340282366920938463463374607431768211456"},
		{"PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"k","Data":""},{"PartitionKey":"k","Data":"","ExplicitHashKey":"999999999999999999999999999999999999999"}]}`, invalid, "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was 999999999999999999999999999999999999999"},
		{"PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":"","SequenceNumberForOrdering":"5"}`, invalid, "ExclusiveMinimumSequenceNumber 5 used in PutRecord on stream s under account 000000000000 is invalid."},
		{"PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":"","SequenceNumberForOrdering":"49646437577108476416916876405827138351405044374169452546"}`, invalid, "ExclusiveMinimumSequenceNumber 49646437577108476416916876405827138351405044374169452546 used in PutRecord on stream s under account 000000000000 is invalid."},

		// GetShardIterator.
		{"GetShardIterator", `{"StreamName":"s","ShardId":"shardId-","ShardIteratorType":"LATEST"}`, notFound, "Could not find shard shardId- in stream s under account 000000000000."},
		{"GetShardIterator", `{"StreamName":"s","ShardId":"shardId-2147483648","ShardIteratorType":"LATEST"}`, notFound, "Could not find shard shardId-2147483648 in stream s under account 000000000000."},
		{"GetShardIterator", `{"StreamName":"s","ShardId":"x-2","ShardIteratorType":"LATEST"}`, notFound, "Shard shardId-000000000002 in stream s under account 000000000000 does not exist"},
		{"DescribeStream", `{"StreamName":"s","ExclusiveStartShardId":"first"}`, notFound, "Could not find shard first in stream s under account 000000000000."},
		{"ListShards", `{"StreamName":"s","ExclusiveStartShardId":"first"}`, notFound, "Could not find shard first in stream s under account 000000000000."},
		{"GetShardIterator", `{` + shard0 + `,"ShardIteratorType":"AT_SEQUENCE_NUMBER"}`, invalid, "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified AT_SEQUENCE_NUMBER and no StartingSequenceNumber."},
		{"GetShardIterator", `{` + shard0 + `,"ShardIteratorType":"LATEST","StartingSequenceNumber":"5"}`, invalid, "Must either specify (1) AT_SEQUENCE_NUMBER or AFTER_SEQUENCE_NUMBER and StartingSequenceNumber or (2) TRIM_HORIZON or LATEST and no StartingSequenceNumber. Request specified LATEST and also a StartingSequenceNumber."},
		{"GetShardIterator", `{` + shard0 + `,"ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":"5"}`, invalid, "StartingSequenceNumber 5 used in GetShardIterator on shard shardId-000000000000 in stream s under account 000000000000 is invalid."},
		{"GetShardIterator", `{` + shard0 + `,"ShardIteratorType":"AT_SEQUENCE_NUMBER","StartingSequenceNumber":"` + first + `"}`, invalid, "StartingSequenceNumber " + first + " used in GetShardIterator on shard shardId-000000000000 in stream s under account 000000000000 is invalid."},
		{"GetShardIterator", `{"StreamName":"s","ShardId":"shardId-000000000001","ShardIteratorType":"AFTER_SEQUENCE_NUMBER","StartingSequenceNumber":"` + first + `"}`, invalid, "Invalid StartingSequenceNumber. It encodes shardId-000000000000, while it was used in a call to a shard with shardId-000000000001"},
		{"GetShardIterator", `{` + shard0 + `,"ShardIteratorType":"AFTER_SEQUENCE_NUMBER","StartingSequenceNumber":"49646437577108476416916876405827138351405044374169452546"}`, invalid, "StartingSequenceNumber 49646437577108476416916876405827138351405044374169452546 used in GetShardIterator on shard shardId-000000000000 in stream s under account 000000000000 is invalid because it did not come from this stream."},
		{"GetShardIterator", `{` + shard0 + `,"ShardIteratorType":"AT_TIMESTAMP"}`, invalid, "Must specify timestampInMillis parameter for iterator of type AT_TIMESTAMP. Current request has no timestamp parameter."},
		{"GetShardIterator", `{` + shard0 + `,"ShardIteratorType":"AT_TIMESTAMP","Timestamp":946684800.001}`, invalid, "The timestampInMillis parameter cannot be greater than the currentTimestampInMillis. timestampInMillis: 946684800001, currentTimestampInMillis: 946684800000"},
		{"GetShardIterator", `{` + shard0 + `,"ShardIteratorType":"LATEST","Timestamp":946684800}`, invalid, "Timestamp is only for iterators of type AT_TIMESTAMP. Request specified LATEST."},
		{"GetRecords", `{"ShardIterator":"x"}`, invalid, "Invalid ShardIterator."},

		// Lists.
		{"ListShards", `{"StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/s","NextToken":"x"}`, invalid, "NextToken and StreamARN cannot be provided together."},
		{"ListShards", `{"NextToken":"x","ExclusiveStartShardId":"0"}`, invalid, "NextToken and ExclusiveStartShardId cannot be provided together."},
		{"ListShards", `{"NextToken":"x","StreamCreationTimestamp":1}`, invalid, "NextToken and StreamCreationTimestamp cannot be provided together."},
		{"ListShards", `{"NextToken":"x","ShardFilter":{"Type":"AT_LATEST"}}`, invalid, "NextToken and ShardFilter cannot be provided together."},
		{"ListShards", `{"NextToken":"x"}`, invalid, "The NextToken is not one that ListShards has given out."},
		{"ListStreams", `{"NextToken":"x"}`, invalid, "The NextToken is not one that ListStreams has given out."},
		{"ListStreams", `{"NextToken":"x","ExclusiveStartStreamName":"s"}`, invalid, "NextToken and ExclusiveStartStreamName cannot be provided together."},
		{"ListShards", `{"StreamName":"s","ShardFilter":{"Type":"AT_TIMESTAMP"}}`, invalid, "ShardFilter of type AT_TIMESTAMP and Timestamp do not go together: the types AT_TIMESTAMP and FROM_TIMESTAMP need one, others must have none."},
		{"ListShards", `{"StreamName":"s","ShardFilter":{"Type":"AT_LATEST","ShardId":"0"}}`, invalid, "ShardFilter of type AT_LATEST and ShardId do not go together: the type AFTER_SHARD_ID needs one, others must have none."},
		{"ListShards", `{"StreamName":"s","ShardFilter":{"Type":"AT_TIMESTAMP","Timestamp":946684801}}`, invalid, "The Timestamp of the ShardFilter lies in the future."},
	} {
		t.Run(c.op+" "+c.message[:min(40, len(c.message))], func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := open(t, vfs.NewMem())
				h.create(t, "s", 2)
				got := h.call(c.op, c.body)
				switch {
				case c.message == "":
					got.is(t, 400, `{"__type":"`+c.name+`"}`)
				case c.name == serialization: // the only one with a capital M
					got.is(t, 400, strings.ReplaceAll(`{"__type":"SerializationException","Message":"`+c.message+`"}`, `\`, `\\`))
				default:
					got.refused(t, c.name, "%s", c.message)
				}
			})
		})
	}
}

// tenNulls are the first ten complaints about a list of empty records.
func tenNulls() string {
	var all []string
	for i := range 5 {
		for _, member := range []string{"partitionKey", "data"} {
			all = append(all, fmt.Sprintf("Value null at 'records.%d.member.%s' failed to satisfy constraint: Member must not be null", i+1, member))
		}
	}
	return strings.Join(all, "; ")
}

func manyTags(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf(`"k%d":""`, i)
	}
	return strings.Join(all, ",")
}

// TestAnswersToTheLetter shows what the answers look like on the wire.
func TestAnswersToTheLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		h.call("CreateStream", `{"StreamName":"s","ShardCount":1}`).is(t, 200, ``)
		h.call("CreateStream", `{"StreamName":"t"}`).is(t, 200, ``)
		const (
			start = "49377645731838394239669026679142669294177204302598111234"
			arn   = "arn:aws:kinesis:us-east-1:000000000000:stream/"
		)
		shard := `{"ShardId":"shardId-000000000000","HashKeyRange":{"StartingHashKey":"0","EndingHashKey":"340282366920938463463374607431768211455"},"SequenceNumberRange":{"StartingSequenceNumber":"` + start + `"}}`
		h.call("DescribeStream", `{"StreamName":"s"}`).is(t, 200, `{"StreamDescription":{"StreamName":"s","StreamARN":"`+arn+`s","StreamStatus":"ACTIVE","StreamModeDetails":{"StreamMode":"PROVISIONED"},`+
			`"Shards":[`+shard+`],"HasMoreShards":false,"RetentionPeriodHours":24,"StreamCreationTimestamp":946684800,"EnhancedMonitoring":[{"ShardLevelMetrics":[]}],"EncryptionType":"NONE"}}`)
		h.call("DescribeStreamSummary", `{"StreamName":"t"}`).is(t, 200, `{"StreamDescriptionSummary":{"StreamName":"t","StreamARN":"`+arn+`t","StreamStatus":"ACTIVE","StreamModeDetails":{"StreamMode":"ON_DEMAND"},"StreamCreationTimestamp":946684800,`+
			`"RetentionPeriodHours":24,"EnhancedMonitoring":[{"ShardLevelMetrics":[]}],"EncryptionType":"NONE","OpenShardCount":4,"ConsumerCount":0,"ChannelCount":0,"MaxRecordSizeInKiB":1024,"RecordDistributionStrategy":"USER_PARTITION_KEY"}}`)
		h.call("ListShards", `{"StreamName":"s"}`).is(t, 200, `{"Shards":[`+shard+`]}`)
		summary := `{"StreamName":"%[1]s","StreamARN":"` + arn + `%[1]s","StreamStatus":"ACTIVE","StreamModeDetails":{"StreamMode":"%[2]s"},"StreamCreationTimestamp":946684800}`
		h.call("ListStreams", `{}`).is(t, 200, `{"StreamNames":["s","t"],"HasMoreStreams":false,"StreamSummaries":[`+fmt.Sprintf(summary+","+strings.ReplaceAll(strings.ReplaceAll(summary, "[1]", "[3]"), "[2]", "[4]"), "s", "PROVISIONED", "t", "ON_DEMAND")+`]}`)

		time.Sleep(1500 * time.Millisecond)
		const first, second = "49377645731838394239669026679143878219996819000492294146", "49377645731838394239669026679145087145816433629667000322"
		h.call("PutRecord", `{"StreamName":"s","PartitionKey":"a/ü","Data":"aGVsbG8="}`).is(t, 200, `{"SequenceNumber":"`+first+`","ShardId":"shardId-000000000000"}`)
		h.call("PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"\"\n","Data":""}]}`).is(t, 200, `{"FailedRecordCount":0,"Records":[{"SequenceNumber":"`+second+`","ShardId":"shardId-000000000000"}]}`)
		time.Sleep(time.Second)
		got := h.call("GetRecords", `{"ShardIterator":"`+h.iterator(t, "s", "TRIM_HORIZON", "")+`","Limit":1}`)
		head, rest, _ := strings.Cut(got.text, `"NextShardIterator":"`)
		next, tail, _ := strings.Cut(rest, `"`)
		answer{got.status, head + tail}.is(t, 200, `{"Records":[{"SequenceNumber":"`+first+`","ApproximateArrivalTimestamp":946684801.5,"Data":"aGVsbG8=","PartitionKey":"a/ü"}],,"MillisBehindLatest":1000}`)
		got = h.call("GetRecords", `{"ShardIterator":"`+next+`"}`)
		head, rest, _ = strings.Cut(got.text, `"NextShardIterator":"`)
		_, tail, _ = strings.Cut(rest, `"`)
		answer{got.status, head + tail}.is(t, 200, `{"Records":[{"SequenceNumber":"`+second+`","ApproximateArrivalTimestamp":946684801.5,"Data":"","PartitionKey":"\"\n"}],,"MillisBehindLatest":0}`)
		h.call("DeleteStream", `{"StreamName":"s"}`).is(t, 200, ``)
	})
}
