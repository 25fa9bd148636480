package awsapi

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// Buffers for bodies and answers are kept in classes of one size each, so that a large body never
// meets a buffer that was left behind by a small answer, and a subscription of five minutes does not
// hold what a batch needs. What is between two classes takes the larger one: no page of it that is
// not written to costs memory.
var classes = [...]struct {
	size int
	pool *sync.Pool
}{{4 << 10, new(sync.Pool)}, {64 << 10, new(sync.Pool)}, {256 << 10, new(sync.Pool)}, {1 << 20, new(sync.Pool)}, {4 << 20, new(sync.Pool)}, {maxBody, new(sync.Pool)}}

// takeBuffer returns an empty buffer with room for size bytes.
func takeBuffer(size int) []byte {
	for _, c := range classes {
		if size <= c.size {
			if b, ok := c.pool.Get().(*[]byte); ok {
				return *b
			}
			return make([]byte, 0, c.size)
		}
	}
	return make([]byte, 0, size)
}

// putBuffer gives a buffer back, after which nobody may hold any part of it. Buffers that are of no
// class are left to the collector.
func putBuffer(b []byte) {
	for _, c := range classes {
		if cap(b) == c.size {
			b = b[:0]
			c.pool.Put(&b)
		}
	}
}

// Room returns dst, or if it has no room for n more bytes a larger buffer with the same content. It
// is for operations that are Raw and know how long their answer will be.
func Room(dst []byte, n int) []byte {
	if cap(dst)-len(dst) >= n {
		return dst
	}
	return append(takeBuffer(len(dst)+n), dst...)
}

// readBody reads the request's body. If that fails it has written the complaint and returns false.
// The buffer is the caller's in any case.
func readBody(w http.ResponseWriter, r *http.Request) (body []byte, ok bool) {
	if r.ContentLength > maxBody {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return nil, false
	}
	var err error
	if n := r.ContentLength; n >= 0 {
		body = takeBuffer(int(n))[:n]
		_, err = io.ReadFull(r.Body, body)
	} else {
		body, err = readAll(http.MaxBytesReader(w, r.Body, maxBody))
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	case err != nil:
		writeError(w, http.StatusBadRequest, "SerializationException", "")
	}
	return body, err == nil
}

// readAll reads a body whose length is not known into larger and larger buffers.
func readAll(r io.Reader) ([]byte, error) {
	body := takeBuffer(0)
	for {
		n, err := r.Read(body[len(body):cap(body)])
		body = body[:len(body)+n]
		if err == io.EOF {
			return body, nil
		}
		if err != nil {
			return body, err
		}
		if len(body) == cap(body) {
			small := body
			body = Room(small, 1)
			putBuffer(small)
		}
	}
}
