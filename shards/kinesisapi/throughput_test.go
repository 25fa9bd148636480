package kinesisapi_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
	"github.com/shardmill/shardmill/shards/kinesisapi"
)

const (
	enable  = `{"MinimumThroughputBillingCommitment":{"Status":"ENABLED"}}`
	disable = `{"MinimumThroughputBillingCommitment":{"Status":"DISABLED"}}`
)

// A commitment lasts a day at least; ended earlier it ends by itself, unless it is made again.
func TestTheCommitmentOfAnAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // begins at 946684800
		fs := vfs.NewMem()
		h := open(t, fs)
		is := func(op, body, want string) {
			t.Helper()
			h.call(op, body).is(t, 200, `{"MinimumThroughputBillingCommitment":`+want+`}`)
		}
		const first = `"StartedAt":946684800,"EarliestAllowedEndAt":946771200}`
		is("DescribeAccountSettings", `{}`, `{"Status":"DISABLED"}`)
		is("UpdateAccountSettings", disable, `{"Status":"DISABLED"}`)
		is("UpdateAccountSettings", enable, `{"Status":"ENABLED",`+first)
		time.Sleep(time.Hour)
		is("UpdateAccountSettings", enable, `{"Status":"ENABLED",`+first)
		is("UpdateAccountSettings", disable, `{"Status":"ENABLED_UNTIL_EARLIEST_ALLOWED_END",`+first)
		h.close()
		h = open(t, fs)
		is("DescribeAccountSettings", `{}`, `{"Status":"ENABLED_UNTIL_EARLIEST_ALLOWED_END",`+first)
		h.callAs("AK/20000101/eu-west-1", "DescribeAccountSettings", `{}`).is(t, 200, `{"MinimumThroughputBillingCommitment":{"Status":"DISABLED"}}`)
		h.callAs("111111111111/20000101/us-east-1", "DescribeAccountSettings", `{}`).is(t, 200, `{"MinimumThroughputBillingCommitment":{"Status":"DISABLED"}}`)
		is("UpdateAccountSettings", enable, `{"Status":"ENABLED",`+first) // takes the end back
		is("UpdateAccountSettings", disable, `{"Status":"ENABLED_UNTIL_EARLIEST_ALLOWED_END",`+first)
		time.Sleep(23 * time.Hour)
		is("DescribeAccountSettings", `{}`, `{"Status":"DISABLED","StartedAt":946684800,"EndedAt":946771200,"EarliestAllowedEndAt":946771200}`)
		is("UpdateAccountSettings", enable, `{"Status":"ENABLED","StartedAt":946771200,"EarliestAllowedEndAt":946857600}`)
		time.Sleep(25 * time.Hour)
		is("UpdateAccountSettings", disable, `{"Status":"DISABLED","StartedAt":946771200,"EndedAt":946861200,"EarliestAllowedEndAt":946857600}`)
		h.close()
	})
}

func TestWarmThroughput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		defer h.close()
		warmth := func(name string) string {
			t.Helper()
			d := h.call("DescribeStreamSummary", `{"StreamName":"`+name+`"}`).text
			_, d, _ = strings.Cut(d, `"OpenShardCount":`)
			open, d, _ := strings.Cut(d, ",")
			_, d, there := strings.Cut(d, `"WarmThroughput":`)
			if !there {
				return open
			}
			d, _, _ = strings.Cut(d, "}")
			return open + " " + d + "}"
		}
		const noCommitment = "Request is invalid. WarmThroughputMiBps needs the MinimumThroughputBillingCommitment of account 000000000000 in us-east-1 to be ENABLED: see UpdateAccountSettings."
		h.call("CreateStream", `{"StreamName":"s"}`).is(t, 200, "")
		h.call("UpdateStreamWarmThroughput", `{"StreamName":"s","WarmThroughputMiBps":10}`).refused(t, validationName, noCommitment)
		h.call("UpdateStreamMode", `{"StreamARN":"`+arnOfS+`","StreamModeDetails":{"StreamMode":"ON_DEMAND"},"WarmThroughputMiBps":1}`).refused(t, validationName, noCommitment)
		if got := warmth("s"); got != "4" {
			t.Errorf("without a commitment: %s", got)
		}
		h.call("UpdateAccountSettings", enable).into(t, nil)
		if got := warmth("s"); got != `4 {"TargetMiBps":0,"CurrentMiBps":0}` {
			t.Errorf("with a commitment: %s", got)
		}
		h.call("UpdateStreamWarmThroughput", `{"StreamName":"s","WarmThroughputMiBps":3}`).is(t, 200, `{"StreamARN":"`+arnOfS+`","StreamName":"s","WarmThroughput":{"TargetMiBps":3,"CurrentMiBps":3}}`)
		h.call("UpdateStreamWarmThroughput", `{"StreamName":"s","WarmThroughputMiBps":6}`).is(t, 200, `{"StreamARN":"`+arnOfS+`","StreamName":"s","WarmThroughput":{"TargetMiBps":6,"CurrentMiBps":6}}`)
		if got := warmth("s"); got != `6 {"TargetMiBps":6,"CurrentMiBps":6}` {
			t.Errorf("made warm: %s", got)
		}
		h.call("CreateStream", `{"StreamName":"warm","WarmThroughputMiBps":7}`).is(t, 200, "")
		if got := warmth("warm"); got != `7 {"TargetMiBps":7,"CurrentMiBps":7}` {
			t.Errorf("created warm: %s", got)
		}
		h.call("UpdateStreamWarmThroughput", `{"StreamName":"s","WarmThroughputMiBps":10241}`).refused(t, "LimitExceededException",
			"The warm throughput of stream s under account 000000000000 can be at most 10240 MiB/s. Requested: 10241.")
		const notOnDemand = "Request is invalid. WarmThroughputMiBps is for streams in On-Demand mode, and stream s under account 000000000000 is not, or is not to be."
		mode := `{"StreamARN":"` + arnOfS + `","StreamModeDetails":{"StreamMode":"PROVISIONED"}`
		h.call("UpdateStreamMode", mode+`,"WarmThroughputMiBps":1}`).refused(t, validationName, notOnDemand)
		h.call("UpdateStreamMode", mode+`}`).is(t, 200, "")
		h.call("UpdateStreamWarmThroughput", `{"StreamName":"s","WarmThroughputMiBps":1}`).refused(t, validationName, notOnDemand)
		if got := warmth("s"); got != "6" {
			t.Errorf("a provisioned stream: %s", got)
		}
		h.call("UpdateStreamMode", `{"StreamARN":"`+arnOfS+`","StreamModeDetails":{"StreamMode":"ON_DEMAND"},"WarmThroughputMiBps":9}`).is(t, 200, "")
		if got := warmth("s"); got != `9 {"TargetMiBps":9,"CurrentMiBps":9}` {
			t.Errorf("on demand again: %s", got)
		}
	})
}

// A stream whose strategy is AUTO places records itself and does without partition keys.
func TestRecordsWithoutPartitionKeys(t *testing.T) {
	h := open(t, vfs.NewMem())
	strategy := func(name, to string) answer {
		return h.call("UpdateStreamRecordDistributionStrategy", `{"StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/`+name+`","RecordDistributionStrategy":"`+to+`"}`)
	}
	const (
		none = "1 validation error detected: Value null at 'partitionKey' failed to satisfy constraint: Member must not be null"
		some = "2 validation errors detected: Value null at 'records.1.member.partitionKey' failed to satisfy constraint: Member must not be null; " +
			"Value null at 'records.3.member.partitionKey' failed to satisfy constraint: Member must not be null"
		one  = `{"StreamName":"s","Data":"YQ=="}`
		many = `{"StreamName":"s","Records":[{"Data":"YQ=="},{"Data":"YQ==","PartitionKey":"k","ExplicitHashKey":"999999999999999999999999999999999999999"},{"Data":"YQ==","ExplicitHashKey":null},{"Data":"YQ=="}]}`
	)
	h.call("CreateStream", `{"StreamName":"s"}`).is(t, 200, "")
	h.call("PutRecord", one).refused(t, validationName, none)
	h.call("PutRecords", strings.Replace(many, `,{"Data":"YQ=="}]`, "]", 1)).refused(t, validationName, some)
	strategy("s", "AUTO").is(t, 200, "")
	if d := h.call("DescribeStreamSummary", `{"StreamName":"s"}`).text; !strings.Contains(d, `"RecordDistributionStrategy":"AUTO"`) {
		t.Errorf("the summary is %s", d)
	}
	var first placed
	h.call("PutRecord", one).into(t, &first)
	var rest puts
	h.call("PutRecords", many).into(t, &rest)
	if first.ShardId != "shardId-000000000000" || len(rest.Records) != 4 {
		t.Fatalf("%+v %+v", first, rest)
	}
	for i, p := range rest.Records {
		if want := fmt.Sprintf("shardId-%012d", (i+1)%4); p.ShardId != want {
			t.Errorf("record %d went to %s, want %s: the hash key was not ignored", i, p.ShardId, want)
		}
	}
	h.call("PutRecord", `{"StreamName":"s","Data":"","SequenceNumberForOrdering":"`+first.SequenceNumber+`"}`).refused(t, invalidArgument,
		"SequenceNumberForOrdering cannot be used with stream s under account 000000000000: its RecordDistributionStrategy is AUTO, which keeps no order.")
	h.call("PutRecord", `{"StreamName":"s"}`).refused(t, validationName, "1 validation error detected: Value null at 'data' failed to satisfy constraint: Member must not be null")

	a := h.call("GetRecords", `{"ShardIterator":"`+h.iterator(t, "s", "TRIM_HORIZON", "")+`"}`) // shard 0: the first and the last
	if strings.Count(a.text, `"Data":"YQ=="}`) != 2 || strings.Contains(a.text, "PartitionKey") {
		t.Errorf("records without a key: %s", a.text)
	}
	var it struct{ ShardIterator string }
	h.call("GetShardIterator", `{"StreamName":"s","ShardId":"2","ShardIteratorType":"TRIM_HORIZON"}`).into(t, &it)
	if a := h.call("GetRecords", `{"ShardIterator":"`+it.ShardIterator+`"}`); !strings.Contains(a.text, `"Data":"YQ==","PartitionKey":"k"}`) {
		t.Errorf("a record with a key: %s", a.text)
	}
	var got struct {
		Records []struct{ PartitionKey *string }
	}
	h.callCBOR(t, "GetRecords", struct{ ShardIterator string }{h.iterator(t, "s", "TRIM_HORIZON", "")}, &got)
	if len(got.Records) != 2 || got.Records[0].PartitionKey != nil {
		t.Errorf("in CBOR: %+v", got)
	}

	h.call("UpdateStreamMode", `{"StreamARN":"`+arnOfS+`","StreamModeDetails":{"StreamMode":"PROVISIONED"}}`).refused(t, invalidArgument,
		"Stream s under account 000000000000 has the RecordDistributionStrategy AUTO, which provisioned streams cannot have: change it with UpdateStreamRecordDistributionStrategy first.")
	strategy("s", "USER_PARTITION_KEY").is(t, 200, "")
	h.call("PutRecord", one).refused(t, validationName, none)
	h.call("CreateStream", `{"StreamName":"auto","RecordDistributionStrategy":"AUTO"}`).is(t, 200, "")
	h.call("PutRecord", strings.Replace(one, `"s"`, `"auto"`, 1)).into(t, nil)
	h.create(t, "p", 1)
	strategy("p", "AUTO").refused(t, invalidArgument, "RecordDistributionStrategy is for streams in On-Demand mode, and stream p under account 000000000000 is not, or is not to be.")
}

func TestTagsAndPoliciesOfConsumers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		h := open(t, fs)
		h.create(t, "s", 1)
		h.call("RegisterStreamConsumer", `{"StreamARN":"`+arnOfS+`","ConsumerName":"app","Tags":{"at":"birth","bad":"b!"}}`).refused(t, invalidArgument, "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + - %% @.")
		h.call("RegisterStreamConsumer", `{"StreamARN":"`+arnOfS+`","ConsumerName":"app","Tags":{"at":"birth"}}`).into(t, nil)
		const arn = arnOfS + "/consumer/app:946684800"
		h.call("TagResource", `{"ResourceARN":"`+arn+`","Tags":{"a":"1","b":"2"}}`).is(t, 200, "")
		h.call("UntagResource", `{"ResourceARN":"`+arn+`","TagKeys":["a","none"]}`).is(t, 200, "")
		h.close()
		h = open(t, fs)
		defer h.close()
		h.call("ListTagsForResource", `{"ResourceARN":"`+arn+`"}`).is(t, 200, `{"Tags":[{"Key":"at","Value":"birth"},{"Key":"b","Value":"2"}]}`)
		h.call("ListTagsForResource", `{"ResourceARN":"`+arnOfS+`"}`).is(t, 200, `{"Tags":[]}`)
		h.call("TagResource", `{"ResourceARN":"`+arn+`","Tags":{`+manyTags(49)+`}}`).refused(t, invalidArgument,
			"Failed to add tags to stream s under account 000000000000 because a given stream cannot have more than 10 tags associated with it.")
		h.call("TagResource", `{"ResourceARN":"`+arn+`1","Tags":{"a":"1"}}`).refused(t, notFoundName, "Consumer %s1 not found.", arn)

		policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kinesis:SubscribeToShard","Resource":"` + arn + `"}]}`
		h.call("GetResourcePolicy", `{"ResourceARN":"`+arn+`"}`).is(t, 200, `{"Policy":"{}"}`)
		h.call("PutResourcePolicy", fmt.Sprintf(`{"ResourceARN":%q,"Policy":%q}`, arn, policy)).is(t, 200, "")
		h.call("PutResourcePolicy", fmt.Sprintf(`{"ResourceARN":%q,"Policy":%q}`, arnOfS, policy)).refused(t, invalidArgument, "The Resource of a Statement is not %s, which the policy is for.", arnOfS)
		h.call("GetResourcePolicy", `{"ResourceARN":"`+arn+`"}`).is(t, 200, fmt.Sprintf(`{"Policy":%q}`, policy))
		h.call("DeleteResourcePolicy", `{"ResourceARN":"`+arn+`"}`).is(t, 200, "")
		h.call("DeleteResourcePolicy", `{"ResourceARN":"`+arn+`"}`).refused(t, notFoundName, "%s has no resource policy.", arn)
	})
}

func TestResourcePolicies(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 1)
	arn := `{"ResourceARN":"` + arnOfS + `"`
	h.call("GetResourcePolicy", arn+`}`).is(t, 200, `{"Policy":"{}"}`)
	h.call("DeleteResourcePolicy", arn+`}`).refused(t, notFoundName, "%s has no resource policy.", arnOfS)
	h.call("PutResourcePolicy", arn+`,"Policy":"[]"}`).refused(t, invalidArgument, "The policy is not a JSON object.")
	policy := `{ "Statement": {"Effect":"Allow", "Principal":"*", "Action":"kinesis:*", "Resource":"*"} }`
	h.call("PutResourcePolicy", arn+fmt.Sprintf(`,"Policy":%q}`, strings.Replace(policy, "{", `{"Condition":{},`, 2))).refused(t, invalidArgument, "The policy has Condition, which is not one of Version, Id, Statement.")
	h.call("PutResourcePolicy", arn+fmt.Sprintf(`,"Policy":%q}`, strings.Replace(policy, `{"E`, `{"Condition":{},"E`, 1))).refused(t, invalidArgument, "Condition is not supported: nothing here could evaluate it.")
	h.call("PutResourcePolicy", arn+fmt.Sprintf(`,"Policy":%q}`, policy)).is(t, 200, "")
	h.call("GetResourcePolicy", arn+`}`).is(t, 200, fmt.Sprintf(`{"Policy":%q}`, policy)) // as it was given
	h.call("DeleteResourcePolicy", arn+`}`).is(t, 200, "")
	h.call("GetResourcePolicy", arn+`}`).is(t, 200, `{"Policy":"{}"}`)
}

// With quotas a stream has 20 consumers, 50 with a commitment, and 5 that are being created.
func TestQuotasOfConsumers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, err := journal.Open("data", journal.Options{FS: vfs.NewMem(), SegmentSize: 32 << 20})
		if err != nil {
			t.Fatal(err)
		}
		h := serveWith(t, store, store, shards.Options{Timing: shards.Timing{Create: 5 * time.Second}}, kinesisapi.Options{Limits: true}, nil)
		defer h.close()
		h.create(t, "s", 1)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		register := func(i int) answer {
			return h.call("RegisterStreamConsumer", fmt.Sprintf(`{"StreamARN":%q,"ConsumerName":"c%d"}`, arnOfS, i))
		}
		for i := range 5 {
			register(i).into(t, nil)
			time.Sleep(300 * time.Millisecond) // five calls a second are allowed
		}
		register(5).refused(t, "LimitExceededException", "Stream s under account 000000000000 has 5 consumers that are being created, as many as there can be at once.")
		for i := 5; i < 50; i++ {
			time.Sleep(5 * time.Second)
			if i == 20 {
				register(i).refused(t, "LimitExceededException", "Stream s under account 000000000000 has 20 consumers, as many as it can have.")
				h.call("UpdateAccountSettings", enable).into(t, nil)
			}
			register(i).into(t, nil)
		}
		time.Sleep(5 * time.Second)
		register(50).refused(t, "LimitExceededException", "Stream s under account 000000000000 has 50 consumers, as many as it can have.")
	})
}

// The states of a consumer when they take their time.
func TestConsumersTakeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, err := journal.Open("data", journal.Options{FS: vfs.NewMem(), SegmentSize: 32 << 20})
		if err != nil {
			t.Fatal(err)
		}
		h := serveWith(t, store, store, shards.Options{Timing: shards.Timing{Create: time.Second, Delete: time.Second}}, kinesisapi.Options{}, nil)
		defer h.close()
		h.create(t, "s", 1)
		time.Sleep(time.Second)
		synctest.Wait()
		arn := h.register(t, "app")
		state := func() string {
			t.Helper()
			var d struct {
				ConsumerDescription struct{ ConsumerStatus string }
			}
			h.call("DescribeStreamConsumer", `{"ConsumerARN":"`+arn+`"}`).into(t, &d)
			return d.ConsumerDescription.ConsumerStatus
		}
		const inactive = "Consumer app with creation timestamp 946684801 under stream: s , account 000000000000 is not in ACTIVE status."
		subscribe := `{"ConsumerARN":"` + arn + `","ShardId":"0","StartingPosition":{"Type":"LATEST"}}`
		if got := state(); got != "CREATING" {
			t.Error(got)
		}
		h.call("SubscribeToShard", subscribe).refused(t, "ResourceInUseException", inactive)
		h.call("PutResourcePolicy", `{"ResourceARN":"`+arn+`","Policy":"{}"}`).refused(t, "ResourceInUseException", inactive)
		time.Sleep(time.Second)
		if got := state(); got != "ACTIVE" {
			t.Error(got)
		}
		h.call("DeregisterStreamConsumer", `{"ConsumerARN":"`+arn+`"}`).is(t, 200, "")
		if got := state(); got != "DELETING" {
			t.Error(got)
		}
		h.call("SubscribeToShard", subscribe).refused(t, "ResourceInUseException", inactive)
		h.call("RegisterStreamConsumer", `{"StreamARN":"`+arnOfS+`","ConsumerName":"app"}`).refused(t, "ResourceInUseException", "Consumer app under stream s, account 000000000000 already exists.")
		time.Sleep(time.Second)
		h.call("DescribeStreamConsumer", `{"ConsumerARN":"`+arn+`"}`).refused(t, notFoundName, "Consumer app under stream s, account 000000000000 not found.")
		h.call("ListStreamConsumers", `{"StreamARN":"`+arnOfS+`"}`).is(t, 200, `{"Consumers":[]}`)
		h.register(t, "app")
	})
}
