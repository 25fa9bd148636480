// Package manifest reads what a user says of a plugin beside its code: the file NAME.yaml next to
// NAME.wasm, NAME.zip, NAME/ … in the plugin folder, or shardmill.yaml at the root of a folder or
// archive.
//
//	runtime: nodejs            # nodejs, python, java or provided; needed only if the files leave it open
//	handler: src/app.handler
//	environment: {TABLE: quakes}
//	memory: 256MiB
//	timeout: 30s
//
// A key that does not exist, stands twice or has a value out of its limits is a fault with the line
// it stands in, and all faults are told at once. Nothing is guessed: sizes and durations have units.
// A manifest sets what it names and leaves the rest to the host's own limits.
//
// The package knows the shape of a manifest and nothing of files: who reads the text, and what
// becomes of the layers it names, is the business of package plugins.
package manifest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// Limits on manifests. Those of timeout, memory, handler and layers are Lambda's.
const (
	MaxSize        = 64 << 10 // bytes of a manifest
	MaxLayers      = 5
	maxHandler     = 128 // characters
	maxTimeout     = 15 * time.Minute
	maxMemory      = 10 << 30
	minMemory      = 1 << 20
	maxConcurrency = 1000
	maxConfig      = 64 << 10 // bytes of names and values of grants.config
	maxEmit        = 16       // streams of grants.emit
)

// Manifest is what a manifest says. Zero fields were not named.
type Manifest struct {
	ABI          string // of a module: native, pull or stdio
	Runtime      runtime.ArtifactKind
	Handler      string
	Environment  map[string]string
	Limits       runtime.Limits
	Grants       runtime.Grants
	SHA256       string        // that the plugin's file must have; lower-case hex
	Layers       []string      // clean relative paths below the plugin folder
	EventSources []EventSource // streams whose records the function is invoked with

	file  string
	lines map[string]int // of the keys that were given
}

var runtimes = map[string]runtime.ArtifactKind{"provided": runtime.KindBootstrap, "nodejs": runtime.KindNode,
	"python": runtime.KindPython, "java": runtime.KindJava}

var (
	shaForm     = regexp.MustCompile(`^[0-9a-fA-F]{64}$`)
	handlerForm = regexp.MustCompile(`^[^\s]+$`) // Lambda's own pattern
	streamForm  = regexp.MustCompile(`^[a-zA-Z0-9_.-]{1,128}$`)
)

// Parse reads a manifest. file is its name for faults, printable. The error is errs.Invalid.
func Parse(file string, text []byte) (*Manifest, error) {
	m := &Manifest{file: file, lines: map[string]int{}}
	r := &reader{file: file}
	if len(text) > MaxSize {
		return nil, errs.New(errs.Invalid, "%s has %d bytes, over the limit of %d for a manifest", file, len(text), MaxSize)
	}
	var doc, second yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(&doc); errors.Is(err, io.EOF) {
		return m, nil // nothing but comments
	} else if err != nil {
		return nil, errs.New(errs.Invalid, "%s is not YAML: %s", file, printable(strings.TrimPrefix(err.Error(), "yaml: ")))
	}
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, errs.New(errs.Invalid, "%s has more than one YAML document: leave one", file)
	}
	m.read(r, doc.Content[0])
	if len(r.faults) > 0 {
		return nil, errs.New(errs.Invalid, "%s", strings.Join(r.faults, "; "))
	}
	return m, nil
}

// read takes the top level.
func (m *Manifest) read(r *reader, root *yaml.Node) {
	l := &m.Limits
	fields := map[string]field{
		"abi": func(n *yaml.Node) { m.ABI = r.oneOf(n, "abi", "native", "pull", "stdio") },
		"runtime": func(n *yaml.Node) {
			m.Runtime = runtimes[r.oneOf(n, "runtime", "nodejs", "python", "java", "provided")]
		},
		"handler":      func(n *yaml.Node) { m.Handler = r.handler(n) },
		"environment":  func(n *yaml.Node) { m.Environment = r.environment(n) },
		"memory":       func(n *yaml.Node) { l.Memory = r.size(n, "memory", minMemory, maxMemory) },
		"timeout":      func(n *yaml.Node) { l.Timeout = r.duration(n, "timeout", 100*time.Millisecond, maxTimeout) },
		"init-timeout": func(n *yaml.Node) { l.InitTimeout = r.duration(n, "init-timeout", 100*time.Millisecond, maxTimeout) },
		"idle-after":   func(n *yaml.Node) { l.IdleAfter = r.duration(n, "idle-after", time.Second, 24*time.Hour) },
		"concurrency":  func(n *yaml.Node) { l.Concurrency = r.integer(n, "concurrency", 1, maxConcurrency) },
		"grants":       func(n *yaml.Node) { m.Grants = r.grants(n) },
		"sha256": func(n *yaml.Node) {
			m.SHA256 = strings.ToLower(r.pattern(n, "sha256", shaForm, "64 hexadecimal digits, as sha256sum prints them"))
		},
		"layers":        func(n *yaml.Node) { m.Layers = r.layers(n) },
		"event-sources": func(n *yaml.Node) { m.EventSources = r.eventSources(n) },
	}
	m.lines = r.mapping(root, "a manifest", fields)
}

// Check refuses what a plugin of this kind cannot have: errs.Invalid.
func (m *Manifest) Check(kind runtime.ArtifactKind) error {
	module := kind == runtime.KindWasm
	var faults []string
	bad := func(key, why string) {
		if line := m.lines[key]; line > 0 {
			faults = append(faults, fmt.Sprintf("%s:%d: %s %s", m.file, line, key, why))
		}
	}
	if module {
		bad("runtime", "is for Lambda handlers, and this plugin is a WebAssembly module: remove it")
		bad("handler", "is for Lambda handlers, and this plugin is a WebAssembly module: remove it")
		bad("layers", "are for Lambda handlers, and this plugin is a WebAssembly module: remove them")
	} else {
		bad("abi", "is for WebAssembly modules, and this plugin is a Lambda handler: remove it")
		bad("grants", "are for WebAssembly modules, and this plugin is a Lambda handler, which calls the host's API with its own credentials: remove them")
		if m.Limits.Memory != 0 && m.Limits.Memory < 128<<20 {
			bad("memory", "of a Lambda handler is 128MiB at least")
		}
	}
	if module && m.Limits.Memory > 4<<30 {
		bad("memory", "of a WebAssembly module is 4GiB at most")
	}
	if kind == runtime.KindJava && m.Handler == "" {
		faults = append(faults, m.file+" names no handler, and a Java function has no default: say handler: package.Class::method")
	}
	if len(faults) > 0 {
		return errs.New(errs.Invalid, "%s", strings.Join(faults, "; "))
	}
	return nil
}

// Refuse is the refusal of a key that the manifest gives, nil if it does not give it.
func (m *Manifest) Refuse(key, why string) error {
	if line := m.lines[key]; line > 0 {
		return errs.New(errs.Invalid, "%s:%d: %s %s", m.file, line, key, why)
	}
	return nil
}

// Over is base with what the manifest names.
func (m *Manifest) Over(base runtime.Limits) runtime.Limits {
	l := m.Limits
	if l.Memory != 0 {
		base.Memory = l.Memory
	}
	if l.Timeout != 0 {
		base.Timeout = l.Timeout
	}
	if l.InitTimeout != 0 {
		base.InitTimeout = l.InitTimeout
	}
	if l.IdleAfter != 0 {
		base.IdleAfter = l.IdleAfter
	}
	if l.Concurrency != 0 {
		base.Concurrency = l.Concurrency
	}
	return base
}

func (r *reader) handler(n *yaml.Node) string {
	s := r.pattern(n, "handler", handlerForm, "a handler's name such as index.handler: it has no blanks")
	if len(s) > maxHandler {
		r.bad(n, "handler has %d characters, over the limit of %d", len(s), maxHandler)
	}
	return s
}

func (r *reader) environment(n *yaml.Node) map[string]string {
	vars := r.texts(n, "environment")
	if err := runtime.CheckVariables(vars); err != nil {
		r.bad(n, "%s", err)
	}
	return vars
}

func (r *reader) grants(n *yaml.Node) (g runtime.Grants) {
	r.mapping(n, "grants", map[string]field{
		"config": func(n *yaml.Node) {
			g.Config = r.texts(n, "config")
			size := 0
			for k, v := range g.Config {
				size += len(k) + len(v)
			}
			if size > maxConfig {
				r.bad(n, "config has %d bytes, over the limit of %d", size, maxConfig)
			}
		},
		"metrics": func(n *yaml.Node) { g.Metrics = r.boolean(n, "metrics") },
		"state":   func(n *yaml.Node) { g.State = r.boolean(n, "state") },
		"emit": func(n *yaml.Node) {
			r.list(n, "emit", "streams such as [alerts]", maxEmit, func(n *yaml.Node) {
				s := r.pattern(n, "a stream of emit", streamForm, "a stream's name: up to 128 letters, digits, '_', '.' and '-'")
				if slices.Contains(g.Emit, s) {
					r.bad(n, "stream %s is given twice: leave one", s)
				}
				g.Emit = append(g.Emit, s)
			})
		},
	})
	return g
}

// layers reads paths that stay below the plugin folder.
func (r *reader) layers(n *yaml.Node) (layers []string) {
	r.list(n, "layers", "paths below the plugin folder such as [.layers/common.zip]", MaxLayers, func(n *yaml.Node) {
		s, ok := r.scalar(n, "a layer")
		if !ok {
			return
		}
		clean := path.Clean(s)
		switch {
		case s == "" || strings.ContainsAny(s, "\\\x00") || !isLocal(clean):
			r.bad(n, "layer %q is not a path below the plugin folder: put the layer there, in a folder such as .layers, and give its path from the plugin folder", s)
		case slices.Contains(layers, clean):
			r.bad(n, "layer %q is given twice: leave one", s)
		default:
			layers = append(layers, clean)
		}
	})
	return layers
}

// isLocal reports whether a clean path lies below the folder it starts from.
func isLocal(p string) bool {
	return p != "." && p != ".." && !strings.HasPrefix(p, "../") && !strings.HasPrefix(p, "/")
}
