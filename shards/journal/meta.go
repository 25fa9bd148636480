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
}

const (
	revisionKey = "\x00rev"
	floorPrefix = "\x00floor/"
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

func openMeta(fs vfs.FS, dir string) (*meta, error) {
	cache := pebble.NewCache(8 << 20)
	defer cache.Unref()
	db, err := pebble.Open(dir, &pebble.Options{
		FS: fs, Cache: cache, MemTableSize: 4 << 20, FormatMajorVersion: pebbleFormat, Logger: quiet{},
	})
	if err != nil {
		return nil, errs.Wrap(errs.Unavailable, err, "the metadata in %s cannot be opened", dir)
	}
	m := &meta{db: db}
	v, err := m.load(revisionKey)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if v != nil {
		m.rev = binary.BigEndian.Uint64(v)
	}
	return m, nil
}

func (m *meta) Close() error { return m.db.Close() }

// load returns a copy of a raw value, nil if the key is absent.
func (m *meta) load(key string) ([]byte, error) {
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
		err := m.scan(prefix, func(key, v []byte) bool {
			return yield(shards.KV{Key: string(key), Value: bytes.Clone(v[8:]), Rev: shards.Rev(binary.BigEndian.Uint64(v))}, nil)
		})
		if err != nil {
			yield(shards.KV{}, err)
		}
	}
}

func (m *meta) scan(prefix string, each func(key, value []byte) bool) error {
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
	Trimmed shards.Pos `json:"trimmed"` // nothing at or before it may be read
	Next    shards.Pos `json:"next"`    // no position below it may be given out again
}

func floorKey(id shards.ShardID) []byte {
	return binary.BigEndian.AppendUint64([]byte(floorPrefix), uint64(id))
}

func (m *meta) putFloors(_ context.Context, ids []shards.ShardID, of func(shards.ShardID) floor) error {
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
	b := m.db.NewBatch()
	defer b.Close()
	for _, id := range ids {
		if err := b.Delete(floorKey(id), nil); err != nil {
			return err
		}
	}
	return b.Commit(pebble.Sync)
}

func (m *meta) floors() (map[shards.ShardID]floor, error) {
	out := make(map[shards.ShardID]floor)
	var bad error
	err := m.scan(floorPrefix, func(key, value []byte) bool {
		var f floor
		if bad = json.Unmarshal(value, &f); bad != nil {
			return false
		}
		out[shards.ShardID(binary.BigEndian.Uint64(key[len(floorPrefix):]))] = f
		return true
	})
	return out, errors.Join(err, bad)
}
