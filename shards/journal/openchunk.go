package journal

import (
	"fmt"
	"io"

	"github.com/shardmill/shardmill/internal/errs"
)

// readIndex reads the rows of a chunk, which is all that Open reads of it. what says what is wrong
// with the chunk; err is a failure to read it, or a chunk of another store.
func (s *Store) readIndex(id volumeID) (rows []row, f footer, what string, err error) {
	path := s.path(id)
	file, err := s.fs.Open(path)
	if err != nil {
		return nil, f, "", err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, f, "", err
	}
	size := info.Size()
	if size < chunkHeader+chunkFooter {
		return nil, f, fmt.Sprintf("it has %d bytes", size), nil
	}
	head := make([]byte, chunkHeader)
	tail := make([]byte, min(size-chunkHeader, 64<<10)) // most often the whole index with the footer
	if err := readFull(file, head, 0); err != nil {
		return nil, f, "", err
	}
	if err := readFull(file, tail, size-int64(len(tail))); err != nil {
		return nil, f, "", err
	}
	storeID, hid, ok := decodeChunkHeader(head)
	if ok && storeID != s.storeID {
		return nil, f, "", errs.New(errs.Invalid, "%s belongs to another store than %s: two data folders were mixed up", path, s.dir)
	}
	if !ok || hid != id {
		return nil, f, "its header fails the checksum, or is that of another chunk", nil
	}
	sd := seed(s.storeID, id.number)
	if f, what = decodeFooter(tail[len(tail)-chunkFooter:], size, sd, id); what != "" {
		return nil, f, what, nil
	}
	index := int(f.rows) * rowSize
	if index+chunkFooter > len(tail) {
		tail = make([]byte, index+chunkFooter)
		if err := readFull(file, tail, int64(f.indexOff)); err != nil {
			return nil, f, "", err
		}
	}
	rows, what = decodeIndex(tail[len(tail)-chunkFooter-index:len(tail)-chunkFooter], &f, sd)
	return rows, f, what, nil
}

// readFull reads len(b) bytes.
func readFull(r io.ReaderAt, b []byte, off int64) error {
	if n, err := r.ReadAt(b, off); err != nil && !(err == io.EOF && n == len(b)) {
		return err
	}
	return nil
}
