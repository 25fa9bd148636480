package eventsource

import (
	"context"
	"encoding/json"
	"time"
)

// A tumbling window gathers what a function says of the records of so many seconds: the state that it
// answers goes into its next event. Windows are aligned to the epoch; a record's is that of its
// arrival. The last invocation of a window has no records and says that it is the last.

const maxState = 1 << 20 // bytes of a window's state

// window is the open window of a shard.
type window struct {
	StartMs  int64           `json:"startMs"`
	State    json.RawMessage `json:"state"`
	Attempts int             `json:"attempts,omitempty"` // of its last invocation
}

var noState = json.RawMessage("{}")

// windowEvent is what a window adds to an event.
type windowEvent struct {
	start, end time.Time
	state      json.RawMessage
	final, cut bool
}

func (w *window) event(seconds int) *windowEvent {
	return &windowEvent{start: time.UnixMilli(w.StartMs), end: w.end(seconds), state: w.State}
}

func (w *window) end(seconds int) time.Time {
	return time.UnixMilli(w.StartMs).Add(time.Duration(seconds) * time.Second)
}

// inWindow reports whether a record that arrived at ms belongs to the open window, and opens one if
// none is.
func (l *lane) inWindow(ms int64) bool {
	if l.config.TumblingWindow == 0 {
		return true
	}
	size := int64(l.config.TumblingWindow) * 1000
	start := ms - ms%size
	if l.st.Window == nil {
		l.st.Window = &window{StartMs: start, State: noState}
	}
	return l.st.Window.StartMs == start
}

// windowOver reports whether the open window has passed: no record can come into it any more, since
// arrival is the host's own time.
func (l *lane) windowOver() bool {
	return l.st.Window != nil && !time.Now().Before(l.st.Window.end(l.config.TumblingWindow))
}

// closeWindow invokes the function for the last time in the open window, again and again until it
// succeeds or the mapping's retries are used up. It returns early when the lane is to stop.
func (l *lane) closeWindow(ctx context.Context) error {
	if l.st.Window == nil {
		return nil
	}
	return l.finalInvoke(ctx, false)
}

func (l *lane) finalInvoke(ctx context.Context, early bool) error {
	for pauses := new(backoff); !l.stopping(ctx); {
		w := l.st.Window.event(l.config.TumblingWindow)
		w.final, w.cut = true, early
		out := l.invoke(ctx, nil, w)
		if !out.host && !out.ok {
			l.st.Window.Attempts++
			l.m.setResult(problem + "Function call failed")
		}
		if out.ok || l.config.MaximumRetries >= 0 && l.st.Window.Attempts > l.config.MaximumRetries {
			if out.ok {
				l.m.setResult(fine)
			}
			l.st.Window = nil
			return l.keep(ctx)
		}
		if !l.sleep(ctx, pauses.next()) {
			return nil
		}
	}
	return nil
}
