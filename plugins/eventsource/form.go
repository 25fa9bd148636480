package eventsource

import (
	"context"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/kpl"
	"github.com/shardmill/shardmill/shards"
)

const (
	maxEvent  = 6 << 20 // bytes of an event
	readAhead = 1 << 20 // bytes read from the log at a time
	// keepEvery is how often a lane stores that it has passed over records that are not for it.
	keepEvery = 5 * time.Second
)

// forming is a batch on its way.
type forming struct {
	through shards.Pos // looked at up to here
	size    int        // of the event
	full    bool
	windows bool // the next record is of a later window
}

// form waits for the next batch. more is false when the lane is at its end, or is to stop.
//
// A batch is ready at the first of: BatchSize records; the next one would make the event larger than
// 6 MB; the batching window, which begins when the invocation before has ended; the end of the shard;
// the end of a tumbling window.
func (l *lane) form(ctx context.Context) (more bool, err error) {
	f := &forming{through: l.st.Pos, size: l.size(nil)}
	l.items = nil
	due := time.Now()
	if !l.free.IsZero() {
		due = l.free
	}
	due = due.Add(time.Duration(l.config.BatchingWindow) * time.Second)
	for {
		changed := l.stream.Changed()
		if err := l.gather(ctx, f); err != nil {
			return false, err
		}
		ended := !f.full && !f.windows && l.stream.Ended(l.shard.Number, f.through)
		if len(l.items) > 0 && (f.full || f.windows || ended || !time.Now().Before(due)) {
			l.st.Pending = []span{{Through: f.through}}
			return true, nil
		}
		if len(l.items) == 0 {
			if l.st.Pos = f.through; f.windows || ended || l.windowOver() {
				if err := l.closeWindow(ctx); err != nil {
					return false, err
				}
				f.windows = false
				if ended && l.st.Window == nil {
					l.st.Done = true
					return false, nil
				}
				if l.stopping(ctx) {
					return false, nil
				}
				continue
			}
			if l.st.Pos > 0 && time.Since(l.saved) > keepEvery {
				if err := l.keep(ctx); err != nil {
					return false, err
				}
			}
		}
		if !l.await(ctx, changed, due) {
			return false, nil
		}
	}
}

// await waits until there may be something to do; it is false when the lane is to stop.
func (l *lane) await(ctx context.Context, changed <-chan struct{}, due time.Time) bool {
	var ring <-chan time.Time
	switch {
	case len(l.items) > 0:
		t := time.NewTimer(time.Until(due))
		defer t.Stop()
		ring = t.C
	case l.st.Window != nil:
		t := time.NewTimer(time.Until(l.st.Window.end(l.config.TumblingWindow)))
		defer t.Stop()
		ring = t.C
	}
	select {
	case <-ctx.Done():
		return false
	case <-l.drain:
		return false
	case <-l.wake:
	case <-changed:
	case <-ring:
	}
	return true
}

// gather adds what has arrived to the batch.
func (l *lane) gather(ctx context.Context, f *forming) error {
	for !f.full && !f.windows {
		recs, _, err := l.stream.Read(ctx, l.shard, f.through, shards.Budget{Records: 1000, Bytes: readAhead}, nil)
		if errs.Is(err, errs.NotFound) && l.stream.Shard(l.shard.Number) == nil && l.stream.State() != shards.Deleting {
			return nil // the shard has expired
		}
		if err != nil || len(recs) == 0 {
			return err
		}
		if gap := recs[0].Pos - f.through - 1; gap > 0 && l.m.owner.o.Events.Skipped != nil {
			l.m.owner.o.Events.Skipped(l.m, l.shard, uint64(gap))
		}
		for i := range recs {
			if !l.take(f, &recs[i]) {
				break
			}
			f.through = recs[i].Pos
		}
	}
	return nil
}

// take adds a record to the batch unless it is not for this lane; it is false if the record is for
// the next batch.
func (l *lane) take(f *forming, r *shards.Record) bool {
	if laneOf(r.Key, len(l.state.Lanes)) != l.number {
		return true
	}
	items := l.unpack(r)
	if len(items) == 0 {
		return true
	}
	if !l.inWindow(r.Arrived) {
		f.windows = true
		return false
	}
	size := 0
	for i := range items {
		size += l.itemSize(&items[i])
	}
	if n := len(l.items); n > 0 && (n+len(items) > l.config.BatchSize || f.size+size > maxEvent) {
		f.full = true
		return false
	}
	l.items = append(l.items, items...)
	f.size += size
	f.full = len(l.items) >= l.config.BatchSize
	return !f.full || l.passed(f, r)
}

// passed notes that the batch is full with this record.
func (l *lane) passed(f *forming, r *shards.Record) bool {
	f.through = r.Pos
	return false
}

// unpack is what the function gets of a record: itself if the filters let it through. A registered
// consumer gets the user records of a KPL aggregate one by one, all of them.
func (l *lane) unpack(r *shards.Record) []item {
	one := item{pos: r.Pos, seq: l.shard.Seq(r.Pos, r.Arrived), arrived: r.Arrived, key: r.Key, data: r.Data}
	var items []item
	if l.consumer() && kpl.Deaggregate(r.Data, func(sub int, partitionKey, _ string, data []byte) {
		it := one
		it.key, it.data, it.sub = []byte(partitionKey), data, sub
		if l.filters.match(&it) {
			items = append(items, it)
		}
	}) {
		return items
	}
	if l.filters.match(&one) {
		items = append(items, one)
	}
	return items
}

// reload reads what is left of a batch from before a restart. Filters that are new since hold.
func (l *lane) reload(ctx context.Context) error {
	l.items = nil
	last := l.st.Pending[len(l.st.Pending)-1].Through
	for at := l.st.Pos; at < last; {
		recs, _, err := l.stream.Read(ctx, l.shard, at, shards.Budget{Records: int(last - at), Bytes: readAhead}, nil)
		if err != nil {
			return err
		}
		for i := range recs {
			if recs[i].Pos <= last && laneOf(recs[i].Key, len(l.state.Lanes)) == l.number {
				l.items = append(l.items, l.unpack(&recs[i])...)
			}
		}
		if len(recs) == 0 {
			break // expired
		}
		at = recs[len(recs)-1].Pos
	}
	return nil
}
