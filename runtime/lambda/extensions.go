package lambda

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

const (
	maxExtensions = 10
	// externalTime is what an environment with external extensions gets to end: the process its
	// SIGTERM for the first 30 %, then the extensions their SHUTDOWN event (Lambda docs, "Shutdown phase").
	externalTime  = 2 * time.Second
	externalShare = externalTime * 3 / 10
)

// externalExtension is an executable that runs beside the handler.
type externalExtension struct{ name, path string }

// findExtensions lists the executables in the folders extensions of the layers and the task root. A
// folder of that name in a task root may be the package's own, so that other files in it mean nothing.
func findExtensions(a runtime.Artifact) (out []externalExtension, err error) {
	for i, root := range append(slices.Clone(a.Layers), a.Path) {
		list, err := os.ReadDir(filepath.Join(root, "extensions"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errs.Wrap(errs.Unavailable, err, "the extensions of function %s cannot be listed", a.Name)
		}
		for _, d := range list {
			info, err := d.Info()
			switch {
			case err != nil:
				return nil, errs.Wrap(errs.Unavailable, err, "the extensions of function %s cannot be listed", a.Name)
			case !info.Mode().IsRegular():
			case info.Mode()&0o111 == 0 && i < len(a.Layers):
				return nil, errs.New(errs.Invalid, "extension %s of function %s is not executable: run chmod +x on it", printable([]byte(d.Name())), a.Name)
			case info.Mode()&0o111 == 0:
			case slices.ContainsFunc(out, func(x externalExtension) bool { return x.name == d.Name() }):
				return nil, errs.New(errs.Invalid, "function %s has two extensions named %s: rename one", a.Name, printable([]byte(d.Name())))
			default:
				out = append(out, externalExtension{d.Name(), filepath.Join(root, "extensions", d.Name())})
			}
		}
	}
	if len(out) > maxExtensions {
		return nil, errs.New(errs.Invalid, "function %s has %d extensions, over the limit of %d", a.Name, len(out), maxExtensions)
	}
	return out, nil
}

// extension is one of an environment, external (a process of its own) or internal (code inside the
// handler's process). All of it is under the environment's lock.
type extension struct {
	name     string
	id       string   // given when it registers
	proc     *process // nil: it is internal
	gone     chan struct{}
	invoke   bool // it wants INVOKE events
	shutdown bool // it wants the SHUTDOWN event
	busy     bool // it has not asked for an event since it started, or since it got one
	events   chan any
}

func newExtension(name string) *extension {
	return &extension{name: name, gone: make(chan struct{}), events: make(chan any, 4)}
}

// bootExtensions starts the external extensions and waits until each has registered.
func (f *function) bootExtensions(ctx context.Context, env *environment, around *surroundings, w *os.File) error {
	if len(f.external) == 0 {
		return nil
	}
	for _, x := range f.external {
		cmd := exec.Command(x.path)
		cmd.Dir = f.artifact.Path
		cmd.Env = around.extensionVariables()
		cmd.Stdout, cmd.Stderr = w, w
		if err := env.startExtension(x.name, cmd); err != nil {
			return errs.Wrap(errs.Invalid, err, "extension %s of function %s cannot be started", x.name, f.artifact.Name)
		}
	}
	select {
	case <-env.registered:
		return nil
	case <-env.ending:
		return f.startFailure(env, env.initFault())
	case <-ctx.Done():
		return f.unready(ctx, env, "extension "+env.unregistered()+" did not register (POST /2020-01-01/extension/register)")
	}
}

func (e *environment) startExtension(name string, cmd *exec.Cmd) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	x := newExtension(name)
	x.busy = true
	proc, err := spawn(cmd, func(st *os.ProcessState) { e.extensionExited(x, st) })
	if err != nil {
		return err
	}
	x.proc = proc
	e.extensions = append(e.extensions, x)
	return nil
}

// extensionExited follows the end of an extension, which is the end of its environment.
func (e *environment) extensionExited(x *extension, st *os.ProcessState) {
	e.crash("extension "+x.name+" ended ("+st.String()+")", st.String())
	close(x.gone)
}

// crash ends an environment for the fault of an extension; while it ends, nothing is a fault.
func (e *environment) crash(fault, why string) {
	e.mu.Lock()
	ended := e.reason != ""
	e.becauseLocked("extension: " + fault)
	if !ended && e.phase == starting && e.fault == "" {
		e.fault = fault
		e.markReady()
	}
	inv := e.current
	e.mu.Unlock()
	if ended {
		return
	}
	if inv != nil {
		e.complete(inv, failure(runtime.ErrorExtension, fmt.Sprintf("RequestId: %s Error: %s", inv.RequestID, why)), "")
	}
	e.signal(syscall.SIGKILL)
}

// unregistered names the first external extension that has not registered.
func (e *environment) unregistered() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, x := range e.extensions {
		if x.id == "" {
			return x.name
		}
	}
	return ""
}

// register gives an extension its identifier, or the type of the error and a sentence.
func (e *environment) register(name string, events []string) (id, errorType, fault string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.IndexFunc(e.extensions, func(x *extension) bool { return x.name == name })
	external := i >= 0 && e.extensions[i].proc != nil
	for _, ev := range events {
		switch {
		case ev != "INVOKE" && ev != "SHUTDOWN":
			return "", "InvalidEventType", fmt.Sprintf("the event type %q does not exist: ask for INVOKE or SHUTDOWN", ev)
		case ev == "SHUTDOWN" && !external:
			return "", "InvalidEventType", "an internal extension cannot ask for SHUTDOWN: it shares the handler's process, which gets SIGTERM"
		}
	}
	switch {
	case e.phase != starting:
		return "", "RegistrationClosed", "extensions register before the function's first event"
	case i >= 0 && e.extensions[i].id != "":
		return "", "InvalidExtensionName", fmt.Sprintf("an extension named %q has registered already", name)
	case !external && len(e.extensions) == maxExtensions:
		return "", "TooManyExtensions", fmt.Sprintf("an environment has %d extensions at most", maxExtensions)
	}
	if !external {
		e.extensions = append(e.extensions, newExtension(name))
		i = len(e.extensions) - 1
	}
	x := e.extensions[i]
	x.id = uuid.NewString()
	x.invoke, x.shutdown = slices.Contains(events, "INVOKE"), slices.Contains(events, "SHUTDOWN")
	if external && !slices.ContainsFunc(e.extensions, func(x *extension) bool { return x.id == "" }) {
		close(e.registered)
	}
	return x.id, "", ""
}

// extension finds the one with an identifier, nil if none has it.
func (e *environment) extension(id string) *extension {
	e.mu.Lock()
	defer e.mu.Unlock()
	i := slices.IndexFunc(e.extensions, func(x *extension) bool { return id != "" && x.id == id })
	if i < 0 {
		return nil
	}
	return e.extensions[i]
}

// extensionAsks notes that an extension asks for its next event.
func (e *environment) extensionAsks(x *extension) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(x.events) == 0 { // else it lost the answer to its last request, and gets the event now
		x.busy = false
	}
	e.settleLocked()
}

// tracing is the X-Ray part of an INVOKE event.
type tracing struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

type invokeEvent struct {
	EventType  string  `json:"eventType"`
	DeadlineMs int64   `json:"deadlineMs"`
	RequestID  string  `json:"requestId"`
	ARN        string  `json:"invokedFunctionArn"`
	Tracing    tracing `json:"tracing"`
}

type shutdownEvent struct {
	EventType      string `json:"eventType"`
	ShutdownReason string `json:"shutdownReason"`
	DeadlineMs     int64  `json:"deadlineMs"`
}

// announceLocked tells the extensions that asked for it of an invocation.
func (e *environment) announceLocked(inv *invocation) {
	for _, x := range e.extensions {
		if x.invoke {
			x.busy = true // it was not, so there is room
			x.events <- invokeEvent{"INVOKE", inv.Deadline.UnixMilli(), inv.RequestID, inv.FunctionARN, tracing{"X-Amzn-Trace-Id", inv.TraceID}}
		}
	}
}

// stopExtensions ends the external extensions: those that asked for it are told and get time until
// deadline, the others none. It returns when all are gone.
func (e *environment) stopExtensions(reason string, deadline time.Time) {
	e.mu.Lock()
	var external []*extension
	for _, x := range e.extensions {
		if x.proc == nil {
			continue
		}
		external = append(external, x)
		if x.shutdown {
			x.events <- shutdownEvent{"SHUTDOWN", shutdownReason(reason), deadline.UnixMilli()}
		} else {
			x.proc.signal(syscall.SIGKILL)
		}
	}
	e.mu.Unlock()
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for _, x := range external {
		select {
		case <-x.gone:
		case <-timer.C:
			timer.Reset(0) // for the next one
			x.proc.signal(syscall.SIGKILL)
			<-x.gone
		}
	}
}

// shutdownReason is the service's word for the reason of an end.
func shutdownReason(reason string) string {
	switch {
	case reason == "timeout":
		return "TIMEOUT"
	case strings.HasPrefix(reason, "exit:"), strings.HasPrefix(reason, "extension:"), strings.HasPrefix(reason, "init:"):
		return "FAILURE"
	}
	return "SPINDOWN"
}
