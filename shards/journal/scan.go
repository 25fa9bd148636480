package journal

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

func readAll(file vfs.File, buf *[]byte) error {
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if size := int(info.Size()); cap(*buf) < size {
		*buf = make([]byte, size)
	} else {
		*buf = (*buf)[:size]
	}
	if n, err := file.ReadAt(*buf, 0); err != nil && !(err == io.EOF && n == len(*buf)) {
		return err
	}
	return nil
}

// scanned is what a segment's bytes say.
type scanned struct {
	frames  []scannedFrame
	end     int64  // where the frames end
	torn    bool   // the last group is not whole
	foreign bool   // it is a sound segment of another store
	damage  string // why the segment cannot be trusted; "" if it can
}

type scannedFrame struct {
	frame
	off int64
}

// scanSegment reads frames up to the first that is not whole, then decides whether what follows
// is the torn tail of a group that was never acknowledged or damage to one that was.
func scanSegment(b []byte, storeID [16]byte, number uint64) (out scanned) {
	sd := seed(storeID, number)
	if id, n, ok := decodeSegmentHeader(b); !ok || id != storeID || n != number {
		out.foreign = ok && id != storeID
		if laterGroup(b, sd, 0) {
			out.damage = "its header fails the checksum although groups were committed behind it"
		}
		return out
	}
	off, group, ended := int64(segmentHeader), uint32(0), true
	for {
		f, _, ok := decodeFrame(b[off:], sd)
		if !ok || f.group != group && !(ended && f.group == group+1) || f.group == group && ended {
			break
		}
		group, ended = f.group, f.flags&flagEnd != 0
		out.frames = append(out.frames, scannedFrame{f, off})
		off += frameHeader + int64(f.bodyLen)
	}
	out.end, out.torn = off, !ended
	open := group // the group that the first missing frame would belong to
	if ended {
		open++
	}
	if laterGroup(b[off:], sd, open) {
		out.damage = "a frame fails its checksum although a later group was committed behind it"
	}
	return out
}

// laterGroup reports whether b holds the header of a frame of a group after g: such a frame was
// written only after group g had been synced.
func laterGroup(b []byte, sd uint32, g uint32) bool {
	for {
		i := bytes.Index(b, frameMagicBytes)
		if i < 0 || len(b)-i < frameHeader {
			return false
		}
		h := b[i : i+frameHeader]
		if binary.LittleEndian.Uint32(h[4:]) == crc32.Update(sd, castagnoli, h[8:]) && binary.LittleEndian.Uint32(h[16:]) > g {
			return true
		}
		b = b[i+1:]
	}
}
