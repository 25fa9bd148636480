package wasm

import (
	"errors"
	"fmt"
	"strings"
)

// Caps of the scan. Each lies well above the largest value seen in modules of real toolchains
// and well below what makes the compiler burn seconds or gigabytes; ABI.md lists them.
const (
	maxModuleBytes   = 64 << 20
	maxFunctions     = 100_000
	maxBodyBytes     = 2 << 20
	maxLocals        = 10_000    // one function
	maxLocalsTotal   = 1_000_000 // whole module
	maxDepth         = 5_000     // nested blocks of one function
	maxDepthSquared  = 100_000_000
	maxTableElements = 1_000_000
	maxEntries       = 100_000 // types, imports, exports: each
	maxArity         = 1_000   // parameters or results of one type
)

// Value types, as encoded.
const (
	typeI32       = 0x7f
	typeI64       = 0x7e
	typeFuncref   = 0x70
	typeExternref = 0x6f
)

// signature is a function type; its strings hold one byte per value type.
type signature struct{ params, results string }

func (s signature) String() string {
	return "(" + typeNames(s.params) + ") -> (" + typeNames(s.results) + ")"
}

func typeNames(types string) string {
	names := map[byte]string{typeI32: "i32", typeI64: "i64", 0x7d: "f32", 0x7c: "f64", 0x7b: "v128", typeFuncref: "funcref", typeExternref: "externref"}
	out := make([]string, 0, len(types))
	for i := range len(types) {
		out = append(out, names[types[i]])
	}
	return strings.Join(out, ", ")
}

// External kinds of imports and exports.
const (
	externFunc = iota
	externTable
	externMemory
	externGlobal
)

var externNames = [...]string{"function", "table", "memory", "global"}

type importEntry struct {
	module, name string
	kind         byte
	sig          signature // of a function
}

func (i importEntry) String() string { return clip(i.module) + "." + clip(i.name) }

type exportEntry struct {
	kind byte
	sig  signature // of a function
}

// module is what the scan learns.
type module struct {
	imports     []importEntry
	exports     map[string]exportEntry
	memoryPages uint32 // minimum of the module's own memory

	types         []signature
	funcTypes     []uint32 // type index of every function, imported ones first
	bodies        int
	tableElements uint64
	localsTotal   uint64
	depthSquared  uint64
	exported      []exportIndex
}

type exportIndex struct {
	name string
	kind byte
	fn   uint32
}

// scan walks a module once, linearly, without trusting it. It checks the caps and the framing
// and collects imports and exports; everything else is left to the compiler's own validation.
func scan(b []byte) (*module, error) {
	switch {
	case len(b) == 0:
		return nil, errors.New("the file is empty; a WebAssembly module is expected")
	case len(b) > maxModuleBytes:
		return nil, fmt.Errorf("the module has %d bytes, the limit is %d", len(b), maxModuleBytes)
	case len(b) < 8 || string(b[:4]) != "\x00asm":
		return nil, fmt.Errorf("the file does not start as a WebAssembly module (first bytes %q); build for a wasm32 target", b[:min(len(b), 4)])
	case string(b[4:8]) != "\x01\x00\x00\x00":
		return nil, errors.New("the module is not a core WebAssembly 1 binary; components must be built as core modules (for example target wasm32-wasip1)")
	}
	m := &module{exports: map[string]exportEntry{}}
	r := &reader{b: b, off: 8}
	for r.more() {
		id := r.byte()
		section := r.sub(r.u32())
		if r.err == nil {
			r.fail(m.section(id, section))
		}
	}
	if r.err != nil {
		return nil, r.err
	}
	return m, m.resolveExports()
}

func (m *module) section(id byte, r *reader) error {
	read := map[byte]func(*reader){
		1: m.readTypes, 2: m.readImports, 3: m.readFunctions, 4: m.readTables, 5: m.readMemories, 7: m.readExports, 10: m.readCode,
	}
	if id > 12 {
		return fmt.Errorf("section %d at offset %d is not part of WebAssembly 2.0; exceptions and other later features are not supported", id, r.off)
	}
	fn, ok := read[id]
	if !ok {
		return nil // custom, globals, start, elements, data: nothing to learn
	}
	fn(r)
	if r.err == nil && r.more() {
		return fmt.Errorf("section %d has bytes after its end, at offset %d", id, r.off)
	}
	return r.err
}

func (m *module) readTypes(r *reader) {
	for range r.count("types", maxEntries) {
		if form := r.byte(); r.err == nil && form != 0x60 {
			r.failf("type form %#x at offset %d is not a function type; garbage-collected types are not supported", form, r.off-1)
		}
		params := r.take(r.count("parameters of a type", maxArity))
		results := r.take(r.count("results of a type", maxArity))
		if r.err != nil {
			return
		}
		m.types = append(m.types, signature{string(params), string(results)})
	}
}

func (m *module) readImports(r *reader) {
	for range r.count("imports", maxEntries) {
		i := importEntry{module: r.name(), name: r.name(), kind: r.byte()}
		switch i.kind {
		case externFunc:
			i.sig = m.sigOf(r, m.addFunc(r))
		case externTable:
			m.readTable(r)
		case externMemory:
			m.memoryPages = max(m.memoryPages, r.limits())
		case externGlobal:
			r.take(2)
		default:
			r.failf("import kind %#x at offset %d is unknown", i.kind, r.off-1)
		}
		if r.err != nil {
			return
		}
		m.imports = append(m.imports, i)
	}
}

// addFunc reads a type index and gives the function the next function index.
func (m *module) addFunc(r *reader) uint32 {
	m.funcTypes = append(m.funcTypes, r.u32())
	if len(m.funcTypes) > maxFunctions {
		r.failf("the module has more than %d functions", maxFunctions)
	}
	return uint32(len(m.funcTypes) - 1)
}

func (m *module) sigOf(r *reader, fn uint32) signature {
	if int64(fn) >= int64(len(m.funcTypes)) || int64(m.funcTypes[fn]) >= int64(len(m.types)) {
		r.failf("function %d has no type", fn)
		return signature{}
	}
	return m.types[m.funcTypes[fn]]
}

func (m *module) readFunctions(r *reader) {
	for range r.count("functions", maxFunctions) {
		if m.addFunc(r); r.err != nil {
			return
		}
	}
}

func (m *module) readTables(r *reader) {
	for range r.count("tables", maxEntries) {
		if m.readTable(r); r.err != nil {
			return
		}
	}
}

func (m *module) readTable(r *reader) {
	if t := r.byte(); r.err == nil && t != typeFuncref && t != typeExternref {
		r.failf("table element type %#x at offset %d is not supported; typed function references are off", t, r.off-1)
	}
	m.tableElements += uint64(r.limits())
	if m.tableElements > maxTableElements {
		r.failf("the module's tables start with %d elements, the limit is %d", m.tableElements, maxTableElements)
	}
}

func (m *module) readMemories(r *reader) {
	n := r.count("memories", maxEntries)
	if n > 1 {
		r.failf("the module declares %d memories; only one is supported", n)
	}
	for range n {
		m.memoryPages = max(m.memoryPages, r.limits())
		if r.err != nil {
			return
		}
	}
}

func (m *module) readExports(r *reader) {
	for range r.count("exports", maxEntries) {
		e := exportIndex{name: r.name(), kind: r.byte(), fn: r.u32()}
		if r.err != nil {
			return
		}
		m.exported = append(m.exported, e)
	}
}

// resolveExports gives exported functions their signatures, once all functions are known.
func (m *module) resolveExports() error {
	var r reader
	for _, e := range m.exported {
		entry := exportEntry{kind: e.kind}
		if e.kind == externFunc {
			entry.sig = m.sigOf(&r, e.fn)
		}
		m.exports[e.name] = entry
	}
	return r.err
}

// clip shortens a name of the module for a sentence; it is quoted where it is shown.
func clip(s string) string { return printable([]byte(s), 64, false) }
