package wasm

// immediate says what follows an opcode.
type immediate uint8

const (
	immUnknown immediate = iota
	immNone
	immOpen // a block type; one level deeper
	immEnd
	imm1 // LEB128 numbers
	imm2
	immLabels // br_table
	immTypes  // select with types
	immByte
	imm4Bytes
	imm8Bytes
	immBulk // prefix 0xfc
	immSIMD // prefix 0xfd
)

// opcodes is WebAssembly 2.0's instruction set, as far as a walk needs it.
var opcodes = func() (t [256]immediate) {
	set := func(im immediate, from, to int) {
		for i := from; i <= to; i++ {
			t[i] = im
		}
	}
	set(immNone, 0x00, 0x01)
	set(immOpen, 0x02, 0x04)
	set(immNone, 0x05, 0x05)
	set(immEnd, 0x0b, 0x0b)
	set(imm1, 0x0c, 0x0d)
	set(immLabels, 0x0e, 0x0e)
	set(immNone, 0x0f, 0x0f)
	set(imm1, 0x10, 0x10)
	set(imm2, 0x11, 0x11)
	set(immNone, 0x1a, 0x1b)
	set(immTypes, 0x1c, 0x1c)
	set(imm1, 0x20, 0x26)
	set(imm2, 0x28, 0x3e) // loads and stores: alignment, offset
	set(immByte, 0x3f, 0x40)
	set(imm1, 0x41, 0x42)
	set(imm4Bytes, 0x43, 0x43)
	set(imm8Bytes, 0x44, 0x44)
	set(immNone, 0x45, 0xc4)
	set(imm1, 0xd0, 0xd0)
	set(immNone, 0xd1, 0xd1)
	set(imm1, 0xd2, 0xd2)
	set(immBulk, 0xfc, 0xfc)
	set(immSIMD, 0xfd, 0xfd)
	return t
}()

func (m *module) readCode(r *reader) {
	for range r.count("function bodies", maxFunctions) {
		size := r.u32()
		if size > maxBodyBytes {
			r.failf("the body of function %d has %d bytes, the limit is %d; split the function", m.bodies, size, maxBodyBytes)
		}
		body := r.sub(size)
		m.readLocals(body)
		m.walk(body)
		if r.fail(body.err); r.err != nil {
			return
		}
		m.bodies++
	}
}

func (m *module) readLocals(r *reader) {
	var locals uint64
	for range r.count("groups of locals", maxLocals) {
		locals += uint64(r.u32())
		r.byte()
		if r.err != nil {
			return
		}
	}
	m.localsTotal += locals
	switch {
	case locals > maxLocals:
		r.failf("function %d has %d locals, the limit is %d", m.bodies, locals, maxLocals)
	case m.localsTotal > maxLocalsTotal:
		r.failf("the module has more than %d locals in total", maxLocalsTotal)
	}
}

// walk passes the instructions of one body and measures how deep its blocks nest: compile time
// grows with the square of that depth, so the budget is the sum of squares.
func (m *module) walk(r *reader) {
	depth, deepest := 1, 1
	for depth > 0 && r.err == nil {
		at := r.off
		op := r.byte()
		switch opcodes[op] {
		case immNone:
		case immOpen:
			r.skip(1)
			depth++
			deepest = max(deepest, depth)
		case immEnd:
			depth--
		case imm1:
			r.skip(1)
		case imm2:
			r.skip(2)
		case immByte:
			r.byte()
		case imm4Bytes:
			r.take(4)
		case imm8Bytes:
			r.take(8)
		case immLabels:
			r.skip(r.count("labels of a br_table", maxBodyBytes) + 1)
		case immTypes:
			r.take(r.count("types of a select", maxArity))
		case immBulk:
			r.bulk(at)
		case immSIMD:
			r.simd(at)
		default:
			if r.err == nil {
				r.failf("function %d uses instruction %#x at offset %d, which is not part of WebAssembly 2.0; threads, tail calls, exceptions and garbage collection are not supported", m.bodies, op, at)
			}
		}
	}
	if r.more() {
		r.failf("function %d has bytes after its end, at offset %d", m.bodies, r.off)
	}
	m.depthSquared += uint64(deepest) * uint64(deepest)
	switch {
	case deepest > maxDepth:
		r.failf("function %d nests blocks %d deep, the limit is %d; split the function or compile with less inlining", m.bodies, deepest, maxDepth)
	case m.depthSquared > maxDepthSquared:
		r.failf("the module's functions nest too deeply in total: the sum of squared depths passes %d at function %d", maxDepthSquared, m.bodies)
	}
}

// bulk passes the rest of a 0xfc instruction.
func (r *reader) bulk(at int) {
	switch op := r.u32(); {
	case op <= 7: // saturating conversions
	case op == 9, op == 11, op == 13, op >= 15 && op <= 17:
		r.skip(1)
	case op == 8, op == 10, op == 12, op == 14:
		r.skip(2)
	default:
		r.failf("instruction 0xfc %d at offset %d is not part of WebAssembly 2.0", op, at)
	}
}

// simd passes the rest of a 0xfd instruction.
func (r *reader) simd(at int) {
	switch op := r.u32(); {
	case op <= 11, op == 92, op == 93: // loads and stores
		r.skip(2)
	case op == 12, op == 13: // constants, shuffles
		r.take(16)
	case op >= 21 && op <= 34: // lanes
		r.byte()
	case op >= 84 && op <= 91: // loads and stores of lanes
		r.skip(2)
		r.byte()
	case op <= 255:
	default:
		r.failf("instruction 0xfd %d at offset %d is not part of WebAssembly 2.0; relaxed SIMD is not supported", op, at)
	}
}
