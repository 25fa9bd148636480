package lambdaevent

import (
	"slices"

	"github.com/segmentio/asm/base64"
)

// Result is a function's verdict on one record.
type Result uint8

const (
	Ok               Result = iota // deliver Data
	Dropped                        // done, deliver nothing
	ProcessingFailed               // to the error output
)

// Response is what a function answered, in its order.
type Response struct {
	Answers []Answer
	Skipped int // elements of records that had no usable recordId, so that nothing can be said about them

	data []byte // every Answer's Data, one after the other
}

// Answer is the answer for one record.
type Answer struct {
	RecordID      string
	Fault         Fault             // NoFault, MarkedFailed, InvalidResult, InvalidData, InvalidMetadata or MissingData
	Result        Result            // holds only if Fault is NoFault or MarkedFailed
	Data          []byte            // decoded; nil when absent, never nil when the Result is Ok without Fault
	PartitionKeys map[string]string // nil when there are none; numbers and booleans as their JSON text
	Route         Route
}

// Route says to which table of a lakehouse a record belongs (otfMetadata). Members that were
// absent, null or empty are "".
type Route struct {
	Database, Table string
	Operation       string // insert, update, delete; passed on as the function wrote it
}

// ParseResponse reads a function's response into r, whose memory is used again: the Data of
// earlier answers is overwritten. Members that are not part of the form are ignored, names are
// matched in exact case, and of a member given twice the last one counts. Partition keys that are
// null or empty are left out.
//
// The error is nil or a *ResponseError. Whether each record has exactly one answer is for the
// caller to find out.
func ParseResponse(payload []byte, r *Response) error {
	r.reset(len(payload))
	s := scanner{in: payload, out: r}
	if s.response() {
		return nil
	}
	r.reset(len(payload))
	if f := r.decode(payload); f != NoFault {
		r.reset(0)
		return &ResponseError{Fault: f, Start: string(payload[:min(len(payload), 100)])}
	}
	return nil
}

// reset empties r and makes room for all data that a payload of n bytes can have, so that Data
// need not move once it was handed out.
func (r *Response) reset(n int) {
	clear(r.Answers) // lets go of strings and maps
	r.Answers, r.Skipped = r.Answers[:0], 0
	r.data = slices.Grow(r.data[:0], base64.StdEncoding.DecodedLen(n)+1)
}

// keep moves data to the end of r.data.
func (r *Response) keep(data []byte) []byte {
	start := len(r.data)
	r.data = append(r.data, data...)
	return r.data[start:len(r.data):len(r.data)]
}

// parts is what both readers find out about an answer before it is judged.
type parts struct {
	answer      Answer
	result      string
	badData     bool
	badMetadata bool
}

// add judges an answer and adds it.
func (r *Response) add(p *parts) {
	a := &p.answer
	known := true
	switch p.result {
	case "Ok":
		a.Result = Ok
	case "Dropped":
		a.Result = Dropped
	case "ProcessingFailed":
		a.Result = ProcessingFailed
	default:
		known = false
	}
	switch {
	case !known:
		a.Fault = InvalidResult
	case p.badData:
		a.Fault = InvalidData
	case p.badMetadata:
		a.Fault = InvalidMetadata
	case a.Result == ProcessingFailed:
		a.Fault = MarkedFailed
	case a.Result == Ok && a.Data == nil:
		a.Fault = MissingData
	}
	r.Answers = append(r.Answers, *a)
}

// setKey adds a partition key; an empty value is an absent one.
func (a *Answer) setKey(name, value string) {
	if value == "" {
		return
	}
	if a.PartitionKeys == nil {
		a.PartitionKeys = make(map[string]string)
	}
	a.PartitionKeys[name] = value
}
