package shards

import (
	"cmp"
	"slices"
	"sync/atomic"
)

// Counting. A stream counts what it takes in and gives out since the host was started, by AWS's
// names. Its shards are counted one by one as well for as long as some ShardMetrics of it are
// enabled. Counting is adding to an atomic; shards/metrics writes the numbers out. Sizes are of data
// and partition keys together.

// Metric is a number that streams keep.
type Metric uint8

// The metrics of streams. Incoming counts records that were stored, whoever put them; Put… and the
// others count what the operations of the wire did.
const (
	IncomingBytes Metric = iota
	IncomingRecords
	WriteProvisionedThroughputExceeded // records
	ReadProvisionedThroughputExceeded  // calls
	PutRecordBytes
	PutRecordLatency // microseconds
	PutRecordSuccess
	PutRecordsBytes
	PutRecordsLatency
	PutRecordsSuccess
	PutRecordsTotalRecords
	PutRecordsSuccessfulRecords
	PutRecordsFailedRecords
	PutRecordsThrottledRecords
	GetRecordsBytes
	GetRecordsRecords
	GetRecordsIteratorAge // milliseconds
	GetRecordsLatency
	GetRecordsSuccess
	SubscribeToShardSuccess
	SubscribeToShardRateExceeded
	SubscribeToShardEventBytes
	SubscribeToShardEventRecords
	SubscribeToShardEventMillisBehindLatest
	SubscribeToShardEventSuccess
	Metrics // how many there are
)

// Meter is the metrics of one stream. Its zero value is ready.
type Meter [Metrics]struct{ sum, count atomic.Int64 }

// Add adds n to a metric that counts.
func (m *Meter) Add(k Metric, n int) { m[k].sum.Add(int64(n)) }

// Observe adds one value to a metric whose values are told by their sum and number.
func (m *Meter) Observe(k Metric, v int64) {
	m[k].sum.Add(v)
	m[k].count.Add(1)
}

// Read is a metric's sum and, if its values are observed, their number.
func (m *Meter) Read(k Metric) (sum, count int64) { return m[k].sum.Load(), m[k].count.Load() }

// ShardMetrics are the metrics that a shard can have, as AWS names and orders them.
var ShardMetrics = [...]string{"IncomingBytes", "IncomingRecords", "OutgoingBytes", "OutgoingRecords",
	"WriteProvisionedThroughputExceeded", "ReadProvisionedThroughputExceeded", "IteratorAgeMilliseconds"}

const (
	shardIncomingBytes = iota
	shardIncomingRecords
	shardOutgoingBytes
	shardOutgoingRecords
	shardWriteExceeded
	shardReadExceeded
	shardIteratorAge // the last one seen, milliseconds; the others count
)

// ShardMeter is the metrics of one shard, in the order of ShardMetrics.
type ShardMeter [len(ShardMetrics)]atomic.Int64

// Read is the metric at a place in ShardMetrics.
func (m *ShardMeter) Read(i int) int64 { return m[i].Load() }

// ShardMeter is a shard's meter; nil while no ShardMetrics of the stream are enabled.
func (s *Stream) ShardMeter(sh *Shard) *ShardMeter {
	if len(s.Attributes().ShardMetrics) == 0 {
		return nil
	}
	return &sh.traffic.meter
}

// meterIn counts entries that were stored.
func (s *Stream) meterIn(sh *Shard, entries []Entry) {
	n, bytes := len(entries), 0
	for i := range entries {
		bytes += len(entries[i].Key) + dataSize(entries[i].Flags, entries[i].Data)
	}
	sh.traffic.records.Add(int64(n))
	sh.traffic.bytes.Add(int64(bytes))
	s.Meter.Add(IncomingBytes, bytes)
	s.Meter.Add(IncomingRecords, n)
	if m := s.ShardMeter(sh); m != nil {
		m[shardIncomingBytes].Add(int64(bytes))
		m[shardIncomingRecords].Add(int64(n))
	}
}

// meterThrottled counts a record that its shard did not take because there were too many.
func (s *Stream) meterThrottled(sh *Shard) {
	s.Meter.Add(WriteProvisionedThroughputExceeded, 1)
	if m := s.ShardMeter(sh); m != nil {
		m[shardWriteExceeded].Add(1)
	}
}

// MeterRead counts records that a client was given of a shard, and how far behind the tip they end,
// in milliseconds. It returns their size.
func (s *Stream) MeterRead(sh *Shard, recs []Record, behind int64) (bytes int) {
	for i := range recs {
		bytes += len(recs[i].Key) + len(recs[i].Data)
	}
	if m := s.ShardMeter(sh); m != nil {
		m[shardOutgoingBytes].Add(int64(bytes))
		m[shardOutgoingRecords].Add(int64(len(recs)))
		m[shardIteratorAge].Store(behind)
	}
	return bytes
}

// MeterReadThrottled counts a read of a shard that was refused because there were too many.
func (s *Stream) MeterReadThrottled(sh *Shard) {
	s.Meter.Add(ReadProvisionedThroughputExceeded, 1)
	if m := s.ShardMeter(sh); m != nil {
		m[shardReadExceeded].Add(1)
	}
}

// All lists the streams of every account and region that are not private, in order of account,
// region and name.
func (ss *Streams) All() []*Stream {
	out := ss.all(func(s *Stream) bool { return !s.Private && s.alive() })
	slices.SortFunc(out, func(a, b *Stream) int {
		return cmp.Or(cmp.Compare(a.Account, b.Account), cmp.Compare(a.Region, b.Region), cmp.Compare(a.Name, b.Name))
	})
	return out
}
