package kinesisapi

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/shards"
)

// secretOnly is metadata that holds the secret of iterators and nothing else.
type secretOnly struct{ shards.Meta }

func (secretOnly) Get(context.Context, string) ([]byte, shards.Rev, error) {
	return make([]byte, 32), 1, nil
}

func newTestSealer(t testing.TB) *sealer {
	s, err := newSealer(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealedTokensOpen(t *testing.T) {
	s := newTestSealer(t)
	want := token{kind: iteratorToken, stream: 1<<63 + 5, shard: 1<<32 - 1, pos: 1 << 62, issued: time.UnixMilli(1700000000123), extra: "000000000000/s"}
	sealed := s.seal(want)
	if !strings.HasPrefix(sealed, "AAAAAAAAAA") { // as AWS's do
		t.Errorf("the iterator is %s", sealed)
	}
	for _, text := range []string{sealed, `"` + sealed + `"`} {
		if got, ok := s.open(text, iteratorToken); !ok || got != want {
			t.Errorf("%s opens as %+v, %t", text, got, ok)
		}
	}
	if _, ok := s.open(sealed, listShardsToken); ok {
		t.Error("an iterator passes for a token of ListShards")
	}
}

// FuzzOpen: nothing opens but what was sealed.
func FuzzOpen(f *testing.F) {
	s := newTestSealer(f)
	only := token{kind: iteratorToken, stream: 1, pos: 2, issued: time.UnixMilli(3), extra: "a/b"}
	real := s.seal(only)
	for _, seed := range []string{"", `"`, `""`, `"""`, real, real[:20], real + "AAAA", "AAAAAAAAAAE=", "AAAAAAAAAAEAAAAAAAAAAAAAAAA="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if got, ok := s.open(text, iteratorToken); ok && got != only {
			t.Errorf("%q opens as %+v", text, got)
		}
	})
}

// FuzzParseARN: a stream's own ARN is read back, and no other text passes for it.
func FuzzParseARN(f *testing.F) {
	f.Add("us-east-1", "000000000000", "orders", "arn:aws-cn:kinesis:cn-north-1:123456789012:stream/a/consumer/b:1")
	f.Add("", "", "", "arn:aws:kinesis:::stream/")
	f.Fuzz(func(t *testing.T, region, account, name, other string) {
		if sc, n, ok := parseARN(other); ok && !strings.HasSuffix(other, ":kinesis:"+sc.Region+":"+sc.Account+":stream/"+n) {
			t.Errorf("%q is read as %+v, %q", other, sc, n)
		}
		if strings.Contains(region+account, ":") || strings.Contains(name, "/") || name == "" {
			return
		}
		if sc, n, ok := parseARN("arn:aws:kinesis:" + region + ":" + account + ":stream/" + name); !ok || n != name || sc != (shards.Scope{Account: account, Region: region}) {
			t.Errorf("the ARN of %q in %q of %q is read as %+v, %q, %t", name, region, account, sc, n, ok)
		}
	})
}
