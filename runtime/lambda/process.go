package lambda

import (
	"errors"
	"os"
	"os/exec"
	goruntime "runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// process is a child and everything in its process group.
type process struct {
	pid   int
	ended chan struct{} // closed when the child has ended, before anybody hears of it otherwise

	mu   sync.Mutex
	gone bool // the child was reaped or is about to be: its number may belong to another
}

// spawn starts cmd as the leader of its own process group and calls onExit, on a goroutine of
// its own, once the child has ended and the rest of its group was killed.
//
// The kernel sends Pdeathsig when the thread that forked ends, not when the process does. So one
// goroutine keeps its thread from fork to reap, where it would block in a system call anyhow.
func spawn(cmd *exec.Cmd, onExit func(*os.ProcessState)) (*process, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p := &process{ended: make(chan struct{})}
	started := make(chan error)
	go func() {
		goruntime.LockOSThread()
		cmd, err := startBusy(cmd)
		if err != nil {
			goruntime.UnlockOSThread()
			started <- err
			return
		}
		p.pid = cmd.Process.Pid
		started <- nil
		p.reap(cmd)
		goruntime.UnlockOSThread()
		onExit(cmd.ProcessState)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// busyFor is how long an executable may be busy.
const busyFor = 2 * time.Second

// startBusy starts cmd, if need be again and again. The executable was written by this process a moment
// ago; another goroutine that starts a process just then hands the open file down to its child, until
// that has become another program, and Linux starts nothing that is open for writing (golang/go#22315).
func startBusy(cmd *exec.Cmd) (*exec.Cmd, error) {
	for end := time.Now().Add(busyFor); ; time.Sleep(5 * time.Millisecond) {
		err := cmd.Start()
		if !errors.Is(err, syscall.ETXTBSY) || time.Now().After(end) {
			return cmd, err
		}
		cmd = &exec.Cmd{Path: cmd.Path, Args: cmd.Args, Env: cmd.Env, Dir: cmd.Dir, Stdin: cmd.Stdin, Stdout: cmd.Stdout, Stderr: cmd.Stderr,
			ExtraFiles: cmd.ExtraFiles, SysProcAttr: cmd.SysProcAttr} // one that was started cannot be started again
	}
}

// reap waits for the child. It first waits without collecting it: while the child is a zombie its
// number, which is also the group's, cannot be given to anybody else, so the group can be killed
// without a race.
func (p *process) reap(cmd *exec.Cmd) {
	for {
		err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	close(p.ended)
	p.mu.Lock()
	syscall.Kill(-p.pid, syscall.SIGKILL)
	p.gone = true
	p.mu.Unlock()
	cmd.Wait() // the outcome is in cmd.ProcessState; there are no pipes to wait for
}

// signal sends sig to the whole group, nothing when the child has ended.
func (p *process) signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.gone {
		syscall.Kill(-p.pid, sig)
	}
}

func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}
