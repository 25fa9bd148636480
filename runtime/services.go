package runtime

import "context"

// Services are what a host lends to functions that were granted it. A function that needs a
// member that is nil is not loaded.
type Services struct {
	State   StateStore
	Streams Emitter
}

// StateStore keeps one small document for every function, over versions, reloads and restarts.
type StateStore interface {
	// Load returns the document and its revision; nil and 0 when there is none.
	Load(ctx context.Context, function string) (doc []byte, rev uint64, err error)
	// Store replaces the document if its revision is still rev, and returns when it is durable.
	// An empty document removes it. An errs.Conflict error says that somebody else was faster and
	// that nothing was done.
	Store(ctx context.Context, function string, doc []byte, rev uint64) error
}

// Emitter puts the records that functions emit to streams.
type Emitter interface {
	// Emit returns nil when every record is durable. After an error some of them may be.
	// errs.NotFound and errs.Invalid say that these records can never be put.
	Emit(ctx context.Context, records []Emission) error
}

// Emission is a record that a function emits.
type Emission struct {
	Stream       string
	PartitionKey string
	Data         []byte
}

// Metric is a value that a function reported.
type Metric struct {
	Name    string // [a-zA-Z_][a-zA-Z0-9_]*
	Labels  []Label
	Value   float64 // finite
	Counter bool    // Value is added to the series and not negative; otherwise it replaces the last one
}

// Label is one of a metric's labels; they are sorted by name.
type Label struct{ Name, Value string }
