package lambda

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/shardmill/shardmill/runtime"
)

// report writes the closing lines of an invocation to the log.
func (e *environment) report(inv *invocation) {
	if e.fn.opts.Events.Platform != nil {
		e.logs.platform(runtime.EndLines(inv.RequestID, &inv.result, e.fn.limits.Memory, time.Now())...)
	}
}

// meter follows the memory of a process.
type meter struct {
	pid int // set before the process can be asked about

	mu      sync.Mutex
	looked  time.Time
	highest int64 // bytes resident at most
	private int64 // bytes resident that are not of files, when last looked at
}

// meterInterval is how old a reading may be: one takes some 20 µs, a good part of a small invocation.
const meterInterval = 100 * time.Millisecond

// peak is what the process had resident at most.
func (m *meter) peak() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.look()
	return m.highest
}

// over says that the process has grown beyond limit, or "". Pages of files do not count: they are
// shared with others, and the kernel takes them back when it needs them.
func (m *meter) over(limit int64) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.look()
	if m.private <= limit {
		return ""
	}
	return fmt.Sprintf("memory: %d MB in use after an invocation, over the limit of %d", m.private>>20, limit>>20)
}

func (m *meter) look() {
	now := time.Now()
	if m.pid == 0 || now.Sub(m.looked) < meterInterval {
		return
	}
	m.looked = now
	status, err := os.ReadFile("/proc/" + strconv.Itoa(m.pid) + "/status")
	if err != nil {
		return // it has just ended
	}
	m.highest = max(m.highest, kilobytes(status, "VmHWM:"))
	m.private = kilobytes(status, "RssAnon:")
}

// ended takes the kernel's last word on a process.
func (m *meter) ended(st *os.ProcessState) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.highest = max(m.highest, maxResident(st))
	m.pid = 0
}

// kilobytes finds a line such as "VmHWM:	  1234 kB" and returns bytes.
func kilobytes(status []byte, name string) int64 {
	_, rest, _ := bytes.Cut(status, []byte("\n"+name))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) == 0 {
		return 0
	}
	n, _ := strconv.ParseInt(string(fields[0]), 10, 64)
	return n << 10
}
