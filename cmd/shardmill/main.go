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
	"strings"
	"syscall"
	_ "time/tzdata" // CustomTimeZone must work on machines without a zone database

	"github.com/spf13/cobra"

	"github.com/shardmill/shardmill/internal/config"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/host"
	"github.com/shardmill/shardmill/runtime/wasm"
)

func main() {
	wasm.WorkerMain() // returns at once unless this process is a worker
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes.
const (
	exitOK          = 0
	exitFailure     = 1   // what was asked for went wrong
	exitUsage       = 2   // wrong flags, variables or config file
	exitEnv         = 3   // the machine does not let us: port taken, no permission, disk full
	exitInterrupted = 130 // by a signal, before the end
)

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	started := false // what goes wrong before is the command line's fault
	root := &cobra.Command{
		Use:                        "shardmill",
		Short:                      "Amazon Kinesis on your own machine: durable streams, delivery, and your functions in between",
		Version:                    host.Version(),
		SilenceErrors:              true,
		SilenceUsage:               true,
		DisableSuggestions:         true, // they take three lines; see unknownCommand
		SuggestionsMinimumDistance: 2,
		PersistentPreRun:           func(*cobra.Command, []string) { started = true },
	}
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.AddCommand(serveCommand(), quickstartCommand(), benchCommand(), pluginCommand())
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return config.FlagError(c.Flags(), err)
	})
	err := root.ExecuteContext(ctx)
	if err != nil && !started {
		err = unknownCommand(root, args, err)
	}
	code := exitCode(ctx, err, started)
	switch {
	case code == exitInterrupted:
		fmt.Fprintln(stderr, "shardmill: interrupted")
	case err != nil:
		fmt.Fprintln(stderr, "shardmill:", err)
	}
	return code
}

func exitCode(ctx context.Context, err error, started bool) int {
	switch {
	case err == nil:
		return exitOK
	case !started:
		return exitUsage
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted
	}
	var e *errs.Error
	if !errors.As(err, &e) {
		return exitFailure
	}
	switch e.Kind {
	case errs.Invalid:
		return exitUsage
	case errs.Unavailable, errs.InUse, errs.Denied:
		return exitEnv
	}
	return exitFailure
}

// unknownCommand says in one line that there is no such command, and which there is.
func unknownCommand(root *cobra.Command, args []string, err error) error {
	if c, _, found := root.Find(args); found == nil || c != root {
		return err
	}
	for _, arg := range args {
		if near := root.SuggestionsFor(arg); len(near) > 0 {
			return fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, " or "))
		}
	}
	return fmt.Errorf("%w; shardmill --help lists the commands", err)
}

// noArgs refuses arguments.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return errs.New(errs.Invalid, "%s takes no arguments: what is %q?", c.Name(), args[0])
	}
	return nil
}
