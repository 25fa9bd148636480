package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// meta is shards.Meta on Pebble. Every write is synced. A value is stored behind its revision
// (8 bytes, big-endian); the counter of revisions is the key revisionKey. Keys of the store itself
// begin with a zero byte and are not visible through Meta.
type meta struct {
	db  *pebble.DB
	mu  sync.Mutex // one writer
	rev uint64

	life   sync.Mutex
	closed bool           // guarded by life
	users  sync.WaitGroup // operations under way; added to under life
}

const (
	storeKey    = "\x00store" // the store's id, as FORMAT and the segments have it
	revisionKey = "\x00rev"
	highestKey  = "\x00highest" // the highest shard id ever created
	floorPrefix = "\x00floor/"

	// flushWait bounds how long a close waits for a flush, which may fail for ever on a full disk.
	flushWait = 5 * time.Second

	// pebbleFormat is fixed: raising it is one way, so it is a decision, not a default.
	pebbleFormat = pebble.FormatMajorVersion(24)
)

// quiet is Pebble's logger. A failed commit of metadata ends the process, as Pebble asks for:
// what Pebble knows in memory is not what is on the disk any more.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(format string, args ...any) {
	panic("metadata store: " + fmt.Sprintf(format, args...))
}

// openMeta opens a store's metadata in dir. It makes them if they are not there, unless they must
// be. damaged is told of damage that is met later.
func openMeta(fs vfs.FS, dir string, storeID [16]byte, mustExist bool, damaged func(error)) (*meta, error) {
	cache := pebble.NewCache(8 << 20)
	defer cache.Unref()
	db, err := pebble.Open(dir, &pebble.Options{
		FS: fs, Cache: cache, MemTableSize: 4 << 20, FormatMajorVersion: pebbleFormat, Logger: quiet{}, ErrorIfNotExists: mustExist,
		// Without a listener Pebble ends the process; so the operation at fault gets the error.
		EventListener: &pebble.EventListener{DataCorruption: func(i pebble.DataCorruptionInfo) { damaged(i.Details) }},
	})
	if errors.Is(err, pebble.ErrDBDoesNotExist) {
		return nil, errs.Wrap(errs.Invalid, err, "the metadata in %s are missing although there is a journal: restore the folder from a copy", dir)
	}
	if err != nil {
		return nil, errs.Wrap(errs.Unavailable, err, "the metadata in %s cannot be opened", dir)
	}
	m := &meta{db: db}
	if err := m.begin(dir, storeID, mustExist); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return m, nil
}

// begin checks whose metadata they are and finds the last revision.
func (m *meta) begin(dir string, storeID [16]byte, mustExist bool) error {
	id, err := m.load(storeKey)
	if err == nil && id == nil && !mustExist {
		id = storeID[:]
		err = m.db.Set([]byte(storeKey), id, pebble.Sync)
	}
	if err != nil {
		return errs.Wrap(errs.Unavailable, err, "the metadata in %s cannot be read", dir)
	}
	if !bytes.Equal(id, storeID[:]) {
		return errs.New(errs.Invalid, "the metadata in %s belong to store %x, and FORMAT beside them names store %x: one of them is damaged, or two data folders were mixed up", dir, id, storeID)
	}
	v, err := m.load(revisionKey)
	if err != nil {
		return errs.Wrap(errs.Unavailable, err, "the metadata in %s cannot be read", dir)
	}
	if v != nil {
		m.rev = binary.BigEndian.Uint64(v)
	}
	return nil
}

// Close waits for the operations under way. Later ones are refused: Pebble itself would panic. It
// leaves nothing in Pebble's log: a damaged byte there cuts off what follows without notice, as it
// could be a torn tail, while in a table it is found out.
func (m *meta) Close() error {
	m.life.Lock()
	m.closed = true
	m.life.Unlock()
	m.users.Wait()
	flushed, err := m.db.AsyncFlush()
	if err == nil {
		select {
		case <-flushed:
		case <-time.After(flushWait):
		}
	}
	return errors.Join(err, m.db.Close())
}

// enter begins an operation; without an error the caller ends it with m.users.Done.
func (m *meta) enter() error {
	m.life.Lock()
	defer m.life.Unlock()
	if m.closed {
		return errs.New(errs.Unavailable, "the store is closing")
	}
	m.users.Add(1)
	return nil
}

// load returns a copy of a raw value, nil if the key is absent.
func (m *meta) load(key string) ([]byte, error) {
	if err := m.enter(); err != nil {
		return nil, err
	}
	defer m.users.Done()
	v, done, err := m.db.Get([]byte(key))
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer done.Close()
	return bytes.Clone(v), nil
}

// Get implements shards.Meta.
func (m *meta) Get(_ context.Context, key string) ([]byte, shards.Rev, error) {
	v, err := m.load(key)
	if err != nil || v == nil {
		return nil, 0, err
	}
	return v[8:], shards.Rev(binary.BigEndian.Uint64(v)), nil
}

// Scan implements shards.Meta.
func (m *meta) Scan(_ context.Context, prefix string) iter.Seq2[shards.KV, error] {
	return func(yield func(shards.KV, error) bool) {
		more := true
		err := m.scan(prefix, func(key, v []byte) bool {
			more = yield(shards.KV{Key: string(key), Value: bytes.Clone(v[8:]), Rev: shards.Rev(binary.BigEndian.Uint64(v))}, nil)
			return more
		})
		if err != nil && more {
			yield(shards.KV{}, err)
		}
	}
}

func (m *meta) scan(prefix string, each func(key, value []byte) bool) error {
	if err := m.enter(); err != nil {
		return err
	}
	defer m.users.Done()
	end := []byte(prefix)
	end[len(end)-1]++ // prefixes end in '/', never in 0xff
	it, err := m.db.NewIter(&pebble.IterOptions{LowerBound: []byte(prefix), UpperBound: end})
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return errors.Join(err, it.Close())
		}
		if !each(it.Key(), v) {
			break
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// Txn implements shards.Meta.
func (m *meta) Txn(ctx context.Context, conds []shards.Cmp, ops []shards.Op) (bool, error) {
	if err := m.enter(); err != nil {
		return false, err
	}
	defer m.users.Done()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range conds {
		if _, rev, err := m.Get(ctx, c.Key); err != nil || rev != c.Rev {
			return false, err
		}
	}
	b := m.db.NewBatch()
	defer b.Close()
	rev := binary.BigEndian.AppendUint64(nil, m.rev+1)
	for _, op := range ops {
		var err error
		if op.Delete {
			err = b.Delete([]byte(op.Key), nil)
		} else {
			err = b.Set([]byte(op.Key), append(rev[:8:8], op.Value...), nil)
		}
		if err != nil {
			return false, err
		}
	}
	if err := b.Set([]byte(revisionKey), rev, nil); err != nil {
		return false, err
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return false, errs.Wrap(errs.Unavailable, err, "metadata could not be written")
	}
	m.rev++
	return true, nil
}

// floor is what must outlive a shard's segments.
type floor struct {
	Trimmed shards.Pos `json:"trimmed"`          // nothing at or before it may be read
	Next    shards.Pos `json:"next"`             // no position below it may be given out again
	Sealed  bool       `json:"sealed,omitempty"` // no position may be given out again at all
}

// storedFloor is a floor as metadata have it, with the gaps that a repair left in the shard.
type storedFloor struct {
	floor
	Gaps []gap `json:"gaps,omitempty"`
}

func floorKey(id shards.ShardID) []byte {
	return binary.BigEndian.AppendUint64([]byte(floorPrefix), uint64(id))
}

// create makes fresh shards known, and for good that their ids have been used.
func (m *meta) create(fresh []shards.ShardID) error {
	highest, err := m.highest()
	if err != nil {
		return err
	}
	if err := m.enter(); err != nil {
		return err
	}
	defer m.users.Done()
	b := m.db.NewBatch()
	defer b.Close()
	for _, id := range fresh {
		highest = max(highest, id)
		if err := b.Set(floorKey(id), []byte("{}"), nil); err != nil {
			return err
		}
	}
	if err := b.Set([]byte(highestKey), binary.BigEndian.AppendUint64(nil, uint64(highest)), nil); err != nil {
		return err
	}
	return b.Commit(pebble.Sync)
}

// highest is the highest shard id ever created.
func (m *meta) highest() (shards.ShardID, error) {
	v, err := m.load(highestKey)
	if err != nil || v == nil {
		return 0, err
	}
	return shards.ShardID(binary.BigEndian.Uint64(v)), nil
}

func (m *meta) putFloors(_ context.Context, ids []shards.ShardID, of func(shards.ShardID) storedFloor) error {
	if err := m.enter(); err != nil {
		return err
	}
	defer m.users.Done()
	b := m.db.NewBatch()
	defer b.Close()
	for _, id := range ids {
		v, err := json.Marshal(of(id))
		if err == nil {
			err = b.Set(floorKey(id), v, nil)
		}
		if err != nil {
			return err
		}
	}
	return b.Commit(pebble.Sync)
}

func (m *meta) deleteFloors(_ context.Context, ids []shards.ShardID) error {
	if err := m.enter(); err != nil {
		return err
	}
	defer m.users.Done()
	b := m.db.NewBatch()
	defer b.Close()
	for _, id := range ids {
		if err := b.Delete(floorKey(id), nil); err != nil {
			return err
		}
	}
	return b.Commit(pebble.Sync)
}

func (m *meta) floors() (map[shards.ShardID]storedFloor, error) {
	out := make(map[shards.ShardID]storedFloor)
	var bad error
	err := m.scan(floorPrefix, func(key, value []byte) bool {
		var f storedFloor
		if bad = json.Unmarshal(value, &f); bad != nil {
			return false
		}
		out[shards.ShardID(binary.BigEndian.Uint64(key[len(floorPrefix):]))] = f
		return true
	})
	return out, errors.Join(err, bad)
}
