package compress

import (
	"encoding/binary"
	"io"
	"sync"

	"github.com/klauspost/compress/s2"
)

// Both Snappy formats are a series of blocks that are compressed on their own; all numbers are
// 32-bit big-endian.
//
//	Snappy (snappy-java, "xerial"): the magic 82 53 4E 41 50 50 59 00, the version 1, the lowest
//	compatible version 1, then for each block the compressed length and a raw Snappy block.
//
//	HADOOP_SNAPPY: for each block the uncompressed length, then chunks that add up to it: the
//	compressed length and a raw Snappy block. Here every block has one chunk.
//
// An empty object is the xerial header alone, and no bytes at all for Hadoop.
const (
	xerialHeader = "\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01"
	xerialBlock  = 32 << 10

	// hadoopBlock lets a block that does not compress at all still fit into the 256 KiB buffer
	// that Hadoop's decompressor has for the compressed side.
	hadoopBuffer = 256 << 10
	hadoopBlock  = hadoopBuffer - hadoopBuffer/6 - 32
)

// blockWriter collects bytes into blocks and writes each with its lengths.
type blockWriter struct {
	to     io.Writer
	header string // written before the first block, or at the end when there is none
	hadoop bool   // the uncompressed length goes before the compressed one
	block  int    // bytes of a full block
	buf    []byte // the block being filled
	out    []byte
	err    error
}

// blockWriters keeps the buffers, up to 600 KB for Hadoop's blocks.
var blockWriters = sync.Pool{New: func() any { return new(blockWriter) }}

func newXerial(w io.Writer) io.WriteCloser {
	return newBlocks(blockWriter{to: w, header: xerialHeader, block: xerialBlock})
}

func newHadoop(w io.Writer) io.WriteCloser {
	return newBlocks(blockWriter{to: w, hadoop: true, block: hadoopBlock})
}

func newBlocks(start blockWriter) io.WriteCloser {
	b := blockWriters.Get().(*blockWriter)
	start.buf, start.out = b.buf[:0], b.out
	*b = start
	return &writer{b, func() error {
		b.flush()
		err := b.err
		b.to = nil
		blockWriters.Put(b)
		return err
	}}
}

func (b *blockWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 && b.err == nil {
		take := min(len(p), b.block-len(b.buf))
		b.buf = append(b.buf, p[:take]...)
		p, n = p[take:], n+take
		if len(b.buf) == b.block {
			b.flush()
		}
	}
	return n, b.err
}

// flush writes what was collected, and the header if it is still due.
func (b *blockWriter) flush() {
	if b.err != nil {
		return
	}
	out := append(b.out[:0], b.header...)
	b.header = ""
	if len(b.buf) > 0 {
		if b.hadoop {
			out = binary.BigEndian.AppendUint32(out, uint32(len(b.buf)))
		}
		at := len(out) + 4
		if need := at + s2.MaxEncodedLen(len(b.buf)); cap(out) < need {
			out = append(make([]byte, 0, need), out...)
		}
		block := s2.EncodeSnappy(out[at:cap(out)], b.buf)
		out = binary.BigEndian.AppendUint32(out, uint32(len(block)))
		out = out[:at+len(block)]
	}
	b.out, b.buf = out, b.buf[:0]
	if len(out) > 0 {
		_, b.err = b.to.Write(out)
	}
}
