package lambda

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shardmill/shardmill/runtime"
)

// hostVariable makes the test binary a host that loads a handler, prints the handler's process
// number and waits to be killed.
const hostVariable = "SHARDMILL_TEST_HOST"

func TestHandlersDieWithTheHost(t *testing.T) {
	if dir := os.Getenv(hostVariable); dir != "" {
		f, err := New(Options{Dir: t.TempDir()}).Load(t.Context(), artifact(dir, nil), runtime.Limits{})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("handler %d\n", number(t, f, `{"do":"pid"}`))
		select {}
	}
	host := exec.Command(os.Args[0], "-test.run=^TestHandlersDieWithTheHost$")
	host.Env = append(os.Environ(), hostVariable+"="+root(t), "TMPDIR="+t.TempDir())
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(out)
	var pid int
	for pid == 0 {
		line, err := in.ReadString('\n')
		if err != nil {
			t.Fatal("the host ended before its handler ran:", err)
		}
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "handler "); ok {
			pid, _ = strconv.Atoi(text)
		}
	}
	if dead(pid) {
		t.Fatal("the handler was dead before its host")
	}
	host.Process.Kill()
	host.Wait()
	waitDead(t, pid)
}

// Threads that goroutines lock and do not unlock end with the goroutine. The kernel would kill a
// child that such a thread forked.
func TestHandlersOutliveTheThreadsAroundThem(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{Concurrency: 1}, nil)
	pid := number(t, f, `{"do":"pid"}`)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(goruntime.LockOSThread)
	}
	wg.Wait()
	if again := number(t, f, `{"do":"pid"}`); again != pid {
		t.Errorf("process %d was replaced by %d", pid, again)
	}
}

func TestEndedProcessesLeaveNoZombie(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{Concurrency: 1}, nil)
	pids := []int{number(t, f, `{"do":"pid"}`)}
	invoke(t, f, "", `{"do":"exit","n":3}`)
	pids = append(pids, number(t, f, `{"do":"pid"}`))
	f.Close()
	for _, pid := range pids {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d: %v, want it gone and collected", pid, err)
		}
	}
}

// An executable that is open for writing, as it is in a child that another start has just forked, is
// started when it is not any more.
func TestABusyExecutableIsWaitedFor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o700)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("#!/bin/sh\nexit 7\n"); err != nil {
		t.Fatal(err)
	}
	if err := exec.Command(path).Start(); !errors.Is(err, syscall.ETXTBSY) {
		t.Fatalf("the control: %v", err)
	}
	code := make(chan int, 1)
	go func() {
		time.Sleep(20 * time.Millisecond) // some attempts fail
		f.Close()
	}()
	if _, err := spawn(exec.Command(path), func(s *os.ProcessState) { code <- s.ExitCode() }); err != nil {
		t.Fatal(err)
	}
	if got := <-code; got != 7 {
		t.Fatalf("it ended with %d", got)
	}
}
