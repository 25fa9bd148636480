package jsonscan_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/awsapi/jsonscan"
)

// FuzzScan holds every fast path against DecodeJSON and Validate. Whatever the fast path takes, they
// have to take too, with equal values or the equal complaint about base64.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		`{"StreamName":"s","Data":"aGk=","PartitionKey":"k","SequenceNumberForOrdering":"12","ExplicitHashKey":"0","DryRun":true}`,
		`{"Records":[{"Data":"aGk=","PartitionKey":"ä"},{"Data":""}],"StreamARN":"arn:aws:kinesis:r:123456789012:stream/s"}`,
		`{"DeliveryStreamName":"s","Record":{"Data":"aGk="}}`,
		"{\"DeliveryStreamName\":\"s\",\"Records\":[\t{\"Data\":\"Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFyZm9v\"} ]}\n",
		`{"Records":[{"Data":"aGk=","Data":"Z=k="}],"Records":[],"DryRun":null}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var p jsonscan.Put
		for _, c := range calls {
			if _, err := c.compare(bytes.Clone(body), &p); err != nil {
				t.Fatalf("%s %q: %v", c.name, body, err)
			}
		}
	})
}

// FuzzPlainRequests is the other direction: a request in the plain form that SDKs send is taken by
// the fast path whenever the general one takes it.
func FuzzPlainRequests(f *testing.F) {
	f.Add("stream", "key", "12", []byte("data"), true)
	f.Add("a/b", "", "01", []byte{}, false)
	f.Fuzz(func(t *testing.T, stream, key, hash string, data []byte, spaces bool) {
		comma := ","
		if spaces {
			comma = " ,\r\n\t"
		}
		for i, format := range []string{
			`{"StreamName":%[1]s%[5]s"PartitionKey":%[2]s%[5]s"ExplicitHashKey":%[3]s%[5]s"Data":"%[4]s"}`,
			`{"Records":[{"PartitionKey":%[2]s%[5]s"ExplicitHashKey":%[3]s%[5]s"Data":"%[4]s"}%[5]s{"Data":"%[4]s"}]%[5]s"StreamName":%[1]s}`,
			`{"DeliveryStreamName":%[1]s%[5]s"Record":{"Data":"%[4]s"}}`,
			`{"Records":[{"Data":"%[4]s"}%[5]s{"Data":"%[4]s"}]%[5]s"DeliveryStreamName":%[1]s}`,
		} {
			quoted := [3]string{}
			for j, s := range []string{stream, key, hash} {
				quoted[j] = string(jsonscan.AppendString(nil, s))
			}
			body := fmt.Appendf(nil, format, quoted[0], quoted[1], quoted[2], base64.StdEncoding.EncodeToString(data), comma)
			in := calls[i].in()
			takes := awsapi.DecodeJSON(body, in) == nil && awsapi.Validate(in) == nil && !bytes.Contains(body, []byte(`\`))
			var p jsonscan.Put
			if fast, err := calls[i].compare(body, &p); fast != takes || err != nil {
				t.Fatalf("%s %q: fast path %t, general path %t; %v", calls[i].name, body, fast, takes, err)
			}
		}
	})
}

// FuzzAppendString checks that a string of valid UTF-8 reads back as it was, by two decoders.
func FuzzAppendString(f *testing.F) {
	f.Add("a\"\\\n\u2028😀\x7f")
	f.Fuzz(func(t *testing.T, s string) {
		s = string(bytes.ToValidUTF8([]byte(s), []byte("\ufffd")))
		out := jsonscan.AppendString([]byte(`{"Text":`), s)
		out = append(out, '}')
		var a, b struct{ Text string }
		if err := json.Unmarshal(out, &a); err != nil || a.Text != s {
			t.Errorf("%q: encoding/json reads %q, %v", s, a.Text, err)
		}
		if err := awsapi.DecodeJSON(out, &b); err != nil || b.Text != s {
			t.Errorf("%q: DecodeJSON reads %q, %v", s, b.Text, err)
		}
	})
}

// batchBody is a PutRecords body of n records of size bytes each.
func batchBody(n, size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * 131 >> 3)
	}
	body := []byte(`{"Records":[`)
	for i := range n {
		if i > 0 {
			body = append(body, ',')
		}
		body = fmt.Appendf(body, `{"Data":"%s","PartitionKey":"key-%d"}`, base64.StdEncoding.EncodeToString(data), i)
	}
	return append(body, `],"StreamName":"orders"}`...)
}

// BenchmarkPutRecords reads 500 records of 1 KB and of 100 bytes. The fast path needs a fresh body
// each time, so its rows include copying it; the row copy says what that costs.
func BenchmarkPutRecords(b *testing.B) {
	for _, size := range []int{1000, 100} {
		body := batchBody(500, size)
		work := bytes.Clone(body)
		var p jsonscan.Put
		for _, reader := range []struct {
			name string
			read func() error
		}{
			{"copy", func() error { copy(work, body); return nil }},
			{"scan", func() error {
				if !jsonscan.ScanPutRecords(body, &p) {
					return fmt.Errorf("not scanned")
				}
				return nil
			}},
			{"copy+scan+decode", func() error {
				copy(work, body)
				if !jsonscan.ScanPutRecords(work, &p) {
					return fmt.Errorf("not scanned")
				}
				return p.Decode()
			}},
			{"DecodeJSON", func() error { return awsapi.DecodeJSON(body, new(putRecords)) }},
			{"encoding-json", func() error { return json.Unmarshal(body, new(putRecords)) }},
		} {
			b.Run(fmt.Sprintf("%dB/%s", size, reader.name), func(b *testing.B) {
				b.SetBytes(int64(len(body)))
				b.ReportAllocs()
				for b.Loop() {
					if err := reader.read(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	data := make([]byte, 1000)
	key := "customer-00017"
	dst := make([]byte, 0, 2000)
	for _, appender := range []struct {
		name string
		size int
		run  func()
	}{
		{"AppendBase64", len(data), func() { dst = jsonscan.AppendBase64(dst[:0], data) }},
		{"std-base64", len(data), func() { dst = base64.StdEncoding.AppendEncode(dst[:0], data) }},
		{"AppendString", len(key), func() { dst = jsonscan.AppendString(dst[:0], key) }},
	} {
		b.Run(appender.name, func(b *testing.B) {
			b.SetBytes(int64(appender.size))
			for b.Loop() {
				appender.run()
			}
		})
	}
}
