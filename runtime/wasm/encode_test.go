package wasm

import (
	"encoding/binary"
	"maps"
	"slices"
)

// A small WebAssembly encoder, for the modules that no honest compiler makes.

// Opcodes that the tests use.
const (
	opUnreachable = 0x00
	opLoop        = 0x03
	opEnd         = 0x0b
	opBr          = 0x0c
	opCall        = 0x10
	opDrop        = 0x1a
	opLocalGet    = 0x20
	opI32Const    = 0x41
	opI64Const    = 0x42
	opMemorySize  = 0x3f
	opMemoryGrow  = 0x40
	empty         = 0x40 // block type
)

func code(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = append(b, byte(p))
		case []byte:
			b = append(b, p...)
		}
	}
	return b
}

func uleb(n int) []byte { return binary.AppendUvarint(nil, uint64(n)) }

func sleb(n int64) []byte {
	var b []byte
	for {
		c := byte(n & 0x7f)
		n >>= 7
		if n == 0 && c&0x40 == 0 || n == -1 && c&0x40 != 0 {
			return append(b, c)
		}
		b = append(b, c|0x80)
	}
}

func i32(n int) []byte   { return append([]byte{opI32Const}, sleb(int64(int32(n)))...) }
func i64(n int64) []byte { return append([]byte{opI64Const}, sleb(n)...) }
func call(fn int) []byte { return append([]byte{opCall}, uleb(fn)...) }

func counted(items ...[]byte) []byte {
	return append(uleb(len(items)), slices.Concat(items...)...)
}

func text(s string) []byte { return append(uleb(len(s)), s...) }

func section(id byte, content []byte) []byte {
	return slices.Concat([]byte{id}, uleb(len(content)), content)
}

// Function types of the tests, by index into testTypes.
const (
	typeVoid      = iota // () -> ()
	typeAlloc            // (i32) -> i32
	typeTransform        // (i32, i32) -> i64
	typeInit             // () -> i32
	type3                // (i32, i32, i32) -> ()
	typeFd               // (i32, i32, i32, i32) -> i32
	typeTake             // (i32) -> ()
	typeAbort            // (i32, i32, i32, i32) -> ()
	typeMetric           // (i32, i32, f64) -> ()
	typeEmit             // six i32 -> i32
	typeNext             // (i32, i32) -> i32
	typeRespond          // five i32 -> i32
)

var testTypes = [][]byte{
	{0x60, 0, 0},
	{0x60, 1, typeI32, 1, typeI32},
	{0x60, 2, typeI32, typeI32, 1, typeI64},
	{0x60, 0, 1, typeI32},
	{0x60, 3, typeI32, typeI32, typeI32, 0},
	{0x60, 4, typeI32, typeI32, typeI32, typeI32, 1, typeI32},
	{0x60, 1, typeI32, 0},
	{0x60, 4, typeI32, typeI32, typeI32, typeI32, 0},
	{0x60, 3, typeI32, typeI32, 0x7c, 0},
	{0x60, 6, typeI32, typeI32, typeI32, typeI32, typeI32, typeI32, 1, typeI32},
	{0x60, 2, typeI32, typeI32, 1, typeI32},
	{0x60, 5, typeI32, typeI32, typeI32, typeI32, typeI32, 1, typeI32},
}

type testImport struct {
	module, name string
	typ          int
}

type testFunc struct {
	export string // "" for none
	typ    int
	body   []byte // without locals and the final end
	locals []byte // encoded; nil for none
}

// testModule is a module to encode. Imported functions come first in the index space.
type testModule struct {
	imports []testImport
	funcs   []testFunc
	memory  []byte // limits; nil for none
	hidden  bool   // do not export the memory
	table   []byte // limits; nil for none
	start   int    // function index + 1; 0 for none
	data    map[int][]byte
}

func (m testModule) encode() []byte {
	var imports, types, exports, bodies, data [][]byte
	for _, i := range m.imports {
		imports = append(imports, slices.Concat(text(i.module), text(i.name), []byte{externFunc}, uleb(i.typ)))
	}
	for i, f := range m.funcs {
		types = append(types, uleb(f.typ))
		if f.export != "" {
			exports = append(exports, slices.Concat(text(f.export), []byte{externFunc}, uleb(len(m.imports)+i)))
		}
		locals := f.locals
		if locals == nil {
			locals = []byte{0}
		}
		body := slices.Concat(locals, f.body, []byte{opEnd})
		bodies = append(bodies, append(uleb(len(body)), body...))
	}
	if m.memory != nil && !m.hidden {
		exports = append(exports, slices.Concat(text("memory"), []byte{externMemory, 0}))
	}
	for _, at := range slices.Sorted(maps.Keys(m.data)) {
		data = append(data, slices.Concat([]byte{0}, i32(at), []byte{opEnd}, text(string(m.data[at]))))
	}
	b := []byte("\x00asm\x01\x00\x00\x00")
	b = append(b, section(1, counted(testTypes...))...)
	b = append(b, section(2, counted(imports...))...)
	b = append(b, section(3, counted(types...))...)
	if m.table != nil {
		b = append(b, section(4, counted(append([]byte{typeFuncref}, m.table...)))...)
	}
	if m.memory != nil {
		b = append(b, section(5, counted(m.memory))...)
	}
	b = append(b, section(7, counted(exports...))...)
	if m.start > 0 {
		b = append(b, section(8, uleb(m.start-1))...)
	}
	b = append(b, section(10, counted(bodies...))...)
	if len(data) > 0 {
		b = append(b, section(11, counted(data...))...)
	}
	return b
}

// Pieces of hostile code.
var spin = code(opLoop, empty, opBr, 0, opEnd)

// nativeModule is a native batch module that allocates at 1024 and answers every batch with the
// reply that lies at 8192, or runs the transform given.
func nativeModule(reply []byte, change func(*testModule)) []byte {
	m := testModule{
		memory: []byte{0, 1},
		data:   map[int][]byte{},
		funcs: []testFunc{
			{export: exportMarker, typ: typeVoid},
			{export: exportAlloc, typ: typeAlloc, body: i32(1024)},
			{export: exportTransform, typ: typeTransform, body: i64(8192<<32 | int64(len(reply)))},
		},
	}
	if len(reply) > 0 {
		m.data[8192] = reply
	}
	if change != nil {
		change(&m)
	}
	return m.encode()
}

// Indexes into nativeModule's funcs.
const (
	fnAlloc     = 1
	fnTransform = 2
)

// answerEmpty makes a transform that answers the empty smoke-test batch well, and runs then for
// any other batch.
func answerEmpty(then []byte) []byte {
	// if the batch is 4 bytes long: return the reply at 4096, four zero bytes of fresh memory
	return slices.Concat(
		[]byte{opLocalGet, 1}, i32(4), []byte{0x46, 0x04, empty}, // i32.eq, if
		i64(4096<<32|4), []byte{0x0f, opEnd}, // return, end
		then)
}

// replyOf encodes a reply; each entry is index, status, data, meta.
func replyOf(entries ...[]byte) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(entries))), slices.Concat(entries...)...)
}

func entry(index int, status byte, data, meta string) []byte {
	le := binary.LittleEndian
	b := append(le.AppendUint32(nil, uint32(index)), status)
	b = append(le.AppendUint32(b, uint32(len(data))), data...)
	return append(le.AppendUint32(b, uint32(len(meta))), meta...)
}
