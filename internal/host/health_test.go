package host

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func get(t *testing.T, url string) (status int, body string, header http.Header) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(b), res.Header
}

func health(status, streams, functions, deliveries string) string {
	version, err := json.Marshal(Version())
	if err != nil {
		panic(err) // a string always marshals
	}
	return fmt.Sprintf(`{"status":%q,"checks":{"deliveries":%q,"functions":%q,"streams":%q},"version":%s}`+"\n", status, deliveries, functions, streams, version)
}

// TestHealthWhileStarting: a function that takes its time to start keeps the host from being ready.
// Health is answered meanwhile and says what is missing; requests are refused with the advice to
// come again.
func TestHealthWhileStarting(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t)
	cfg.Listen = freeAddress(t)
	gate := filepath.Join(t.TempDir(), "gate")
	if err := syscall.Mkfifo(gate, 0o600); err != nil {
		t.Skip("needs named pipes:", err)
	}
	if err := os.MkdirAll(cfg.Plugins, 0o700); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nread line < " + gate + "\n" // then it exits, which is no function either
	if err := os.WriteFile(filepath.Join(cfg.Plugins, "late"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	opened := make(chan *Host)
	go func() {
		h, err := Open(t.Context(), cfg, zerolog.Nop(), Observer{})
		if err != nil {
			t.Error(err)
		}
		opened <- h
	}()
	url := "http://" + cfg.Listen
	want := health("starting", "ok", "starting", "starting")
	within(t, 10*time.Second, "health "+want, func() bool {
		status, body, _ := get(t, url+"/_shardmill/health")
		return status == http.StatusServiceUnavailable && body == want
	})
	status, body, header := get(t, url+"/")
	if status != http.StatusServiceUnavailable || header.Get("Retry-After") != "1" || !strings.Contains(body, "ServiceUnavailableException") {
		t.Errorf("a request while starting: %d %s", status, body)
	}
	if err := os.WriteFile(gate, []byte("open\n"), 0); err != nil {
		t.Fatal(err)
	}
	h := <-opened
	if h == nil {
		return
	}
	status, body, header = get(t, url+"/_shardmill/health")
	if want := health("ready", "ok", "ok", "ok"); status != http.StatusOK || body != want || header.Get("Content-Type") != "application/json" {
		t.Errorf("health of a ready host: %d %s %s; want 200 %s", status, header.Get("Content-Type"), body, want)
	}
	if err := h.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if got := h.Health(); got.Status != "stopping" {
		t.Errorf("a closed host is %s, want stopping", got.Status)
	}
}

// TestOpenGivesEverythingBackWhenItFails: the fault is told, and what was taken before it is free.
func TestOpenGivesEverythingBackWhenItFails(t *testing.T) {
	cfg := newConfig(t)
	cfg.Listen = freeAddress(t)
	for _, part := range []string{"log", "plugins", "objects"} {
		t.Run(part, func(t *testing.T) {
			cfg := cfg
			cfg.Data = t.TempDir()
			cfg.Plugins = filepath.Join(cfg.Data, "plugins")
			blocked := filepath.Join(cfg.Data, part)
			if err := os.WriteFile(blocked, nil, 0o600); err != nil { // a file where a folder must be
				t.Fatal(err)
			}
			h, err := Open(t.Context(), cfg, zerolog.Nop(), Observer{})
			if err == nil || h != nil || !strings.Contains(err.Error(), blocked) {
				t.Fatalf("host %v, error %v; want an error that names %s", h, err, blocked)
			}
			if err := os.Remove(blocked); err != nil {
				t.Fatal(err)
			}
			h, err = Open(t.Context(), cfg, zerolog.Nop(), Observer{}) // the same port, the same folder
			if err != nil {
				t.Fatal("after the fault was mended:", err)
			}
			if err := h.Close(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}
