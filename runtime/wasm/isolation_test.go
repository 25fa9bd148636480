package wasm

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shardmill/shardmill/runtime"
	"golang.org/x/sys/unix"
)

// liarProcess is a child whose control connection holds the header given, whatever it is asked.
func liarProcess(t *testing.T, h header) *process {
	t.Helper()
	host, guest, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	logs, stderr, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "60")
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Skip("the sleep command is needed:", err)
	}
	stderr.Close()
	if _, err := guest.Write(h.append(nil)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); guest.Close(); host.Close() })
	segment := make([]byte, 2*segmentHalf)
	return &process{cmd: cmd, logs: logs, ch: channel{rw: host, send: segment[:segmentHalf], recv: segment[segmentHalf:], max: 1 << 20}}
}

const (
	lockedName = "shardmill-test-locked"
	victimName = "shardmill-test-victim"
)

// lockedMain is a child that locks itself in as a worker does and tries to break out.
func lockedMain() {
	if os.Args[0] != lockedName {
		return
	}
	if !lockIn(os.Getenv("FILES") == "yes") {
		fmt.Println("no seccomp")
		os.Exit(0)
	}
	report := func(what string, err error) {
		fmt.Println(what, errors.Is(err, syscall.EPERM))
	}
	_, err := os.Open("/etc/passwd")
	report("open", err)
	_, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	report("socket", err)
	report("exec", syscall.Exec("/proc/self/exe", []string{"x"}, nil))
	_, _, errno := syscall.RawSyscall6(unix.SYS_CLONE, uintptr(unix.SIGCHLD), 0, 0, 0, 0, 0)
	report("fork", errno)
	report("kill", unix.Kill(os.Getppid(), 0))
	report("tgkill", unix.Tgkill(os.Getppid(), os.Getppid(), 0))
	done := make(chan struct{})
	go close(done) // threads and goroutines still work
	<-done
	os.Exit(0)
}

func TestLockedProcessCannotBreakOut(t *testing.T) {
	run := func(files string) string {
		cmd := exec.Command("/proc/self/exe")
		cmd.Args = []string{lockedName}
		cmd.Env = []string{"FILES=" + files}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	got := run("no")
	if got == "no seccomp\n" {
		t.Skip("this kernel has no seccomp filters")
	}
	if want := "open true\nsocket true\nexec true\nfork true\nkill true\ntgkill true\n"; got != want {
		t.Errorf("denied with EPERM in a worker:\n%s\nwant:\n%s", got, want)
	}
	// The control: a compile job may open files, so the report tells the difference.
	if want, got := "open false\nsocket true\n", run("yes"); !strings.HasPrefix(got, want) {
		t.Errorf("denied with EPERM in a compile job:\n%s\nwant first:\n%s", got, want)
	}
}

func TestWorkersAreIsolated(t *testing.T) {
	e := newEngine(t, &recorder{})
	f := load(t, e, artifact(t, nativeModule(replyOf(), nil)), runtime.Limits{}).(*nativeFunction)
	v, err := f.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer f.pool.Release(v, true, "")
	proc := filepath.Join("/proc", strconv.Itoa(v.proc.cmd.Process.Pid))
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		t.Fatal(err)
	}
	level := e.Isolation()
	for line, on := range map[string]bool{"Seccomp:\t2": level.Seccomp, "NoNewPrivs:\t1": level.Seccomp, "CapEff:\t0000000000000000": level.Namespaces} {
		if on && !bytes.Contains(status, []byte(line)) {
			t.Errorf("a worker's status does not say %q", line)
		}
	}
	own, _ := os.Readlink("/proc/self/ns/net")
	theirs, err := os.Readlink(filepath.Join(proc, "ns/net"))
	if err == nil && level.Namespaces == (own == theirs) {
		t.Errorf("isolation %s, but the worker's network is %s and the host's %s", level, theirs, own)
	}
	environ, err := os.ReadFile(filepath.Join(proc, "environ"))
	if err == nil && string(environ) != "GOMAXPROCS=1\x00GOTRACEBACK=none\x00" {
		t.Errorf("a worker's environment is %q", environ)
	}
}

func TestStartWithoutNamespaces(t *testing.T) {
	e := newEngine(t, &recorder{})
	e.spawner.isolation.Namespaces = false // as after a refusal
	f := load(t, e, artifact(t, nativeModule(replyOf(), nil)), runtime.Limits{})
	if got := answersOf(t, f, records("a")); len(got) != 0 {
		t.Fatalf("answers %q, want none", got)
	}
	if got := e.Isolation().String(); strings.Contains(got, "namespaces") || !strings.HasPrefix(got, "child process") {
		t.Errorf("isolation %q", got)
	}
}

// victimMain is a host that starts a spinning worker, prints the worker's pid, and waits.
func victimMain() {
	if os.Args[0] != victimName {
		return
	}
	e := New(Options{CacheDir: os.Getenv("CACHE")})
	fn, err := e.Load(context.Background(), runtime.Artifact{Name: "fn", Kind: runtime.KindWasm, Path: os.Getenv("MODULE")}, runtime.Limits{Concurrency: 1})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	f := fn.(*nativeFunction)
	v, _ := f.pool.Acquire(context.Background())
	f.pool.Release(v, true, "")
	go f.Process(context.Background(), records("spin"), &runtime.ProcessedBatch{})
	for v.proc.cmd.Process.Signal(syscall.Signal(0)) == nil && f.pool.String()[:1] != "1" {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(v.proc.cmd.Process.Pid)
	select {}
}

func TestWorkersDieWithTheHost(t *testing.T) {
	module := artifact(t, nativeModule(nil, func(m *testModule) {
		m.funcs[fnTransform].body = answerEmpty(append(append([]byte{}, spin...), i64(0)...))
	})).Path
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{victimName}
	cmd.Env = []string{"CACHE=" + filepath.Join(shared.dir, "cache"), "MODULE=" + module}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		cmd.Process.Kill()
		t.Fatalf("the host said %q", line)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		cmd.Process.Kill()
		t.Skip("pidfd_open is needed:", err)
	}
	defer unix.Close(fd)
	ends := func(ms int) bool {
		n, _ := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, ms)
		return n == 1
	}
	if ends(50) { // the control
		t.Fatal("the worker ended before its host")
	}
	cmd.Process.Kill()
	cmd.Wait()
	if !ends(5000) {
		syscall.Kill(pid, syscall.SIGKILL)
		t.Fatal("the worker still spins 5 s after its host was killed")
	}
}
