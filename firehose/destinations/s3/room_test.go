package s3_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/firehose/destinations/s3"
	"github.com/shardmill/shardmill/firehose/keys"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/objects"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
)

var here = shards.Scope{Account: "000000000000", Region: "us-east-1"}

// room is a delivery room whose one kind of destination is the bucket.
type room struct {
	t          *testing.T
	objects    *breakable
	spool      string
	deliveries *firehose.DeliveryStreams

	delivered chan firehose.Delivered
	retried   chan error
}

func open(t *testing.T) *room {
	t.Helper()
	dir, err := objects.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := &room{t: t, objects: &breakable{Store: dir}, spool: filepath.Join(t.TempDir(), "spool"),
		delivered: make(chan firehose.Delivered, 10), retried: make(chan error, 10)}
	if err := os.Mkdir(r.spool, 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := journal.Open("data", journal.Options{FS: vfs.NewMem(), SegmentSize: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	streams, err := shards.Open(t.Context(), store, shards.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.deliveries, err = firehose.Open(t.Context(), firehose.Options{Streams: streams, Meta: store.Meta(), Functions: failing{},
		SpoolDir: t.TempDir(), Events: firehose.Events{
			Delivered: func(_ *firehose.DeliveryStream, _ uint64, what firehose.Delivered) { r.delivered <- what },
			Retry:     func(_ *firehose.DeliveryStream, _ uint64, _ int, err error) { r.retried <- err }},
		Open: func(_ string, settings json.RawMessage) (firehose.Destination, error) {
			return s3.Open(r.objects, r.spool, settings)
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		r.deliveries.Close(now)
		streams.Close()
		store.Close()
		dir.Close()
	})
	return r
}

// breakable is a store whose Put fails, after it has stored, while failures are left.
type breakable struct {
	objects.Store
	failures int
	puts     int
}

func (b *breakable) Put(ctx context.Context, bucket, key string, body io.ReadSeeker, size int64, m objects.Attributes) error {
	b.puts++
	if err := b.Store.Put(ctx, bucket, key, body, size, m); err != nil {
		return err
	}
	if b.failures--; b.failures >= 0 {
		return errs.New(errs.Unavailable, "the answer was lost")
	}
	return nil
}

// failing is a function that fails every record but those that begin with "ok".
type failing struct{}

func (f failing) Function(string) (runtime.Function, func(), error) { return f, func() {}, nil }

func (failing) Close() error { return nil }

func (failing) Invoke(context.Context, runtime.Invocation) (runtime.Result, error) {
	return runtime.Result{}, errors.New("not used")
}

func (failing) Process(_ context.Context, in *runtime.RecordBatch, out *runtime.ProcessedBatch) error {
	for i := range in.Records {
		a := runtime.OutRecord{Index: i, Status: runtime.Failed}
		if data := in.Records[i].Data; bytes.HasPrefix(data, []byte("ok")) {
			a = runtime.OutRecord{Index: i, Data: data}
		}
		out.Records = append(out.Records, a)
	}
	return nil
}

const functionARN = "arn:aws:lambda:us-east-1:000000000000:function:f"

func spec(t *testing.T, s s3.Settings) firehose.Spec {
	t.Helper()
	settings, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return firehose.Spec{Name: "orders", Type: firehose.DirectPut, Kind: s3.Kind, Settings: settings, Buffer: firehose.Buffer{Bytes: 128 << 20}}
}

// deliver creates the delivery stream, puts the records and waits until they are delivered. The
// answer is the delivery stream and when the records arrived.
func (r *room) deliver(s firehose.Spec, data ...string) (*firehose.DeliveryStream, time.Time) {
	r.t.Helper()
	d, err := r.deliveries.Create(r.t.Context(), here, s)
	if err != nil {
		r.t.Fatal(err)
	}
	arrived := r.put(d, data...)
	r.wait()
	return d, arrived
}

func (r *room) put(d *firehose.DeliveryStream, data ...string) time.Time {
	r.t.Helper()
	recs := make([]shards.PutRecord, len(data))
	for i := range data {
		recs[i].Data = []byte(data[i])
	}
	out := make([]shards.Placed, len(recs))
	if err := d.Put(r.t.Context(), recs, out); err != nil || out[0].Err != nil {
		r.t.Fatal(err, out[0].Err)
	}
	return time.UnixMilli(out[0].Arrived).UTC()
}

func (r *room) wait() firehose.Delivered {
	r.t.Helper()
	select {
	case what := <-r.delivered:
		return what
	case <-time.After(10 * time.Second):
		r.t.Fatal("nothing was delivered")
		return firehose.Delivered{}
	}
}

// stored lists the bucket's keys.
func (r *room) stored() (all []string) {
	r.t.Helper()
	list, err := r.objects.List(r.t.Context(), "lake", "", "", 100)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, o := range list {
		all = append(all, o.Key)
	}
	return all
}

func (r *room) read(key string) (string, objects.Info) {
	r.t.Helper()
	f, info, err := r.objects.Get(r.t.Context(), "lake", key)
	if err != nil {
		r.t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		r.t.Fatal(err)
	}
	return string(b), info
}

// id is the id of the object of a batch of the first n records.
func id(d *firehose.DeliveryStream, n int, kind string) string {
	return keys.ObjectID(keys.Identity{DeliveryStream: d.ID, Version: "1", Ranges: fmt.Sprintf("0:0-%d;", n), Kind: kind}).String()
}

func expect(t *testing.T, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
		t.Fatalf("%s:\n got %s\nwant %s", what, g, w)
	}
}

const lake = "arn:aws:s3:::lake"
