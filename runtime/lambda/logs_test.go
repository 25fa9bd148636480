package lambda

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/shardmill/shardmill/runtime"
)

func TestLinesAreTaggedWithTheRequestThatWroteThem(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{Concurrency: 1}, nil)
	var want []string
	for i := range 50 {
		id := fmt.Sprintf("r-%d", i)
		invoke(t, f, id, fmt.Sprintf(`{"do":"log","text":"line of %s"}`, id))
		want = append(want, id+": line of "+id)
	}
	rec.wait(t, "50 lines", func() bool { return len(rec.lines) == 50 })
	for i := range want {
		if rec.lines[i] != want[i] {
			t.Errorf("got %q, want %q", rec.lines[i], want[i])
		}
	}
}

func TestLinesAfterTheAnswerBelongToTheLastRequest(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{}, nil)
	invoke(t, f, "r-1", `{"do":"background","n":50}`)
	rec.wait(t, "the line", func() bool { return len(rec.lines) == 1 })
	if rec.lines[0] != "r-1: background done" {
		t.Errorf("got %q", rec.lines)
	}
}

func TestEscapesAreWrittenOut(t *testing.T) {
	var rec recorder
	f := load(t, &rec, runtime.Limits{}, nil)
	invoke(t, f, "r-1", `{"do":"log","text":"\u001b[2J\u001b]0;owned\u0007 tab\t é 地 \u202e \u009b \r\nnext\r"}`)
	want := []string{`r-1: \x1b[2J\x1b]0;owned\x07 tab` + "\t" + ` é 地 \u202e \u009b `, "r-1: next"}
	rec.wait(t, "two lines", func() bool { return len(rec.lines) == 2 })
	if rec.lines[0] != want[0] || rec.lines[1] != want[1] {
		t.Errorf("got %q\nwant %q", rec.lines, want)
	}
}

func TestASlowLogReaderHoldsNoHandlerUp(t *testing.T) {
	open := make(chan struct{})
	before := make(chan int, 1) // lines told before the first notice
	count := 0
	events := runtime.Events{Log: func(_, _, line string) {
		<-open
		if strings.HasPrefix(line, "[shardmill: ") {
			select {
			case before <- count:
			default:
			}
		}
		count++
	}}
	f, err := New(Options{Dir: t.TempDir(), Events: events}).Load(t.Context(), artifact(root(t), nil), runtime.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	answer(t, f, `{"do":"flood","n":20000}`, `"flooded"`) // 20 MB
	answer(t, f, `{"do":"echo"}`, `{"do":"echo"}`)        // what is in the pipe is taken before
	close(open)
	if told := <-before; told > 2*queueLines {
		t.Errorf("%d lines were kept for a reader that took none", told)
	}
}

func TestALogFloodComesComplete(t *testing.T) {
	count := 0
	events := runtime.Events{Log: func(_, _, line string) {
		var n int
		if fmt.Sscanf(line, "[shardmill: %d log lines", &n); n > 0 {
			count += n
		} else {
			count++
		}
	}}
	f, err := New(Options{Dir: t.TempDir(), Events: events}).Load(t.Context(), artifact(root(t), nil), runtime.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	answer(t, f, `{"do":"flood","n":20000}`, `"flooded"`)
	f.Close() // tells the rest
	if count != 20000 {
		t.Errorf("%d lines told or counted as dropped, want 20000", count)
	}
}

// collect runs text through a capture as one request's output.
func collect(t testing.TB, text string) []string {
	t.Helper()
	var lines []string
	c, w, err := newCapture(func(_, line string, _ bool) { lines = append(lines, line) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString(text); err != nil {
		t.Fatal(err)
	}
	w.Close()
	c.finish()
	return lines
}

func TestLongLinesAreSplit(t *testing.T) {
	got := collect(t, strings.Repeat("a", maxLine)+"\n"+strings.Repeat("b", maxLine+1)+"\nc")
	var sizes []int
	for _, l := range got {
		sizes = append(sizes, len(l))
	}
	if want := fmt.Sprint([]int{maxLine, maxLine, 1, 1}); fmt.Sprint(sizes) != want {
		t.Errorf("lines of %v bytes, want %s", sizes, want)
	}
}

func TestAPipeHeldOpenIsGivenUp(t *testing.T) {
	c, w, err := newCapture(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close() // stays open while finish runs, as in the hands of a daemon
	begun := time.Now()
	c.finish()
	if took := time.Since(begun); took < drainLimit || took > 4*drainLimit {
		t.Errorf("finish took %v, want %v", took, drainLimit)
	}
}

func FuzzPrintable(f *testing.F) {
	for _, seed := range []string{"", "plain", "\x1b[31m", "\xff\xfe", "\u202e\u2028", "\t\r\x00\x7f", "\U0001F600\U000E0001", "\ufffd"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		got := printable(line)
		if !utf8.ValidString(got) || len(got) > 4*len(line) {
			t.Fatalf("%q became %q", line, got)
		}
		for _, r := range got {
			if r != '\t' && r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0x202e {
				t.Fatalf("%q became %q with %U", line, got, r)
			}
		}
	})
}
