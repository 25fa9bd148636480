package kinesisapi

import (
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// What the operations of the data plane count, under AWS's names. Requests that fail before their
// stream is known, and dry runs, count nowhere.

func meterPut(s *shards.Stream, p *puts, begun time.Time, err error) {
	s.Meter.Observe(shards.PutRecordLatency, time.Since(begun).Microseconds())
	if err == nil {
		s.Meter.Add(shards.PutRecordBytes, len(p.records[0].Key)+len(p.records[0].Data))
		s.Meter.Add(shards.PutRecordSuccess, 1)
	}
}

// meterPuts counts a PutRecords; err is that of the whole call.
func meterPuts(s *shards.Stream, p *puts, begun time.Time, err error) {
	m := &s.Meter
	m.Observe(shards.PutRecordsLatency, time.Since(begun).Microseconds())
	m.Add(shards.PutRecordsTotalRecords, len(p.records))
	stored, bytes := 0, 0
	for i := range p.placed {
		switch one := p.placed[i].Err; {
		case one == nil:
			stored++
			bytes += len(p.records[i].Key) + len(p.records[i].Data)
		case errs.Is(one, errs.Throttled):
			m.Add(shards.PutRecordsThrottledRecords, 1)
		default:
			m.Add(shards.PutRecordsFailedRecords, 1)
		}
	}
	m.Add(shards.PutRecordsSuccessfulRecords, stored)
	m.Add(shards.PutRecordsBytes, bytes)
	if err == nil && stored > 0 {
		m.Add(shards.PutRecordsSuccess, 1)
	}
}

func meterGet(s *shards.Stream, sh *shards.Shard, recs []shards.Record, behind int64, begun time.Time, err error) {
	m := &s.Meter
	m.Observe(shards.GetRecordsLatency, time.Since(begun).Microseconds())
	if errs.Is(err, errs.Throttled) {
		s.MeterReadThrottled(sh)
	}
	if err != nil {
		return
	}
	m.Add(shards.GetRecordsSuccess, 1)
	m.Add(shards.GetRecordsBytes, s.MeterRead(sh, recs, behind))
	m.Add(shards.GetRecordsRecords, len(recs))
	m.Observe(shards.GetRecordsIteratorAge, behind)
}

func meterEvent(s *shards.Stream, sh *shards.Shard, recs []shards.Record, behind int64) {
	m := &s.Meter
	m.Add(shards.SubscribeToShardEventSuccess, 1)
	m.Add(shards.SubscribeToShardEventBytes, s.MeterRead(sh, recs, behind))
	m.Add(shards.SubscribeToShardEventRecords, len(recs))
	m.Observe(shards.SubscribeToShardEventMillisBehindLatest, behind)
}
