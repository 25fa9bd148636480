package lambda

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxLine    = 256 << 10 // bytes of one log line, the service's own limit; longer ones are split
	queueLines = 256       // lines that may wait for a slow Events.Log
	queueBytes = 1 << 20   // bytes that may
	tailLines  = 10        // last lines kept for the error of a failed start
	tailBytes  = 1 << 10   // bytes kept of each of them
	// drainLimit bounds the wait for what a dead process left in pipes and sockets. Only a child
	// that left the process group, and so outlived it, can hold those open.
	drainLimit = 500 * time.Millisecond
)

// capture turns what a process writes to stdout and stderr into log lines, each tagged with the
// request that was current when it was written. The process never waits for a reader of logs: the
// pipe is always drained, and lines that nobody takes in time are counted and dropped.
type capture struct {
	r    *os.File
	raw  syscall.RawConn
	sink sink // nil: nobody listens

	queue   chan logLine
	queued  atomic.Int64  // bytes in queue
	dropped atomic.Int64  // lines that found no room in queue
	stop    atomic.Bool   // the pipe is given up, whatever may still come
	read    chan struct{} // closed when the pipe is at its end
	told    chan struct{} // closed when the sink has got the last line

	mu      sync.Mutex // held for one read and its processing: a holder sees no half-taken data
	buf     []byte
	partial []byte // a line without its end
	request string
	tail    []string
	ended   bool // queue is closed
}

// sink takes a line; platform says that it is the service's own and not the handler's.
type sink func(requestID, line string, platform bool)

// sink is where the lines of a function go, nil when nobody listens.
func (f *function) sink() sink {
	name, on := f.artifact.Name, f.opts.Events
	if on.Log == nil && on.Platform == nil {
		return nil
	}
	return func(requestID, line string, platform bool) {
		to := on.Log
		if platform {
			to = on.Platform
		}
		if to != nil {
			to(name, requestID, line)
		}
	}
}

type logLine struct {
	request, text string
	platform      bool
}

// newCapture returns a capture and the pipe's end to give to the process; the caller closes that.
func newCapture(sink sink) (*capture, *os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	raw, err := r.SyscallConn()
	if err != nil {
		r.Close()
		w.Close()
		return nil, nil, err
	}
	c := &capture{r: r, raw: raw, sink: sink, queue: make(chan logLine, queueLines),
		read: make(chan struct{}), told: make(chan struct{}), buf: make([]byte, 64<<10)}
	go c.drain()
	go c.deliver()
	return c, w, nil
}

func (c *capture) drain() {
	defer close(c.read)
	c.raw.Read(func(fd uintptr) bool {
		for {
			c.mu.Lock()
			n, err := c.takeLocked(int(fd))
			c.mu.Unlock()
			if n == 0 {
				return !errors.Is(err, syscall.EAGAIN) // true, at the pipe's end, ends Read
			}
			if c.stop.Load() {
				return true
			}
		}
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flush()
}

// takeLocked reads and processes what is there, at most a buffer full. It is 0 and nil at the
// pipe's end, 0 and EAGAIN when the pipe is empty.
func (c *capture) takeLocked(fd int) (int, error) {
	for {
		n, err := syscall.Read(fd, c.buf)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if n <= 0 {
			return 0, err
		}
		c.lines(c.buf[:n])
		return n, nil
	}
}

// setRequest gives all that was written so far to the previous request and tags what follows
// with id. It takes at most a pipe's capacity, so a flood cannot hold it up.
func (c *capture) setRequest(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.catchUpLocked()
	c.request = id
}

// platform writes lines of the service's own behind what the process has written so far.
func (c *capture) platform(lines ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.catchUpLocked()
	for _, l := range lines {
		c.tell(l, true)
	}
}

// catchUp takes what the process has written so far.
func (c *capture) catchUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.catchUpLocked()
}

func (c *capture) catchUpLocked() {
	c.raw.Control(func(fd uintptr) {
		for taken := 0; taken < len(c.buf); {
			n, _ := c.takeLocked(int(fd))
			if n == 0 {
				return
			}
			taken += n
		}
	})
	c.flush()
}

// lines splits data into lines; the caller holds mu.
func (c *capture) lines(data []byte) {
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		text := data
		if end >= 0 {
			text = data[:end]
		}
		if room := maxLine - len(c.partial); len(text) > room {
			c.partial = append(c.partial, text[:room]...)
			data = data[room:]
			c.emit()
			continue
		}
		c.partial = append(c.partial, text...)
		if end < 0 {
			return
		}
		data = data[end+1:]
		c.emit()
	}
}

// flush emits a line that has no end yet; the caller holds mu.
func (c *capture) flush() {
	if len(c.partial) > 0 {
		c.emit()
	}
}

func (c *capture) emit() {
	text := printable(bytes.TrimSuffix(c.partial, []byte("\r")))
	c.partial = c.partial[:0]
	if text != "" {
		if len(c.tail) == tailLines {
			c.tail = append(c.tail[:0], c.tail[1:]...)
		}
		c.tail = append(c.tail, strings.Clone(strings.ToValidUTF8(text[:min(len(text), tailBytes)], "")))
	}
	c.tell(text, false)
}

// tell queues a line, or counts it as dropped.
func (c *capture) tell(text string, platform bool) {
	if c.sink != nil && !c.ended && !c.offer(text, platform) {
		c.dropped.Add(1)
	}
}

func (c *capture) offer(text string, platform bool) bool {
	if c.queued.Load()+int64(len(text)) > queueBytes {
		return false
	}
	select {
	case c.queue <- logLine{c.request, text, platform}:
		c.queued.Add(int64(len(text)))
		return true
	default:
		return false
	}
}

func (c *capture) deliver() {
	defer close(c.told)
	for l := range c.queue {
		c.queued.Add(-int64(len(l.text)))
		c.sink(l.request, l.text, l.platform)
		// A line is dropped only while others wait, so after the last one the count is complete.
		if n := c.dropped.Swap(0); n > 0 {
			c.sink(l.request, fmt.Sprintf("[shardmill: %d log lines dropped, they came faster than they were taken]", n), false)
		}
	}
}

// finish is called when the process has ended. It returns when every line is told, at the latest
// after drainLimit for each of pipe and sink.
func (c *capture) finish() {
	select {
	case <-c.read:
	case <-time.After(drainLimit):
	}
	c.stop.Store(true)
	c.r.Close()
	<-c.read
	c.mu.Lock()
	c.ended = true
	close(c.queue)
	c.mu.Unlock()
	select {
	case <-c.told:
	case <-time.After(drainLimit):
	}
}

// lastLines is the end of the output, for the error of a start that failed.
func (c *capture) lastLines() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.tail, " | ")
}

// printable is line with everything that could steer a terminal or is no text written out as Go
// escapes. Tabs stay.
func printable(line []byte) string {
	clean := true
	for _, b := range line {
		if (b < ' ' && b != '\t') || b >= 0x7f {
			clean = false
			break
		}
	}
	if clean {
		return string(line)
	}
	var out strings.Builder
	out.Grow(len(line) + 16)
	for len(line) > 0 {
		r, n := utf8.DecodeRune(line)
		switch {
		case r == '\t' || r != utf8.RuneError && unicode.IsPrint(r):
			out.Write(line[:n])
		case n == 1: // a control character or a byte that is not UTF-8
			fmt.Fprintf(&out, `\x%02x`, line[0])
		case r == utf8.RuneError:
			out.Write(line[:n])
		case r > 0xffff:
			fmt.Fprintf(&out, `\U%08x`, r)
		default:
			fmt.Fprintf(&out, `\u%04x`, r)
		}
		line = line[n:]
	}
	return out.String()
}
