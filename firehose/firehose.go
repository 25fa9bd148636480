// Package firehose is the delivery room: delivery streams, which take batches of records out of a
// stream, let a function transform them, and deliver them to a destination.
//
// A delivery stream reads a stream: the one it was given as source, or, for direct puts, a private
// one of its own. It is one reader of shards.Stream.Consume, so its batches are cut durably before
// their first side effect and come again, the same, after a crash. Everything that a destination
// names is computed from the batch (object keys, ids), so that a delivery that is repeated
// overwrites and doubles nothing. The reader's checkpoint moves when every object of a batch is
// durable at the far side.
//
// The way of a batch: read from the log, take KPL aggregates apart, transform (transform.go),
// deliver what came out, store what the transform failed in the error output.
//
// Destinations live in the folders below destinations; package firehoseapi speaks the wire.
package firehose

import (
	"context"
	"encoding/json"
	"time"

	"github.com/shardmill/shardmill/runtime"
)

// Destination is a configured far side. Implementations: firehose/destinations/*.
type Destination interface {
	// Deliver brings a batch's records to the far side. It returns nil only when all of them are
	// durable there; otherwise it is called again with the same batch, perhaps after a restart,
	// and must then replace what it left behind, not add to it.
	Deliver(ctx context.Context, b *Batch) error
	// DeliverErrors stores the records that could not be processed, one JSON document a line,
	// by the same rules.
	DeliverErrors(ctx context.Context, b *Batch) error
}

// Functions finds user functions. Package plugins has the implementation.
type Functions interface {
	// Function leases the present version of a function, named by its name or ARN. The caller
	// releases it after the call it leased it for. errs.NotFound if there is none, errs.InUse
	// while its first version is loading: callers wait then.
	Function(nameOrARN string) (fn runtime.Function, release func(), err error)
}

// Opener makes a destination of its kind and settings. Package destinations has the list of kinds.
type Opener func(kind string, settings json.RawMessage) (Destination, error)

// Batch is what a destination gets: records of one cut, in order.
type Batch struct {
	Stream    string    // the delivery stream's name
	StreamID  string    // its id, unique over all time
	Version   string    // the version of its configuration that the batch was cut under
	Ranges    string    // the cut's bounds as text; the same for the same cut, for no other
	Oldest    time.Time // arrival of the oldest record of the cut
	Records   int       // how many Each will give
	ErrorType string    // "" for data; for error records their kind: "processing-failed"

	each func(ctx context.Context, fn func(data []byte) error) error
}

// Each calls fn with every record. It may be called again and gives the same. The data must not be
// kept or changed.
func (b *Batch) Each(ctx context.Context, fn func(data []byte) error) error { return b.each(ctx, fn) }

// Types of a delivery stream.
const (
	DirectPut             = "DirectPut"
	KinesisStreamAsSource = "KinesisStreamAsSource"
)

// Spec is what a delivery stream is created from.
type Spec struct {
	Name      string            `json:"name"`
	Type      string            `json:"type"`
	SourceARN string            `json:"sourceArn,omitempty"` // of the Kinesis stream
	Buffer    Buffer            `json:"buffer"`
	Processor *Processor        `json:"processor,omitempty"`
	Kind      string            `json:"kind"`     // of destination
	Settings  json.RawMessage   `json:"settings"` // the destination's own
	Describe  json.RawMessage   `json:"describe"` // what the API wants to tell of it again
	Logging   *Logging          `json:"logging,omitempty"`
	Tags      map[string]string `json:"tags,omitempty"`
}

// Logging names where CloudWatch would log delivery errors. Here they are in the host's own log,
// which carries these names with them.
type Logging struct {
	Group  string `json:"group"`
	Stream string `json:"stream"`
}

// Buffer says when a batch is cut: at the first of the two. Bytes count the records as they are in
// the source; Interval starts at the oldest record's arrival. Interval 0 delivers at once.
type Buffer struct {
	Bytes    int64         `json:"bytes"`
	Interval time.Duration `json:"interval"`
}

// Processor is the Lambda processor of a delivery stream.
type Processor struct {
	FunctionARN string `json:"functionArn"`
	Retries     int    `json:"retries"` // after the first attempt
	Bytes       int64  `json:"bytes"`   // of record data in one invocation
}

// State is a delivery stream's state, in AWS's words.
type State string

const (
	Creating State = "CREATING"
	Active   State = "ACTIVE"
	Deleting State = "DELETING"
)

// Delivered tells what became of one batch. In = Ok + Dropped + Failed, when every record has one
// answer; a function may answer with several records for one.
type Delivered struct {
	Records  int // records of the cut, KPL aggregates taken apart
	Ok       int // records delivered
	Dropped  int // records that the function wanted dropped
	Failed   int // records in the error output
	Bytes    int64
	Attempts int
	Took     time.Duration
}

// Events tells observers what delivery streams do. Nil fields are skipped.
type Events struct {
	Delivered func(d *DeliveryStream, batch uint64, what Delivered)
	// Retry: a batch could not be delivered and will be tried again.
	Retry func(d *DeliveryStream, batch uint64, attempt int, err error)
	// Transform: an invocation of the function failed; it is tried again unless last.
	Transform func(d *DeliveryStream, attempt int, last bool, err error)
	// Stopped: nothing is delivered although the delivery stream exists. Its source is gone, and
	// that is final; or the log or metadata cannot be read or written, and it is tried again.
	Stopped func(d *DeliveryStream, err error)
}
