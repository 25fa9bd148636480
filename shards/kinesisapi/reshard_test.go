package kinesisapi_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	half = "170141183460469231731687303715884105728" // 2^127
	top  = "340282366920938463463374607431768211455"
)

func (h *host) split(t *testing.T, stream string, shard int, at string) {
	t.Helper()
	h.call("SplitShard", fmt.Sprintf(`{"StreamName":%q,"ShardToSplit":"shardId-%012d","NewStartingHashKey":%q}`, stream, shard, at)).is(t, 200, "")
}

// list is the ids of ListShards, the last digits only.
func (h *host) list(t *testing.T, more string) (ids string) {
	t.Helper()
	var page shardPage
	h.call("ListShards", `{"StreamName":"s"`+more+`}`).into(t, &page)
	for _, sh := range page.Shards {
		ids += strings.TrimLeft(strings.TrimPrefix(sh.ShardId, "shardId-"), "0") + " "
	}
	return strings.TrimSpace(strings.ReplaceAll(" "+ids, "  ", " 0 "))
}

func TestAClosedShardIsReadToItsEnd(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 1)
	h.put(t, "s", 0, "a")
	old := h.put(t, "s", 0, "b")
	latest := h.iterator(t, "s", "LATEST", "")
	h.split(t, "s", 0, half)
	h.put(t, "s", 1, "c")

	got := h.get(t, h.iterator(t, "s", "TRIM_HORIZON", ""))
	if got.data() != "a b" || got.NextShardIterator == "" || got.ChildShards != nil || got.MillisBehindLatest != 0 {
		t.Fatalf("%+v", got)
	}
	children := `"ChildShards":[{"ShardId":"shardId-000000000001","ParentShards":["shardId-000000000000"],"HashKeyRange":{"StartingHashKey":"0","EndingHashKey":"170141183460469231731687303715884105727"}},` +
		`{"ShardId":"shardId-000000000002","ParentShards":["shardId-000000000000"],"HashKeyRange":{"StartingHashKey":"` + half + `","EndingHashKey":"` + top + `"}}]`
	end := `{"Records":[],"MillisBehindLatest":0,` + children + `}`
	h.call("GetRecords", `{"ShardIterator":"`+got.NextShardIterator+`"}`).is(t, 200, end)
	h.call("GetRecords", `{"ShardIterator":"`+latest+`"}`).is(t, 200, end) // of before the split
	h.call("GetRecords", `{"ShardIterator":"`+h.iterator(t, "s", "LATEST", "")+`"}`).is(t, 200, end)
	h.call("GetRecords", `{"ShardIterator":"`+h.iterator(t, "s", "AFTER_SEQUENCE_NUMBER", `,"StartingSequenceNumber":"`+old.SequenceNumber+`"`)+`"}`).is(t, 200, end)

	var page shardPage
	h.call("ListShards", `{"StreamName":"s"}`).into(t, &page)
	parent, first := page.Shards[0], page.Shards[1]
	ending := parent.SequenceNumberRange.EndingSequenceNumber
	if len(ending) != 56 || ending <= old.SequenceNumber || first.SequenceNumberRange.EndingSequenceNumber != "" || first.ParentShardId != parent.ShardId || first.AdjacentParentShardId != "" ||
		first.SequenceNumberRange.StartingSequenceNumber <= ending {
		t.Fatalf("%+v", page)
	}
	h.call("GetRecords", `{"ShardIterator":"`+h.iterator(t, "s", "AT_SEQUENCE_NUMBER", `,"StartingSequenceNumber":"`+ending+`"`)+`"}`).is(t, 200, end)

	var cbor struct {
		Records           []struct{ SequenceNumber string }
		NextShardIterator *string
		ChildShards       []child
	}
	if name, _ := h.callCBOR(t, "GetRecords", struct{ ShardIterator string }{latest}, &cbor); name != "" {
		t.Fatal(name)
	}
	if want := []child{{"shardId-000000000001", []string{"shardId-000000000000"}, hashRange{"0", "170141183460469231731687303715884105727"}}, {"shardId-000000000002", []string{"shardId-000000000000"}, hashRange{half, top}}}; fmt.Sprint(cbor.ChildShards) != fmt.Sprint(want) || cbor.NextShardIterator != nil || cbor.Records == nil {
		t.Fatalf("in CBOR: %+v", cbor)
	}
}

// A reader that starts at a time finds what arrived since, in the shards that were open then and in
// their children.
func TestAtTimestampAcrossASplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		defer h.close()
		h.create(t, "s", 1)
		h.put(t, "s", 0, "a")
		time.Sleep(time.Minute)
		between := fmt.Sprintf(`,"Timestamp":%d`, time.Now().Unix())
		h.put(t, "s", 0, "b")
		time.Sleep(time.Minute)
		h.split(t, "s", 0, half)
		h.put(t, "s", 0, "c")
		time.Sleep(time.Minute)
		late := fmt.Sprintf(`,"Timestamp":%d`, time.Now().Unix())
		at := func(shard int, when string) records {
			var out struct{ ShardIterator string }
			h.call("GetShardIterator", fmt.Sprintf(`{"StreamName":"s","ShardId":"shardId-%012d","ShardIteratorType":"AT_TIMESTAMP"%s}`, shard, when)).into(t, &out)
			return h.get(t, out.ShardIterator)
		}
		if got := at(0, between); got.data() != "b" || got.NextShardIterator == "" {
			t.Errorf("the parent: %+v", got)
		}
		if got := at(1, between); got.data() != "c" {
			t.Errorf("the child: %+v", got)
		}
		if got := at(0, late); got.data() != "" || len(got.ChildShards) != 2 {
			t.Errorf("the parent, after its end: %+v", got)
		}
		if got := at(1, late); got.data() != "" || got.NextShardIterator == "" {
			t.Errorf("the child, after its last record: %+v", got)
		}
	})
}

// A shard of two parents is told of at the end of both.
func TestMergedShards(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 2)
	h.call("MergeShards", `{"StreamName":"s","ShardToMerge":"0","AdjacentShardToMerge":"1"}`).is(t, 200, "")
	want := child{"shardId-000000000002", []string{"shardId-000000000000", "shardId-000000000001"}, hashRange{"0", top}}
	if got := h.get(t, h.iterator(t, "s", "TRIM_HORIZON", "")); fmt.Sprint(got.ChildShards) != fmt.Sprint([]child{want}) || got.NextShardIterator != "" {
		t.Fatalf("%+v", got)
	}
	var page shardPage
	h.call("ListShards", `{"StreamName":"s","ShardFilter":{"Type":"AT_LATEST"}}`).into(t, &page)
	if len(page.Shards) != 1 || page.Shards[0].ParentShardId != "shardId-000000000000" || page.Shards[0].AdjacentParentShardId != "shardId-000000000001" {
		t.Fatalf("%+v", page)
	}
	var d struct {
		StreamDescription struct {
			Shards       []shard
			StreamStatus string
		}
	}
	h.call("DescribeStream", `{"StreamName":"s","ExclusiveStartShardId":"shardId-000000000000"}`).into(t, &d)
	if len(d.StreamDescription.Shards) != 2 || d.StreamDescription.StreamStatus != "ACTIVE" {
		t.Fatalf("%+v", d)
	}
	if text := h.call("DescribeStreamSummary", `{"StreamName":"s"}`).text; !strings.Contains(text, `"OpenShardCount":1,`) {
		t.Fatal(text)
	}
}

func TestReshardingThatIsRefused(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 2)
	h.call("CreateStream", `{"StreamName":"od","StreamModeDetails":{"StreamMode":"ON_DEMAND"}}`).is(t, 200, "")
	const demand = "Request is invalid. Stream od under account 000000000000 is in On-Demand mode."
	for _, c := range []struct{ op, body, name, text string }{
		{"SplitShard", `{"StreamName":"od","ShardToSplit":"0","NewStartingHashKey":"1000"}`, "ValidationException", demand},
		{"MergeShards", `{"StreamName":"od","ShardToMerge":"0","AdjacentShardToMerge":"1"}`, "ValidationException", demand},
		{"UpdateShardCount", `{"StreamName":"od","TargetShardCount":8,"ScalingType":"UNIFORM_SCALING"}`, "ValidationException", demand},
		{"SplitShard", `{"StreamName":"no","ShardToSplit":"0","NewStartingHashKey":"1000"}`, "ResourceNotFoundException", "Stream no under account 000000000000 not found."},
		{"SplitShard", `{"StreamName":"s","ShardToSplit":"7","NewStartingHashKey":"1000"}`, "ResourceNotFoundException", "Could not find shard shardId-000000000007 in stream s under account 000000000000."},
		{"SplitShard", `{"StreamName":"s","ShardToSplit":"x","NewStartingHashKey":"1000"}`, "ResourceNotFoundException", "Could not find shard x in stream s under account 000000000000."},
		{"SplitShard", `{"StreamName":"s","ShardToSplit":"0","NewStartingHashKey":"1"}`, "InvalidArgumentException", "NewStartingHashKey 1 used in SplitShard() on shard shardId-000000000000 in stream s under account 000000000000 is not both greater than one plus the shard's StartingHashKey 0 and less than the shard's EndingHashKey 170141183460469231731687303715884105727."},
		{"MergeShards", `{"StreamName":"s","ShardToMerge":"1","AdjacentShardToMerge":"0"}`, "InvalidArgumentException", "Shards shardId-000000000001 and shardId-000000000000 in stream s under account 000000000000 are not an adjacent pair of shards eligible for merging"},
		{"UpdateShardCount", `{"StreamName":"s","TargetShardCount":5,"ScalingType":"UNIFORM_SCALING"}`, "LimitExceededException", "UpdateShardCount cannot scale up over double your current open shard count. Current open shard count: 2, Target shard count: 5"},
		{"UpdateShardCount", `{"StreamName":"s","TargetShardCount":2,"ScalingType":"UNEVEN"}`, "ValidationException", "1 validation error detected: Value 'UNEVEN' at 'scalingType' failed to satisfy constraint: Member must satisfy enum value set: [UNIFORM_SCALING]"},
		{"SplitShard", `{}`, "ValidationException", "2 validation errors detected: Value null at 'newStartingHashKey' failed to satisfy constraint: Member must not be null; Value null at 'shardToSplit' failed to satisfy constraint: Member must not be null"},
	} {
		h.call(c.op, c.body).refused(t, c.name, "%s", c.text)
	}
	h.create(t, "ten", 10)
	h.call("UpdateShardCount", `{"StreamName":"ten","TargetShardCount":4,"ScalingType":"UNIFORM_SCALING"}`).refused(t, "LimitExceededException", "UpdateShardCount cannot scale down below half your current open shard count. Current open shard count: 10, Target shard count: 4")
}

func TestUpdateShardCount(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 3)
	h.call("UpdateShardCount", `{"StreamName":"s","TargetShardCount":6,"ScalingType":"UNIFORM_SCALING"}`).is(t, 200, `{"StreamName":"s","CurrentShardCount":3,"TargetShardCount":6,"StreamARN":"`+arnOfS+`"}`)
	if got := h.list(t, `,"ShardFilter":{"Type":"AT_LATEST"}`); got != "3 4 5 6 7 8" {
		t.Fatal(got)
	}
	h.call("UpdateShardCount", `{"StreamName":"s","TargetShardCount":3,"ScalingType":"UNIFORM_SCALING"}`).is(t, 200, `{"StreamName":"s","CurrentShardCount":6,"TargetShardCount":3,"StreamARN":"`+arnOfS+`"}`)
	if got := h.list(t, `,"ShardFilter":{"Type":"AT_LATEST"}`); got != "9 10 11" {
		t.Fatal(got)
	}
}

func TestShardFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		defer h.close()
		h.create(t, "s", 1)
		time.Sleep(time.Hour)
		h.split(t, "s", 0, half) // at one hour: 1 2
		time.Sleep(time.Hour)
		h.call("MergeShards", `{"StreamName":"s","ShardToMerge":"1","AdjacentShardToMerge":"2"}`).is(t, 200, "") // at two hours: 3
		time.Sleep(time.Hour)
		start := time.Now().Add(-3 * time.Hour)
		at := func(kind string, d time.Duration) string {
			return h.list(t, fmt.Sprintf(`,"ShardFilter":{"Type":%q,"Timestamp":%.3f}`, kind, float64(start.Add(d).UnixMilli())/1000))
		}
		for _, c := range []struct{ what, got, want string }{
			{"no filter", h.list(t, ""), "0 1 2 3"},
			{"AT_LATEST", h.list(t, `,"ShardFilter":{"Type":"AT_LATEST"}`), "3"},
			{"AT_TRIM_HORIZON", h.list(t, `,"ShardFilter":{"Type":"AT_TRIM_HORIZON"}`), "0"},
			{"FROM_TRIM_HORIZON", h.list(t, `,"ShardFilter":{"Type":"FROM_TRIM_HORIZON"}`), "0 1 2 3"},
			{"AFTER_SHARD_ID", h.list(t, `,"ShardFilter":{"Type":"AFTER_SHARD_ID","ShardId":"shardId-000000000001"}`), "2 3"},
			{"before the stream", at("AT_TIMESTAMP", -time.Hour), "0"},
			{"in the first hour", at("AT_TIMESTAMP", 30*time.Minute), "0"},
			{"at the split", at("AT_TIMESTAMP", time.Hour), "1 2"},
			{"before the merge", at("AT_TIMESTAMP", 2*time.Hour-time.Millisecond), "1 2"},
			{"at the merge", at("AT_TIMESTAMP", 2*time.Hour), "3"},
			{"from the first hour", at("FROM_TIMESTAMP", 30*time.Minute), "0 1 2 3"},
			{"from after the split", at("FROM_TIMESTAMP", time.Hour+time.Millisecond), "1 2 3"},
			{"from after the merge", at("FROM_TIMESTAMP", 2*time.Hour+time.Millisecond), "3"},
		} {
			if c.got != c.want {
				t.Errorf("%s: %s, not %s", c.what, c.got, c.want)
			}
		}
		time.Sleep(22*time.Hour + time.Second) // the first shard closed 24 hours ago
		if got := h.list(t, ""); got != "1 2 3" {
			t.Errorf("with an expired shard: %s", got)
		}
		if got := h.list(t, `,"ShardFilter":{"Type":"AT_TRIM_HORIZON"}`); got != "1 2" {
			t.Errorf("the horizon is in the second hour: %s", got)
		}
	})
}

func TestASubscriptionEndsWithItsShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		defer h.close()
		h.create(t, "s", 1)
		arn := h.register(t, "app")
		h.put(t, "s", 0, "a")
		body := `{"ConsumerARN":"` + arn + `","ShardId":"0","StartingPosition":{"Type":"TRIM_HORIZON"}}`
		w := h.subscribe(t.Context(), body)
		synctest.Wait()
		h.put(t, "s", 0, "b")
		h.split(t, "s", 0, half)
		<-w.done
		end := "end [{shardId-000000000001 [shardId-000000000000] {0 170141183460469231731687303715884105727}} {shardId-000000000002 [shardId-000000000000] {" + half + " " + top + "}}]"
		got := w.messages(t)
		if last := len(got) - 1; got[last] != end || slices.Index(got, "[b]") != last-1 {
			t.Fatalf("%q", got)
		}
		time.Sleep(5 * time.Second)
		again := h.subscribe(t.Context(), strings.Replace(body, "TRIM_HORIZON", "LATEST", 1))
		<-again.done
		if got := again.messages(t); len(got) != 2 || got[1] != end {
			t.Fatalf("a closed shard, from its end: %q", got)
		}
	})
}
