package firehoseapi

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/awsapi/jsonscan"
	"github.com/shardmill/shardmill/shards"
)

// maxBatchBytes is the most data that one PutRecordBatch may carry.
const maxBatchBytes = 4 << 20

type dataRecord struct {
	Data []byte `aws:"required,min=0,max=1024000"`
}

type putRecordIn struct {
	DeliveryStreamName *string     `aws:"required,min=1,max=64" pattern:"[a-zA-Z0-9_.-]+"`
	Record             *dataRecord `aws:"required"`
}

type putRecordBatchIn struct {
	DeliveryStreamName *string      `aws:"required,min=1,max=64" pattern:"[a-zA-Z0-9_.-]+"`
	Records            []dataRecord `aws:"required,min=1,max=500"`
}

type puts struct {
	scan    jsonscan.Put
	records []shards.PutRecord
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
	p := putPool.Get().(*puts)
	defer p.release()
	if jsonscan.ScanFirehosePutRecord(body, &p.scan) {
		if err := p.decode(); err != nil {
			return nil, err
		}
	} else {
		in := new(putRecordIn)
		if err := decodeAndValidate(body, in); err != nil {
			return nil, err
		}
		p.take(*in.DeliveryStreamName, []dataRecord{*in.Record})
	}
	if err := a.put(ctx, p); err != nil {
		return nil, err
	}
	if err := p.placed[0].Err; err != nil {
		return nil, err
	}
	dst = appendRecordID(append(dst, '{'), &p.placed[0])
	return append(dst, `,"Encrypted":false}`...), nil
}

func (a *api) putRecordBatch(ctx context.Context, body, dst []byte) ([]byte, error) {
	p := putPool.Get().(*puts)
	defer p.release()
	if jsonscan.ScanFirehosePutRecordBatch(body, &p.scan) {
		if err := p.decode(); err != nil {
			return nil, err
		}
	} else {
		in := new(putRecordBatchIn)
		if err := decodeAndValidate(body, in); err != nil {
			return nil, err
		}
		p.take(*in.DeliveryStreamName, in.Records)
	}
	if err := a.put(ctx, p); err != nil {
		return nil, err
	}
	failed := 0
	for i := range p.placed {
		if p.placed[i].Err != nil {
			failed++
		}
	}
	dst = awsapi.Room(dst, 80+len(p.placed)*(len(`{"RecordId":""},`)+shards.SeqDigits))
	dst = append(dst, `{"FailedPutCount":`...)
	dst = strconv.AppendInt(dst, int64(failed), 10)
	dst = append(dst, `,"Encrypted":false,"RequestResponses":[`...)
	for i := range p.placed {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '{')
		if err := p.placed[i].Err; err != nil {
			name, message := a.service.Describe(err)
			dst = jsonscan.AppendString(append(dst, `"ErrorCode":`...), name)
			dst = jsonscan.AppendString(append(dst, `,"ErrorMessage":`...), message)
		} else {
			dst = appendRecordID(dst, &p.placed[i])
		}
		dst = append(dst, '}')
	}
	return append(dst, `]}`...), nil
}

// appendRecordID writes the record's id, which is its sequence number in the private stream.
func appendRecordID(dst []byte, p *shards.Placed) []byte {
	dst = append(dst, `"RecordId":"`...)
	return append(p.Seq().AppendTo(dst), '"')
}

func (p *puts) decode() error {
	err := p.scan.Decode()
	var blob *jsonscan.BlobError
	if errors.As(err, &blob) {
		return &awsapi.SerializationError{Message: blob.Message}
	}
	return err
}

func decodeAndValidate(body []byte, in any) error {
	if err := awsapi.DecodeJSON(body, in); err != nil {
		return err
	}
	return awsapi.Validate(in)
}

func (p *puts) take(name string, records []dataRecord) {
	p.scan.Stream = []byte(name)
	p.scan.Entries = p.scan.Entries[:0]
	for i := range records {
		p.scan.Entries = append(p.scan.Entries, jsonscan.Entry{Data: records[i].Data})
	}
}

// put stores the scanned records.
func (a *api) put(ctx context.Context, p *puts) error {
	var d *firehose.DeliveryStream
	d, err := a.streams.Get(scopeOf(ctx), string(p.scan.Stream))
	if err != nil {
		return err
	}
	total := 0
	p.records = p.records[:0]
	for i := range p.scan.Entries {
		total += len(p.scan.Entries[i].Data)
		p.records = append(p.records, shards.PutRecord{Data: p.scan.Entries[i].Data})
	}
	if total > maxBatchBytes {
		return invalid("The records of this request have %d bytes of data together, more than %d.", total, maxBatchBytes)
	}
	if cap(p.placed) < len(p.records) {
		p.placed = make([]shards.Placed, len(p.records))
	}
	p.placed = p.placed[:len(p.records)]
	return d.Put(ctx, p.records, p.placed)
}
