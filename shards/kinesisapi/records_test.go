package kinesisapi

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/shards"
)

// TestPiecesOfRecords: an answer in pieces is as long as it tells, decodes to the records, and no
// piece is much longer than it should be.
func TestPiecesOfRecords(t *testing.T) {
	sh := &shards.Shard{Number: 4711, Created: 1700000000}
	keys := []string{"a", "key", `with "quotes" and \`, "tab\tand\x01", "żółw", "\xff is no UTF-8", string(make([]byte, 300))}
	for round := range 200 {
		recs := make([]shards.Record, rand.IntN(60))
		largest := 0
		for i := range recs {
			size := rand.IntN(rand.IntN(20_000) + 1)
			if round == 0 && i == 0 {
				size = 3 * awsapi.PieceSize
			}
			recs[i] = shards.Record{Pos: shards.Pos(rand.Uint64() >> 1), Arrived: 1700000000_000 + int64(rand.IntN(3))*int64(rand.IntN(1000)), Key: []byte(keys[rand.IntN(len(keys))]), Data: make([]byte, size)}
			for j := range recs[i].Data {
				recs[i].Data[j] = byte(rand.Uint32())
			}
			largest = max(largest, size)
		}
		for _, wire := range []awsapi.Wire{awsapi.JSON, awsapi.CBOR} {
			o := newRecordsOut(wire, sh)
			o.recs = append(o.recs, recs...)
			o.head, o.tail = []byte(`{"Records":`), []byte(`,"MillisBehindLatest":5}`)
			if wire == awsapi.CBOR {
				o.head, o.tail = []byte("\xa2\x67Records"), []byte("\x72MillisBehindLatest\x05")
			}
			l := o.answer()
			var all []byte
			for len(all) < l.Size {
				piece := l.Next(nil)
				if most := awsapi.PieceSize + 2*largest + 2048; len(piece) > most {
					t.Fatalf("wire %d: a piece of %d bytes, want at most %d", wire, len(piece), most)
				}
				all = append(all, piece...)
			}
			if len(all) != l.Size {
				t.Fatalf("wire %d: %d bytes, told %d", wire, len(all), l.Size)
			}
			l.Done()
			checkRecords(t, wire, all, sh, recs)
		}
	}
}

func checkRecords(t *testing.T, wire awsapi.Wire, answer []byte, sh *shards.Shard, recs []shards.Record) {
	t.Helper()
	var got struct {
		Records []struct {
			SequenceNumber              *string
			ApproximateArrivalTimestamp *awsapi.Timestamp
			Data                        []byte
			PartitionKey                *string
		}
		MillisBehindLatest *int64
	}
	if err := wire.Decode(answer, &got); err != nil || len(got.Records) != len(recs) || *got.MillisBehindLatest != 5 {
		t.Fatalf("wire %d: %v, %d records of %d", wire, err, len(got.Records), len(recs))
	}
	for i, r := range got.Records {
		want := &recs[i]
		key := string(bytes.ToValidUTF8(want.Key, []byte("�")))
		if *r.SequenceNumber != sh.Seq(want.Pos, want.Arrived).String() || int64(*r.ApproximateArrivalTimestamp) != want.Arrived || !bytes.Equal(r.Data, want.Data) || *r.PartitionKey != key {
			t.Fatalf("wire %d, record %d: %s %d %q, %d bytes; want %+v", wire, i, *r.SequenceNumber, *r.ApproximateArrivalTimestamp, *r.PartitionKey, len(r.Data), fmt.Sprint(want.Pos, want.Arrived, key))
		}
	}
}

func BenchmarkRecords(b *testing.B) {
	sh := &shards.Shard{Created: 1700000000}
	recs := make([]shards.Record, 10_000)
	for i := range recs {
		recs[i] = shards.Record{Pos: shards.Pos(i), Arrived: 1700000000_123, Key: fmt.Appendf(nil, "%d", rand.Uint64()), Data: make([]byte, 1000)}
	}
	for wire, name := range []string{"JSON", "CBOR"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, 2*awsapi.PieceSize)
			for b.Loop() {
				o := newRecordsOut(awsapi.Wire(wire), sh)
				o.recs = append(o.recs, recs...)
				l := o.answer()
				for left := l.Size; left > 0; left -= len(buf) {
					buf = l.Next(buf[:0])
				}
				l.Done()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(recs)), "ns/record")
		})
	}
}
