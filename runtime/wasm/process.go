package wasm

import (
	"context"
	"os"
	"os/exec"
	goruntime "runtime"
	"sync"

	"github.com/shardmill/shardmill/internal/errs"
)

// argv[0] of the child processes, by which WorkerMain knows them.
const (
	workerName   = "shardmill-worker"
	compilerName = "shardmill-compile"
)

// process is a child of the host: a worker or a compile job.
type process struct {
	cmd  *exec.Cmd
	ch   channel
	logs *os.File // the read end of its stderr

	conn    []*os.File // what close gives back
	segment []byte
}

// kill ends the process; it is safe at any time, also after the process ended by itself.
func (p *process) kill() { p.cmd.Process.Kill() }

// spawner starts child processes. The kernel ends a worker when the thread that forked it ends,
// so that a host that crashes leaves nothing behind; hence all forks happen on one goroutine
// that keeps its thread for as long as the engine lives.
type spawner struct {
	once     sync.Once
	quitOnce sync.Once
	requests chan spawnRequest
	quit     chan struct{}

	mu        sync.Mutex
	isolation Isolation
}

type spawnRequest struct {
	name   string
	module *os.File
	answer chan spawnAnswer
}

type spawnAnswer struct {
	p   *process
	err error
}

func newSpawner() *spawner {
	return &spawner{requests: make(chan spawnRequest), quit: make(chan struct{}), isolation: fullIsolation}
}

// spawn starts a child with argv[0] name, which will read the module from its open file.
func (s *spawner) spawn(ctx context.Context, name string, module *os.File) (*process, error) {
	s.once.Do(func() { go s.run() })
	req := spawnRequest{name, module, make(chan spawnAnswer, 1)}
	select {
	case s.requests <- req:
	case <-s.quit:
		return nil, errs.New(errs.Unavailable, "the WebAssembly engine is closed")
	case <-ctx.Done():
		return nil, errs.Wrap(errs.Throttled, ctx.Err(), "no process could be started in time")
	}
	a := <-req.answer
	if a.err != nil {
		return nil, errs.Wrap(errs.Unavailable, a.err, "the operating system refused to start a process for a WebAssembly function")
	}
	return a.p, nil
}

func (s *spawner) run() {
	goruntime.LockOSThread() // never unlocked: the thread ends with this goroutine
	for {
		select {
		case <-s.quit:
			return
		case req := <-s.requests:
			p, err := s.fork(req.name, req.module)
			req.answer <- spawnAnswer{p, err}
		}
	}
}

func (s *spawner) close() { s.quitOnce.Do(func() { close(s.quit) }) }

func (s *spawner) level() Isolation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isolation
}

// weaken notes a layer that this machine refuses.
func (s *spawner) weaken(f func(*Isolation)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(&s.isolation)
}

func closeAll(files ...*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}
