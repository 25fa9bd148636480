package kinesisapi_test

import (
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/awsapi"
)

// callCBOR calls with in, a struct, and reads a good answer into out. It returns the name and the
// sentence of an error.
func (h *host) callCBOR(t *testing.T, op string, in, out any) (name, message string) {
	t.Helper()
	body, err := awsapi.EncodeCBOR(in)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest("POST", "/", strings.NewReader(string(body)))
	r.Header.Set("Content-Type", "application/x-amz-cbor-1.1")
	r.Header.Set("X-Amz-Target", "Kinesis_20131202."+op)
	w := httptest.NewRecorder()
	h.api.ServeHTTP(w, r)
	if got := w.Header().Get("Content-Type"); w.Body.Len() > 0 && got != "application/x-amz-cbor-1.1" {
		t.Errorf("%s answered with %s", op, got)
	}
	if w.Code == 200 && out == nil {
		return "", ""
	}
	var fault struct {
		Type    string
		Message string
	}
	if w.Code != 200 {
		text := w.Body.String() // two texts with their names; the struct cannot be called __type
		body := []byte(strings.Replace(strings.Replace(text, "\x66__type", "\x64Type", 1), "\x67message", "\x67Message", 1))
		if err := awsapi.DecodeCBOR(body, &fault); err != nil {
			t.Fatalf("%s: %d %q: %v", op, w.Code, text, err)
		}
		return fault.Type, fault.Message
	}
	if err := awsapi.DecodeCBOR(w.Body.Bytes(), out); err != nil {
		t.Fatalf("%s answered %x: %v", op, w.Body.Bytes(), err)
	}
	return "", ""
}

// The Java SDKs speak CBOR: the same operations, blobs as bytes and times as milliseconds.
func TestCBOR(t *testing.T) {
	h := open(t, vfs.NewMem())
	type named struct{ StreamName string }
	type entry struct {
		Data         []byte
		PartitionKey *string
	}
	type position struct{ SequenceNumber, ShardId string }
	key := "ä"
	if name, message := h.callCBOR(t, "CreateStream", struct {
		StreamName string
		ShardCount int32
	}{"s", 1}, nil); name != "" {
		t.Fatal(name, message)
	}
	var one position
	h.callCBOR(t, "PutRecord", struct {
		named
		entry
	}{named{"s"}, entry{[]byte{0, 0xff}, &key}}, &one)
	var many struct {
		FailedRecordCount *int32
		Records           []position
	}
	h.callCBOR(t, "PutRecords", struct {
		Records []entry
		named
	}{[]entry{{[]byte("b"), &key}, {[]byte{}, &key}}, named{"s"}}, &many)
	if many.FailedRecordCount == nil || *many.FailedRecordCount != 0 || len(many.Records) != 2 || one.ShardId != "shardId-000000000000" {
		t.Fatalf("put: %+v, %+v", one, many)
	}
	var it struct{ ShardIterator string }
	h.callCBOR(t, "GetShardIterator", struct {
		named
		ShardId, ShardIteratorType string
	}{named{"s"}, one.ShardId, "TRIM_HORIZON"}, &it)
	type record struct {
		SequenceNumber, PartitionKey string
		Data                         []byte
		ApproximateArrivalTimestamp  awsapi.Timestamp
	}
	var got struct {
		Records            []record
		NextShardIterator  *string
		MillisBehindLatest *int64
	}
	h.callCBOR(t, "GetRecords", it, &got)
	want := []record{
		{one.SequenceNumber, key, []byte{0, 0xff}, 0},
		{many.Records[0].SequenceNumber, key, []byte("b"), 0},
		{many.Records[1].SequenceNumber, key, []byte{}, 0},
	}
	for i := range got.Records {
		if got.Records[i].ApproximateArrivalTimestamp < 1_600_000_000_000 {
			t.Errorf("arrived at %d ms", got.Records[i].ApproximateArrivalTimestamp)
		}
		got.Records[i].ApproximateArrivalTimestamp = 0
	}
	if !reflect.DeepEqual(got.Records, want) || got.NextShardIterator == nil || got.MillisBehindLatest == nil {
		t.Errorf("got %+v\nwant %+v", got, want)
	}

	name, message := h.callCBOR(t, "DescribeStream", named{"none"}, nil)
	if name != "ResourceNotFoundException" || message != "Stream none under account 000000000000 not found." {
		t.Errorf("a missing stream: %s %q", name, message)
	}
	if name, _ := h.callCBOR(t, "PutRecord", named{"s"}, nil); name != "ValidationException" {
		t.Errorf("PutRecord without a record: %s", name)
	}
	if name, _ := h.callCBOR(t, "NoSuchOperation", named{"s"}, nil); name != "UnknownOperationException" {
		t.Errorf("NoSuchOperation: %s", name)
	}
}
