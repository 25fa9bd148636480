package eventsource

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"sync"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// What LastProcessingResult says.
const (
	neverRan = "No records processed"
	fine     = "OK"
	problem  = "PROBLEM: "
)

// retryStream is how long a mapping waits before it looks for its stream again.
const retryStream = time.Second

// start begins to run a mapping that does not run.
func (m *Mapping) start() {
	ctx, stop := context.WithCancel(m.owner.ctx)
	m.mu.Lock()
	m.stop, m.drain, m.finished = stop, make(chan struct{}), make(chan struct{})
	r := &run{m: m, config: m.record.Config, functionARN: m.record.FunctionARN, drain: m.drain}
	finished := m.finished
	m.mu.Unlock()
	m.owner.runs.Go(func() {
		defer close(finished)
		r.run(ctx)
	})
}

// halt lets the mapping's run end after the invocations under way, or kills it when ctx ends.
func (m *Mapping) halt(ctx context.Context) {
	m.mu.Lock()
	drain, finished := m.drain, m.finished
	m.drain = nil
	m.mu.Unlock()
	if drain == nil {
		return
	}
	close(drain)
	select {
	case <-finished:
	case <-ctx.Done():
	}
	m.kill()
}

// kill ends the mapping's run.
func (m *Mapping) kill() {
	m.mu.Lock()
	stop, finished := m.stop, m.finished
	m.drain = nil
	m.mu.Unlock()
	if stop != nil {
		stop()
		<-finished
	}
}

func (m *Mapping) setResult(text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.result = text
}

// fail tells that the mapping cannot go on just now.
func (m *Mapping) fail(err error) {
	m.setResult(problem + err.Error())
	if f := m.owner.o.Events.Failed; f != nil {
		f(m, err)
	}
}

// run is a mapping under one configuration.
type run struct {
	m           *Mapping
	config      Config
	functionARN string
	filters     filters
	drain       <-chan struct{} // closed: end after the invocation under way
}

func (r *run) stopping(ctx context.Context) bool {
	select {
	case <-r.drain:
		return true
	default:
		return ctx.Err() != nil
	}
}

// run follows the stream until it is told to stop. A stream that is gone may come back: one of the
// same name is then read from the mapping's starting position.
func (r *run) run(ctx context.Context) {
	r.filters, _ = compileFilters(r.config.Filters) // they were checked when they were set
	for told := false; !r.stopping(ctx); {
		err := r.once(ctx)
		if r.stopping(ctx) {
			return
		}
		if errs.Is(err, errs.NotFound) { // a lane may have met it first: say which stream is gone
			if _, gone := r.m.owner.stream(r.config.EventSourceARN); gone != nil {
				err = gone
			}
		}
		if err != nil && !told {
			r.m.fail(err)
			told = true
		}
		if err == nil {
			told = false
		}
		select {
		case <-ctx.Done():
		case <-r.drain:
		case <-time.After(retryStream):
		}
	}
}

func (r *run) once(ctx context.Context) error {
	s, err := r.m.owner.stream(r.config.EventSourceARN)
	if err != nil {
		return err
	}
	r.m.mu.Lock()
	known := r.m.record.StreamID
	r.m.mu.Unlock()
	if known != s.ID {
		if err := r.restart(ctx, s); err != nil {
			return err
		}
	}
	return r.follow(ctx, s)
}

// restart puts the mapping at its starting position in another stream of the same name.
func (r *run) restart(ctx context.Context, s *shards.Stream) error {
	ops, err := r.m.forgetPlaces(ctx)
	if err == nil {
		err = shards.Apply(ctx, r.m.owner.o.Meta, ops)
	}
	if err != nil {
		return err
	}
	r.m.mu.Lock()
	r.m.record.StreamID = s.ID
	r.m.mu.Unlock()
	return r.m.begin(ctx, s)
}

// shardState is a mapping's place in a shard, as metadata keep it.
type shardState struct {
	Lanes []laneState `json:"lanes"`
}

func (st *shardState) done() bool {
	for i := range st.Lanes {
		if !st.Lanes[i].Done {
			return false
		}
	}
	return true
}

// reader is the lanes of one shard.
type reader struct {
	*run
	stream *shards.Stream
	shard  *shards.Shard

	mu    sync.Mutex
	state shardState
}

// follow reads the stream's shards, each when those before it are done, until the stream is gone, an
// error, or the end.
func (r *run) follow(ctx context.Context, s *shards.Stream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var lanes sync.WaitGroup
	defer lanes.Wait()
	ended := make(chan laneEnd, 1)
	begun, done := make(map[uint32]bool), make(map[uint32]bool)
	for {
		changed := s.Changed()
		for _, sh := range s.Shards() {
			if begun[sh.Number] || !r.parentsDone(s, sh, done) {
				continue
			}
			rd, err := r.open(ctx, s, sh)
			if err != nil {
				cancel()
				return err
			}
			begun[sh.Number] = true
			if done[sh.Number] = rd.state.done(); done[sh.Number] {
				continue
			}
			for i := range rd.state.Lanes {
				lanes.Go(func() {
					err := newLane(rd, i).run(ctx)
					select {
					case ended <- laneEnd{sh.Number, rd.finished(), err}:
					case <-ctx.Done():
					case <-r.drain:
					}
				})
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.drain:
			return nil // the lanes end by themselves
		case <-changed:
			if now, err := r.m.owner.stream(r.config.EventSourceARN); err != nil || now != s {
				cancel()
				return err
			}
		case end := <-ended:
			if end.err != nil {
				cancel()
				return end.err
			}
			done[end.shard] = end.done
		}
	}
}

// laneEnd is what became of a lane.
type laneEnd struct {
	shard uint32
	done  bool // and so are the shard's others
	err   error
}

// parentsDone reports whether everything before a shard has been handled. Parents that are forgotten
// do not count.
func (r *run) parentsDone(s *shards.Stream, sh *shards.Shard, done map[uint32]bool) bool {
	for _, p := range sh.Parents {
		if s.Shard(p) != nil && !done[p] {
			return false
		}
	}
	return true
}

func (r *run) load(ctx context.Context, number uint32) (*shardState, error) {
	v, rev, err := r.m.owner.o.Meta.Get(ctx, r.m.shardKey(number))
	if err != nil || rev == 0 {
		return nil, err
	}
	st := new(shardState)
	return st, json.Unmarshal(v, st)
}

// open takes up where the mapping was in a shard. One that came later is read from its beginning. If
// there are to be another number of lanes now, they begin where the last one was.
func (r *run) open(ctx context.Context, s *shards.Stream, sh *shards.Shard) (*reader, error) {
	rd := &reader{run: r, stream: s, shard: sh}
	st, err := r.load(ctx, sh.Number)
	if err != nil {
		return nil, err
	}
	n := r.config.lanes()
	if st == nil {
		st = &shardState{Lanes: make([]laneState, n)}
	} else if len(st.Lanes) != n {
		st.relane(n)
	}
	rd.state = *st
	return rd, nil
}

func (st *shardState) relane(n int) {
	low := laneState{Done: true}
	for _, l := range st.Lanes {
		if !l.Done && (low.Done || l.Pos < low.Pos) {
			low = laneState{Pos: l.Pos}
		}
	}
	st.Lanes = make([]laneState, n)
	for i := range st.Lanes {
		st.Lanes[i] = low
	}
}

func (rd *reader) finished() bool {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	return rd.state.done()
}

// save stores a lane's place.
func (rd *reader) save(ctx context.Context, lane int, st laneState) error {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	rd.state.Lanes[lane] = st
	op, err := rd.m.shardOp(rd.shard.Number, &rd.state)
	if err != nil {
		return err
	}
	_, err = rd.m.owner.o.Meta.Txn(ctx, nil, []shards.Op{op})
	if err != nil {
		return errs.Wrap(errs.Unavailable, err, "the checkpoint of mapping %s could not be stored", rd.m.UUID)
	}
	return nil
}

// laneOf is the lane of a partition key.
func laneOf(key []byte, lanes int) int {
	if lanes == 1 {
		return 0
	}
	h := fnv.New32a()
	h.Write(key)
	return int(h.Sum32() % uint32(lanes))
}
