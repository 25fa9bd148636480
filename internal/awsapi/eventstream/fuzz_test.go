package eventstream_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"

	sdk "github.com/aws/aws-sdk-go-v2/aws/protocol/eventstream"

	"github.com/shardmill/shardmill/internal/awsapi/eventstream"
)

// prelude is the beginning of a message that claims these lengths.
func prelude(total, headers uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, total)
	b = binary.BigEndian.AppendUint32(b, headers)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// frame puts correct lengths and checksums around headers that may be anything.
func frame(headers, payload string) []byte {
	b := prelude(uint32(16+len(headers)+len(payload)), uint32(len(headers)))
	b = append(append(b, headers...), payload...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
}

// flipped is an initial response with byte i damaged.
func flipped(i int) []byte {
	b := eventstream.AppendInitialResponse(nil)
	b[i] ^= 0x40
	return b
}

// FuzzDecode decodes bytes as they are, and headers and payload in a correct frame. What is taken is
// written again as the same bytes, and the SDK for Go takes it too.
func FuzzDecode(f *testing.F) {
	f.Add(stream, "", "")
	f.Add(flipped(50), "\x01a\x07\x00\x01v", "payload")
	f.Add([]byte{}, "\x01a\x07\x00\x02v", "")
	f.Add(prelude(16, 0), "\x01a\x00\x01b\x07\x00\x00", "{}")
	f.Fuzz(func(t *testing.T, raw []byte, headers, payload string) {
		for _, b := range [][]byte{raw, frame(headers, payload)} {
			m, rest, err := eventstream.Decode(b)
			if err != nil {
				if len(rest) != len(b) {
					t.Fatalf("%x: refused, but %d of %d bytes are left", b, len(rest), len(b))
				}
				continue
			}
			if again := eventstream.AppendMessage(nil, m.Headers, m.Payload); !bytes.Equal(again, b[:len(b)-len(rest)]) {
				t.Fatalf("%x is written again as %x", b, again)
			}
			if _, err := sdk.NewDecoder().Decode(bytes.NewReader(b), nil); err != nil {
				t.Fatalf("%x: the SDK refuses: %v", b, err)
			}
		}
	})
}
