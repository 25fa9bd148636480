package kinesisapi_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/shards"
)

// at is the rest of a request for an iterator at or after a sequence number.
func at(seq string) string { return `,"StartingSequenceNumber":"` + seq + `"` }

func parse(t *testing.T, seq string) shards.Seq {
	t.Helper()
	s, ok := shards.ParseSeq(seq)
	if !ok {
		t.Fatalf("%q is no sequence number", seq)
	}
	return s
}

func TestIteratorTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		h.create(t, "s", 2)
		a := h.put(t, "s", 0, "a").SequenceNumber // at 946684800.000
		h.put(t, "s", 1, "elsewhere")
		time.Sleep(1500 * time.Millisecond)
		b := h.put(t, "s", 0, "b").SequenceNumber // at 946684801.500
		time.Sleep(1500 * time.Millisecond)
		latest := h.iterator(t, "s", "LATEST", "")
		h.put(t, "s", 0, "c") // at 946684803.000

		// A position after record i, as fan-out consumers get it: above i, below i+1.
		afterA := parse(t, a)
		afterA.Time++
		// A number at the place of b, but of an earlier time: below b, above a.
		belowB := parse(t, b)
		belowB.Time--
		start := shards.Seq{Created: afterA.Created, Time: afterA.Created}.String()

		for _, c := range []struct{ kind, more, want string }{
			{"TRIM_HORIZON", "", "a b c"},
			{"LATEST", "", ""},
			{"AT_SEQUENCE_NUMBER", at(a), "a b c"},
			{"AFTER_SEQUENCE_NUMBER", at(a), "b c"},
			{"AT_SEQUENCE_NUMBER", at(b), "b c"},
			{"AFTER_SEQUENCE_NUMBER", at(b), "c"},
			{"AT_SEQUENCE_NUMBER", at(start), "a b c"},
			{"AFTER_SEQUENCE_NUMBER", at(start), "a b c"},
			{"AT_SEQUENCE_NUMBER", at(afterA.String()), "b c"},
			{"AFTER_SEQUENCE_NUMBER", at(afterA.String()), "b c"},
			{"AT_SEQUENCE_NUMBER", at(belowB.String()), "b c"},
			{"AFTER_SEQUENCE_NUMBER", at(belowB.String()), "b c"},
			{"AT_TIMESTAMP", `,"Timestamp":0`, "a b c"},
			{"AT_TIMESTAMP", `,"Timestamp":946684800`, "a b c"},
			{"AT_TIMESTAMP", `,"Timestamp":946684800.001`, "b c"},
			{"AT_TIMESTAMP", `,"Timestamp":9.466848015E8`, "b c"},
			{"AT_TIMESTAMP", `,"Timestamp":946684801.501`, "c"},
			{"AT_TIMESTAMP", `,"Timestamp":946684803`, "c"},
		} {
			if got := h.get(t, h.iterator(t, "s", c.kind, c.more)).data(); got != c.want {
				t.Errorf("%s%s reads %q, want %q", c.kind, c.more, got, c.want)
			}
		}
		if got := h.get(t, latest).data(); got != "c" {
			t.Errorf("the iterator of type LATEST from before c reads %q", got)
		}
		time.Sleep(time.Second)
		if got := h.get(t, h.iterator(t, "s", "AT_TIMESTAMP", `,"Timestamp":946684803.5`)); got.data() != "" || got.MillisBehindLatest != 0 {
			t.Errorf("AT_TIMESTAMP after the last record reads %+v", got)
		}
	})
}

func TestIteratorsOfAnEmptyShard(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 1)
	s, err := h.Get(shards.Scope{Account: "000000000000", Region: "us-east-1"}, "s")
	if err != nil {
		t.Fatal(err)
	}
	start := s.Shard(0).StartingSeq().String()
	var iterators []string
	for _, kind := range []string{"AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"} {
		iterators = append(iterators, h.iterator(t, "s", kind, at(start)))
	}
	iterators = append(iterators, h.iterator(t, "s", "TRIM_HORIZON", ""), h.iterator(t, "s", "LATEST", ""), h.iterator(t, "s", "AT_TIMESTAMP", `,"Timestamp":1`))
	h.put(t, "s", 0, "first")
	for i, it := range iterators {
		if got := h.get(t, it).data(); got != "first" {
			t.Errorf("iterator %d reads %q", i, got)
		}
	}
}

// TestTrimmedPositions: what is out of retention is gone, but its numbers still have a place.
func TestTrimmedPositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		h.create(t, "s", 1)
		a := h.put(t, "s", 0, "a").SequenceNumber
		time.Sleep(time.Hour)
		b := h.put(t, "s", 0, "b").SequenceNumber
		read := func() (all []string) {
			for _, c := range [][2]string{{"TRIM_HORIZON"}, {"AT_SEQUENCE_NUMBER", at(a)}, {"AFTER_SEQUENCE_NUMBER", at(a)}, {"AT_TIMESTAMP", `,"Timestamp":946684800`}, {"AT_SEQUENCE_NUMBER", at(b)}} {
				all = append(all, h.get(t, h.iterator(t, "s", c[0], c[1])).data())
			}
			return all
		}
		time.Sleep(23 * time.Hour) // a is as old as retention to the millisecond
		if got := fmt.Sprintf("%q", read()); got != `["a b" "a b" "b" "a b" "b"]` {
			t.Errorf("before a is out of retention: %s", got)
		}
		time.Sleep(time.Millisecond)
		if got := fmt.Sprintf("%q", read()); got != `["b" "b" "b" "b" "b"]` {
			t.Errorf("with a out of retention: %s", got)
		}
		time.Sleep(2 * time.Hour) // everything is; the minute's trim has run
		if got := fmt.Sprintf("%q", read()); got != `["" "" "" "" ""]` {
			t.Errorf("with all out of retention: %s", got)
		}
		c := h.put(t, "s", 0, "c").SequenceNumber
		if parse(t, c).Pos != parse(t, b).Pos+1 {
			t.Errorf("after %s came %s", b, c)
		}
		if got := fmt.Sprintf("%q", read()); got != `["c" "c" "c" "c" "c"]` {
			t.Errorf("with a new record: %s", got)
		}
	})
}

func TestNumbersOfAnotherStreamAndBeyondTheTip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		h.create(t, "s", 1)
		time.Sleep(time.Second) // streams of one second cannot be told apart by number, as on AWS
		h.create(t, "other", 1)
		h.put(t, "s", 0, "a")
		foreign := h.put(t, "other", 0, "x").SequenceNumber
		own := parse(t, h.put(t, "s", 0, "b").SequenceNumber)
		own.Pos++
		ask := func(seq string) answer {
			return h.call("GetShardIterator", `{"StreamName":"s","ShardId":"0","ShardIteratorType":"AFTER_SEQUENCE_NUMBER"`+at(seq)+`}`)
		}
		ask(foreign).refused(t, "InvalidArgumentException", "StartingSequenceNumber %s used in GetShardIterator on shard shardId-000000000000 in stream s under account 000000000000 is invalid because it did not come from this stream.", foreign)
		ask(own.String()).refused(t, "InvalidArgumentException", "StartingSequenceNumber %s used in GetShardIterator on shard shardId-000000000000 in stream s under account 000000000000 is invalid.", own)
	})
}

func TestIteratorsExpireAfterFiveMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		h.create(t, "s", 1)
		h.put(t, "s", 0, "a")
		it := h.iterator(t, "s", "TRIM_HORIZON", "")
		time.Sleep(5 * time.Minute)
		r := h.get(t, it)
		if r.data() != "a" {
			t.Errorf("after five minutes to the millisecond the iterator reads %q", r.data())
		}
		time.Sleep(time.Millisecond)
		h.call("GetRecords", `{"ShardIterator":"`+it+`"}`).refused(t, "ExpiredIteratorException",
			"Iterator expired. The iterator was created at time Sat Jan 01 00:00:00 UTC 2000 while right now it is Sat Jan 01 00:05:00 UTC 2000 which is further in the future than the tolerated delay of 300000 milliseconds.")
		if got := h.get(t, r.NextShardIterator).data(); got != "" {
			t.Errorf("the iterator of the answer reads %q", got)
		}
	})
}

func TestIteratorsAreUniqueReusableAndSurviveARestart(t *testing.T) {
	fs := vfs.NewMem()
	h := open(t, fs)
	longest := strings.Repeat("n", 128)
	h.create(t, longest, 1)
	h.put(t, longest, 0, "a")
	seen := make(map[string]bool)
	it := h.iterator(t, longest, "TRIM_HORIZON", "")
	for range 20 {
		for _, it := range []string{h.iterator(t, longest, "TRIM_HORIZON", ""), h.get(t, it).NextShardIterator} {
			if seen[it] {
				t.Fatal("an iterator was given out twice")
			}
			if len(it) > 512 {
				t.Fatalf("an iterator has %d characters, more than the model allows", len(it))
			}
			seen[it] = true
		}
		if got := h.get(t, it).data(); got != "a" { // the same iterator again and again
			t.Fatalf("the iterator reads %q", got)
		}
	}
	h.close()
	h = open(t, fs)
	if got := h.get(t, it).data(); got != "a" {
		t.Errorf("after a restart the iterator reads %q", got)
	}
}

func TestIteratorsThatAreNone(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 3)
	h.put(t, "s", 0, "a")
	it := h.iterator(t, "s", "TRIM_HORIZON", "")
	h.call("GetRecords", fmt.Sprintf(`{"ShardIterator":%q}`, `"`+it+`"`)).into(t, nil) // a shell script left it in quotes
	var page shardPage
	h.call("ListShards", `{"StreamName":"s","MaxResults":1}`).into(t, &page)
	other := open(t, vfs.NewMem())
	other.create(t, "s", 3)
	for what, bad := range map[string]string{
		"a token of ListShards":     page.NextToken,
		"an iterator of other data": other.iterator(t, "s", "TRIM_HORIZON", ""),
		"its end missing":           it[:len(it)-4],
		"one bit changed":           it[:40] + string(it[40]^1) + it[41:],
		"half a pair of quotes":     `"` + it,
		"quotes around nothing":     `""`,
		"no base64":                 "no base64!",
		"AWS's prefix alone":        "AAAAAAAAAAE=",
	} {
		t.Run(what, func(t *testing.T) {
			h.call("GetRecords", fmt.Sprintf(`{"ShardIterator":%q}`, bad)).refused(t, "InvalidArgumentException", "Invalid ShardIterator.")
		})
	}
}

// TestIteratorOfADeletedStream: a stream made anew under the old name does not take over iterators,
// tokens or sequence numbers.
func TestIteratorOfADeletedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		h.create(t, "s", 2)
		a := h.put(t, "s", 0, "old")
		it := h.iterator(t, "s", "TRIM_HORIZON", "")
		var page shardPage
		h.call("ListShards", `{"StreamName":"s","MaxResults":1}`).into(t, &page)
		time.Sleep(time.Second)
		h.call("DeleteStream", `{"StreamName":"s"}`).is(t, 200, "")
		check := func() {
			h.call("GetRecords", `{"ShardIterator":"`+it+`"}`).refused(t, "ResourceNotFoundException", "Shard shardId-000000000000 in stream s under account 000000000000 does not exist")
			h.call("ListShards", `{"NextToken":"`+page.NextToken+`"}`).refused(t, "ResourceNotFoundException", "The stream of the NextToken does not exist any more.")
		}
		check()
		h.call("GetShardIterator", `{"StreamName":"s","ShardId":"0","ShardIteratorType":"LATEST"}`).refused(t, "ResourceNotFoundException", "Shard shardId-000000000000 in stream s under account 000000000000 does not exist")
		h.create(t, "s", 2)
		check()
		h.call("GetShardIterator", `{"StreamName":"s","ShardId":"0","ShardIteratorType":"AT_SEQUENCE_NUMBER"`+at(a.SequenceNumber)+`}`).refused(t, "InvalidArgumentException",
			"StartingSequenceNumber %s used in GetShardIterator on shard shardId-000000000000 in stream s under account 000000000000 is invalid because it did not come from this stream.", a.SequenceNumber)
		if got := h.get(t, h.iterator(t, "s", "TRIM_HORIZON", "")).data(); got != "" {
			t.Errorf("the new stream holds %q", got)
		}
	})
}

func TestGetRecordsLimitsAndStreamARN(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		h.create(t, "s", 1)
		for i := range 7 {
			h.put(t, "s", 0, fmt.Sprint(i))
		}
		it, all := h.iterator(t, "s", "TRIM_HORIZON", ""), ""
		for _, want := range []string{"0 1 2", "3 4 5", "6", ""} {
			var r records
			h.call("GetRecords", `{"Limit":3,"StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/s","StreamId":"abcdefghij0123456789-abc","ShardIterator":"`+it+`"}`).into(t, &r)
			// Put and read in the same millisecond: still behind while there is more.
			if atTip := len(r.Records) < 3; r.data() != want || (r.MillisBehindLatest == 0) != atTip {
				t.Errorf("got %q, %d ms behind; want %q", r.data(), r.MillisBehindLatest, want)
			}
			it, all = r.NextShardIterator, all+r.data()
		}
		h.call("GetRecords", `{"StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/t","ShardIterator":"`+it+`"}`).refused(t, "InvalidArgumentException",
			"StreamARN arn:aws:kinesis:us-east-1:000000000000:stream/t is not the stream of the ShardIterator.")
	})
}

// TestGetRecordsStopsBefore10MiB counts data and keys.
func TestGetRecordsStopsBefore10MiB(t *testing.T) {
	if testing.Short() {
		t.Skip("moves tens of MiB, which takes long under the race detector")
	}
	h := open(t, vfs.NewMem())
	h.call("CreateStream", `{"StreamName":"s","ShardCount":1,"MaxRecordSizeInKiB":10240}`).is(t, 200, "")
	put := func(size int) { // data and a key of one byte
		h.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":"`+base64Of(size-1)+`"}`).into(t, nil)
	}
	const MiB = 1 << 20
	for _, size := range []int{4 * MiB, 6 * MiB, 1 * MiB, 9*MiB + 1, 10 * MiB, 1 * MiB} {
		put(size)
	}
	it := h.iterator(t, "s", "TRIM_HORIZON", "")
	var sizes []string
	for range 4 {
		r := h.get(t, it)
		var page []string
		for _, rec := range r.Records {
			page = append(page, fmt.Sprint(len(rec.Data)+len(rec.PartitionKey)))
		}
		sizes = append(sizes, strings.Join(page, "+"))
		it = r.NextShardIterator
	}
	want := fmt.Sprintf("%d+%d %d %d %d", 4*MiB, 6*MiB, MiB, 9*MiB+1, 10*MiB)
	if got := strings.Join(sizes, " "); got != want {
		t.Errorf("answers of %s bytes, want %s", got, want)
	}
}
