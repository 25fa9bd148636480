// Package objects keeps objects in buckets, either as plain files below a folder of this machine
// or on any server that speaks S3.
//
// A bucket is made by the first Put into it. Keys are S3's: up to 1,024 bytes of UTF-8, slashes
// are only a convention. Put replaces the whole object or leaves the old one: a reader never
// sees half of an object, and an object that Put has acknowledged survives a power cut (folder)
// or is wherever the server put it (S3). That is what lets a delivery be repeated under the same
// key without doubling anything.
package objects

import (
	"context"
	"io"
	"time"
)

// Store keeps objects. Implementations: Dir (files) and S3 (a client). Both pass the suite of
// objectstest. Errors are of package errs: NotFound for a bucket or key that is not there,
// Invalid for a name that cannot be, Denied when the server refuses the credentials, Unavailable
// when it is out of reach or answers 5xx (worth a retry).
type Store interface {
	// Put stores the first size bytes of body under key. It returns nil only when they are
	// durable. Body is read from the start, and from the start again if a request has to be
	// repeated; a body of fewer bytes is Invalid and leaves the old object as it was.
	Put(ctx context.Context, bucket, key string, body io.ReadSeeker, size int64, m Attributes) error
	// Get opens an object. The caller closes it. What it reads is one object from its first byte
	// to its last, even if the key is overwritten meanwhile: a far server that no longer has the
	// rest makes the read fail.
	Get(ctx context.Context, bucket, key string) (io.ReadSeekCloser, Info, error)
	// List returns up to max objects of the bucket whose keys start with prefix and come after
	// the key after, in byte order of keys. Fewer than max means that there are no more. The
	// Attributes of a listed object are left empty.
	List(ctx context.Context, bucket, prefix, after string, max int) ([]Info, error)
	// Buckets lists all buckets by name.
	Buckets(ctx context.Context) ([]Bucket, error)
	// Delete removes an object; one that is not there, or whose bucket is not, is no error.
	Delete(ctx context.Context, bucket, key string) error
}

// Attributes are what an object carries beside its bytes. They travel as HTTP headers, so values
// are visible ASCII and blanks, with no blank at either end; User may be 2,048 bytes in all,
// names and values together.
type Attributes struct {
	ContentType     string            // "" is application/octet-stream
	ContentEncoding string            // e.g. "gzip"; "" for none
	User            map[string]string // x-amz-meta-*; names in lower case
}

// Info describes a stored object.
type Info struct {
	Key      string
	Size     int64
	Modified time.Time
	ETag     string // quoted; the body's MD5 for objects written by one request. Empty where it would cost a read
	Attributes
}

// Bucket is a bucket's name and age.
type Bucket struct {
	Name    string
	Created time.Time
}
