package compress

import (
	"archive/zip"
	"bytes"
	stdgzip "compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/snappy"

	"github.com/shardmill/shardmill/internal/errs"
)

var all = []Format{Uncompressed, Gzip, Zip, Snappy, HadoopSnappy}

func compressed(t testing.TB, f Format, pieces ...[]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out, f, "entry")
	for _, p := range pieces {
		if n, err := w.Write(p); n != len(p) || err != nil {
			t.Fatalf("%s: Write of %d bytes = %d, %v", f, len(p), n, err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatalf("%s: Close: %v", f, err)
	}
	return out.Bytes()
}

// read unpacks with readers that share no code with the writers, except for raw Snappy blocks.
func read(f Format, b []byte) ([]byte, error) {
	switch f {
	case Gzip:
		r, err := stdgzip.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	case Zip:
		z, err := zip.NewReader(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return nil, err
		}
		if len(z.File) != 1 || z.File[0].Name != "entry" || z.File[0].Method != zip.Deflate {
			return nil, fmt.Errorf("entries %+v, want one deflated entry", z.File)
		}
		r, err := z.File[0].Open()
		if err != nil {
			return nil, err
		}
		return io.ReadAll(r)
	case Snappy:
		return readXerial(b)
	case HadoopSnappy:
		return readHadoop(b)
	}
	return b, nil
}

func readXerial(b []byte) (out []byte, err error) {
	header, _ := hex.DecodeString("82534e4150505900" + "00000001" + "00000001")
	if !bytes.HasPrefix(b, header) {
		return nil, errors.New("no snappy-java header")
	}
	for b = b[len(header):]; len(b) > 0; {
		var block []byte
		if block, b, err = chunk(b); err != nil {
			return nil, err
		}
		raw, err := snappy.Decode(nil, block)
		if err != nil {
			return nil, err
		}
		if len(raw) == 0 || len(raw) > 32<<10 {
			return nil, fmt.Errorf("a block of %d bytes", len(raw))
		}
		out = append(out, raw...)
	}
	return out, nil
}

func readHadoop(b []byte) (out []byte, err error) {
	for len(b) > 0 {
		if len(b) < 4 {
			return nil, io.ErrUnexpectedEOF
		}
		left := int(binary.BigEndian.Uint32(b))
		b = b[4:]
		if left == 0 || left > 256<<10 {
			return nil, fmt.Errorf("a block of %d bytes", left)
		}
		for left > 0 {
			var block []byte
			if block, b, err = chunk(b); err != nil {
				return nil, err
			}
			if len(block) > 256<<10 {
				return nil, fmt.Errorf("a chunk of %d bytes overflows Hadoop's buffer", len(block))
			}
			raw, err := snappy.Decode(nil, block)
			if err != nil {
				return nil, err
			}
			left -= len(raw)
			out = append(out, raw...)
		}
		if left < 0 {
			return nil, errors.New("chunks exceed their block")
		}
	}
	return out, nil
}

func chunk(b []byte) (block, rest []byte, err error) {
	if len(b) < 4 || uint64(len(b)-4) < uint64(binary.BigEndian.Uint32(b)) {
		return nil, nil, io.ErrUnexpectedEOF
	}
	n := binary.BigEndian.Uint32(b)
	return b[4 : 4+n], b[4+n:], nil
}

// records is JSON of about n bytes, noise is n bytes that do not compress.
func records(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, `{"id":%d,"customer":"c-%04d","amount":%d.%02d,"status":%q,"note":%q}`+"\n",
			i, r.IntN(1000), r.IntN(500), r.IntN(100), []string{"new", "paid", "shipped"}[r.IntN(3)], strings.Repeat("lorem ipsum ", r.IntN(8)))
	}
	return b.Bytes()
}

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(3, 4))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	inputs := map[string][]byte{
		"nothing":                 nil,
		"one byte":                {'x'},
		"one xerial block":        noise(xerialBlock),
		"xerial block and a byte": noise(xerialBlock + 1),
		"one hadoop block":        noise(hadoopBlock),
		"hadoop block and a byte": noise(hadoopBlock + 1),
		"1 MiB of records":        records(1 << 20),
		"1 MiB of noise":          noise(1 << 20),
		"1 MiB of zeros":          make([]byte, 1<<20),
	}
	for name, in := range inputs {
		for _, f := range all {
			got, err := read(f, compressed(t, f, in))
			if err != nil || !bytes.Equal(got, in) {
				t.Errorf("%s as %s: %d bytes came back as %d, %v", name, f, len(in), len(got), err)
			}
		}
	}
}

func TestBytesDoNotDependOnThePiecesOrOnFormerUse(t *testing.T) {
	in := records(300 << 10)
	var pieces [][]byte
	for rest, i := in, 1; len(rest) > 0; i++ {
		n := min(len(rest), i*37%5000+1)
		pieces = append(pieces, rest[:n])
		rest = rest[n:]
	}
	for _, f := range all {
		whole := compressed(t, f, in)
		compressed(t, f, noise(100<<10)) // leaves its traces in the pooled writer
		if !bytes.Equal(whole, compressed(t, f, pieces...)) {
			t.Errorf("%s: other bytes for the same content in %d pieces", f, len(pieces))
		}
	}
}

func TestFraming(t *testing.T) {
	tests := []struct {
		f    Format
		in   string
		want string // hex of the object's start
	}{
		{Uncompressed, "abc", "616263"},
		{Gzip, "abc", "1f8b" + "08" + "00" + "00000000"}, // deflate, no flags (no name), no time
		{Zip, "abc", "504b0304"},
		{Snappy, "", "82534e4150505900" + "00000001" + "00000001"},
		{Snappy, "abc", "82534e4150505900" + "00000001" + "00000001" + "00000005" + "0308616263"},
		{HadoopSnappy, "", ""},
		{HadoopSnappy, "abc", "00000003" + "00000005" + "0308616263"},
	}
	for _, tt := range tests {
		got := hex.EncodeToString(compressed(t, tt.f, []byte(tt.in)))
		if !strings.HasPrefix(got, tt.want) || tt.f != Gzip && tt.f != Zip && got != tt.want {
			t.Errorf("%s of %q = %s, want %s", tt.f, tt.in, got, tt.want)
		}
	}
}

func TestFormatsHaveTheirNames(t *testing.T) {
	want := map[string][2]string{
		"UNCOMPRESSED": {"", ""}, "GZIP": {".gz", "gzip"}, "ZIP": {".zip", "zip"},
		"Snappy": {".snappy", "snappy-java"}, "HADOOP_SNAPPY": {".snappy", "hadoop-snappy"},
	}
	for name, w := range want {
		f, err := ParseFormat(name)
		if err != nil || f.String() != name || f.Extension() != w[0] || f.ContentEncoding() != w[1] {
			t.Errorf("%s: %s %q %q, %v", name, f, f.Extension(), f.ContentEncoding(), err)
		}
	}
	if len(want) != len(all) {
		t.Errorf("%d formats are tested, there are %d", len(want), len(all))
	}
	for _, name := range []string{"", "gzip", "SNAPPY", "Hadoop_Snappy", "ZSTD"} {
		if f, err := ParseFormat(name); !errs.Is(err, errs.Invalid) {
			t.Errorf("ParseFormat(%q) = %s, %v, want Invalid", name, f, err)
		}
	}
}

// full takes room bytes and then fails, as a disk does.
type full struct{ room int }

var errFull = errors.New("no space left")

func (f *full) Write(p []byte) (int, error) {
	if len(p) > f.room {
		n := f.room
		f.room = 0
		return n, errFull
	}
	f.room -= len(p)
	return len(p), nil
}

func TestAnErrorBelowReachesTheCaller(t *testing.T) {
	in := noise(1 << 20)
	for _, f := range all {
		w := NewWriter(&full{room: 1000}, f, "entry")
		_, err := w.Write(in)
		if err == nil {
			err = w.Close()
		}
		if !errors.Is(err, errFull) {
			t.Errorf("%s into 1000 bytes: %v", f, err)
		}
		w.Close()
		if got, err := read(f, compressed(t, f, in)); err != nil || !bytes.Equal(got, in) {
			t.Errorf("%s: the writer after a failed one: %v", f, err)
		}
	}
}

func TestZipNameThatCannotBe(t *testing.T) {
	w := NewWriter(io.Discard, Zip, strings.Repeat("n", 1<<16))
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("Write under a name of 65,536 bytes succeeded")
	}
	if err := w.Close(); err == nil {
		t.Error("Close under a name of 65,536 bytes succeeded")
	}
}

func TestClosedWriters(t *testing.T) {
	for _, f := range all {
		var out bytes.Buffer
		w := NewWriter(&out, f, "entry")
		if err := w.Close(); err != nil {
			t.Errorf("%s: %v", f, err)
		}
		size := out.Len()
		if _, err := w.Write([]byte("x")); err == nil {
			t.Errorf("%s: Write after Close succeeded", f)
		}
		if err := w.Close(); err != nil || out.Len() != size {
			t.Errorf("%s: the second Close wrote %d bytes, %v", f, out.Len()-size, err)
		}
	}
}

func TestWritersDoNotShareState(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 8 {
		in := records(50<<10 + i*1000)
		for _, f := range all {
			wg.Go(func() {
				if got, err := read(f, compressed(t, f, in)); err != nil || !bytes.Equal(got, in) {
					t.Errorf("%s: %v", f, err)
				}
			})
		}
	}
	wg.Wait()
}

func TestPythonReadsGzipAndZip(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed; it is the second reader of GZIP and ZIP")
	}
	in := records(200 << 10)
	for f, script := range map[Format]string{
		Gzip: `import sys,gzip; sys.stdout.buffer.write(gzip.decompress(sys.stdin.buffer.read()))`,
		Zip:  `import sys,io,zipfile; z=zipfile.ZipFile(io.BytesIO(sys.stdin.buffer.read())); assert z.testzip() is None; assert z.infolist()[0].date_time==(1980,1,1,0,0,0); sys.stdout.buffer.write(z.read("entry"))`,
	} {
		cmd := exec.Command(python, "-c", script)
		cmd.Stdin = bytes.NewReader(compressed(t, f, in))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		got, err := cmd.Output()
		if err != nil || !bytes.Equal(got, in) {
			t.Errorf("%s: %d bytes of %d, %v %s", f, len(got), len(in), err, stderr.Bytes())
		}
	}
}

// BenchmarkFormats compares with the standard library's gzip at the same level.
func BenchmarkFormats(b *testing.B) {
	in := records(5 << 20)
	run := func(name string, open func(io.Writer) io.WriteCloser) {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(in)))
			b.ReportAllocs()
			var out bytes.Buffer
			for b.Loop() {
				out.Reset()
				w := open(&out)
				w.Write(in)
				w.Close()
			}
			b.ReportMetric(float64(len(in))/float64(out.Len()), "ratio")
		})
	}
	for _, f := range all {
		run(f.String(), func(w io.Writer) io.WriteCloser { return NewWriter(w, f, "entry") })
	}
	run("std-gzip-1", func(w io.Writer) io.WriteCloser { return must(stdgzip.NewWriterLevel(w, level)) })
	run("klauspost-gzip-5", func(w io.Writer) io.WriteCloser { return must(gzip.NewWriterLevel(w, 5)) })
}
