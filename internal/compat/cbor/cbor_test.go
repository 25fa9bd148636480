package cborcompat

import (
	"math"
	"reflect"
	"testing"
	"unicode/utf8"

	reference "github.com/fxamacker/cbor/v2"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/awsapi/cbor"
)

// decMode is the reference at its most permissive about sizes and its strictest about meaning.
var decMode = func() reference.DecMode {
	m, err := reference.DecOptions{
		DupMapKey: reference.DupMapKeyEnforcedAPF, FieldNameMatching: reference.FieldNameMatchingCaseSensitive,
		MaxNestedLevels: 65535, MaxArrayElements: math.MaxInt32, MaxMapPairs: math.MaxInt32,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return m
}()

// encModes write the same value in different forms.
var encModes = func() (out []reference.EncMode) {
	for _, o := range []reference.EncOptions{
		{},
		reference.CanonicalEncOptions(), // floats in as few bits as hold them
		{Sort: reference.SortBytewiseLexical, ShortestFloat: reference.ShortestFloat16},
	} {
		m, err := o.EncMode()
		if err != nil {
			panic(err)
		}
		out = append(out, m)
	}
	return out
}()

// request has a member of every type but timestamps, whose tag AWS and RFC 8949 read differently.
type request struct {
	String  *string           `cbor:",omitempty"`
	Boolean *bool             `cbor:",omitempty"`
	Long    *int64            `cbor:",omitempty"`
	Double  *float64          `cbor:",omitempty"`
	Blob    []byte            `cbor:",omitempty"`
	List    []string          `cbor:",omitempty"`
	Map     map[string]string `cbor:",omitempty"`
	Inner   *request          `cbor:",omitempty"`
}

var seeds = []string{
	"\xa1\x66String\x61a", "\xbf\x64Blob\x5f\x41\x00\xff\x64List\x9f\x61a\xf6\xff\xff", "\xa1\x63Map\xa1\x61k\x61v",
	"\xa2\x64Long\x3b\xff\xff\xff\xff\xff\xff\xff\xff\x66Double\xf9\x7c\x00", "\xc1\xfb\x3f\xf1\x99\x99\x99\x99\x99\x9a", "\xf8\x1f", "\xf8\x20",
	"\xa1\x01\x02", "\x7f\x61\xc3\x61\xa4\xff", "\xd9\xd9\xf7\xa1\x65Inner\xa0", "\x9f\x9f\x80\xff\xff", "\xfc", "\xff", "",
}

// FuzzWellFormed: both take the same bytes for one item of CBOR, apart from what Skip demands beyond
// that: names that are text, and text that is UTF-8.
func FuzzWellFormed(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r := cbor.NewReader(in)
		ours := r.Skip(60_000) && r.AtEnd()
		err := decMode.Wellformed(in)
		if ours && err != nil {
			t.Fatalf("%x: we take what is not well-formed: %v", in, err)
		}
		if !ours && err == nil && plain(t, in) {
			t.Fatalf("%x: we refuse what is well-formed", in)
		}
	})
}

// plain reports whether item has only what Skip demands, by the reference's reading of each level.
func plain(t *testing.T, item reference.RawMessage) bool {
	t.Helper()
	switch item[0] >> 5 {
	case 3:
		var text string
		return decMode.Unmarshal(item, &text) == nil && utf8.ValidString(text)
	case 4:
		var elements []reference.RawMessage
		if err := decMode.Unmarshal(item, &elements); err != nil {
			return false
		}
		for _, e := range elements {
			if !plain(t, e) {
				return false
			}
		}
	case 5:
		var entries map[any]reference.RawMessage
		if err := decMode.Unmarshal(item, &entries); err != nil {
			return false // also for a repeated name, which hides what its first value was
		}
		for name, value := range entries {
			if _, isText := name.(string); !isText || !plain(t, value) {
				return false
			}
		}
	case 6:
		var tag reference.RawTag
		if err := decMode.Unmarshal(item, &tag); err != nil {
			return false
		}
		return plain(t, tag.Content)
	}
	return true
}

// FuzzValues: where both decode a request, they find the same values.
func FuzzValues(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var ours, theirs request
		err := decMode.Unmarshal(body, &theirs)
		if awsapi.DecodeCBOR(body, &ours) != nil || err != nil {
			return
		}
		theirs.asAWS(&ours)
		if !reflect.DeepEqual(ours, theirs) {
			t.Fatalf("%x: we read %+v, the reference %+v", body, ours, theirs)
		}
	})
}

// asAWS changes what the reference reads otherwise on purpose: infinities are the largest numbers,
// and null for a value of a map is no entry.
func (r *request) asAWS(ours *request) {
	if r.Double != nil {
		*r.Double = max(-math.MaxFloat64, min(*r.Double, math.MaxFloat64))
	}
	for k, v := range r.Map {
		if _, known := ours.Map[k]; v == "" && !known {
			delete(r.Map, k)
		}
	}
	if r.Inner != nil && ours.Inner != nil {
		r.Inner.asAWS(ours.Inner)
	}
}

// FuzzRoundTrips: we read what the reference writes, in each of its forms, and it reads what we
// write.
func FuzzRoundTrips(f *testing.F) {
	f.Add("ä", true, int64(-1<<63), 1.5, []byte("data"), "k", uint8(3))
	f.Add("", false, int64(1<<32), 0.1, []byte{}, "", uint8(30))
	f.Fuzz(func(t *testing.T, text string, yes bool, n int64, x float64, data []byte, key string, length uint8) {
		if !utf8.ValidString(text) || !utf8.ValidString(key) || math.IsNaN(x) || math.IsInf(x, 0) {
			return
		}
		want := &request{String: &text, Boolean: &yes, Long: &n, Double: &x}
		if len(data) > 0 { // omitempty leaves empty ones out
			want.Blob = data
		}
		if length > 0 {
			want.Inner = &request{Map: map[string]string{key: text, text: key}}
			for range length {
				want.Inner.List = append(want.Inner.List, key)
			}
		}
		for _, mode := range encModes {
			body, err := mode.Marshal(want)
			if err != nil {
				t.Fatal(err)
			}
			got := new(request)
			if err := awsapi.DecodeCBOR(body, got); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("%x: we read %+v, %v; want %+v", body, got, err, want)
			}
		}
		body, err := awsapi.EncodeCBOR(want)
		if err != nil {
			t.Fatal(err)
		}
		got := new(request)
		if err := decMode.Unmarshal(body, got); err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%x: the reference reads %+v, %v; want %+v", body, got, err, want)
		}
	})
}
