package kinesisapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// placedOf are n results over some shards.
func placedOf(n int) []shards.Placed {
	out := make([]shards.Placed, n)
	for i := range out {
		sh := &shards.Shard{Number: uint32(i * 1001), Created: 1700000000}
		out[i] = shards.Placed{Shard: sh, Pos: shards.Pos(i) << 20, Arrived: 1700000000_000 + int64(i)*999}
	}
	return out
}

// TestResultsOfPutRecords: both encodings say of each record what its Placed does, and the room made
// for them in advance is enough.
func TestResultsOfPutRecords(t *testing.T) {
	placed := placedOf(300)
	a := &api{service: &awsapi.Service{Errors: map[errs.Kind]string{errs.Throttled: "ProvisionedThroughputExceededException"}}}
	for _, failing := range []bool{false, true} {
		if failing {
			placed[7] = shards.Placed{Err: errs.New(errs.Throttled, "slow down")}
		}
		type result struct{ SequenceNumber, ShardId, ErrorCode, ErrorMessage *string }
		var fromJSON, fromCBOR struct {
			FailedRecordCount *int32
			Records           []result
		}
		text, binary := a.appendResults(nil, placed), a.appendResultsCBOR(nil, placed)
		if err := json.Unmarshal(text, &fromJSON); err != nil {
			t.Fatal(err)
		}
		if err := awsapi.DecodeCBOR(binary, &fromCBOR); err != nil {
			t.Fatal(err)
		}
		for name, got := range map[string][]result{"JSON": fromJSON.Records, "CBOR": fromCBOR.Records} {
			for i := range placed {
				want := result{ErrorCode: ptr("ProvisionedThroughputExceededException"), ErrorMessage: ptr("slow down")}
				if placed[i].Err == nil {
					want = result{SequenceNumber: ptr(placed[i].Seq().String()), ShardId: ptr(placed[i].Shard.String())}
				}
				if g, w := fmt.Sprint(flat(got[i])), fmt.Sprint(flat(want)); g != w {
					t.Fatalf("%s, record %d: %s, want %s", name, i, g, w)
				}
			}
		}
		if room := 64 + len(placed)*placedSize; !failing && (len(text) > room || len(binary) > room) {
			t.Errorf("the results take %d bytes of JSON and %d of CBOR, there is room for %d", len(text), len(binary), room)
		}
		if want := map[bool]int32{true: 1}[failing]; *fromJSON.FailedRecordCount != want || *fromCBOR.FailedRecordCount != want {
			t.Errorf("%d and %d failed, want %d", *fromJSON.FailedRecordCount, *fromCBOR.FailedRecordCount, want)
		}
	}
	if again := a.appendResults([]byte("x"), placed); !bytes.HasPrefix(again, []byte(`x{"FailedRecordCount":1,`)) {
		t.Errorf("appended to x: %.40s", again)
	}
}

func flat(r struct{ SequenceNumber, ShardId, ErrorCode, ErrorMessage *string }) [4]string {
	return [4]string{value(r.SequenceNumber), value(r.ShardId), value(r.ErrorCode), value(r.ErrorMessage)}
}

func BenchmarkResults(b *testing.B) {
	placed, a := placedOf(500), new(api)
	for name, appendTo := range map[string]func([]byte, []shards.Placed) []byte{"JSON": a.appendResults, "CBOR": a.appendResultsCBOR} {
		b.Run(name, func(b *testing.B) {
			var buf []byte
			for b.Loop() {
				buf = appendTo(buf[:0], placed)
			}
		})
	}
}
