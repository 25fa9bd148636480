package journal

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

const (
	maxWaiting = 3           // closed segments that wait for the sealer before appends wait
	bufferKept = time.Minute // the sealer's buffer is let go after so long without work
)

var (
	errDamaged = errors.New("damaged")
	errStopped = errors.New("the sealer is stopping")
)

// sealer is the one goroutine that turns closed segments into chunks, and chunks that are mostly
// trimmed into smaller ones. Its work can be done again: a segment is given up only when the chunk
// that replaces it is durable.
type sealer struct {
	wake chan struct{} // there may be work
	stop chan struct{}
	done chan struct{}

	mu       sync.Mutex
	room     *sync.Cond // on mu: a piece of work is done
	waiting  []*volume  // segments closed since Open; the writer waits for these
	backlog  []*volume  // segments that Open found
	sparse   []*volume  // chunks to be rewritten
	broken   *volume    // met a full disk; appends go on when it is sealed (pause.go)
	busy     bool
	stopping bool
	failed   *errs.Error // why the last piece of work could not be done

	buf []byte // a segment's bytes; the goroutine's own
	out []byte // bytes on their way into a chunk
}

func (q *sealer) init() {
	q.wake, q.stop, q.done = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	q.room = sync.NewCond(&q.mu)
}

// kick has the sealer look for work.
func (q *sealer) kick() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *sealer) push(list *[]*volume, v *volume) {
	q.mu.Lock()
	if !slices.Contains(*list, v) {
		*list = append(*list, v)
	}
	q.mu.Unlock()
	q.kick()
}

func (q *sealer) add(v *volume)     { q.push(&q.waiting, v) }
func (q *sealer) compact(v *volume) { q.push(&q.sparse, v) }

// mend has the store resumed when v, if there is one, is sealed.
func (q *sealer) mend(v *volume) {
	q.mu.Lock()
	q.broken = v
	q.mu.Unlock()
	q.kick()
}

// await waits until fewer than maxWaiting segments wait. It does not wait for a sealer that fails:
// then new appends are refused instead.
func (q *sealer) await() {
	q.mu.Lock()
	for len(q.waiting) >= maxWaiting && q.failed == nil && !q.stopping {
		q.room.Wait()
	}
	q.mu.Unlock()
}

// behind is why appends are refused: the sealer fails and is as far behind as it may be.
func (q *sealer) behind() *errs.Error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.failed == nil || len(q.waiting) < maxWaiting {
		return nil
	}
	return errs.Wrap(errs.Unavailable, q.failed, "the journal waits for %d segments to be sealed, which fails; records are taken again when it works", len(q.waiting))
}

// next is the most urgent volume and the list it stands in.
func (q *sealer) next() (v *volume, list *[]*volume) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, list := range []*[]*volume{&q.waiting, &q.sparse, &q.backlog} {
		if len(*list) > 0 {
			q.busy = true
			return (*list)[0], list
		}
	}
	return nil, nil
}

// finish ends a piece of work. What failed stays in its list, to be tried again.
func (q *sealer) finish(v *volume, list *[]*volume, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.busy = false
	q.failed = nil
	if err == nil {
		if i := slices.Index(*list, v); i >= 0 {
			*list = slices.Delete(*list, i, i+1)
		}
	} else if !errors.Is(err, errStopped) {
		q.failed = errs.Wrap(errs.Unavailable, err, "%s could not be sealed", v.volumeID)
	}
	q.room.Broadcast()
}

func (s *Store) startSealer() { go s.sealLoop() }

// stopSealer ends the sealer; what it was writing is done again by the next Open.
func (s *Store) stopSealer() {
	q := &s.seal
	q.mu.Lock()
	q.stopping = true
	q.room.Broadcast()
	q.mu.Unlock()
	close(q.stop)
	<-q.done
}

func (s *Store) sealLoop() {
	q := &s.seal
	defer close(q.done)
	told := ""
	for {
		idle, err := s.sealOnce()
		pause := time.Duration(0)
		switch {
		case err != nil:
			pause = s.opts.sealRetry
			if f := s.opts.Events.SealFailed; f != nil && !errors.Is(err, errStopped) && err.Error() != told {
				f(err)
			}
			told = err.Error()
		case idle:
			pause = bufferKept
		default:
			told = ""
		}
		if !q.sleep(pause, err != nil) {
			return
		}
	}
}

// sleep waits for work, at most for pause; after a failure it waits for the whole pause. It
// reports whether the sealer goes on.
func (q *sealer) sleep(pause time.Duration, failed bool) bool {
	if pause == 0 {
		select {
		case <-q.stop:
			return false
		default:
			return true
		}
	}
	var timer <-chan time.Time
	if failed || q.buf != nil {
		timer = time.After(pause)
	}
	wake := q.wake
	if failed {
		wake = nil
	}
	select {
	case <-q.stop:
		return false
	case <-wake:
	case <-timer:
		if !failed {
			q.buf, q.out = nil, nil
		}
	}
	return true
}

// sealOnce does one piece of work, and reports whether there was none.
func (s *Store) sealOnce() (idle bool, err error) {
	q := &s.seal
	var paused error
	if s.paused.Load() != nil {
		paused = s.resume()
	}
	if s.anyDead() {
		if err := s.reclaim(context.Background()); err != nil {
			return false, errors.Join(paused, err)
		}
	}
	v, list := q.next()
	if v == nil {
		return true, paused
	}
	err = s.sealVolume(v)
	if errors.Is(err, errDamaged) { // tried again by a repair only
		s.index.mu.Lock()
		v.damaged = true
		s.index.mu.Unlock()
		if f := s.opts.Events.Damaged; f != nil {
			f(err)
		}
		err = nil
	}
	q.finish(v, list, err)
	return false, errors.Join(paused, err)
}

// sealVolume rewrites a closed volume as a chunk and gives it up.
func (s *Store) sealVolume(v *volume) (err error) {
	if !s.beginSealing(v) {
		return nil
	}
	defer func() {
		if err != nil {
			s.endSealing(v)
		}
	}()
	b, err := s.buildChunk(v)
	if err != nil {
		return err
	}
	if b.fewer && !s.opts.omit.has(omitFloors) { // what the chunk lacks must be trimmed for good before it replaces what has it
		if err := s.keepFloors(); err != nil {
			return errors.Join(err, b.discard())
		}
	}
	if err := b.install(); err != nil {
		return err
	}
	s.swap(v, b)
	if f := s.opts.Events.Sealed; f != nil {
		f(v.gen > 0, v.size, b.volume.size)
	}
	if err := s.retire(v); err != nil && s.opts.Events.SealFailed != nil {
		s.opts.Events.SealFailed(err) // the next Open gives it up
	}
	return nil
}

// beginSealing marks v as the sealer's, unless it is not worth the work.
func (s *Store) beginSealing(v *volume) bool {
	s.index.mu.Lock()
	defer s.index.mu.Unlock()
	if s.index.volumes[v.volumeID] != v || v.damaged || v.live == 0 && !v.broken || v.gen > 0 && !v.sparse() || s.opts.omit.has(omitSealing) {
		return false
	}
	v.sealing = true
	s.index.dead = slices.DeleteFunc(s.index.dead, func(d *volume) bool { return d == v })
	return true
}

func (s *Store) endSealing(v *volume) {
	s.index.mu.Lock()
	v.sealing = false
	if v.live == 0 {
		s.judge(v)
	}
	s.index.mu.Unlock()
}

// swap makes the chunk the place where the records of v are.
func (s *Store) swap(v *volume, b *chunkBuilder) {
	s.index.mu.Lock()
	s.index.volumes[b.volume.volumeID] = b.volume
	s.index.mu.Unlock()
	var live int64
	for _, p := range b.parts {
		live += p.sh.replace(v.volumeID, p.rows)
	}
	s.tail.forget(v.number)
	s.index.mu.Lock()
	b.volume.live += live
	b.volume.closed = true
	s.judge(b.volume)
	s.index.mu.Unlock()
}

// replace puts rows in the place of the refs of a volume, and returns the bytes they stand for.
// Rows that were trimmed meanwhile are left out.
func (sh *shardIndex) replace(id volumeID, rows []ref) (live int64) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	from, to := sh.within(id)
	if sh.deleted || from == to {
		return 0
	}
	for len(rows) > 0 && rows[0].last() <= sh.horizon {
		rows = rows[1:]
	}
	sh.refs = slices.Replace(sh.refs, from, to, rows...)
	sh.shrink()
	for i := range rows {
		live += int64(rows[i].size)
	}
	return live
}

// retire gives up a volume that nothing refers to any more, when its last reader has left.
func (s *Store) retire(v *volume) error {
	s.index.mu.Lock()
	delete(s.index.volumes, v.volumeID)
	for v.users > 0 && !s.opts.omit.has(omitReaders) {
		s.index.left.Wait()
	}
	s.index.mu.Unlock()
	return s.discardFile(v)
}

// discardFile recycles a segment's body, or deletes a chunk.
func (s *Store) discardFile(v *volume) error {
	if v.gen > 0 {
		return s.fs.Remove(s.path(v.volumeID))
	}
	return errors.Join(v.file.Close(), s.recycle(v.number))
}

// part is what one shard has in a chunk.
type part struct {
	id   shards.ShardID
	sh   *shardIndex
	rows []ref
}
