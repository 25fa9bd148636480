package wasm

import "golang.org/x/sys/unix"

const (
	seccompSupported = true
	auditArch        = unix.AUDIT_ARCH_AARCH64
)

// Calls that only this architecture has.
var (
	deniedAlwaysArch = []uint32{unix.SYS_KEXEC_FILE_LOAD}
	deniedFilesArch  = []uint32{}
)
