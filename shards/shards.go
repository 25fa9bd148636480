// Package shards is the data-streams room: streams, their shards, records, sequence numbers,
// readers and checkpoints.
//
// A stream is cut into shards by hash key range; a record lands in the shard whose range holds
// the MD5 of its partition key. Each shard is a log: an append gives a record the next position
// (Pos), and readers read in the order of positions. The sequence number that clients see is
// computed from the position, the arrival time and the shard (seq.go).
//
// The room keeps nothing on disk itself. It stands on a Store: a Log for records and a Meta for
// everything else (streams, checkpoints, cuts). shards/journal is the store on the machine's own
// disk. Above the room, shards/kinesisapi speaks the wire protocol.
//
// Whoever processes a stream inside the host (delivery streams, event source mappings,
// applications) does it through one loop, Stream.Consume (consume.go), which makes the bounds of
// every batch durable before the batch is first handed out.
package shards

import (
	"context"
	"iter"
	"slices"

	"github.com/shardmill/shardmill/internal/errs"
)

// ShardID names a shard's log inside the store. It is allocated once and never reused, not even
// after its stream is gone; clients see the shard's number instead ("shardId-000000000000").
type ShardID uint64

// Pos is a record's position in its shard. The first record has 1; positions strictly increase.
// 0 is the position before everything.
type Pos uint64

// Entry is a record on its way into a shard.
type Entry struct {
	Key   []byte // partition key, UTF-8, at most 1,024 bytes; may be empty
	Data  []byte
	Flags uint8 // kept and given back
}

// Record is a stored record. Its slices are immutable and shared: never write to them.
type Record struct {
	Pos     Pos
	Arrived int64 // ms since the epoch, non-decreasing within a shard
	Key     []byte
	Data    []byte
	Flags   uint8
}

// Run is a sequence of entries for one shard, appended in order and without others in between.
type Run struct {
	Shard   ShardID
	Entries []Entry
}

// Result tells what became of a Run: entry i has position First+i when Err is nil.
type Result struct {
	First   Pos
	Arrived int64
	Err     error
}

// Budget bounds a read. At least one record is returned however big it is.
type Budget struct {
	Records int
	Bytes   int // of data and keys
}

// Bounds tells what a shard holds: records after Horizon up to Last.
type Bounds struct {
	Horizon Pos // nothing at or before it can be read any more
	Last    Pos
	Sealed  bool // there will be no record after Last
}

// ErrSealed is the error of an append to a sealed shard: nothing was stored.
var ErrSealed = errs.New(errs.Unavailable, "the shard takes no records any more")

// Log keeps the records of all shards. Errors are of package errs: NotFound for a shard that was
// not created or is deleted, Unavailable when nothing was stored and nothing can be (disk full,
// fenced after a write error, closing), Unknown when a failed write may have stored the records.
type Log interface {
	// Append stores runs and returns when they are durable, in order; results has one element a
	// run. Once it has begun to write it does not stop for ctx: an append is never half known.
	// The entries' memory may be reused when it returns.
	Append(ctx context.Context, runs []Run, results []Result)
	// Read appends to dst the records after a position, in order, as many as the budget allows,
	// without waiting: none are there when dst comes back as it was. A position at or before the
	// horizon continues at the horizon.
	Read(ctx context.Context, id ShardID, after Pos, max Budget, dst []Record) ([]Record, error)
	// Seek returns the position before the first record that arrived at or after ms, the last
	// position if there is none.
	Seek(ctx context.Context, id ShardID, ms int64) (Pos, error)
	Bounds(ctx context.Context, id ShardID) (Bounds, error)
	// Notify sends on ch, without ever blocking, after records of one of the shards became
	// readable, or one of the shards was deleted. ch should have room for one signal. The caller calls stop when done.
	Notify(ids []ShardID, ch chan<- struct{}) (stop func())
}

// Keeper creates, seals, trims and deletes the logs of shards. All four are idempotent.
type Keeper interface {
	Create(ctx context.Context, ids []ShardID) error
	// Trim gives up the records at or before a position: they cannot be read any more and their
	// space is used again. A trim may be forgotten over a crash, so it must be repeated by
	// whoever asked for it; positions are never given out twice all the same.
	Trim(ctx context.Context, id ShardID, through Pos) error
	Delete(ctx context.Context, ids []ShardID) error
	// Seal ends shards for writers: when it has returned, no append to them is ever acknowledged
	// again (ErrSealed) and their last positions stand. at is a time, ms since the epoch, that is
	// not before the arrival of any record in them, nor after that of any later append anywhere.
	// Whoever waits for one of the shards is notified.
	Seal(ctx context.Context, ids []ShardID) (at int64, err error)
}

// Rev is the revision of a metadata key: it changes with every write of the key. 0 is absent.
type Rev uint64

// KV is a metadata key with its value.
type KV struct {
	Key   string
	Value []byte
	Rev   Rev
}

// Cmp is a condition of a transaction: the key has this revision (0: does not exist).
type Cmp struct {
	Key string
	Rev Rev
}

// Op is a write of a transaction: a put, or with Delete set the removal of the key.
type Op struct {
	Key    string
	Value  []byte
	Delete bool
}

// Meta is a small linearizable key-value store for what is not a record. Transactions are kept
// within 128 operations and 1 MiB so that stores on other machines can hold them too.
type Meta interface {
	// Get returns a key's value and revision, revision 0 if the key is absent.
	Get(ctx context.Context, key string) ([]byte, Rev, error)
	// Scan yields all keys with the prefix in order. It sees one point in time.
	Scan(ctx context.Context, prefix string) iter.Seq2[KV, error]
	// Txn applies ops together, durably, if every condition holds; otherwise it does nothing and
	// returns false.
	Txn(ctx context.Context, conds []Cmp, ops []Op) (ok bool, err error)
}

// opsATxn is how many ops Apply puts into a transaction.
const opsATxn = 100

// Apply runs ops in order, in as many transactions as they need to be small enough for every store:
// a crash may leave the first ones done and the rest not.
func Apply(ctx context.Context, m Meta, ops []Op) error {
	for part := range slices.Chunk(ops, opsATxn) {
		if _, err := m.Txn(ctx, nil, part); err != nil {
			return err
		}
	}
	return nil
}

// Store is the ground a Streams stands on.
type Store interface {
	Log() Log
	Keeper() Keeper
	Meta() Meta
	// Fault is nil while the store works, otherwise why it has stopped taking records.
	Fault() error
	Close() error
}
