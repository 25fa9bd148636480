package functionlog

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

func newStore(t *testing.T, size int64) *Store {
	t.Helper()
	s, err := open(filepath.Join(t.TempDir(), "logs"), size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

var stamp = regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\t`)

// text is a log's last n lines without their times.
func text(t *testing.T, s *Store, function string, n int) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Copy(t.Context(), function, n, false, &b); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(b.String(), "\n"); lines != len(stamp.FindAllString(b.String(), -1)) {
		t.Fatalf("a line without a time in %q", b.String())
	}
	return stamp.ReplaceAllString(b.String(), "")
}

// settle waits until what was written is on the disk.
func settle(t *testing.T, s *Store, function string) {
	t.Helper()
	l := s.log(function)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		idle := !l.queued
		l.mu.Unlock()
		if idle {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the log does not come to rest")
		}
	}
}

func TestLinesAreKept(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.Write("f", "", "loading")
	s.Write("f", "r-1", "one\ttab")
	s.Write("g", "r-2", "other")
	s.Write("../f", "r-3", "nowhere")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(dir); err != nil { // after a restart
		t.Fatal(err)
	}
	defer s.Close()
	s.Write("f", "r-4", "two")
	settle(t, s, "f")
	if got, want := text(t, s, "f", 100), "-\tloading\nr-1\tone\ttab\nr-4\ttwo\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := text(t, s, "f", 1); got != "r-4\ttwo\n" {
		t.Errorf("the last line is %q", got)
	}
	if got := text(t, s, "f", 0) + text(t, s, "none", 9) + text(t, s, "..", 9); got != "" {
		t.Errorf("got %q, want nothing", got)
	}
	if !s.Has("f") || !s.Has("g") || s.Has("none") || s.Has("..") {
		t.Error("Has is wrong")
	}
	if list, _ := os.ReadDir(dir); len(list) != 2 {
		t.Errorf("the folder holds %v", list)
	}
	if info, _ := os.Stat(filepath.Join(dir, "f", currentName)); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
}

func TestTheDiskIsBounded(t *testing.T) {
	s := newStore(t, 10_000)
	for i := range 3000 {
		s.Write("f", "r", fmt.Sprint("line ", i))
		if i%100 == 0 {
			settle(t, s, "f")
		}
	}
	settle(t, s, "f")
	var sum int64
	for _, name := range []string{currentName, previousName} {
		info, err := os.Stat(filepath.Join(s.dir, "f", name))
		if err != nil {
			t.Fatal(err)
		}
		sum += info.Size()
	}
	if sum > 2*(10_000+5_000) {
		t.Errorf("%d bytes on the disk", sum)
	}
	lines := strings.Split(strings.TrimSpace(text(t, s, "f", 1<<30)), "\n")
	if lines[len(lines)-1] != "r\tline 2999" || len(lines) < 200 {
		t.Errorf("%d lines, the last %q", len(lines), lines[len(lines)-1])
	}
	for i, l := range lines { // without a gap, over both files
		if want := fmt.Sprint("r\tline ", 3000-len(lines)+i); l != want {
			t.Fatalf("line %q, want %q", l, want)
		}
	}
}

// A flood is dropped and counted: nothing waits, and nothing is lost without a word.
func TestAFloodIsDroppedAndCounted(t *testing.T) {
	s := newStore(t, 1<<40)
	l := s.log("f")
	l.file.Lock() // the disk hangs
	line := strings.Repeat("x", 1000)
	begun := time.Now()
	for range 10_000 {
		s.Write("f", "r", line)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("writing took %s while the disk hung", took)
	}
	l.file.Unlock()
	settle(t, s, "f")
	kept, dropped := account(t, s)
	if kept+dropped != 10_000 || kept == 0 || kept > 2100 {
		t.Errorf("%d lines kept and %d counted as dropped, want 10000 together, of which 1 to 2 MiB are kept", kept, dropped)
	}
}

// account sums up a log's lines: those that were kept and those that notices tell of.
func account(t *testing.T, s *Store) (kept, dropped int) {
	t.Helper()
	notice := regexp.MustCompile(`^-\t\[shardmill: (\d+) log lines dropped, (they came faster than they could be written|they could not be written: [a-z ]+)\]$`)
	for line := range strings.Lines(text(t, s, "f", 1<<30)) {
		if m := notice.FindStringSubmatch(strings.TrimSpace(line)); m != nil {
			n, _ := strconv.Atoi(m[1])
			dropped += n
		} else {
			kept++
		}
	}
	return kept, dropped
}

// While the folder cannot be written to, lines are counted; once it can, the log goes on.
func TestADiskThatTakesNothing(t *testing.T) {
	s := newStore(t, 1<<40)
	if err := os.WriteFile(filepath.Join(s.dir, "f"), nil, 0o600); err != nil { // a file where a folder must be
		t.Fatal(err)
	}
	for range 3 {
		s.Write("f", "r", "lost")
		settle(t, s, "f")
	}
	if err := os.Remove(filepath.Join(s.dir, "f")); err != nil {
		t.Fatal(err)
	}
	s.Write("f", "r", "kept")
	settle(t, s, "f")
	if got, want := text(t, s, "f", 9), "r\tkept\n-\t[shardmill: 3 log lines dropped, they could not be written: not a directory]\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFunctionsDoNotCostOneAnother(t *testing.T) {
	s := newStore(t, 1<<40)
	for range 100_000 {
		s.Write("flood", "r", strings.Repeat("x", 100))
	}
	s.Write("quiet", "r", "heard")
	settle(t, s, "quiet")
	if got := text(t, s, "quiet", 9); got != "r\theard\n" {
		t.Errorf("got %q", got)
	}
}

// watched is what a follower was given.
type watched struct {
	mu  sync.Mutex
	b   bytes.Buffer
	got chan struct{}
}

func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case w.got <- struct{}{}:
	default:
	}
	return w.b.Write(p)
}

func (w *watched) wait(t *testing.T, want string) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		w.mu.Lock()
		got := stamp.ReplaceAllString(w.b.String(), "")
		w.mu.Unlock()
		if got == want {
			return
		}
		select {
		case <-w.got:
		case <-deadline:
			t.Fatalf("got %d bytes: %.300q, want %d: %.300q", len(got), got, len(want), want)
		}
	}
}

func TestAFollowerGetsWhatComes(t *testing.T) {
	s := newStore(t, 10_000)
	ctx, cancel := context.WithCancel(t.Context())
	w := &watched{got: make(chan struct{}, 1)}
	ended := make(chan error)
	go func() { ended <- s.Copy(ctx, "f", 1, true, w) }() // there is no log yet
	s.Write("f", "r", "first")
	want := "r\tfirst\n"
	w.wait(t, want)
	for i := range 1000 { // over several files
		line := fmt.Sprint("line ", i)
		s.Write("f", "r", line)
		want += "r\t" + line + "\n"
		if i%100 == 99 {
			w.wait(t, want)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	go func() { ended <- s.Copy(t.Context(), "f", 1, true, &watched{got: make(chan struct{}, 1)}) }()
	s.Close()
	if err := <-ended; err != nil {
		t.Error("after the store's end:", err)
	}
}

func BenchmarkWrite(b *testing.B) {
	s, err := Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	line := strings.Repeat("x", 100)
	for b.Loop() {
		s.Write("f", "0b6c5e4e-2f6d-4d0e-9c0a-000000000000", line)
	}
}
