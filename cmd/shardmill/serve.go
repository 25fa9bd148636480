package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/shardmill/shardmill/internal/config"
	"github.com/shardmill/shardmill/internal/host"
)

func serveCommand() *cobra.Command {
	var cfg config.Config
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve streams, delivery streams and functions until told to stop",
		Long: `Serve streams, delivery streams and functions until SIGINT or SIGTERM, which finishes what is
under way and exits 0.

Every flag is also a variable (--s3-endpoint is SHARDMILL_S3_ENDPOINT) and a line of the config
file (s3-endpoint: …). Flags win over variables, variables over the file.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := cfg.Load(cmd.Flags(), os.Environ()); err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, cmd.OutOrStdout(), newLogger(cfg, cmd.ErrOrStderr()))
		},
	}
	cfg.Bind(cmd.Flags())
	return cmd
}

func serve(ctx context.Context, cfg config.Config, stdout io.Writer, log zerolog.Logger) error {
	start := time.Now()
	h, err := host.Open(ctx, cfg, log, host.Observer{})
	if err != nil && ctx.Err() != nil {
		return nil // told to stop before it was ready
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "shardmill ready on %s in %d ms; data %s, plugins %s, durable: acknowledged means fdatasync'd\n",
		h.URL(), time.Since(start).Milliseconds(), cfg.Data, cfg.Plugins)
	if h.Authority != nil {
		fmt.Fprint(stdout, trustHelp(h.Authority.File))
	}
	<-ctx.Done()
	log.Info().Msg("stopping: finishing what is under way")
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), host.DrainTime)
	defer cancel()
	return h.Close(drain)
}

// trustHelp tells how each kind of client is made to trust the local authority.
func trustHelp(ca string) string {
	if abs, err := filepath.Abs(ca); err == nil {
		ca = abs
	}
	return fmt.Sprintf(`TLS is served on the same port. Clients trust it by
  AWS CLI, boto3  export AWS_CA_BUNDLE=%[1]s
  JavaScript      export NODE_EXTRA_CA_CERTS=%[1]s
  Go, Rust        export SSL_CERT_FILE=%[1]s
  Java            keytool -importcert -noprompt -file %[1]s -keystore trust.jks -storepass changeit
                  java -Djavax.net.ssl.trustStore=trust.jks -Djavax.net.ssl.trustStorePassword=changeit …
`, ca)
}

// newLogger logs to w: lines for people, or JSON.
func newLogger(cfg config.Config, w io.Writer) zerolog.Logger {
	if cfg.LogFormat == "console" {
		f, tty := w.(*os.File)
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.TimeOnly, NoColor: !tty || !isTerminal(f) || os.Getenv("NO_COLOR") != ""}
	}
	level, err := zerolog.ParseLevel(cfg.LogLevel)
	if err != nil {
		level = zerolog.InfoLevel // cannot be: the config was checked
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
