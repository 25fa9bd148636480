package jsonscan

import (
	"fmt"
	"unicode/utf8"

	"github.com/segmentio/asm/base64"
)

// BlobError says that the Data of one entry is not base64. Message is what DecodeJSON would have
// said: AWS's sentence, or nothing when a byte of the body makes it no JSON at all.
type BlobError struct {
	Entry   int // index in Put.Entries, from 0
	Message string
}

func (e *BlobError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("record %d: the request body is not a JSON object", e.Entry+1)
	}
	return fmt.Sprintf("record %d: %s", e.Entry+1, e.Message)
}

// Decode replaces the base64 text of every entry's Data by the bytes it stands for, in place. The
// scanned body is spoilt by it, also when it fails. Call it once for a scan that succeeded. The
// error is a *BlobError for the first entry that is not base64.
func (p *Put) Decode() error {
	for i := range p.Entries {
		v := p.Entries[i].Data
		n, err := base64.StdEncoding.Decode(v, v)
		if err != nil {
			return p.fault(i, n)
		}
		p.Entries[i].Data = v[:n:n]
	}
	return nil
}

// fault explains why the decoder stopped in entry i after n bytes. What came before was base64;
// what did not come to be decoded may not even be JSON, which goes before any other complaint.
func (p *Put) fault(i, n int) error {
	v := restore(p.Entries[i].Data, n)
	e := &BlobError{Entry: i, Message: blobFault(v)}
	for _, later := range p.Entries[i+1:] {
		if !isJSONText(later.Data) {
			e.Message = ""
		}
	}
	if !isJSONText(v) {
		e.Message = ""
	}
	return e
}

func isJSONText(v []byte) bool { return !hasControl(v) && utf8.Valid(v) }

// DecodeBase64 returns the bytes that text stands for, or AWS's sentence about a text that is not
// padded base64 of the standard alphabet with zero bits before the padding.
func DecodeBase64(text []byte) (data []byte, fault string) {
	want, ok := blobLen(text)
	if !ok {
		return nil, blobFault(text)
	}
	data = make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(data, text)
	if err != nil || n != want { // a decoder skips line breaks, AWS does not
		return nil, blobFault(text)
	}
	return data[:n], ""
}

// restore rebuilds the text of a blob of which Decode wrote the first n bytes over it before it
// met a fault. A decoder writes behind the place where it reads, so what n bytes do not determine
// is still there.
func restore(v []byte, n int) []byte {
	known := n * 8 / 6
	return append(AppendBase64(nil, v[:n])[:known], v[known:]...)
}

// blobLen is the number of bytes that base64 text v stands for. It is false when v is no base64
// for a reason other than a character outside the alphabet or padding in the middle.
func blobLen(v []byte) (int, bool) {
	n := len(v)
	if n%4 != 0 {
		return 0, false
	}
	switch {
	case n == 0:
		return 0, true
	case v[n-1] != '=':
		return n / 4 * 3, true
	case v[n-2] != '=':
		return n/4*3 - 1, sextet(v[n-2])&3 == 0
	default:
		return n/4*3 - 2, sextet(v[n-3])&15 == 0
	}
}

// sextet is the value of a character of the base64 alphabet, 255 for any other.
func sextet(c byte) byte {
	switch {
	case 'A' <= c && c <= 'Z':
		return c - 'A'
	case 'a' <= c && c <= 'z':
		return c - 'a' + 26
	case isDigit(c):
		return c - '0' + 52
	case c == '+':
		return 62
	case c == '/':
		return 63
	}
	return 255
}

// blobFault is AWS's sentence about a text that is not base64.
func blobFault(v []byte) string {
	if n := utf8.RuneCount(v); n%4 != 0 {
		return fmt.Sprintf("'%s' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: %d", v, n)
	}
	for i, c := range v {
		padsEarly := c == '=' && i+1 < len(v) && v[i+1] != '='
		if padsEarly || c != '=' && sextet(c) == 255 {
			r, _ := utf8.DecodeRune(v[i:])
			return fmt.Sprintf("'%s' can not be converted to a Blob: Invalid Base64 character: '%c'", v, r)
		}
	}
	return fmt.Sprintf("'%s' can not be converted to a Blob: Invalid last non-pad Base64 character dectected", v) // AWS's spelling
}
