// Package metrics writes the numbers that streams keep in Prometheus's text format, version 0.0.4.
//
// Names are AWS's in snake case behind shardmill_: GetRecords.IteratorAgeMilliseconds is
// shardmill_get_records_iterator_age_milliseconds. What AWS gives as a statistic of values (latencies,
// ages) is a summary of sum and count here; everything else counts since the host was started, and its
// name ends in _total. The labels are account, region and stream.
//
// Metrics of shards have names of their own, shardmill_shard_…, and a label shard: adding up the
// stream's does not count them twice. They are there for streams whose EnhancedMonitoring has them.
package metrics

import (
	"bufio"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/shardmill/shardmill/shards"
)

// kind is how a metric is written.
type kind uint8

const (
	counter kind = iota
	summary
	micros // a summary kept in microseconds and written in milliseconds
)

type family struct {
	metric shards.Metric
	name   string
	kind   kind
	help   string
}

// families are all metrics of streams.
var families = [shards.Metrics]family{
	{shards.IncomingBytes, "incoming_bytes", counter, "Bytes of data and partition keys stored."},
	{shards.IncomingRecords, "incoming_records", counter, "Records stored."},
	{shards.WriteProvisionedThroughputExceeded, "write_provisioned_throughput_exceeded", counter, "Records refused because their shard's throughput was exceeded."},
	{shards.ReadProvisionedThroughputExceeded, "read_provisioned_throughput_exceeded", counter, "Reads refused because their shard's throughput was exceeded."},
	{shards.PutRecordBytes, "put_record_bytes", counter, "Bytes stored by PutRecord."},
	{shards.PutRecordLatency, "put_record_latency_milliseconds", micros, "Time that PutRecord took."},
	{shards.PutRecordSuccess, "put_record_success", counter, "Calls of PutRecord that succeeded."},
	{shards.PutRecordsBytes, "put_records_bytes", counter, "Bytes stored by PutRecords."},
	{shards.PutRecordsLatency, "put_records_latency_milliseconds", micros, "Time that PutRecords took."},
	{shards.PutRecordsSuccess, "put_records_success", counter, "Calls of PutRecords that stored a record at least."},
	{shards.PutRecordsTotalRecords, "put_records_total_records", counter, "Records that PutRecords was called with."},
	{shards.PutRecordsSuccessfulRecords, "put_records_successful_records", counter, "Records stored by PutRecords."},
	{shards.PutRecordsFailedRecords, "put_records_failed_records", counter, "Records that PutRecords failed to store."},
	{shards.PutRecordsThrottledRecords, "put_records_throttled_records", counter, "Records that PutRecords refused because of throughput."},
	{shards.GetRecordsBytes, "get_records_bytes", counter, "Bytes that GetRecords gave out."},
	{shards.GetRecordsRecords, "get_records_records", counter, "Records that GetRecords gave out."},
	{shards.GetRecordsIteratorAge, "get_records_iterator_age_milliseconds", summary, "How far behind the newest record the answers of GetRecords ended."},
	{shards.GetRecordsLatency, "get_records_latency_milliseconds", micros, "Time that GetRecords took."},
	{shards.GetRecordsSuccess, "get_records_success", counter, "Calls of GetRecords that succeeded."},
	{shards.SubscribeToShardSuccess, "subscribe_to_shard_success", counter, "Subscriptions begun."},
	{shards.SubscribeToShardRateExceeded, "subscribe_to_shard_rate_exceeded", counter, "Subscriptions refused because the consumer had one."},
	{shards.SubscribeToShardEventBytes, "subscribe_to_shard_event_bytes", counter, "Bytes pushed to subscribers."},
	{shards.SubscribeToShardEventRecords, "subscribe_to_shard_event_records", counter, "Records pushed to subscribers."},
	{shards.SubscribeToShardEventMillisBehindLatest, "subscribe_to_shard_event_millis_behind_latest", summary, "How far behind the newest record events ended."},
	{shards.SubscribeToShardEventSuccess, "subscribe_to_shard_event_success", counter, "Events pushed to subscribers."},
}

// shardFamily is a metric of shards, at the place that shards.ShardMetrics has it.
type shardFamily struct{ name, typ, help string }

var shardFamilies = [len(shards.ShardMetrics)]shardFamily{
	{"incoming_bytes_total", "counter", "Bytes of data and partition keys stored in the shard."},
	{"incoming_records_total", "counter", "Records stored in the shard."},
	{"outgoing_bytes_total", "counter", "Bytes that clients were given of the shard."},
	{"outgoing_records_total", "counter", "Records that clients were given of the shard."},
	{"write_provisioned_throughput_exceeded_total", "counter", "Records refused because the shard's throughput was exceeded."},
	{"read_provisioned_throughput_exceeded_total", "counter", "Reads refused because the shard's throughput was exceeded."},
	{"iterator_age_milliseconds", "gauge", "How far behind the newest record the last answer of the shard ended."},
}

// contentType is that of the format.
const contentType = "text/plain; version=0.0.4; charset=utf-8"

// Handler answers with the metrics of all streams.
func Handler(streams *shards.Streams) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_ = Write(w, streams) // the client that is gone needs no metrics
	})
}

// Write writes the metrics of all streams, one family after the other.
func Write(to io.Writer, streams *shards.Streams) error {
	w := writer{bufio.NewWriter(to)}
	all := streams.All()
	labels := make([]string, len(all))
	for i, s := range all {
		labels[i] = `{account="` + escape(s.Account) + `",region="` + escape(s.Region) + `",stream="` + escape(s.Name) + `"`
	}
	for _, f := range families {
		name, typ := "shardmill_"+f.name, "summary"
		if f.kind == counter {
			name, typ = name+"_total", "counter"
		}
		w.head(name, typ, f.help)
		for i, s := range all {
			w.stream(name, labels[i]+"}", f.kind, &s.Meter, f.metric)
		}
	}
	for at, f := range shardFamilies {
		name := "shardmill_shard_" + f.name
		w.head(name, f.typ, f.help)
		for i, s := range all {
			if !slices.Contains(s.Attributes().ShardMetrics, shards.ShardMetrics[at]) {
				continue
			}
			for _, sh := range s.Shards() {
				if m := s.ShardMeter(sh); m != nil {
					w.line(name, labels[i]+`,shard="`+sh.String()+`"}`, strconv.FormatInt(m.Read(at), 10))
				}
			}
		}
	}
	return w.Flush()
}

// writer remembers its first error until Flush.
type writer struct{ *bufio.Writer }

func (w writer) head(name, typ, help string) {
	w.WriteString("# HELP " + name + " " + help + "\n# TYPE " + name + " " + typ + "\n")
}

func (w writer) line(name, labels, value string) {
	w.WriteString(name + labels + " " + value + "\n")
}

func (w writer) stream(name, labels string, k kind, m *shards.Meter, metric shards.Metric) {
	sum, count := m.Read(metric)
	if k == counter {
		w.line(name, labels, strconv.FormatInt(sum, 10))
		return
	}
	text := strconv.FormatInt(sum, 10)
	if k == micros {
		text = strconv.FormatFloat(float64(sum)/1000, 'f', -1, 64)
	}
	w.line(name+"_sum", labels, text)
	w.line(name+"_count", labels, strconv.FormatInt(count, 10))
}

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func escape(label string) string { return escapes.Replace(label) }
