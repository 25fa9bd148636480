package kinesisapi

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"github.com/shardmill/shardmill/shards"
)

// lifetime is how long iterators and tokens are valid.
const lifetime = 5 * time.Minute

// sealer makes shard iterators and next tokens: sealed, so that clients can neither read nor make
// them, and self-contained, so that the host keeps nothing for them. Every one is different, even
// for the same position.
type sealer struct{ aead cipher.AEAD }

func newSealer(secret []byte) (*sealer, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	return &sealer{aead}, err
}

type tokenKind byte

const (
	iteratorToken      tokenKind = 1
	listShardsToken    tokenKind = 2
	listStreamsToken   tokenKind = 3
	listConsumersToken tokenKind = 4
)

// token is what is sealed. Its first byte is the kind, which makes an iterator useless as a token.
type token struct {
	kind   tokenKind
	stream uint64 // the stream's id: one that was deleted and made anew has another
	shard  uint32 // the shard; for a list, the last one listed
	pos    shards.Pos
	issued time.Time
	extra  string // an iterator's ACCOUNT/STREAM; a list's filter or last name
}

const tokenHead = 1 + 8 + 4 + 8 + 8

// prefix is what AWS's iterators begin with.
var prefix = []byte{0, 0, 0, 0, 0, 0, 0, 1}

func (s *sealer) seal(t token) string {
	plain := make([]byte, tokenHead, tokenHead+len(t.extra))
	plain[0] = byte(t.kind)
	binary.BigEndian.PutUint64(plain[1:], t.stream)
	binary.BigEndian.PutUint32(plain[9:], t.shard)
	binary.BigEndian.PutUint64(plain[13:], uint64(t.pos))
	binary.BigEndian.PutUint64(plain[21:], uint64(t.issued.UnixMilli()))
	plain = append(plain, t.extra...)
	out := make([]byte, len(prefix)+s.aead.NonceSize(), len(prefix)+s.aead.NonceSize()+len(plain)+s.aead.Overhead())
	copy(out, prefix)
	nonce := out[len(prefix):]
	rand.Read(nonce)
	return base64.StdEncoding.EncodeToString(s.aead.Seal(out, nonce, plain, prefix))
}

// open is false for anything that this store has not sealed as this kind.
func (s *sealer) open(text string, kind tokenKind) (t token, ok bool) {
	if len(text) > 2 && text[0] == '"' && text[len(text)-1] == '"' {
		text = strings.Trim(text, `"`) // AWS takes iterators that a shell script left in quotes
	}
	b, err := base64.StdEncoding.DecodeString(text)
	head := len(prefix) + s.aead.NonceSize()
	if err != nil || len(b) < head || string(b[:len(prefix)]) != string(prefix) {
		return token{}, false
	}
	plain, err := s.aead.Open(nil, b[len(prefix):head], b[head:], prefix)
	if err != nil || len(plain) < tokenHead || tokenKind(plain[0]) != kind {
		return token{}, false
	}
	return token{
		kind:   kind,
		stream: binary.BigEndian.Uint64(plain[1:]),
		shard:  binary.BigEndian.Uint32(plain[9:]),
		pos:    shards.Pos(binary.BigEndian.Uint64(plain[13:])),
		issued: time.UnixMilli(int64(binary.BigEndian.Uint64(plain[21:]))),
		extra:  string(plain[tokenHead:]),
	}, true
}

func (t *token) expired() bool { return time.Since(t.issued) > lifetime }
