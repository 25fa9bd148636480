// Package keyfile keeps the access keys that clients sign their requests with. They stand in a YAML
// file, which only its owner may read:
//
//	keys:
//	  - access-key: AKIAIOSFODNN7EXAMPLE
//	    secret-key: env:KINESIS_SECRET       # or file:PATH, or the secret itself
//	    account: "123456789012"              # that the key's requests belong to
//	    regions: [eu-west-1, eu-central-1]   # may be left out: all regions
//	    session-token: file:token            # of temporary credentials only
//	    disabled: true                       # refused as if it were not there
//
// A File follows changes of its file and of the files that secrets are in: it looks at them when a
// key is looked up, at most once a second. A file that has become wrong is reported once and
// changes nothing: the keys from before stay good until the file is right again. So that no reader
// sees half of it, write a new file and rename it over the old one.
package keyfile

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/sigv4"
)

// Interval is the least time between two looks at the file.
const Interval = time.Second

// Events are told what becomes of the file after it was opened. Nil fields are skipped. They are
// called from Lookup and hold up the request that it is for.
type Events struct {
	Reloaded func(keys int)
	Failed   func(error) // the changed file is wrong; once a change
}

// File is an open key file. It implements sigv4.Keys and is safe for concurrent use.
type File struct {
	path    string
	environ []string
	events  Events
	opened  time.Time
	keys    atomic.Pointer[map[string]sigv4.Key]
	next    atomic.Int64 // when to look at the file again: a time.Duration since opened
	mu      sync.Mutex   // held by who looks
	seen    sources
}

var _ sigv4.Keys = (*File)(nil)

// Open reads the file at path. Variables that secrets name are looked up in environ, which is as
// os.Environ gives it. All faults are told at once, each with its line.
func Open(path string, environ []string, e Events) (*File, error) {
	f := &File{path: path, environ: environ, events: e, opened: time.Now()}
	f.seen = readSources(path, nil)
	keys, err := load(path, f.seen, environ)
	if err != nil {
		return nil, err
	}
	f.keys.Store(&keys)
	f.next.Store(int64(Interval))
	return f, nil
}

// Lookup finds a key by its access key.
func (f *File) Lookup(accessKey string) (sigv4.Key, bool) {
	if int64(time.Since(f.opened)) >= f.next.Load() && f.mu.TryLock() {
		f.look()
		f.next.Store(int64(time.Since(f.opened) + Interval))
		f.mu.Unlock()
	}
	key, found := (*f.keys.Load())[accessKey]
	return key, found
}

// look reloads the keys if a file has changed. The texts are compared and not their times: a file
// may change twice within what a file system's clock can tell.
func (f *File) look() {
	now := readSources(f.path, f.seen.secretPaths())
	if now.equal(f.seen) {
		return
	}
	keys, err := load(f.path, now, f.environ)
	f.seen = now
	if err != nil {
		if f.events.Failed != nil {
			f.events.Failed(errs.Wrap(errs.Invalid, err, "%s has changed and is wrong: the keys from before stay in use until it is right", f.path))
		}
		return
	}
	f.keys.Store(&keys)
	if f.events.Reloaded != nil {
		f.events.Reloaded(len(keys))
	}
}
