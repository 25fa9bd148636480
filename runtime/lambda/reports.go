package lambda

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shardmill/shardmill/runtime"
)

// The service's own log lines of an invocation, in its words and formats (as its
// CloudWatch logs show them).

// opening is the line before everything that a handler writes.
func opening(requestID string) string { return "START RequestId: " + requestID + " Version: " + latest }

// closing are the lines after everything that a handler wrote before its answer. What went wrong
// beyond the handler's own error comes first.
func closing(inv *invocation, memory int64, now time.Time) []string {
	res := &inv.result
	var lines []string
	status := ""
	switch {
	case res.ErrorType == runtime.ErrorTimedOut:
		_, message, _ := strings.Cut(documentMessage(res.Payload), "Error: ")
		lines = append(lines, now.UTC().Format("2006-01-02T15:04:05.000Z")+" "+inv.RequestID+" "+message)
		status = "\tStatus: timeout"
	case res.ErrorType == runtime.ErrorExit, res.ErrorType == errorExtension:
		lines = append(lines, documentMessage(res.Payload), res.ErrorType)
		status = "\tStatus: error\tError Type: " + res.ErrorType
	}
	ms := float64(res.Duration) / float64(time.Millisecond)
	report := fmt.Sprintf("REPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %.0f ms\tMemory Size: %d MB\tMax Memory Used: %d MB",
		inv.RequestID, ms, math.Ceil(ms), memory>>20, (res.MaxMemory+1<<20-1)>>20)
	if res.Init > 0 {
		report += fmt.Sprintf("\tInit Duration: %.2f ms", float64(res.Init)/float64(time.Millisecond))
	}
	return append(lines, "END RequestId: "+inv.RequestID, report+status)
}

// report writes the closing lines of an invocation to the log.
func (e *environment) report(inv *invocation) {
	if e.fn.opts.Events.Platform != nil {
		e.logs.platform(closing(inv, e.fn.limits.Memory, time.Now())...)
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
