// Package compress writes the bodies of objects in the compression formats of Firehose.
//
// A Format is named as the API names it. Its writers are deterministic: the same bytes, written
// in whatever pieces, give the same object, because a delivery that is repeated after a crash
// must overwrite its object with itself. Hence no clock, host name or random number gets into an
// archive, and the compression level is fixed at 1, which takes about 60 % of the time of level 5
// for some 12 % more bytes on JSON records. A new version of the compression library may give
// other bytes for the same content.
//
//	format          extension  Content-Encoding  framing
//	UNCOMPRESSED    -          -                 none
//	GZIP            .gz        gzip              one member, no name, no time
//	ZIP             .zip       zip               one deflated entry
//	Snappy          .snappy    snappy-java       snappy-java's stream; see snappy.go
//	HADOOP_SNAPPY   .snappy    hadoop-snappy     Hadoop's block codec; see snappy.go
//
// Neither of the Snappy formats is Snappy's own framing format.
package compress

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/gzip"

	"github.com/shardmill/shardmill/internal/errs"
)

// Format is a compression format. The zero value is Uncompressed.
type Format uint8

const (
	Uncompressed Format = iota
	Gzip
	Zip
	Snappy
	HadoopSnappy
)

// formats describes each Format: its name in the API, extension and Content-Encoding.
var formats = [...]struct{ name, extension, encoding string }{
	Uncompressed: {"UNCOMPRESSED", "", ""},
	Gzip:         {"GZIP", ".gz", "gzip"},
	Zip:          {"ZIP", ".zip", "zip"},
	Snappy:       {"Snappy", ".snappy", "snappy-java"},
	HadoopSnappy: {"HADOOP_SNAPPY", ".snappy", "hadoop-snappy"},
}

// ParseFormat finds the format that the API calls name. Case matters, and an empty name is none:
// whether an absent member means UNCOMPRESSED is the caller's business.
func ParseFormat(name string) (Format, error) {
	for f, d := range formats {
		if d.name == name {
			return Format(f), nil
		}
	}
	return 0, errs.New(errs.Invalid, "CompressionFormat %q is unknown; use UNCOMPRESSED, GZIP, ZIP, Snappy or HADOOP_SNAPPY", name)
}

// String is the format's name in the API.
func (f Format) String() string {
	if int(f) < len(formats) {
		return formats[f].name
	}
	return fmt.Sprintf("Format(%d)", uint8(f))
}

// Extension is what the format appends to an object's key, "" for Uncompressed.
func (f Format) Extension() string { return formats[f].extension }

// ContentEncoding is the object's Content-Encoding, "" for none.
func (f Format) ContentEncoding() string { return formats[f].encoding }

// NewWriter returns a writer that compresses into w. Close completes the object and gives the
// writer's memory to the next one; it does not close w. A writer that is dropped without Close
// costs only that memory. After Close every Write fails. The writer is for one goroutine.
//
// The entryName names the file inside a ZIP, a relative path with slashes; other formats have no
// use for it. A Format that is none of the constants panics.
func NewWriter(w io.Writer, f Format, entryName string) io.WriteCloser {
	switch f {
	case Uncompressed:
		return &writer{to: w}
	case Gzip:
		return newGzip(w)
	case Zip:
		return newZip(w, entryName)
	case Snappy:
		return newXerial(w)
	case HadoopSnappy:
		return newHadoop(w)
	}
	panic("compress: NewWriter of the unknown " + f.String())
}

const level = 1

var errClosed = errors.New("compress: write to a closed writer")

// writer is an io.WriteCloser that ends with finish, once.
type writer struct {
	to     io.Writer // nil once closed
	finish func() error
}

func (w *writer) Write(p []byte) (int, error) {
	if w.to == nil {
		return 0, errClosed
	}
	return w.to.Write(p)
}

func (w *writer) Close() error {
	if w.to == nil {
		return nil
	}
	w.to = nil
	if w.finish == nil {
		return nil
	}
	return w.finish()
}

// The pools keep what is costly to make: a deflate writer has about 600 KB of tables. They hold
// nothing that could reach the output, since every user resets what it takes.
var (
	gzipWriters  = sync.Pool{New: func() any { return must(gzip.NewWriterLevel(io.Discard, level)) }}
	flateWriters = sync.Pool{New: func() any { return must(flate.NewWriter(io.Discard, level)) }}
)

// must is for constructors that fail only on a level that does not exist.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func newGzip(w io.Writer) io.WriteCloser {
	g := gzipWriters.Get().(*gzip.Writer)
	g.Reset(w) // clears the header
	// The header's zero time would become a date in 2042; the format's own "no time" is 0.
	g.ModTime = time.Unix(0, 0)
	return &writer{g, func() error {
		err := g.Close()
		g.Reset(io.Discard)
		gzipWriters.Put(g)
		return err
	}}
}

// newZip starts an archive with one entry. Its time is the first that ZIP can express.
func newZip(w io.Writer, name string) io.WriteCloser {
	z := zip.NewWriter(w)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) {
		d := flateWriters.Get().(*flate.Writer)
		d.Reset(w)
		return &writer{d, func() error {
			err := d.Close()
			d.Reset(io.Discard)
			flateWriters.Put(d)
			return err
		}}, nil
	})
	entry, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: time.Date(1980, 1, 1, 0, 0, 0, 0, time.UTC)})
	if err != nil {
		entry = failed{err}
	}
	return &writer{entry, func() error {
		if err != nil {
			return err
		}
		return z.Close()
	}}
}

// failed is a writer that could not be started.
type failed struct{ err error }

func (f failed) Write([]byte) (int, error) { return 0, f.err }
