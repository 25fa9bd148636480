package plugins

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

// looker is a scanner with a clock of its own.
type looker struct {
	t   *testing.T
	s   *scanner
	now time.Time
}

func newLooker(t *testing.T) *looker {
	return &looker{t, newScanner(t.TempDir(), 300*time.Millisecond), time.Now()}
}

// settled looks after a pause and tells whether the entry was at rest then.
func (l *looker) settled(after time.Duration, name string) bool {
	l.t.Helper()
	l.now = l.now.Add(after)
	if err := l.s.observe(l.now); err != nil {
		l.t.Fatal(err)
	}
	return l.s.settled(l.s.entries[name])
}

// write writes a file whose modification time is the looker's.
func (l *looker) write(name, content string) {
	l.t.Helper()
	path := filepath.Join(l.s.dir, name)
	os.MkdirAll(filepath.Dir(path), 0o755)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		l.t.Fatal(err)
	}
	l.stamp(name, l.now)
	for dir := filepath.Dir(name); dir != "."; dir = filepath.Dir(dir) {
		l.stamp(dir, l.now)
	}
}

func (l *looker) stamp(name string, at time.Time) {
	l.t.Helper()
	if err := os.Chtimes(filepath.Join(l.s.dir, name), at, at); err != nil {
		l.t.Fatal(err)
	}
}

func TestAFileThatIsBeingWrittenIsNotAtRest(t *testing.T) {
	l := newLooker(t)
	for i := range 5 { // a copy that writes every 200 ms
		l.write("up.wasm", wasm(fmt.Sprint(i)))
		if l.settled(200*time.Millisecond, "up.wasm") {
			t.Fatalf("at rest while it was written, after write %d", i)
		}
	}
	if !l.settled(100*time.Millisecond, "up.wasm") {
		t.Error("not at rest 300 ms after the last write")
	}
}

func TestAFinishedFileThatIsRenamedIntoPlaceIsAtRestAtOnce(t *testing.T) {
	l := newLooker(t)
	l.write(".aside", wasm(""))
	l.stamp(".aside", l.now.Add(-time.Second))
	if err := os.Rename(filepath.Join(l.s.dir, ".aside"), filepath.Join(l.s.dir, "up.wasm")); err != nil {
		t.Fatal(err)
	}
	if !l.settled(0, "up.wasm") {
		t.Error("not at rest at the first look")
	}
}

func TestAFileFromTheFutureComesToRestToo(t *testing.T) {
	l := newLooker(t)
	l.write("up.wasm", wasm(""))
	l.stamp("up.wasm", l.now.Add(time.Hour)) // a file server with another clock
	if l.settled(0, "up.wasm") || l.settled(299*time.Millisecond, "up.wasm") {
		t.Error("at rest before 300 ms had passed")
	}
	if !l.settled(time.Millisecond, "up.wasm") {
		t.Error("not at rest after 300 ms")
	}
}

func TestAFolderIsAtRestWhenEverythingInItIs(t *testing.T) {
	l := newLooker(t)
	l.write("up/bootstrap", script)
	l.settled(0, "up")
	l.settled(time.Second, "up")
	before := l.s.entries["up"].print
	l.write("up/a/b/c", "x")
	if l.settled(299*time.Millisecond, "up") {
		t.Error("at rest while a file deep inside was new")
	}
	if l.s.entries["up"].print == before {
		t.Error("the fingerprint does not cover a file deep inside")
	}
	l.s.entries["up"].walk = 0 // however long it took
	if !l.settled(time.Millisecond, "up") {
		t.Error("not at rest after 300 ms")
	}
}

// Size and mtime can be set back to what they were; the change time cannot.
func TestAChangeThatHidesIsSeen(t *testing.T) {
	l := newLooker(t)
	past := l.now.Add(-time.Hour)
	l.write("up.wasm", wasm("1"))
	l.stamp("up.wasm", past)
	l.settled(0, "up.wasm")
	before := l.s.entries["up.wasm"].print
	l.write("up.wasm", wasm("2"))
	l.stamp("up.wasm", past)
	l.settled(time.Second, "up.wasm")
	if l.s.entries["up.wasm"].print == before {
		t.Error("a change of the same size and mtime went unseen")
	}
}

func TestALargeFolderIsNotWalkedAllTheTime(t *testing.T) {
	l := newLooker(t)
	l.write("up/bootstrap", script)
	l.settled(0, "up")
	e := l.s.entries["up"]
	e.walk = 50 * time.Millisecond // as if it had taken that long
	seen := e.seen
	l.settled(999*time.Millisecond, "up")
	if !e.seen.Equal(seen) {
		t.Error("walked again before 20 times what the walk took")
	}
	l.settled(time.Millisecond, "up")
	if e.seen.Equal(seen) {
		t.Error("not walked again after 20 times what the walk took")
	}
}

func TestADirectoryOfTooManyEntriesIsNotRead(t *testing.T) {
	s := newScanner(t.TempDir(), 0)
	if err := manyFiles(s.dir); err != nil {
		t.Fatal(err)
	}
	wantErr(t, s.observe(time.Now()), errs.Limit, "it has more than 10000 entries")
}
