package eventsource

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/shardmill/shardmill/shards"
)

// The event that a function gets and the answer that it gives ("Lambda docs: using Lambda with
// Kinesis"). Times are seconds with three decimals; window bounds are RFC 3339.

const (
	// envelopeSize bounds what an event has beside its records and a window's state.
	envelopeSize = 1 << 10
	// itemOverhead bounds what a record has beside its data, key and ARNs.
	itemOverhead = 420
)

func (l *lane) consumer() bool { return strings.Contains(l.config.EventSourceARN, "/consumer/") }

// itemSize bounds the bytes of a record in an event.
func (l *lane) itemSize(it *item) int {
	return itemOverhead + base64.StdEncoding.EncodedLen(len(it.data)) + 6*len(it.key) + len(l.config.EventSourceARN) + len(l.stream.Account) + len(l.stream.Region)
}

// appendEvent writes an event.
func (l *lane) appendEvent(b []byte, items []item, w *windowEvent) []byte {
	b = append(b, `{"Records":[`...)
	for i := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = l.appendItem(b, &items[i])
	}
	b = append(b, ']')
	if w != nil {
		b = append(b, `,"window":{"start":"`...)
		b = w.start.UTC().AppendFormat(b, time.RFC3339)
		b = append(b, `","end":"`...)
		b = w.end.UTC().AppendFormat(b, time.RFC3339)
		b = append(append(b, `"},"state":`...), w.state...)
		b = append(append(append(b, `,"shardId":"`...), l.shard.String()...), '"')
		b = append(append(append(b, `,"eventSourceARN":"`...), l.config.EventSourceARN...), '"')
		b = strconv.AppendBool(append(b, `,"isFinalInvokeForWindow":`...), w.final)
		b = strconv.AppendBool(append(b, `,"isWindowTerminatedEarly":`...), w.cut)
	}
	return append(b, '}')
}

func (l *lane) appendItem(b []byte, it *item) []byte {
	b = append(b, `{"kinesis":{"kinesisSchemaVersion":"1.0","partitionKey":`...)
	key, _ := json.Marshal(string(it.key)) // of a string there is no error
	b = append(append(b, key...), `,"sequenceNumber":"`...)
	b = it.seq.AppendTo(b)
	b = append(b, `","data":"`...)
	b = base64.StdEncoding.AppendEncode(b, it.data)
	b = append(b, `","approximateArrivalTimestamp":`...)
	b = strconv.AppendInt(b, it.arrived/1000, 10)
	ms := strconv.Itoa(int(1000 + it.arrived%1000))
	b = append(append(b, '.'), ms[1:]...)
	b = append(append(b, `},"eventSource":"aws:kinesis","eventVersion":"1.0","eventID":"`...), l.shard.String()...)
	b = it.seq.AppendTo(append(b, ':'))
	b = append(b, `","eventName":"aws:kinesis:record","invokeIdentityArn":"arn:aws:iam::`...)
	b = append(append(b, l.stream.Account...), `:role/shardmill","awsRegion":"`...)
	b = append(append(b, l.stream.Region...), `","eventSourceARN":"`...)
	return append(append(b, l.config.EventSourceARN...), `"}`...)
}

// read draws from an answer what it says of a window's state and, if the function was asked to report
// them, of records that it did not handle.
func (l *lane) read(payload []byte, items []item, windowed bool, out *outcome) {
	if !windowed && !l.config.ReportItemFailures {
		return
	}
	var answer map[string]json.RawMessage
	object := json.Unmarshal(payload, &answer) == nil
	if windowed {
		state, given := answer["state"]
		if !object || !given || string(state) == "null" {
			out.ok = false // "the response must contain the state"
			return
		}
		out.state, out.tooLarge = state, len(state) > maxState
	}
	if l.config.ReportItemFailures && object {
		l.readFailures(answer["batchItemFailures"], items, out)
	}
}

// readFailures finds the first record of those that the function names. A name that is not one of the
// batch means that nothing was handled.
func (l *lane) readFailures(raw json.RawMessage, items []item, out *outcome) {
	if len(raw) == 0 || string(raw) == "null" {
		return
	}
	var failures []struct{ ItemIdentifier any }
	if json.Unmarshal(raw, &failures) != nil {
		out.failed = 0
		return
	}
	for _, f := range failures {
		id, _ := f.ItemIdentifier.(string)
		at := find(items, id)
		if at < 0 {
			out.failed = 0
			return
		}
		if out.failed < 0 || at < out.failed {
			out.failed = at
		}
	}
}

func find(items []item, id string) int {
	seq, ok := shards.ParseSeq(id)
	if !ok {
		return -1
	}
	for i := range items {
		if items[i].seq == seq {
			return i
		}
	}
	return -1
}
