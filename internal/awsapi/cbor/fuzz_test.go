package cbor_test

import (
	"encoding/base64"
	"fmt"
	"testing"
	"unicode/utf8"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/awsapi/cbor"
	"github.com/shardmill/shardmill/internal/awsapi/jsonscan"
)

// FuzzScan holds both fast paths against DecodeCBOR and Validate. Whatever the fast path takes, they
// have to take too, with equal values.
func FuzzScan(f *testing.F) {
	for _, seed := range []string{
		m(s("StreamName"), s("s"), s("Data"), d("hi"), s("PartitionKey"), s("k"), s("SequenceNumberForOrdering"), s("12"), s("ExplicitHashKey"), s("0"), s("DryRun"), yes),
		im(s("Records"), ia(im(s("Data"), d("hi"), s("PartitionKey"), s("ä")), m(s("Data"), d(""))), s("StreamARN"), s("arn:aws:kinesis:r:123456789012:stream/s")),
		m(s("Records"), a(m(s("Data"), d("hi"), s("Data"), "\x5f\x41h\xff")), s("Records"), a(), s("DryRun"), null),
		"\xbb\x00\x00\x00\x00\x00\x00\x00\x01\x78\x04Data\x5b\x00\x00\x00\x00\x00\x00\x00\x02hi",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var p jsonscan.Put
		for _, c := range calls {
			if _, err := c.compare(body, &p); err != nil {
				t.Fatalf("%s %x: %v", c.name, body, err)
			}
		}
	})
}

// FuzzPlainRequests is the other direction: a request in the plain form that SDKs send is taken by
// the fast path whenever the general one takes it.
func FuzzPlainRequests(f *testing.F) {
	f.Add("stream", "key", "12", []byte("data"), true)
	f.Add("a/b", "", "01", []byte{}, false)
	f.Fuzz(func(t *testing.T, stream, key, hash string, data []byte, indefinite bool) {
		mp, arr := m, a
		if indefinite {
			mp, arr = im, ia
		}
		record := []string{s("PartitionKey"), s(key), s("ExplicitHashKey"), s(hash), s("Data"), d(string(data))}
		for i, body := range []string{
			mp(append(record, s("StreamName"), s(stream))...),
			mp(s("Records"), arr(mp(record...), mp(s("Data"), d(string(data)))), s("StreamName"), s(stream)),
		} {
			in := calls[i].in()
			takes := awsapi.DecodeCBOR([]byte(body), in) == nil && awsapi.Validate(in) == nil
			var p jsonscan.Put
			if fast, err := calls[i].compare([]byte(body), &p); fast != takes || err != nil {
				t.Fatalf("%s %x: fast path %t, general path %t; %v", calls[i].name, body, fast, takes, err)
			}
		}
	})
}

// FuzzReader calls every method at every place of any input. What Skip takes, the other methods
// read to its end, and what they read, written again, is what they read then.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{"\xbf\x60\x9f\x01\xff\xff", "\xc1\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a", "\x5f\x41\x00\xff", "\xa1\x61a\x39\x03\xe7", "\xf8\x20", "\xf9\x7e\x00"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, method := range []func(*cbor.Reader){
			func(r *cbor.Reader) { r.Map() }, func(r *cbor.Reader) { r.Array() }, func(r *cbor.Reader) { r.Number() },
			func(r *cbor.Reader) { r.Text() }, func(r *cbor.Reader) { r.Bytes() }, func(r *cbor.Reader) { r.Bool() }, func(r *cbor.Reader) { r.SkipTags() },
		} {
			r := cbor.NewReader(in)
			method(&r)
		}
		r := cbor.NewReader(in)
		if !r.Skip(64) || !r.AtEnd() {
			return
		}
		once := rewrite(t, nil, in)
		if twice := rewrite(t, nil, once); string(once) != string(twice) {
			t.Fatalf("%x was written as %x and then as %x", in, once, twice)
		}
	})
}

// rewrite appends the item that in is, without its tags, in the form of the Append functions.
func rewrite(t *testing.T, dst, in []byte) []byte {
	r := cbor.NewReader(in)
	dst = rewriteItem(t, dst, &r)
	if !r.AtEnd() {
		t.Fatalf("%x: bytes are left", in)
	}
	return dst
}

func rewriteItem(t *testing.T, dst []byte, r *cbor.Reader) []byte {
	r.SkipTags()
	kind := r.Kind()
	switch kind {
	case cbor.Integer, cbor.Float:
		n, _ := r.Number()
		if n.IsFloat() {
			return cbor.AppendFloat(dst, n.Float())
		}
		return cbor.AppendInt(dst, n.Int())
	case cbor.Text:
		text, _ := r.Text()
		return cbor.AppendText(dst, text)
	case cbor.Bytes:
		data, _ := r.Bytes()
		return cbor.AppendBytes(dst, data)
	case cbor.Bool:
		v, _ := r.Bool()
		return cbor.AppendBool(dst, v)
	case cbor.Null:
		r.Null()
		return cbor.AppendNull(dst)
	case cbor.Simple:
		if !r.Skip(1) {
			t.Fatal("a simple value was refused")
		}
		return cbor.AppendNull(dst)
	}
	start := r.Array
	if kind == cbor.Map {
		start = r.Map
	}
	left, ok := start()
	if !ok {
		t.Fatalf("kind %d was refused", kind)
	}
	n := 0
	var items []byte
	for ; r.More(&left); n++ {
		if kind == cbor.Map {
			name, ok := r.Text()
			if !ok || !utf8.Valid(name) {
				t.Fatalf("the name %q", name)
			}
			items = cbor.AppendText(items, name)
		}
		items = rewriteItem(t, items, r)
	}
	if kind == cbor.Map {
		return append(cbor.AppendMapHeader(dst, n), items...)
	}
	return append(cbor.AppendArrayHeader(dst, n), items...)
}

// batchBody is a PutRecords body of n records of size bytes each.
func batchBody(n, size int) []byte {
	body := cbor.AppendText(cbor.AppendMapHeader(nil, 2), "Records")
	body = cbor.AppendArrayHeader(body, n)
	for i := range n {
		body = cbor.AppendText(cbor.AppendMapHeader(body, 2), "Data")
		body = cbor.AppendBytes(body, sample(size))
		body = cbor.AppendText(cbor.AppendText(body, "PartitionKey"), fmt.Sprintf("key-%d", i))
	}
	return cbor.AppendText(cbor.AppendText(body, "StreamName"), "orders")
}

// jsonBody is the same request in JSON.
func jsonBody(n, size int) []byte {
	body := []byte(`{"Records":[`)
	for i := range n {
		if i > 0 {
			body = append(body, ',')
		}
		body = fmt.Appendf(body, `{"Data":"%s","PartitionKey":"key-%d"}`, base64.StdEncoding.EncodeToString(sample(size)), i)
	}
	return append(body, `],"StreamName":"orders"}`...)
}

func sample(size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i * 131 >> 3)
	}
	return data
}

// BenchmarkPutRecords reads the same 500 records from both encodings. MB/s are of the wire, and JSON
// has a third more of it; ns/record compare the two directly. JSON needs a fresh body each time, so
// its row includes copying it; the CBOR row copy+scan does the same for the comparison.
func BenchmarkPutRecords(b *testing.B) {
	const records = 500
	for _, size := range []int{1000, 100} {
		binary, text := batchBody(records, size), jsonBody(records, size)
		work := make([]byte, len(text))
		var p jsonscan.Put
		scanned := func(ok bool) error {
			if !ok {
				return fmt.Errorf("not scanned")
			}
			return nil
		}
		for _, reader := range []struct {
			name string
			body []byte
			read func() error
		}{
			{"cbor/scan", binary, func() error { return scanned(cbor.ScanPutRecords(binary, &p)) }},
			{"cbor/copy+scan", binary, func() error { return scanned(cbor.ScanPutRecords(work[:copy(work, binary)], &p)) }},
			{"json/scan", text, func() error { return scanned(jsonscan.ScanPutRecords(text, &p)) }},
			{"json/copy+scan+decode", text, func() error {
				if !jsonscan.ScanPutRecords(work[:copy(work, text)], &p) {
					return fmt.Errorf("not scanned")
				}
				return p.Decode()
			}},
			{"cbor/DecodeCBOR", binary, func() error { return awsapi.DecodeCBOR(binary, new(putRecords)) }},
			{"json/DecodeJSON", text, func() error { return awsapi.DecodeJSON(text, new(putRecords)) }},
		} {
			b.Run(fmt.Sprintf("%dB/%s", size, reader.name), func(b *testing.B) {
				b.SetBytes(int64(len(reader.body)))
				b.ReportAllocs()
				for b.Loop() {
					if err := reader.read(); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/records, "ns/record")
			})
		}
	}
}
