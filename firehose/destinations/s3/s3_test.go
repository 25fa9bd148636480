package s3_test

import (
	"archive/zip"
	"compress/gzip"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/snappy"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/firehose/destinations/s3"
	"github.com/shardmill/shardmill/internal/errs"
)

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
