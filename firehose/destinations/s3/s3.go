// Package s3 delivers batches as objects of a bucket: on this machine's disk or on an S3 server,
// whichever package objects was opened with.
//
// A batch becomes one object: its records one after the other, nothing in between, compressed. Its
// key is prefix, stream name, version, arrival of the oldest record, and an id computed from the
// batch (package keys), so that a repeated delivery writes the same object again. Error records
// become an object of JSON lines under the error prefix, compressed like the data.
//
// Delivery is effectively once: nothing is doubled, whatever is repeated.
package s3

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/firehose/compress"
	"github.com/shardmill/shardmill/firehose/keys"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/objects"
)

// Kind is the name of this kind of destination in stored delivery streams.
const Kind = "s3"

// Settings are what a delivery stream says about its bucket.
type Settings struct {
	BucketARN   string `json:"bucketArn"` // arn:aws:s3:::NAME
	Prefix      string `json:"prefix,omitempty"`
	ErrorPrefix string `json:"errorPrefix,omitempty"`
	Compression string `json:"compression"` // as the API names it; "" is UNCOMPRESSED
	Extension   string `json:"extension,omitempty"`
	TimeZone    string `json:"timeZone,omitempty"`
}

// Destination is a configured bucket.
type Destination struct {
	store    objects.Store
	spoolDir string
	bucket   string
	format   compress.Format
	keys     *keys.Template
}

// Open checks the settings, which come as JSON. The bucket is made by the first delivery.
func Open(store objects.Store, spoolDir string, raw json.RawMessage) (*Destination, error) {
	var s Settings
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, errs.Wrap(errs.Internal, err, "the stored settings of an S3 destination are damaged")
	}
	d := &Destination{store: store, spoolDir: spoolDir}
	var ok bool
	if d.bucket, ok = strings.CutPrefix(s.BucketARN, "arn:aws:s3:::"); !ok || d.bucket == "" {
		return nil, errs.New(errs.Invalid, "BucketARN %s is not the ARN of a bucket, arn:aws:s3:::NAME", s.BucketARN)
	}
	if err := objects.CheckBucket(d.bucket); err != nil {
		return nil, err
	}
	if s.Compression != "" {
		var err error
		if d.format, err = compress.ParseFormat(s.Compression); err != nil {
			return nil, err
		}
	}
	var err error
	d.keys, err = keys.Parse(keys.Settings{Prefix: s.Prefix, ErrorPrefix: s.ErrorPrefix, TimeZone: s.TimeZone,
		Extension: s.Extension, DefaultExtension: d.format.Extension()})
	return d, err
}

// Deliver implements firehose.Destination.
func (d *Destination) Deliver(ctx context.Context, b *firehose.Batch) error {
	k := d.key(b, "data")
	name, err := d.keys.Object(k)
	if err != nil {
		return err
	}
	return d.put(ctx, b, k, name)
}

// DeliverErrors implements firehose.Destination.
func (d *Destination) DeliverErrors(ctx context.Context, b *firehose.Batch) error {
	k := d.key(b, b.ErrorType)
	name, err := d.keys.Error(k, b.ErrorType)
	if err != nil {
		return err
	}
	return d.put(ctx, b, k, name)
}

func (d *Destination) key(b *firehose.Batch, kind string) keys.Key {
	return keys.Key{Stream: b.Stream, Version: b.Version, Oldest: b.Oldest,
		ID: keys.ObjectID(keys.Identity{DeliveryStream: b.StreamID, Version: b.Version, Ranges: b.Ranges, Kind: kind})}
}

func (d *Destination) put(ctx context.Context, b *firehose.Batch, k keys.Key, name string) error {
	body := &body{dir: d.spoolDir}
	defer body.close()
	w := compress.NewWriter(body, d.format, k.ID.String())
	err := b.Each(ctx, func(data []byte) error {
		_, err := w.Write(data)
		return err
	})
	if err := errors.Join(err, w.Close()); err != nil {
		return err
	}
	r, size, err := body.reader()
	if err != nil {
		return err
	}
	return d.store.Put(ctx, d.bucket, name, r, size, objects.Attributes{
		ContentType: "application/octet-stream", ContentEncoding: d.format.ContentEncoding()})
}

// bodyMemory is how many bytes of an object are held in memory before they go to a file.
const bodyMemory = 8 << 20

// body collects an object's bytes: in memory, then in a file without a name.
type body struct {
	dir  string
	buf  bytes.Buffer
	file *os.File
	size int64
}

func (b *body) Write(p []byte) (int, error) {
	b.size += int64(len(p))
	if b.file == nil && b.buf.Len()+len(p) <= bodyMemory {
		return b.buf.Write(p)
	}
	if b.file == nil {
		f, err := os.CreateTemp(b.dir, "object-*")
		if err != nil {
			return 0, err
		}
		b.file = f
		if err := os.Remove(f.Name()); err != nil {
			return 0, err
		}
		if _, err := b.buf.WriteTo(f); err != nil {
			return 0, err
		}
	}
	return b.file.Write(p)
}

func (b *body) reader() (io.ReadSeeker, int64, error) {
	if b.file == nil {
		return bytes.NewReader(b.buf.Bytes()), b.size, nil
	}
	_, err := b.file.Seek(0, io.SeekStart)
	return b.file, b.size, err
}

func (b *body) close() {
	if b.file != nil {
		b.file.Close()
	}
}
