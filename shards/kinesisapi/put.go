package kinesisapi

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/awsapi/cbor"
	"github.com/shardmill/shardmill/internal/awsapi/jsonscan"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// PutRecord and PutRecords. Their requests are read by jsonscan, in place; what it does not
// recognize goes through the general decoder, which gives the same values or the right complaint.
//
// PartitionKey is required but by streams whose RecordDistributionStrategy is AUTO, which place
// records themselves: the stream has to be known before it can be missed.

// maxPutBytes is the most that one PutRecords may carry, data and partition keys.
const maxPutBytes = 10 << 20

type putRecordIn struct {
	SequenceNumberForOrdering *string `pattern:"0|([1-9]\\d{0,128})"`
	PartitionKey              *string `aws:"required,min=1,max=256"`
	ExplicitHashKey           *string `pattern:"0|([1-9]\\d{0,38})"`
	Data                      []byte  `aws:"required,min=0,max=10485760"`
	DryRun                    *bool
	streamRef
}

type putEntry struct {
	PartitionKey    *string `aws:"required,min=1,max=256"`
	ExplicitHashKey *string `pattern:"0|([1-9]\\d{0,38})"`
	Data            []byte  `aws:"required,min=0,max=10485760"`
}

type putRecordsIn struct {
	Records []putEntry `aws:"required,min=1,max=500"`
	DryRun  *bool
	streamRef
}

// puts is the working memory of a put call, reused.
type puts struct {
	scan    jsonscan.Put
	records []shards.PutRecord
	hashes  [jsonscan.MaxEntries]shards.Hash
	placed  []shards.Placed
}

var putPool = sync.Pool{New: func() any { return new(puts) }}

func (p *puts) release() {
	p.scan.Reset()
	clear(p.records)
	clear(p.placed)
	putPool.Put(p)
}

func (a *api) putRecord(ctx context.Context, body, dst []byte) ([]byte, error) {
	begun, p := time.Now(), putPool.Get().(*puts)
	defer p.release()
	wire := awsapi.CallerOf(ctx).Wire
	scan := jsonscan.ScanPutRecord
	if wire == awsapi.CBOR {
		scan = cbor.ScanPutRecord
	}
	if err := a.read(ctx, p, body, scan, (*puts).decodeOne); err != nil {
		return nil, err
	}
	s, err := a.prepare(ctx, p, false)
	if err != nil {
		return nil, err
	}
	if n := p.scan.SequenceNumberForOrdering; n != nil {
		if s.Attributes().Distribution == shards.Auto { // AWS's sentence is not known
			return nil, errs.New(errs.Invalid, "SequenceNumberForOrdering cannot be used with stream %s under account %s: its RecordDistributionStrategy is AUTO, which keeps no order.", s.Name, s.Account)
		}
		seq, ok := shards.ParseSeq(string(n))
		if !ok || seq.Time > time.Now().Unix() {
			return nil, errs.New(errs.Invalid, "ExclusiveMinimumSequenceNumber %s used in PutRecord on stream %s under account %s is invalid.", n, s.Name, s.Account)
		}
	}
	if p.scan.DryRun {
		return nil, dryRun()
	}
	err = store(ctx, s, p)
	if err == nil {
		err = p.placed[0].Err
	}
	meterPut(s, p, begun, err)
	if err != nil {
		return nil, err
	}
	if wire == awsapi.CBOR {
		return appendPlacedCBOR(dst, &p.placed[0], p.placed[0].Encrypted), nil
	}
	dst = appendPlaced(append(dst, '{'), &p.placed[0])
	if p.placed[0].Encrypted {
		dst = append(dst, `,"EncryptionType":"KMS"`...)
	}
	return append(dst, '}'), nil
}

func (a *api) putRecords(ctx context.Context, body, dst []byte) ([]byte, error) {
	begun, p := time.Now(), putPool.Get().(*puts)
	defer p.release()
	wire := awsapi.CallerOf(ctx).Wire
	scan := jsonscan.ScanPutRecords
	if wire == awsapi.CBOR {
		scan = cbor.ScanPutRecords
	}
	if err := a.read(ctx, p, body, scan, (*puts).decodeMany); err != nil {
		return nil, err
	}
	s, err := a.prepare(ctx, p, true)
	if err != nil {
		return nil, err
	}
	if p.scan.DryRun {
		return nil, dryRun()
	}
	err = store(ctx, s, p)
	meterPuts(s, p, begun, err)
	if err != nil {
		return nil, err
	}
	if wire == awsapi.CBOR {
		return a.appendResultsCBOR(dst, p.placed), nil
	}
	return a.appendResults(dst, p.placed), nil
}

// read fills p.scan from the body. Records in CBOR have no base64 to decode.
func (a *api) read(ctx context.Context, p *puts, body []byte, scan func([]byte, *jsonscan.Put) bool, general func(p *puts, wire awsapi.Wire, body []byte, keyless func(*streamRef) bool) error) error {
	wire := awsapi.CallerOf(ctx).Wire
	keyless := func(name, arn *string) bool {
		s, err := a.target(ctx, name, arn)
		return err == nil && s.Attributes().Distribution == shards.Auto
	}
	if !scan(body, &p.scan) || !p.keysGiven() && !keyless(text(p.scan.Stream), text(p.scan.ARN)) {
		return general(p, wire, body, func(r *streamRef) bool { return keyless(r.StreamName, r.StreamARN) })
	}
	if wire == awsapi.JSON {
		return decodeBlobs(&p.scan)
	}
	return nil
}

// store puts the records. Its error is that of the whole call, for a stream that was deleted
// meanwhile and for a key that cannot be used; errors of single records are in p.placed.
func store(ctx context.Context, s *shards.Stream, p *puts) error {
	s.Put(ctx, p.records, p.placed)
	for i := range p.placed {
		switch err := p.placed[i].Err; {
		case err == nil:
		case errs.Is(err, errs.NotFound):
			return noStream(s)
		case errs.IsKey(err):
			return err
		}
	}
	return nil
}

func (a *api) appendResultsCBOR(dst []byte, placed []shards.Placed) []byte {
	failed, encrypted := tellApart(placed)
	members := 2
	if encrypted {
		members = 3
	}
	dst = awsapi.Room(dst, 64+len(placed)*placedSize)
	dst = cbor.AppendText(cbor.AppendMapHeader(dst, members), "FailedRecordCount")
	dst = cbor.AppendText(cbor.AppendUint(dst, uint64(failed)), "Records")
	dst = cbor.AppendArrayHeader(dst, len(placed))
	for i := range placed {
		err := placed[i].Err
		if err == nil {
			dst = appendPlacedCBOR(dst, &placed[i], false)
			continue
		}
		name, message := a.recordError(err)
		dst = cbor.AppendText(cbor.AppendText(cbor.AppendMapHeader(dst, 2), "ErrorCode"), name)
		dst = cbor.AppendText(cbor.AppendText(dst, "ErrorMessage"), message)
	}
	if encrypted {
		dst = cbor.AppendText(cbor.AppendText(dst, "EncryptionType"), kms)
	}
	return dst
}

// What stands before the two texts of a placed record in CBOR, whose lengths are always the same.
var (
	cborSequenceNumber = cbor.AppendTextHeader(cbor.AppendText(nil, "SequenceNumber"), shards.SeqDigits)
	cborPlaced         = append(cbor.AppendMapHeader(nil, 2), cborSequenceNumber...)
	// cborPlacedEncrypted is that of a record that stands alone and is encrypted.
	cborPlacedEncrypted = append(cbor.AppendMapHeader(nil, 3), cborSequenceNumber...)
	cborShardID         = cbor.AppendTextHeader(cbor.AppendText(nil, "ShardId"), shards.ShardIDLen)
)

// placedSize is room for the result of a record that was stored, in either encoding.
const placedSize = len(`{"SequenceNumber":"","ShardId":""},`) + shards.SeqDigits + shards.ShardIDLen

// tellApart counts the records that failed, and says whether the others are stored encrypted.
func tellApart(placed []shards.Placed) (failed int, encrypted bool) {
	for i := range placed {
		if placed[i].Err != nil {
			failed++
		} else if placed[i].Encrypted {
			encrypted = true
		}
	}
	return failed, encrypted
}

func appendPlacedCBOR(dst []byte, p *shards.Placed, encrypted bool) []byte {
	first := cborPlaced
	if encrypted {
		first = cborPlacedEncrypted
	}
	dst = p.Seq().AppendTo(append(dst, first...))
	dst = shards.AppendShardID(append(dst, cborShardID...), p.Shard.Number)
	if encrypted {
		dst = cbor.AppendText(cbor.AppendText(dst, "EncryptionType"), kms)
	}
	return dst
}

// recordError names the error of one record.
func (a *api) recordError(err error) (name, message string) {
	name, _ = a.service.Describe(err)
	if name == "ProvisionedThroughputExceededException" {
		return name, err.Error()
	}
	return name, "Internal Service Failure"
}

func (a *api) appendResults(dst []byte, placed []shards.Placed) []byte {
	failed, encrypted := tellApart(placed)
	dst = awsapi.Room(dst, 64+len(placed)*placedSize)
	dst = append(dst, `{"FailedRecordCount":`...)
	dst = strconv.AppendInt(dst, int64(failed), 10)
	dst = append(dst, `,"Records":[`...)
	for i := range placed {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '{')
		if err := placed[i].Err; err != nil {
			name, message := a.recordError(err)
			dst = jsonscan.AppendString(append(dst, `"ErrorCode":`...), name)
			dst = jsonscan.AppendString(append(dst, `,"ErrorMessage":`...), message)
		} else {
			dst = appendPlaced(dst, &placed[i])
		}
		dst = append(dst, '}')
	}
	dst = append(dst, ']')
	if encrypted {
		dst = append(dst, `,"EncryptionType":"KMS"`...)
	}
	return append(dst, '}')
}

func appendPlaced(dst []byte, p *shards.Placed) []byte {
	dst = append(dst, `"SequenceNumber":"`...)
	dst = p.Seq().AppendTo(dst)
	dst = append(dst, `","ShardId":"`...)
	return append(shards.AppendShardID(dst, p.Shard.Number), '"')
}

// prepare finds the stream and turns the entries into records.
func (a *api) prepare(ctx context.Context, p *puts, batch bool) (*shards.Stream, error) {
	s, err := a.target(ctx, text(p.scan.Stream), text(p.scan.ARN))
	if err != nil {
		return nil, err
	}
	if st := s.State(); st == shards.Creating || st == shards.Deleting {
		return nil, noStream(s)
	}
	p.records = p.records[:0]
	auto := s.Attributes().Distribution == shards.Auto
	total := 0
	for i := range p.scan.Entries {
		e := &p.scan.Entries[i]
		r := shards.PutRecord{Key: e.PartitionKey, Data: e.Data}
		if e.ExplicitHashKey != nil && !auto {
			h, ok := shards.ParseHash(string(e.ExplicitHashKey))
			if !ok {
				return nil, errs.New(errs.Invalid, "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was %s", e.ExplicitHashKey)
			}
			p.hashes[i] = h
			r.Explicit = &p.hashes[i]
		}
		size := len(e.Data) + len(e.PartitionKey)
		if size > s.Attributes().MaxRecordSize {
			return nil, tooLarge(i, batch, s.Attributes().MaxRecordSize)
		}
		total += size
		p.records = append(p.records, r)
	}
	if total > maxPutBytes { // AWS's sentence is not known
		return nil, errs.New(errs.Invalid, "The records of this request have %d bytes of data and partition keys together, more than %d.", total, maxPutBytes)
	}
	if cap(p.placed) < len(p.records) {
		p.placed = make([]shards.Placed, len(p.records))
	}
	p.placed = p.placed[:len(p.records)]
	return s, nil
}

func text(b []byte) *string {
	if b == nil {
		return nil
	}
	return ptr(string(b))
}

// tooLarge is the complaint about a record above the stream's own limit, which counts the key too.
func tooLarge(i int, batch bool, limit int) error {
	path := "data"
	if batch {
		path = "records." + strconv.Itoa(i+1) + ".member.data"
	}
	return &awsapi.ValidationError{Message: "1 validation error detected: Value at '" + path + "' failed to satisfy constraint: Member must have length less than or equal to " + strconv.Itoa(limit)}
}
