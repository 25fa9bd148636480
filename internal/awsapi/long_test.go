package awsapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/shardmill/shardmill/internal/errs"
)

// pieces is an operation whose answer is what its parts say, told to be size bytes long.
func pieces(name string, size int, done *atomic.Int32, parts ...string) Op {
	return RawLong(name, func(context.Context, []byte) (*Long, error) {
		at := 0
		return &Long{Size: size, Done: func() { done.Add(1) }, Next: func(dst []byte) []byte {
			at++
			return append(dst, parts[at-1]...)
		}}, nil
	})
}

// TestLongAnswers: an answer in pieces is an answer like any other; one that turns out to be of
// another length than it told, or that panics on the way, reaches no client as whole.
func TestLongAnswers(t *testing.T) {
	var done atomic.Int32
	failed := make(chan string, 10)
	big := strings.Repeat("x", 3*PieceSize)
	m := NewMux(Options{Failed: func(_, op string, err error) { failed <- fmt.Sprint(op, ": ", strings.SplitN(err.Error(), "\n", 2)[0]) }}, &Service{Target: "T",
		Errors: map[errs.Kind]string{errs.Invalid: "InvalidArgumentException"}, Ops: []Op{
			pieces("Two", 5, &done, "ab", "cde"),
			pieces("Big", len(big)+2, &done, "a", big, "b"),
			pieces("Empty", 0, &done),
			pieces("Short", 5, &done, "ab", ""),
			pieces("Over", 5, &done, "ab", "cdef"),
			pieces("Panic", 5, &done, "ab"), // no more parts
			RawLong("Refused", func(context.Context, []byte) (*Long, error) { return nil, errs.New(errs.Invalid, "No.") }),
			RawLong("Poison", func(context.Context, []byte) (*Long, error) { panic("poison") }),
		}})
	for _, http2 := range []bool{false, true} {
		call := clientOf(t, m, http2)
		for op, want := range map[string]string{"Two": "abcde", "Big": "a" + big + "b", "Empty": ""} {
			if status, body, err := call(op); status != 200 || body != want || err != nil {
				t.Errorf("HTTP/2 %t, %s: %d, %d bytes, %v; want %d bytes", http2, op, status, len(body), err, len(want))
			}
		}
		for op, want := range map[string]string{
			"Short": "Short: an answer of 5 bytes came to a piece of 0 when 3 were left",
			"Over":  "Over: an answer of 5 bytes came to a piece of 4 when 3 were left",
			"Panic": "Panic: panic in Panic: runtime error: index out of range [1] with length 1",
		} {
			if _, body, err := call(op); err == nil {
				t.Errorf("HTTP/2 %t, %s: the client takes %q for whole", http2, op, body)
			}
			if got := <-failed; got != want {
				t.Errorf("HTTP/2 %t, %s: told of %q, want %q", http2, op, got, want)
			}
		}
		if n := done.Swap(0); n != 6 {
			t.Errorf("HTTP/2 %t: %d of 6 answers were given back", http2, n)
		}
		if status, body, _ := call("Refused"); status != 400 || body != `{"__type":"InvalidArgumentException","message":"No."}` {
			t.Errorf("HTTP/2 %t, refused: %d %s", http2, status, body)
		}
		if status, _, _ := call("Poison"); status != 500 {
			t.Errorf("HTTP/2 %t, a panic before the answer: %d", http2, status)
		}
		<-failed
	}
}

// clientOf serves m and returns a function that calls an operation of it.
func clientOf(t *testing.T, m *Mux, http2 bool) func(op string) (int, string, error) {
	p := new(http.Protocols)
	p.SetHTTP1(!http2)
	p.SetUnencryptedHTTP2(http2)
	s := httptest.NewUnstartedServer(m)
	s.Config.Protocols = p
	s.Start()
	t.Cleanup(s.Close)
	tr := &http.Transport{Protocols: p}
	t.Cleanup(tr.CloseIdleConnections)
	return func(op string) (int, string, error) {
		r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL, strings.NewReader(`{}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", typeJSON)
		r.Header.Set("X-Amz-Target", "T."+op)
		res, err := tr.RoundTrip(r)
		if err != nil {
			return 0, "", err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		return res.StatusCode, string(body), err
	}
}

// TestLongAnswersToClientsThatAreGone: nothing more is made for them, and the buffer is not used again.
func TestLongAnswersToClientsThatAreGone(t *testing.T) {
	var done atomic.Int32
	m := NewMux(Options{Failed: func(_, _ string, err error) { t.Error(err) }}, &Service{Target: "T", Ops: []Op{pieces("Two", 5, &done, "ab")}})
	for range 3 {
		r := httptest.NewRequest("POST", "/", bytes.NewReader([]byte(`{}`)))
		r.Header.Set("Content-Type", typeJSON)
		r.Header.Set("X-Amz-Target", "T.Two")
		w := &keepingWriter{ResponseRecorder: httptest.NewRecorder()}
		if m.ServeHTTP(w, r); string(w.kept) != "ab" {
			t.Errorf("wrote %q", w.kept)
		}
		again := append(takeBuffer(5), "other"...)
		if string(w.kept) != "ab" {
			t.Errorf("what was being sent is overwritten: %q", w.kept)
		}
		putBuffer(again)
	}
	if n := done.Load(); n != 3 {
		t.Errorf("%d of 3 answers were given back", n)
	}
}

// keepingWriter fails, but holds on to what it was to write, as HTTP/2 may.
type keepingWriter struct {
	*httptest.ResponseRecorder
	kept []byte
}

func (w *keepingWriter) Write(b []byte) (int, error) {
	w.kept = b
	return 0, errors.New("stream reset")
}
