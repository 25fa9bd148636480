// Package eventstream writes application/vnd.amazon.eventstream, the framing in which
// SubscribeToShard answers.
//
// A stream is a sequence of messages, each with headers and a payload. What a message is for is in
// its headers:
//
//	:message-type  event       :event-type names it; the first one is initial-response, since SDKs
//	                           hold the call back until it comes
//	:message-type  exception   :exception-type names an error of the API's model; ends the stream
//	:message-type  error       :error-code and :error-message of any other failure; ends the stream
//
// On the wire a message is, all numbers being big-endian:
//
//	total length    4 bytes, of the whole message
//	headers length  4 bytes
//	checksum        4 bytes, CRC-32 (IEEE) of the 8 bytes before
//	headers         each: name length (1), name, type (1), value length (2), value
//	payload
//	checksum        4 bytes, CRC-32 (IEEE) of all bytes before
//
// The format has other types of header than strings. AWS's APIs send none of them, and this package
// neither writes nor reads them.
//
// Messages are appended to a buffer, so that the caller can write each one whole: to an SDK for Go,
// a stream cut in the middle of a message looks like its normal end.
package eventstream

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"unicode/utf8"

	"github.com/shardmill/shardmill/internal/awsapi/jsonscan"
)

// Limits of a message, in bytes. Clients refuse larger ones.
const (
	MaxPayload     = 16 << 20
	MaxHeaders     = 128 << 10 // all of them, as written
	MaxHeaderName  = 255
	MaxHeaderValue = 1<<15 - 1
)

const (
	preludeSize = 12 // lengths and their checksum
	overhead    = preludeSize + crc32.Size
	typeString  = 7
	contentJSON = "application/json"
)

// Header is a header of a message; all are strings.
type Header struct{ Name, Value string }

// AppendMessage appends a message to dst. It panics if a limit is exceeded or a header has no name:
// headers are the program's own, and a payload that no client accepts has to be cut before.
func AppendMessage(dst []byte, headers []Header, payload []byte) []byte {
	size := 0
	for _, h := range headers {
		if len(h.Name) == 0 || len(h.Name) > MaxHeaderName || len(h.Value) > MaxHeaderValue {
			panic(fmt.Sprintf("eventstream: header %.40q: the name has %d bytes, allowed are 1 to %d; the value %d, allowed are %d",
				h.Name, len(h.Name), MaxHeaderName, len(h.Value), MaxHeaderValue))
		}
		size += 1 + len(h.Name) + 1 + 2 + len(h.Value)
	}
	if size > MaxHeaders || len(payload) > MaxPayload {
		panic(fmt.Sprintf("eventstream: %d bytes of headers, allowed are %d; %d of payload, allowed are %d", size, MaxHeaders, len(payload), MaxPayload))
	}
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(dst, uint32(overhead+size+len(payload)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(size))
	dst = binary.BigEndian.AppendUint32(dst, crc32.ChecksumIEEE(dst[start:]))
	for _, h := range headers {
		dst = append(append(dst, byte(len(h.Name))), h.Name...)
		dst = binary.BigEndian.AppendUint16(append(dst, typeString), uint16(len(h.Value)))
		dst = append(dst, h.Value...)
	}
	dst = append(dst, payload...)
	return binary.BigEndian.AppendUint32(dst, crc32.ChecksumIEEE(dst[start:]))
}

// AppendInitialResponse appends the message that has to come first, with an empty JSON object.
func AppendInitialResponse(dst []byte) []byte {
	return AppendEvent(dst, "initial-response", contentJSON, []byte("{}"))
}

// AppendEvent appends an event of the API's model, such as SubscribeToShardEvent, whose payload is
// of the content type named.
func AppendEvent(dst []byte, eventType, contentType string, payload []byte) []byte {
	return AppendMessage(dst, []Header{
		{":event-type", eventType},
		{":content-type", contentType},
		{":message-type", "event"},
	}, payload)
}

// AppendException appends an error of the API's model, such as ResourceInUseException. It has to be
// the last message.
func AppendException(dst []byte, exceptionType, message string) []byte {
	payload := jsonscan.AppendString([]byte(`{"message":`), message)
	return AppendMessage(dst, []Header{
		{":exception-type", exceptionType},
		{":content-type", contentJSON},
		{":message-type", "exception"},
	}, append(payload, '}'))
}

// AppendError appends a failure that the API's model has no error for, such as InternalFailure. It
// has to be the last message. A text that is too long for a header is cut.
func AppendError(dst []byte, code, message string) []byte {
	if len(message) > MaxHeaderValue {
		end := MaxHeaderValue
		for !utf8.RuneStart(message[end]) && end > 0 {
			end--
		}
		message = message[:end]
	}
	return AppendMessage(dst, []Header{
		{":error-code", code},
		{":error-message", message},
		{":message-type", "error"},
	}, nil)
}
