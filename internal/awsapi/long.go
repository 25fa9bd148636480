package awsapi

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Long is an answer that may be too long to be held in memory for every client that waits for one,
// such as 10 MiB of records. Its length is known before it is written.
type Long struct {
	Size int // bytes in all
	// Next appends the next part of the answer to dst and returns it, some PieceSize bytes. It is not
	// called again when Size bytes have come.
	Next func(dst []byte) []byte
	// Done is called when Next will not be called any more, also where the client has gone away.
	Done func()
}

// PieceSize is how much of a Long is made at a time: small enough to stay in a processor's cache
// until it is sent, large enough that the system call is no cost.
const PieceSize = 128 << 10

// RawLong makes an operation like Raw whose answer is written in pieces. Its error is an ordinary
// answer; once it has returned a Long nothing can be refused any more.
func RawLong(name string, fn func(ctx context.Context, body []byte) (*Long, error)) Op {
	return Op{Name: name, long: fn}
}

// runLong calls an operation and writes its answer piece by piece. done is as that of run.
func (m *Mux) runLong(w http.ResponseWriter, r *http.Request, caller Caller, t target, body []byte) (done bool) {
	begun := time.Now()
	var answer *Long
	err := guard(t.op.Name, func() (err error) {
		answer, err = t.op.long(WithCaller(r.Context(), caller), body)
		return err
	})
	if err != nil {
		return m.finish(t, m.refuse(w, caller, t, err), err)
	}
	defer answer.Done()
	if answer.Size > PieceSize {
		holdHead(r.Context(), headDelay-time.Since(begun))
	}
	w.Header().Set("Content-Type", caller.Wire.contentType())
	w.Header().Set("Content-Length", strconv.Itoa(answer.Size))
	err = guard(t.op.Name, func() error { return answer.writeTo(w) })
	done = m.finish(t, "", err)
	if err == nil {
		return done
	}
	if m.opts.Failed != nil {
		m.opts.Failed(caller.RequestID, t.op.Name, err)
	}
	panic(http.ErrAbortHandler) // breaks the answer off, so that no client takes it for whole
}

// writeTo writes the answer. Its error is a fault of the operation, whose answer is shorter or longer
// than it told.
func (l *Long) writeTo(w http.ResponseWriter) error {
	const room = 2 * PieceSize // for the last record of a piece
	buf := takeBuffer(min(l.Size, room))
	for left := l.Size; left > 0; {
		piece := l.Next(buf[:0])
		if len(piece) == 0 || len(piece) > left {
			return fmt.Errorf("an answer of %d bytes came to a piece of %d when %d were left", l.Size, len(piece), left)
		}
		left -= len(piece)
		if _, lost := w.Write(piece); lost != nil {
			return nil // the buffer may still be on its way, see run
		}
		if cap(piece) > cap(buf) {
			putBuffer(buf)
			buf = piece
		}
	}
	putBuffer(buf)
	return nil
}
