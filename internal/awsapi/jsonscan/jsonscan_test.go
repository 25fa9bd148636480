package jsonscan_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/awsapi/jsonscan"
)

// The same calls as structs for the general decoder.
type (
	putRecord struct {
		SequenceNumberForOrdering *string `pattern:"0|([1-9]\\d{0,128})"`
		entry
		stream
	}
	putRecords struct {
		Records []entry `aws:"required,min=1,max=500"`
		stream
	}
	entry struct {
		PartitionKey    *string `aws:"min=1,max=256"`
		ExplicitHashKey *string `pattern:"0|([1-9]\\d{0,38})"`
		Data            []byte  `aws:"required,min=0,max=10485760"`
	}
	stream struct {
		StreamName *string `aws:"min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
		StreamARN  *string `aws:"min=1,max=2048" pattern:"arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"`
		DryRun     bool
	}
	firehosePutRecord struct {
		deliveryStream
		Record *record `aws:"required"`
	}
	firehosePutRecordBatch struct {
		deliveryStream
		Records []record `aws:"required,min=1,max=500"`
	}
	record struct {
		Data []byte `aws:"required,min=0,max=1024000"`
	}
	deliveryStream struct {
		DeliveryStreamName *string `aws:"required,min=1,max=64" pattern:"[a-zA-Z0-9_.-]+"`
	}
)

// call is one of the four calls: its fast path, its general path, and how the two compare.
type call struct {
	name string
	scan func([]byte, *jsonscan.Put) bool
	in   func() any
	put  func(in any) jsonscan.Put
}

var calls = []call{
	{"PutRecord", jsonscan.ScanPutRecord, func() any { return new(putRecord) }, func(in any) jsonscan.Put {
		r := in.(*putRecord)
		p := r.stream.put([]entry{r.entry})
		p.SequenceNumberForOrdering = raw(r.SequenceNumberForOrdering)
		return p
	}},
	{"PutRecords", jsonscan.ScanPutRecords, func() any { return new(putRecords) }, func(in any) jsonscan.Put {
		r := in.(*putRecords)
		return r.stream.put(r.Records)
	}},
	{"FirehosePutRecord", jsonscan.ScanFirehosePutRecord, func() any { return new(firehosePutRecord) }, func(in any) jsonscan.Put {
		r := in.(*firehosePutRecord)
		return jsonscan.Put{Stream: raw(r.DeliveryStreamName), Entries: []jsonscan.Entry{{Data: r.Record.Data}}}
	}},
	{"FirehosePutRecordBatch", jsonscan.ScanFirehosePutRecordBatch, func() any { return new(firehosePutRecordBatch) }, func(in any) jsonscan.Put {
		r := in.(*firehosePutRecordBatch)
		p := jsonscan.Put{Stream: raw(r.DeliveryStreamName)}
		for _, e := range r.Records {
			p.Entries = append(p.Entries, jsonscan.Entry{Data: e.Data})
		}
		return p
	}},
}

func (s stream) put(entries []entry) jsonscan.Put {
	p := jsonscan.Put{Stream: raw(s.StreamName), ARN: raw(s.StreamARN), DryRun: s.DryRun}
	for _, e := range entries {
		p.Entries = append(p.Entries, jsonscan.Entry{Data: e.Data, PartitionKey: raw(e.PartitionKey), ExplicitHashKey: raw(e.ExplicitHashKey)})
	}
	return p
}

func raw(s *string) []byte {
	if s == nil {
		return nil
	}
	return []byte(*s)
}

// compare runs both paths on body and returns how they differ, and whether the fast path took it.
func (c call) compare(body []byte, p *jsonscan.Put) (fast bool, difference error) {
	original := bytes.Clone(body)
	fast = c.scan(body, p)
	if !bytes.Equal(body, original) {
		return fast, errors.New("the scan changed the body")
	}
	if !fast {
		if !reflect.DeepEqual(*p, jsonscan.Put{Entries: p.Entries[:0]}) {
			return false, fmt.Errorf("a failed scan left %+v", *p)
		}
		return false, nil
	}
	in := c.in()
	want := awsapi.DecodeJSON(original, in)
	var blob *jsonscan.BlobError
	if err := p.Decode(); errors.As(err, &blob) {
		if s, ok := want.(*awsapi.SerializationError); !ok || s.Message != blob.Message {
			return true, fmt.Errorf("Decode fails with %q, DecodeJSON with %v", blob.Message, want)
		}
		return true, nil
	}
	if want != nil {
		return true, fmt.Errorf("DecodeJSON refuses: %w", want)
	}
	if err := awsapi.Validate(in); err != nil {
		return true, fmt.Errorf("Validate refuses: %w", err)
	}
	if want := c.put(in); !reflect.DeepEqual(*p, want) {
		return true, fmt.Errorf("got %+v, want %+v", *p, want)
	}
	return true, nil
}

// One row a body: the calls whose fast path takes it. Whatever it takes is compared with the
// general path as well.
func TestScan(t *testing.T) {
	const single, batch, firehose, firehoseBatch = 1, 2, 4, 8
	many := func(n int) string {
		return `{"DeliveryStreamName":"s","Records":[` + strings.Repeat(`{"Data":""},`, n-1) + `{"Data":""}]}`
	}
	digits := strings.Repeat("9", 130)
	for _, test := range []struct {
		body string
		want int
	}{
		{`{"StreamName":"s","Data":"aGk=","PartitionKey":"k"}`, single},
		{"\t{ \"Data\" :\r\n\"aGk=\" , \"PartitionKey\": \"\u00e4\U0001F600\" }\n", single},
		{`{"Data":"","StreamARN":"arn:aws-us-gov:kinesis:us-gov-1:123456789012:stream/s","DryRun":true}`, single},
		{`{"Data":"","SequenceNumberForOrdering":"` + digits[:129] + `","ExplicitHashKey":"` + digits[:39] + `","DryRun":false}`, single},
		{`{"Records":[{"Data":"aGk=","PartitionKey":"k"},{"ExplicitHashKey":"0","Data":"Zm9v"}],"StreamName":"s"}`, batch},
		{`{"Records":[{"Data":"aGk="}]}`, batch},
		{`{"DeliveryStreamName":"s","Record":{"Data":"aGk="}}`, firehose},
		{"{\"Data\":\"a\x01=k\"}", single}, // taken, and then refused by Decode: not base64, not JSON
		{"{\"Records\":[{\"Data\":\"a!Gk\"},{\"Data\":\"\xff\xff\xff\xff\"}]}", batch},
		{`{"DeliveryStreamName":"s","Records":[{"Data":"aGk="},{"Data":""}]}`, firehoseBatch},
		{many(500), firehoseBatch},

		// Left to the general path.
		{many(501), 0},
		{`{}`, 0},
		{`{"StreamName":"s"}`, 0},
		{`{"Records":[],"StreamName":"s"}`, 0},
		{`{"Records":[{}],"StreamName":"s"}`, 0},
		{`{"Records":[{"Data":"aGk="}],"Records":[{"Data":"aGk="}]}`, 0},
		{`{"Records":[{"Data":"aGk=","Data":"aGk="}]}`, 0},
		{`{"Records":[{"Data":"aGk=","Unknown":1}]}`, 0},
		{`{"Record":{"Data":"aGk="}}`, 0},
		{`{"Records":[{"Data":"aGk="},]}`, 0},
		{`{"Records":[{"Data":"aGk="}}}`, 0},
		{`{"Data":"aGk=",}`, 0},
		{`{"Data":"aGk="`, 0},
		{`{"Data":"aGk="}}`, 0},
		{"{\"Data\":\"aGk=\"}\x00", 0},
		{`{"Data" "aGk="}`, 0},
		{`{"Data":"aGk=" "PartitionKey":"k"}`, 0},
		{`{"data":"aGk="}`, 0},
		{`{"\u0044ata":"aGk="}`, 0},
		{`{"Data":"aGk=","PartitionKey":null}`, 0},
		{`{"Data":"aGk=","PartitionKey":1}`, 0},
		{`{"Data":"aGk=","PartitionKey":""}`, 0},
		{`{"Data":"aGk=","PartitionKey":"` + strings.Repeat("k", 257) + `"}`, 0},
		{`{"Data":"aGk=","PartitionKey":"` + strings.Repeat("ä", 256) + `"}`, single},
		{`{"Data":"aGk=","PartitionKey":"` + strings.Repeat("ä", 257) + `"}`, 0},
		{"{\"Data\":\"aGk=\",\"PartitionKey\":\"\xff\"}", 0},
		{"{\"Data\":\"aGk=\",\"PartitionKey\":\"a\x01ä\"}", 0},
		{`{"Data":"aGk=","PartitionKey":"a\"b"}`, 0},
		{`{"Data":"aGk=","ExplicitHashKey":"01"}`, 0},
		{`{"Data":"aGk=","ExplicitHashKey":"` + digits[:40] + `"}`, 0},
		{`{"Data":"aGk=","SequenceNumberForOrdering":"` + digits + `"}`, 0},
		{`{"Data":"aGk=","StreamName":"a/b"}`, 0},
		{`{"Data":"aGk=","StreamName":"` + strings.Repeat("a", 129) + `"}`, 0},
		{`{"Data":"aGk=","StreamARN":"arn:aws:kinesis:r:12345678901:stream/s"}`, 0},
		{`{"Data":"aGk=","StreamARN":"arn:aws:kinesis:r:123456789012:stream/"}`, 0},
		{`{"Data":"aGk=","DryRun":"true"}`, 0},
		{`{"Data":"aGk=","DryRun":trueish}`, 0},
		{`{"Data":"aGk"}`, 0},
		{`{"Data":"aGl="}`, 0},
		{`{"Data":"===="}`, 0},
		{"{\"Data\":\"Zm9v\n\n\n\n\"}", 0},
		{`{"Data":"aGk\/"}`, 0},
		{``, 0}, {` `, 0}, {`[]`, 0}, {`"`, 0}, {`{"`, 0}, {`{"Data":"`, 0},
	} {
		var p jsonscan.Put
		for i, c := range calls {
			fast, err := c.compare([]byte(test.body), &p)
			if want := test.want&(1<<i) != 0; fast != want || err != nil {
				t.Errorf("%s %.80q: fast path %t, want %t; %v", c.name, test.body, fast, want, err)
			}
		}
	}
}

func TestScanLimits(t *testing.T) {
	text := func(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }
	for _, test := range []struct {
		call int
		body string
		want bool
	}{
		{0, `{"Data":"` + text(10<<20) + `"}`, true},
		{0, `{"Data":"` + text(10<<20+1) + `"}`, false},
		{2, `{"DeliveryStreamName":"s","Record":{"Data":"` + text(1_024_000) + `"}}`, true},
		{2, `{"DeliveryStreamName":"s","Record":{"Data":"` + text(1_024_001) + `"}}`, false},
		{2, `{"DeliveryStreamName":"` + strings.Repeat("s", 64) + `","Record":{"Data":""}}`, true},
		{2, `{"DeliveryStreamName":"` + strings.Repeat("s", 65) + `","Record":{"Data":""}}`, false},
	} {
		fast, err := calls[test.call].compare([]byte(test.body), new(jsonscan.Put))
		if fast != test.want || err != nil {
			t.Errorf("%.60q: fast path %t, want %t; %v", test.body, fast, test.want, err)
		}
	}
}

// Values are slices of the body that cannot grow into what follows them.
func TestPutAliasesTheBody(t *testing.T) {
	body := []byte(`{"Records":[{"Data":"aGVsbG8=","PartitionKey":"key"}],"StreamName":"s"}`)
	var p jsonscan.Put
	if !jsonscan.ScanPutRecords(body, &p) {
		t.Fatal("not scanned")
	}
	if err := p.Decode(); err != nil {
		t.Fatal(err)
	}
	if want := `{"Records":[{"Data":"hello`; string(body[:len(want)]) != want {
		t.Errorf("decoded elsewhere: %q", body)
	}
	e := p.Entries[0]
	if cap(e.Data) != len("hello") || cap(e.PartitionKey) != len("key") || cap(p.Stream) != 1 {
		t.Errorf("capacities %d, %d, %d reach beyond the values", cap(e.Data), cap(e.PartitionKey), cap(p.Stream))
	}
	p.Reset()
	if !reflect.DeepEqual(p.Entries[:1][0], jsonscan.Entry{}) {
		t.Error("Reset keeps the body alive")
	}
}

// Decode works in place and, for every length and every position of a bad character, says the same
// as the general decoder, which saw the text that Decode has overwritten.
func TestDecodeFaults(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var p jsonscan.Put
	for n := range 200 {
		data := make([]byte, n)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		text := base64.StdEncoding.EncodeToString(data)
		for at := -1; at < len(text); at++ {
			for _, bad := range []byte("=-~\x00\n\\\xff") {
				v := []byte(text)
				if at >= 0 {
					v[at] = bad
				}
				body := fmt.Appendf(nil, `{"Records":[{"Data":"Zm9v"},{"Data":"%s"},{"Data":"!!!!"}]}`, v)
				if _, err := calls[1].compare(body, &p); err != nil {
					t.Fatalf("%d bytes, %q at %d: %v", n, bad, at, err)
				}
			}
		}
	}
}

func TestBlobErrorNamesTheEntry(t *testing.T) {
	var p jsonscan.Put
	if !jsonscan.ScanPutRecords([]byte(`{"Records":[{"Data":"Zm9v"},{"Data":"Zm9vYm!y"}]}`), &p) {
		t.Fatal("not scanned")
	}
	want := &jsonscan.BlobError{Entry: 1, Message: "'Zm9vYm!y' can not be converted to a Blob: Invalid Base64 character: '!'"}
	if err := p.Decode(); !reflect.DeepEqual(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
	if got, want := (&jsonscan.BlobError{Entry: 0}).Error(), "record 1: the request body is not a JSON object"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := want.Error(); got != "record 2: "+want.Message {
		t.Errorf("got %s", got)
	}
}

func TestScanDoesNotAllocate(t *testing.T) {
	body := batchBody(500, 100)
	work := bytes.Clone(body)
	var p jsonscan.Put
	jsonscan.ScanPutRecords(work, &p)
	allocs := testing.AllocsPerRun(20, func() {
		copy(work, body)
		if !jsonscan.ScanPutRecords(work, &p) || p.Decode() != nil {
			t.Fatal("not scanned")
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations a request, want none", allocs)
	}
}

func TestAppendString(t *testing.T) {
	for _, s := range []string{"", "plain", "\"\\/", "\x00\x1f\n\r\t\x7f", "<a>&", "ä€😀\u2028", "a\xffb\xc3", "\xed\xa0\x80", "\ufffd"} {
		got := jsonscan.AppendString([]byte("x"), s)
		if !bytes.Equal(got, jsonscan.AppendString([]byte("x"), []byte(s))) {
			t.Errorf("%q: []byte gives something else", s)
		}
		var back string
		if err := json.Unmarshal(got[1:], &back); err != nil || back != strings.ToValidUTF8(s, "\ufffd") && utf8.ValidString(s) || !utf8.Valid(got) {
			t.Errorf("%q: got %s, which reads %q, %v", s, got, back, err)
		}
	}
	if got, want := string(jsonscan.AppendString(nil, "\"\\/<>\n\r\t\x01é\xff!")), `"\"\\/<>\n\r\t\u0001é`+"\ufffd"+`!"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAppendBase64(t *testing.T) {
	data := make([]byte, 300)
	for i := range data {
		data[i] = byte(i * 7)
	}
	for n := range data {
		got := jsonscan.AppendBase64([]byte("x"), data[:n])
		if want := "x" + base64.StdEncoding.EncodeToString(data[:n]); string(got) != want {
			t.Fatalf("%d bytes: got %s, want %s", n, got, want)
		}
	}
}
