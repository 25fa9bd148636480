// Package lambda runs unmodified Lambda handlers: it is the service side of the Lambda Runtime
// API, and the engine for artifacts of kind runtime.KindBootstrap.
//
// The model. A function version is a folder (the task root) with an executable named bootstrap.
// An execution environment is one process running that bootstrap, together with one HTTP
// listener on 127.0.0.1 that only this process is told of. The process is the client: it asks
// for an event (GET …/invocation/next, a long poll), works, and posts what came of it
// (…/response or …/error). The engine never calls the handler; it leaves an event where the
// process's next poll finds it.
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

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// Options configure an Engine. The zero value is usable.
type Options struct {
	// Dir is where every environment gets a private folder (its TMPDIR), removed when the
	// environment ends. Empty means os.TempDir. It must exist.
	Dir string
	// Events tells of log lines, starts and ends. Log may be slow without harm to handlers:
	// when it falls behind by 1 MiB or 256 lines, lines are dropped and one line tells how many.
	Events runtime.Events
}

// Engine makes functions from task roots. It holds no processes of its own; they belong to the
// functions it made.
type Engine struct {
	opts Options
}

var _ runtime.Engine = (*Engine)(nil)

// New returns an engine.
func New(o Options) *Engine { return &Engine{opts: o} }

// Accepts reports whether a is a task root with a bootstrap.
func (e *Engine) Accepts(a runtime.Artifact) bool { return a.Kind == runtime.KindBootstrap }

// Load checks the bootstrap and the user's environment variables, then starts one process and
// waits until it asks for its first event; that process stays warm. A bootstrap that is missing,
// not executable, built for another machine, or that fails, exits or stays silent for
// l.InitTimeout is errs.Invalid, with the handler's own error text in the sentence. When ctx ends
// first the error is errs.Unavailable.
func (e *Engine) Load(ctx context.Context, a runtime.Artifact, l runtime.Limits) (runtime.Function, error) {
	if !e.Accepts(a) {
		return nil, errs.New(errs.Invalid, "the artifact of function %s is no folder with a bootstrap: this engine runs only those", a.Name)
	}
	root, err := filepath.Abs(a.Path)
	if err != nil {
		return nil, errs.Wrap(errs.Internal, err, "task root %q of function %s", a.Path, a.Name)
	}
	a.Path = root
	if err := checkBootstrap(root); err != nil {
		return nil, err
	}
	if err := runtime.CheckVariables(a.Env); err != nil {
		return nil, err
	}
	f := newFunction(a, l.Defaults(), e.opts)
	env, err := f.pool.Acquire(ctx)
	if err != nil {
		f.Close()
		return nil, err
	}
	f.pool.Release(env, true, "")
	return f, nil
}
