package kinesisapi

import (
	"strconv"
	"sync"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/awsapi/cbor"
	"github.com/shardmill/shardmill/internal/awsapi/jsonscan"
	"github.com/shardmill/shardmill/shards"
)

// Records on their way to a client, of GetRecords and of SubscribeToShard.

// recordsOut is an answer of GetRecords: what stands before the list of records, the records, and
// what follows them. It is made in pieces; only the list of records itself, whose data are shared
// with the journal, is held until the last one is sent.
type recordsOut struct {
	sh         *shards.Shard
	recs       []shards.Record
	head, tail []byte
	codec      *recordCodec
	at         int // records that have been appended
	arrived    arrival
}

// recordCodec writes a list of records. size must tell exactly what the others append.
type recordCodec struct {
	open   func(dst []byte, n int) []byte // before the first of n records
	stamp  func(dst []byte, ms int64) []byte
	size   func(r *shards.Record, stamp []byte) int
	record func(dst []byte, sh *shards.Shard, r *shards.Record, stamp []byte) []byte
	comma  string // between records
	close  string // after the last
}

// arrival is the encoded arrival time of the last record: records that were put together share it.
type arrival struct {
	ms   int64
	text []byte
}

func (a *arrival) of(c *recordCodec, ms int64) []byte {
	if a.text == nil || a.ms != ms {
		a.ms, a.text = ms, c.stamp(a.text[:0], ms)
	}
	return a.text
}

var recordsPool = sync.Pool{New: func() any { return new(recordsOut) }}

func newRecordsOut(wire awsapi.Wire, sh *shards.Shard) *recordsOut {
	o := recordsPool.Get().(*recordsOut)
	o.sh, o.codec = sh, &jsonRecords
	if wire == awsapi.CBOR {
		o.codec = &cborRecords
	}
	return o
}

// release forgets the records and keeps the memory of their list.
func (o *recordsOut) release() {
	clear(o.recs)
	*o = recordsOut{recs: o.recs[:0]}
	recordsPool.Put(o)
}

// goOnWith ends the answer with the iterator for the next one.
func (o *recordsOut) goOnWith(next string, behind int64) {
	if o.codec == &cborRecords {
		o.head = cbor.AppendText(cbor.AppendMapHeader(nil, 3), "Records")
		o.tail = cbor.AppendText(cbor.AppendText(nil, "NextShardIterator"), next)
		o.tail = cbor.AppendInt(cbor.AppendText(o.tail, "MillisBehindLatest"), behind)
		return
	}
	o.head = []byte(`{"Records":`)
	o.tail = append(append([]byte(`,"NextShardIterator":"`), next...), `","MillisBehindLatest":`...)
	o.tail = append(strconv.AppendInt(o.tail, behind, 10), '}')
}

// endWith makes it the answer to who has read everything of a closed shard: no iterator, but the
// shards to go on with. KCL takes nothing between the two.
func (o *recordsOut) endWith(children []*shards.Shard) {
	if o.codec == &cborRecords {
		o.head = cbor.AppendText(cbor.AppendMapHeader(nil, 3), "Records")
		o.tail = cbor.AppendInt(cbor.AppendText(nil, "MillisBehindLatest"), 0)
		o.tail = appendChildrenCBOR(cbor.AppendText(o.tail, "ChildShards"), children)
		return
	}
	o.head = []byte(`{"Records":`)
	o.tail = append(appendChildren([]byte(`,"MillisBehindLatest":0,"ChildShards":`), children), '}')
}

// answer is the finished answer. It owns o from now on.
func (o *recordsOut) answer() *awsapi.Long {
	o.head = o.codec.open(o.head, len(o.recs))
	size := len(o.head) + len(o.codec.close) + len(o.tail) + len(o.codec.comma)*max(len(o.recs)-1, 0)
	for i := range o.recs {
		size += o.codec.size(&o.recs[i], o.arrived.of(o.codec, o.recs[i].Arrived))
	}
	return &awsapi.Long{Size: size, Next: o.next, Done: o.release}
}

// next appends the next piece of the answer.
func (o *recordsOut) next(dst []byte) []byte {
	if o.at == 0 {
		dst = append(dst, o.head...)
	}
	for ; o.at < len(o.recs) && len(dst) < awsapi.PieceSize; o.at++ {
		if o.at > 0 {
			dst = append(dst, o.codec.comma...)
		}
		r := &o.recs[o.at]
		dst = o.codec.record(dst, o.sh, r, o.arrived.of(o.codec, r.Arrived))
	}
	if o.at == len(o.recs) {
		dst = append(append(dst, o.codec.close...), o.tail...)
	}
	return dst
}

// What a record may go without: a partition key, if it was put without one into a stream that places
// records itself, and encryption.
const (
	jsonKey       = `,"PartitionKey":`
	jsonEncrypted = `,"EncryptionType":"KMS"`
)

var jsonRecords = recordCodec{
	open:  func(dst []byte, _ int) []byte { return append(dst, '[') },
	stamp: func(dst []byte, ms int64) []byte { return awsapi.Timestamp(ms).Append(dst) },
	size: func(r *shards.Record, stamp []byte) int {
		const rest = len(`{"SequenceNumber":"","ApproximateArrivalTimestamp":,"Data":""}`) + shards.SeqDigits
		n := rest + len(stamp) + jsonscan.Base64Len(len(r.Data))
		if len(r.Key) > 0 {
			n += len(jsonKey) + jsonscan.StringLen(r.Key)
		}
		if r.Flags&shards.Encrypted != 0 {
			n += len(jsonEncrypted)
		}
		return n
	},
	record: func(dst []byte, sh *shards.Shard, r *shards.Record, stamp []byte) []byte {
		dst = append(dst, `{"SequenceNumber":"`...)
		dst = sh.Seq(r.Pos, r.Arrived).AppendTo(dst)
		dst = append(dst, `","ApproximateArrivalTimestamp":`...)
		dst = append(dst, stamp...)
		dst = append(dst, `,"Data":"`...)
		dst = jsonscan.AppendBase64(dst, r.Data)
		dst = append(dst, '"')
		if len(r.Key) > 0 {
			dst = jsonscan.AppendString(append(dst, jsonKey...), r.Key)
		}
		if r.Flags&shards.Encrypted != 0 {
			dst = append(dst, jsonEncrypted...)
		}
		return append(dst, '}')
	},
	comma: ",",
	close: "]",
}

// What stands before the members of a record in CBOR.
var (
	cborRecord = [3][]byte{ // by the number of members that a record may go without and has
		append(cbor.AppendMapHeader(nil, 3), cborSequenceNumber...),
		append(cbor.AppendMapHeader(nil, 4), cborSequenceNumber...),
		append(cbor.AppendMapHeader(nil, 5), cborSequenceNumber...),
	}
	cborArrival   = cbor.AppendText(nil, "ApproximateArrivalTimestamp")
	cborData      = cbor.AppendText(nil, "Data")
	cborKey       = cbor.AppendText(nil, "PartitionKey")
	cborEncrypted = cbor.AppendText(cbor.AppendText(nil, "EncryptionType"), kms)
)

var cborRecords = recordCodec{
	open:  cbor.AppendArrayHeader,
	stamp: cbor.AppendTimestamp,
	size: func(r *shards.Record, stamp []byte) int {
		n := len(cborRecord[0]) + shards.SeqDigits + len(cborArrival) + len(cborData) + len(stamp) + cbor.HeaderLen(len(r.Data)) + len(r.Data)
		if len(r.Key) > 0 {
			n += len(cborKey) + cbor.TextLen(r.Key)
		}
		if r.Flags&shards.Encrypted != 0 {
			n += len(cborEncrypted)
		}
		return n
	},
	record: func(dst []byte, sh *shards.Shard, r *shards.Record, stamp []byte) []byte {
		more := 0
		if len(r.Key) > 0 {
			more++
		}
		if r.Flags&shards.Encrypted != 0 {
			more++
		}
		dst = sh.Seq(r.Pos, r.Arrived).AppendTo(append(dst, cborRecord[more]...))
		dst = append(append(dst, cborArrival...), stamp...)
		dst = cbor.AppendBytes(append(dst, cborData...), r.Data)
		if len(r.Key) > 0 {
			dst = cbor.AppendText(append(dst, cborKey...), r.Key)
		}
		if r.Flags&shards.Encrypted != 0 {
			dst = append(dst, cborEncrypted...)
		}
		return dst
	},
}

// appendRecord appends one record in JSON.
func appendRecord(dst []byte, sh *shards.Shard, r *shards.Record) []byte {
	var stamp [24]byte
	return jsonRecords.record(dst, sh, r, jsonRecords.stamp(stamp[:0], r.Arrived))
}

func appendChildrenCBOR(dst []byte, children []*shards.Shard) []byte {
	dst = cbor.AppendArrayHeader(dst, len(children))
	for _, c := range children {
		dst = cbor.AppendText(cbor.AppendText(cbor.AppendMapHeader(dst, 3), "ShardId"), c.String())
		dst = cbor.AppendArrayHeader(cbor.AppendText(dst, "ParentShards"), len(c.Parents))
		for _, p := range c.Parents {
			dst = cbor.AppendText(dst, shards.FormatShardID(p))
		}
		dst = cbor.AppendMapHeader(cbor.AppendText(dst, "HashKeyRange"), 2)
		dst = cbor.AppendText(cbor.AppendText(dst, "StartingHashKey"), c.Start.String())
		dst = cbor.AppendText(cbor.AppendText(dst, "EndingHashKey"), c.End.String())
	}
	return dst
}

func appendChildren(dst []byte, children []*shards.Shard) []byte {
	dst = append(dst, '[')
	for i, c := range children {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(append(dst, `{"ShardId":"`...), c.String()...)
		for j, p := range c.Parents {
			dst = append(dst, []string{`","ParentShards":["`, `","`}[j]...)
			dst = append(dst, shards.FormatShardID(p)...)
		}
		dst = append(append(dst, `"],"HashKeyRange":{"StartingHashKey":"`...), c.Start.String()...)
		dst = append(append(dst, `","EndingHashKey":"`...), c.End.String()...)
		dst = append(dst, `"}}`...)
	}
	return append(dst, ']')
}
