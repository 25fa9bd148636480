package lambda

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shardmill/shardmill/runtime"
)

// builtHandler is handlerRoot's folder, once there is one.
var builtHandler string

// handlerRoot is a task root with the handler of testdata, built once for all tests.
var handlerRoot = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "lambda-test-")
	if err != nil {
		return "", err
	}
	builtHandler = dir
	cmd := exec.Command("go", "build", "-tags", "lambda.norpc", "-o", filepath.Join(dir, "bootstrap"), "./testdata/handler")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if builtHandler != "" {
		os.RemoveAll(builtHandler)
	}
	os.Exit(code)
}

// recorder collects events.
type recorder struct {
	mu     sync.Mutex
	lines  []string // "request id: line"
	ends   []string
	starts int
	got    chan struct{} // has a token after every event
}

func (r *recorder) events() runtime.Events {
	r.got = make(chan struct{}, 1)
	add := func(do func()) {
		r.mu.Lock()
		defer r.mu.Unlock()
		do()
		select {
		case r.got <- struct{}{}:
		default:
		}
	}
	return runtime.Events{
		Log:   func(_, id, line string) { add(func() { r.lines = append(r.lines, id+": "+line) }) },
		Start: func(string, time.Duration) { add(func() { r.starts++ }) },
		End:   func(_, reason string) { add(func() { r.ends = append(r.ends, reason) }) },
	}
}

// wait returns when ok, which is called under the lock, is true.
func (r *recorder) wait(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		r.mu.Lock()
		yes := ok()
		state := fmt.Sprintf("lines %q, ends %q", r.lines[max(0, len(r.lines)-20):], r.ends)
		r.mu.Unlock()
		if yes {
			return
		}
		select {
		case <-r.got:
		case <-deadline:
			t.Fatalf("waiting for %s: %s", what, state)
		}
	}
}

func (r *recorder) waitEnd(t testing.TB, want string) {
	t.Helper()
	r.wait(t, "the end "+want, func() bool { return slices.Contains(r.ends, want) })
}

func artifact(root string, env map[string]string) runtime.Artifact {
	return runtime.Artifact{Name: "f", ARN: "arn:aws:lambda:eu-west-1:123456789012:function:f", Kind: runtime.KindBootstrap,
		Path: root, Region: "eu-west-1", Account: "123456789012", Env: env, Endpoint: "http://127.0.0.1:4566"}
}

func root(t testing.TB) string {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go tool, to build a handler")
	}
	dir, err := handlerRoot()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// load returns the test handler as a function that is closed with the test.
func load(t testing.TB, rec *recorder, l runtime.Limits, env map[string]string) runtime.Function {
	t.Helper()
	f, err := New(Options{Dir: t.TempDir(), Events: rec.events()}).Load(t.Context(), artifact(root(t), env), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func invoke(t testing.TB, f runtime.Function, id, payload string) runtime.Result {
	t.Helper()
	res, err := f.Invoke(t.Context(), runtime.Invocation{RequestID: id, Payload: []byte(payload)})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// answer checks that payload is answered with want and no error.
func answer(t testing.TB, f runtime.Function, payload, want string) {
	t.Helper()
	res := invoke(t, f, "", payload)
	if res.FunctionError != "" || string(res.Payload) != want {
		t.Fatalf("%s: answer %s, error %q; want %s", payload, res.Payload, res.FunctionError, want)
	}
}

// number is the answer to an event whose answer is a number.
func number(t testing.TB, f runtime.Function, payload string) int {
	t.Helper()
	n, err := strconv.Atoi(string(invoke(t, f, "", payload).Payload))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// dead is true when the process is gone, or a zombie that its new parent has not collected.
func dead(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return true
	}
	_, state, _ := bytes.Cut(stat, []byte(") "))
	return bytes.HasPrefix(state, []byte("Z"))
}

func waitDead(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !dead(pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("process %d is still there", pid)
		}
	}
}

// documentMessage is the errorMessage of an error document.
func documentMessage(payload []byte) string {
	var doc errorDocument
	json.Unmarshal(payload, &doc)
	return doc.Message
}
