// Package plugins is the drop-in directory: it turns files that users put there into functions
// that can be invoked, and keeps doing so while the files come, change and go.
//
// The model has four words. An entry is what lies in the directory; its name is the function's
// name:
//
//	NAME.wasm             a WebAssembly core module
//	NAME                  an executable file (ELF or #! script), which becomes a task root's bootstrap
//	NAME.js .mjs .cjs     one file of Node.js, which becomes a task root's index
//	NAME.py               one file of Python, which becomes a task root's lambda_function.py
//	NAME/                 a Lambda deployment package, unpacked: with a bootstrap, index.js, app.py …
//	NAME.zip, NAME.jar    a Lambda deployment package, or exactly one .wasm at its root
//	NAME.yaml             a manifest, which says more of the plugin beside it (package manifest)
//
// NAME matches [a-zA-Z0-9-_]{1,64}. Dotfiles, *.tmp, *.part and *~ are ignored without a word;
// everything else is refused once, with an event that says what would be accepted. An entry is
// taken when it has rested for 300 ms, so that a copy in progress is not read half-way. To
// replace a plugin without any wait, write it aside under an ignored name and rename it into place.
//
// A version is an entry's content with its manifest and the layers that names, copied into the
// host's own versions store and named by its hash. Engines see only that copy: later edits cannot
// reach a running function, and touching a file without changing it does nothing. Links are never
// followed and nothing is executed from the directory itself.
//
// A new version is loaded (started and proved by its engine) before it replaces the one that
// serves. If it does not load, the old one goes on serving, the event Refused and Info.Reason say
// why, and it is not tried again before the entry changes. Two entries that claim one name are
// both refused.
//
// A lease is one caller's use of a version, taken by Registry.Function and given back by its
// release. A version that was replaced, or whose entry was removed, is closed when its last lease
// is released.
//
// While the directory itself cannot be read (an unmounted volume, say) nothing is removed: the
// functions go on serving and the event Directory tells.
//
// This package holds neither the users' plugin files nor the engines that run them (runtime/wasm,
// runtime/lambda), which the caller passes in.
package plugins

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/plugins/manifest"
	"github.com/shardmill/shardmill/runtime"
)

// Limits on what is taken from the directory. The unpacked limit and the number of its bytes are
// Lambda's.
const (
	maxFile      = 256 << 20   // bytes of one plugin file
	maxUnpacked  = 262_144_000 // bytes of one task root
	maxEntries   = 10_000      // files and folders of one task root, or of the directory
	maxDepth     = 64          // folders inside one another in a task root
	maxPath      = 1024        // bytes of a path inside a task root
	maxName      = 255         // bytes of one file name, which Linux sets
	keepVersions = 2           // unused versions that stay in the store
)

// Options configure a Registry. Dir, Versions, Region and Account are required.
type Options struct {
	Dir      string           // the watched directory; created if absent. It may be a link, what is in it may not
	Versions string           // the store of versions: Versions/<sha256>/…, mode 0700; no other host may use it
	Engines  []runtime.Engine // the first that accepts an artifact loads it
	Limits   runtime.Limits   // of every function
	Region   string           // of the functions' ARNs
	Account  string           // of the functions' ARNs; 12 digits
	Endpoint string           // this host's own address, handed to functions; may be empty
	Events   Events

	// EventSources says that the caller runs the mappings of Info.EventSources. Without it a
	// manifest that names some is refused.
	EventSources bool
}

// Events tells observers what becomes of the directory's entries. Nil fields are skipped.
// Callbacks run on the registry's goroutines, sometimes at the same time, and must return
// quickly; they may call Function and List. Names and paths are printable: bytes that a terminal
// could take for a command are escaped as in a Go string.
type Events struct {
	// Loaded: the first version of a function serves. took counts from the start of the copy.
	Loaded func(name, version string, took time.Duration)
	// Swapped: a version replaced the one named old, which is draining.
	Swapped func(name, old, version string, took time.Duration)
	// Refused: an entry was not taken. name is empty when path does not give a function name.
	Refused func(name, path string, err error)
	// Removed: the entry of a function that served is gone, and so is the function.
	Removed func(name string)
	// Closed: a replaced or removed version has drained, some time after Swapped or Removed; err is
	// what its Close returned.
	Closed func(name, version string, err error)
	// Directory: the directory cannot be read, cannot be watched (polling goes on), or is
	// writable by everybody. Said once a cause; nil says that it can be read again.
	Directory func(err error)
}

func (e *Events) loaded(name, version string, took time.Duration) {
	if e.Loaded != nil {
		e.Loaded(name, version, took)
	}
}

func (e *Events) swapped(name, old, version string, took time.Duration) {
	if e.Swapped != nil {
		e.Swapped(name, old, version, took)
	}
}

func (e *Events) refused(name, path string, err error) {
	if e.Refused != nil {
		e.Refused(name, printable(path), err)
	}
}

func (e *Events) removed(name string) {
	if e.Removed != nil {
		e.Removed(name)
	}
}

func (e *Events) closed(name, version string, err error) {
	if e.Closed != nil {
		e.Closed(name, version, err)
	}
}

func (e *Events) directory(err error) {
	if e.Directory != nil {
		e.Directory(err)
	}
}

// State is a function's state; the words are Lambda's.
type State string

const (
	Pending State = "Pending" // its first version is being loaded
	Active  State = "Active"  // a version serves
	Failed  State = "Failed"  // no version serves: the entry was refused, or its environments do not start any more
)

// Info describes one function.
type Info struct {
	Name    string
	ARN     string
	Kind    runtime.ArtifactKind // of the version that serves; 0 when none does
	Version string               // hex sha256 of the version that serves; empty when none does
	State   State
	Reason  string         // why the newest entry was refused, or why the version fails; else empty. Printable
	Handler string         // that the manifest names
	Limits  runtime.Limits // of the version that serves

	// EventSources are the streams that the manifest of the version that serves binds it to.
	EventSources []manifest.EventSource
}

// tuning holds the durations that tests shorten.
type tuning struct {
	poll     time.Duration // between two looks at the directory when it reports no change
	settle   time.Duration // how long an entry must rest before it is taken, or be gone before it is removed
	debounce time.Duration // how long events of the file system are gathered before a look
	opening  time.Duration // how long Open waits for entries that do not come to rest
	drain    time.Duration // how long Close waits for leases
}

var standard = tuning{
	poll:     500 * time.Millisecond,
	settle:   300 * time.Millisecond,
	debounce: 20 * time.Millisecond,
	opening:  2 * time.Second,
	drain:    10 * time.Second,
}

// Open creates the directory if it is absent, loads every plugin in it, a few at a time, and
// watches it from then on. It returns when each entry present was loaded or refused, or, for
// entries that are still being written after 2 s, without them. A refused entry is an event, not
// an error. Errors: Invalid options; InUse when another host uses the versions store; the ctx's
// own when it ends first. ctx is not used after Open returned.
func Open(ctx context.Context, o Options) (*Registry, error) {
	return open(ctx, o, standard)
}

// prepare checks the options and makes both directories.
func (o *Options) prepare() error {
	switch {
	case o.Dir == "":
		return errs.New(errs.Invalid, "no plugin directory was given: set Dir")
	case o.Versions == "":
		return errs.New(errs.Invalid, "no versions store was given: set Versions to a directory outside %s", o.Dir)
	case o.Region == "" || strings.Contains(o.Region, ":"):
		return errs.New(errs.Invalid, "region %q is not a region: give one like us-east-1", o.Region)
	case !isAccount(o.Account):
		return errs.New(errs.Invalid, "account %q is not an account: give 12 digits", o.Account)
	}
	if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return errs.Wrap(errs.Invalid, cause(err), "the plugin directory %s cannot be created", printable(o.Dir))
	}
	if err := os.MkdirAll(o.Versions, 0o700); err != nil {
		return errs.Wrap(errs.Invalid, cause(err), "the versions store %s cannot be created", printable(o.Versions))
	}
	// Absolute from here on: the process may change its working directory.
	var err error
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return err
	}
	if o.Versions, err = filepath.Abs(o.Versions); err != nil {
		return err
	}
	if within(o.Dir, o.Versions) || within(o.Versions, o.Dir) {
		return errs.New(errs.Invalid, "the plugin directory %s and the versions store %s lie within one another: keep them apart",
			printable(o.Dir), printable(o.Versions))
	}
	return nil
}

// within reports whether a is b or lies below it, links resolved.
func within(a, b string) bool {
	real := func(p string) string {
		if res, err := filepath.EvalSymlinks(p); err == nil {
			p = res
		}
		return p
	}
	rel, err := filepath.Rel(real(b), real(a))
	return err == nil && filepath.IsLocal(rel)
}
