// Package lambda runs unmodified Lambda handlers: it is the service side of the Lambda Runtime
// API and Extensions API, and the engine for task roots: programs (provided.*), Node.js, Python and
// Java handlers.
//
// The model. A function version is a folder (the task root), and perhaps further ones (layers). An
// execution environment is one process, together with one HTTP listener on 127.0.0.1 that only this
// process is told of. The process runs the version's own bootstrap, or the interpreter of its
// language with a runtime that we ship (folder bootstrap). It is the client: it asks for an event
// (GET …/invocation/next, a long poll), works, and posts what came of it (…/response or …/error).
// The engine never calls the handler; it leaves an event where the process's next poll finds it.
//
// An environment goes through these phases:
//
//	starting --next--> idle --event--> running --response|error--> answered --next--> idle …
//	                                                  any of them --process ends--> gone
//
// The caller gets its answer at the response, but the environment is free again only at the
// following next: handlers may still work in between, until the invocation's deadline. A handler
// that is out of time is not asked to stop, it is killed with everything it started, and the
// next event gets a new process. What a process writes to stdout and stderr becomes log lines.
//
// Executables in the folder extensions of the task root or of a layer are external extensions:
// processes of the same environment, started before the handler's. They register, ask for events as
// the handler does, and are told of invocations and of the end. An environment with extensions is
// free only when all of them have asked on, too.
//
// Handlers run with the rights of the host. The process group, the empty environment and the
// private TMPDIR keep well-meant code apart; they are no sandbox against hostile code. A child
// that leaves the process group (setsid) is not killed with it.
//
// This is neither the Lambda API with which functions are created and invoked from outside
// (plugins/lambdaapi) nor the library that handlers are built with (aws-lambda-go).
package lambda

import (
	"context"
	"path/filepath"
	"sync"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// Options configure an Engine. The zero value is usable.
type Options struct {
	// Dir is where every environment gets a private folder (its TMPDIR), removed when the
	// environment ends. Empty means os.TempDir. It must exist.
	Dir string
	// Runtimes is where the runtimes for Node.js and Python are written, which processes read. Empty
	// means a folder below Dir.
	Runtimes string
	// Credentials makes the keys with which one version of a function calls the host's endpoints;
	// revoke is called when the version is closed. Nil gives each the account as its access key,
	// which is enough for a host that verifies nothing.
	Credentials func(runtime.Artifact) (keys Credentials, revoke func())
	// Events tells of log lines, starts and ends. Log may be slow without harm to handlers:
	// when it falls behind by 1 MiB or 256 lines, lines are dropped and one line tells how many.
	Events runtime.Events
}

// Credentials are what a handler's AWS SDK signs with.
type Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken string }

// Engine makes functions from task roots. It holds no processes of its own; they belong to the
// functions it made.
type Engine struct {
	opts         Options
	interpreters interpreters

	mu      sync.Mutex
	written map[string]bool // runtimes that are on the disk
}

var _ runtime.Engine = (*Engine)(nil)

// New returns an engine.
func New(o Options) *Engine { return &Engine{opts: o, written: map[string]bool{}} }

// Accepts reports whether a is a task root.
func (e *Engine) Accepts(a runtime.Artifact) bool {
	switch a.Kind {
	case runtime.KindBootstrap, runtime.KindNode, runtime.KindPython, runtime.KindJava:
		return true
	}
	return false
}

// Load checks the bootstrap and the user's environment variables, then starts one process and
// waits until it asks for its first event; that process stays warm. A bootstrap that is missing,
// not executable, built for another machine, or that fails, exits or stays silent for
// l.InitTimeout is errs.Invalid, with the handler's own error text in the sentence. When ctx ends
// first the error is errs.Unavailable.
func (e *Engine) Load(ctx context.Context, a runtime.Artifact, l runtime.Limits) (runtime.Function, error) {
	if !e.Accepts(a) {
		return nil, errs.New(errs.Invalid, "the artifact of function %s is no task root of a Lambda handler: this engine runs only those", a.Name)
	}
	root, err := filepath.Abs(a.Path)
	if err != nil {
		return nil, errs.Wrap(errs.Internal, err, "task root %q of function %s", a.Path, a.Name)
	}
	a.Path = root
	if err := runtime.CheckVariables(a.Env); err != nil {
		return nil, err
	}
	l = l.Defaults()
	p, err := e.program(ctx, a, l)
	if err != nil {
		return nil, err
	}
	extensions, err := findExtensions(a)
	if err != nil {
		return nil, err
	}
	f := newFunction(a, l, e.opts, p, extensions)
	env, err := f.pool.Acquire(ctx)
	if err != nil {
		f.Close()
		return nil, err
	}
	f.pool.Release(env, true, "")
	return f, nil
}
