// Command handler is a Lambda handler that misbehaves on request. The event's "do" chooses what
// it does, the variable INIT what happens before it asks for the first event.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Do   string `json:"do"`
	N    int    `json:"n"`
	Text string `json:"text"`
}

func main() {
	if os.Getenv("GRANDCHILD") != "" {
		time.Sleep(time.Hour)
	}
	switch os.Getenv("INIT") {
	case "exit":
		os.Exit(0)
	case "fail":
		fmt.Fprintln(os.Stderr, "cannot reach the \x1b[31mdatabase")
		os.Exit(7)
	case "panic":
		panic("no configuration")
	case "hang":
		fmt.Println("API", os.Getenv("AWS_LAMBDA_RUNTIME_API"))
		time.Sleep(time.Hour)
	case "sigterm": // writes a file when it is asked to stop
		lambda.StartWithOptions(handle, lambda.WithEnableSIGTERM(func() {
			os.WriteFile(os.Getenv("MARK"), []byte("stopped in time"), 0o600)
			os.Exit(0)
		}))
	case "deaf": // registers for SIGTERM and does not react
		lambda.StartWithOptions(handle, lambda.WithEnableSIGTERM(func() { time.Sleep(time.Hour) }))
	}
	lambda.Start(handle)
}

func handle(ctx context.Context, raw json.RawMessage) (any, error) {
	var ev event
	if err := json.Unmarshal(raw, &ev); err != nil {
		return nil, err
	}
	switch ev.Do {
	case "echo":
		return raw, nil
	case "nothing":
		return nil, nil
	case "error":
		return nil, errors.New(ev.Text)
	case "panic":
		panic(ev.Text)
	case "exit":
		os.Exit(ev.N)
	case "signal":
		syscall.Kill(os.Getpid(), syscall.Signal(ev.N))
		time.Sleep(time.Hour)
	case "sleep":
		time.Sleep(time.Duration(ev.N) * time.Millisecond)
		return "slept", nil
	case "pid":
		return os.Getpid(), nil
	case "grandchild":
		return grandchild()
	case "log":
		fmt.Println(ev.Text)
		return "logged", nil
	case "flood":
		line := strings.Repeat("x", 1023) + "\n"
		for range ev.N {
			os.Stdout.WriteString(line)
		}
		return "flooded", nil
	case "big":
		return strings.Repeat("x", ev.N-2), nil // with its two quotes ev.N bytes of JSON
	case "context":
		return describe(ctx), nil
	case "broken stream":
		return io.MultiReader(strings.NewReader("half"), failingReader{}), nil
	case "linger":
		return &lingering{bytes.NewBufferString(`"answered"`), time.Duration(ev.N) * time.Millisecond}, nil
	case "background":
		go func() {
			time.Sleep(time.Duration(ev.N) * time.Millisecond)
			fmt.Println("background done")
		}()
		return "started", nil
	}
	return nil, fmt.Errorf("unknown event %s", raw)
}

// grandchild starts a process that never ends by itself and returns its number.
func grandchild() (int, error) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"GRANDCHILD=1"}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr // it holds the pipe open, as daemons do
	err := cmd.Start()
	return cmd.Process.Pid, err
}

func describe(ctx context.Context) map[string]any {
	lc, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	env := map[string]string{}
	for _, v := range os.Environ() {
		name, value, _ := strings.Cut(v, "=")
		env[name] = value
	}
	cwd, _ := os.Getwd()
	return map[string]any{"requestId": lc.AwsRequestID, "arn": lc.InvokedFunctionArn, "trace": os.Getenv("_X_AMZN_TRACE_ID"),
		"deadline": deadline.UnixMilli(), "env": env, "cwd": cwd}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("the source dried up") }

// lingering is an answer whose handler works on after it was sent.
type lingering struct {
	*bytes.Buffer
	work time.Duration
}

func (l *lingering) Close() error { time.Sleep(l.work); return nil }
