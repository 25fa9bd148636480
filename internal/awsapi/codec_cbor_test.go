package awsapi

import (
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
)

// unhex reads hexadecimal digits with spaces between. Words in double quotes stand for themselves.
func unhex(t testing.TB, text string) []byte {
	t.Helper()
	var out []byte
	for i, part := range strings.Split(text, `"`) {
		if i%2 == 1 {
			out = append(out, part...)
			continue
		}
		b, err := hex.DecodeString(strings.ReplaceAll(part, " ", ""))
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		out = append(out, b...)
	}
	return out
}

func TestDecodeCBOR(t *testing.T) {
	for _, test := range []struct {
		body string
		want everything
	}{
		{`a0`, everything{}},
		{`bf ff`, everything{}},
		{`d9d9f7 a0`, everything{}}, // tagged as being CBOR
		{`a7 66"String" 61"a" 67"Boolean" f5 67"Integer" 01 64"Long" 02 66"Double" f93800 64"Blob" 42"hi" 69"Timestamp" c1 1b 0000018bcfe5687b`,
			everything{String: ptr("a"), Boolean: ptr(true), Integer: ptr[int32](1), Long: ptr[int64](2), Double: ptr(0.5),
				Blob: []byte("hi"), Timestamp: ptr[Timestamp](1700000000123)}},

		// Absent and given are different things; null and undefined are absent.
		{`a7 66"String" 60 67"Boolean" f4 67"Integer" 00 64"Blob" 40 64"List" 80 63"Map" a0 69"Structure" a0`,
			everything{String: ptr(""), Boolean: ptr(false), Integer: ptr[int32](0), Blob: []byte{}, List: []string{},
				Map: map[string]string{}, Structure: &inside{}}},
		{`a8 66"String" f6 67"Boolean" f7 64"Blob" f6 64"List" f6 63"Map" f7 69"Structure" c1f6 67"Records" f6 65"Plain" f6`, everything{}},
		{`a1 64"List" 83 61"a" f6 61"b"`, everything{List: []string{"a", "", "b"}}},
		{`a1 67"Records" 82 f6 a1 64"Name" 61"x"`, everything{Records: []inside{{}, {Name: ptr("x")}}}},
		{`a1 63"Map" a2 61"a" 61"1" 61"b" f6`, everything{Map: map[string]string{"a": "1"}}},

		// Names are case-sensitive, unknown members are ignored, the last of equal ones wins.
		{`a3 66"string" 61"a" 67"Unknown" a1 64"deep" 83 01 e0 a1 60 5f 41 00 ff 6a"unexported" 01`, everything{}},
		{`a6 66"String" 61"a" 66"String" 61"b" 64"List" 82 61"a" 61"b" 64"List" 81 61"c" 67"Integer" 01 67"Integer" f6`,
			everything{String: ptr("b"), List: []string{"c"}}},
		{`a2 65"Plain" a2 64"Name" 61"x" 65"Count" 01 65"Plain" a1 64"Size" 02`, everything{Plain: inside{Size: 2}}},
		{`a1 63"Map" a2 61"a" 61"1" 61"a" f6`, everything{Map: map[string]string{}}},
		{`a1 69"StreamARN" 63"arn"`, everything{shared: shared{ptr("arn")}}},

		// Strings, names too, in chunks; lengths of any width; tags anywhere.
		{`bf 7f 63"Str" 63"ing" ff 7f 61"a" 60 62 c3a4 ff 64"Blob" 5f 41 ff 40 42 0001 ff 64"List" 9f 61"x" ff 63"Map" bf 61"k" 7f ff ff ff`,
			everything{String: ptr("aä"), Blob: []byte{0xff, 0, 1}, List: []string{"x"}, Map: map[string]string{"k": ""}}},
		{`b9 0002 7806"String" 7a00000001"a" 64"Long" 1b 0000000000000007`, everything{String: ptr("a"), Long: ptr[int64](7)}},
		{`c6 a2 66"String" d8 20 61"a" 67"Records" c1 81 c1 a1 65"Count" d818 05`, everything{String: ptr("a"), Records: []inside{{Count: 5}}}},

		// Nesting.
		{`a1 69"Structure" a7 64"Name" 61"a" 64"Flag" f5 65"Count" 01 64"Size" 02 65"Ratio" 03 62"At" 190fa0 65"Inner" a1 65"Inner" a0`,
			everything{Structure: &inside{Name: ptr("a"), Flag: true, Count: 1, Size: 2, Ratio: 3, At: 4000, Inner: &inside{Inner: &inside{}}}}},
	} {
		var got everything
		if err := DecodeCBOR(unhex(t, test.body), &got); err != nil {
			t.Errorf("%s: %v", test.body, err)
		} else if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v, want %+v", test.body, got, test.want)
		}
	}
}

func TestDecodeCBORNumbers(t *testing.T) {
	for _, test := range []struct {
		number string
		want32 int32
		want64 int64
		double float64
	}{
		{"00", 0, 0, 0},
		{"20", -1, -1, -1},
		{"1801", 1, 1, 1},
		{"f93e00", 1, 1, 1.5},
		{"fabfc00000", -1, -1, -1.5},
		{"fb3ff199999999999a", 1, 1, 1.1},
		{"1a7fffffff", math.MaxInt32, math.MaxInt32, math.MaxInt32},
		{"1a80000000", math.MaxInt32, 1 << 31, 1 << 31},
		{"3a80000000", math.MinInt32, -1<<31 - 1, -1<<31 - 1},
		{"1bffffffffffffffff", math.MaxInt32, math.MaxInt64, 1 << 64},
		{"3bffffffffffffffff", math.MinInt32, math.MinInt64, -1 << 64},
		{"f97c00", math.MaxInt32, math.MaxInt64, math.MaxFloat64},
		{"f9fc00", math.MinInt32, math.MinInt64, -math.MaxFloat64},
		{"fb7fefffffffffffff", math.MaxInt32, math.MaxInt64, math.MaxFloat64},
	} {
		var got everything
		if err := DecodeCBOR(unhex(t, `a3 67"Integer"`+test.number+`64"Long"`+test.number+`66"Double"`+test.number), &got); err != nil {
			t.Fatalf("%s: %v", test.number, err)
		}
		if *got.Integer != test.want32 || *got.Long != test.want64 || *got.Double != test.double {
			t.Errorf("%s: got %d, %d, %v, want %d, %d, %v", test.number, *got.Integer, *got.Long, *got.Double, test.want32, test.want64, test.double)
		}
	}
}

func TestDecodeCBORTimestamps(t *testing.T) {
	for value, want := range map[string]Timestamp{
		"c1 1b 0000018bcfe5687b": 1700000000123, // as the SDKs send it
		"1b 0000018bcfe5687b":    1700000000123,
		"c1 00":                  0,
		"c1 20":                  -1,
		"c1 1a 6553f100":         1700000000, // an integer is never seconds
		"c1 1b ffffffffffffffff": math.MaxInt64,
		"c1 3b ffffffffffffffff": math.MinInt64,
		"c1 fb 41d954fc40000000": 1700000000000, // seconds
		"fb 41d954fc4007df3b":    1700000000123,
		"c1 f9 3800":             500,
		"c1 f9 b800":             -500,
		"fb 42374876e7ff8000":    99999999999500, // the last that is taken for seconds,
		"fb 42374876e8000000":    100000000000,   // 1e11, the first that is not
		"fb 4278bcfe5687b000":    1700000000123,  // milliseconds
		"fb 4278bcfe5687b800":    1700000000124,  // .5, rounded
		"fb c278bcfe5687b000":    -1700000000123,
		"f9 7c00":                math.MaxInt64,
		"f9 fc00":                math.MinInt64,
	} {
		var got everything
		if err := DecodeCBOR(unhex(t, `a1 69"Timestamp"`+value), &got); err != nil || *got.Timestamp != want {
			t.Errorf("%s: got %v, %v, want %d", value, got.Timestamp, err, want)
		}
	}
}

func TestDecodeCBORTypeErrors(t *testing.T) {
	const number = "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to "
	const list = "Start of list found where not expected"
	const structure = "Start of structure or map found where not expected."
	for _, test := range []struct{ body, want string }{
		{`66"String" f5`, "class java.lang.Boolean can not be converted to an String"},
		{`66"String" 01`, number + "an String"},
		{`66"String" f90000`, number + "an String"},
		{`66"String" 41"a"`, "class java.nio.HeapByteBuffer can not be converted to an String"},
		{`66"String" 80`, list},
		{`66"String" bfff`, structure},
		{`67"Integer" 61"1"`, "class java.lang.String can not be converted to an Integer"},
		{`67"Integer" e0`, "simple value can not be converted to an Integer"},
		{`67"Integer" f97e00`, "NaN can not be converted to an Integer"},
		{`67"Integer" c2 41 01`, "class java.nio.HeapByteBuffer can not be converted to an Integer"},
		{`64"Long" f4`, "class java.lang.Boolean can not be converted to an Long"},
		{`66"Double" fb7ff8000000000000`, "NaN can not be converted to an Double"},
		{`67"Boolean" 69"True, äh"`, "'TRUE, ÄH' can not be converted to an Boolean"},
		{`67"Boolean" 7f 61 22 62 0a5c ff`, "'\"\n\\' can not be converted to an Boolean"},
		{`67"Boolean" 01`, number + "an Boolean"},
		{`69"Timestamp" c0 74"2013-03-21T20:04:00Z"`, "class java.lang.String can not be converted to milliseconds since epoch"},
		{`69"Timestamp" f97e00`, "NaN can not be converted to milliseconds since epoch"},
		{`64"Blob" 64"aGk="`, "class java.lang.String can not be converted to a Blob"},
		{`64"Blob" 01`, number + "a Blob"},
		{`64"Blob" 80`, list},
		{`64"List" 61"a"`, "Expected list or null"},
		{`64"List" 41"a"`, "Expected list or null"},
		{`64"List" a0`, structure},
		{`64"List" 82 61"a" 01`, number + "an String"},
		{`63"Map" 01`, "Expected map or null"},
		{`63"Map" 41"a"`, "Expected map or null"},
		{`63"Map" e0`, "Expected map or null"},
		{`63"Map" 9fff`, list},
		{`63"Map" a1 61"a" a0`, structure},
		{`69"Structure" 61"a"`, "Expected null"},
		{`69"Structure" 41"a"`, "Expected null"},
		{`69"Structure" 80`, list},
		{`67"Records" 81 80`, list},
		{`67"Records" 81 a1 64"Name" 01`, number + "an String"},
	} {
		var s *SerializationError
		if err := DecodeCBOR(unhex(t, "a1"+test.body), new(everything)); !errors.As(err, &s) || s.Message != test.want {
			t.Errorf("%s: got %v, want %s", test.body, err, test.want)
		}
	}
}

// A body that is no CBOR map is refused without a message, also when the fault comes after a value
// of the wrong type or in a member that nobody knows.
func TestDecodeCBORNotAMap(t *testing.T) {
	nested := func(levels int) string { return `a1 61"a" ` + strings.Repeat("81", levels-1) + "80" }
	for _, body := range []string{
		``, `f6`, `01`, `61"a"`, `80`, `81a0`, `a1`, `bf`, `ff`, `a000`, `a0a0`, `c1`, `c1f6`, `bc`, `"{}"`,
		`a1 61"a"`, `a1 61"a" ff`, `bf 61"a" ff`, `a1 61"a" 1c`, `a1 61"a" 61`, `a1 61"a" 61ff`, `a1 61ff 00`, `a1 61"a" f81f`,
		`a1 01 01`, `a1 41"a" 01`, `a1 63"Map" a1 01 61"a"`, `a1 63"Map" a1 c161"a" 61"a"`,
		`bb ffffffffffffffff 61"a" 00`, `a1 64"List" 9b 7fffffffffffffff 60`, `a1 64"Blob" 5b ffffffffffffffff 00`, `a1 64"Blob" 5f 5f ff ff`,
		`a2 66"String" 01 61"a"`, nested(64),
	} {
		var s *SerializationError
		if err := DecodeCBOR(unhex(t, body), new(everything)); !errors.As(err, &s) || s.Message != "" {
			t.Errorf("%s: got %v, want an error without message", body, err)
		}
	}
	if err := DecodeCBOR(unhex(t, nested(63)), new(everything)); err != nil {
		t.Errorf("64 levels: %v", err)
	}
}

func TestDecodeCBORElementLimit(t *testing.T) {
	body := func(n int) []byte {
		return append(unhex(t, `bf 67"Records" 9f`), strings.Repeat("\xa0", n)+"\xff\xff"...)
	}
	if err := DecodeCBOR(body(65536), new(everything)); err != nil {
		t.Errorf("65,536 elements: %v", err)
	}
	err := DecodeCBOR(body(65537), new(everything))
	if want := (&SerializationError{"The request has more than 65536 list elements and map entries"}); !reflect.DeepEqual(err, want) {
		t.Errorf("65,537 elements: got %v, want %v", err, want)
	}
	entries := append(unhex(t, `bf 63"Map" bf`), strings.Repeat("\x60\x60", 65537)+"\xff\xff"...)
	if err := DecodeCBOR(entries, new(everything)); err == nil {
		t.Error("65,537 map entries were taken")
	}
}

func TestDecodeCBORCopies(t *testing.T) {
	body := unhex(t, `a2 64"Blob" 42"hi" 66"String" 62"hi"`)
	var got everything
	if err := DecodeCBOR(body, &got); err != nil {
		t.Fatal(err)
	}
	clear(body)
	if string(got.Blob) != "hi" || *got.String != "hi" {
		t.Errorf("the struct aliases the body: %q, %q", got.Blob, *got.String)
	}
}

func TestEncodeCBOR(t *testing.T) {
	for _, test := range []struct {
		v    any
		want string
	}{
		{nil, `a0`},
		{(*everything)(nil), `a0`},
		{struct{}{}, `a0`},
		{&everything{}, `a1 65"Plain" a5 64"Flag" f4 65"Count" 00 64"Size" 00 65"Ratio" fb0000000000000000 62"At" c100`},
		{struct {
			Records []inside
			Tags    map[string]string
			Names   []string
			Data    []byte
			None    []byte
		}{Records: []inside{}, Tags: map[string]string{}, Names: []string{}, Data: []byte{}},
			`a4 67"Records" 80 64"Tags" a0 65"Names" 80 64"Data" 40`},
		{struct {
			Text    string
			Data    []byte
			Tags    map[string]string
			Lists   [][]string
			Inner   []*shared
			Ratio   *float64
			Count   *int32
			Created *Timestamp
			shared
		}{"é\xff", []byte{0xfb, 0xff}, map[string]string{"b": "2", "a": "1"}, [][]string{{"x"}, nil}, []*shared{nil, {}},
			ptr(1.1), ptr[int32](-500), ptr[Timestamp](1700000000123), shared{ptr("arn")}},
			`a9 64"Text" 65 c3a9efbfbd 64"Data" 42 fbff 64"Tags" a2 61"a" 61"1" 61"b" 61"2" 65"Lists" 82 81 61"x" 80 65"Inner" 82 f6 a0 ` +
				`65"Ratio" fb3ff199999999999a 65"Count" 3901f3 67"Created" c11b0000018bcfe5687b 69"StreamARN" 63"arn"`},
	} {
		got, err := EncodeCBOR(test.v)
		if want := unhex(t, test.want); err != nil || string(got) != string(want) {
			t.Errorf("got %x, %v\nwant %x", got, err, want)
		}
	}
	if _, err := EncodeCBOR(&inside{Ratio: math.NaN()}); err == nil || err.Error() != "Ratio: awsapi: NaN is no number" {
		t.Errorf("NaN: got %v", err)
	}
}

// FuzzDecodeCBOR: whatever was decoded survives a round trip.
func FuzzDecodeCBOR(f *testing.F) {
	for _, seed := range []string{
		`a3 66"String" 61"a" 64"Blob" 5f 41 00 ff 69"Timestamp" c1 1b 0000018bcfe5687b`,
		`bf 64"List" 9f 61"a" f6 ff 63"Map" bf 61"k" 61"v" 61"k" f6 ff 67"Unknown" f97e00 65"Plain" a1 65"Ratio" fa47c35000 ff`,
		`a1 67"Records" 83 a0 f7 a1 62"At" fb41d954fc40000000`,
	} {
		f.Add(unhex(f, seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var first, second everything
		var s *SerializationError
		if err := DecodeCBOR(body, &first); err != nil {
			if !errors.As(err, &s) {
				t.Fatalf("%x: %v", body, err)
			}
			return
		}
		out, err := EncodeCBOR(&first)
		if err != nil {
			t.Fatalf("%x: %v", body, err)
		}
		if err := DecodeCBOR(out, &second); err != nil || !reflect.DeepEqual(first, second) {
			t.Fatalf("%x decodes to %+v, its encoding %x to %+v, %v", body, first, out, second, err)
		}
	})
}

// BenchmarkDecodeCBOR decodes the same control-plane request from both encodings.
func BenchmarkDecodeCBOR(b *testing.B) {
	request := everything{String: ptr("stream-1"), Integer: ptr[int32](4), Structure: &inside{Name: ptr("ON_DEMAND"), Count: 1},
		Map: map[string]string{"team": "data", "stage": "test"}, Records: []inside{{Name: ptr("a")}, {Name: ptr("b")}}}
	for _, codec := range []struct {
		name   string
		encode func(any) ([]byte, error)
		decode func([]byte, any) error
	}{{"cbor", EncodeCBOR, DecodeCBOR}, {"json", EncodeJSON, DecodeJSON}} {
		body, err := codec.encode(&request)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(codec.name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				if err := codec.decode(body, new(everything)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
