package shards

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"testing"
)

// The vectors were computed from AWS's layout; the last is a number that AWS itself gave out.
func TestSequenceNumbers(t *testing.T) {
	for _, c := range []struct {
		seq  Seq
		text string
	}{
		{Seq{1700000000, 0, 0, 1700000000}, "49646437577108476416916876405825929425585429676275269634"},
		{Seq{1700000000, 0, 1, 1700000001}, "49646437577108476416916876405827138351405044374169452546"},
		{Seq{1700000000, 17, 12345, 1700000002}, "49646437577130777162115407043891654387000675336967946514"},
		{Seq{1700000000, 3, maxPos, 1700000100}, "49646437577186529025111733586820095513720091184319168562"},
		{Seq{1553568712, 0, 195, 1553568735}, "49594189147623985939251953501666965394405037144469929986"},
	} {
		if got := c.seq.String(); got != c.text {
			t.Errorf("%+v\n got %s\nwant %s", c.seq, got, c.text)
		}
		if got, ok := ParseSeq(c.text); !ok || got != c.seq {
			t.Errorf("ParseSeq(%s) = %+v, %v; want %+v", c.text, got, ok, c.seq)
		}
	}
}

// TestSequenceNumbersAgreeWithLongDivision: the digits come out the same as by the plain way, at the
// edges of each part and anywhere in between.
func TestSequenceNumbersAgreeWithLongDivision(t *testing.T) {
	edge := func(bits int) uint64 {
		switch limit := uint64(1)<<bits - 1; rand.IntN(4) {
		case 0:
			return 0
		case 1:
			return limit
		case 2:
			return limit >> rand.IntN(bits)
		default:
			return rand.Uint64() & limit
		}
	}
	for range 100_000 {
		s := Seq{int64(edge(36)), uint32(edge(32)), Pos(edge(63)), int64(edge(36))}
		want := s.wide().decimal()
		if got := string(s.AppendTo([]byte("x"))); got != "x"+want || len(want) != SeqDigits {
			t.Fatalf("%+v is written %s, want x%s", s, got, want)
		}
	}
}

// TestEightDigits: the halves of eight digits do not touch each other, so trying each with a few of
// the other tries everything.
func TestEightDigits(t *testing.T) {
	var got [8]byte
	for half := range uint32(10_000) {
		for _, other := range []uint32{0, 1, 99, 100, 5050, 9900, 9999} {
			for _, v := range []uint32{half*10_000 + other, other*10_000 + half} {
				if put8(got[:], v); string(got[:]) != fmt.Sprintf("%08d", v) {
					t.Fatalf("%d is written %s", v, got)
				}
			}
		}
	}
}

func TestShardIDsHaveTwelveDigits(t *testing.T) {
	for _, n := range []uint32{0, 1, 9, 10, 4711, 1<<31 - 1, 1<<32 - 1} {
		if got, want := string(AppendShardID([]byte("x"), n)), fmt.Sprintf("xshardId-%012d", n); got != want || len(got) != 1+ShardIDLen {
			t.Errorf("shard %d is written %s, want %s", n, got, want)
		}
	}
}

func BenchmarkSequenceNumber(b *testing.B) {
	buf := make([]byte, 0, 64)
	for i := 0; b.Loop(); i++ {
		buf = Seq{1700000000, uint32(i & 1023), Pos(i), 1700000000}.AppendTo(buf[:0])
	}
}

func BenchmarkSequenceNumberByLongDivision(b *testing.B) {
	buf := make([]byte, 0, 64)
	for i := 0; b.Loop(); i++ {
		buf = Seq{1700000000, uint32(i & 1023), Pos(i), 1700000000}.wide().appendDecimal(buf[:0])
	}
}

func TestSequenceNumbersThatCannotBe(t *testing.T) {
	for _, text := range []string{"", "0", "5", "-1", "x", "049646437577108476416916876405825929425585429676275269634",
		"49646437577108476416916876405825929425585429676275269635", // version nibble 3
		"49646437577108476416916876405825934147951912545920483330", // a bit of 79..72 is set
		"99646437577108476416916876405825929425585429676275269634",
		"4964643757710847641691687640582592942558542967627526963499999999999999999999"} {
		if s, ok := ParseSeq(text); ok {
			t.Errorf("ParseSeq(%q) = %+v, want a refusal", text, s)
		}
	}
}

func FuzzParseSeq(f *testing.F) {
	f.Add("49646437577108476416916876405825929425585429676275269634")
	f.Add("0")
	f.Fuzz(func(t *testing.T, text string) {
		if s, ok := ParseSeq(text); ok && s.String() != text {
			t.Fatalf("%q parsed to %+v, which is written %s", text, s, s)
		}
	})
}

func TestHashKeysAgreeWithBigInt(t *testing.T) {
	for range 1000 {
		h := Hash{rand.Uint64() >> rand.IntN(64), rand.Uint64() >> rand.IntN(64)}
		want := new(big.Int).Or(new(big.Int).Lsh(new(big.Int).SetUint64(h.Hi), 64), new(big.Int).SetUint64(h.Lo)).String()
		if h.String() != want {
			t.Fatalf("%#v is written %s, want %s", h, h, want)
		}
		if got, ok := ParseHash(want); !ok || got != h {
			t.Fatalf("ParseHash(%s) = %#v, %v", want, got, ok)
		}
	}
	if _, ok := ParseHash("340282366920938463463374607431768211456"); ok {
		t.Error("2^128 was accepted as a hash key")
	}
	if got := HashOf([]byte("a")).String(); got != "16955237001963240173058271559858726497" {
		t.Errorf("hash key of \"a\" = %s", got)
	}
}

func TestInitialShardRangesTileTheHashSpace(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 1000} {
		starts := splitHashSpace(n)
		width := new(big.Int).Div(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(int64(n)))
		for i, s := range starts {
			if want := new(big.Int).Mul(width, big.NewInt(int64(i))).String(); s.String() != want {
				t.Fatalf("of %d shards, shard %d starts at %s, want %s", n, i, s, want)
			}
		}
	}
}

func TestShardIDs(t *testing.T) {
	if got := FormatShardID(12); got != "shardId-000000000012" {
		t.Error(got)
	}
	for text, want := range map[string]uint32{"shardId-000000000003": 3, "x-0": 0, "7": 7, "shardId-2147483647": 1<<31 - 1} {
		if n, ok := ParseShardID(text); !ok || n != want {
			t.Errorf("ParseShardID(%q) = %d, %v; want %d", text, n, ok, want)
		}
	}
	for _, text := range []string{"", "shardId-", "shardId-x", "a-b-1", "2147483648", "shardId-99999999999999999999999"} {
		if n, ok := ParseShardID(text); ok {
			t.Errorf("ParseShardID(%q) = %d, want a refusal", text, n)
		}
	}
}
