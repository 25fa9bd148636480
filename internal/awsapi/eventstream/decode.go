package eventstream

import (
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/shardmill/shardmill/internal/errs"
)

// Message is a decoded message. Payload aliases what was decoded.
type Message struct {
	Headers []Header
	Payload []byte
}

// Header is the value of the first header called name, "" if there is none.
func (m *Message) Header(name string) string {
	for _, h := range m.Headers {
		if h.Name == name {
			return h.Value
		}
	}
	return ""
}

// Decode reads the message at the start of b and returns what follows it. It is for tests and tools,
// and checks all that the format says. The error is of kind Invalid and wraps io.ErrUnexpectedEOF if
// b ends before the message does, so that more bytes may help.
func Decode(b []byte) (m Message, rest []byte, err error) {
	if len(b) < preludeSize {
		return m, b, short(len(b), preludeSize)
	}
	total, headers := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	if want, got := binary.BigEndian.Uint32(b[8:]), crc32.ChecksumIEEE(b[:8]); want != got {
		return m, b, errs.New(errs.Invalid, "the checksum of the message's lengths is %08x, but they have %08x: this is no event stream, or it is damaged", want, got)
	}
	if headers > MaxHeaders || total > overhead+MaxHeaders+MaxPayload || total < overhead+headers || total-overhead-headers > MaxPayload {
		return m, b, errs.New(errs.Invalid, "the message claims %d bytes, %d of them headers; allowed are %d of headers and %d of payload, and %d around them", total, headers, MaxHeaders, MaxPayload, overhead)
	}
	if len(b) < int(total) {
		return m, b, short(len(b), int(total))
	}
	end := total - crc32.Size
	if want, got := binary.BigEndian.Uint32(b[end:]), crc32.ChecksumIEEE(b[:end]); want != got {
		return m, b, errs.New(errs.Invalid, "the checksum of the message is %08x, but it has %08x: it is damaged", want, got)
	}
	payload := preludeSize + headers
	if m.Headers, err = decodeHeaders(b[preludeSize:payload]); err != nil {
		return m, b, err
	}
	m.Payload = b[payload:end:end]
	return m, b[total:], nil
}

func short(have, need int) error {
	return errs.Wrap(errs.Invalid, io.ErrUnexpectedEOF, "the message has %d bytes of at least %d", have, need)
}

func decodeHeaders(b []byte) (headers []Header, err error) {
	for len(b) > 0 {
		n := int(b[0])
		if n == 0 || len(b) < 1+n+1 {
			return nil, errs.New(errs.Invalid, "header %d has a name of %d bytes, but %d are left", len(headers)+1, n, len(b)-1)
		}
		name, typ := string(b[1:1+n]), b[1+n]
		b = b[1+n+1:]
		if typ != typeString {
			return nil, errs.New(errs.Invalid, "header %q is of type %d; only strings (type %d) are read", name, typ, typeString)
		}
		if len(b) < 2 {
			return nil, errs.New(errs.Invalid, "header %q has no length", name)
		}
		n = int(binary.BigEndian.Uint16(b))
		if n > MaxHeaderValue || n > len(b)-2 {
			return nil, errs.New(errs.Invalid, "header %q claims a value of %d bytes; allowed are %d, and %d are left", name, n, MaxHeaderValue, len(b)-2)
		}
		headers = append(headers, Header{name, string(b[2 : 2+n])})
		b = b[2+n:]
	}
	return headers, nil
}
