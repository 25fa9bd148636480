package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a host that runs as a process of its own.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	out    *bufio.Reader
	stderr lockedBuffer
	ready  string // its first line
	url    string
	took   time.Duration // from the start of the process to its first line
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startHost runs shardmill serve in dir and waits until it says that it is ready.
func startHost(t testing.TB, dir string, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(os.Args[0], append([]string{"serve"}, args...)...)}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stderr = dir, append(env, asCommand+"=1"), &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() }) // whatever has gone wrong
	p.out = bufio.NewReader(out)
	if p.ready, err = p.out.ReadString('\n'); err != nil {
		p.cmd.Wait()
		t.Fatalf("the host did not start: %v\n%s", err, p.stderr.String())
	}
	p.took = time.Since(start)
	_, after, _ := strings.Cut(p.ready, " on ")
	p.url, _, _ = strings.Cut(after, " ")
	return p
}

// rest is what the host wrote to stdout after its first line; it waits for the end.
func (p *process) rest() string {
	b, err := io.ReadAll(p.out)
	if err != nil && !strings.Contains(err.Error(), "file already closed") {
		p.t.Error(err)
	}
	return string(b)
}

// stop ends the host with SIGTERM and returns its exit code.
func (p *process) stop() int {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	if rest := p.rest(); rest != "" {
		p.t.Errorf("after its first line the host wrote to stdout: %q", rest)
	}
	p.cmd.Wait() // its error is the exit code
	return p.cmd.ProcessState.ExitCode()
}
