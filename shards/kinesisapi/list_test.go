package kinesisapi_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
)

const streamARN = "arn:aws:kinesis:us-east-1:000000000000:stream/"

// TestShardsTileTheHashSpace: in every number, from 0 to 2^128-1 without hole or overlap.
func TestShardsTileTheHashSpace(t *testing.T) {
	h := open(t, vfs.NewMem())
	for _, n := range []int{1, 2, 3, 7, 1000} {
		name := fmt.Sprint("s", n)
		h.create(t, name, n)
		var page shardPage
		h.call("ListShards", `{"StreamName":"`+name+`"}`).into(t, &page)
		if len(page.Shards) != n || page.NextToken != "" {
			t.Fatalf("%d shards are listed, want %d", len(page.Shards), n)
		}
		next := shards.Hash{}
		for i, sh := range page.Shards {
			start, _ := shards.ParseHash(sh.HashKeyRange.StartingHashKey)
			end, _ := shards.ParseHash(sh.HashKeyRange.EndingHashKey)
			if sh.ShardId != fmt.Sprintf("shardId-%012d", i) || start != next || end.Less(start) {
				t.Fatalf("of %d shards, number %d is %+v", n, i, sh)
			}
			next = end.Next()
		}
		if next != (shards.Hash{}) {
			t.Fatalf("%d shards end before %s", n, next)
		}
	}
}

// numbers are the numbers of the shards, each with a point behind; 0 is the point alone.
func (p shardPage) numbers() (n []string) {
	for _, sh := range p.Shards {
		n = append(n, strings.TrimLeft(strings.TrimPrefix(sh.ShardId, "shardId-"), "0")+".")
	}
	return n
}

func TestListShardsPagesAndFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		h.create(t, "s", 6)
		pages := func(first string, more int) (all []string) {
			var page shardPage
			h.call("ListShards", first).into(t, &page)
			all = append(all, strings.Join(page.numbers(), ""))
			for page.NextToken != "" {
				token := page.NextToken
				page = shardPage{}
				h.call("ListShards", fmt.Sprintf(`{"NextToken":%q,"MaxResults":%d}`, token, more)).into(t, &page)
				all = append(all, strings.Join(page.numbers(), ""))
			}
			return all
		}
		for _, c := range []struct {
			first string
			more  int
			want  string
		}{
			{`{"StreamName":"s"}`, 1, ".1.2.3.4.5."},
			{`{"StreamARN":"` + streamARN + `s","MaxResults":4}`, 1, ".1.2.3. 4. 5."},
			{`{"StreamName":"s","MaxResults":1}`, 10000, ". 1.2.3.4.5."},
			{`{"StreamName":"s","MaxResults":2,"ExclusiveStartShardId":"shardId-2"}`, 2, "3.4. 5."},
			{`{"StreamName":"s","ExclusiveStartShardId":"shardId-000000000005"}`, 1, ""},
			{`{"StreamName":"s","ExclusiveStartShardId":"7"}`, 1, ""},
			{`{"StreamName":"s","MaxResults":1,"ShardFilter":{"Type":"AFTER_SHARD_ID","ShardId":"shardId-000000000002"}}`, 1, "3. 4. 5."},
			{`{"StreamName":"s","MaxResults":3,"ExclusiveStartShardId":"3","ShardFilter":{"Type":"AFTER_SHARD_ID","ShardId":"1"}}`, 1, "4.5."},
			{`{"StreamName":"s","ShardFilter":{"Type":"AT_LATEST"}}`, 1, ".1.2.3.4.5."},
			{`{"StreamName":"s","ShardFilter":{"Type":"AT_TRIM_HORIZON"},"MaxResults":3}`, 3, ".1.2. 3.4.5."},
			{`{"StreamName":"s","ShardFilter":{"Type":"FROM_TRIM_HORIZON"}}`, 1, ".1.2.3.4.5."},
			{`{"StreamName":"s","ShardFilter":{"Type":"AT_TIMESTAMP","Timestamp":946684800}}`, 1, ".1.2.3.4.5."},
			{`{"StreamName":"s","MaxResults":5,"ShardFilter":{"Type":"FROM_TIMESTAMP","Timestamp":5.5}}`, 1, ".1.2.3.4. 5."},
			{`{"StreamName":"s","StreamCreationTimestamp":946684800}`, 1, ".1.2.3.4.5."},
		} {
			if got := strings.Join(pages(c.first, c.more), " "); got != c.want {
				t.Errorf("%s lists %q, want %q", c.first, got, c.want)
			}
		}
	})
}

func TestTokensExpireAndAreForOneListOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		h.create(t, "s", 2)
		h.create(t, "t", 1)
		var ofShards shardPage
		var ofStreams streamPage
		h.call("ListShards", `{"StreamName":"s","MaxResults":1}`).into(t, &ofShards)
		h.call("ListStreams", `{"Limit":1}`).into(t, &ofStreams)
		it := h.iterator(t, "s", "LATEST", "")
		for _, token := range []string{ofStreams.NextToken, it, ofShards.NextToken[1:]} {
			h.call("ListShards", `{"NextToken":"`+token+`"}`).refused(t, "InvalidArgumentException", "The NextToken is not one that ListShards has given out.")
		}
		for _, token := range []string{ofShards.NextToken, it} {
			h.call("ListStreams", `{"NextToken":"`+token+`"}`).refused(t, "InvalidArgumentException", "The NextToken is not one that ListStreams has given out.")
		}
		time.Sleep(5 * time.Minute)
		h.call("ListShards", `{"NextToken":"`+ofShards.NextToken+`"}`).into(t, nil)
		h.call("ListStreams", `{"NextToken":"`+ofStreams.NextToken+`"}`).into(t, nil)
		time.Sleep(time.Millisecond)
		const sentence = "The NextToken is older than 300 seconds: list from the start again."
		h.call("ListShards", `{"NextToken":"`+ofShards.NextToken+`"}`).refused(t, "ExpiredNextTokenException", sentence)
		h.call("ListStreams", `{"NextToken":"`+ofStreams.NextToken+`"}`).refused(t, "ExpiredNextTokenException", sentence)
	})
}

func TestListStreamsPages(t *testing.T) {
	h := open(t, vfs.NewMem())
	var names []string
	for i := range 103 {
		names = append(names, fmt.Sprintf("s%03d", i))
		h.create(t, names[i], 1)
	}
	h.callAs("123456789012/20000101/us-east-1", "CreateStream", `{"StreamName":"foreign","ShardCount":1}`).is(t, 200, "")
	var page streamPage
	h.call("ListStreams", `{}`).into(t, &page) // 100 by default
	if !slices.Equal(page.StreamNames, names[:100]) || !page.HasMoreStreams || len(page.StreamSummaries) != 100 || page.StreamSummaries[99].StreamName != "s099" {
		t.Fatalf("the first page is %+v", page)
	}
	h.call("ListStreams", `{"Limit":10000}`).into(t, &page) // 100 at most
	if len(page.StreamNames) != 100 {
		t.Fatalf("Limit 10000 lists %d streams", len(page.StreamNames))
	}
	token := page.NextToken
	page = streamPage{}
	h.call("ListStreams", `{"Limit":3,"NextToken":"`+token+`"}`).into(t, &page)
	if !slices.Equal(page.StreamNames, names[100:]) || page.HasMoreStreams || page.NextToken != "" {
		t.Fatalf("the last page is %+v", page)
	}
	page = streamPage{}
	h.call("ListStreams", `{"Limit":2,"ExclusiveStartStreamName":"s0505"}`).into(t, &page) // need not exist
	if !slices.Equal(page.StreamNames, names[51:53]) || !page.HasMoreStreams {
		t.Fatalf("after s0505 come %+v", page)
	}
	h.callAs("123456789012/20000101/eu-west-1", "ListStreams", `{}`).is(t, 200, `{"StreamNames":[],"HasMoreStreams":false,"StreamSummaries":[]}`)
}

func TestDescribeStreamPages(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 103)
	describe := func(more string) (n []string, hasMore bool) {
		var out struct {
			StreamDescription struct {
				shardPage
				HasMoreShards bool
			}
		}
		h.call("DescribeStream", `{"StreamName":"s"`+more+`}`).into(t, &out)
		return out.StreamDescription.numbers(), out.StreamDescription.HasMoreShards
	}
	if n, more := describe(""); len(n) != 100 || n[99] != "99." || !more {
		t.Errorf("by default: %q, more %t", n, more)
	}
	if n, more := describe(`,"Limit":10000`); len(n) != 100 || !more {
		t.Errorf("with Limit 10000: %d shards, more %t", len(n), more)
	}
	if n, more := describe(`,"ExclusiveStartShardId":"shardId-000000000099"`); !slices.Equal(n, []string{"100.", "101.", "102."}) || more {
		t.Errorf("after the first page: %q, more %t", n, more)
	}
	if n, more := describe(`,"Limit":2,"ExclusiveStartShardId":"shardId-10"`); !slices.Equal(n, []string{"11.", "12."}) || !more {
		t.Errorf("two after shard 10: %q, more %t", n, more)
	}
	if n, more := describe(`,"ExclusiveStartShardId":"2147483647"`); len(n) != 0 || more {
		t.Errorf("after the last number that can be: %q, more %t", n, more)
	}
}

// TestAddressing: by name, by ARN, by both.
func TestAddressing(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 1)
	const other = "123456789012/20000101/us-east-1"
	const invalid, notFound = "InvalidArgumentException", "ResourceNotFoundException"
	for _, op := range []struct{ name, more string }{
		{"DescribeStream", ""}, {"DescribeStreamSummary", ""}, {"ListShards", ""},
		{"PutRecord", `,"PartitionKey":"k","Data":""`},
		{"PutRecords", `,"Records":[{"PartitionKey":"k","Data":""}]`},
		{"GetShardIterator", `,"ShardId":"0","ShardIteratorType":"LATEST"`},
	} {
		t.Run(op.name, func(t *testing.T) {
			ask := func(scope, by string) answer { return h.callAs(scope, op.name, "{"+by+op.more+"}") }
			ask("", `"StreamName":"s"`).into(t, nil)
			ask("", `"StreamARN":"`+streamARN+`s"`).into(t, nil)
			ask("", `"StreamARN":"`+streamARN+`s","StreamName":"s"`).into(t, nil)
			ask(other, `"StreamARN":"`+streamARN+`s"`).into(t, nil) // the ARN's account counts
			ask("", `"StreamARN":"`+streamARN+`s","StreamName":"t"`).refused(t, invalid, "StreamName t and StreamARN %ss name different streams.", streamARN)
			ask("", `"StreamARN":"arn:aws:kinesis:eu-west-1:000000000000:stream/s"`).refused(t, invalid, "StreamARN arn:aws:kinesis:eu-west-1:000000000000:stream/s is of another region than the request, which is for us-east-1.")
			ask("", `"StreamARN":"`+streamARN+`s/consumer/c:1"`).refused(t, invalid, "StreamARN %ss/consumer/c:1 is not the ARN of a stream.", streamARN)
			missing := "Stream s under account 123456789012 not found."
			if op.name == "GetShardIterator" {
				missing = "Shard shardId-000000000000 in stream s under account 123456789012 does not exist"
			}
			ask(other, `"StreamName":"s"`).refused(t, notFound, "%s", missing)
			ask("", `"StreamARN":"arn:aws:kinesis:us-east-1:123456789012:stream/s"`).refused(t, notFound, "%s", missing)
			if op.name != "ListShards" {
				ask("", `"StreamId":"abcdefghij0123456789-abc"`).refused(t, invalid, "Either StreamName or StreamARN should be provided.")
			}
		})
	}
	h.call("DeleteStream", `{"StreamARN":"`+streamARN+`s"}`).is(t, 200, "")
}

// gate is a store whose shards are only made when the gate opens.
type gate struct {
	*journal.Store
	reached, open chan struct{}
}

func (g *gate) Keeper() shards.Keeper { return gatedKeeper{g.Store.Keeper(), g} }

type gatedKeeper struct {
	shards.Keeper
	g *gate
}

func (k gatedKeeper) Create(ctx context.Context, ids []shards.ShardID) error {
	close(k.g.reached)
	<-k.g.open
	return k.Keeper.Create(ctx, ids)
}

func TestAStreamThatIsBeingCreated(t *testing.T) {
	store, err := journal.Open("data", journal.Options{FS: vfs.NewMem(), SegmentSize: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{store, make(chan struct{}), make(chan struct{})}
	h := serve(t, store, g)
	created := make(chan answer)
	go func() { created <- h.call("CreateStream", `{"StreamName":"s","ShardCount":1}`) }()
	<-g.reached

	var out struct {
		StreamDescription struct {
			StreamStatus  string
			Shards        []shard
			HasMoreShards bool
		}
	}
	h.call("DescribeStream", `{"StreamName":"s"}`).into(t, &out)
	if d := out.StreamDescription; d.StreamStatus != "CREATING" || d.HasMoreShards || d.Shards == nil {
		t.Errorf("DescribeStream: %+v", d)
	}
	h.call("ListShards", `{"StreamName":"s"}`).refused(t, "ResourceInUseException", "Stream s under account 000000000000 not ACTIVE, instead in state CREATING")
	const missing = "Stream s under account 000000000000 not found."
	h.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":""}`).refused(t, "ResourceNotFoundException", missing)
	h.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":"","DryRun":true}`).refused(t, "ResourceNotFoundException", missing)
	h.call("PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"k","Data":""}]}`).refused(t, "ResourceNotFoundException", missing)
	close(g.open)
	(<-created).is(t, 200, "")
	h.put(t, "s", 0, "a")
}
