package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/sigv4"
	"github.com/shardmill/shardmill/plugins/pluginsapi"
)

func pluginCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plugin",
		Short: "Start and build plugins; see what has become of them, and what they write",
		Long: `Start and build plugins; see what has become of the plugins of a running host, and what they write.

For ls and logs, the host is found at --endpoint, else at $AWS_ENDPOINT_URL, else at http://127.0.0.1:4566. If it runs
with --auth keys, $AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY must be a key of its account.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errs.New(errs.Invalid, "plugin has no command %q; plugin --help lists them", args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var p pluginClient
	cmd.PersistentFlags().StringVar(&p.endpoint, "endpoint", "", "address of the host (default $AWS_ENDPOINT_URL or http://127.0.0.1:4566)")
	cmd.AddCommand(pluginNewCommand(), pluginBuildCommand(), pluginListCommand(&p), pluginLogsCommand(&p))
	return cmd
}

func pluginListCommand(p *pluginClient) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the functions: state, version, and why one does not serve",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.list(cmd.Context(), cmd.OutOrStdout(), asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func pluginLogsCommand(p *pluginClient) *cobra.Command {
	var follow bool
	var lines int
	cmd := &cobra.Command{
		Use:   "logs NAME",
		Short: "Print what a function wrote, with Lambda's START, END and REPORT lines",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errs.New(errs.Invalid, "logs takes the name of one function; shardmill plugin ls lists them")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.logs(cmd.Context(), cmd.OutOrStdout(), args[0], lines, follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what comes, until interrupted")
	cmd.Flags().IntVarP(&lines, "lines", "n", 100, "how many of the last lines to begin with")
	return cmd
}

// pluginClient asks a host's own pages about plugins.
type pluginClient struct{ endpoint string }

// get asks for a page. The caller closes the body.
func (p *pluginClient) get(ctx context.Context, path string) (io.ReadCloser, error) {
	endpoint := p.endpoint
	if endpoint == "" {
		endpoint = os.Getenv("AWS_ENDPOINT_URL")
	}
	if endpoint == "" {
		endpoint = "http://127.0.0.1:4566"
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errs.New(errs.Invalid, "%q is not the address of a host: give one such as http://127.0.0.1:4566", endpoint)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.Scheme+"://"+u.Host+path, nil)
	if err != nil {
		return nil, err
	}
	if key := os.Getenv("AWS_ACCESS_KEY_ID"); key != "" {
		region := os.Getenv("AWS_REGION")
		if region == "" {
			region = os.Getenv("AWS_DEFAULT_REGION")
		}
		if region == "" {
			region = "us-east-1"
		}
		const emptyHash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // SHA-256 of nothing
		sigv4.Sign(req, emptyHash, sigv4.Credentials{AccessKey: key, SecretKey: os.Getenv("AWS_SECRET_ACCESS_KEY"), SessionToken: os.Getenv("AWS_SESSION_TOKEN")},
			region, pluginsapi.Service, time.Now())
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return nil, errs.Wrap(errs.Unavailable, err, "no host answers at %s: start one with shardmill serve, or give its address with --endpoint", endpoint)
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		return nil, refusal(endpoint, res)
	}
	return res.Body, nil
}

// refusal is the error of an answer other than 200.
func refusal(endpoint string, res *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	var doc struct{ Message string }
	if json.Unmarshal(text, &doc) != nil || doc.Message == "" {
		doc.Message = res.Status
	}
	kind := errs.Internal
	switch res.StatusCode {
	case http.StatusNotFound:
		kind = errs.NotFound
	case http.StatusForbidden:
		kind = errs.Denied
	case http.StatusServiceUnavailable:
		kind = errs.Unavailable
	}
	return errs.New(kind, "%s: %s", endpoint, doc.Message)
}

func (p *pluginClient) list(ctx context.Context, out io.Writer, asJSON bool) error {
	body, err := p.get(ctx, pluginsapi.Path)
	if err != nil {
		return err
	}
	defer body.Close()
	var all pluginsapi.List
	if err := json.NewDecoder(body).Decode(&all); err != nil {
		return err
	}
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		return e.Encode(all)
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tSTATE\tRUNTIME\tVERSION\tMEMORY\tTIMEOUT\tREASON")
	for _, f := range all.Plugins {
		memory, timeout := "", ""
		if f.MemoryMiB > 0 {
			memory, timeout = fmt.Sprintf("%dMiB", f.MemoryMiB), (time.Duration(f.TimeoutMs) * time.Millisecond).String()
		}
		row := []string{f.Name, f.State, f.Runtime, f.Version[:min(12, len(f.Version))], memory, timeout, f.Reason}
		for i := range row {
			if row[i] == "" {
				row[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	return w.Flush()
}

func (p *pluginClient) logs(ctx context.Context, out io.Writer, name string, lines int, follow bool) error {
	query := url.Values{"lines": {strconv.Itoa(lines)}, "follow": {strconv.FormatBool(follow)}}
	body, err := p.get(ctx, pluginsapi.Path+"/"+url.PathEscape(name)+"/logs?"+query.Encode())
	if err != nil {
		return err
	}
	defer body.Close()
	_, err = io.Copy(out, body)
	if err != nil && ctx.Err() != nil {
		return nil // who follows ends it so
	}
	return err
}
