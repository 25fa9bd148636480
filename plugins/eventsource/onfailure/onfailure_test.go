package onfailure_test

import (
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/objects"
	"github.com/shardmill/shardmill/plugins/eventsource"
	"github.com/shardmill/shardmill/plugins/eventsource/onfailure"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
)

var failure = &eventsource.Failure{Document: []byte(`{"version":"1.0"}`), Event: []byte(`{"Records":[]}`), Key: "aws/lambda/m/key", ShardID: "shardId-000000000000"}

const whole = `{"version":"1.0","payload":"{\"Records\":[]}"}`

// echo is a function that fails if it is told to.
type echo struct {
	fail bool
	got  string
}

func (e *echo) Function(string) (runtime.Function, func(), error) { return e, func() {}, nil }
func (e *echo) Close() error                                      { return nil }
func (e *echo) Invoke(_ context.Context, in runtime.Invocation) (runtime.Result, error) {
	e.got = string(in.Payload)
	if e.fail {
		return runtime.Result{FunctionError: "Unhandled", Payload: []byte(`{"errorMessage":"no"}`)}, nil
	}
	return runtime.Result{}, nil
}

func TestDestinations(t *testing.T) {
	store, err := journal.Open("data", journal.Options{FS: vfs.NewMem(), SegmentSize: 256 << 10})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	streams, err := shards.Open(t.Context(), store, shards.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer streams.Close()
	s, err := streams.Create(t.Context(), shards.Scope{Account: "000000000000", Region: "us-east-1"}, shards.Spec{Name: "s", Shards: 1})
	if err != nil {
		t.Fatal(err)
	}
	dir, err := objects.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	fn := new(echo)
	d := onfailure.Deps{Streams: streams, Functions: fn, Objects: dir}
	deliver := func(arn string, f *eventsource.Failure) error {
		t.Helper()
		to, err := d.Find(arn)
		if err != nil {
			t.Fatal(err)
		}
		return to.Deliver(t.Context(), f)
	}

	if err := deliver("arn:aws:s3:::lost", failure); err != nil {
		t.Fatal(err)
	}
	r, _, err := dir.Get(t.Context(), "lost", failure.Key)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if b, err := io.ReadAll(r); err != nil || string(b) != whole {
		t.Errorf("object %s: %v", b, err)
	}

	large := *failure
	large.Event = json.RawMessage(strings.Repeat("x", 1<<20))
	for i, want := range []string{whole, `{"version":"1.0"}`} {
		if err := deliver(s.ARN(), []*eventsource.Failure{failure, &large}[i]); err != nil {
			t.Fatal(err)
		}
		recs, _, err := s.Read(t.Context(), s.Shard(0), shards.Pos(i), shards.Budget{Records: 1, Bytes: 1}, nil)
		if err != nil || string(recs[0].Data) != want || string(recs[0].Key) != "shardId-000000000000" {
			t.Errorf("record %d: %v", i, err)
		}
	}
	const function = "arn:aws:lambda:us-east-1:000000000000:function:f"
	if err := deliver(function, failure); err != nil || fn.got != whole {
		t.Errorf("%s: %v", fn.got, err)
	}
	fn.fail = true
	if err := deliver(function, failure); !errs.Is(err, errs.Unavailable) {
		t.Errorf("a function that fails: %v", err)
	}
	if err := deliver("arn:aws:kinesis:us-east-1:000000000000:stream/gone", failure); !errs.Is(err, errs.NotFound) {
		t.Errorf("a stream that is not there: %v", err)
	}
	for _, arn := range []string{"lost", "arn:aws:sqs:us-east-1:000000000000:q", "arn:aws:sns:us-east-1:000000000000:t", "arn:aws:s3:::a/b", "arn:aws:kinesis:us-east-1:000000000000:stream/s/consumer/c:1"} {
		if _, err := d.Find(arn); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", arn, err)
		}
	}
}
