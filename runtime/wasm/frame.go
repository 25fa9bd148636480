package wasm

import (
	"encoding/binary"
	"fmt"
	"io"
)

// The control protocol. A frame is a header of 16 bytes, little-endian:
//
//	u32 length   of the payload
//	u8  kind
//	u8  flags    1: the payload lies at the start of the sender's half of the shared segment
//	             2: the worker ends after this answer
//	             4: RESULT: the reply is the document of the function's own error
//	             8: RESULT: an effects block precedes the reply (effects.go)
//	u16 fill     RESULT and READY: linear memory in use, in thousandths of its limit
//	u64 id       of the invocation; 0 before the first
//
// then, unless flag 1 is set, the payload itself. One invocation is under way at a time, so a
// half of the segment is never written while the other side reads it. While an invocation is
// under way the worker may ask for something (HOSTCALL) and waits for the answer (HOSTRESULT);
// both always travel inline, since the batch still lies in the segment.
const headerSize = 16

type frameKind uint8

const (
	kindLoad       frameKind = iota + 1 // host: loadSpec as JSON
	kindInvoke                          // host: facts block, then the batch or the event
	kindReady                           // worker: nothing, or the compile job's moduleInfo as JSON
	kindResult                          // worker: the reply
	kindFault                           // worker: one byte of faultCode, then text
	kindHostCall                        // worker: nothing; it asks for the function's state
	kindHostResult                      // host: the state document
)

const (
	flagShared  = 1
	flagLast    = 2 // RESULT: the worker ends after this answer
	flagError   = 4 // RESULT: the reply is an error document
	flagEffects = 8 // RESULT: u32 length, effects, then the reply
)

// faultCode says why a worker could not answer.
type faultCode uint8

const (
	faultRefused  faultCode = iota + 1 // the module cannot be served
	faultHandler                       // the function said that it failed; the environment is fine
	faultMemory                        // the function said that it is out of memory
	faultProtocol                      // the function broke the ABI
	faultTrap                          // the function trapped
	faultExit                          // the function exited
	faultTooLarge                      // the reply is above its limit
)

type header struct {
	length uint32
	kind   frameKind
	flags  uint8
	fill   uint16
	id     uint64
}

func (h header) append(b []byte) []byte {
	b = binary.LittleEndian.AppendUint32(b, h.length)
	b = append(b, byte(h.kind), h.flags)
	b = binary.LittleEndian.AppendUint16(b, h.fill)
	return binary.LittleEndian.AppendUint64(b, h.id)
}

func parseHeader(b *[headerSize]byte) header {
	return header{
		length: binary.LittleEndian.Uint32(b[0:]),
		kind:   frameKind(b[4]),
		flags:  b[5],
		fill:   binary.LittleEndian.Uint16(b[6:]),
		id:     binary.LittleEndian.Uint64(b[8:]),
	}
}

// channel is one end of the control connection. It is used by one goroutine at a time.
type channel struct {
	rw   io.ReadWriter
	send []byte // this end's half of the shared segment; nil when there is none
	recv []byte // the other end's half
	max  int    // the longest payload accepted
	hdr  [headerSize]byte
	out  []byte
}

// write sends a frame whose payload of size bytes is produced by fill, straight into the shared
// segment when it fits there.
func (c *channel) write(h header, size int, fill func(dst []byte)) error {
	h.length = uint32(size)
	if size > 0 && size <= len(c.send) {
		fill(c.send[:size])
		h.flags |= flagShared
		c.out = h.append(c.out[:0])
		_, err := c.rw.Write(c.out)
		return err
	}
	return c.writeInline(h, size, fill)
}

// writeInline is write through the socket.
func (c *channel) writeInline(h header, size int, fill func(dst []byte)) error {
	h.length = uint32(size)
	out := h.append(c.out[:0])
	if size > 0 {
		out = append(out, make([]byte, size)...)
		fill(out[headerSize:])
	}
	_, err := c.rw.Write(out)
	if cap(out) < 4096 { // keep small buffers only
		c.out = out[:0]
	}
	return err
}

// writeBytes is write for a payload that exists already.
func (c *channel) writeBytes(h header, payload []byte) error {
	return c.write(h, len(payload), func(dst []byte) { copy(dst, payload) })
}

// read returns the next frame. A shared payload is a window on the segment that the other end
// can still change: copy it before looking at it.
func (c *channel) read() (header, []byte, error) {
	if _, err := io.ReadFull(c.rw, c.hdr[:]); err != nil {
		return header{}, nil, err
	}
	h := parseHeader(&c.hdr)
	if h.flags&flagShared != 0 {
		if int64(h.length) > int64(len(c.recv)) {
			return h, nil, fmt.Errorf("frame of kind %d claims %d shared bytes, the segment has %d", h.kind, h.length, len(c.recv))
		}
		return h, c.recv[:h.length], nil
	}
	if int64(h.length) > int64(c.max) {
		return h, nil, fmt.Errorf("frame of kind %d claims %d bytes, the limit is %d", h.kind, h.length, c.max)
	}
	payload := make([]byte, h.length)
	_, err := io.ReadFull(c.rw, payload)
	return h, payload, err
}
