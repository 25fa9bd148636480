package kinesisapi

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// SubscribeToShard pushes a shard's records to a registered consumer as they are committed, for five
// minutes. A consumer has one subscription a shard: a new one takes over from the old, but not
// within five seconds of it.

const (
	subscriptionLife = 5 * time.Minute
	takeOverAfter    = 5 * time.Second
	heartbeat        = 5 * time.Second // an event at least this often, empty if need be
	eventRecords     = 10_000
	eventBytes       = 512 << 10 // of data and keys; clients are known to give a stream this window
)

type startingPosition struct {
	Type           *string `aws:"required" enum:"AFTER_SEQUENCE_NUMBER,LATEST,AT_TIMESTAMP,AT_SEQUENCE_NUMBER,TRIM_HORIZON"`
	SequenceNumber *string `pattern:"0|([1-9]\\d{0,128})"`
	Timestamp      *awsapi.Timestamp
}

type subscribeToShardIn struct {
	ConsumerARN      *string           `aws:"required,min=1,max=2048" pattern:"^(arn):aws.*:kinesis:.*:\\d{12}:.*stream\\/[a-zA-Z0-9_.-]+\\/consumer\\/[a-zA-Z0-9_.-]+:[0-9]+"`
	StreamId         *string           `aws:"min=1,max=24" pattern:"[a-z0-9]{20}-[a-z0-9]{3}"`
	ShardId          *string           `aws:"required,min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
	StartingPosition *startingPosition `aws:"required"`
	DryRun           *bool
}

func (a *api) subscribeToShard(ctx context.Context, in *subscribeToShardIn) (func(context.Context, *awsapi.EventStream) error, error) {
	s, c, err := a.consumer(ctx, &consumerRef{ConsumerARN: in.ConsumerARN})
	if err != nil {
		return nil, err
	}
	if s.ConsumerState(c) != shards.Active {
		return nil, consumerNotActive(s, c)
	}
	n, err := shardNumber(s.Account, s.Name, *in.ShardId)
	if err != nil {
		return nil, err
	}
	sh := s.Shard(n)
	if sh == nil {
		return nil, noShard(s.Account, s.Name, n)
	}
	p := in.StartingPosition
	pos, err := startOf(ctx, s, sh, &getShardIteratorIn{ShardIteratorType: p.Type, StartingSequenceNumber: p.SequenceNumber, Timestamp: p.Timestamp})
	if err != nil {
		return nil, err
	}
	if value(in.DryRun) {
		return nil, dryRun()
	}
	sub, err := a.subscriptions.begin(subscriptionKey{c.ARN(s), n})
	if err != nil {
		s.Meter.Add(shards.SubscribeToShardRateExceeded, 1)
		return nil, err
	}
	s.Meter.Add(shards.SubscribeToShardSuccess, 1)
	return func(ctx context.Context, out *awsapi.EventStream) error {
		defer a.subscriptions.end(sub)
		return a.push(ctx, s, sh, pos, sub, out)
	}, nil
}

// push sends events until the subscription's time is over, somebody ends it, the client is gone, or
// the shard has come to its end: that is told by a last event, which names the shards to go on with.
func (a *api) push(ctx context.Context, s *shards.Stream, sh *shards.Shard, pos shards.Pos, sub *subscription, out *awsapi.EventStream) error {
	wake := make(chan struct{}, 1)
	defer s.Watch(sh, wake)()
	life := time.NewTimer(subscriptionLife)
	defer life.Stop()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	var recs []shards.Record
	var event []byte
	for quiet := false; ; {
		changed := s.Changed()
		var behind int64
		var err error
		recs, behind, err = s.Read(ctx, sh, pos, shards.Budget{Records: eventRecords, Bytes: eventBytes}, recs[:0])
		if err != nil {
			return err
		}
		if len(recs) == 0 && s.Ended(sh.Number, pos) {
			event = append(append(event[:0], `{"Records":[],"MillisBehindLatest":0,"ChildShards":`...), appendChildren(nil, s.Children(sh.Number))...)
			return out.Send("SubscribeToShardEvent", append(event, '}'))
		}
		if len(recs) > 0 || !quiet {
			if n := len(recs); n > 0 {
				pos = recs[n-1].Pos
			}
			event = appendEvent(event[:0], sh, recs, pos, behind)
			if err := out.Send("SubscribeToShardEvent", event); err != nil {
				return err
			}
			meterEvent(s, sh, recs, behind)
			beat.Reset(heartbeat)
			if pause := s.FanOutPause(recs); pause > 0 {
				select {
				case <-ctx.Done():
					return nil
				case why := <-sub.ended:
					return why
				case <-time.After(pause):
				}
			}
		}
		next := changed
		if behind > 0 || s.Ended(sh.Number, pos) { // there is more to send already
			next = now
		}
		select {
		case <-ctx.Done():
			return nil
		case <-life.C:
			return nil
		case why := <-sub.ended:
			return why
		case <-wake:
			quiet = true // send nothing for a wake without records
		case <-next:
			quiet = true
		case <-beat.C:
			quiet = false
		}
	}
}

// now is ready at once.
var now = func() <-chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// appendEvent writes a SubscribeToShardEvent. Its continuation lies above the last record delivered
// and below the next one, so that AT and AFTER both go on there: the position of the last one, a
// second later.
func appendEvent(dst []byte, sh *shards.Shard, recs []shards.Record, pos shards.Pos, behind int64) []byte {
	dst = append(dst, `{"Records":[`...)
	later := time.Now().Unix()
	for i := range recs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendRecord(dst, sh, &recs[i])
		later = max(later, recs[i].Arrived/1000+1)
	}
	dst = append(dst, `],"ContinuationSequenceNumber":"`...)
	dst = shards.Seq{Created: sh.Created, Shard: sh.Number, Pos: pos, Time: max(later, sh.Created)}.AppendTo(dst)
	dst = append(dst, `","MillisBehindLatest":`...)
	return append(strconv.AppendInt(dst, behind, 10), '}')
}

type subscriptionKey struct {
	consumer string // ARN
	shard    uint32
}

// subscription is one subscription under way, or the memory of one for the five seconds in which
// it keeps others away.
type subscription struct {
	key   subscriptionKey
	began time.Time
	ended chan error // gets why, once
	over  bool
}

// subscriptions is who has which shard.
type subscriptions struct {
	mu  sync.Mutex
	all map[subscriptionKey]*subscription
}

// begin takes the shard for a consumer.
func (ss *subscriptions) begin(key subscriptionKey) (*subscription, error) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for k, old := range ss.all { // memories fade
		if old.over && time.Since(old.began) >= takeOverAfter {
			delete(ss.all, k)
		}
	}
	if old := ss.all[key]; old != nil {
		if time.Since(old.began) < takeOverAfter {
			return nil, errs.New(errs.InUse, "Another active subscription exists for this consumer: %s", key.consumer)
		}
		old.stop(errs.New(errs.InUse, "Another subscription of the consumer took over: %s", key.consumer))
	}
	sub := &subscription{key: key, began: time.Now(), ended: make(chan error, 1)}
	if ss.all == nil {
		ss.all = make(map[subscriptionKey]*subscription)
	}
	ss.all[key] = sub
	return sub, nil
}

func (s *subscription) stop(why error) {
	select {
	case s.ended <- why:
	default: // it has been told already
	}
}

// end gives the shard back.
func (ss *subscriptions) end(sub *subscription) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	sub.over = true
}

// endAll ends the subscriptions of a consumer that is gone.
func (ss *subscriptions) endAll(consumer string) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for key, sub := range ss.all {
		if key.consumer == consumer {
			sub.stop(errs.New(errs.NotFound, "Consumer %s was deregistered.", consumer))
			delete(ss.all, key)
		}
	}
}
