// Package localkms keeps the keys that streams are encrypted with. It stands where AWS has its Key
// Management Service, for one service of one host: it has no API of its own.
//
// A key has a name in an account and a region: a key id or an alias (ids.go has the forms in which
// requests write them). Whatever name is well-formed is a key: the first use makes it, with 256
// random bits of its own, in a file of its own (store.go). An alias is a key, not a pointer to one,
// and alias/aws/kinesis is one like any other. Nothing here deletes a key: whoever removes its file
// has given up the records that it sealed.
//
// Users see a key by its name, records by its number: 32 random bits, never zero, and never given
// to two keys of one folder, not even after one of them was removed by hand.
//
// Since nothing ever goes wrong with such keys, a file of states (states.go) can say that something
// does: that a key is disabled, denied, missing and so on, so that programs can be tried against it.
package localkms

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
)

// secretSize is the size of a key's secret, in bytes.
const secretSize = 32

// Options configure Open.
type Options struct {
	FS     vfs.FS // default: the machine's
	States string // file of states; "" is none
	Events Events
}

// Events are told what becomes of the file of states after Open. Nil fields are skipped.
type Events struct {
	Reloaded func(keys int)
	Failed   func(error) // the changed file is wrong; once a change
}

// Service is the keys of a folder.
type Service struct {
	fs     vfs.FS
	dir    string
	states *states // nil: every key is enabled

	mu       sync.RWMutex
	byName   map[name]*key
	byNumber map[uint32]*key
	half     map[name]*key // whose writing failed: tried again, so that a name never gets two files
}

type key struct {
	name    name
	number  uint32
	secret  []byte
	created time.Time
}

// Open reads the keys in dir, which is made if it is not there.
func Open(dir string, o Options) (*Service, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	s := &Service{fs: o.FS, dir: dir, byName: make(map[name]*key), byNumber: make(map[uint32]*key), half: make(map[name]*key)}
	if err := s.load(); err != nil {
		return nil, err
	}
	if o.States != "" {
		var err error
		if s.states, err = openStates(o.States, o.Events); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Number is the number of the key that id names in an account and region. A key that was not named
// before is made if create is set; else its number is 0. The error is of a kind errs.Key… if the
// key cannot be had, errs.Unavailable if it cannot be kept.
func (s *Service) Number(account, region, id string, create bool) (uint32, error) {
	n, err := parseID(account, region, id)
	if err != nil {
		return 0, err
	}
	s.mu.RLock()
	k := s.byName[n]
	s.mu.RUnlock()
	if k != nil {
		return k.number, nil
	}
	if err := s.states.of(n); err != nil { // a key that is marked as missing must not be made
		return 0, err
	}
	if !create {
		return 0, nil
	}
	return s.make(n)
}

func (s *Service) make(n name) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k := s.byName[n]; k != nil {
		return k.number, nil
	}
	k := s.half[n]
	if k == nil {
		k = s.newKey(n)
	}
	if err := s.write(k); err != nil {
		s.half[n] = k
		return 0, errs.Wrap(errs.Unavailable, err, "key %s cannot be written to %s", n, s.dir)
	}
	delete(s.half, n)
	s.byName[n], s.byNumber[k.number] = k, k
	return k.number, nil
}

func (s *Service) newKey(n name) *key {
	k := &key{name: n, secret: make([]byte, secretSize), created: time.Now().UTC()}
	rand.Read(k.secret)
	for k.number == 0 || s.byNumber[k.number] != nil {
		var b [4]byte
		rand.Read(b[:])
		k.number = binary.BigEndian.Uint32(b[:])
	}
	return k
}

func (s *Service) find(number uint32) (*key, error) {
	s.mu.RLock()
	k := s.byNumber[number]
	s.mu.RUnlock()
	if k == nil {
		return nil, errs.New(errs.KeyMissing, "The key with the number %08x is not there: its file %s is missing from the folder of keys.", number, fileName(number))
	}
	return k, s.states.of(k.name)
}

// Usable is nil if the key may be used now, else an error of a kind errs.Key….
func (s *Service) Usable(number uint32) error {
	_, err := s.find(number)
	return err
}

// Derive makes 32 bytes of a key and of info, the same ones each time: HKDF with SHA-256, without
// salt. Whoever has them learns nothing about the key or what is derived for another info.
func (s *Service) Derive(number uint32, info string) ([]byte, error) {
	k, err := s.find(number)
	if err != nil {
		return nil, err
	}
	return hkdf.Key(sha256.New, k.secret, nil, info, secretSize)
}
