package kpl

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	goruntime "runtime"
	"slices"
	"strings"
	"testing"
)

// golden was written by a protobuf library from the format's .proto definition: partition keys
// alpha and β, the explicit hash key 2^127, three records of which the second is empty and tagged.
const golden = "f3899ac2" + "0a05616c706861" + "0a02ceb2" +
	"1227313730313431313833343630343639323331373331363837333033373135383834313035373238" +
	"1a0708001a036f6e65" + "1a0e080110001a0022060a016b120176" + "1a0908001a057468726565" +
	"1bb6b3e8a10a4b5abd49ff39eebbcc61"

type sub struct {
	number int
	key    string
	hash   string
	data   string
}

func deaggregate(b []byte) (subs []sub, ok bool) {
	ok = Deaggregate(b, func(number int, key, hash string, data []byte) {
		subs = append(subs, sub{number, key, hash, string(data)})
	})
	return subs, ok
}

// seal frames a message as an aggregate with the right checksum.
func seal(message string) []byte {
	sum := md5.Sum([]byte(message))
	return slices.Concat([]byte(magic), []byte(message), sum[:])
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAggregateOfAnotherWriter(t *testing.T) {
	b := unhex(t, golden)
	got, ok := deaggregate(b)
	want := []sub{{0, "alpha", "", "one"}, {1, "β", "170141183460469231731687303715884105728", ""}, {2, "alpha", "", "three"}}
	if !ok || !slices.Equal(got, want) {
		t.Fatalf("%v %+v, want %+v", ok, got, want)
	}
	Deaggregate(b, func(n int, _, _ string, data []byte) {
		if n == 0 && &data[0] != &b[bytes.Index(b, []byte("one"))] {
			t.Error("the data was copied")
		}
		if n == 0 {
			_ = append(data, "overwritten"...)
		}
	})
	if hex.EncodeToString(b) != golden {
		t.Error("appending to one record's data changed the aggregate")
	}
}

func TestAggregateWritesTheFormat(t *testing.T) {
	got := Aggregate([]byte("x"), []Record{{"alpha", "", []byte("one")}, {"β", "7", nil}, {"alpha", "7", []byte("three")}})
	want := "78" + "f3899ac2" + "0a05616c706861" + "0a02ceb2" + "120137" +
		"1a0708001a036f6e65" + "1a06080110001a00" + "1a0b080010001a057468726565" + "1c857da0cc5b4491bdaf52ffbe3f78f0"
	if hex.EncodeToString(got) != want {
		t.Errorf("got  %x\nwant %s", got, want)
	}
}

func TestRoundTrip(t *testing.T) {
	var rs []Record
	var want []sub
	for i := range 1000 {
		r := Record{PartitionKey: fmt.Sprintf("key-%d", i%300), Data: bytes.Repeat([]byte{byte(i)}, i)}
		if i%3 == 0 {
			r.ExplicitHashKey = fmt.Sprint(i % 7)
		}
		rs = append(rs, r)
		want = append(want, sub{i, r.PartitionKey, r.ExplicitHashKey, string(r.Data)})
	}
	if got, ok := deaggregate(Aggregate(nil, rs)); !ok || !slices.Equal(got, want) {
		t.Errorf("%v, %d records came back of %d", ok, len(got), len(want))
	}
}

func TestFormsThatProtobufAllows(t *testing.T) {
	tests := map[string]string{
		"tables after the records":  "\x1a\x05\x08\x00\x1a\x01d" + "\x0a\x01k",
		"unknown fields":            "\x20\x05" + "\x29abcdefgh" + "\x35abcd" + "\x3a\x02xx" + "\x0a\x01k" + "\x1a\x07\x08\x00\x28\x01\x1a\x01d",
		"an index in several bytes": "\x0a\x01k" + "\x1a\x06\x08\x80\x00\x1a\x01d",
		"the last index counts":     "\x0a\x01k" + "\x1a\x07\x08\x09\x08\x00\x1a\x01d",
		"the last data counts":      "\x0a\x01k" + "\x1a\x08\x08\x00\x1a\x01x\x1a\x01d",
		"fields of a record turned": "\x0a\x01k" + "\x1a\x05\x1a\x01d\x08\x00",
	}
	for name, message := range tests {
		got, ok := deaggregate(seal(message))
		if want := []sub{{0, "k", "", "d"}}; !ok || !slices.Equal(got, want) {
			t.Errorf("%s: %v %+v", name, ok, got)
		}
	}
}

func TestWhatIsNoAggregate(t *testing.T) {
	good := unhex(t, golden)
	const key, one = "\x0a\x01k", "\x1a\x05\x08\x00\x1a\x01d"
	if _, ok := deaggregate(seal(key + one)); !ok {
		t.Fatal("the message that the cases below spoil is not right itself")
	}
	badSum := bytes.Clone(good)
	badSum[len(badSum)-1] ^= 1
	badByte := bytes.Clone(good)
	badByte[10] ^= 1
	tests := map[string][]byte{
		"nothing":                     nil,
		"text":                        []byte("just a record"),
		"the magic alone":             []byte(magic),
		"magic and a checksum":        seal(""),
		"wrong checksum":              badSum,
		"a flipped bit":               badByte,
		"wrong magic":                 append([]byte("\xf3\x89\x9a\xc3"), good[4:]...),
		"no records":                  seal(key),
		"no keys":                     seal(one),
		"key index beyond the table":  seal(key + "\x1a\x05\x08\x01\x1a\x01d"),
		"the greatest index":          seal(key + "\x1a\x0e\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x1a\x01d"),
		"hash index beyond its table": seal(key + "\x1a\x07\x08\x00\x10\x00\x1a\x01d"),
		"record without a key":        seal(key + "\x1a\x03\x1a\x01d"),
		"record without data":         seal(key + "\x1a\x02\x08\x00"),
		"good record, then a bad one": seal(key + one + "\x1a\x05\x08\x02\x1a\x01d"),
		"key is not UTF-8":            seal("\x0a\x01\xff" + one),
		"key as a number":             seal("\x08\x01" + key + one),
		"index as bytes":              seal(key + "\x1a\x06\x0a\x01\x00\x1a\x01d"),
		"data as a number":            seal(key + "\x1a\x04\x08\x00\x18\x01"),
		"records as a number":         seal(key + one + "\x18\x01"),
		"cut within a field":          seal(key + one + "\x1a\x05\x08\x00"),
		"cut within a tag":            seal(key + one + "\x80"),
		"cut within a number":         seal(key + one + "\x20"),
		"cut within 4 bytes":          seal(key + one + "\x35abc"),
		"cut within 8 bytes":          seal(key + one + "\x29abcdefg"),
		"length beyond 64 bits":       seal(key + one + "\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"),
		"the greatest length":         seal(key + one + "\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
		"field number 0":              seal(key + one + "\x00\x00"),
		"field number beyond 29 bits": seal(key + one + "\x80\x80\x80\x80\x10\x00"),
		"a group":                     seal(key + one + "\x23\x24"),
	}
	for name, b := range tests {
		if got, ok := deaggregate(b); ok || got != nil {
			t.Errorf("%s: %v %+v, want false and no calls", name, ok, got)
		}
	}
	for n := range len(good) {
		if got, ok := deaggregate(good[:n]); ok || got != nil {
			t.Errorf("the first %d bytes were taken as an aggregate", n)
		}
	}
}

func TestMemoryOfATableOfEmptyKeys(t *testing.T) {
	b := seal(strings.Repeat("\x0a\x00", 100_000) + "\x1a\x05\x08\x00\x1a\x01d")
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	ok := Deaggregate(b, func(int, string, string, []byte) {})
	goruntime.ReadMemStats(&after)
	got := after.TotalAlloc - before.TotalAlloc
	if !ok {
		t.Fatal("the aggregate was not accepted")
	}
	if most := uint64(9 * len(b)); got > most {
		t.Errorf("%d bytes were allocated for a record of %d, want at most %d", got, len(b), most)
	}
}

func FuzzDeaggregate(f *testing.F) {
	good := unhex(f, golden)
	f.Add(good[4 : len(good)-16])
	f.Add([]byte("\x0a\x01k\x1a\x05\x08\x00\x1a\x01d"))
	f.Add([]byte("\x12\x01k\x0a\x00\x1a\x07\x08\x00\x10\x00\x1a\x01d\x20\x05"))
	f.Fuzz(func(t *testing.T, message []byte) {
		Deaggregate(message, func(int, string, string, []byte) { t.Fatal("called for a record without magic and checksum") })
		subs, ok := deaggregate(seal(string(message)))
		if !ok {
			if subs != nil {
				t.Fatalf("false, but %+v", subs)
			}
			return
		}
		var rs []Record
		for i, s := range subs {
			if s.number != i {
				t.Fatalf("sub-sequence %d at position %d", s.number, i)
			}
			rs = append(rs, Record{s.key, s.hash, []byte(s.data)})
		}
		if again, ok := deaggregate(Aggregate(nil, rs)); !ok || !slices.Equal(again, subs) {
			t.Fatalf("%v %+v after another round, want %+v", ok, again, subs)
		}
	})
}

func BenchmarkDeaggregate(b *testing.B) {
	var rs []Record
	for i := range 250 {
		rs = append(rs, Record{PartitionKey: fmt.Sprintf("key-%d", i), Data: make([]byte, 200)})
	}
	a := Aggregate(nil, rs)
	b.SetBytes(int64(len(a)))
	b.ReportAllocs()
	for b.Loop() {
		Deaggregate(a, func(int, string, string, []byte) {})
	}
}
