package wasm

import (
	"bytes"
	"testing"

	"github.com/shardmill/shardmill/runtime"
)

func TestBatchLayout(t *testing.T) {
	in := []runtime.InRecord{
		{Data: []byte("ab")},
		{ID: "not sent", PartitionKey: []byte("p"), SequenceNumber: "12", Arrived: 1, ShardID: "not sent"},
	}
	want := "\x02\x00\x00\x00" +
		"\x00\x00\x00\x00" + "\x02\x00\x00\x00ab" +
		"\x1a\x00\x00\x00" + "\x02\x01\x00\x00\x00p" + "\x03\x02\x00\x00\x0012" + "\x04\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00" + "\x00\x00\x00\x00"
	got := appendBatch(nil, in)
	if string(got) != want || batchSize(in) != len(want) {
		t.Fatalf("batch of %d (announced %d) bytes:\n%q\nwant:\n%q", len(got), batchSize(in), got, want)
	}
}

func TestFactsAreFoundByName(t *testing.T) {
	facts := []fact{{"id", "r"}, {"region", "eu-west-1"}, {"functionArn", ""}}
	block, rest := cutFacts(append(appendFacts(nil, facts), "batch"...))
	if string(rest) != "batch" || len(block)+4 != factsSize(facts) {
		t.Fatalf("block of %d bytes (announced %d), rest %q", len(block)+4, factsSize(facts), rest)
	}
	for key, want := range map[string]string{"id": "r", "region": "eu-west-1", "functionArn": "", "other": ""} {
		got, ok := lookFact(block, key)
		if string(got) != want || ok != (want != "") {
			t.Errorf("%s = %q, %t; want %q", key, got, ok, want)
		}
	}
}

func TestReplyMeta(t *testing.T) {
	for meta, want := range map[string]string{
		"\x40\x01\x00\x00\x00x":      "the partition key at byte 18 of the reply has no 0 byte between name and value",
		"\x40\x09\x00\x00\x00x\x00y": "the reply ends inside a meta value: 9 bytes are needed at byte 23 of 26",
		"\x40":                       "the reply ends inside the length of a meta value: 4 bytes are needed at byte 19 of 19",
		"\x01\x00\x00\x00\x00":       "",
	} {
		var d replyDecoder
		err := d.decode(replyOf(entry(0, 0, "x", meta)), 1, &runtime.ProcessedBatch{})
		if got := errText(err); got != want {
			t.Errorf("meta %q: %q, want %q", meta, got, want)
		}
	}
	// A value may not reach into the next entry.
	var d replyDecoder
	err := d.decode(replyOf(entry(0, 0, "", "\x01\x06\x00\x00\x00"), entry(1, 0, "", "")), 2, &runtime.ProcessedBatch{})
	if got, want := errText(err), "the meta value at byte 17 of the reply runs past the end of its meta at byte 22"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// FuzzReply decodes hostile replies: no panic, and what is accepted keeps the rules.
func FuzzReply(f *testing.F) {
	f.Add(replyOf(entry(0, 0, "x", "\x40\x03\x00\x00\x00a\x00b"), entry(1, 1, "", "")), uint8(2))
	f.Add(replyOf(entry(0, 0, "x", ""), entry(0, 0, "y", "")), uint8(1))
	f.Add([]byte("\xff\xff\xff\xff"), uint8(0))
	f.Fuzz(func(t *testing.T, reply []byte, n uint8) {
		before := runtime.OutRecord{Index: 42}
		out := runtime.ProcessedBatch{Records: []runtime.OutRecord{before}}
		var d replyDecoder
		err := d.decode(bytes.Clone(reply), int(n), &out)
		if err != nil && len(out.Records) != 1 {
			t.Fatal("answers were left behind by a bad reply")
		}
		answers, final := map[int]int{}, map[int]bool{}
		for _, o := range out.Records[1:] {
			if o.Index < 0 || o.Index >= int(n) || o.Status > runtime.Failed {
				t.Fatalf("index %d, status %d accepted in a batch of %d", o.Index, o.Status, n)
			}
			answers[o.Index]++
			final[o.Index] = final[o.Index] || o.Status != runtime.Ok
			if final[o.Index] && answers[o.Index] > 1 {
				t.Fatalf("record %d has %d answers, one of them final", o.Index, answers[o.Index])
			}
		}
	})
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain\tüñ":           "plain\tüñ",
		"\x1b]0;title\x07":    "\ufffd]0;title\ufffd",
		"a\nb":                "a\ufffdb",
		"\xff\xfe":            "\ufffd\ufffd",
		"right\u202eleft":     "right\ufffdleft",
		"0123456789012345678": "012345678901",
	} {
		if got := printable([]byte(in), 12, false); got != want[:min(len(want), len(got))] || got == "" {
			t.Errorf("printable(%q) = %q, want the start of %q", in, got, want)
		}
	}
	if got := printable([]byte("a\nb"), 12, true); got != "a\nb" {
		t.Errorf("with lines kept: %q", got)
	}
}

func TestBufferOfABatchServesAgainAfterReset(t *testing.T) {
	var out runtime.ProcessedBatch
	if takeBuffer(&out) != nil {
		t.Fatal("an empty batch had a buffer")
	}
	var d replyDecoder
	reply := replyOf(entry(0, 0, "abc", ""))
	if err := d.decode(reply, 1, &out); err != nil {
		t.Fatal(err)
	}
	keepBuffer(&out, reply)
	if len(out.Records) != 1 || takeBuffer(&out) != nil {
		t.Fatal("the buffer was given away while answers point into it")
	}
	out.Reset()
	if b := takeBuffer(&out); len(b) != 0 || cap(b) < len(reply) || &b[:1][0] != &reply[0] {
		t.Fatal("the buffer did not come back after Reset")
	}
}
