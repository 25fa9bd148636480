package clients

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// scriptTime is the most that a script may take: one that waits for what never comes is killed then.
const scriptTime = 2 * time.Minute

// script is a client that runs as a program of its own. It writes what it observed.
type script struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *json.Decoder
	stderr bytes.Buffer
}

func start(t *testing.T, url string, p any, env []string, name string, args ...string) *script {
	t.Helper()
	text, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), scriptTime)
	t.Cleanup(cancel)
	s := &script{cmd: exec.CommandContext(ctx, name, append(args, string(text))...)}
	s.cmd.Env = append(environ(url), env...)
	s.cmd.Stderr = &s.stderr
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	s.out = json.NewDecoder(out)
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// next reads the next value that the script writes.
func (s *script) next(t *testing.T, into any) {
	t.Helper()
	if err := s.out.Decode(into); err != nil {
		t.Fatalf("%v, then %v\n%s", err, s.cmd.Wait(), s.stderr.String())
	}
}

func (s *script) end(t *testing.T) {
	t.Helper()
	s.in.Close()
	if err := s.cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, s.stderr.String())
	}
}

func needBoto3(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a program for seconds")
	}
	if text, err := exec.Command("python3", "-c", "import boto3").CombinedOutput(); err != nil {
		t.Skipf("python3 with boto3 is not installed: %v %s", err, text)
	}
}

// needNode finds what runs a script with the AWS SDK for JavaScript.
func needNode(t *testing.T) (node string, env []string) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a program for seconds")
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("node is not on the PATH")
	}
	sdk, found := os.LookupEnv("SHARDMILL_JS_SDK")
	if !found {
		if sdk, err = filepath.Abs("../../../.bin/js-sdk"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(sdk, "node_modules", ".package-lock.json")); err != nil {
		t.Skipf("the AWS SDK for JavaScript is not in %s: run scripts/install-js-sdk.sh", sdk)
	}
	return node, []string{"NODE_PATH=" + filepath.Join(sdk, "node_modules")}
}

func TestBoto3(t *testing.T) {
	needBoto3(t)
	t.Parallel()
	h, p := newServer(t), newPlan("boto3")
	s := start(t, h.URL(), p, nil, "python3", "testdata/client.py")
	var got observed
	s.next(t, &got)
	p.check(t, &got, time.Second) // botocore sends whole seconds
	h.awaitDelivery(t, len(p.Lines))
	io.WriteString(s.in, "delivered\n")
	var objects []string
	s.next(t, &objects)
	s.end(t)
	p.checkObjects(t, objects)
}

func TestJavaScript(t *testing.T) {
	node, env := needNode(t)
	t.Parallel()
	h, p := newServer(t), newPlan("js")
	wire := listenBetween(t, strings.TrimPrefix(h.URL(), "http://"))
	s := start(t, wire.url(), p, env, node, "testdata/client.cjs")
	var got observed
	s.next(t, &got)
	s.end(t)
	p.check(t, &got, time.Millisecond)
	h.awaitDelivery(t, len(p.Lines))
	p.checkObjects(t, objectsOf(t, h.URL(), p.Bucket))
	if h2, h1 := wire.connections(); h2 == 0 || h1 == 0 {
		t.Errorf("%d connections spoke HTTP/2 and %d HTTP/1.1; Kinesis goes over the one and Firehose over the other", h2, h1)
	}
}

// between passes connections on to a host and notes which protocol they begin with.
type between struct {
	listener net.Listener
	mu       sync.Mutex
	h2, h1   int
}

func listenBetween(t *testing.T, to string) *between {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &between{listener: l}
	var all sync.WaitGroup
	t.Cleanup(func() { l.Close(); all.Wait() })
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { b.pass(conn, to) })
		}
	})
	return b
}

func (b *between) pass(client net.Conn, to string) {
	defer client.Close()
	head := make([]byte, len("PRI "))
	if _, err := io.ReadFull(client, head); err != nil {
		return
	}
	b.mu.Lock()
	if string(head) == "PRI " {
		b.h2++
	} else {
		b.h1++
	}
	b.mu.Unlock()
	server, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		io.Copy(server, io.MultiReader(bytes.NewReader(head), client))
		server.Close()
	}()
	io.Copy(client, server)
}

func (b *between) url() string { return "http://" + b.listener.Addr().String() }

func (b *between) connections() (h2, h1 int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.h2, b.h1
}
