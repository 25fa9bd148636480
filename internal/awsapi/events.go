package awsapi

import (
	"context"
	"errors"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/shardmill/shardmill/internal/awsapi/eventstream"
)

// writeTimeout is how long a client of an event stream may take to accept a message.
const writeTimeout = 30 * time.Second

// headDelay is how long the head of an answer that is sent in pieces waits. The SDK for Go closes its
// request's body when the head comes; a head that is there within microseconds finds Go's HTTP client
// still looking for the body's end, and that client then drops the connection with the rest of the
// answer on it.
const headDelay = 5 * time.Millisecond

func holdHead(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// Events makes an operation that answers with an event stream. fn looks at the request: its error
// is an ordinary answer. What it returns then runs after the answer's head has been sent, until it
// returns: nil ends the stream, an error is its last message.
func Events[In any](name string, fn func(context.Context, *In) (run func(ctx context.Context, s *EventStream) error, err error)) Op {
	Handle(name, func(context.Context, *In) (*struct{}, error) { return nil, nil }) // checks In
	return Op{Name: name, events: func(ctx context.Context, body []byte) (func(context.Context, *EventStream) error, error) {
		in := new(In)
		if err := CallerOf(ctx).Wire.Decode(body, in); err != nil {
			return nil, err
		}
		if err := Validate(in); err != nil {
			return nil, err
		}
		return fn(ctx, in)
	}}
}

// EventStream is an answer under way.
type EventStream struct {
	w    http.ResponseWriter
	ctl  *http.ResponseController
	buf  []byte
	dead error // why nothing can be written any more
}

// Send writes one event of the model and flushes it. Its error says that the client is gone or
// does not read; run then returns it.
func (s *EventStream) Send(eventType string, payload []byte) error {
	s.buf = eventstream.AppendEvent(s.buf[:0], eventType, "application/json", payload)
	return s.flush()
}

// flush writes whole messages only: some clients take a stream that ends within one for a good end.
func (s *EventStream) flush() error {
	if s.dead != nil {
		return s.dead
	}
	s.dead = s.ctl.SetWriteDeadline(time.Now().Add(writeTimeout))
	if s.dead == nil || errors.Is(s.dead, http.ErrNotSupported) {
		_, s.dead = s.w.Write(s.buf)
	}
	if s.dead == nil {
		s.dead = s.ctl.Flush()
	}
	return s.dead
}

// stream runs an operation that answers with events.
func (m *Mux) stream(w http.ResponseWriter, r *http.Request, caller Caller, t target, body []byte) {
	ctx := WithCaller(r.Context(), caller)
	var run func(context.Context, *EventStream) error
	err := guard(t.op.Name, func() (err error) {
		run, err = t.op.events(ctx, body)
		return err
	})
	if err != nil {
		m.refuse(w, caller, t, err)
		return
	}
	holdHead(ctx, headDelay)
	w.Header().Set("Content-Type", "application/vnd.amazon.eventstream")
	w.WriteHeader(http.StatusOK)
	s := &EventStream{w: w, ctl: http.NewResponseController(w)}
	s.buf = eventstream.AppendInitialResponse(s.buf) // clients wait for it before anything else
	if s.flush() != nil {
		return
	}
	err = guard(t.op.Name, func() error { return run(ctx, s) })
	name := ""
	if err != nil && s.dead == nil && ctx.Err() == nil {
		name = m.endStream(s, caller, t, err)
	}
	if m.opts.Served != nil {
		m.opts.Served(t.op.Name, name)
	}
}

// endStream writes an error as the stream's last message.
func (m *Mux) endStream(s *EventStream, caller Caller, t target, err error) (name string) {
	status, name, message := t.service.describe(err)
	if status == http.StatusInternalServerError {
		if m.opts.Failed != nil {
			m.opts.Failed(caller.RequestID, t.op.Name, err)
		}
		s.buf = eventstream.AppendException(s.buf[:0], "InternalFailureException", message)
	} else {
		s.buf = eventstream.AppendException(s.buf[:0], name, message)
	}
	_ = s.flush() // the client that is gone by now needs no error
	return name
}

// guard turns a panic into an error.
func guard(op string, fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{op, p, debug.Stack()}
		}
	}()
	return fn()
}

// Guard runs fn for an operation, and makes an error of a panic in it.
func Guard(op string, fn func() error) error { return guard(op, fn) }
