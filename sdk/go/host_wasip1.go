package shardmill

import "unsafe"

//go:wasmimport shardmill log
func importLog(level uint32, p unsafe.Pointer, n uint32)

//go:wasmimport shardmill error
func importError(p unsafe.Pointer, n uint32)

//go:wasmimport shardmill config
func importConfig(key unsafe.Pointer, n uint32, buf unsafe.Pointer, cap uint32) uint32

//go:wasmimport shardmill metric
func importMetric(key unsafe.Pointer, n uint32, value float64)

//go:wasmimport shardmill state_get
func importStateGet(key unsafe.Pointer, n uint32, buf unsafe.Pointer, cap uint32) uint32

//go:wasmimport shardmill state_put
func importStatePut(key unsafe.Pointer, n uint32, value unsafe.Pointer, len uint32) uint32

//go:wasmimport shardmill emit
func importEmit(stream unsafe.Pointer, sn uint32, key unsafe.Pointer, kn uint32, data unsafe.Pointer, n uint32) uint32

func text(s string) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.StringData(s)), uint32(len(s))
}

func bytes(b []byte) (unsafe.Pointer, uint32) {
	return unsafe.Pointer(unsafe.SliceData(b)), uint32(len(b))
}

func hostLog(level Level, line string) {
	p, n := text(line)
	importLog(uint32(level), p, n)
}

func hostError(reason string) { importError(text(reason)) }

func hostConfig(key string, buf []byte) uint32 {
	k, kn := text(key)
	b, bn := bytes(buf)
	return importConfig(k, kn, b, bn)
}

func hostMetric(key string, value float64) {
	k, kn := text(key)
	importMetric(k, kn, value)
}

func hostStateGet(key string, buf []byte) uint32 {
	k, kn := text(key)
	b, bn := bytes(buf)
	return importStateGet(k, kn, b, bn)
}

func hostStatePut(key string, value []byte) uint32 {
	k, kn := text(key)
	v, vn := bytes(value)
	return importStatePut(k, kn, v, vn)
}

func hostEmit(stream, key string, data []byte) uint32 {
	s, sn := text(stream)
	k, kn := text(key)
	d, dn := bytes(data)
	return importEmit(s, sn, k, kn, d, dn)
}

var batch []byte // kept here so that the collector leaves it alone

//go:wasmexport shardmill_abi_v1
func exportMarker() {}

//go:wasmexport shardmill_alloc
func exportAlloc(n uint32) uint32 {
	if uint32(cap(batch)) < n {
		batch = make([]byte, n+n/4)
	}
	return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(batch))))
}

//go:wasmexport shardmill_init
func exportInit() int32 {
	if transform == nil {
		hostError("the module never called shardmill.Transform; call it in an init function")
		return 1
	}
	return 0
}

//go:wasmexport shardmill_transform
func exportTransform(p unsafe.Pointer, n uint32) uint64 {
	out, ok := run(unsafe.Slice((*byte)(p), n))
	if !ok {
		return 0
	}
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(out))))<<32 | uint64(len(out))
}
