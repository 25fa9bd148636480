// Package runtime runs user code. It is the vocabulary that engines and callers share, and it
// knows nothing of streams.
//
// The words are Lambda's. A Function is what a user deploys: a WebAssembly module or a Lambda
// handler. An Invocation hands it one event and a deadline. Each invocation is served by an
// execution environment, which here is always a child process of the host: a Lambda handler is
// its own process, a WebAssembly function is the host's binary re-executed as a worker that runs
// one module. Ending user code is therefore ending a process: the host never waits for a guest,
// and a hostile guest cannot take the host with it. An Engine makes Functions from Artifacts;
// engines live in the folders below (runtime/wasm, runtime/lambda).
//
// This package is neither the host process (internal/host) nor Go's own runtime package, which
// shardmill always imports as goruntime. No name exported here is a name that Go's runtime
// exports.
package runtime

import (
	"context"
	"fmt"
	"time"
)

// Invocation is one event for a function.
type Invocation struct {
	RequestID   string // UUID; stays the same over retries of one event
	FunctionARN string // with the qualifier, if the caller named one
	TraceID     string // X-Amzn-Trace-Id; may be empty
	Payload     []byte // the event, JSON; the callee must not keep it after returning
	Deadline    time.Time
}

// Result is what became of an invocation that reached the function. A handler that failed is a
// Result with FunctionError set, not an error.
type Result struct {
	Payload       []byte        // the answer, or the error document {"errorMessage","errorType",…}
	FunctionError string        // "" or "Unhandled"
	ErrorType     string        // the document's errorType, e.g. "Sandbox.Timedout", "Runtime.ExitError"
	Init          time.Duration // of the process that served it, in its first invocation only
	Duration      time.Duration
	MaxMemory     int64 // bytes that the process had resident at most, as far as is known; 0 when it is not
}

// Function is one version of a function, ready to be invoked.
type Function interface {
	// Invoke runs the event to its end, or until in.Deadline or ctx ends, at which the
	// environment is killed. It is safe for concurrent use; calls beyond the function's
	// concurrency wait. The error is a fault of the host (errs kinds): Throttled when no
	// environment became free in time, Unavailable when none could be started, Internal else.
	Invoke(ctx context.Context, in Invocation) (Result, error)
	// Close ends every environment at once. Callers make sure that no invocation runs.
	Close() error
}

// RecordProcessor is the narrower door for batches of records, an optional power of a Function
// (found by type assertion). It spares the JSON event and its base64, which are most of a
// transform's cost.
type RecordProcessor interface {
	// Process runs one batch and appends what the function answered to out. The error is either
	// a *FunctionFailure (the function failed the batch as a whole) or a fault of the host as
	// for Invoke. Answers in out are validated: each Index names a record of the batch, Dropped
	// and Failed are the only answer for their index.
	Process(ctx context.Context, in *RecordBatch, out *ProcessedBatch) error
}

// RecordBatch is what a RecordProcessor works on. The callee must not keep any slice of it.
type RecordBatch struct {
	Invocation Invocation        // Payload unused
	Facts      map[string]string // batch-wide facts: "deliveryStreamArn", "sourceKinesisStreamArn", "region"
	Records    []InRecord
}

// InRecord is one record handed to a function. Only Data is always present.
type InRecord struct {
	ID             string // the service's record id, unique in the batch
	PartitionKey   []byte
	SequenceNumber string
	SubSequence    uint64
	ShardID        string
	Arrived        int64 // ms since the epoch
	Data           []byte
}

// Status is a function's verdict on one record.
type Status uint8

const (
	Ok      Status = iota // deliver Data
	Dropped               // done, deliver nothing
	Failed                // could not be processed
)

// OutRecord is one answer. A record may have several Ok answers (fan-out), kept in order.
type OutRecord struct {
	Index         int // into RecordBatch.Records
	Status        Status
	Data          []byte
	PartitionKeys map[string]string // for dynamic partitioning; nil when none were given
}

// ProcessedBatch collects answers. Data slices stay valid until the next Reset.
type ProcessedBatch struct {
	Records []OutRecord
}

// Reset empties b for another batch, keeping its memory.
func (b *ProcessedBatch) Reset() { b.Records = b.Records[:0] }

// FunctionFailure is the error of a RecordProcessor whose function failed the whole batch: it
// trapped, exited, ran out of time or memory, broke the protocol or said so itself.
type FunctionFailure struct {
	Type    string // as Result.ErrorType
	Message string
}

func (f *FunctionFailure) Error() string { return f.Type + ": " + f.Message }

// Error types that engines give; the words are Lambda's.
const (
	ErrorTimedOut         = "Sandbox.Timedout"
	ErrorExit             = "Runtime.ExitError"
	ErrorExtension        = "Extension.Crash"
	ErrorResponseTooLarge = "Function.ResponseSizeTooLarge"
	ErrorProtocol         = "Runtime.InvalidResponse" // the answer broke the ABI's rules
	ErrorHandler          = "Function.Error"          // the function said that it failed
)

// ArtifactKind says what an artifact is, by content, not by name.
type ArtifactKind uint8

const (
	KindWasm      ArtifactKind = iota + 1 // a WebAssembly module, one file
	KindBootstrap                         // a folder with an executable named bootstrap (provided.al2023)
	KindNode                              // a folder with a Node.js handler
	KindPython                            // a folder with a Python handler
	KindJava                              // a folder with a Java handler and its runtime interface client
)

func (k ArtifactKind) String() string {
	names := [...]string{"", "wasm", "provided", "nodejs", "python", "java"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Artifact is user code on disk, in the host's own versions store: content-addressed, complete
// and never changed after it was put there.
type Artifact struct {
	Name     string // the function's name
	ARN      string // arn:aws:lambda:REGION:ACCOUNT:function:NAME
	Kind     ArtifactKind
	Path     string   // KindWasm: the module file. Others: the task root
	Layers   []string // folders that Lambda would unpack into /opt, in order: the later one wins
	Version  string   // hex sha256 of the content, the manifest and the layers
	Region   string
	Account  string
	Env      map[string]string // the user's environment variables
	Endpoint string            // this host's own address, for AWS_ENDPOINT_URL; may be empty
	Handler  string            // the handler's name, where the kind has one: "index.handler"; "" is the kind's default
	ABI      string            // "native", "pull" or "stdio" of a module; "" is what it looks like
	Grants   Grants
}

// Grants are what a function may do beyond answering its invocations. The zero value grants nothing.
type Grants struct {
	Config  map[string]string // what the host call config answers
	Metrics bool              // counters and gauges of its own
	State   bool              // a small durable key-value store of its own
	Emit    []string          // names of the streams that it may put records to
}

// Limits bound one execution environment and the number of them. Zero fields take Defaults.
type Limits struct {
	Memory      int64         // bytes: a guest's linear memory, a handler's AWS_LAMBDA_FUNCTION_MEMORY_SIZE
	Timeout     time.Duration // one invocation
	InitTimeout time.Duration // from process start to ready
	Concurrency int           // environments at most
	Payload     int64         // bytes of one answer
	IdleAfter   time.Duration // an idle environment is ended after this long
}

// Defaults are the limits of a function that names none.
func (l Limits) Defaults() Limits {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	dur := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.Memory, 128<<20)
	def(&l.Payload, 6<<20+100)
	dur(&l.Timeout, 60*time.Second)
	dur(&l.InitTimeout, 10*time.Second)
	dur(&l.IdleAfter, 10*time.Minute)
	if l.Concurrency == 0 {
		l.Concurrency = 2
	}
	return l
}

// Engine makes functions. Implementations pass the suite in runtime/runtimetest.
type Engine interface {
	// Accepts reports whether the engine runs artifacts of this kind.
	Accepts(Artifact) bool
	// Load prepares a version and proves that it starts: it compiles what must be compiled,
	// starts one environment and waits until that is ready (keeping it warm in the pool).
	// An artifact that is unfit gets an errs.Invalid error whose sentence names the fault and
	// the remedy. Load holds nothing when it fails.
	Load(ctx context.Context, a Artifact, l Limits) (Function, error)
}

// Events tells observers what engines do. Nil fields are skipped. Callbacks run on the engine's
// goroutines and must return quickly.
type Events struct {
	Log func(function, requestID, line string) // one line a guest wrote; already bounded and made printable
	// Platform is one line of the service's own about an invocation (START, END, REPORT …), in order
	// with the lines of Log that belong to it.
	Platform func(function, requestID, line string)
	Start    func(function string, took time.Duration) // an environment became ready
	End      func(function, reason string)             // an environment ended: "idle", "closed", "timeout", "exit: …", "trap: …"
	// Metric is a value that a function reported in an invocation that succeeded. The number of
	// a function's series is bounded.
	Metric func(function string, m Metric)
}
