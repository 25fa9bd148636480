package eventstream_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"

	"github.com/shardmill/shardmill/internal/awsapi/eventstream"
	"github.com/shardmill/shardmill/internal/errs"
)

// golden is an initial response that botocore reads.
const golden = "00000068" + "00000056" + "4e681724" +
	"0b" + "3a6576656e742d74797065" + "07" + "0010" + "696e697469616c2d726573706f6e7365" +
	"0d" + "3a636f6e74656e742d74797065" + "07" + "0010" + "6170706c69636174696f6e2f6a736f6e" +
	"0d" + "3a6d6573736167652d74797065" + "07" + "0005" + "6576656e74" +
	"7b7d" + "d591c62b"

// A stream as SubscribeToShard writes it, and what a client has to find in it.
var (
	stream = func() []byte {
		b := eventstream.AppendInitialResponse(nil)
		b = eventstream.AppendEvent(b, "SubscribeToShardEvent", "application/json", []byte(`{"MillisBehindLatest":0}`))
		b = eventstream.AppendEvent(b, "SubscribeToShardEvent", "application/x-amz-cbor-1.1", []byte{0xa0, 0, 0xff})
		b = eventstream.AppendMessage(b, nil, nil)
		b = eventstream.AppendException(b, "ResourceInUseException", "Another \"consumer\"\ntook over.")
		return eventstream.AppendError(b, "InternalFailure", "ä")
	}()
	messages = []message{
		{map[string]string{":event-type": "initial-response", ":content-type": "application/json", ":message-type": "event"}, "{}"},
		{map[string]string{":event-type": "SubscribeToShardEvent", ":content-type": "application/json", ":message-type": "event"}, `{"MillisBehindLatest":0}`},
		{map[string]string{":event-type": "SubscribeToShardEvent", ":content-type": "application/x-amz-cbor-1.1", ":message-type": "event"}, "\xa0\x00\xff"},
		{map[string]string{}, ""},
		{map[string]string{":exception-type": "ResourceInUseException", ":content-type": "application/json", ":message-type": "exception"},
			`{"message":"Another \"consumer\"\ntook over."}`},
		{map[string]string{":error-code": "InternalFailure", ":error-message": "ä", ":message-type": "error"}, ""},
	}
)

type message struct {
	Headers map[string]string
	Payload string
}

func TestInitialResponseIsTheGoldenOne(t *testing.T) {
	got := eventstream.AppendInitialResponse([]byte("before"))
	if want := hex.EncodeToString([]byte("before")) + golden; hex.EncodeToString(got) != want {
		t.Errorf("got  %x\nwant %s", got, want)
	}
	if len(got)-len("before") != 104 {
		t.Errorf("%d bytes, want 104", len(got)-len("before"))
	}
}

func TestDecode(t *testing.T) {
	rest := stream
	for i, want := range messages {
		m, next, err := eventstream.Decode(rest)
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		got := message{map[string]string{}, string(m.Payload)}
		for _, h := range m.Headers {
			got.Headers[h.Name] = h.Value
		}
		if !reflect.DeepEqual(got, want) || m.Header(":message-type") != want.Headers[":message-type"] {
			t.Errorf("message %d: got %+v, want %+v", i, got, want)
		}
		rest = next
	}
	if len(rest) != 0 {
		t.Errorf("%d bytes are left", len(rest))
	}
}

// The SDK for Go reads what we write, and we read what it writes.
func TestAgainstGoSDK(t *testing.T) {
	decoder, encoder := sdk.NewDecoder(), sdk.NewEncoder()
	in := bytes.NewReader(stream)
	var again bytes.Buffer
	for i, want := range messages {
		m, err := decoder.Decode(in, nil)
		if err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
		got := message{map[string]string{}, string(m.Payload)}
		for _, h := range m.Headers {
			got.Headers[h.Name] = h.Value.String()
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("message %d: the SDK reads %+v, want %+v", i, got, want)
		}
		if err := encoder.Encode(&again, m); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := decoder.Decode(in, nil); err != io.EOF {
		t.Errorf("at the end: %v, want EOF", err)
	}
	if !bytes.Equal(again.Bytes(), stream) {
		t.Errorf("the SDK writes %x\nwe write %x", again.Bytes(), stream)
	}
}

func TestAgainstBotocore(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("needs python3 with botocore: no python3 in PATH")
	}
	if out, err := exec.Command(python, "-c", "import botocore.eventstream").CombinedOutput(); err != nil {
		t.Skipf("needs botocore: pip install botocore: %s", out)
	}
	read := exec.Command(python, "-c", `
import json, sys
from botocore.eventstream import EventStreamBuffer
buffer = EventStreamBuffer()
buffer.add_data(sys.stdin.buffer.read())
print(json.dumps([{"Headers": m.headers, "Payload": m.payload.decode("latin-1")} for m in buffer]))`)
	read.Stdin = bytes.NewReader(stream)
	out, err := read.Output()
	if err != nil {
		t.Fatal(err)
	}
	var got []message
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	want := append([]message{}, messages...)
	for i := range want { // JSON has no bytes; they travel as the characters of the same numbers
		var latin1 []rune
		for _, b := range []byte(want[i].Payload) {
			latin1 = append(latin1, rune(b))
		}
		want[i].Payload = string(latin1)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("botocore reads %+v\nwant %+v", got, want)
	}
}

func TestDecodeFaults(t *testing.T) {
	valid := func(headers string, payload string) []byte { return frame(headers, payload) }
	name := "\x01a"
	for _, test := range []struct {
		in   []byte
		want string
	}{
		{nil, "the message has 0 bytes of at least 12: unexpected EOF"},
		{stream[:11], "the message has 11 bytes of at least 12: unexpected EOF"},
		{stream[:103], "the message has 103 bytes of at least 104: unexpected EOF"},
		{flipped(3), "the checksum of the message's lengths is 4e681724, but they have 169b4f6d: this is no event stream, or it is damaged"},
		{flipped(99), "the checksum of the message is d591c62b, but it has a34d87bb: it is damaged"},
		{prelude(15, 0), "the message claims 15 bytes, 0 of them headers; allowed are 131072 of headers and 16777216 of payload, and 16 around them"},
		{prelude(20, 5), "the message claims 20 bytes, 5 of them headers; allowed are 131072 of headers and 16777216 of payload, and 16 around them"},
		{prelude(1<<20, 128<<10+1), "the message claims 1048576 bytes, 131073 of them headers; allowed are 131072 of headers and 16777216 of payload, and 16 around them"},
		{prelude(16<<20+17, 0), "the message claims 16777233 bytes, 0 of them headers; allowed are 131072 of headers and 16777216 of payload, and 16 around them"},
		{prelude(1<<32-1, 1<<32-1), "the message claims 4294967295 bytes, 4294967295 of them headers; allowed are 131072 of headers and 16777216 of payload, and 16 around them"},
		{valid("\x00", ""), "header 1 has a name of 0 bytes, but 0 are left"},
		{valid("\x05a", ""), "header 1 has a name of 5 bytes, but 1 are left"},
		{valid(name, ""), "header 1 has a name of 1 bytes, but 1 are left"},
		{valid(name+"\x08", ""), `header "a" is of type 8; only strings (type 7) are read`},
		{valid(name+"\x07\x00", ""), `header "a" has no length`},
		{valid(name+"\x07\x00\x02v", "payload"), `header "a" claims a value of 2 bytes; allowed are 32767, and 1 are left`},
		{valid(name+"\x07\x80\x00"+strings.Repeat("v", 1<<15), ""), `header "a" claims a value of 32768 bytes; allowed are 32767, and 32768 are left`},
		{valid(name+"\x07\x00\x01v\x00", ""), "header 2 has a name of 0 bytes, but 0 are left"},
	} {
		_, rest, err := eventstream.Decode(test.in)
		if err == nil || err.Error() != test.want {
			t.Errorf("%.40x: got %v, want %s", test.in, err, test.want)
		}
		if short := strings.HasSuffix(test.want, "EOF"); !errs.Is(err, errs.Invalid) || errors.Is(err, io.ErrUnexpectedEOF) != short {
			t.Errorf("%.40x: wrong kind of error %#v", test.in, err)
		}
		if len(rest) != len(test.in) {
			t.Errorf("%.40x: %d of %d bytes are left", test.in, len(rest), len(test.in))
		}
	}
	if _, _, err := eventstream.Decode(valid(name+"\x07\x00\x01v", "payload")); err != nil {
		t.Errorf("the same without a fault: %v", err)
	}
}

// A single damaged bit anywhere is noticed.
func TestEveryBitIsChecked(t *testing.T) {
	one := eventstream.AppendInitialResponse(nil)
	for bit := range len(one) * 8 {
		b := bytes.Clone(one)
		b[bit/8] ^= 1 << (bit % 8)
		if _, _, err := eventstream.Decode(b); err == nil {
			t.Errorf("bit %d was flipped and nobody noticed", bit)
		}
	}
}

func TestAppendLimits(t *testing.T) {
	header := func(name, value int) []eventstream.Header {
		return []eventstream.Header{{Name: strings.Repeat("n", name), Value: strings.Repeat("v", value)}}
	}
	largest := header(255, 1<<15-1)
	for len(largest) < 3 {
		largest = append(largest, largest[0])
	}
	m, _, err := eventstream.Decode(eventstream.AppendMessage(nil, largest, make([]byte, 16<<20)))
	if err != nil || !reflect.DeepEqual(m.Headers, largest) || len(m.Payload) != 16<<20 {
		t.Errorf("largest message: %v", err)
	}
	for _, test := range []struct {
		headers []eventstream.Header
		payload int
		want    string
	}{
		{header(0, 1), 0, `eventstream: header "": the name has 0 bytes, allowed are 1 to 255; the value 1, allowed are 32767`},
		{header(256, 1), 0, "the name has 256 bytes"},
		{header(1, 1<<15), 0, "the value 32768, allowed are 32767"},
		{append(largest, largest[0]), 0, "eventstream: 132104 bytes of headers, allowed are 131072; 0 of payload, allowed are 16777216"},
		{nil, 16<<20 + 1, "16777217 of payload"},
	} {
		func() {
			defer func() {
				if s, _ := recover().(string); !strings.Contains(s, test.want) {
					t.Errorf("got panic %q, want %q", s, test.want)
				}
			}()
			eventstream.AppendMessage(nil, test.headers, make([]byte, test.payload))
		}()
	}
}

func TestLongErrorsAreCut(t *testing.T) {
	for text, want := range map[string]int{
		strings.Repeat("v", 1<<15-1):              1<<15 - 1,
		strings.Repeat("v", 1<<15):                1<<15 - 1,
		strings.Repeat("v", 1<<15-2) + "ä":        1<<15 - 2,
		strings.Repeat("v", 1<<15-3) + "ä and so": 1<<15 - 1,
	} {
		m, _, err := eventstream.Decode(eventstream.AppendError(nil, "InternalFailure", text))
		if got := m.Header(":error-message"); err != nil || len(got) != want || !strings.HasPrefix(text, got) {
			t.Errorf("%d bytes became %d, %v; want %d", len(text), len(got), err, want)
		}
	}
}

func TestAppendEventDoesNotAllocate(t *testing.T) {
	payload, dst := make([]byte, 1000), make([]byte, 0, 2000)
	if n := testing.AllocsPerRun(100, func() {
		dst = eventstream.AppendEvent(dst[:0], "SubscribeToShardEvent", "application/json", payload)
	}); n != 0 {
		t.Errorf("%v allocations a message, want none", n)
	}
}

func BenchmarkAppendEvent(b *testing.B) {
	payload, dst := make([]byte, 1<<20), make([]byte, 0, 2<<20)
	b.SetBytes(int64(len(payload)))
	for b.Loop() {
		dst = eventstream.AppendEvent(dst[:0], "SubscribeToShardEvent", "application/json", payload)
	}
}
