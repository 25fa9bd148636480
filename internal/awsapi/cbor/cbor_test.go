package cbor_test

import (
	"bytes"
	"encoding/hex"
	"math"
	"strings"
	"testing"

	"github.com/shardmill/shardmill/internal/awsapi/cbor"
)

// unhex reads hexadecimal digits with spaces between.
func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestNumbers(t *testing.T) {
	for _, test := range []struct {
		in      string
		float   float64
		int     int64
		isFloat bool
	}{
		{"00", 0, 0, false},
		{"17", 23, 23, false},
		{"18 18", 24, 24, false},
		{"18 01", 1, 1, false}, // longer than it needs to be
		{"19 03e8", 1000, 1000, false},
		{"1a 000f4240", 1e6, 1_000_000, false},
		{"1b 000000e8d4a51000", 1e12, 1_000_000_000_000, false},
		{"1b 7fffffffffffffff", 1 << 63, math.MaxInt64, false},
		{"1b 8000000000000000", 1 << 63, math.MaxInt64, false},
		{"1b ffffffffffffffff", 1 << 64, math.MaxInt64, false},
		{"20", -1, -1, false},
		{"39 03e7", -1000, -1000, false},
		{"3b 7fffffffffffffff", -1 << 63, math.MinInt64, false},
		{"3b 8000000000000000", -1 << 63, math.MinInt64, false},
		{"3b ffffffffffffffff", -1 << 64, math.MinInt64, false},
		{"f9 0000", 0, 0, true},
		{"f9 3c00", 1, 1, true},
		{"f9 3e00", 1.5, 1, true},
		{"f9 c400", -4, -4, true},
		{"f9 7bff", 65504, 65504, true},
		{"f9 0001", 5.960464477539063e-8, 0, true}, // the smallest of 16 bits
		{"f9 0400", 0.00006103515625, 0, true},
		{"f9 7c00", math.Inf(1), math.MaxInt64, true},
		{"f9 fc00", math.Inf(-1), math.MinInt64, true},
		{"fa 47c35000", 100000, 100000, true},
		{"fa 7f7fffff", 3.4028234663852886e+38, math.MaxInt64, true},
		{"fb 3ff199999999999a", 1.1, 1, true},
		{"fb bff199999999999a", -1.1, -1, true},
		{"fb 43e0000000000000", 1 << 63, math.MaxInt64, true},
		{"fb 43dfffffffffffff", 9223372036854774784, 9223372036854774784, true},
		{"fb c3e0000000000000", -1 << 63, math.MinInt64, true},
	} {
		r := cbor.NewReader(unhex(t, test.in))
		n, ok := r.Number()
		if !ok || !r.AtEnd() || n.Float() != test.float || n.Int() != test.int || n.IsFloat() != test.isFloat || n.IsNaN() {
			t.Errorf("%s: got %v, %v, %d, float %t; want %v, %d, float %t", test.in, ok, n.Float(), n.Int(), n.IsFloat(), test.float, test.int, test.isFloat)
		}
	}
	for _, nan := range []string{"f9 7e00", "f9 fc01", "fa 7fc00000", "fb 7ff8000000000000"} {
		r := cbor.NewReader(unhex(t, nan))
		if n, ok := r.Number(); !ok || !n.IsNaN() || n.Int() != 0 || !math.IsNaN(n.Float()) {
			t.Errorf("%s: got %v, NaN %t, %d", nan, ok, n.IsNaN(), n.Int())
		}
	}
	for _, other := range []string{"", "18", "19 03", "1a 000000", "1b 00000000000000", "1c", "1f", "f9 3c", "fa 000000", "fb 00", "40", "61 61", "80", "c1 01", "f5", "f6", "ff"} {
		r := cbor.NewReader(unhex(t, other))
		if n, ok := r.Number(); ok {
			t.Errorf("%s: taken for the number %v", other, n.Float())
		}
	}
}

func TestStrings(t *testing.T) {
	for _, test := range []struct{ in, text, data string }{
		{"60", "", "no"},
		{"64 6b657931", "key1", "no"},
		{"78 04 6b657931", "key1", "no"},
		{"7b 0000000000000004 6b657931", "key1", "no"},
		{"7f ff", "", "no"},
		{"7f 62 6b65 60 62 7931 ff", "key1", "no"},
		{"40", "no", ""},
		{"43 00ff80", "no", "\x00\xff\x80"},
		{"5f 41 00 42 ff80 ff", "no", "\x00\xff\x80"},
		{"62 61", "no", "no"},
		{"7b ffffffffffffffff 61", "no", "no"},
		{"7b 7fffffffffffffff 61", "no", "no"},
		{"5a 00000001", "no", "no"},
		{"7f 61 61", "no", "no"},
		{"7f 41 61 ff", "no", "no"},
		{"7f 7f 61 61 ff ff", "no", "no"},
		{"7c", "no", "no"},
		{"c1 61 61", "no", "no"},
		{"", "no", "no"},
	} {
		for _, read := range []struct {
			name string
			of   func(*cbor.Reader) ([]byte, bool)
			want string
		}{{"Text", (*cbor.Reader).Text, test.text}, {"Bytes", (*cbor.Reader).Bytes, test.data}} {
			r := cbor.NewReader(unhex(t, test.in))
			v, ok := read.of(&r)
			if want := read.want != "no"; ok != want || want && (string(v) != read.want || v == nil || !r.AtEnd()) {
				t.Errorf("%s of %s: got %q, %t", read.name, test.in, v, ok)
			}
		}
	}
}

func TestContainers(t *testing.T) {
	// {"a": [1, 2], "b": []}, with every mixture of definite and indefinite lengths.
	for _, in := range []string{
		"a2 61 61 82 01 02 61 62 80",
		"b8 02 61 61 98 02 01 02 61 62 80",
		"bf 61 61 9f 01 02 ff 61 62 9f ff ff",
		"a2 61 61 9f 01 02 ff 61 62 80",
	} {
		r := cbor.NewReader(unhex(t, in))
		var got []any
		left, ok := r.Map()
		for ok && r.More(&left) {
			name, _ := r.Text()
			got = append(got, string(name))
			elements, _ := r.Array()
			for r.More(&elements) {
				n, _ := r.Number()
				got = append(got, n.Int())
			}
		}
		if len(got) != 4 || got[0] != "a" || got[1] != int64(1) || got[2] != int64(2) || got[3] != "b" || !r.AtEnd() {
			t.Errorf("%s: got %v", in, got)
		}
	}
	// A length that the input cannot hold is not believed.
	for _, in := range []string{"a1", "a1 60", "ba ffffffff 60 60", "bb ffffffffffffffff 60 60", "80", "bc", "60", ""} {
		r := cbor.NewReader(unhex(t, in))
		if n, ok := r.Map(); ok {
			t.Errorf("%s: taken for a map of %d", in, n)
		}
	}
	for _, in := range []string{"81", "82 00", "9a ffffffff 00", "9b ffffffffffffffff 00", "a0", "9c", "c1 80", ""} {
		r := cbor.NewReader(unhex(t, in))
		if n, ok := r.Array(); ok {
			t.Errorf("%s: taken for an array of %d", in, n)
		}
	}
}

func TestKindAndScalars(t *testing.T) {
	for in, want := range map[string]cbor.Kind{
		"": cbor.Invalid, "00": cbor.Integer, "3b": cbor.Integer, "40": cbor.Bytes, "7f": cbor.Text, "80": cbor.Array, "bf": cbor.Map,
		"c1": cbor.Tag, "f4": cbor.Bool, "f5": cbor.Bool, "f6": cbor.Null, "f7": cbor.Null, "f9": cbor.Float, "fa": cbor.Float,
		"fb": cbor.Float, "e0": cbor.Simple, "f8": cbor.Simple, "fc": cbor.Invalid, "fe": cbor.Invalid, "ff": cbor.Invalid,
	} {
		r := cbor.NewReader(unhex(t, in))
		if got := r.Kind(); got != want {
			t.Errorf("%s: got kind %d, want %d", in, got, want)
		}
	}
	r := cbor.NewReader(unhex(t, "f4 f5 f6 f7 c1 d9d9f7 00"))
	no, ok1 := r.Bool()
	yes, ok2 := r.Bool()
	_, ok3 := r.Bool()
	if no || !yes || !ok1 || !ok2 || ok3 {
		t.Errorf("booleans: %t, %t, %t, %t, %t", no, yes, ok1, ok2, ok3)
	}
	null, undefined, tag := r.Null(), r.Null(), r.Null()
	if !null || !undefined || tag {
		t.Error("null and undefined are Null, a tag is not")
	}
	if !r.SkipTags() || r.Kind() != cbor.Integer {
		t.Error("two tags were not passed over")
	}
	for _, in := range []string{"c1 d9 d9", "dc"} {
		if r := cbor.NewReader(unhex(t, in)); r.SkipTags() {
			t.Errorf("%s: a tag that is cut off was passed over", in)
		}
	}
}

func TestSkip(t *testing.T) {
	good := []string{
		"00", "1b ffffffffffffffff", "3b 0000000000000000", "f9 7e00", "fb 7ff0000000000000", "f4", "f6", "f7", "e0", "f3", "f8 20", "f8 ff",
		"40", "41 ff", "5f 41 ff 40 ff", "61 61", "62 c3a4", "7f 62 c3a4 60 ff", "80", "82 00 81 00", "9f ff", "9f 9f ff a0 ff",
		"a1 60 00", "bf 60 00 61 61 80 ff", "a1 7f 61 61 ff 00", "c1 00", "c1 c1 c1 80", "d9 d9f7 a0", "db ffffffffffffffff 00",
	}
	for _, in := range good {
		r := cbor.NewReader(unhex(t, in))
		if !r.Skip(3) || !r.AtEnd() {
			t.Errorf("%s: refused", in)
		}
		cut := unhex(t, in)
		for n := range cut { // every prefix ends too early
			if r := cbor.NewReader(cut[:n]); r.Skip(3) {
				t.Errorf("%x: taken", cut[:n])
			}
		}
	}
	for _, in := range []string{
		"1c", "1d", "1e", "1f", "3f", "5c", "7e", "9d", "bc", "dc", "df", "fc", "fd", "fe", "ff",
		"f8 00", "f8 14", "f8 1f", // a second byte where one is enough
		"61 ff", "62 c328", "63 eda080", "7f 61 c3 61 a4 ff", // not UTF-8, the last one not chunk by chunk
		"5f 61 61 ff", "7f 40 ff", "5f 5f ff ff", "5f 00 ff",
		"a1 00 00", "a1 40 00", "a1 f6 00", "a1 c1 60 00", "bf 00 00 ff", // names that are no text
		"bf 60 ff", "a1 60 ff", "81 ff", "c1 ff",
		"81 81 81 80", "a1 60 a1 60 a1 60 a0", "9f 9f 9f 9f ff ff ff ff", // four levels
	} {
		if r := cbor.NewReader(unhex(t, in)); r.Skip(3) {
			t.Errorf("%s: taken", in)
		}
	}
	for _, open := range []string{"\x81", "\x9f", "\xa1\x60", "\xbf\x60"} {
		r := cbor.NewReader([]byte(strings.Repeat(open, 1<<20)))
		if r.Skip(64) {
			t.Errorf("a million of %x: taken", open)
		}
	}
	tags := cbor.NewReader(append(bytes.Repeat([]byte{0xc1}, 1<<20), 0))
	if !tags.Skip(1) {
		t.Error("tags are no levels")
	}
}

func TestAppend(t *testing.T) {
	for _, test := range []struct {
		got  []byte
		want string
	}{
		{cbor.AppendUint(nil, 0), "00"},
		{cbor.AppendUint(nil, 23), "17"},
		{cbor.AppendUint(nil, 24), "18 18"},
		{cbor.AppendUint(nil, 255), "18 ff"},
		{cbor.AppendUint(nil, 256), "19 0100"},
		{cbor.AppendUint(nil, 65535), "19 ffff"},
		{cbor.AppendUint(nil, 65536), "1a 00010000"},
		{cbor.AppendUint(nil, 1<<32-1), "1a ffffffff"},
		{cbor.AppendUint(nil, 1<<32), "1b 0000000100000000"},
		{cbor.AppendUint(nil, 1<<64-1), "1b ffffffffffffffff"},
		{cbor.AppendInt(nil, 1000), "19 03e8"},
		{cbor.AppendInt(nil, -1), "20"},
		{cbor.AppendInt(nil, -25), "38 18"},
		{cbor.AppendInt(nil, math.MinInt64), "3b 7fffffffffffffff"},
		{cbor.AppendInt(nil, math.MaxInt64), "1b 7fffffffffffffff"},
		{cbor.AppendFloat(nil, 1.1), "fb 3ff199999999999a"},
		{cbor.AppendBool(nil, true), "f5"},
		{cbor.AppendBool(nil, false), "f4"},
		{cbor.AppendNull(nil), "f6"},
		{cbor.AppendText(nil, ""), "60"},
		{cbor.AppendText(nil, "ä€"), "65 c3a4 e282ac"},
		{cbor.AppendText(nil, []byte("IETF")), "64 49455446"},
		{cbor.AppendText(nil, "a\xff\xfeb"), "68 61 efbfbd efbfbd 62"},
		{cbor.AppendText(nil, []byte("a\xff\xfeb")), "68 61 efbfbd efbfbd 62"},
		{cbor.AppendText(nil, strings.Repeat("x", 24)), "78 18" + strings.Repeat("78", 24)},
		{cbor.AppendBytes(nil, nil), "40"},
		{cbor.AppendBytes(nil, []byte{1, 2, 0xff}), "43 0102ff"},
		{cbor.AppendMapHeader(nil, 0), "a0"},
		{cbor.AppendMapHeader(nil, 500), "b9 01f4"},
		{cbor.AppendArrayHeader(nil, 3), "83"},
		{cbor.AppendArrayHeader(nil, 10000), "99 2710"},
		{cbor.AppendTimestamp(nil, 1700000000123), "c1 1b 0000018bcfe5687b"},
		{cbor.AppendTimestamp(nil, -1), "c1 20"},
		{cbor.AppendBool([]byte("dst"), true), "647374 f5"},
	} {
		if want := unhex(t, test.want); !bytes.Equal(test.got, want) {
			t.Errorf("got %x, want %x", test.got, want)
		}
	}
}

// Slices of the input cannot grow into what follows them.
func TestReaderAliasesTheInput(t *testing.T) {
	in := unhex(t, "61 61 41 62 00")
	r := cbor.NewReader(in)
	text, _ := r.Text()
	data, _ := r.Bytes()
	if &text[0] != &in[1] || &data[0] != &in[3] || cap(text) != 1 || cap(data) != 1 {
		t.Errorf("capacities %d and %d, or copies", cap(text), cap(data))
	}
}
