// Command shardmill is Amazon Kinesis on your own machine: data streams, delivery streams, and your
// functions on the records in between. One file a verb.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	_ "time/tzdata" // CustomTimeZone must work on machines without a zone database

	"github.com/spf13/cobra"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/host"
	"github.com/shardmill/shardmill/runtime/wasm"
)

func main() {
	wasm.WorkerMain() // returns at once unless this process is a worker
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1 // what was asked for went wrong
	exitUsage   = 2 // wrong flags, variables or config file
	exitEnv     = 3 // the machine does not let us: port taken, no permission, disk full
)

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "shardmill",
		Short:         "Amazon Kinesis on your own machine: durable streams, delivery, and your functions in between",
		Version:       host.Version(),
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(serveCommand(), quickstartCommand(), benchCommand())
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return errs.Wrap(errs.Invalid, err, "%s", c.CommandPath())
	})
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintln(stderr, "shardmill:", err)
	var e *errs.Error
	switch {
	case !errors.As(err, &e):
		return exitUsage // cobra's own: unknown commands and arguments
	case e.Kind == errs.Invalid:
		return exitUsage
	case e.Kind == errs.Unavailable, e.Kind == errs.InUse, e.Kind == errs.Denied:
		return exitEnv
	}
	return exitFailure
}
