package kinesisapi_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	invalidArgument = "InvalidArgumentException"
	notFoundName    = "ResourceNotFoundException"
	validationName  = "ValidationException"
	arnOfS          = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
)

func TestTagsOfBothGenerationsOfOperations(t *testing.T) {
	fs := vfs.NewMem()
	h := open(t, fs)
	h.call("CreateStream", `{"StreamName":"s","ShardCount":1,"Tags":{"at":"creation"}}`).is(t, 200, "")
	h.call("AddTagsToStream", `{"StreamName":"s","Tags":{"b":"1","a":"2"}}`).is(t, 200, "")
	h.call("TagResource", `{"ResourceARN":"`+arnOfS+`","Tags":{"c":"3","a":"4"}}`).is(t, 200, "")
	h.call("RemoveTagsFromStream", `{"StreamName":"s","TagKeys":["b","unknown"]}`).is(t, 200, "")
	all := `[{"Key":"a","Value":"4"},{"Key":"at","Value":"creation"},{"Key":"c","Value":"3"}]`
	h.call("ListTagsForStream", `{"StreamName":"s"}`).is(t, 200, `{"Tags":`+all+`,"HasMoreTags":false}`)
	h.close()
	h = open(t, fs) // tags are durable
	h.call("ListTagsForResource", `{"ResourceARN":"`+arnOfS+`"}`).is(t, 200, `{"Tags":`+all+`}`)
	h.call("ListTagsForStream", `{"StreamName":"s","Limit":1,"ExclusiveStartTagKey":"a"}`).is(t, 200, `{"Tags":[{"Key":"at","Value":"creation"}],"HasMoreTags":true}`)
	h.call("UntagResource", `{"ResourceARN":"`+arnOfS+`","TagKeys":["a","at","c"]}`).is(t, 200, "")
	h.call("ListTagsForStream", `{"StreamName":"s"}`).is(t, 200, `{"Tags":[],"HasMoreTags":false}`)
}

func TestAStreamHasAtMostFiftyTags(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 1)
	tags := make([]string, 50)
	for i := range tags {
		tags[i] = fmt.Sprintf(`"k%d":"v"`, i)
	}
	h.call("AddTagsToStream", `{"StreamName":"s","Tags":{`+strings.Join(tags, ",")+`}}`).is(t, 200, "")
	h.call("AddTagsToStream", `{"StreamName":"s","Tags":{"k0":"again"}}`).is(t, 200, "")
	h.call("AddTagsToStream", `{"StreamName":"s","Tags":{"one":"more"}}`).refused(t, invalidArgument,
		"Failed to add tags to stream s under account 000000000000 because a given stream cannot have more than 10 tags associated with it.")
	h.call("RemoveTagsFromStream", `{"StreamName":"s","TagKeys":["50%%"]}`).refused(t, invalidArgument,
		"Failed to remove tags from stream s under account 000000000000 because some tags contained illegal characters. The allowed characters are Unicode letters, white-spaces, '_',',','/','=','+','-','@'.")
}

// What expired under the old retention stays away when the retention is raised, over a restart too.
func TestRetention(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		h := open(t, fs)
		h.create(t, "s", 1)
		h.put(t, "s", 0, "old")
		time.Sleep(25 * time.Hour)
		h.put(t, "s", 0, "new")
		h.call("IncreaseStreamRetentionPeriod", `{"StreamName":"s","RetentionPeriodHours":48}`).is(t, 200, "")
		h.close()
		h = open(t, fs)
		defer h.close()
		read := func() string { return h.get(t, h.iterator(t, "s", "TRIM_HORIZON", "")).data() }
		if got := read(); got != "new" {
			t.Fatalf("after raising the retention the stream holds %q", got)
		}
		time.Sleep(47 * time.Hour)
		if got := read(); got != "new" {
			t.Fatalf("within the longer retention the stream holds %q", got)
		}
		h.call("DecreaseStreamRetentionPeriod", `{"StreamName":"s","RetentionPeriodHours":24}`).is(t, 200, "")
		if got := read(); got != "" {
			t.Fatalf("after lowering the retention the stream holds %q", got)
		}
		h.call("IncreaseStreamRetentionPeriod", `{"StreamName":"s","RetentionPeriodHours":24}`).is(t, 200, "") // the present one
		h.call("DecreaseStreamRetentionPeriod", `{"StreamName":"s","RetentionPeriodHours":24}`).is(t, 200, "")
	})
}

func TestRetentionSentences(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 1)
	h.call("IncreaseStreamRetentionPeriod", `{"StreamName":"s","RetentionPeriodHours":72}`).is(t, 200, "")
	for body, sentence := range map[string]string{
		"Increase 23":   "Minimum allowed retention period is 24 hours. Requested retention period (23 hours) is too short.",
		"Decrease -5":   "Minimum allowed retention period is 24 hours. Requested retention period (-5 hours) is too short.",
		"Increase 8761": "Maximum allowed retention period is 8760 hours. Requested retention period (8761 hours) is too long.",
		"Increase 48":   "Requested retention period (48 hours) for stream s can not be shorter than existing retention period (72 hours). Use DecreaseRetentionPeriod API.",
		"Decrease 96":   "Requested retention period (96 hours) for stream s can not be longer than existing retention period (72 hours). Use IncreaseRetentionPeriod API.",
	} {
		which, hours, _ := strings.Cut(body, " ")
		h.call(which+"StreamRetentionPeriod", `{"StreamName":"s","RetentionPeriodHours":`+hours+`}`).refused(t, invalidArgument, "%s", sentence)
	}
}

func TestModeAndRecordSize(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 2)
	h.call("UpdateStreamMode", `{"StreamARN":"`+arnOfS+`","StreamModeDetails":{"StreamMode":"ON_DEMAND"}}`).is(t, 200, "")
	h.call("UpdateStreamMode", `{"StreamARN":"`+arnOfS+`","StreamModeDetails":{"StreamMode":"ON_DEMAND"}}`).is(t, 200, "") // no change is no error
	h.call("DescribeLimits", `{}`).is(t, 200, `{"ShardLimit":20000,"OpenShardCount":0,"OnDemandStreamCount":1,"OnDemandStreamCountLimit":50}`)
	h.call("UpdateStreamMode", `{"StreamARN":"`+arnOfS+`","StreamModeDetails":{"StreamMode":"PROVISIONED"},"WarmThroughputMiBps":1}`).refused(t, validationName,
		"Request is invalid. WarmThroughputMiBps is for streams in On-Demand mode, and stream s under account 000000000000 is not, or is not to be.")
	big := fmt.Sprintf(`{"StreamName":"s","PartitionKey":"k","Data":%q}`, strings.Repeat("AAAA", 500_000)) // 1.5 MB of data
	h.call("PutRecord", big).refused(t, "ValidationException", "1 validation error detected: Value at 'data' failed to satisfy constraint: Member must have length less than or equal to 1048576")
	h.call("UpdateMaxRecordSize", `{"StreamARN":"`+arnOfS+`","MaxRecordSizeInKiB":2048}`).is(t, 200, "")
	if a := h.call("PutRecord", big); a.status != 200 {
		t.Fatalf("a record below the new limit: %d %.200s", a.status, a.text)
	}
}
