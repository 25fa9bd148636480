// Package lambdaevent is the JSON that a delivery stream exchanges with a transform function.
//
// The stream sends an Event of records, each with an id and base64 data. The function answers
// with a Response that has the same ids, each with a result:
//
//	Ok               deliver the answer's data in place of the record's
//	Dropped          done; deliver nothing
//	ProcessingFailed the record goes to the error output
//
// An answer that breaks the rules is a Fault of that record alone, as far as it can be told which
// record is meant; only a response in which nothing can be recognised is a fault of the whole
// batch. Each Fault has the code and the message that error records carry.
//
// Building is plain appending. Reading is done by a scanner for exactly the form that handlers
// send, ten times as fast as encoding/json or more; whatever it does not know (escapes, more
// members, broken input) it leaves to encoding/json, which then has the last word. The two are
// fuzzed against each other.
//
// The Data of answers lies in the Response, which the next ParseResponse overwrites.
package lambdaevent

import (
	"slices"
	"strconv"

	"github.com/segmentio/asm/base64"
)

// Event is one invocation's input.
type Event struct {
	InvocationID      string // UUID
	DeliveryStreamARN string
	SourceStreamARN   string // of the Kinesis stream that is the source; "" for direct puts
	Region            string
	Records           []Record
}

// Record is one record of an Event. The last four fields are sent only if the event has a
// SourceStreamARN.
type Record struct {
	ID             string // unique in the event
	Arrived        int64  // ms since the epoch
	Data           []byte
	ShardID        string
	PartitionKey   []byte
	SequenceNumber string
	SubSequence    uint64
}

// The fixed parts of an event. AppendEvent and the sizes below must use the same ones.
const (
	invocationMember = `{"invocationId":`
	streamMember     = `,"deliveryStreamArn":`
	sourceMember     = `,"sourceKinesisStreamArn":`
	regionMember     = `,"region":`
	recordsMember    = `,"records":[`
	eventEnd         = `]}`

	idMember         = `{"recordId":`
	arrivedMember    = `,"approximateArrivalTimestamp":`
	dataMember       = `,"data":"`
	recordEnd        = `"}`
	shardMember      = `","kinesisRecordMetadata":{"shardId":` // closes the data
	partitionMember  = `,"partitionKey":`
	sequenceMember   = `,"sequenceNumber":`
	subMember        = `,"subsequenceNumber":`
	sourcedRecordEnd = `}}`
)

// AppendEvent appends the event as JSON. Times and the sub-sequence are numbers, empty data is
// "", never null. Bytes that are not UTF-8 in a name become U+FFFD; data may be any bytes.
func AppendEvent(dst []byte, e *Event) []byte {
	dst = slices.Grow(dst, EncodedSize(e))
	dst = appendString(append(dst, invocationMember...), e.InvocationID)
	dst = appendString(append(dst, streamMember...), e.DeliveryStreamARN)
	if e.SourceStreamARN != "" {
		dst = appendString(append(dst, sourceMember...), e.SourceStreamARN)
	}
	dst = appendString(append(dst, regionMember...), e.Region)
	dst = append(dst, recordsMember...)
	for i := range e.Records {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = e.Records[i].append(dst, e.SourceStreamARN != "")
	}
	return append(dst, eventEnd...)
}

func (r *Record) append(dst []byte, sourced bool) []byte {
	dst = appendString(append(dst, idMember...), r.ID)
	dst = strconv.AppendInt(append(dst, arrivedMember...), r.Arrived, 10)
	dst = appendBase64(append(dst, dataMember...), r.Data)
	if !sourced {
		return append(dst, recordEnd...)
	}
	dst = appendString(append(dst, shardMember...), r.ShardID)
	dst = appendString(append(dst, partitionMember...), r.PartitionKey)
	dst = appendString(append(dst, sequenceMember...), r.SequenceNumber)
	dst = strconv.AppendUint(append(dst, subMember...), r.SubSequence, 10)
	dst = strconv.AppendInt(append(dst, arrivedMember...), r.Arrived, 10)
	return append(dst, sourcedRecordEnd...)
}

// EncodedSize is the number of bytes that AppendEvent appends for e.
func EncodedSize(e *Event) int {
	n := e.envelopeSize()
	for i := range e.Records {
		n += e.Records[i].size(e.SourceStreamARN != "") + 1
	}
	return n - min(len(e.Records), 1) // no comma before the first
}

// Fit is the number of leading records of e with which its encoded size is at most limit bytes.
// It is 0 if not even the first one fits. A caller sends e.Records[:Fit] and goes on with the rest.
func Fit(e *Event, limit int) int {
	n := e.envelopeSize() - 1 // the first record has no comma
	for i := range e.Records {
		if n += e.Records[i].size(e.SourceStreamARN != "") + 1; n > limit {
			return i
		}
	}
	return len(e.Records)
}

// envelopeSize is the size of e without records.
func (e *Event) envelopeSize() int {
	n := len(invocationMember) + stringSize(e.InvocationID) + len(streamMember) + stringSize(e.DeliveryStreamARN) +
		len(regionMember) + stringSize(e.Region) + len(recordsMember) + len(eventEnd)
	if e.SourceStreamARN != "" {
		n += len(sourceMember) + stringSize(e.SourceStreamARN)
	}
	return n
}

func (r *Record) size(sourced bool) int {
	n := len(idMember) + stringSize(r.ID) + len(arrivedMember) + intSize(r.Arrived) +
		len(dataMember) + base64.StdEncoding.EncodedLen(len(r.Data))
	if !sourced {
		return n + len(recordEnd)
	}
	return n + len(shardMember) + stringSize(r.ShardID) + len(partitionMember) + stringSize(r.PartitionKey) +
		len(sequenceMember) + stringSize(r.SequenceNumber) + len(subMember) + uintSize(r.SubSequence) +
		len(arrivedMember) + intSize(r.Arrived) + len(sourcedRecordEnd)
}
