package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTermFinishesTheBatchUnderWay: a host that is told to stop while a function works on a batch
// delivers that batch first.
func TestTermFinishesTheBatchUnderWay(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	dropSlow(t, filepath.Join(data, "plugins"))
	p := startHost(t, "", os.Environ(), "--listen", "127.0.0.1:0", "--data", data)
	api := client{url: p.url}
	create := object{"DeliveryStreamName": "d", "ExtendedS3DestinationConfiguration": object{"RoleARN": quakeRole, "BucketARN": "arn:aws:s3:::bucket",
		"BufferingHints": object{"SizeInMBs": 1, "IntervalInSeconds": 0},
		"ProcessingConfiguration": object{"Enabled": true, "Processors": []object{{"Type": "Lambda", "Parameters": []object{
			{"ParameterName": "LambdaArn", "ParameterValue": "slow"}}}}}}}
	if err := api.call(t.Context(), firehoseTarget+"CreateDeliveryStream", create, nil); err != nil {
		t.Fatal(err)
	}
	put := object{"DeliveryStreamName": "d", "Record": object{"Data": []byte("one hostile record\n")}} // hostile: the function is slow for it
	if err := api.call(t.Context(), firehoseTarget+"PutRecord", put, nil); err != nil {
		t.Fatal(err)
	}
	awaitBusy(t, p)
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d, want 0\n%s", code, p.stderr.String())
	}
	if got := readObjects(t, filepath.Join(data, "objects", "bucket")); got != "one hostile record\n" {
		t.Errorf("delivered %q, want the record that was under way", got)
	}
}

// dropSlow puts a function into the plugin folder that takes a second for a batch.
func dropSlow(t *testing.T, plugins string) {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go tool, to build a function")
	}
	cmd := exec.Command("go", "build", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-buildvcs=false", "-o", filepath.Join(plugins, "slow"), "../../internal/host/testdata/guest")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}

// awaitBusy waits until the function has said that it is at work.
func awaitBusy(t *testing.T, p *process) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !strings.Contains(p.stderr.String(), "slow is at work"); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the function did not get the record\n%s", p.stderr.String())
		}
	}
}

func readObjects(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		all.Write(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// TestTermWhileClientsWait: connections that are idle, silent, or in the middle of a request do not
// keep a host from ending in peace, nor for long.
func TestTermWhileClientsWait(t *testing.T) {
	t.Parallel()
	p := startHost(t, "", os.Environ(), "--listen", "127.0.0.1:0", "--data", filepath.Join(t.TempDir(), "data"))
	if _, err := http.Get(p.url + "/_shardmill/health"); err != nil { // leaves its connection open
		t.Fatal(err)
	}
	for _, text := range []string{"", "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-amz-json-1.1\r\nX-Amz-Target: Kinesis_20131202.ListStreams\r\nContent-Length: 100\r\n\r\n{"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d, want 0\n%s", code, p.stderr.String())
	}
	took := time.Since(start)
	t.Logf("ended after %d ms", took.Milliseconds())
	if took > 10*time.Second {
		t.Errorf("the host took %s to end", took)
	}
}

// TestTermWhileStarting: a host that is told to stop before it is ready ends in peace, too.
func TestTermWhileStarting(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	plugins := filepath.Join(data, "plugins")
	if err := os.MkdirAll(plugins, 0o700); err != nil {
		t.Fatal(err)
	}
	begun := filepath.Join(t.TempDir(), "begun")
	script := "#!/bin/sh\n: > " + begun + "\nexec sleep 1000\n" // never asks for an event
	if err := os.WriteFile(filepath.Join(plugins, "late"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	var stdout, stderr lockedBuffer
	cmd := exec.Command(os.Args[0], "serve", "--listen", "127.0.0.1:0", "--data", data)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), asCommand+"=1"), &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill() // whatever has gone wrong
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
		if _, err := os.Stat(begun); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the function was not started\n%s", stderr.String())
		}
	}
	start := time.Now()
	cmd.Process.Signal(unix.SIGTERM)
	if err := cmd.Wait(); err != nil || stdout.String() != "" {
		t.Errorf("%v, stdout %q; want exit code 0 and no ready line\n%s", err, stdout.String(), stderr.String())
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("the host took %s to end", took)
	}
}

// TestQuickstartInterrupted: Ctrl-C at any moment ends it with exit code 130 and leaves nothing.
func TestQuickstartInterrupted(t *testing.T) {
	t.Parallel()
	tmp := t.TempDir()
	moments := []string{"host ", "function    severity", "stream ", "delivery    by-region"}
	if testing.Short() {
		moments = moments[:1]
	}
	for _, line := range moments {
		if _, err := exec.LookPath("go"); err != nil && line != "host " {
			t.Skip("needs the go tool, to build the example handler")
		}
		cmd := exec.Command(os.Args[0], "quickstart")
		cmd.Env = append(os.Environ(), asCommand+"=1", "TMPDIR="+tmp)
		var stderr lockedBuffer
		cmd.Stderr = &stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for lines := bufio.NewScanner(out); lines.Scan() && !strings.HasPrefix(lines.Text(), line); {
		}
		cmd.Process.Signal(os.Interrupt)
		io.Copy(io.Discard, out)
		cmd.Wait() // its error is the exit code
		if code := cmd.ProcessState.ExitCode(); code != 130 || stderr.String() != "shardmill: interrupted\n" {
			t.Errorf("after the line %q: exit code %d, want 130; stderr %q", line, code, stderr.String())
		}
		if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
			t.Errorf("after the line %q: left behind %v, %v", line, left, err)
		}
	}
}

// TestHealthOfAFencedJournal: a host whose disk does not take records any more says so, and does
// not acknowledge any. What it acknowledged before is there after a restart.
func TestHealthOfAFencedJournal(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	p := startHost(t, "", os.Environ(), "--listen", "127.0.0.1:0", "--data", data)
	api := client{url: p.url}
	put := func(text string) error {
		return api.call(t.Context(), kinesisTarget+"PutRecord", object{"StreamName": "s", "PartitionKey": "k", "Data": []byte(text)}, nil)
	}
	if err := api.call(t.Context(), kinesisTarget+"CreateStream", object{"StreamName": "s", "ShardCount": 1}, nil); err != nil {
		t.Fatal(err)
	}
	if err := put("kept"); err != nil {
		t.Fatal(err)
	}
	if status, h := healthOf(t, p); status != http.StatusOK || h.Status != "ready" {
		t.Fatalf("control: health is %d %+v before the fault, want 200 ready", status, h)
	}
	var old unix.Rlimit
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 1, Max: unix.RLIM_INFINITY}, &old); err != nil {
		t.Skip("needs prlimit, to make writes fail:", err)
	}
	if err := put("lost"); err == nil {
		t.Fatal("a record was acknowledged that cannot have been written")
	}
	status, h := healthOf(t, p)
	if status != http.StatusServiceUnavailable || h.Status != "failing" || h.Checks["streams"] == "ok" || h.Checks["streams"] == "" {
		t.Errorf("health is %d %+v, want 503 failing with the reason at streams", status, h)
	}
	t.Logf("streams: %s", h.Checks["streams"])
	if err := unix.Prlimit(p.cmd.Process.Pid, unix.RLIMIT_FSIZE, &old, nil); err != nil {
		t.Fatal(err)
	}
	if err := put("lost as well"); err == nil {
		t.Error("a fenced journal took a record")
	}
	p.stop()

	p = startHost(t, "", os.Environ(), "--listen", "127.0.0.1:0", "--data", data)
	if status, h := healthOf(t, p); status != http.StatusOK {
		t.Errorf("health is %d %+v after a restart, want 200", status, h)
	}
	api.url = p.url
	var it struct{ ShardIterator string }
	var got struct{ Records []struct{ Data []byte } }
	if err := api.call(t.Context(), kinesisTarget+"GetShardIterator", object{"StreamName": "s", "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"}, &it); err != nil {
		t.Fatal(err)
	}
	if err := api.call(t.Context(), kinesisTarget+"GetRecords", object{"ShardIterator": it.ShardIterator}, &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Records) != 1 || string(got.Records[0].Data) != "kept" {
		t.Errorf("after a restart: %q, want the one record that was acknowledged", got.Records)
	}
	if code := p.stop(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

type healthAnswer struct {
	Status  string            `json:"status"`
	Checks  map[string]string `json:"checks"`
	Version string            `json:"version"`
}

func healthOf(t *testing.T, p *process) (int, healthAnswer) {
	t.Helper()
	res, err := http.Get(p.url + "/_shardmill/health")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var h healthAnswer
	d := json.NewDecoder(res.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&h); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, h
}

// TestWeight tells what an empty host costs. The bounds are wide, because the machine may be busy;
// the numbers to look at are in the log (go test -run Weight -v), and the test binary, which acts
// as the host here, is heavier than the command.
func TestWeight(t *testing.T) {
	dir := t.TempDir()
	for _, what := range []string{"a new data folder", "an existing data folder"} {
		p := startHost(t, "", os.Environ(), "--listen", "127.0.0.1:0", "--data", filepath.Join(dir, "data"), "--log-level", "error")
		if status, h := healthOf(t, p); status != http.StatusOK {
			t.Fatalf("health is %d %+v", status, h)
		}
		rss := memory(t, p)
		t.Logf("%s: ready %d ms after the start of the process, %d KB resident", what, p.took.Milliseconds(), rss)
		if p.took > time.Second {
			t.Errorf("%s: ready after %s, want less than 1 s", what, p.took)
		}
		if rss > 128<<10 { // the race detector doubles it
			t.Errorf("%s: %d KB resident, want less than 128 MB", what, rss)
		}
		if code := p.stop(); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
	}
}

// memory is a process's resident set in KB.
func memory(t *testing.T, p *process) (kb int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skip("needs /proc, to read a process's memory:", err)
	}
	_, after, _ := strings.Cut(string(text), "VmRSS:")
	if _, err := fmt.Sscan(after, &kb); err != nil {
		t.Fatal(err)
	}
	return kb
}
