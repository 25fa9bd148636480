package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"github.com/shardmill/shardmill/runtime/wasm"
)

// asCommand makes the test binary act as the command, so that tests can start, and kill, real
// processes without building anything. The command's own processes inherit it.
const asCommand = "TEST_AS_SHARDMILL"

func TestMain(m *testing.M) {
	wasm.WorkerMain()
	if os.Getenv(asCommand) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}
