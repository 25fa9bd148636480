package cbor_test

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/awsapi/cbor"
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
)

// call is one of the two calls: its fast path, its general path, and how the two compare.
type call struct {
	name string
	scan func([]byte, *jsonscan.Put) bool
	in   func() any
	put  func(in any) jsonscan.Put
}

var calls = []call{
	{"PutRecord", cbor.ScanPutRecord, func() any { return new(putRecord) }, func(in any) jsonscan.Put {
		r := in.(*putRecord)
		p := r.stream.put([]entry{r.entry})
		p.SequenceNumberForOrdering = raw(r.SequenceNumberForOrdering)
		return p
	}},
	{"PutRecords", cbor.ScanPutRecords, func() any { return new(putRecords) }, func(in any) jsonscan.Put {
		r := in.(*putRecords)
		return r.stream.put(r.Records)
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
	if err := awsapi.DecodeCBOR(body, in); err != nil {
		return true, fmt.Errorf("DecodeCBOR refuses: %w", err)
	}
	if err := awsapi.Validate(in); err != nil {
		return true, fmt.Errorf("Validate refuses: %w", err)
	}
	if want := c.put(in); !reflect.DeepEqual(*p, want) {
		return true, fmt.Errorf("got %+v, want %+v", *p, want)
	}
	return true, nil
}

// Bodies are built from names and values: m(...) is a definite map of CBOR items, im(...) an
// indefinite one, as Jackson writes it.
func m(items ...string) string {
	return string(cbor.AppendMapHeader(nil, len(items)/2)) + strings.Join(items, "")
}
func im(items ...string) string { return "\xbf" + strings.Join(items, "") + "\xff" }
func a(items ...string) string {
	return string(cbor.AppendArrayHeader(nil, len(items))) + strings.Join(items, "")
}
func ia(items ...string) string { return "\x9f" + strings.Join(items, "") + "\xff" }
func s(text string) string      { return string(cbor.AppendText(nil, text)) }
func d(data string) string      { return string(cbor.AppendBytes(nil, []byte(data))) }

const null, yes, no = "\xf6", "\xf5", "\xf4"

// One row a body: the calls whose fast path takes it. Whatever it takes is compared with the
// general path as well.
func TestScan(t *testing.T) {
	const single, batch = 1, 2
	many := func(n int) string {
		records := make([]string, n)
		for i := range records {
			records[i] = m(s("Data"), d(""))
		}
		return m(s("StreamName"), s("s"), s("Records"), a(records...))
	}
	data := s("Data") + d("hi")
	digits := strings.Repeat("9", 130)
	for _, test := range []struct {
		body string
		want int
	}{
		{m(s("StreamName"), s("s"), s("Data"), d("hi"), s("PartitionKey"), s("k")), single},
		{im(s("Data"), d("\x00\xff"), s("PartitionKey"), s("ä\U0001F600\n\"\\\x00")), single},
		{m(s("Data"), d(""), s("StreamARN"), s("arn:aws-us-gov:kinesis:us-gov-1:123456789012:stream/s"), s("DryRun"), yes), single},
		{m(s("Data"), d(""), s("SequenceNumberForOrdering"), s(digits[:129]), s("ExplicitHashKey"), s(digits[:39]), s("DryRun"), no), single},
		{m(s("Records"), a(m(s("Data"), d("hi"), s("PartitionKey"), s("k")), m(s("ExplicitHashKey"), s("0"), s("Data"), d("foo"))), s("StreamName"), s("s")), batch},
		{im(s("Records"), ia(im(s("Data"), d("hi"), s("PartitionKey"), s("k"))), s("StreamName"), s("s")), batch},
		{m(s("Records"), a(m(data, ""))), batch},
		{"\xbb\x00\x00\x00\x00\x00\x00\x00\x01\x78\x04Data\x5b\x00\x00\x00\x00\x00\x00\x00\x02hi", single}, // wide lengths
		{m(data, "", s("DryRun"), yes, s("DryRun"), no), single},                                           // the last one wins
		{many(500), batch},

		// Left to the general path.
		{many(501), 0},
		{m(), 0},
		{im(), 0},
		{m(s("StreamName"), s("s")), 0},
		{m(s("Records"), a(), s("StreamName"), s("s")), 0},
		{m(s("Records"), a(m())), 0},
		{m(s("Records"), a(null)), 0},
		{m(s("Records"), a(m(data, "")), s("Records"), a(m(data, ""))), 0},
		{m(s("Records"), a(m(data, "", data, ""))), 0},
		{m(s("Records"), a(m(data, "", s("Unknown"), "\x01"))), 0},
		{m(s("Records"), m(data, "")), 0},
		{m(data, "", s("StreamName"), s("s"), s("StreamName"), s("s")), 0},
		{m(data, "", s("PartitionKey"), s("k"), s("PartitionKey"), s("k")), 0},
		{m(s("Data"), "\x5f\x41h\x41i\xff"), 0}, // in chunks
		{m("\x7f\x64Data\xff", d("hi")), 0},
		{m(data, "", s("PartitionKey"), "\x7f\x61k\xff"), 0},
		{m(s("Data"), s("aGk=")), 0},
		{m(s("Data"), "\xc1"+d("hi")), 0},
		{"\xd9\xd9\xf7" + m(data, ""), 0},
		{m(s("Data"), null), 0},
		{m(s("data"), d("hi")), 0},
		{m(d("Data"), d("hi")), 0},
		{m(data, "", "\x01", "\x01"), 0},
		{m(data, "", s("PartitionKey"), null), 0},
		{m(data, "", s("PartitionKey"), d("k")), 0},
		{m(data, "", s("PartitionKey"), s("")), 0},
		{m(data, "", s("PartitionKey"), s(strings.Repeat("k", 257))), 0},
		{m(data, "", s("PartitionKey"), s(strings.Repeat("ä", 256))), single},
		{m(data, "", s("PartitionKey"), s(strings.Repeat("ä", 257))), 0},
		{m(data, "", s("PartitionKey"), "\x61\xff"), 0},
		{m(data, "", s("ExplicitHashKey"), s("01")), 0},
		{m(data, "", s("ExplicitHashKey"), s("")), 0},
		{m(data, "", s("ExplicitHashKey"), "\x00"), 0},
		{m(data, "", s("ExplicitHashKey"), s(digits[:40])), 0},
		{m(data, "", s("SequenceNumberForOrdering"), s(digits)), 0},
		{m(data, "", s("StreamName"), s("a/b")), 0},
		{m(data, "", s("StreamName"), s(strings.Repeat("a", 128))), single},
		{m(data, "", s("StreamName"), s(strings.Repeat("a", 129))), 0},
		{m(data, "", s("StreamARN"), s("arn:aws:kinesis:r:12345678901:stream/s")), 0},
		{m(data, "", s("StreamARN"), s("arn:aws:kinesis:r:123456789012:stream/")), 0},
		{m(data, "", s("StreamARN"), s("arn:aws:kinesis:r:123456789012:stream/"+strings.Repeat("s", 2048))), 0},
		{m(data, "", s("DryRun"), s("true")), 0},
		{m(data, "", s("DryRun"), "\x01"), 0},

		// Malformed.
		{m(data, "") + "\x00", 0},
		{"\xa2" + data, 0},
		{"\xbf" + data, 0},
		{"\xa0" + data, 0},
		{"\xa1" + s("Data"), 0},
		{"\xa1" + s("Data") + "\x43hi", 0},
		{"\xa1" + s("Data") + "\x5b\xff\xff\xff\xff\xff\xff\xff\xffhi", 0},
		{m(s("Records"), "\x9b\xff\xff\xff\xff\xff\xff\xff\xff"+m(data, "")), 0},
		{"\xbf" + s("Data") + "\xff", 0},
		{a(m(data, "")), 0},
		{"", 0}, {"\xff", 0}, {"\x00", 0}, {"{}", 0},
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
	for size, want := range map[int]bool{10 << 20: true, 10<<20 + 1: false} {
		body := m(s("Data"), d(strings.Repeat("x", size)))
		if fast, err := calls[0].compare([]byte(body), new(jsonscan.Put)); fast != want || err != nil {
			t.Errorf("%d bytes of data: fast path %t, want %t; %v", size, fast, want, err)
		}
	}
}

// Values are slices of the body that cannot grow into what follows them.
func TestPutAliasesTheBody(t *testing.T) {
	body := []byte(m(s("Records"), a(m(s("Data"), d("hello"), s("PartitionKey"), s("key"))), s("StreamName"), s("s")))
	var p jsonscan.Put
	if !cbor.ScanPutRecords(body, &p) {
		t.Fatal("not scanned")
	}
	e := p.Entries[0]
	if at := bytes.Index(body, []byte("hello")); &e.Data[0] != &body[at] {
		t.Error("the data were copied")
	}
	if cap(e.Data) != len("hello") || cap(e.PartitionKey) != len("key") || cap(p.Stream) != 1 {
		t.Errorf("capacities %d, %d, %d reach beyond the values", cap(e.Data), cap(e.PartitionKey), cap(p.Stream))
	}
}

func TestScanAndAppendDoNotAllocate(t *testing.T) {
	body := batchBody(500, 100)
	var p jsonscan.Put
	cbor.ScanPutRecords(body, &p)
	if n := testing.AllocsPerRun(20, func() {
		if !cbor.ScanPutRecords(body, &p) {
			t.Fatal("not scanned")
		}
	}); n != 0 {
		t.Errorf("%v allocations a scan, want none", n)
	}
	dst, text := make([]byte, 0, 1000), []byte(strings.Repeat("ä", 100))
	if n := testing.AllocsPerRun(20, func() {
		dst = cbor.AppendText(cbor.AppendBytes(cbor.AppendText(dst[:0], "text"), text), text)
	}); n != 0 {
		t.Errorf("%v allocations an answer, want none", n)
	}
}
