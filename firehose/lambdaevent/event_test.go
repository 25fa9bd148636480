package lambdaevent

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-lambda-go/events"
)

func TestEventOfADirectPut(t *testing.T) {
	e := Event{
		InvocationID:      "8f1c3f6e-0000-4000-8000-000000000001",
		DeliveryStreamARN: "arn:aws:firehose:eu-west-1:000000000000:deliverystream/orders",
		Region:            "eu-west-1",
		Records: []Record{
			{ID: "4957000000", Arrived: 1507217624302, Data: []byte("hello"), ShardID: "not sent", PartitionKey: []byte("not sent")},
			{ID: "4957000001", Arrived: 1507217624303},
		},
	}
	want := `{"invocationId":"8f1c3f6e-0000-4000-8000-000000000001",` +
		`"deliveryStreamArn":"arn:aws:firehose:eu-west-1:000000000000:deliverystream/orders","region":"eu-west-1","records":[` +
		`{"recordId":"4957000000","approximateArrivalTimestamp":1507217624302,"data":"aGVsbG8="},` +
		`{"recordId":"4957000001","approximateArrivalTimestamp":1507217624303,"data":""}]}`
	if got := string(AppendEvent([]byte("before "), &e)); got != "before "+want {
		t.Errorf("event\n got %s\nwant %s", got, "before "+want)
	}
	if got := EncodedSize(&e); got != len(want) {
		t.Errorf("EncodedSize = %d, want %d", got, len(want))
	}
}

func TestEventOfAStreamSource(t *testing.T) {
	e := Event{
		InvocationID: "i", DeliveryStreamARN: "d", SourceStreamARN: "s", Region: "r",
		Records: []Record{{ID: "4957", Arrived: 1507217624302, Data: []byte{0xfb, 0xff}, ShardID: "shardId-000000000000",
			PartitionKey: []byte("k\"ü\n"), SequenceNumber: "49578734086442259037497492980620233840400173390482112514", SubSequence: 7}},
	}
	want := `{"invocationId":"i","deliveryStreamArn":"d","sourceKinesisStreamArn":"s","region":"r","records":[` +
		`{"recordId":"4957","approximateArrivalTimestamp":1507217624302,"data":"+/8=","kinesisRecordMetadata":{` +
		`"shardId":"shardId-000000000000","partitionKey":"k\"ü\u000a","sequenceNumber":"49578734086442259037497492980620233840400173390482112514",` +
		`"subsequenceNumber":7,"approximateArrivalTimestamp":1507217624302}}]}`
	if got := string(AppendEvent(nil, &e)); got != want {
		t.Errorf("event\n got %s\nwant %s", got, want)
	}
	if got := EncodedSize(&e); got != len(want) {
		t.Errorf("EncodedSize = %d, want %d", got, len(want))
	}
}

func TestGoHandlersReadTheEvent(t *testing.T) {
	in := sampleEvent(3, 100)
	in.Records[1].Data = nil
	var got events.KinesisFirehoseEvent
	if err := json.Unmarshal(AppendEvent(nil, in), &got); err != nil {
		t.Fatal(err)
	}
	if got.InvocationID != in.InvocationID || got.DeliveryStreamArn != in.DeliveryStreamARN || got.SourceKinesisStreamArn != in.SourceStreamARN ||
		got.Region != in.Region || len(got.Records) != 3 {
		t.Fatalf("event %+v", got)
	}
	for i, r := range got.Records {
		w, m := in.Records[i], r.KinesisFirehoseRecordMetadata
		if r.RecordID != w.ID || !bytes.Equal(r.Data, w.Data) || !r.ApproximateArrivalTimestamp.Time.Equal(time.UnixMilli(w.Arrived)) {
			t.Errorf("record %d: %+v, want %+v", i, r, w)
		}
		if m.ShardID != w.ShardID || m.PartitionKey != string(w.PartitionKey) || m.SequenceNumber != w.SequenceNumber ||
			m.SubsequenceNumber != int64(w.SubSequence) || !m.ApproximateArrivalTimestamp.Time.Equal(time.UnixMilli(w.Arrived)) {
			t.Errorf("record %d: metadata %+v, want %+v", i, m, w)
		}
		if r.Data == nil {
			t.Errorf("record %d: data was null", i)
		}
	}
}

func TestFitKeepsTheEventBelowTheLimit(t *testing.T) {
	e := sampleEvent(10, 1000)
	for limit := 0; limit <= EncodedSize(e)+10; limit += 7 {
		n := Fit(e, limit)
		head, next := *e, *e
		head.Records = e.Records[:n]
		if n > 0 && len(AppendEvent(nil, &head)) > limit {
			t.Fatalf("Fit(%d) = %d, which takes %d bytes", limit, n, EncodedSize(&head))
		}
		if n == len(e.Records) {
			continue
		}
		next.Records = e.Records[:n+1]
		if len(AppendEvent(nil, &next)) <= limit {
			t.Fatalf("Fit(%d) = %d, although %d records take only %d bytes", limit, n, n+1, EncodedSize(&next))
		}
	}
	if n := Fit(e, EncodedSize(e)); n != 10 {
		t.Errorf("Fit of the exact size = %d, want all 10", n)
	}
	if n := Fit(e, EncodedSize(e)-1); n != 9 {
		t.Errorf("Fit of one byte less = %d, want 9", n)
	}
}

func TestErrorRecord(t *testing.T) {
	r := ErrorRecord{RawData: []byte("raw"), ErrorCode: MarkedFailed.Code(), ErrorMessage: MarkedFailed.Message(),
		AttemptsMade: 1, Arrived: 1789014240448, AttemptEnding: 1789014301529, LambdaARN: "arn:aws:lambda:eu-west-1:000000000000:function:f"}
	want := `{"rawData":"cmF3","errorCode":"Lambda.ProcessingFailedStatus","errorMessage":"ProcessingFailed status set for record",` +
		`"attemptsMade":1,"arrivalTimestamp":1789014240448,"attemptEndingTimestamp":1789014301529,` +
		`"lambdaARN":"arn:aws:lambda:eu-west-1:000000000000:function:f"}` + "\n"
	if got := string(AppendErrorRecord(nil, &r)); got != want {
		t.Errorf("got  %swant %s", got, want)
	}
	r.LambdaARN = ""
	if got := string(AppendErrorRecord(nil, &r)); strings.Contains(got, "lambdaARN") || !json.Valid([]byte(got)) {
		t.Errorf("without a function: %s", got)
	}
}

func FuzzAppendEvent(f *testing.F) {
	f.Add("id", "arn", "stream", []byte("key"), []byte("data"), int64(1507217624302), uint64(1))
	f.Add("\x00\"\\\u2028é", "", "", []byte("\xff\xf0\x9f"), []byte{}, int64(-1<<63), uint64(1<<63))
	f.Fuzz(func(t *testing.T, id, arn, source string, key, data []byte, arrived int64, sub uint64) {
		e := Event{InvocationID: id, DeliveryStreamARN: arn, SourceStreamARN: source, Region: arn, Records: []Record{
			{ID: id, Arrived: arrived, Data: data, ShardID: arn, PartitionKey: key, SequenceNumber: id, SubSequence: sub}, {ID: arn}}}
		b := AppendEvent(nil, &e)
		if len(b) != EncodedSize(&e) {
			t.Fatalf("EncodedSize = %d, the event has %d bytes: %s", EncodedSize(&e), len(b), b)
		}
		var got struct {
			InvocationID string
			Records      []struct {
				Data                        []byte
				ApproximateArrivalTimestamp int64
				KinesisRecordMetadata       *struct {
					PartitionKey      string
					SubsequenceNumber uint64
				}
			}
		}
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		r := got.Records[0]
		if got.InvocationID != viaJSON(id) || !bytes.Equal(r.Data, data) || r.ApproximateArrivalTimestamp != arrived {
			t.Fatalf("%+v came back from %s", got, b)
		}
		m := r.KinesisRecordMetadata
		if (m != nil) != (source != "") {
			t.Fatalf("metadata %+v with source %q", m, source)
		}
		if m != nil && (m.PartitionKey != viaJSON(string(key)) || m.SubsequenceNumber != sub) {
			t.Fatalf("metadata %+v, want the key %q", m, viaJSON(string(key)))
		}
	})
}

// viaJSON is what is left of s after encoding/json wrote and read it.
func viaJSON(s string) (back string) {
	b, _ := json.Marshal(s)
	json.Unmarshal(b, &back)
	return back
}
