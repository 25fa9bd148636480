package wasm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/shardmill/shardmill/runtime"
)

// The native batch layout (sdk/ABI.md): numbers are little-endian, nothing is aligned.
//
//	batch   u32 count, count x { u32 metaLen, meta, u32 dataLen, data }
//	reply   u32 count, count x { u32 index, u8 status, u32 dataLen, data, u32 metaLen, meta }
//	meta    entries { u8 tag, u32 len, value }
const (
	tagPartitionKey  = 2
	tagSequence      = 3
	tagArrived       = 4
	tagReplyKeyValue = 64 // name 0x00 value, for dynamic partitioning
	metaHead         = 5
)

// batchSize is the encoded size of a batch.
func batchSize(records []runtime.InRecord) int {
	n := 4
	for i := range records {
		n += 8 + metaSize(&records[i]) + len(records[i].Data)
	}
	return n
}

func metaSize(r *runtime.InRecord) int {
	n := 0
	if len(r.PartitionKey) > 0 {
		n += metaHead + len(r.PartitionKey)
	}
	if r.SequenceNumber != "" {
		n += metaHead + len(r.SequenceNumber)
	}
	if r.Arrived != 0 {
		n += metaHead + 8
	}
	return n
}

// appendBatch encodes records at the end of b.
func appendBatch(b []byte, records []runtime.InRecord) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(len(records)))
	for i := range records {
		r := &records[i]
		b = le.AppendUint32(b, uint32(metaSize(r)))
		if len(r.PartitionKey) > 0 {
			b = le.AppendUint32(append(b, tagPartitionKey), uint32(len(r.PartitionKey)))
			b = append(b, r.PartitionKey...)
		}
		if r.SequenceNumber != "" {
			b = le.AppendUint32(append(b, tagSequence), uint32(len(r.SequenceNumber)))
			b = append(b, r.SequenceNumber...)
		}
		if r.Arrived != 0 {
			b = le.AppendUint32(append(b, tagArrived), 8)
			b = le.AppendUint64(b, uint64(r.Arrived))
		}
		b = le.AppendUint32(b, uint32(len(r.Data)))
		b = append(b, r.Data...)
	}
	return b
}

// replyDecoder checks a reply and turns it into answers. It is reused from batch to batch.
type replyDecoder struct {
	seen []uint8 // per input index: what was answered so far
	b    []byte
	off  int
}

// What seen says.
const (
	seenNothing = iota
	seenOk
	seenFinal // dropped or failed: the only answer
)

// decode appends the answers of a reply to a batch of n records to out. The data of the answers
// points into b, which must be the caller's own copy. On an error out is unchanged.
func (d *replyDecoder) decode(b []byte, n int, out *runtime.ProcessedBatch) error {
	before := len(out.Records)
	d.b, d.off = b, 0
	if cap(d.seen) < n {
		d.seen = make([]uint8, n)
	}
	d.seen = d.seen[:n]
	clear(d.seen)
	err := d.entries(out)
	d.b = nil
	if err != nil {
		out.Records = out.Records[:before]
	}
	return err
}

func (d *replyDecoder) entries(out *runtime.ProcessedBatch) error {
	count, err := d.u32("the count of entries")
	if err != nil {
		return err
	}
	for i := range count {
		o, err := d.entry(i)
		if err != nil {
			return err
		}
		out.Records = append(out.Records, o)
	}
	if d.off != len(d.b) {
		return fmt.Errorf("the reply has %d bytes after its last entry, at byte %d", len(d.b)-d.off, d.off)
	}
	return nil
}

func (d *replyDecoder) entry(i uint32) (runtime.OutRecord, error) {
	var o runtime.OutRecord
	at := d.off
	index, err := d.u32("an input index")
	if err != nil {
		return o, err
	}
	if int64(index) >= int64(len(d.seen)) {
		return o, fmt.Errorf("entry %d of the reply, at byte %d, answers record %d of a batch of %d", i, at, index, len(d.seen))
	}
	status, err := d.take(1, "a status")
	if err != nil {
		return o, err
	}
	if status[0] > byte(runtime.Failed) {
		return o, fmt.Errorf("entry %d of the reply has status %d at byte %d; 0 is ok, 1 dropped, 2 failed", i, status[0], d.off-1)
	}
	o = runtime.OutRecord{Index: int(index), Status: runtime.Status(status[0])}
	if err := d.record(o, i, at); err != nil {
		return o, err
	}
	data, err := d.counted("the length of an entry's data", "an entry's data")
	if err != nil {
		return o, err
	}
	if o.Status == runtime.Ok {
		o.Data = data
	}
	o.PartitionKeys, err = d.meta()
	return o, err
}

// record notes an answer: dropped and failed exclude every other answer for their record.
func (d *replyDecoder) record(o runtime.OutRecord, i uint32, at int) error {
	before := d.seen[o.Index]
	switch {
	case before == seenFinal, before == seenOk && o.Status != runtime.Ok:
		return fmt.Errorf("entry %d of the reply, at byte %d, answers record %d a second time; dropped and failed must be a record's only answer", i, at, o.Index)
	case o.Status == runtime.Ok:
		d.seen[o.Index] = seenOk
	default:
		d.seen[o.Index] = seenFinal
	}
	return nil
}

// meta reads an entry's meta. Unknown tags are skipped, as the ABI demands.
func (d *replyDecoder) meta() (map[string]string, error) {
	n, err := d.u32("the length of an entry's meta")
	if err != nil || n == 0 {
		return nil, err
	}
	if int64(n) > int64(len(d.b)-d.off) {
		return nil, d.short(int64(n), "an entry's meta")
	}
	var keys map[string]string
	for end := d.off + int(n); d.off < end; {
		at := d.off
		tag, err := d.take(1, "a meta tag")
		if err != nil {
			return nil, err
		}
		value, err := d.counted("the length of a meta value", "a meta value")
		if err != nil {
			return nil, err
		}
		if d.off > end {
			return nil, fmt.Errorf("the meta value at byte %d of the reply runs past the end of its meta at byte %d", at, end)
		}
		if tag[0] != tagReplyKeyValue {
			continue
		}
		name, text, ok := bytes.Cut(value, []byte{0})
		if !ok {
			return nil, fmt.Errorf("the partition key at byte %d of the reply has no 0 byte between name and value", at)
		}
		if keys == nil {
			keys = map[string]string{}
		}
		keys[string(name)] = string(text)
	}
	return keys, nil
}

func (d *replyDecoder) counted(length, what string) ([]byte, error) {
	n, err := d.u32(length)
	if err != nil {
		return nil, err
	}
	return d.take(n, what)
}

func (d *replyDecoder) u32(what string) (uint32, error) {
	if len(d.b)-d.off < 4 {
		return 0, d.short(4, what)
	}
	v := binary.LittleEndian.Uint32(d.b[d.off:])
	d.off += 4
	return v, nil
}

func (d *replyDecoder) take(n uint32, what string) ([]byte, error) {
	if int64(n) > int64(len(d.b)-d.off) {
		return nil, d.short(int64(n), what)
	}
	b := d.b[d.off : d.off+int(n) : d.off+int(n)]
	d.off += int(n)
	return b, nil
}

func (d *replyDecoder) short(need int64, what string) error {
	return fmt.Errorf("the reply ends inside %s: %d bytes are needed at byte %d of %d", what, need, d.off, len(d.b))
}

// The data of a batch's answers lies in one buffer, which must live until the batch's Reset and
// should then serve again: garbage of half a megabyte a batch costs more than the transform.
// The buffer waits in the last slot of the batch's capacity, where no answer is.

const bufferSlot = -1 // the Index of that slot

// takeBuffer returns the buffer of a batch that was reset, or nil.
func takeBuffer(out *runtime.ProcessedBatch) []byte {
	n := cap(out.Records)
	if len(out.Records) > 0 || n == 0 {
		return nil // the answers there still point into it
	}
	if last := &out.Records[:n][n-1]; last.Index == bufferSlot {
		return last.Data[:0]
	}
	return nil
}

// keepBuffer leaves the buffer of the answers in out for the next takeBuffer.
func keepBuffer(out *runtime.ProcessedBatch, buffer []byte) {
	if len(out.Records) == cap(out.Records) {
		out.Records = slices.Grow(out.Records, 1)
	}
	n := cap(out.Records)
	out.Records[:n][n-1] = runtime.OutRecord{Index: bufferSlot, Data: buffer}
}
