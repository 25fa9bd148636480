package firehose

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// loop is the goroutine that delivers for one delivery stream.
type loop struct {
	consuming context.CancelFunc // no further batch
	working   context.CancelFunc // give up the batch under way
	done      chan struct{}
}

// stop ends the loop: after the batch under way, or when ctx ends, whichever is first.
func (l *loop) stop(ctx context.Context) {
	l.consuming()
	select {
	case <-l.done:
	case <-ctx.Done():
		l.working()
		<-l.done
	}
	l.working()
}

// start runs the delivery loop. A source that is gone, or settings that this version refuses, do
// not keep the host from starting: the delivery stream stays, stands still and says why.
func (ds *DeliveryStreams) start(ctx context.Context, d *DeliveryStream) {
	if d.dest == nil {
		dest, err := ds.opts.Open(d.Kind, d.Settings)
		if err != nil {
			ds.stopped(d, err)
			return
		}
		d.dest = dest
	}
	src, err := d.source()
	if err != nil {
		ds.stopped(d, err)
		return
	}
	ctx = context.WithoutCancel(ctx)
	l := &loop{done: make(chan struct{})}
	var consume, work context.Context
	consume, l.consuming = context.WithCancel(ctx)
	work, l.working = context.WithCancel(ctx)
	d.loop = l
	go func() {
		defer close(l.done)
		h := &handler{d: d, work: work, stop: l.consuming}
		defer h.forget()
		for pause := time.Second; ; pause = min(2*pause, time.Minute) {
			err := src.Consume(consume, shards.Reader{Name: d.reader(), Policy: d.policy, Handle: h.handle, Failed: h.failed})
			if h.gone != nil {
				ds.stopped(d, h.gone)
				return
			}
			if consume.Err() != nil {
				return
			}
			ds.stopped(d, err)
			if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Conflict) {
				return // the source or the reader was removed: nothing can bring it back
			}
			select { // the log or metadata cannot be read or written, perhaps because the disk is full
			case <-consume.Done():
				return
			case <-time.After(pause):
			}
		}
	}()
}

func (ds *DeliveryStreams) stopped(d *DeliveryStream, err error) {
	if f := ds.opts.Events.Stopped; f != nil {
		f(d, err)
	}
}

func (d *DeliveryStream) policy() shards.Policy {
	return shards.Policy{Bytes: d.Buffer.Bytes, Wait: d.Buffer.Interval, Version: d.Version}
}

// handler processes batches. It keeps a batch's outcome over the attempts to deliver it, so that a
// destination that is down does not make the function run again and again.
type handler struct {
	d    *DeliveryStream
	work context.Context
	stop context.CancelFunc // no further attempt
	gone error              // why there is no point in one: the source was deleted

	number  uint64
	out     *outcome
	attempt int
}

func (h *handler) failed(b *shards.Batch, attempt int, err error) {
	if f := h.d.owner.opts.Events.Retry; f != nil {
		f(h.d, b.Number, attempt, err)
	}
}

func (h *handler) forget() {
	if h.out != nil {
		h.out.close()
	}
	h.out, h.attempt = nil, 0
}

// handle implements shards.Handler. It works under a context of its own, because the batch under
// way is finished when the host closes in peace.
func (h *handler) handle(_ context.Context, b *shards.Batch) error {
	start := time.Now()
	if h.number != b.Number {
		h.forget()
		h.number = b.Number
	}
	h.attempt++
	if err := h.bring(b); err != nil {
		kept := h.d.Processor != nil && h.out != nil // the outcome is in the spool
		if errs.Is(err, errs.NotFound) && b.Stream.State() == shards.Deleting && !kept {
			h.gone = err
			h.stop()
		}
		return err
	}
	if f := h.d.owner.opts.Events.Delivered; f != nil {
		what := h.out.what
		what.Attempts, what.Took = h.attempt, time.Since(start)
		f(h.d, b.Number, what)
	}
	h.forget()
	return nil
}

// bring transforms a batch, unless that is done already, and delivers it.
func (h *handler) bring(b *shards.Batch) error {
	if h.out == nil {
		out, err := h.d.transform(h.work, b)
		if err != nil {
			return err
		}
		h.out = out
	}
	return h.deliver(h.work, b)
}

// transform runs a batch through the function. Without one the records are counted only: they are
// delivered straight from the log.
func (d *DeliveryStream) transform(ctx context.Context, b *shards.Batch) (*outcome, error) {
	out := &outcome{ok: spool{dir: d.owner.opts.SpoolDir}, failed: spool{dir: d.owner.opts.SpoolDir}}
	t := &transformer{d: d, p: d.Processor, out: out}
	err := eachSource(ctx, b, func(s source) error {
		out.what.Bytes += int64(len(s.data))
		if t.p == nil {
			out.what.Records++
			out.what.Ok++
			return nil
		}
		return t.add(ctx, s)
	})
	if err == nil && t.p != nil {
		err = t.flush(ctx)
	}
	if err != nil {
		out.close()
		return nil, err
	}
	return out, nil
}

// deliver brings a batch's outcome to the destination.
func (h *handler) deliver(ctx context.Context, b *shards.Batch) error {
	d, out := h.d, h.out
	data := d.batch(b, out.what.Ok, "")
	data.each = out.ok.each
	if d.Processor == nil {
		data.each = func(ctx context.Context, fn func([]byte) error) error {
			return eachSource(ctx, b, func(s source) error { return fn(s.data) })
		}
	}
	if data.Records > 0 {
		if err := d.dest.Deliver(ctx, data); err != nil {
			return err
		}
	}
	if out.failed.records > 0 {
		failed := d.batch(b, out.failed.records, "processing-failed")
		failed.each = out.failed.each
		return d.dest.DeliverErrors(ctx, failed)
	}
	return nil
}

func (d *DeliveryStream) batch(b *shards.Batch, records int, errorType string) *Batch {
	return &Batch{Stream: d.Name, StreamID: d.ID, Version: b.Version, Ranges: rangesText(b), Oldest: b.Oldest, Records: records, ErrorType: errorType}
}

// rangesText names a cut's bounds: the same text for the same cut only.
func rangesText(b *shards.Batch) string {
	var t strings.Builder
	for _, r := range b.Ranges {
		fmt.Fprintf(&t, "%d:%d-%d;", r.Shard, r.After, r.Through)
	}
	return t.String()
}

// CaughtUp reports whether d has delivered every record of its source.
func (d *DeliveryStream) CaughtUp(ctx context.Context) (bool, error) {
	src, err := d.source()
	if err != nil {
		return false, err
	}
	return src.CaughtUp(ctx, d.reader())
}
