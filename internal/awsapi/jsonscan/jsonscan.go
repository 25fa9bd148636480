// Package jsonscan reads and writes the JSON of the four calls that carry records: PutRecord and
// PutRecords of Kinesis, PutRecord and PutRecordBatch of Firehose. It is the fast path of package
// awsapi, whose DecodeJSON and Validate remain the definition of what a request means.
//
// A request is read in two passes over the one buffer it arrived in, without copying:
//
//   - A Scan function looks at the body, changes nothing and collects slices of it in a [Put].
//     True says that the body has the plain form in which SDKs send it, that DecodeJSON would
//     read the same values, and that every constraint of AWS's model holds. False says only that
//     this path is not sure (an escaped string, an unknown or repeated member, null, more than
//     [MaxEntries] records, a malformed value …): the body is untouched, so the general decoder
//     takes over and finds the right answer or the right sentence of complaint.
//   - [Put.Decode] turns the base64 of every record into bytes, in place. The body is no longer
//     JSON afterwards: whatever needs its text, such as a signature, comes before.
//
// Everything in a Put aliases the body. The buffer may be reused only when the records have been
// copied or are durable.
//
// It is neither a JSON parser for other requests nor a validator with messages of its own.
package jsonscan

// MaxEntries is the number of records that AWS allows in one call.
const MaxEntries = 500

// Put is one call that carries records, single or batch. A nil slice is an absent member; an
// empty one was given as "". The zero Put is ready and can be scanned into again and again.
type Put struct {
	Stream                    []byte // StreamName or DeliveryStreamName
	ARN                       []byte // StreamARN; Kinesis only
	SequenceNumberForOrdering []byte // Kinesis PutRecord only
	DryRun                    bool   // Kinesis only; absent is false
	Entries                   []Entry
}

// Entry is one record of a Put.
type Entry struct {
	Data            []byte // base64 text until Put.Decode, then the record; never nil
	PartitionKey    []byte // UTF-8; nil on Firehose, and on Kinesis where the producer gave none
	ExplicitHashKey []byte // decimal; Kinesis only
}

// Reset forgets the last request and keeps the memory, so that a pooled Put does not keep the
// request's body alive.
func (p *Put) Reset() {
	clear(p.Entries)
	*p = Put{Entries: p.Entries[:0]}
}

// service is what differs between Kinesis and Firehose.
type service struct {
	streamMember string
	maxName      int // characters
	maxData      int // bytes of one record
	kinesis      bool
}

var (
	kinesis  = service{streamMember: "StreamName", maxName: 128, maxData: 10 << 20, kinesis: true}
	firehose = service{streamMember: "DeliveryStreamName", maxName: 64, maxData: 1_024_000}
)

// ScanPutRecord reads the input of Kinesis PutRecord as a Put of one entry.
func ScanPutRecord(body []byte, p *Put) bool {
	p.Reset()
	s := scanner{b: body}
	e := p.addEntry()
	return p.finish(&s, s.object(func(name []byte) bool {
		if string(name) == "SequenceNumberForOrdering" {
			return p.SequenceNumberForOrdering == nil && s.decimal(&p.SequenceNumberForOrdering, 129)
		}
		return s.entryMember(&kinesis, e, name) || s.streamMember(&kinesis, p, name)
	}) && e.Data != nil)
}

// ScanPutRecords reads the input of Kinesis PutRecords.
func ScanPutRecords(body []byte, p *Put) bool {
	p.Reset()
	s := scanner{b: body}
	return p.finish(&s, s.batch(&kinesis, p))
}

// ScanFirehosePutRecord reads the input of Firehose PutRecord as a Put of one entry.
func ScanFirehosePutRecord(body []byte, p *Put) bool {
	p.Reset()
	s := scanner{b: body}
	return p.finish(&s, s.object(func(name []byte) bool {
		if string(name) == "Record" {
			return len(p.Entries) == 0 && s.record(&firehose, p)
		}
		return s.streamMember(&firehose, p, name)
	}) && len(p.Entries) == 1 && p.Stream != nil)
}

// ScanFirehosePutRecordBatch reads the input of Firehose PutRecordBatch.
func ScanFirehosePutRecordBatch(body []byte, p *Put) bool {
	p.Reset()
	s := scanner{b: body}
	return p.finish(&s, s.batch(&firehose, p) && p.Stream != nil)
}

// finish is the result of a scan that went well so far if ok: nothing may follow the request. A
// scan that fails leaves p empty.
func (p *Put) finish(s *scanner, ok bool) bool {
	if ok && s.atEnd() {
		return true
	}
	p.Reset()
	return false
}

// addEntry adds an entry to p. The pointer holds until the next one is added.
func (p *Put) addEntry() *Entry {
	p.Entries = append(p.Entries, Entry{})
	return &p.Entries[len(p.Entries)-1]
}

// batch reads an object with the member Records, a list of 1 to MaxEntries records.
func (s *scanner) batch(svc *service, p *Put) bool {
	return s.object(func(name []byte) bool {
		if string(name) != "Records" {
			return s.streamMember(svc, p, name)
		}
		return len(p.Entries) == 0 && s.array(func() bool {
			return len(p.Entries) < MaxEntries && s.record(svc, p)
		}) && len(p.Entries) > 0
	}) && len(p.Entries) > 0
}

// record reads the object of one record.
func (s *scanner) record(svc *service, p *Put) bool {
	e := p.addEntry()
	return s.object(func(name []byte) bool { return s.entryMember(svc, e, name) }) && e.Data != nil
}

// entryMember reads the member called name if a record has one of that name.
func (s *scanner) entryMember(svc *service, e *Entry, name []byte) bool {
	switch {
	case string(name) == "Data":
		return e.Data == nil && s.blob(&e.Data, svc.maxData)
	case !svc.kinesis:
		return false
	case string(name) == "PartitionKey":
		return e.PartitionKey == nil && s.text(&e.PartitionKey, 256)
	case string(name) == "ExplicitHashKey":
		return e.ExplicitHashKey == nil && s.decimal(&e.ExplicitHashKey, 39)
	}
	return false
}

// streamMember reads the member called name if a request has one of that name beside its records.
func (s *scanner) streamMember(svc *service, p *Put, name []byte) bool {
	switch {
	case string(name) == svc.streamMember:
		return p.Stream == nil && s.name(&p.Stream, svc.maxName)
	case !svc.kinesis:
		return false
	case string(name) == "StreamARN":
		return p.ARN == nil && s.arn(&p.ARN)
	case string(name) == "DryRun":
		return s.boolean(&p.DryRun)
	}
	return false
}
