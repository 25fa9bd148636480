// Package shardmill is what a transform in Go needs to run in shardmill. It uses the standard
// library alone.
//
// A transform is one function that looks at one record and says what becomes of it:
//
//	package main
//
//	import shardmill "github.com/shardmill/shardmill/sdk/go"
//
//	func init() {
//		shardmill.Transform(func(r *shardmill.Record) {
//			if len(r.Data) == 0 {
//				r.Drop()
//				return
//			}
//			r.Ok(append(r.Data, '\n'))
//		})
//	}
//
//	func main() {}
//
// Build it with
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags="-s -w" -o transform.wasm .
//
// The host hands over a batch, the function is called once for each record, in order, and the
// answers go back together. A record may get several answers with Ok, kept in order; Drop and Fail
// must be its only answer; a record without an answer counts as failed. Data and everything else
// of a record is valid until the function returns. A panic ends the module and fails the batch.
//
// Outside of WebAssembly the package compiles, so that editors and tests of your own code work, but
// calls of the host panic. The contract below it is sdk/ABI.md.
package shardmill

import (
	"encoding/binary"
	"errors"
)

// Record is one record of the batch under way.
type Record struct {
	Data []byte // may be changed in place

	index uint32
	meta  []byte
}

// What the host sends of a record beside its data.
const (
	metaPartitionKey = 2
	metaSequence     = 3
	metaArrived      = 4
	metaReplyKey     = 64
)

const (
	statusOk = iota
	statusDropped
	statusFailed
)

// The reply is built in one buffer that is used again for the next batch.
var (
	transform func(*Record)
	reply     []byte
	answers   uint32
	failure   string // of the whole batch; "" is none
)

// Transform sets the function that is called for every record. Call it once, in an init function:
// the host does not run main.
func Transform(fn func(*Record)) { transform = fn }

// Ok answers: deliver these bytes. Pairs of names and values after it are partition keys for
// dynamic partitioning.
func (r *Record) Ok(data []byte, keys ...string) { r.Close(append(r.Open(), data...), keys...) }

// Open begins an answer that is built in place: append what is to be delivered to the slice, and
// give it to Close. It spares a copy.
func (r *Record) Open() []byte {
	reply = binary.LittleEndian.AppendUint32(reply, r.index)
	reply = append(reply, statusOk, 0, 0, 0, 0)
	return reply
}

// Close ends the answer that Open began. b must be what Open returned, with bytes appended.
func (r *Record) Close(b []byte, keys ...string) {
	if len(keys)%2 != 0 {
		panic("shardmill: a partition key has a name and no value")
	}
	binary.LittleEndian.PutUint32(b[len(reply)-4:], uint32(len(b)-len(reply)))
	b = append(b, 0, 0, 0, 0)
	start := len(b)
	for i := 0; i < len(keys); i += 2 {
		b = append(b, metaReplyKey)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(keys[i])+1+len(keys[i+1])))
		b = append(append(b, keys[i]...), 0)
		b = append(b, keys[i+1]...)
	}
	binary.LittleEndian.PutUint32(b[start-4:], uint32(len(b)-start))
	reply = b
	answers++
}

// Drop answers: done, deliver nothing.
func (r *Record) Drop() { r.bare(statusDropped) }

// Fail answers: the record cannot be processed.
func (r *Record) Fail() { r.bare(statusFailed) }

func (r *Record) bare(status byte) {
	reply = binary.LittleEndian.AppendUint32(reply, r.index)
	reply = append(reply, status, 0, 0, 0, 0, 0, 0, 0, 0)
	answers++
}

// PartitionKey is the record's partition key; nil if the source has none.
func (r *Record) PartitionKey() []byte { return r.find(metaPartitionKey) }

// SequenceNumber is the record's sequence number in decimal; "" if the source has none.
func (r *Record) SequenceNumber() string { return string(r.find(metaSequence)) }

// Arrived is when the record arrived, in milliseconds since 1970; 0 if that is not known.
func (r *Record) Arrived() int64 {
	if v := r.find(metaArrived); len(v) == 8 {
		return int64(binary.LittleEndian.Uint64(v))
	}
	return 0
}

func (r *Record) find(tag byte) []byte {
	for m := r.meta; len(m) >= 5; {
		n := binary.LittleEndian.Uint32(m[1:])
		if m[0] == tag {
			return m[5 : 5+n]
		}
		m = m[5+n:]
	}
	return nil
}

// FailBatch fails the batch as a whole, which the host may then try again. No further record of it
// is looked at.
func FailBatch(reason string) {
	if failure = reason; failure == "" {
		failure = "the batch failed"
	}
}

// run answers a batch; ok is false when it failed as a whole.
func run(batch []byte) (out []byte, ok bool) {
	next := func() []byte {
		n := binary.LittleEndian.Uint32(batch)
		v := batch[4 : 4+n : 4+n]
		batch = batch[4+n:]
		return v
	}
	count := binary.LittleEndian.Uint32(batch)
	batch = batch[4:]
	reply, answers, failure = append(reply[:0], 0, 0, 0, 0), 0, ""
	var r Record
	for r.index = 0; r.index < count && failure == ""; r.index++ {
		r.meta, r.Data = next(), next()
		transform(&r)
	}
	if failure != "" {
		hostError(failure)
		return nil, false
	}
	binary.LittleEndian.PutUint32(reply, answers)
	return reply, true
}

// Level is the level of a log line.
type Level uint32

// The levels.
const (
	Debug Level = iota
	Info
	Warn
	Error
)

// Log writes a line to the function's log, which is cut at 1,024 bytes.
func Log(level Level, line string) { hostLog(level, line) }

// Config is a fact of the invocation ("invocation.id", "invocation.deliveryStreamArn", …), a key of
// the function's config, or an environment variable. ok is false when there is none of that name.
func Config(key string) (value string, ok bool) {
	b, ok := ask(hostConfig, key)
	return string(b), ok
}

// The calls below need a grant: a module that contains one is not loaded without its grant. What
// they do lasts when the batch succeeded, and is forgotten when it failed.

// Metric adds value to a counter, whose name ends in _total, or sets a gauge. The key is a name
// with optional labels: requests_total{kind="new"}. A key of another form ends the module. It
// needs the grant "metrics".
func Metric(key string, value float64) { hostMetric(key, value) }

// StateGet reads a value that StatePut wrote, in this batch or in an earlier one. It needs the
// grant "state".
func StateGet(key string) (value []byte, ok bool) { return ask(hostStateGet, key) }

// StatePut writes a value; an empty one removes the key. All of a function's state may have 64 KiB.
// It needs the grant "state".
func StatePut(key string, value []byte) error {
	if hostStatePut(key, value) != 0 {
		return errors.New("the state key is empty or longer than 256 bytes, or the function's state passes 64 KiB")
	}
	return nil
}

// Emit puts a record to a stream beside the answers. It needs the grant "emit" for that stream; any
// other stream ends the module.
func Emit(stream, partitionKey string, data []byte) error {
	switch hostEmit(stream, partitionKey, data) {
	case 0:
		return nil
	case 1:
		return errors.New("the partition key has not 1 to 256 characters, or the record more than 1 MiB")
	}
	return errors.New("the batch has emitted 10,000 records or 6 MiB already")
}

// ask calls a host function that gives a value of unknown length.
func ask(fn func(key string, buf []byte) uint32, key string) ([]byte, bool) {
	buf := make([]byte, 128)
	for {
		n := fn(key, buf)
		switch {
		case n == 0xffffffff:
			return nil, false
		case n <= uint32(len(buf)):
			return buf[:n], true
		}
		buf = make([]byte, n)
	}
}
