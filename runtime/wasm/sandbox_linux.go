package wasm

import (
	"fmt"
	"os"
	goruntime "runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setLimits bounds this process for good. A zero limit is not set.
func setLimits(cpuSeconds, dataBytes, fileBytes uint64, files uint64) error {
	for _, l := range []struct {
		what  string
		id    int
		value uint64
		set   bool
	}{
		{"RLIMIT_CORE", unix.RLIMIT_CORE, 0, true},
		{"RLIMIT_NOFILE", unix.RLIMIT_NOFILE, files, true},
		{"RLIMIT_FSIZE", unix.RLIMIT_FSIZE, fileBytes, true},
		{"RLIMIT_CPU", unix.RLIMIT_CPU, cpuSeconds, cpuSeconds > 0 && !raceEnabled},
		{"RLIMIT_DATA", unix.RLIMIT_DATA, dataBytes, dataBytes > 0 && !raceEnabled},
	} {
		if !l.set {
			continue
		}
		// Soft = hard: the kernel's first answer to too much CPU time is then SIGKILL.
		if err := unix.Setrlimit(l.id, &unix.Rlimit{Cur: l.value, Max: l.value}); err != nil {
			return fmt.Errorf("setrlimit %s to %d: %w", l.what, l.value, err)
		}
	}
	return nil
}

// beNice lets the host and the workers go first, without starving on a busy machine.
func beNice() { unix.Setpriority(unix.PRIO_PROCESS, 0, 5) }

// deniedAlways are system calls that neither a worker nor a compile job needs once it runs:
// network, processes, privileges, kernel interfaces with a large surface.
var deniedAlways = []uint32{
	unix.SYS_SOCKET, unix.SYS_SOCKETPAIR, unix.SYS_CONNECT, unix.SYS_BIND, unix.SYS_LISTEN, unix.SYS_ACCEPT, unix.SYS_ACCEPT4,
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_KILL, unix.SYS_TKILL,
	unix.SYS_RT_SIGQUEUEINFO, unix.SYS_RT_TGSIGQUEUEINFO, unix.SYS_PIDFD_OPEN, unix.SYS_PIDFD_SEND_SIGNAL, unix.SYS_PIDFD_GETFD,
	unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PRLIMIT64, unix.SYS_SETRLIMIT,
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT, unix.SYS_UNSHARE, unix.SYS_SETNS,
	unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSMOUNT, unix.SYS_FSCONFIG, unix.SYS_FSPICK,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_SECCOMP, unix.SYS_PRCTL,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_REBOOT,
}

// deniedFiles are denied to workers on top: no file can be opened or changed any more.
var deniedFiles = []uint32{
	unix.SYS_OPENAT, unix.SYS_OPENAT2, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_UNLINKAT, unix.SYS_RENAMEAT, unix.SYS_RENAMEAT2,
	unix.SYS_MKDIRAT, unix.SYS_MKNODAT, unix.SYS_LINKAT, unix.SYS_SYMLINKAT, unix.SYS_TRUNCATE,
	unix.SYS_FCHMOD, unix.SYS_FCHMODAT, unix.SYS_FCHOWN, unix.SYS_FCHOWNAT, unix.SYS_MEMFD_CREATE, unix.SYS_INOTIFY_INIT1,
}

// lockIn gives up the system calls above, in every thread, for good. It reports false where
// the kernel has no filters.
func lockIn(files bool) bool {
	if !seccompSupported {
		return false
	}
	denied := append(append([]uint32{}, deniedAlways...), deniedAlwaysArch...)
	if !files {
		denied = append(append(denied, deniedFiles...), deniedFilesArch...)
	}
	program := filter(denied, uint32(os.Getpid()))
	goruntime.LockOSThread() // no_new_privs belongs to the thread that installs the filter
	defer goruntime.UnlockOSThread()
	if unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != nil {
		return false
	}
	prog := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	return errno == 0
}

// Offsets in struct seccomp_data; the low half of an argument comes first on these machines.
const (
	dataNumber = 0
	dataArch   = 4
	dataArg0   = 16
)

// filter builds the BPF program: denied calls fail with EPERM, clone may only make threads,
// clone3 does not exist (the C library then falls back to clone), tgkill stays in this process.
func filter(denied []uint32, pid uint32) []unix.SockFilter {
	const (
		load   = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		atMost = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		hasBit = unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K
		ret    = unix.BPF_RET | unix.BPF_K
	)
	op := func(code uint16, k uint32) unix.SockFilter { return unix.SockFilter{Code: code, K: k} }
	jump := func(code uint16, k uint32, yes, no uint8) unix.SockFilter {
		return unix.SockFilter{Code: code, K: k, Jt: yes, Jf: no}
	}
	deny := op(ret, unix.SECCOMP_RET_ERRNO|uint32(unix.EPERM))
	p := []unix.SockFilter{
		op(load, dataArch), jump(equal, auditArch, 1, 0), deny,
		op(load, dataNumber), jump(atMost, 0x40000000, 0, 1), deny, // another calling convention
		jump(equal, unix.SYS_CLONE3, 0, 1), op(ret, unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)),
		jump(equal, unix.SYS_CLONE, 0, 4),
		op(load, dataArg0), jump(hasBit, unix.CLONE_THREAD, 1, 0), deny, op(ret, unix.SECCOMP_RET_ALLOW),
		jump(equal, unix.SYS_TGKILL, 0, 4),
		op(load, dataArg0), jump(equal, pid, 1, 0), deny, op(ret, unix.SECCOMP_RET_ALLOW),
	}
	for _, nr := range denied {
		p = append(p, jump(equal, nr, 0, 1), deny)
	}
	return append(p, op(ret, unix.SECCOMP_RET_ALLOW))
}
