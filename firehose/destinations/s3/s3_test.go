package s3_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/klauspost/compress/snappy"

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
func (failing) Close() error                                        { return nil }
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

// An object is the batch's records one after the other, compressed, under a key made from the
// batch, with the Content-Encoding that AWS sends.
func TestAnObjectIsABatchCompressed(t *testing.T) {
	for _, c := range []struct {
		format, extension, encoding string
		open                        func(string) string
	}{
		{"", "", "", func(s string) string { return s }},
		{"UNCOMPRESSED", "", "", func(s string) string { return s }},
		{"GZIP", ".gz", "gzip", gunzip},
		{"ZIP", ".zip", "zip", unzip},
		{"Snappy", ".snappy", "snappy-java", func(s string) string { return unsnap(s[16:]) }},
		{"HADOOP_SNAPPY", ".snappy", "hadoop-snappy", func(s string) string { return unsnap(s[4:]) }},
	} {
		t.Run(c.format, func(t *testing.T) {
			r := open(t)
			d, arrived := r.deliver(spec(t, s3.Settings{BucketARN: lake, Compression: c.format}), "one\n", "", "two", `{"n":3}`)
			key := arrived.Format("2006/01/02/15/") + "orders-1-" + arrived.Format("2006-01-02-15-04-05") + "-" + id(d, 4, "data") + c.extension
			expect(t, "keys", r.stored(), []string{key})
			body, info := r.read(key)
			expect(t, "content", c.open(body), "one\ntwo"+`{"n":3}`)
			expect(t, "content type", info.ContentType, "application/octet-stream")
			expect(t, "content encoding", info.ContentEncoding, c.encoding)
		})
	}
}

func gunzip(s string) string {
	z, err := gzip.NewReader(strings.NewReader(s))
	if err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(z)
	return string(b) + text(err)
}

func unzip(s string) string {
	z, err := zip.NewReader(strings.NewReader(s), int64(len(s)))
	if err != nil || len(z.File) != 1 {
		return fmt.Sprint(err, " entries of one archive")
	}
	f, err := z.File[0].Open()
	if err != nil {
		return err.Error()
	}
	b, err := io.ReadAll(f)
	return string(b) + text(err)
}

// unsnap reads one block: its length, big-endian, and raw Snappy.
func unsnap(s string) string {
	n := binary.BigEndian.Uint32([]byte(s))
	b, err := snappy.Decode(nil, []byte(s)[4:4+n])
	return string(b) + text(err)
}

func text(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestKeysFollowTheSettings(t *testing.T) {
	paris, err := time.LoadLocation("Europe/Paris")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		settings s3.Settings
		layout   string // of the key up to the stream's name, in Go's time format
		zone     *time.Location
		suffix   string
	}{
		"a literal prefix gets the time":  {s3.Settings{Prefix: "legacy"}, "legacy2006/01/02/15/", time.UTC, ""},
		"a prefix with expressions":       {s3.Settings{Prefix: "y=!{timestamp:yyyy}/d=!{timestamp:dd}/", ErrorPrefix: "e/!{firehose:error-output-type}/"}, "y=2006/d=02/", time.UTC, ""},
		"a time zone":                     {s3.Settings{TimeZone: "Europe/Paris"}, "2006/01/02/15/", paris, ""},
		"an extension":                    {s3.Settings{Extension: ".jsonl"}, "2006/01/02/15/", time.UTC, ".jsonl"},
		"an extension replaces format's":  {s3.Settings{Extension: ".json.gz", Compression: "GZIP"}, "2006/01/02/15/", time.UTC, ".json.gz"},
		"a prefix that ends with a slash": {s3.Settings{Prefix: "raw/"}, "raw/2006/01/02/15/", time.UTC, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t)
			c.settings.BucketARN = lake
			d, arrived := r.deliver(spec(t, c.settings), "x")
			at := arrived.In(c.zone)
			expect(t, "keys", r.stored(), []string{at.Format(c.layout) + "orders-1-" + at.Format("2006-01-02-15-04-05") + "-" + id(d, 1, "data") + c.suffix})
		})
	}
}

// Error records are an object of their own, one JSON document a line, compressed like the data.
func TestErrorRecordsAreAnObjectOfLines(t *testing.T) {
	r := open(t)
	s := spec(t, s3.Settings{BucketARN: lake, Prefix: "good/", ErrorPrefix: "bad/", Compression: "GZIP"})
	s.Processor = &firehose.Processor{FunctionARN: functionARN, Bytes: 1 << 20}
	d, arrived := r.deliver(s, "broken", "ok 1", "torn", "ok 2")
	name := "orders-1-" + arrived.Format("2006-01-02-15-04-05") + "-"
	hour := arrived.Format("2006/01/02/15/")
	bad := "bad/processing-failed/" + hour + name + id(d, 4, "processing-failed") + ".gz"
	good := "good/" + hour + name + id(d, 4, "data") + ".gz"
	expect(t, "keys", r.stored(), []string{bad, good})
	body, _ := r.read(good)
	expect(t, "data", gunzip(body), "ok 1ok 2")
	body, info := r.read(bad)
	expect(t, "content encoding", info.ContentEncoding, "gzip")
	var got []string
	for line := range strings.Lines(gunzip(body)) {
		var e struct {
			RawData, ErrorCode, LambdaARN string
			ArrivalTimestamp              int64
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		raw, _ := base64.StdEncoding.DecodeString(e.RawData)
		got = append(got, fmt.Sprintf("%s %s %s %d", raw, e.ErrorCode, e.LambdaARN, e.ArrivalTimestamp-arrived.UnixMilli()))
	}
	expect(t, "lines", got, []string{"broken Lambda.ProcessingFailedStatus " + functionARN + " 0", "torn Lambda.ProcessingFailedStatus " + functionARN + " 0"})
}

func TestNothingButFailuresLeavesNoDataObject(t *testing.T) {
	r := open(t)
	s := spec(t, s3.Settings{BucketARN: lake})
	s.Processor = &firehose.Processor{FunctionARN: functionARN, Bytes: 1 << 20}
	d, arrived := r.deliver(s, "broken")
	expect(t, "keys", r.stored(), []string{"processing-failed/" + arrived.Format("2006/01/02/15/") + "orders-1-" +
		arrived.Format("2006-01-02-15-04-05") + "-" + id(d, 1, "processing-failed")})
}

// An answer that is lost makes the delivery repeat. It writes the same objects again.
func TestARepeatedDeliveryOverwrites(t *testing.T) {
	r := open(t)
	r.objects.failures = 3
	s := spec(t, s3.Settings{BucketARN: lake, Compression: "ZIP"})
	s.Processor = &firehose.Processor{FunctionARN: functionARN, Bytes: 1 << 20}
	r.deliver(s, "ok", "broken")
	expect(t, "keys", len(r.stored()), 2)
	expect(t, "puts", r.objects.puts, 3+2)
	expect(t, "retries", len(r.retried), 3)
}

// A body of more than 8 MiB goes through a file. Without the folder for it, large batches fail and
// small ones do not, which shows that nothing else is in that file's place.
func TestLargeBodiesGoThroughAFile(t *testing.T) {
	r := open(t)
	rng := rand.NewChaCha8([32]byte{1})
	var data []string
	for range 10 {
		b := make([]byte, 900<<10)
		rng.Read(b)
		data = append(data, string(b))
	}
	if err := os.Remove(r.spool); err != nil {
		t.Fatal(err)
	}
	d, _ := r.deliver(spec(t, s3.Settings{BucketARN: lake}), data[:9]...) // 7.9 MiB
	r.put(d, data...)                                                     // 8.8 MiB
	select {
	case err := <-r.retried:
		if !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("without a folder for large bodies: %v", err)
		}
	case <-r.delivered:
		t.Fatal("a body of 8.8 MiB was kept in memory")
	}
	if err := os.Mkdir(r.spool, 0o700); err != nil {
		t.Fatal(err)
	}
	r.wait()
	left, err := os.ReadDir(r.spool)
	expect(t, "files left", fmt.Sprint(left, err), "[] <nil>")
	all := r.stored()
	expect(t, "objects", len(all), 2)
	sizes := map[int]bool{}
	for _, key := range all {
		body, _ := r.read(key)
		if sizes[len(body)] = true; body != strings.Join(data, "")[:len(body)] {
			t.Fatalf("the %d bytes of %s are not those of the records", len(body), key)
		}
	}
	expect(t, "sizes", sizes, map[int]bool{9 * 900 << 10: true, 10 * 900 << 10: true})
}

func TestSettingsThatCannotWorkAreRefused(t *testing.T) {
	for _, c := range []struct {
		settings s3.Settings
		says     string
	}{
		{s3.Settings{}, "BucketARN  is not the ARN of a bucket, arn:aws:s3:::NAME"},
		{s3.Settings{BucketARN: "lake"}, "BucketARN lake is not the ARN of a bucket, arn:aws:s3:::NAME"},
		{s3.Settings{BucketARN: "arn:aws:s3:::"}, "BucketARN arn:aws:s3::: is not the ARN of a bucket, arn:aws:s3:::NAME"},
		{s3.Settings{BucketARN: "arn:aws:sqs:::lake"}, "BucketARN arn:aws:sqs:::lake is not the ARN of a bucket, arn:aws:s3:::NAME"},
		{s3.Settings{BucketARN: lake, Compression: "gzip"}, `CompressionFormat "gzip" is unknown; use UNCOMPRESSED, GZIP, ZIP, Snappy or HADOOP_SNAPPY`},
		{s3.Settings{BucketARN: lake, TimeZone: "Mars/Olympus"}, `CustomTimeZone "Mars/Olympus" is not known to the IANA time zone database: unknown time zone Mars/Olympus`},
		{s3.Settings{BucketARN: lake, Extension: "gz"}, `FileExtension "gz" must be a dot and 1 to 127 of the characters 0-9 a-z ! - _ . * ' ( )`},
		{s3.Settings{BucketARN: lake, Prefix: "!{timestamp:yyyy}/"}, "ErrorOutputPrefix must be given because Prefix contains expressions."},
		{s3.Settings{BucketARN: lake, Prefix: "!{partitionKeyFromQuery:k}/", ErrorPrefix: "e/"},
			"Dynamic Partitioning Namespaces can only be part of a prefix expression when Dynamic Partitioning is enabled."},
		{s3.Settings{BucketARN: lake, Prefix: "!{firehose:error-output-type}/", ErrorPrefix: "e/"},
			"Prefix must not contain !{firehose:error-output-type}; it belongs into ErrorOutputPrefix"},
		{s3.Settings{BucketARN: lake, ErrorPrefix: "!{timestamp:yyyy}/"},
			"ErrorOutputPrefix contains expressions but not !{firehose:error-output-type}, which it then needs"},
		{s3.Settings{BucketARN: lake, Prefix: strings.Repeat("x", 513)}, "Prefix can evaluate to 513 characters, at most 512 are allowed"},
	} {
		raw, err := json.Marshal(c.settings)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s3.Open(nil, "", raw); !errs.Is(err, errs.Invalid) || err.Error() != c.says {
			t.Errorf("%s:\n got %v\nwant %s", raw, err, c.says)
		}
	}
	if _, err := s3.Open(nil, "", json.RawMessage("{")); errs.KindOf(err) != errs.Internal {
		t.Errorf("damaged settings: %v", err)
	}
}
