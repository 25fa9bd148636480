package cbor

import (
	"bytes"
	"unicode/utf8"

	"github.com/shardmill/shardmill/internal/awsapi/jsonscan"
)

// Limits of AWS's model.
const (
	maxData         = 10 << 20 // bytes
	maxPartitionKey = 256      // characters
	maxStreamName   = 128
	maxARN          = 2048
	maxHashDigits   = 39
	maxSeqDigits    = 129
)

// ScanPutRecord reads the input of Kinesis PutRecord as a Put of one entry.
//
// True says that the body has the plain form in which SDKs send it, that DecodeCBOR would read the
// same values, and that every constraint of AWS's model holds; an absent PartitionKey, which the
// model requires, is for the caller to look for. Data are the record's bytes already: call no
// Put.Decode. Everything in p aliases the body.
//
// False says only that this path is not sure (an unknown or repeated member, a string in chunks, a
// tag, null, a malformed value …). The general decoder then finds the right answer or the right
// complaint. The body is never changed, and p is empty after false.
func ScanPutRecord(body []byte, p *jsonscan.Put) bool {
	p.Reset()
	s := scanner{NewReader(body)}
	e := addEntry(p)
	return s.finish(p, s.structure(func(name []byte) bool {
		if string(name) == "SequenceNumberForOrdering" {
			return p.SequenceNumberForOrdering == nil && s.text(&p.SequenceNumberForOrdering) && isDecimal(p.SequenceNumberForOrdering, maxSeqDigits)
		}
		return s.entryMember(e, name) || s.streamMember(p, name)
	}) && e.Data != nil)
}

// ScanPutRecords reads the input of Kinesis PutRecords, of 1 to jsonscan.MaxEntries records. It
// promises what ScanPutRecord does.
func ScanPutRecords(body []byte, p *jsonscan.Put) bool {
	p.Reset()
	s := scanner{NewReader(body)}
	return s.finish(p, s.structure(func(name []byte) bool {
		if string(name) == "Records" {
			return len(p.Entries) == 0 && s.records(p)
		}
		return s.streamMember(p, name)
	}) && len(p.Entries) > 0)
}

// scanner reads the shapes of the two requests. Any method that returns false ends the scan.
type scanner struct{ Reader }

// finish is the result of a scan that went well so far if ok: nothing may follow the request.
func (s *scanner) finish(p *jsonscan.Put, ok bool) bool {
	if ok && s.AtEnd() {
		return true
	}
	p.Reset()
	return false
}

// addEntry adds an entry to p. The pointer holds until the next one is added.
func addEntry(p *jsonscan.Put) *jsonscan.Entry {
	p.Entries = append(p.Entries, jsonscan.Entry{})
	return &p.Entries[len(p.Entries)-1]
}

// structure calls member for each name of a map, with the scanner before the value that member has
// to read.
func (s *scanner) structure(member func(name []byte) bool) bool {
	left, ok := s.Map()
	if !ok {
		return false
	}
	for s.More(&left) {
		if name, ok := s.chunk(majorText); !ok || !member(name) {
			return false
		}
	}
	return true
}

func (s *scanner) records(p *jsonscan.Put) bool {
	left, ok := s.Array()
	if !ok {
		return false
	}
	for s.More(&left) {
		if len(p.Entries) == jsonscan.MaxEntries || !s.record(addEntry(p)) {
			return false
		}
	}
	return len(p.Entries) > 0
}

// record reads the map of one record.
func (s *scanner) record(e *jsonscan.Entry) bool {
	return s.structure(func(name []byte) bool { return s.entryMember(e, name) }) && e.Data != nil
}

// entryMember reads the member called name if a record has one of that name.
func (s *scanner) entryMember(e *jsonscan.Entry, name []byte) (ok bool) {
	switch string(name) {
	case "Data":
		if e.Data != nil {
			return false
		}
		e.Data, ok = s.chunk(majorBytes)
		return ok && len(e.Data) <= maxData
	case "PartitionKey":
		return e.PartitionKey == nil && s.text(&e.PartitionKey) && isText(e.PartitionKey, maxPartitionKey)
	case "ExplicitHashKey":
		return e.ExplicitHashKey == nil && s.text(&e.ExplicitHashKey) && isDecimal(e.ExplicitHashKey, maxHashDigits)
	}
	return false
}

// streamMember reads the member called name if a request has one of that name beside its records.
func (s *scanner) streamMember(p *jsonscan.Put, name []byte) (ok bool) {
	switch string(name) {
	case "StreamName":
		return p.Stream == nil && s.text(&p.Stream) && isName(p.Stream) && len(p.Stream) <= maxStreamName
	case "StreamARN":
		return p.ARN == nil && s.text(&p.ARN) && isStreamARN(p.ARN)
	case "DryRun":
		p.DryRun, ok = s.Bool()
		return ok
	}
	return false
}

func (s *scanner) text(into *[]byte) (ok bool) {
	*into, ok = s.chunk(majorText)
	return ok
}

// isText reports whether v is UTF-8 of 1 to limit characters.
func isText(v []byte, limit int) bool {
	return len(v) > 0 && len(v) <= limit*utf8.UTFMax && utf8.Valid(v) && (len(v) <= limit || utf8.RuneCount(v) <= limit)
}

// isName reports whether v is one or more of [a-zA-Z0-9_.-].
func isName(v []byte) bool {
	for _, c := range v {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '.' || c == '-') {
			return false
		}
	}
	return len(v) > 0
}

// isDecimal reports whether v is 1 to limit digits without leading zeros.
func isDecimal(v []byte, limit int) bool {
	return isDigits(v) && len(v) <= limit && (v[0] != '0' || len(v) == 1)
}

func isDigits(v []byte) bool {
	for _, c := range v {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(v) > 0
}

// isStreamARN knows stream ARNs in the form in which AWS writes them,
// arn:aws*:kinesis:REGION:ACCOUNT:stream/NAME. The model's pattern allows odder ones; those are left
// to the general path.
func isStreamARN(arn []byte) bool {
	v, ok1 := bytes.CutPrefix(arn, []byte("arn:aws"))
	partition, v, ok2 := bytes.Cut(v, []byte(":kinesis:"))
	region, v, ok3 := bytes.Cut(v, []byte(":"))
	account, name, ok4 := bytes.Cut(v, []byte(":stream/"))
	return ok1 && ok2 && ok3 && ok4 && len(arn) <= maxARN && len(account) == 12 && isDigits(account) &&
		(len(partition) == 0 || isName(partition)) && isName(region) && isName(name)
}
