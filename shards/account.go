package shards

import (
	"context"
	"time"
)

// Commitment is an account's commitment to pay for a minimum of throughput in a region, which on AWS
// unlocks warm throughput. It lasts 24 hours at least: ended earlier, it runs on until then and
// ends by itself. It is metadata a/ACCOUNT/REGION. Times are ms since the epoch, 0 if there is none.
type Commitment struct {
	StartedMs int64 `json:"startedMs,omitempty"`
	EndedMs   int64 `json:"endedMs,omitempty"` // may lie in the future
}

// commitmentTime is how long a commitment lasts at least.
const commitmentTime = 24 * time.Hour

// EarliestEndMs is when the commitment may end.
func (c Commitment) EarliestEndMs() int64 { return c.StartedMs + commitmentTime.Milliseconds() }

// On reports whether the commitment is in force at a time.
func (c Commitment) On(at time.Time) bool {
	return c.StartedMs != 0 && (c.EndedMs == 0 || at.UnixMilli() < c.EndedMs)
}

// Ending reports whether the commitment is in force and will end by itself.
func (c Commitment) Ending(at time.Time) bool { return c.On(at) && c.EndedMs != 0 }

func commitmentKey(sc Scope) string { return "a/" + sc.Account + "/" + sc.Region }

// Commitment is what an account has committed to; the zero Commitment if it never did.
func (ss *Streams) Commitment(ctx context.Context, sc Scope) (c Commitment, err error) {
	v, rev, err := ss.store.Meta().Get(ctx, commitmentKey(sc))
	if err != nil || rev == 0 {
		return c, err
	}
	return c, decodeMeta(v, &c)
}

// Commit begins or ends a commitment, durably. Beginning one that is about to end keeps it, ending
// one before its time lets it run until then; what is so already stays as it is.
func (ss *Streams) Commit(ctx context.Context, sc Scope, on bool) (Commitment, error) {
	ss.create.Lock()
	defer ss.create.Unlock()
	was, err := ss.Commitment(ctx, sc)
	if err != nil {
		return was, err
	}
	now, next := time.Now(), was
	switch {
	case on && !was.On(now):
		next = Commitment{StartedMs: now.UnixMilli()}
	case on:
		next.EndedMs = 0
	case was.On(now) && !was.Ending(now):
		next.EndedMs = max(now.UnixMilli(), was.EarliestEndMs())
	}
	if next == was {
		return was, nil
	}
	v, err := encodeMeta(next)
	if err != nil {
		return was, err
	}
	return next, Apply(ctx, ss.store.Meta(), []Op{{Key: commitmentKey(sc), Value: v}})
}
