package kinesisapi_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/limits"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
	"github.com/shardmill/shardmill/shards/kinesisapi"
)

// BenchmarkPutRecordsHTTP puts 500 records of 1 KB a request over HTTP with JSON, durable, 16
// clients in the same process. Its processor time is that of both sides; -cpuprofile shows where
// it goes.
func BenchmarkPutRecordsHTTP(b *testing.B) {
	const clients, records, size = 16, 500, 1000
	store, err := journal.Open(b.TempDir(), journal.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer store.Close()
	streams, err := shards.Open(b.Context(), store, shards.Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer streams.Close()
	api, err := kinesisapi.New(b.Context(), streams, store.Meta(), kinesisapi.Options{})
	if err != nil {
		b.Fatal(err)
	}
	_, err = streams.Create(b.Context(), shards.Scope{Account: "000000000000", Region: "us-east-1"}, shards.Spec{Name: "bench", Shards: 16})
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(awsapi.NewMux(awsapi.Options{Account: "000000000000", Region: "us-east-1"}, api))
	defer server.Close()
	bodies := make([][]byte, clients)
	for i := range bodies {
		bodies[i] = putRecordsBody(b, records, size)
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	b.SetBytes(records * size)
	cpu := limits.CPU()
	b.ResetTimer()
	took := limits.Share(b.N, clients, func(c int) {
		req, err := http.NewRequest(http.MethodPost, server.URL, bytes.NewReader(bodies[c]))
		if err != nil {
			b.Error(err)
			return
		}
		req.Header.Set("Content-Type", "application/x-amz-json-1.1")
		req.Header.Set("X-Amz-Target", "Kinesis_20131202.PutRecords")
		res, err := client.Do(req)
		if err != nil {
			b.Error(err)
			return
		}
		defer res.Body.Close()
		answer, err := io.ReadAll(res.Body)
		if err != nil || !bytes.HasPrefix(answer, []byte(`{"FailedRecordCount":0,`)) {
			b.Errorf("%v %.200s", err, answer)
		}
	})
	b.StopTimer()
	n := float64(b.N * records)
	b.ReportMetric(n/took.Seconds(), "records/s")
	b.ReportMetric((limits.CPU()-cpu).Seconds()*1e6/n, "cpu-us/record")
}

func putRecordsBody(b *testing.B, records, size int) []byte {
	type entry struct{ Data, PartitionKey string }
	var list []entry
	for range records {
		data := make([]byte, size)
		for j := range data {
			data[j] = byte(rand.Uint32())
		}
		list = append(list, entry{base64.StdEncoding.EncodeToString(data), fmt.Sprint(rand.Uint64())})
	}
	body, err := json.Marshal(map[string]any{"StreamName": "bench", "Records": list})
	if err != nil {
		b.Fatal(err)
	}
	return body
}
