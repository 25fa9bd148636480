package wasm

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// Descriptors of a child beside stderr.
const (
	fdControl = 3
	fdSegment = 4 // workers only
	fdModule  = 5
)

// segmentHalf is the room for one payload in each direction. The segment is sparse: a worker
// pays for the pages its largest batch touched. Larger payloads travel through the socket.
const segmentHalf = 4 << 20

var fullIsolation = Isolation{Namespaces: true, Seccomp: seccompSupported}

// fork starts one child. It runs on the spawner's thread only.
func (s *spawner) fork(name string, module *os.File) (p *process, err error) {
	var host, guest, segment, logs, stderr *os.File
	defer func() {
		closeAll(guest, segment, stderr)
		if err != nil {
			closeAll(host, logs)
			if p != nil {
				p.close()
			}
		}
	}()
	if host, guest, err = socketPair(); err != nil {
		return nil, err
	}
	if logs, stderr, err = os.Pipe(); err != nil {
		return nil, err
	}
	p = &process{logs: logs, conn: []*os.File{host}, ch: channel{rw: host}}
	if name == workerName {
		if segment, err = newSegment(); err != nil {
			return nil, err
		}
		if p.segment, err = mapSegment(segment); err != nil {
			return nil, err
		}
		p.ch.send, p.ch.recv = p.segment[:segmentHalf], p.segment[segmentHalf:]
	}
	start := func(attr *syscall.SysProcAttr) error {
		p.cmd = exec.Command("/proc/self/exe")
		p.cmd.Args = []string{name}
		p.cmd.Env = childEnv()
		p.cmd.Stderr = stderr
		p.cmd.ExtraFiles = []*os.File{guest, segment, module}
		p.cmd.SysProcAttr = attr
		return p.cmd.Start()
	}
	if s.level().Namespaces {
		if err = start(namespaces()); err == nil {
			return p, nil
		}
		if !forbidden(err) {
			p.close()
			return nil, err
		}
		// Containers often forbid user namespaces: go on without, for good.
		s.weaken(func(i *Isolation) { i.Namespaces = false })
	}
	if err = start(&syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// forbidden reports whether a start failed because this machine grants no new namespaces.
func forbidden(err error) bool {
	for _, e := range []error{syscall.EPERM, syscall.EACCES, syscall.EINVAL, syscall.ENOSYS, syscall.ENOSPC, syscall.EUSERS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// namespaces puts the child alone into empty namespaces. Its user maps to an id that is not
// root inside, so that exec drops the capabilities a new user namespace grants.
func namespaces() *syscall.SysProcAttr {
	const inside = 65534
	return &syscall.SysProcAttr{
		Setpgid:     true,
		Pdeathsig:   syscall.SIGKILL,
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: inside, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: inside, HostID: os.Getegid(), Size: 1}},
	}
}

func socketPair() (host, guest *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // the host's end belongs to Go's poller
		unix.Close(fds[0])
		unix.Close(fds[1])
		return nil, nil, err
	}
	return os.NewFile(uintptr(fds[0]), "worker control"), os.NewFile(uintptr(fds[1]), "worker"), nil
}

// newSegment makes the shared memory. The seals keep a hostile worker from truncating it, which
// would kill the host with SIGBUS at its next access.
func newSegment() (*os.File, error) {
	fd, err := unix.MemfdCreate("shardmill", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "shared segment")
	if err = f.Truncate(2 * segmentHalf); err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("the shared segment: %w", err)
	}
	return f, nil
}

func mapSegment(f *os.File) ([]byte, error) {
	b, err := unix.Mmap(int(f.Fd()), 0, 2*segmentHalf, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	return b, os.NewSyscallError("mmap", err)
}

// close gives back what the host holds of the child. The child must be gone.
func (p *process) close() {
	closeAll(p.conn...)
	closeAll(p.logs)
	if p.segment != nil {
		p.ch.send, p.ch.recv = nil, nil
		unix.Munmap(p.segment)
		p.segment = nil
	}
}

// inherited is what a child process finds when it starts.
func inherited(name string) (ch channel, module []byte, err error) {
	ch.rw = os.NewFile(fdControl, "host")
	if name == workerName {
		b, err := mapSegment(os.NewFile(fdSegment, "shared segment"))
		if err != nil {
			return ch, nil, err
		}
		ch.send, ch.recv = b[segmentHalf:], b[:segmentHalf]
	}
	module, err = mapModule(os.NewFile(fdModule, "module"))
	return ch, module, err
}

// mapModule maps the module file instead of reading it, so that all workers share its pages.
func mapModule(f *os.File) ([]byte, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("the module is not a regular file")
	}
	b, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if errors.Is(err, unix.ENODEV) { // a file system without mmap
		return io.ReadAll(f)
	}
	return b, os.NewSyscallError("mmap", err)
}
