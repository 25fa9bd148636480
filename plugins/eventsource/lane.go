package eventsource

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/shards"
)

// laneState is a lane's place in its shard: everything of the lane up to Pos is finished.
type laneState struct {
	Pos     shards.Pos `json:"pos"`
	Done    bool       `json:"done,omitempty"`    // so is everything else
	Pending []span     `json:"pending,omitempty"` // what is left of a batch that failed, in order
	Window  *window    `json:"window,omitempty"`  // the open one
}

// span is a piece of a batch: its records after the piece before, up to Through.
type span struct {
	Through  shards.Pos `json:"through"`
	Attempts int        `json:"attempts"` // invocations that failed, or were too late
}

// item is a record of a batch.
type item struct {
	pos     shards.Pos
	seq     shards.Seq
	arrived int64
	key     []byte
	data    []byte
	sub     int // place in its KPL aggregate
}

// lane hands a lane's records to the function, batch after batch.
type lane struct {
	*reader
	number int
	st     laneState
	items  []item    // of the batch, from st.Pos on
	free   time.Time // when the last batch was done
	saved  time.Time // when st was stored
	event  []byte    // memory for events
	wake   chan struct{}
}

func newLane(rd *reader, number int) *lane {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	return &lane{reader: rd, number: number, st: rd.state.Lanes[number], wake: make(chan struct{}, 1)}
}

const (
	firstPause = 500 * time.Millisecond
	maxPause   = time.Minute
	// invokeDeadline bounds an invocation whatever the function's own time-out; it is Lambda's longest.
	invokeDeadline = 15 * time.Minute
)

// backoff is the pauses between attempts: at random around a time that doubles. The zero value begins.
type backoff struct{ around time.Duration }

func (b *backoff) next() time.Duration {
	b.around = max(b.around, firstPause)
	pause := b.around/2 + rand.N(b.around)
	b.around = min(2*b.around, maxPause)
	return pause
}

// run ends with the shard, when it is told to stop, or with an error that is not the function's.
func (l *lane) run(ctx context.Context) error {
	defer l.stream.Watch(l.shard, l.wake)()
	if len(l.st.Pending) > 0 {
		if err := l.reload(ctx); err != nil {
			return err
		}
	}
	for !l.st.Done && !l.stopping(ctx) {
		if len(l.st.Pending) == 0 {
			more, err := l.form(ctx)
			if err != nil {
				return err
			}
			if !more {
				return l.leave(ctx)
			}
		}
		if err := l.work(ctx); err != nil {
			return err
		}
		l.free = time.Now()
	}
	return nil
}

// leave stores what a lane that stops has passed over since it last did.
func (l *lane) leave(ctx context.Context) error {
	if ctx.Err() != nil {
		return nil
	}
	return l.keep(ctx)
}

func (l *lane) keep(ctx context.Context) error {
	l.saved = time.Now()
	return l.save(ctx, l.number, l.st)
}

// work brings the batch to its end: every record of it is handled, or given up.
func (l *lane) work(ctx context.Context) error {
	var pauses backoff
	for len(l.st.Pending) > 0 {
		if l.stopping(ctx) {
			return nil
		}
		if err := l.dropExpired(ctx); err != nil {
			return err
		}
		if len(l.st.Pending) == 0 {
			return nil
		}
		n := l.count(l.st.Pending[0])
		if n == 0 { // nothing but records that the filters leave out
			if err := l.advance(ctx, l.st.Pending[0].Through); err != nil {
				return err
			}
			continue
		}
		if l.split(n) == 0 && l.size(l.items[:n]) > maxEvent { // too large for any event
			if err := l.discard(ctx, n, retriesExhausted, outcome{}, 0); err != nil {
				return err
			}
			continue
		}
		out := l.invoke(ctx, l.items[:n], nil)
		progress, err := l.settle(ctx, n, out)
		if err != nil {
			return err
		}
		if progress {
			pauses = backoff{}
		}
		if out.ok && !out.cut(n) {
			continue
		}
		if !l.sleep(ctx, min(pauses.next(), l.untilExpired())) {
			return nil
		}
	}
	return nil
}

// untilExpired is when the first record of the batch becomes too old.
func (l *lane) untilExpired() time.Duration {
	if l.config.MaximumAge < 0 || len(l.items) == 0 {
		return maxPause
	}
	return time.Until(time.UnixMilli(l.items[0].arrived).Add(time.Duration(l.config.MaximumAge) * time.Second))
}

// sleep is false when the lane is to stop.
func (l *lane) sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-l.drain:
	}
	return false
}

// count is how many of the batch's items a span has.
func (l *lane) count(s span) int {
	n, _ := slices.BinarySearchFunc(l.items, s.Through+1, func(it item, p shards.Pos) int {
		if it.pos < p {
			return -1
		}
		return 1
	})
	return n
}

// advance finishes everything up to a position, which lies in the first span or at its end.
func (l *lane) advance(ctx context.Context, through shards.Pos) error {
	n := l.count(span{Through: through})
	l.items = l.items[n:]
	l.st.Pos = through
	if through >= l.st.Pending[0].Through {
		l.st.Pending = slices.Clone(l.st.Pending[1:])
	} else {
		l.st.Pending = slices.Clone(l.st.Pending)
		l.st.Pending[0].Attempts = 0 // progress: what is left is another batch
	}
	return l.keep(ctx)
}

// settle draws the conclusions from an invocation with the first n items. progress is true if some
// of them are handled now.
func (l *lane) settle(ctx context.Context, n int, out outcome) (progress bool, err error) {
	first := l.st.Pending[0]
	switch {
	case out.host: // not the function's fault, and not counted
		return false, nil
	case out.ok && !out.cut(n):
		l.m.setResult(fine)
		return true, l.succeed(ctx, first, out)
	case out.ok && out.failed > 0:
		l.m.setResult(fine)
		return true, l.advance(ctx, l.items[out.failed-1].pos)
	}
	l.m.setResult(problem + "Function call failed")
	first.Attempts++
	rest := l.st.Pending[1:]
	switch {
	case l.config.Bisect && l.split(n) > 0: // not counted as a retry
		first.Attempts--
		half := span{l.items[l.split(n)-1].pos, first.Attempts}
		l.st.Pending = append([]span{half, first}, rest...)
	case l.config.MaximumRetries >= 0 && first.Attempts > l.config.MaximumRetries:
		l.st.Pending = append([]span{first}, rest...)
		return true, l.discard(ctx, n, retriesExhausted, out, first.Attempts)
	default:
		l.st.Pending = append([]span{first}, rest...)
	}
	return false, l.keep(ctx)
}

// succeed finishes a span, and its window too if that has become too large to go on.
func (l *lane) succeed(ctx context.Context, s span, out outcome) error {
	w := l.st.Window
	if w != nil && !out.tooLarge {
		w.State = out.state
	}
	if err := l.advance(ctx, s.Through); err != nil || w == nil || !out.tooLarge {
		return err
	}
	if err := l.finalInvoke(ctx, true); err != nil || l.st.Window != nil {
		return err
	}
	l.st.Window = &window{StartMs: w.StartMs, State: noState}
	return nil
}

// split is where a batch of n items is cut in half, 0 if it cannot be: the user records of a KPL
// aggregate have one position and stay together.
func (l *lane) split(n int) int {
	for k := n / 2; k > 0; k-- {
		if l.items[k].pos != l.items[k-1].pos {
			return k
		}
	}
	for k := n/2 + 1; k < n; k++ {
		if l.items[k].pos != l.items[k-1].pos {
			return k
		}
	}
	return 0
}

func (l *lane) size(items []item) int {
	n := envelopeSize
	for i := range items {
		n += l.itemSize(&items[i])
	}
	return n
}

// dropExpired gives up the leading records that are older than the mapping's limit.
func (l *lane) dropExpired(ctx context.Context) error {
	if l.config.MaximumAge < 0 {
		return nil
	}
	old := time.Now().UnixMilli() - int64(l.config.MaximumAge)*1000
	for len(l.st.Pending) > 0 {
		n := 0
		for in := l.count(l.st.Pending[0]); n < in && l.items[n].arrived <= old; n++ {
		}
		if n == 0 {
			return nil
		}
		if err := l.discard(ctx, n, ageExceeded, outcome{}, max(l.st.Pending[0].Attempts, 1)); err != nil {
			return err
		}
	}
	return nil
}

// discard hands the first n items of the first span to the failure destination, for as long as that
// takes, and goes on behind them.
func (l *lane) discard(ctx context.Context, n int, condition string, out outcome, invocations int) error {
	f := l.failure(l.items[:n], condition, out, invocations)
	if arn := l.config.OnFailure; arn != "" {
		var pauses backoff
		for {
			d, err := l.m.owner.o.Destination(arn)
			if err == nil {
				err = d.Deliver(ctx, f)
			}
			if err == nil {
				break
			}
			l.m.fail(errs.Wrap(errs.Unavailable, err, "the failure destination %s did not take a batch", arn))
			if !l.sleep(ctx, pauses.next()) {
				return nil // it is pending still
			}
		}
	}
	if ev := l.m.owner.o.Events.Discarded; ev != nil {
		ev(l.m, f)
	}
	through := l.items[n-1].pos
	if n == l.count(l.st.Pending[0]) {
		through = l.st.Pending[0].Through
	}
	return l.advance(ctx, through)
}

// outcome is what an invocation came to.
type outcome struct {
	host   bool // the function could not be invoked
	ok     bool // it answered without an error
	failed int  // index of the first record that it did not handle, if ok; -1: none

	requestID     string
	functionError string
	state         json.RawMessage // of a window
	tooLarge      bool            // the state is
}

// cut reports whether a good answer left records unhandled.
func (o *outcome) cut(n int) bool { return o.failed >= 0 && o.failed < n }

// invoke runs the function with items; w is set for what a window's event has more.
func (l *lane) invoke(ctx context.Context, items []item, w *windowEvent) outcome {
	out := outcome{failed: -1, requestID: uuid.NewString()}
	fn, release, err := l.m.owner.o.Functions.Function(l.functionARN)
	if err != nil {
		l.m.fail(err)
		return outcome{host: true, failed: -1}
	}
	defer release()
	if w == nil && l.st.Window != nil {
		w = l.st.Window.event(l.config.TumblingWindow)
	}
	l.event = l.appendEvent(l.event[:0], items, w)
	res, err := fn.Invoke(ctx, runtime.Invocation{RequestID: out.requestID, FunctionARN: l.functionARN, Payload: l.event, Deadline: time.Now().Add(invokeDeadline)})
	if err != nil {
		if ctx.Err() == nil {
			l.m.fail(err)
		}
		return outcome{host: true, failed: -1}
	}
	out.functionError = res.FunctionError
	if out.ok = res.FunctionError == ""; out.ok {
		l.read(res.Payload, items, w != nil, &out)
	}
	if ev := l.m.owner.o.Events.Invoked; ev != nil {
		var age time.Duration
		if n := len(items); n > 0 {
			age = time.Since(time.UnixMilli(items[n-1].arrived))
		}
		ev(l.m, len(items), age, out.functionError)
	}
	return out
}
