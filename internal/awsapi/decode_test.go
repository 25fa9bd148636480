package awsapi

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// everything has a member of every type that DecodeJSON knows.
type everything struct {
	String    *string
	Boolean   *bool
	Integer   *int32
	Long      *int64
	Double    *float64
	Blob      []byte
	Timestamp *Timestamp
	List      []string
	Map       map[string]string
	Structure *inside
	Records   []inside
	Plain     inside
	shared
}

type inside struct {
	Name  *string
	Flag  bool
	Count int32
	Size  int64
	Ratio float64
	At    Timestamp
	Inner *inside
}

type shared struct{ StreamARN *string }

func ptr[T any](v T) *T { return &v }

func TestDecodeJSON(t *testing.T) {
	for _, test := range []struct {
		body string
		want everything
	}{
		{`{}`, everything{}},
		{" {\t}\r\n", everything{}},
		{`{"String":"a","Boolean":true,"Integer":1,"Long":2,"Double":0.5,"Blob":"aGk=","Timestamp":1459799926.480}`,
			everything{String: ptr("a"), Boolean: ptr(true), Integer: ptr[int32](1), Long: ptr[int64](2), Double: ptr(0.5),
				Blob: []byte("hi"), Timestamp: ptr[Timestamp](1459799926480)}},

		// Absent and given are different things; null is absent.
		{`{"String":"","Boolean":false,"Integer":0,"Blob":"","List":[],"Map":{},"Structure":{}}`,
			everything{String: ptr(""), Boolean: ptr(false), Integer: ptr[int32](0), Blob: []byte{}, List: []string{},
				Map: map[string]string{}, Structure: &inside{}}},
		{`{"String":null,"Boolean":null,"Blob":null,"List":null,"Map":null,"Structure":null,"Records":null,"Plain":null}`, everything{}},
		{`{"List":["a",null,"b"]}`, everything{List: []string{"a", "", "b"}}},
		{`{"Records":[null,{"Name":"x"}]}`, everything{Records: []inside{{}, {Name: ptr("x")}}}},
		{`{"Map":{"a":"1","b":null}}`, everything{Map: map[string]string{"a": "1"}}},

		// Names are case-sensitive, unknown members are ignored, the last of equal ones wins.
		{`{"string":"a","Unknown":{"deep":[1,{"x":null}]},"unexported":1}`, everything{}},
		{`{"String":"a","String":"b","List":["a","b"],"List":["c"],"Integer":1,"Integer":null}`,
			everything{String: ptr("b"), List: []string{"c"}}},
		{`{"Plain":{"Name":"x","Count":1},"Plain":{"Size":2}}`, everything{Plain: inside{Size: 2}}},
		{`{"Map":{"a":"1","a":null}}`, everything{Map: map[string]string{}}},
		{`{"\u0053tring":"a"}`, everything{String: ptr("a")}},
		{`{"StreamARN":"arn"}`, everything{shared: shared{ptr("arn")}}},

		// Strings.
		{`{"String":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00ü"}`, everything{String: ptr("\"\\/\b\f\n\r\té😀ü")}},
		{`{"String":"\ud83d|\ude00|\ud83d\u0041|\ud83d"}`, everything{String: ptr("\ufffd|\ufffd|\ufffdA|\ufffd")}},
		{`{"Blob":"\u0061GV5\/w=="}`, everything{Blob: []byte("hey\xff")}},

		// Nesting.
		{`{"Structure":{"Name":"a","Flag":true,"Count":1,"Size":2,"Ratio":3,"At":4,"Inner":{"Inner":{}}}}`,
			everything{Structure: &inside{Name: ptr("a"), Flag: true, Count: 1, Size: 2, Ratio: 3, At: 4000, Inner: &inside{Inner: &inside{}}}}},
	} {
		var got everything
		if err := DecodeJSON([]byte(test.body), &got); err != nil {
			t.Errorf("%s: %v", test.body, err)
		} else if !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v, want %+v", test.body, got, test.want)
		}
	}
}

func TestDecodeJSONNumbers(t *testing.T) {
	for _, test := range []struct {
		number string
		want32 int32
		want64 int64
	}{
		{"0", 0, 0},
		{"-0", 0, 0},
		{"1.9", 1, 1},
		{"-1.9", -1, -1},
		{"1.5e3", 1500, 1500},
		{"1E+2", 100, 100},
		{"15e-1", 1, 1},
		{"1e-400", 0, 0},
		{"2147483647", math.MaxInt32, math.MaxInt32},
		{"2147483648", math.MaxInt32, 2147483648},
		{"-2147483649", math.MinInt32, -2147483649},
		{"9007199254740993.5", math.MaxInt32, 9007199254740993}, // no float64 on the way
		{"9223372036854775808", math.MaxInt32, math.MaxInt64},
		{"1e400", math.MaxInt32, math.MaxInt64},
		{"-1e400", math.MinInt32, math.MinInt64},
	} {
		var got everything
		body := `{"Integer":` + test.number + `,"Long":` + test.number + `}`
		if err := DecodeJSON([]byte(body), &got); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if *got.Integer != test.want32 || *got.Long != test.want64 {
			t.Errorf("%s: got %d and %d, want %d and %d", test.number, *got.Integer, *got.Long, test.want32, test.want64)
		}
	}
}

func TestDecodeJSONTypeErrors(t *testing.T) {
	const number = "class com.amazon.coral.value.json.numbers.TruncatingBigNumber can not be converted to "
	const list = "Start of list found where not expected"
	const structure = "Start of structure or map found where not expected."
	for _, test := range []struct{ body, want string }{
		{`{"String":true}`, "class java.lang.Boolean can not be converted to an String"},
		{`{"String":1}`, number + "an String"},
		{`{"String":[]}`, list},
		{`{"String":{}}`, structure},
		{`{"Integer":false}`, "class java.lang.Boolean can not be converted to an Integer"},
		{`{"Integer":"1"}`, "class java.lang.String can not be converted to an Integer"},
		{`{"Integer":[1]}`, list},
		{`{"Integer":{"a":1}}`, structure},
		{`{"Long":"1"}`, "class java.lang.String can not be converted to an Long"},
		{`{"Double":"1"}`, "class java.lang.String can not be converted to an Double"},
		{`{"Boolean":"True, äh"}`, "'TRUE, ÄH' can not be converted to an Boolean"},
		{`{"Boolean":1}`, number + "an Boolean"},
		{`{"Boolean":[]}`, list},
		{`{"Timestamp":"2015-01-22"}`, "class java.lang.String can not be converted to milliseconds since epoch"},
		{`{"Timestamp":true}`, "class java.lang.Boolean can not be converted to milliseconds since epoch"},
		{`{"Blob":1}`, number + "a Blob"},
		{`{"Blob":true}`, "class java.lang.Boolean can not be converted to a Blob"},
		{`{"Blob":{}}`, structure},
		{`{"Blob":"abc"}`, "'abc' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: 3"},
		{`{"Blob":"ab-d"}`, "'ab-d' can not be converted to a Blob: Invalid Base64 character: '-'"},
		{`{"Blob":"ab=d"}`, "'ab=d' can not be converted to a Blob: Invalid Base64 character: '='"},
		{`{"Blob":"Zm9v\n\n\n\n"}`, "'Zm9v\n\n\n\n' can not be converted to a Blob: Invalid Base64 character: '\n'"},
		{`{"Blob":"äbcd"}`, "'äbcd' can not be converted to a Blob: Invalid Base64 character: 'ä'"},
		{`{"Blob":"aGl="}`, "'aGl=' can not be converted to a Blob: Invalid last non-pad Base64 character dectected"},
		{`{"Blob":"===="}`, "'====' can not be converted to a Blob: Invalid last non-pad Base64 character dectected"},
		{`{"List":"a"}`, "Expected list or null"},
		{`{"List":1}`, "Expected list or null"},
		{`{"List":{}}`, structure},
		{`{"List":["a",1]}`, number + "an String"},
		{`{"Map":"a"}`, "Expected map or null"},
		{`{"Map":[]}`, list},
		{`{"Map":{"a":{}}}`, structure},
		{`{"Structure":"a"}`, "Expected null"},
		{`{"Structure":true}`, "Expected null"},
		{`{"Structure":[]}`, list},
		{`{"Records":[[]]}`, list},
		{`{"Records":[{"Name":1}]}`, number + "an String"},
	} {
		var s *SerializationError
		if err := DecodeJSON([]byte(test.body), new(everything)); !errors.As(err, &s) || s.Message != test.want {
			t.Errorf("%s: got %v, want %s", test.body, err, test.want)
		}
	}
}

// A body that is no JSON object is refused without a message, also when the fault comes after a
// value of the wrong type or in a member that nobody knows.
func TestDecodeJSONNotAnObject(t *testing.T) {
	bodies := []string{
		``, ` `, `null`, `1`, `"a"`, `[]`, `[{}]`, `{`, `}`, `{}}`, `{} {}`, `{}x`, "{}\x00", "\x00{}", "\ufeff{}",
		`{"a"}`, `{"a":}`, `{"a":1,}`, `{,"a":1}`, `{"a":1 "b":2}`, `{"a" 1}`, `{a:1}`, `{'a':1}`, `{"a":1;}`,
		`{"a":[1,]}`, `{"a":[,1]}`, `{"a":[1 2]}`, `{"a":[1}`, `{"a":[}]`, `{"a":01}`, `{"a":-}`, `{"a":+1}`, `{"a":.5}`,
		`{"a":1.}`, `{"a":1e}`, `{"a":1e+}`, `{"a":0x1}`, `{"a":NaN}`, `{"a":tru}`, `{"a":True}`, `{"a":nulls}`,
		`{"a":"}`, `{"a":"\`, `{"a":"\x"}`, `{"a":"\u12"}`, `{"a":"\u12g4"}`, "{\"a\":\"\n\"}", "{\"a\":\"\x1f\"}", "{\"a\":\"\xff\"}",
		"{\"\xc3\":1}", "{\"a\":\"\xed\xa0\x80\"}", `{"String":1,"a":`, `{"a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`,
		strings.Repeat(`{"a":`, 1<<20), strings.Repeat(`[`, 1<<20),
	}
	for _, body := range bodies {
		var s *SerializationError
		if err := DecodeJSON([]byte(body), new(everything)); !errors.As(err, &s) || s.Message != "" {
			t.Errorf("%.60q: got %v, want an error without message", body, err)
		}
	}
	if got := (&SerializationError{}).Error(); got != "the request body is not a JSON object" {
		t.Errorf("the log reads %q", got)
	}
	if got := (&SerializationError{"Expected null"}).Error(); got != "Expected null" {
		t.Errorf("the log reads %q", got)
	}
	deepest := `{"a":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`
	if err := DecodeJSON([]byte(deepest), new(everything)); err != nil {
		t.Errorf("64 levels: %v", err)
	}
}

func TestDecodeJSONElementLimit(t *testing.T) {
	body := func(n int) []byte { return []byte(`{"Records":[` + strings.Repeat("{},", n-1) + `{}]}`) }
	if err := DecodeJSON(body(65536), new(everything)); err != nil {
		t.Errorf("65,536 elements: %v", err)
	}
	err := DecodeJSON(body(65537), new(everything))
	if want := (&SerializationError{"The request has more than 65536 list elements and map entries"}); !reflect.DeepEqual(err, want) {
		t.Errorf("65,537 elements: got %v, want %v", err, want)
	}
}

func TestDecodeJSONRefusesForeignTypes(t *testing.T) {
	for _, into := range []any{
		&struct{ A int }{}, &struct{ A uint32 }{}, &struct{ A any }{}, &struct{ A map[string]int32 }{}, &struct{ A []time.Time }{},
		&struct{ A *struct{ B chan int } }{},
	} {
		func() {
			defer func() {
				if s, _ := recover().(string); !strings.Contains(s, "stands for no AWS type") {
					t.Errorf("%T: got panic %q", into, s)
				}
			}()
			_ = DecodeJSON([]byte("{}"), into)
		}()
	}
}

func TestTimestamp(t *testing.T) {
	for _, test := range []struct {
		number string
		ms     Timestamp
		back   string
	}{
		{"1459799926.480", 1459799926480, "1459799926.48"},
		{"1459799926.001", 1459799926001, "1459799926.001"},
		{"1.459799926480E9", 1459799926480, "1459799926.48"},
		{"1700000000", 1700000000000, "1700000000"},
		{"1700000000.0004", 1700000000000, "1700000000"},
		{"1700000000.0006", 1700000000001, "1700000000.001"},
		{"0", 0, "0"},
		{"0.05", 50, "0.05"},
		{"-0.5", -500, "-0.5"},
		{"-1.001", -1001, "-1.001"},
		{"1e400", math.MaxInt64, "9223372036854775.807"},
		{"-1e400", math.MinInt64, "-9223372036854775.808"},
	} {
		var got everything
		if err := DecodeJSON([]byte(`{"Timestamp":`+test.number+`}`), &got); err != nil || *got.Timestamp != test.ms {
			t.Errorf("%s: got %v, %v, want %d ms", test.number, *got.Timestamp, err, test.ms)
		}
		out, err := json.Marshal(test.ms)
		if err != nil || string(out) != test.back {
			t.Errorf("%d ms: got %s, %v, want %s", test.ms, out, err, test.back)
		}
		var again Timestamp
		if err := json.Unmarshal([]byte(test.number), &again); err == nil && again != test.ms {
			t.Errorf("%s by encoding/json: got %d, want %d", test.number, again, test.ms)
		}
	}
	for ms := Timestamp(1700000000000); ms < 1700000002000; ms++ {
		if back := parseTimestamp(string(ms.Append(nil))); back != ms {
			t.Fatalf("%d ms came back as %d", ms, back)
		}
	}
	if err := new(Timestamp).UnmarshalJSON([]byte(`"now"`)); err == nil {
		t.Error(`"now" was taken for a timestamp`)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 678_900_000, time.UTC)
	if got := TimestampOf(now).Time(); !got.Equal(now.Truncate(time.Millisecond)) {
		t.Errorf("%v came back as %v", now, got)
	}
}

func TestEncodeJSON(t *testing.T) {
	for _, test := range []struct {
		v    any
		want string
	}{
		{nil, `{}`},
		{(*everything)(nil), `{}`},
		{struct{}{}, `{}`},
		{&everything{}, `{"Plain":{"Flag":false,"Count":0,"Size":0,"Ratio":0,"At":0}}`},
		{struct {
			Records []inside
			Tags    map[string]string
			Names   []string
			Data    []byte
		}{Records: []inside{}, Tags: map[string]string{}, Names: []string{}, Data: []byte{}},
			`{"Records":[],"Tags":{},"Names":[],"Data":""}`},
		{struct {
			Text    string
			Data    []byte
			Tags    map[string]string
			Lists   [][]string
			Ratio   *float64
			Large   float64
			Created *Timestamp
			shared
		}{"<a href=\"x\">&\u2028\x01\n\\é\xff", []byte{0xfb, 0xff}, map[string]string{"b": "2", "a": "1"}, [][]string{{"x"}, nil},
			ptr(0.25), 1e21, ptr[Timestamp](1500), shared{ptr("arn")}},
			`{"Text":"<a href=\"x\">&` + "\u2028" + `\u0001\n\\é` + "\ufffd" + `","Data":"+/8=","Tags":{"a":"1","b":"2"},"Lists":[["x"],[]],` +
				`"Ratio":0.25,"Large":1000000000000000000000,"Created":1.5,"StreamARN":"arn"}`},
	} {
		got, err := EncodeJSON(test.v)
		if err != nil || string(got) != test.want {
			t.Errorf("got %s, %v\nwant %s", got, err, test.want)
		}
		if !json.Valid(got) {
			t.Errorf("not JSON: %s", got)
		}
	}
	if _, err := EncodeJSON(&inside{Ratio: math.NaN()}); err == nil || err.Error() != "Ratio: awsapi: NaN has no JSON form" {
		t.Errorf("NaN: got %v", err)
	}
}

// FuzzDecodeJSON holds DecodeJSON against encoding/json: both agree on what is JSON (encoding/json
// lets bytes that are not UTF-8 and any depth pass), and what was decoded survives a round trip.
func FuzzDecodeJSON(f *testing.F) {
	for _, seed := range []string{
		`{"String":"a\ud83d\ude00","Boolean":true,"Integer":1.5e3,"Long":-2,"Double":0.5,"Blob":"aGk=","Timestamp":1459799926.48}`,
		`{"List":["a",null],"Map":{"k":"v","k":null},"Structure":{"Inner":{"Name":"x"}},"Records":[{},{"At":1e3}],"Unknown":[[{}]]}`,
		`{"a":"\u12g4"}`, `{"a":[1,]}`, "{\"a\":\"\xff\"}", ` { } `,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c := cursor{b: body}
		strict := c.skip(10_000) && c.peek() == 0 && c.i == len(body)
		if want := json.Valid(body) && utf8.Valid(body); strict != want {
			t.Fatalf("taken for JSON: %t, want %t: %q", strict, want, body)
		}
		var first, second everything
		var s *SerializationError
		if err := DecodeJSON(body, &first); err != nil {
			if !errors.As(err, &s) {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		out, err := EncodeJSON(&first)
		if err != nil || !json.Valid(out) {
			t.Fatalf("%q encodes to %q, %v", body, out, err)
		}
		if err := DecodeJSON(out, &second); err != nil || !reflect.DeepEqual(first, second) {
			t.Fatalf("%q decodes to %+v, its encoding %q to %+v, %v", body, first, out, second, err)
		}
	})
}

func BenchmarkDecodeJSON(b *testing.B) {
	body := []byte(`{"String":"stream-1","Integer":4,"Structure":{"Name":"ON_DEMAND","Count":1},"Map":{"team":"data","stage":"test"},"Records":[{"Name":"a"},{"Name":"b"}]}`)
	for _, codec := range []struct {
		name   string
		decode func([]byte, any) error
	}{{"awsapi", DecodeJSON}, {"encoding-json", json.Unmarshal}} {
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
