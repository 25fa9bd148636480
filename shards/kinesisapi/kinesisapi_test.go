package kinesisapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/localkms"
	"github.com/shardmill/shardmill/internal/sigv4"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
	"github.com/shardmill/shardmill/shards/kinesisapi"
)

// host is the service over a journal on a file system in memory, called without sockets.
type host struct {
	*shards.Streams
	store *journal.Store
	api   http.Handler
}

func open(t *testing.T, fs vfs.FS) *host {
	t.Helper()
	store, err := journal.Open("data", journal.Options{FS: fs, SegmentSize: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := localkms.Open("data/keys", localkms.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	return serveWith(t, store, store, shards.Options{Keys: keys}, kinesisapi.Options{}, nil)
}

// openLimited is a host that keeps AWS's limits.
func openLimited(t *testing.T) *host {
	t.Helper()
	store, err := journal.Open("data", journal.Options{FS: vfs.NewMem(), SegmentSize: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return serveWith(t, store, store, shards.Options{Throughput: &shards.AWSThroughput}, kinesisapi.Options{Limits: true}, nil)
}

// serve is open over a store that wraps a journal.
func serve(t *testing.T, under *journal.Store, store shards.Store) *host {
	t.Helper()
	return serveWith(t, under, store, shards.Options{}, kinesisapi.Options{}, nil)
}

// serveWith verifies signatures if there are keys.
func serveWith(t *testing.T, under *journal.Store, store shards.Store, so shards.Options, ao kinesisapi.Options, keys sigv4.Keys) *host {
	t.Helper()
	streams, err := shards.Open(t.Context(), store, so)
	if err != nil {
		t.Fatal(err)
	}
	service, err := kinesisapi.New(t.Context(), streams, store.Meta(), ao)
	if err != nil {
		t.Fatal(err)
	}
	h := &host{Streams: streams, store: under}
	h.api = awsapi.NewMux(awsapi.Options{Account: "000000000000", Region: "us-east-1", Keys: keys, Failed: func(_, operation string, err error) {
		t.Errorf("%s failed: %v", operation, err)
	}}, service)
	t.Cleanup(h.close)
	return h
}

func (h *host) close() {
	h.Streams.Close()
	h.store.Close()
}

// answer is what a call got.
type answer struct {
	status int
	text   string
}

func (h *host) call(op, body string) answer { return h.callAs("", op, body) }

// callAs calls with a signature whose credential is good for scope, such as
// 123456789012/20000101/eu-west-1.
func (h *host) callAs(scope, op, body string) answer {
	r := httptest.NewRequest("POST", "/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "Kinesis_20131202."+op)
	if scope != "" {
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+scope+"/kinesis/aws4_request, SignedHeaders=host, Signature=00")
	}
	w := httptest.NewRecorder()
	h.api.ServeHTTP(w, r)
	return answer{w.Code, w.Body.String()}
}

// is checks the answer as it stands.
func (a answer) is(t *testing.T, status int, text string) {
	t.Helper()
	if a.status != status || a.text != text {
		t.Errorf("got  %d %s\nwant %d %s", a.status, a.text, status, text)
	}
}

// refused checks for an error of status 400 with name and sentence.
func (a answer) refused(t *testing.T, name, format string, args ...any) {
	t.Helper()
	sentence, err := json.Marshal(fmt.Sprintf(format, args...))
	if err != nil {
		t.Fatal(err)
	}
	a.is(t, 400, `{"__type":"`+name+`","message":`+string(sentence)+`}`)
}

// into reads a good answer.
func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if a.status != 200 {
		t.Fatalf("%d %s", a.status, a.text)
	}
	if v == nil {
		return
	}
	if err := json.Unmarshal([]byte(a.text), v); err != nil {
		t.Fatalf("%s: %v", a.text, err)
	}
}

// The answers, as far as tests look at them.
type (
	placed struct{ ShardId, SequenceNumber, ErrorCode, ErrorMessage string }
	puts   struct {
		FailedRecordCount int
		Records           []placed
	}
	record struct {
		SequenceNumber              string
		ApproximateArrivalTimestamp float64
		Data                        []byte
		PartitionKey                string
		EncryptionType              string
	}
	records struct {
		Records            []record
		NextShardIterator  string
		MillisBehindLatest int64
		ChildShards        []child
	}
	hashRange struct{ StartingHashKey, EndingHashKey string }
	child     struct {
		ShardId      string
		ParentShards []string
		HashKeyRange hashRange
	}
	shard struct {
		ShardId, ParentShardId, AdjacentParentShardId string
		HashKeyRange                                  hashRange
		SequenceNumberRange                           struct{ StartingSequenceNumber, EndingSequenceNumber string }
	}
	shardPage struct {
		Shards    []shard
		NextToken string
	}
	streamPage struct {
		StreamNames     []string
		HasMoreStreams  bool
		NextToken       string
		StreamSummaries []struct{ StreamName, StreamARN, StreamStatus string }
	}
)

func (h *host) create(t *testing.T, name string, shards int) {
	t.Helper()
	h.call("CreateStream", fmt.Sprintf(`{"StreamName":%q,"ShardCount":%d}`, name, shards)).is(t, 200, "")
}

// put puts one record into shard number n of a stream made by create with two shards at most. The
// data is the key.
func (h *host) put(t *testing.T, stream string, n int, data string) placed {
	t.Helper()
	hash := "0"
	if n == 1 {
		hash = "340282366920938463463374607431768211455"
	}
	body, err := json.Marshal(map[string]any{"StreamName": stream, "PartitionKey": data, "Data": []byte(data), "ExplicitHashKey": hash})
	if err != nil {
		t.Fatal(err)
	}
	var p placed
	h.call("PutRecord", string(body)).into(t, &p)
	return p
}

// iterator gets one for shard 0; more is the rest of the request.
func (h *host) iterator(t *testing.T, stream, kind, more string) string {
	t.Helper()
	var out struct{ ShardIterator string }
	h.call("GetShardIterator", fmt.Sprintf(`{"StreamName":%q,"ShardId":"shardId-000000000000","ShardIteratorType":%q%s}`, stream, kind, more)).into(t, &out)
	return out.ShardIterator
}

func (h *host) get(t *testing.T, iterator string) records {
	t.Helper()
	var out records
	h.call("GetRecords", fmt.Sprintf(`{"ShardIterator":%q}`, iterator)).into(t, &out)
	return out
}

// data is the records' data, separated by spaces.
func (r records) data() string {
	var all []string
	for _, rec := range r.Records {
		all = append(all, string(rec.Data))
	}
	return strings.Join(all, " ")
}
