package awsapi

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
)

func TestBuffersHaveRoom(t *testing.T) {
	for _, size := range []int{0, 1, 4 << 10, 4<<10 + 1, 1 << 20, maxBody, maxBody + 1} {
		b := takeBuffer(size)
		if len(b) != 0 || cap(b) < size {
			t.Errorf("a buffer of %d bytes has length %d and capacity %d", size, len(b), cap(b))
		}
		putBuffer(b)
		putBuffer(b[: 0 : cap(b)/2]) // of no class, or of a smaller one: of no harm
	}
	putBuffer(nil)
	dst := append(takeBuffer(0), "answer"...)
	if same := Room(dst, 10); &same[0] != &dst[0] || string(same) != "answer" {
		t.Error("a buffer with room was replaced")
	}
	if larger := Room(dst, 1<<20); string(larger) != "answer" || cap(larger)-len(larger) < 1<<20 {
		t.Errorf("with room for more: %q of capacity %d", larger, cap(larger))
	}
}

// TestBodiesOfAnyLength: told in advance or not, in one piece or in many, a body comes as it was sent.
func TestBodiesOfAnyLength(t *testing.T) {
	m := NewMux(Options{}, &Service{Target: "T", Ops: []Op{Raw("Copy", func(_ context.Context, body, dst []byte) ([]byte, error) {
		return append(Room(dst, len(body)), body...), nil
	})}})
	for _, size := range []int{1, 4095, 4096, 4097, 64 << 10, 100_000, 1<<20 + 1, maxBody} {
		sent := make([]byte, size)
		rand.NewChaCha8([32]byte{}).Read(sent)
		for name, body := range map[string]io.Reader{
			"length known":   bytes.NewReader(sent), // httptest tells it
			"length unknown": io.MultiReader(bytes.NewReader(sent)),
			"halves":         iotest.HalfReader(bytes.NewReader(sent)),
			"end with data":  iotest.DataErrReader(bytes.NewReader(sent)),
		} {
			r := httptest.NewRequest("POST", "/", body)
			r.Header.Set("Content-Type", typeJSON)
			r.Header.Set("X-Amz-Target", "T.Copy")
			w := httptest.NewRecorder()
			if m.ServeHTTP(w, r); w.Code != http.StatusOK || !bytes.Equal(w.Body.Bytes(), sent) {
				t.Errorf("%d bytes, %s: %d, %d bytes came back", size, name, w.Code, w.Body.Len())
			}
		}
	}
}

// TestBodiesThatEndEarly are no requests, and neither are those that are too long.
func TestBodiesThatEndEarly(t *testing.T) {
	m := newTestMux(Options{})
	for _, c := range []struct {
		name   string
		length int64
		body   io.Reader
		status int
	}{
		{"shorter than told", 100, strings.NewReader(`{"Text":"x"}`), http.StatusBadRequest},
		{"broken off, length unknown", -1, io.MultiReader(strings.NewReader(`{"Te`), iotest.ErrReader(errors.New("reset"))), http.StatusBadRequest},
		{"too long, length unknown", -1, io.LimitReader(endless{}, maxBody+1), http.StatusRequestEntityTooLarge},
	} {
		r := httptest.NewRequest("POST", "/", c.body)
		r.ContentLength = c.length
		r.Header.Set("Content-Type", typeJSON)
		r.Header.Set("X-Amz-Target", "Test_20260101.Echo")
		w := httptest.NewRecorder()
		if m.ServeHTTP(w, r); w.Code != c.status {
			t.Errorf("%s: %d %s, want %d", c.name, w.Code, w.Body, c.status)
		}
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
