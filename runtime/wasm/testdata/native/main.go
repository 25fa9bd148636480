// The native batch guest of the tests. The first byte of a record says what becomes of it.
package main

import (
	"encoding/binary"
	"unsafe"
)

//go:wasmimport shardmill log
func hostLog(level uint32, p unsafe.Pointer, n uint32)

//go:wasmimport shardmill error
func hostError(p unsafe.Pointer, n uint32)

//go:wasmimport shardmill config
func hostConfig(k unsafe.Pointer, kn uint32, buf unsafe.Pointer, cap uint32) uint32

var (
	in, out []byte
	count   uint32
)

//go:wasmexport shardmill_abi_v1
func abi() {}

//go:wasmexport shardmill_alloc
func alloc(n uint32) uint32 {
	if uint32(cap(in)) < n {
		in = make([]byte, n)
	}
	return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(in[:1]))))
}

func answer(index uint32, status byte, data, meta []byte) {
	out = binary.LittleEndian.AppendUint32(out, index)
	out = binary.LittleEndian.AppendUint32(append(out, status), uint32(len(data)))
	out = binary.LittleEndian.AppendUint32(append(out, data...), uint32(len(meta)))
	out = append(out, meta...)
	count++
}

func config(key []byte) []byte {
	var buf [256]byte
	n := hostConfig(unsafe.Pointer(unsafe.SliceData(key)), uint32(len(key)), unsafe.Pointer(&buf), uint32(len(buf)))
	if n == 0xffffffff {
		return []byte("absent")
	}
	return append([]byte(nil), buf[:n]...)
}

//go:wasmexport shardmill_transform
func transform(p, n uint32) uint64 {
	b := unsafe.Slice((*byte)(unsafe.Pointer(uintptr(p))), n)
	next := func() []byte {
		n := binary.LittleEndian.Uint32(b)
		v := b[4 : 4+n]
		b = b[4+n:]
		return v
	}
	records := binary.LittleEndian.Uint32(b)
	b = b[4:]
	out, count = append(out[:0], 0, 0, 0, 0), 0
	for i := range records {
		meta, data := next(), next()
		if !one(i, meta, data) {
			return 0
		}
	}
	binary.LittleEndian.PutUint32(out, count)
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(out))))<<32 | uint64(len(out))
}

func one(i uint32, meta, data []byte) bool {
	arg := data[1:]
	switch data[0] {
	case '=': // as it is
		answer(i, 0, arg, nil)
	case '2': // twice
		answer(i, 0, append([]byte("a:"), arg...), nil)
		answer(i, 0, append([]byte("b:"), arg...), nil)
	case 'd':
		answer(i, 1, nil, nil)
	case 'f':
		answer(i, 2, []byte("ignored"), nil)
	case 's': // no answer
	case 'm': // the meta the host sent
		answer(i, 0, meta, nil)
	case 'k': // two partition keys and an unknown tag
		answer(i, 0, arg, []byte("\x40\x06\x00\x00\x00day\x0001\x40\x05\x00\x00\x00hr\x0023\xc8\x01\x00\x00\x00!"))
	case 'c': // a config value
		answer(i, 0, config(arg), nil)
	case 'l': // log, level info
		hostLog(1, unsafe.Pointer(unsafe.SliceData(arg)), uint32(len(arg)))
		answer(i, 1, nil, nil)
	case 'L': // log in a flood
		for range 5000 {
			hostLog(1, unsafe.Pointer(unsafe.SliceData(arg)), uint32(len(arg)))
		}
		answer(i, 1, nil, nil)
	case 'e': // fail the batch
		hostError(unsafe.Pointer(unsafe.SliceData(arg)), uint32(len(arg)))
		return false
	case 'p':
		panic("as told")
	case '@': // spin
		for {
		}
	}
	return true
}

func main() {}
