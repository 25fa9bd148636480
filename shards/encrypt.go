package shards

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"sync"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

// Encryption. A record that is put while its stream has a key is encrypted before it goes to the log
// and decrypted when it is read; between the two, everything sees only what the log keeps. Each
// encrypted record carries the number of its key, so that it stays readable when the stream's
// encryption is stopped or gets another key. docs/formats/keys.md has the bytes.

// Encrypted is the flag of a record whose data are encrypted. Records that Read gives back have it
// still, and their data are plain.
const Encrypted uint8 = 2

// Keys are the keys that streams are encrypted with.
type Keys interface {
	// Number is the number of the key that id names in an account and region; never 0. A key that
	// was not named before is made, durably, if create is set; else its number is 0.
	Number(account, region, id string, create bool) (uint32, error)
	// Usable is nil if the key may be used now. It is asked for every call that needs the key.
	Usable(number uint32) error
	// Derive makes 32 secret bytes of a key and info, the same ones each time.
	Derive(number uint32, info string) ([]byte, error)
}

const (
	cipherFormat   = 1
	cipherHeader   = 1 + 4 + 4 // format, key, hour
	nonceSize      = 12
	tagSize        = 16
	cipherOverhead = cipherHeader + nonceSize + tagSize

	scratchMost = 2 << 20 // larger buffers are left to the collector
	ciphersMost = 4096    // of about 600 bytes
)

// StartEncryption encrypts what is put from now on with the key that id names. Puts under way may
// still end up as they were begun.
func (ss *Streams) StartEncryption(ctx context.Context, s *Stream, id string) error {
	if ss.options.Keys == nil {
		return noKeys()
	}
	number, err := ss.options.Keys.Number(s.Account, s.Region, id, true)
	if err == nil {
		err = ss.options.Keys.Usable(number)
	}
	if err != nil {
		return err
	}
	return ss.UpdateSlowly(ctx, s, func(a *Attributes) error {
		a.KeyID, a.Key = id, number
		return nil
	})
}

// StopEncryption stores what is put from now on as it is. id must name the stream's key; for a
// stream without one there is nothing to stop, and no error.
func (ss *Streams) StopEncryption(ctx context.Context, s *Stream, id string) error {
	return ss.UpdateSlowly(ctx, s, func(a *Attributes) error {
		if a.Key == 0 || a.KeyID == id {
			a.KeyID, a.Key = "", 0
			return nil
		}
		if ss.options.Keys == nil {
			return noKeys()
		}
		number, err := ss.options.Keys.Number(s.Account, s.Region, id, false)
		if number != a.Key { // a key that is marked as unusable can be named in the way it was given
			return errs.Wrap(errs.Invalid, err, "Stream %s under account %s is encrypted with key %s, not with %s.", s.Name, s.Account, a.KeyID, id)
		}
		a.KeyID, a.Key = "", 0
		return nil
	})
}

func noKeys() error {
	return errs.New(errs.KeyOptIn, "This host was started without keys, and the stream is encrypted or is to be.")
}

// cipherID says what an AES key is for.
type cipherID struct {
	key    uint32
	stream uint64
	hour   uint32
}

// ciphers remembers AES keys; it holds nothing that could not be derived again.
type ciphers struct {
	keys Keys
	mu   sync.RWMutex
	all  map[cipherID]cipher.AEAD
}

func (c *ciphers) get(id cipherID) (cipher.AEAD, error) {
	c.mu.RLock()
	aead := c.all[id]
	c.mu.RUnlock()
	if aead != nil {
		return aead, nil
	}
	info := binary.BigEndian.AppendUint64([]byte("shardmill record 1"), id.stream)
	secret, err := c.keys.Derive(id.key, string(binary.BigEndian.AppendUint32(info, id.hour)))
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	if aead, err = cipher.NewGCM(block); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil || len(c.all) >= ciphersMost {
		c.all = make(map[cipherID]cipher.AEAD)
	}
	c.all[id] = aead
	return aead, nil
}

// additional appends what an encrypted record is bound to.
func additional(dst []byte, id ShardID, flags uint8, key []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(id))
	return append(append(dst, flags), key...)
}

// encrypt replaces the data of a put's entries if the stream has a key. The memory is the scratch's.
func (s *Stream) encrypt(w *scratch) error {
	key := s.Attributes().Key
	if key == 0 {
		return nil
	}
	if s.owner.options.Keys == nil {
		return noKeys()
	}
	if err := s.owner.options.Keys.Usable(key); err != nil {
		return err
	}
	hour := uint32(time.Now().Unix() / 3600)
	aead, err := s.owner.ciphers.get(cipherID{key, s.ID, hour})
	if err != nil {
		return err
	}
	size := 0
	for i := range w.entries {
		size += len(w.entries[i].Data) + cipherOverhead
	}
	buf := w.cipher[:0]
	if cap(buf) < size {
		buf = make([]byte, 0, size)
	}
	nonces := make([]byte, nonceSize*len(w.entries))
	rand.Read(nonces)
	var bound [8 + 1 + 1024]byte // a key has 1,024 bytes at most
	for _, run := range w.runs {
		for i := range run.Entries {
			e := &run.Entries[i]
			e.Flags |= Encrypted
			from := len(buf)
			buf = binary.BigEndian.AppendUint32(append(buf, cipherFormat), key)
			buf = append(binary.BigEndian.AppendUint32(buf, hour), nonces[:nonceSize]...)
			buf = aead.Seal(buf, nonces[:nonceSize], e.Data, additional(bound[:0], run.Shard, e.Flags, e.Key))
			e.Data, nonces = buf[from:], nonces[nonceSize:]
		}
	}
	if w.cipher = buf; cap(buf) > scratchMost {
		w.cipher = nil
	}
	return nil
}

// decrypt makes records that were read from a shard's log plain.
func (s *Stream) decrypt(sh *Shard, recs []Record) error {
	size := 0
	for i := range recs {
		if recs[i].Flags&Encrypted != 0 {
			size += dataSize(recs[i].Flags, recs[i].Data)
		}
	}
	var buf []byte
	var last cipherID // of the record before: most often the same
	var aead cipher.AEAD
	var bound [8 + 1 + 1024]byte
	for i := range recs {
		r := &recs[i]
		if r.Flags&Encrypted == 0 {
			continue
		}
		id, err := s.encryptedBy(sh, r)
		if err != nil {
			return err
		}
		if id.key != last.key {
			if err := s.owner.options.Keys.Usable(id.key); err != nil {
				return err
			}
		}
		if id != last {
			if aead, err = s.owner.ciphers.get(id); err != nil {
				return err
			}
			last = id
		}
		if buf == nil {
			buf = make([]byte, 0, size)
		}
		from := len(buf)
		body := r.Data[cipherHeader:]
		if buf, err = aead.Open(buf, body[:nonceSize], body[nonceSize:], additional(bound[:0], sh.ID, r.Flags, r.Key)); err != nil {
			return errs.Wrap(errs.Internal, err, "the record at position %d of %s in stream %s is damaged, or was encrypted elsewhere", r.Pos, sh, s.Name)
		}
		r.Data = buf[from:len(buf):len(buf)]
	}
	return nil
}

// encryptedBy reads the header of an encrypted record.
func (s *Stream) encryptedBy(sh *Shard, r *Record) (cipherID, error) {
	if len(r.Data) < cipherOverhead || r.Data[0] != cipherFormat {
		return cipherID{}, errs.New(errs.Internal, "the record at position %d of %s in stream %s is not encrypted in a way that this version knows", r.Pos, sh, s.Name)
	}
	if s.owner.options.Keys == nil {
		return cipherID{}, noKeys()
	}
	return cipherID{binary.BigEndian.Uint32(r.Data[1:]), s.ID, binary.BigEndian.Uint32(r.Data[5:])}, nil
}

// dataSize is the size of a record's plain data, given the data as the log keeps them.
func dataSize(flags uint8, data []byte) int {
	if flags&Encrypted != 0 {
		return max(len(data)-cipherOverhead, 0)
	}
	return len(data)
}
