package kinesisapi_test

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/shards/metrics"
)

func TestEnhancedMonitoring(t *testing.T) {
	fs := vfs.NewMem()
	h := open(t, fs)
	h.create(t, "s", 1)
	all := []string{"IncomingBytes", "IncomingRecords", "OutgoingBytes", "OutgoingRecords", "WriteProvisionedThroughputExceeded", "ReadProvisionedThroughputExceeded", "IteratorAgeMilliseconds"}
	list := func(names ...string) string { return strings.ReplaceAll(fmt.Sprintf("%q", names), " ", ",") }
	call := func(op string, names, before, after []string) {
		t.Helper()
		h.call(op+"EnhancedMonitoring", `{"StreamName":"s","ShardLevelMetrics":`+list(names...)+`}`).is(t, 200,
			`{"StreamName":"s","CurrentShardLevelMetrics":`+list(before...)+`,"DesiredShardLevelMetrics":`+list(after...)+`,"StreamARN":"`+arnOfS+`"}`)
	}
	none := []string{}
	call("Enable", []string{"OutgoingBytes", "IncomingBytes"}, none, []string{"IncomingBytes", "OutgoingBytes"})
	call("Enable", []string{"IteratorAgeMilliseconds", "IncomingBytes"}, []string{"IncomingBytes", "OutgoingBytes"}, []string{"IncomingBytes", "OutgoingBytes", "IteratorAgeMilliseconds"})
	call("Disable", []string{"OutgoingBytes", "OutgoingRecords"}, []string{"IncomingBytes", "OutgoingBytes", "IteratorAgeMilliseconds"}, []string{"IncomingBytes", "IteratorAgeMilliseconds"})
	h.close()
	h = open(t, fs)
	for _, op := range []string{"DescribeStream", "DescribeStreamSummary"} {
		if d := h.call(op, `{"StreamName":"s"}`).text; !strings.Contains(d, `"EnhancedMonitoring":[{"ShardLevelMetrics":["IncomingBytes","IteratorAgeMilliseconds"]}]`) {
			t.Errorf("%s: %s", op, d)
		}
	}
	call("Enable", []string{"ALL"}, []string{"IncomingBytes", "IteratorAgeMilliseconds"}, all)
	call("Disable", []string{"ALL"}, all, none)
	h.call("EnableEnhancedMonitoring", `{"StreamName":"s","ShardLevelMetrics":["All"]}`).refused(t, validationName,
		"1 validation error detected: Value '[All]' at 'shardLevelMetrics' failed to satisfy constraint: Member must satisfy constraint: [Member must satisfy enum value set: [IncomingBytes, IncomingRecords, OutgoingBytes, OutgoingRecords, WriteProvisionedThroughputExceeded, ReadProvisionedThroughputExceeded, IteratorAgeMilliseconds, ALL]]")
	h.call("DisableEnhancedMonitoring", `{"StreamName":"none","ShardLevelMetrics":["ALL"]}`).refused(t, notFoundName, "Stream none under account 000000000000 not found.")
}

// numbers are the metrics of stream s that are not zero, without their common beginning and labels.
func (h *host) numbers(t *testing.T) map[string]string {
	t.Helper()
	var b strings.Builder
	if err := metrics.Write(&b, h.Streams); err != nil {
		t.Fatal(err)
	}
	out := make(map[string]string)
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		name = strings.Replace(strings.TrimPrefix(name, "shardmill_"), `{account="000000000000",region="us-east-1",stream="s"`, "", 1)
		name = strings.TrimSuffix(strings.Replace(name, `,shard="shardId-00000000000`, " ", 1), `"}`)
		if name = strings.TrimSuffix(name, "}"); value != "0" {
			out[name] = value
		}
	}
	return out
}

// The numbers after a little traffic, and what is counted shard by shard when it is asked for.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		defer h.close()
		h.create(t, "s", 2)
		is := func(want map[string]string) {
			t.Helper()
			got := h.numbers(t)
			for k, v := range want {
				if got[k] != v {
					t.Errorf("%s is %q, want %q", k, got[k], v)
				}
				delete(got, k)
			}
			if len(got) > 0 {
				t.Errorf("also counted: %v", got)
			}
		}
		is(nil)
		h.call("StartStreamEncryption", `{"StreamName":"s","EncryptionType":"KMS","KeyId":"alias/a"}`).is(t, 200, "") // plain sizes are counted all the same
		h.put(t, "s", 0, "abc")                                                                                       // 3 bytes of data, 3 of key
		h.call("PutRecords", `{"StreamName":"s","Records":[{"Data":"YQ==","PartitionKey":"k","ExplicitHashKey":"0"},{"Data":"","PartitionKey":"k","ExplicitHashKey":"0"}]}`).into(t, nil)
		it := h.iterator(t, "s", "TRIM_HORIZON", "")
		time.Sleep(time.Second)
		h.call("GetRecords", `{"ShardIterator":"`+it+`","Limit":1}`).into(t, nil)
		h.call("GetRecords", `{"ShardIterator":"`+it+`"}`).into(t, nil)
		want := map[string]string{
			"incoming_bytes_total": "9", "incoming_records_total": "3",
			"put_record_bytes_total": "6", "put_record_success_total": "1", "put_record_latency_milliseconds_count": "1",
			"put_records_bytes_total": "3", "put_records_success_total": "1", "put_records_latency_milliseconds_count": "1",
			"put_records_total_records_total": "2", "put_records_successful_records_total": "2",
			"get_records_bytes_total": "15", "get_records_records_total": "4", "get_records_success_total": "2", "get_records_latency_milliseconds_count": "2",
			"get_records_iterator_age_milliseconds_sum": "1000", "get_records_iterator_age_milliseconds_count": "2",
		}
		is(want)

		h.call("EnableEnhancedMonitoring", `{"StreamName":"s","ShardLevelMetrics":["IncomingBytes","OutgoingRecords","IteratorAgeMilliseconds"]}`).into(t, nil)
		h.put(t, "s", 1, "x")
		h.call("GetRecords", `{"ShardIterator":"`+it+`","Limit":2}`).into(t, nil)
		for k, v := range map[string]string{
			"incoming_bytes_total": "11", "incoming_records_total": "4",
			"put_record_bytes_total": "8", "put_record_success_total": "2", "put_record_latency_milliseconds_count": "2",
			"get_records_bytes_total": "23", "get_records_records_total": "6", "get_records_success_total": "3", "get_records_latency_milliseconds_count": "3",
			"get_records_iterator_age_milliseconds_sum": "2000", "get_records_iterator_age_milliseconds_count": "3",
			"shard_incoming_bytes_total 1": "2", "shard_outgoing_records_total 0": "2", "shard_iterator_age_milliseconds 0": "1000",
		} {
			want[k] = v
		}
		is(want)
		h.call("DisableEnhancedMonitoring", `{"StreamName":"s","ShardLevelMetrics":["OutgoingRecords"]}`).into(t, nil)
		delete(want, "shard_outgoing_records_total 0")
		is(want)

		arn := h.register(t, "app")
		w := h.subscribe(t.Context(), `{"ConsumerARN":"`+arn+`","ShardId":"1","StartingPosition":{"Type":"TRIM_HORIZON"}}`)
		h.call("SubscribeToShard", `{"ConsumerARN":"`+arn+`","ShardId":"1","StartingPosition":{"Type":"LATEST"}}`).refused(t, "ResourceInUseException", "Another active subscription exists for this consumer: %s", arn)
		synctest.Wait()
		for k, v := range map[string]string{
			"subscribe_to_shard_success_total": "1", "subscribe_to_shard_rate_exceeded_total": "1", "subscribe_to_shard_event_success_total": "1",
			"subscribe_to_shard_event_bytes_total": "2", "subscribe_to_shard_event_records_total": "1", "subscribe_to_shard_event_millis_behind_latest_count": "1",
		} {
			want[k] = v
		}
		is(want)
		time.Sleep(5 * time.Minute)
		<-w.done
	})
}

// The text is the format that scrapers read, with names of streams as labels.
func TestTheTextOfMetrics(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "a", 1)
	h.create(t, "b", 1)
	h.put(t, "b", 0, "x")
	var b strings.Builder
	if err := metrics.Write(&b, h.Streams); err != nil {
		t.Fatal(err)
	}
	want := `# HELP shardmill_incoming_bytes_total Bytes of data and partition keys stored.
# TYPE shardmill_incoming_bytes_total counter
shardmill_incoming_bytes_total{account="000000000000",region="us-east-1",stream="a"} 0
shardmill_incoming_bytes_total{account="000000000000",region="us-east-1",stream="b"} 2
# HELP shardmill_incoming_records_total Records stored.
`
	if !strings.HasPrefix(b.String(), want) {
		t.Errorf("got\n%.600s\nwant\n%s", b.String(), want)
	}
	typed := make(map[string]bool)
	for line := range strings.Lines(b.String()) {
		if name, is := strings.CutPrefix(line, "# TYPE "); is {
			name, _, _ = strings.Cut(name, " ")
			if typed[name] {
				t.Errorf("%s is written twice", name)
			}
			typed[name] = true
		}
	}
	if len(typed) != 25+7 {
		t.Errorf("%d families", len(typed))
	}
}
