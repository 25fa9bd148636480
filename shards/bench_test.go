package shards_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/shardmill/shardmill/internal/limits"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
)

const (
	benchClients = 16
	benchRecords = 500
	benchSize    = 1000
)

// BenchmarkPutRecords puts batches of 500 records of 1 KB scattered over the shards, 16 clients at
// a time, durable. It reports the ratio to what the disk itself allows: the same bytes appended to
// one file and synced with fdatasync, one batch at a time, in the same run.
func BenchmarkPutRecords(b *testing.B) {
	for _, n := range []int{16, 256, 1000} {
		b.Run(fmt.Sprint("shards=", n), func(b *testing.B) {
			store, err := journal.Open(b.TempDir(), journal.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			ss, err := shards.Open(b.Context(), store, shards.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer ss.Close()
			s, err := ss.Create(b.Context(), here, shards.Spec{Name: "bench", Shards: n})
			if err != nil {
				b.Fatal(err)
			}
			out := make([][]shards.Placed, benchClients)
			recs := make([][]shards.PutRecord, benchClients)
			for c := range recs {
				recs[c], out[c] = benchBatch(), make([]shards.Placed, benchRecords)
			}
			b.SetBytes(benchRecords * benchSize)
			cpu := limits.CPU()
			b.ResetTimer()
			took := limits.Share(b.N, benchClients, func(c int) {
				s.Put(context.Background(), recs[c], out[c])
				for i := range out[c] {
					if out[c][i].Err != nil {
						b.Error(out[c][i].Err)
						return
					}
				}
			})
			b.StopTimer()
			used := limits.CPU() - cpu
			b.ReportMetric(float64(b.N*benchRecords)/took.Seconds(), "records/s")
			b.ReportMetric(float64(used.Nanoseconds())/float64(b.N*benchRecords), "cpu-ns/record")
			raw, err := limits.AppendSync(b.TempDir(), b.N, benchRecords*benchSize, benchClients)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(raw.Seconds()/took.Seconds(), "of-raw")
		})
	}
}

func benchBatch() []shards.PutRecord {
	recs := make([]shards.PutRecord, benchRecords)
	for i := range recs {
		data := make([]byte, benchSize)
		for j := range data {
			data[j] = byte(rand.Uint32())
		}
		recs[i] = shards.PutRecord{Key: fmt.Appendf(nil, "%d", rand.Uint64()), Data: data}
	}
	return recs
}
