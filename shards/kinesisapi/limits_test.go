package kinesisapi_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// limited runs a test of a host that keeps AWS's limits, with a stream of two shards.
func limited(t *testing.T, test func(t *testing.T, h *host)) {
	synctest.Test(t, func(t *testing.T) {
		h := openLimited(t)
		defer h.close()
		h.create(t, "s", 2)
		test(t, h)
	})
}

// many puts n records of size bytes into the first shard and returns how many got in.
func (h *host) many(t *testing.T, n, size int) (in int) {
	t.Helper()
	one := `{"PartitionKey":"k","ExplicitHashKey":"0","Data":"` + base64.StdEncoding.EncodeToString(make([]byte, size)) + `"}`
	var out puts
	h.call("PutRecords", `{"StreamName":"s","Records":[`+strings.Repeat(one+",", n-1)+one+`]}`).into(t, &out)
	for _, r := range out.Records {
		switch {
		case r.ErrorCode == "":
			in++
		case r.ErrorCode != "ProvisionedThroughputExceededException" || r.ErrorMessage != "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000." || r.SequenceNumber != "":
			t.Fatalf("%+v", r)
		}
	}
	if out.FailedRecordCount != n-in || len(out.Records) != n {
		t.Fatalf("%d failed of %d", out.FailedRecordCount, len(out.Records))
	}
	return in
}

func TestAShardTakesAThousandRecordsASecond(t *testing.T) {
	limited(t, func(t *testing.T, h *host) {
		if a, b, c := h.many(t, 500, 1), h.many(t, 500, 1), h.many(t, 500, 1); a != 500 || b != 500 || c != 0 {
			t.Fatalf("%d, %d and %d of 500 records", a, b, c)
		}
		h.put(t, "s", 1, "other") // the limit is the shard's
		time.Sleep(250 * time.Millisecond)
		if n := h.many(t, 500, 1); n != 250 {
			t.Fatalf("%d records after a quarter of a second", n)
		}
		h.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","ExplicitHashKey":"0","Data":"eA=="}`).
			refused(t, "ProvisionedThroughputExceededException", "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000.")
	})
}

// On the average: a large record may overdraw what a second holds, and is waited for.
func TestAShardTakesAMegabyteASecond(t *testing.T) {
	limited(t, func(t *testing.T, h *host) {
		in := 0
		for range 100 {
			in += h.many(t, 4, 300<<10)
			time.Sleep(100 * time.Millisecond)
		}
		if bytes := in * 300 << 10; bytes < 10<<20 || bytes > 11<<20+300<<10 {
			t.Fatalf("%d bytes in ten seconds", bytes)
		}
	})
}

func TestReadsOfAShardAreLimited(t *testing.T) {
	limited(t, func(t *testing.T, h *host) {
		it := h.iterator(t, "s", "TRIM_HORIZON", "")
		for range 5 {
			h.get(t, it)
		}
		const refusal = "Rate exceeded for Shard - 000000000000/s/shardId-000000000000"
		h.call("GetRecords", `{"ShardIterator":"`+it+`"}`).refused(t, "ProvisionedThroughputExceededException", refusal)
		time.Sleep(200 * time.Millisecond)
		h.get(t, it)
		for range 4 {
			h.many(t, 1, 1<<20-1)
			time.Sleep(2 * time.Second)
		}
		got := h.get(t, h.iterator(t, "s", "TRIM_HORIZON", "")) // 4 MiB: two seconds' worth
		if len(got.Records) != 4 {
			t.Fatalf("%d records", len(got.Records))
		}
		time.Sleep(1990 * time.Millisecond)
		h.call("GetRecords", `{"ShardIterator":"`+got.NextShardIterator+`"}`).refused(t, "ProvisionedThroughputExceededException", refusal)
		time.Sleep(10 * time.Millisecond)
		h.get(t, got.NextShardIterator)
	})
}

func TestIteratorsOfAShardAreLimited(t *testing.T) {
	limited(t, func(t *testing.T, h *host) {
		for range 5 {
			h.iterator(t, "s", "LATEST", "")
		}
		h.call("GetShardIterator", `{"StreamName":"s","ShardId":"0","ShardIteratorType":"LATEST"}`).refused(t, "ProvisionedThroughputExceededException", "Rate exceeded for shard shardId-000000000000 in stream s under account 000000000000.")
		h.call("GetShardIterator", `{"StreamName":"s","ShardId":"1","ShardIteratorType":"LATEST"}`).into(t, nil)
	})
}

func TestAFanOutConsumerGetsTwoMegabytesASecond(t *testing.T) {
	limited(t, func(t *testing.T, h *host) {
		arn := h.register(t, "app")
		for range 6 {
			h.many(t, 1, 1<<20-1)
			time.Sleep(2 * time.Second)
		}
		w := h.subscribe(t.Context(), `{"ConsumerARN":"`+arn+`","ShardId":"0","StartingPosition":{"Type":"TRIM_HORIZON"}}`)
		records := func() int {
			return strings.Count(strings.Join(w.messages(t), " "), "\x00\x00 ") + strings.Count(strings.Join(w.messages(t), " "), "\x00]")
		}
		synctest.Wait()
		first := records()
		time.Sleep(time.Second)
		synctest.Wait()
		second := records()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if all := records(); first != 1 || second != 3 || all != 6 {
			t.Fatalf("%d records at once, %d after a second, %d in the end", first, second, all)
		}
	})
}

func TestCallsAreLimited(t *testing.T) {
	limited(t, func(t *testing.T, h *host) {
		for range 10 {
			h.call("DescribeStream", `{"StreamName":"s"}`).into(t, nil)
		}
		h.call("DescribeStream", `{"StreamName":"s"}`).refused(t, "LimitExceededException", "Rate exceeded for DescribeStream under account 000000000000: 10 calls a second are allowed.")
		h.callAs("123456789012/20000101/us-east-1", "DescribeStream", `{"StreamName":"s"}`).refused(t, "ResourceNotFoundException", "Stream s under account 123456789012 not found.")
		time.Sleep(100 * time.Millisecond)
		h.call("DescribeStream", `{"StreamName":"s"}`).into(t, nil)
	})
}

func TestChangesOfADay(t *testing.T) {
	limited(t, func(t *testing.T, h *host) {
		count := func(n int) answer {
			time.Sleep(time.Second)
			return h.call("UpdateShardCount", fmt.Sprintf(`{"StreamName":"s","TargetShardCount":%d,"ScalingType":"UNIFORM_SCALING"}`, n))
		}
		for i := range 10 {
			count(2+i%2).into(t, nil)
		}
		const refusal = "UpdateShardCount was called 10 times for stream s under account 000000000000 in the last 24 hours, which is as often as it may be."
		count(2).refused(t, "LimitExceededException", refusal)
		count(3).refused(t, "LimitExceededException", refusal) // not even to what there is
		time.Sleep(24*time.Hour - 12500*time.Millisecond)
		count(2).refused(t, "LimitExceededException", refusal)
		count(2).into(t, nil)
	})
}

func TestAccountLimits(t *testing.T) {
	limited(t, func(t *testing.T, h *host) {
		h.create(t, "a", 10_000)
		time.Sleep(time.Second)
		h.call("CreateStream", `{"StreamName":"b","ShardCount":9999}`).refused(t, "LimitExceededException", "This request would exceed the shard limit for the account 000000000000 in us-east-1. Current shard count for the account: 10002. Limit: 20000. Number of additional shards that would have resulted from this request: 9999. "+
			"Refer to the AWS Service Limits page (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current limits and how to request higher limits.")
	})
}

// A user's own machine is not rationed.
func TestNothingIsLimitedByDefault(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 2)
	for range 4 {
		if n := h.many(t, 500, 4000); n != 500 {
			t.Fatalf("%d of 500 records", n)
		}
	}
	it := h.iterator(t, "s", "TRIM_HORIZON", "")
	for range 20 {
		h.get(t, it)
		h.call("DescribeLimits", `{}`).into(t, nil)
	}
}
