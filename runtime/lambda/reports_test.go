package lambda

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shardmill/shardmill/runtime"
)

// journal is all lines of a function in order, the service's own marked by "> ".
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) events() runtime.Events {
	add := func(mark string) func(function, id, line string) {
		return func(_, id, line string) {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.lines = append(j.lines, mark+id+": "+line)
		}
	}
	return runtime.Events{Log: add(""), Platform: add("> ")}
}

// Numbers and times differ; all else is exact.
func TestTheServicesOwnLines(t *testing.T) {
	var j journal
	f, err := New(Options{Dir: t.TempDir(), Events: j.events()}).Load(t.Context(), artifact(root(t), nil), runtime.Limits{Concurrency: 1, Memory: 256 << 20, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	invoke(t, f, "r-1", `{"do":"log","text":"mine"}`)
	invoke(t, f, "r-2", `{"do":"error","text":"boom"}`)
	invoke(t, f, "r-3", `{"do":"exit","n":3}`)
	invoke(t, f, "r-4", `{"do":"sleep","n":5000}`)
	f.Close()
	const report = `\tDuration: \d+\.\d\d ms\tBilled Duration: \d+ ms\tMemory Size: 256 MB\tMax Memory Used: [1-9]\d* MB`
	const init = `\tInit Duration: \d+\.\d\d ms`
	want := []string{
		`> r-1: START RequestId: r-1 Version: \$LATEST`, `r-1: mine`, `> r-1: END RequestId: r-1`, `> r-1: REPORT RequestId: r-1` + report + init,
		`> r-2: START RequestId: r-2 Version: \$LATEST`, `r-2: .* {"errorMessage":"boom","errorType":"errorString"}`, `> r-2: END RequestId: r-2`, `> r-2: REPORT RequestId: r-2` + report,
		`> r-3: START RequestId: r-3 Version: \$LATEST`, `> r-3: RequestId: r-3 Error: Runtime exited with error: exit status 3`, `> r-3: Runtime\.ExitError`,
		`> r-3: END RequestId: r-3`, `> r-3: REPORT RequestId: r-3` + report + `\tStatus: error\tError Type: Runtime\.ExitError`,
		`> r-4: START RequestId: r-4 Version: \$LATEST`, `> r-4: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z r-4 Task timed out after 1\.00 seconds`,
		`> r-4: END RequestId: r-4`, `> r-4: REPORT RequestId: r-4` + report + init + `\tStatus: timeout`,
	}
	if len(j.lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(j.lines), len(want), strings.Join(j.lines, "\n"))
	}
	for i := range want {
		if !regexp.MustCompile("^" + want[i] + "$").MatchString(j.lines[i]) {
			t.Errorf("line %q\nwant %s", j.lines[i], want[i])
		}
	}
}

// A process that has grown over the limit is replaced after its answer; what it answered is good.
func TestAGrownProcessIsReplaced(t *testing.T) {
	var rec recorder
	f := nodeHandler(t, &rec, "", map[string]string{"index.js": `
const kept = [];
exports.handler = async (event) => { for (let i = 0; i < event.mb; i++) kept.push(Buffer.alloc(1 << 20, 'x')); await new Promise((r) => setTimeout(r, 150)); return process.pid; }`},
		func(_ *runtime.Artifact, l *runtime.Limits) { l.Memory = 128 << 20 })
	small := number(t, f, `{"mb":1}`)
	if again := number(t, f, `{"mb":200}`); again != small {
		t.Fatalf("process %d was replaced by %d without a reason", small, again)
	}
	rec.wait(t, "the end", func() bool {
		return slices.ContainsFunc(rec.ends, func(r string) bool {
			return regexp.MustCompile(`^memory: \d+ MB in use after an invocation, over the limit of 128$`).MatchString(r)
		})
	})
	if next := number(t, f, `{"mb":1}`); next == small {
		t.Error("the grown process served on")
	}
}

func TestMemoryIsReadFromTheKernel(t *testing.T) {
	status := []byte("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nRssAnon:\t     512 kB\n")
	if a, b, c := kilobytes(status, "VmHWM:"), kilobytes(status, "RssAnon:"), kilobytes(status, "RssNone:"); a != 2<<20 || b != 512<<10 || c != 0 {
		t.Errorf("%d, %d, %d", a, b, c)
	}
}
