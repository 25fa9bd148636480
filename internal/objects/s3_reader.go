package objects

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/shardmill/shardmill/internal/errs"
)

// s3Reader reads an object, with a request for each run of bytes.
type s3Reader struct {
	s      *S3
	ctx    context.Context
	bucket string
	info   Info
	body   io.ReadCloser // gives the byte at
	at     int64
	offset int64 // where the next Read reads
}

func (r *s3Reader) Read(p []byte) (int, error) {
	if r.offset >= r.info.Size {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.body == nil || r.at != r.offset {
		if err := r.reopen(); err != nil {
			return 0, err
		}
	}
	n, err := r.body.Read(p)
	r.at += int64(n)
	r.offset = r.at
	if errors.Is(err, io.EOF) {
		if r.offset >= r.info.Size || n > 0 {
			return n, nil
		}
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return n, errs.Wrap(errs.Unavailable, err, "the object %s of bucket %s broke off after %d of %d bytes", r.info.Key, r.bucket, r.offset, r.info.Size)
	}
	return n, nil
}

// reopen asks for the rest of the same object: If-Match fails if it was overwritten.
func (r *s3Reader) reopen() error {
	r.Close()
	header := http.Header{"Range": {fmt.Sprintf("bytes=%d-", r.offset)}}
	if r.info.ETag != "" {
		header.Set("If-Match", r.info.ETag)
	}
	resp, err := r.s.do(r.ctx, s3Request{op: "GetObject", method: http.MethodGet, bucket: r.bucket, key: r.info.Key, header: header})
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusPartialContent {
		resp.Body.Close()
		return errs.New(errs.Unavailable, "the S3 server %s does not serve parts of objects", r.s.endpoint.Host)
	}
	r.body, r.at = resp.Body, r.offset
	return nil
}

func (r *s3Reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.offset
	case io.SeekEnd:
		offset += r.info.Size
	}
	if offset < 0 {
		return 0, errs.New(errs.Invalid, "cannot seek before the start of the object %s", r.info.Key)
	}
	r.offset = offset
	return offset, nil
}

func (r *s3Reader) Close() error {
	if r.body == nil {
		return nil
	}
	err := r.body.Close()
	r.body = nil
	return err
}
