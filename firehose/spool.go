package firehose

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
)

// spoolMemory is how many bytes a spool keeps in memory before it goes to a file.
const spoolMemory = 4 << 20

// spool keeps records for as long as a batch is delivered: in memory while they are few, else in a
// file without a name, which is gone with the process.
type spool struct {
	dir     string
	buf     []byte
	file    *os.File
	w       *bufio.Writer
	records int
	bytes   int64
}

func (s *spool) add(data []byte) error {
	s.records++
	s.bytes += int64(len(data))
	var head [4]byte
	binary.LittleEndian.PutUint32(head[:], uint32(len(data)))
	if s.file == nil && len(s.buf)+len(data) > spoolMemory {
		if err := s.toFile(); err != nil {
			return err
		}
	}
	if s.file == nil {
		s.buf = append(append(s.buf, head[:]...), data...)
		return nil
	}
	if _, err := s.w.Write(head[:]); err != nil {
		return err
	}
	_, err := s.w.Write(data)
	return err
}

func (s *spool) toFile() error {
	f, err := os.CreateTemp(s.dir, "batch-*")
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return errors.Join(err, f.Close())
	}
	s.file, s.w = f, bufio.NewWriterSize(f, 256<<10)
	_, err = s.w.Write(s.buf)
	s.buf = nil
	return err
}

// each implements Batch.Each.
func (s *spool) each(ctx context.Context, fn func(data []byte) error) error {
	if s.file == nil {
		for rest := s.buf; len(rest) > 0; {
			n := 4 + binary.LittleEndian.Uint32(rest)
			if err := fn(rest[4:n]); err != nil {
				return err
			}
			rest = rest[n:]
		}
		return ctx.Err()
	}
	if err := s.w.Flush(); err != nil {
		return err
	}
	r := bufio.NewReaderSize(io.NewSectionReader(s.file, 0, 1<<62), 256<<10)
	var head [4]byte
	var data []byte
	for range s.records {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		n := int(binary.LittleEndian.Uint32(head[:]))
		if cap(data) < n {
			data = make([]byte, n)
		}
		if _, err := io.ReadFull(r, data[:n]); err != nil {
			return err
		}
		if err := fn(data[:n]); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (s *spool) close() {
	s.buf = nil
	if s.file != nil {
		s.file.Close()
	}
}
