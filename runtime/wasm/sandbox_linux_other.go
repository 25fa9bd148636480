//go:build linux && !amd64 && !arm64

package wasm

const (
	seccompSupported = false // the filter's system call table is known for amd64 and arm64
	auditArch        = 0
)

var (
	deniedAlwaysArch = []uint32{}
	deniedFilesArch  = []uint32{}
)
