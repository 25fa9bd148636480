package firehoseapi_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/shardmill/shardmill/internal/errs"
)

// Puts have two readers, one of them for requests of the usual form only. An unknown member, which
// AWS ignores, sends a request to the other one.
func bothReaders(t *testing.T, fn func(t *testing.T, s *server, more string)) {
	t.Run("usual form", func(t *testing.T) { fn(t, serve(t), "") })
	t.Run("any form", func(t *testing.T) { fn(t, serve(t), `"Unknown":{"x":[1]},`) })
}

func b64(data string) string { return base64.StdEncoding.EncodeToString([]byte(data)) }

func putBody(more, stream, data string) string {
	return `{` + more + `"DeliveryStreamName":"` + stream + `","Record":{"Data":"` + b64(data) + `"}}`
}

func batchBody(more, stream string, data ...string) string {
	list := make([]string, len(data))
	for i := range data {
		list[i] = `{"Data":"` + b64(data[i]) + `"}`
	}
	return `{` + more + `"DeliveryStreamName":"` + stream + `","Records":[` + strings.Join(list, ",") + `]}`
}

// batchAnswer is the answer of PutRecordBatch.
type batchAnswer struct {
	FailedPutCount   int
	Encrypted        *bool
	RequestResponses []struct{ RecordId, ErrorCode, ErrorMessage string }
}

func (s *server) putBatch(body string) batchAnswer {
	s.t.Helper()
	var a batchAnswer
	if err := json.Unmarshal(s.do("PutRecordBatch", body), &a); err != nil {
		s.t.Fatal(err)
	}
	if a.Encrypted == nil || *a.Encrypted {
		s.t.Fatalf("Encrypted is %v, want false", a.Encrypted)
	}
	return a
}

var recordID = regexp.MustCompile(`^[0-9]{56}$`)

func TestPutRecord(t *testing.T) {
	bothReaders(t, func(t *testing.T, s *server, more string) {
		s.create("d")
		body := s.do("PutRecord", putBody(more, "d", "hello"))
		var out map[string]any
		if err := json.Unmarshal(body, &out); err != nil || len(out) != 2 || out["Encrypted"] != false || !recordID.MatchString(out["RecordId"].(string)) {
			t.Fatalf("%s: %v", body, err)
		}
		s.waitDelivered("d")
		s.do("PutRecord", putBody(more, "d", "")) // an empty record is one
		s.waitDelivered("d")
		if got := s.contents(); got != "hello" {
			t.Fatalf("delivered %q", got)
		}
	})
}

func TestPutRecordBatch(t *testing.T) {
	bothReaders(t, func(t *testing.T, s *server, more string) {
		s.create("d")
		data := make([]string, 500)
		for i := range data {
			data[i] = fmt.Sprintf("record %d\n", i)
		}
		a := s.putBatch(batchBody(more, "d", data...))
		if a.FailedPutCount != 0 || len(a.RequestResponses) != 500 {
			t.Fatalf("%d failed of %d", a.FailedPutCount, len(a.RequestResponses))
		}
		for i, r := range a.RequestResponses {
			if !recordID.MatchString(r.RecordId) || r.ErrorCode != "" || i > 0 && r.RecordId <= a.RequestResponses[i-1].RecordId {
				t.Fatalf("answer %d: %+v", i, r)
			}
		}
		s.waitDelivered("d")
		if got := s.contents(); got != strings.Join(data, "") {
			t.Fatal("the records were delivered in another order or form")
		}
	})
}

func TestLimitsOfPuts(t *testing.T) {
	bothReaders(t, func(t *testing.T, s *server, more string) {
		s.create("d")
		record := func(n int) string { return strings.Repeat("x", n) }
		buffer := func(n int) string { return fmt.Sprintf("'java.nio.HeapByteBuffer[pos=0 lim=%d cap=%d]'", n, n) }

		s.do("PutRecord", putBody(more, "d", record(1_024_000)))
		s.refuses("PutRecord", putBody(more, "d", record(1_024_001)), 400, validation,
			one(fault(buffer(1_024_001), "record.data", "have length less than or equal to 1024000")))
		s.refuses("PutRecordBatch", batchBody(more, "d", "a", record(1_024_001)), 400, validation,
			one(fault(buffer(1_024_001), "records.2.member.data", "have length less than or equal to 1024000")))

		s.putBatch(batchBody(more, "d", make([]string, 500)...))
		s.refuses("PutRecordBatch", batchBody(more, "d", make([]string, 501)...), 400, validation,
			"1 validation error detected: Value at 'records' failed to satisfy constraint: Member must have length less than or equal to 500")
		s.refuses("PutRecordBatch", batchBody(more, "d"), 400, validation,
			one(fault("'[]'", "records", "have length greater than or equal to 1")))

		big := record(1_000_000)
		s.putBatch(batchBody(more, "d", big, big, big, big, record(4<<20-4_000_000)))
		s.refuses("PutRecordBatch", batchBody(more, "d", big, big, big, big, record(4<<20-4_000_000+1)), 400, invalidArgument,
			"The records of this request have 4194305 bytes of data together, more than 4194304.")

		s.refuses("PutRecord", `{`+more+`"DeliveryStreamName":"d","Record":{"Data":"abc"}}`, 400, "SerializationException",
			"'abc' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: 3")
		s.refuses("PutRecordBatch", `{`+more+`"DeliveryStreamName":"d","Records":[{"Data":"****"}]}`, 400, "SerializationException",
			"'****' can not be converted to a Blob: Invalid Base64 character: '*'")
	})
}

func TestPutsIntoADeliveryStreamThatReadsAStream(t *testing.T) {
	bothReaders(t, func(t *testing.T, s *server, more string) {
		s.do("CreateDeliveryStream", `{"DeliveryStreamName":"k","DeliveryStreamType":"KinesisStreamAsSource","S3DestinationConfiguration":`+s3only+
			`,"KinesisStreamSourceConfiguration":{"KinesisStreamARN":"`+s.source("clicks")+`","RoleARN":"`+role+`"}}`)
		const says = "This operation is not permitted on KinesisStreamAsSource delivery stream type."
		s.refuses("PutRecord", putBody(more, "k", "a"), 400, invalidArgument, says)
		s.refuses("PutRecordBatch", batchBody(more, "k", "a"), 400, invalidArgument, says)
	})
}

// Records that could not be stored fail one by one in a batch, and the call as a whole in a single
// put. What may or may not have been stored is no refusal.
func TestPutsThatCouldNotBeStored(t *testing.T) {
	bothReaders(t, func(t *testing.T, s *server, more string) {
		s.create("d")
		for _, c := range []struct {
			err    *errs.Error
			status int
			name   string
		}{
			{errs.New(errs.Unavailable, "the disk is full"), 503, "ServiceUnavailableException"},
			{errs.New(errs.Throttled, "slow down"), 503, "ServiceUnavailableException"},
			{errs.New(errs.Unknown, "the write may have happened"), 500, "InternalFailure"},
		} {
			s.appendFails.Store(c.err)
			s.refuses("PutRecord", putBody(more, "d", "a"), c.status, c.name, c.err.Msg)
			a := s.putBatch(batchBody(more, "d", "a", "b"))
			if a.FailedPutCount != 2 || len(a.RequestResponses) != 2 {
				t.Fatalf("%d failed of %d", a.FailedPutCount, len(a.RequestResponses))
			}
			for _, r := range a.RequestResponses {
				if r.RecordId != "" || r.ErrorCode != c.name || r.ErrorMessage != c.err.Msg {
					t.Fatalf("%+v", r)
				}
			}
		}
		s.appendFails.Store(nil)
		if a := s.putBatch(batchBody(more, "d", "a")); a.FailedPutCount != 0 {
			t.Fatal("the room did not recover")
		}
	})
}
