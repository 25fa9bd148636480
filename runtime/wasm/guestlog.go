package wasm

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// Log lines an environment may write: logBurst at once, logRate a second after that. The rest is
// counted and dropped, so that a flood costs the host only the reading.
const (
	logBurst = 1000
	logRate  = 100
)

// guestLog is the reading end of a worker's log (worker_log.go has its form). The worker is not
// trusted: ids only choose between the last two invocations' request ids.
type guestLog struct {
	function    string
	emit        func(function, requestID, line string)
	outOfMemory atomic.Bool // the worker's Go runtime said so

	mu     sync.Mutex
	recent [2]struct {
		id        uint64
		requestID string
	}

	tokens  float64
	filled  time.Time
	dropped int
}

func newGuestLog(function string, emit func(function, requestID, line string)) *guestLog {
	return &guestLog{function: function, emit: emit, tokens: logBurst, filled: time.Now()}
}

// begin tells which request an invocation id stands for.
func (g *guestLog) begin(id uint64, requestID string) {
	g.mu.Lock()
	g.recent[1] = g.recent[0]
	g.recent[0].id, g.recent[0].requestID = id, requestID
	g.mu.Unlock()
}

func (g *guestLog) requestID(id uint64) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.recent {
		if r.id == id {
			return r.requestID
		}
	}
	return ""
}

// drain reads until the worker is gone. It must never stop earlier: a full pipe would stop the
// guest.
func (g *guestLog) drain(r io.Reader) {
	in := bufio.NewReaderSize(r, 8<<10)
	for {
		line, err := in.ReadSlice('\n')
		if len(line) > 0 {
			g.line(bytes.TrimSuffix(line, []byte{'\n'}))
		}
		for err == bufio.ErrBufferFull { // the rest of an overlong line
			_, err = in.ReadSlice('\n')
		}
		if err != nil {
			break
		}
	}
	g.reportDropped()
}

func (g *guestLog) line(raw []byte) {
	var id uint64
	text := raw
	if len(raw) > 0 && raw[0] == logMark {
		number, rest, _ := bytes.Cut(raw[1:], []byte{' '})
		id, _ = strconv.ParseUint(string(number), 10, 64)
		text = rest
	} else if bytes.Contains(raw, []byte("out of memory")) || bytes.Contains(raw, []byte("cannot allocate memory")) {
		g.outOfMemory.Store(true)
	}
	if g.emit == nil || !g.allow() {
		return
	}
	g.reportDropped()
	g.emit(g.function, g.requestID(id), printable(text, maxLine+8, false))
}

func (g *guestLog) allow() bool {
	now := time.Now()
	g.tokens = min(logBurst, g.tokens+now.Sub(g.filled).Seconds()*logRate)
	g.filled = now
	if g.tokens < 1 {
		g.dropped++
		return false
	}
	g.tokens--
	return true
}

func (g *guestLog) reportDropped() {
	if g.dropped > 0 {
		g.emit(g.function, "", fmt.Sprintf("%d log lines were dropped: an environment may write %d at once and %d a second", g.dropped, logBurst, logRate))
		g.dropped = 0
	}
}
