package shards

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

// Throughput is what a shard takes and gives when it is to be limited as AWS's are ("Kinesis docs:
// quotas and limits"). A zero field does not limit.
type Throughput struct {
	WriteBytes   float64 // a second, data and keys
	WriteRecords float64 // a second
	ReadBytes    float64 // a second, for all GetRecords callers together
	ReadCalls    float64 // GetRecords calls a second
	IteratorCall float64 // GetShardIterator calls a second
	FanOutBytes  float64 // a second, for each registered consumer
}

// AWSThroughput is what AWS allows.
var AWSThroughput = Throughput{WriteBytes: 1 << 20, WriteRecords: 1000, ReadBytes: 2 << 20, ReadCalls: 5, IteratorCall: 5, FanOutBytes: 2 << 20}

// traffic is what a shard has taken and given lately.
type traffic struct {
	records, bytes atomic.Int64 // taken since scaleOnDemand last looked
	meter          ShardMeter

	mu                       sync.Mutex
	writeBytes, writeRecords Bucket
	readCalls, iteratorCalls Bucket
	reads                    time.Time // until then, reading is paid for
}

// Bucket limits a rate. It holds what may be used at once: one second's worth when it is full. It may go into debt by
// one use, which later ones wait for: so a record that is larger than a second's worth can be put at
// all, and the average holds. The zero value is full.
type Bucket struct {
	level float64
	at    time.Time
}

func (b *Bucket) fill(now time.Time, perSecond float64) {
	if b.at.IsZero() {
		b.level = perSecond
	} else {
		b.level = min(perSecond, b.level+perSecond*now.Sub(b.at).Seconds())
	}
	b.at = now
}

// Take is one use of one unit; false if there is nothing left. A rate of 0 is no limit.
func (b *Bucket) Take(now time.Time, perSecond float64) bool {
	if perSecond == 0 {
		return true
	}
	b.fill(now, perSecond)
	if b.level < 1 {
		return false
	}
	b.level--
	return true
}

// admit lets a record of n bytes into a shard, or not.
func (t *traffic) admit(now time.Time, l *Throughput, n int) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.writeBytes.fill(now, l.WriteBytes)
	t.writeRecords.fill(now, l.WriteRecords)
	if l.WriteBytes > 0 && t.writeBytes.level <= 0 || l.WriteRecords > 0 && t.writeRecords.level < 1 {
		return false
	}
	t.writeBytes.level -= float64(n)
	t.writeRecords.level--
	return true
}

// admit takes the records out of order that their shards' limits do not let in.
func (w *scratch) admit(s *Stream, l *Throughput, recs []PutRecord, out []Placed) {
	now, left := time.Now(), w.order[:0]
	for _, k := range w.order {
		if sh := w.shard[k]; sh.traffic.admit(now, l, len(recs[k].Key)+len(recs[k].Data)) {
			left = append(left, k)
		} else {
			s.meterThrottled(sh)
			out[k] = Placed{Err: errs.New(errs.Throttled, "Rate exceeded for shard %s in stream %s under account %s.", sh, s.Name, s.Account)}
		}
	}
	w.order = left
}

// AdmitRead lets a GetRecords call have records of a shard, or refuses it (errs.Throttled). Five calls a
// second are let in, and none while the bytes of earlier ones are still being paid for: the 10 MiB that
// one call can get at most are five seconds' worth.
func (s *Stream) AdmitRead(sh *Shard) error {
	l := s.owner.options.Throughput
	if l == nil {
		return nil
	}
	t, now := sh.traffic, time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Before(t.reads) || !t.readCalls.Take(now, l.ReadCalls) {
		return errs.New(errs.Throttled, "Rate exceeded for Shard - %s/%s/%s", s.Account, s.Name, sh)
	}
	return nil
}

// PayRead says how much an admitted call got.
func (s *Stream) PayRead(sh *Shard, recs []Record) {
	l := s.owner.options.Throughput
	if l == nil || l.ReadBytes == 0 {
		return
	}
	t, now := sh.traffic, time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reads.Before(now) {
		t.reads = now
	}
	t.reads = t.reads.Add(worth(recs, l.ReadBytes))
}

// worth is the time in which a rate lets records through.
func worth(recs []Record, perSecond float64) time.Duration {
	n := 0
	for i := range recs {
		n += len(recs[i].Key) + len(recs[i].Data)
	}
	return time.Duration(float64(n) / perSecond * float64(time.Second))
}

// AdmitIterator lets a GetShardIterator call in, or refuses it (errs.Throttled).
func (s *Stream) AdmitIterator(sh *Shard) error {
	l := s.owner.options.Throughput
	if l == nil {
		return nil
	}
	sh.traffic.mu.Lock()
	defer sh.traffic.mu.Unlock()
	if !sh.traffic.iteratorCalls.Take(time.Now(), l.IteratorCall) {
		return errs.New(errs.Throttled, "Rate exceeded for shard %s in stream %s under account %s.", sh, s.Name, s.Account)
	}
	return nil
}

// FanOutPause is how long a subscription that was sent records waits before the next.
func (s *Stream) FanOutPause(recs []Record) time.Duration {
	l := s.owner.options.Throughput
	if l == nil || l.FanOutBytes == 0 || len(recs) == 0 {
		return 0
	}
	return worth(recs, l.FanOutBytes)
}
