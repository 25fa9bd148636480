// Package host ties the rooms of shardmill together: Open makes a running host of a Config, Close
// gives everything back. It has no logic of its own.
package host

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/firehose/destinations"
	"github.com/shardmill/shardmill/firehose/firehoseapi"
	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/config"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/functionlog"
	"github.com/shardmill/shardmill/internal/httpd"
	"github.com/shardmill/shardmill/internal/keyfile"
	"github.com/shardmill/shardmill/internal/localca"
	"github.com/shardmill/shardmill/internal/localkms"
	"github.com/shardmill/shardmill/internal/objects"
	"github.com/shardmill/shardmill/internal/objects/s3api"
	"github.com/shardmill/shardmill/internal/sigv4"
	"github.com/shardmill/shardmill/plugins"
	"github.com/shardmill/shardmill/plugins/eventsource"
	"github.com/shardmill/shardmill/plugins/eventsource/onfailure"
	"github.com/shardmill/shardmill/plugins/lambdaapi"
	"github.com/shardmill/shardmill/plugins/pluginsapi"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/runtime/lambda"
	"github.com/shardmill/shardmill/runtime/wasm"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
	"github.com/shardmill/shardmill/shards/kinesisapi"
	"github.com/shardmill/shardmill/shards/metrics"
)

// Observer is told what a host does, beside its log. Nil fields are skipped.
type Observer struct {
	Delivered func(stream string, what firehose.Delivered)
}

// Host is a running host.
type Host struct {
	Streams    *shards.Streams
	Deliveries *firehose.DeliveryStreams
	Functions  *plugins.Registry
	Mappings   *eventsource.Mappings
	Objects    objects.Store
	Authority  *localca.CA // of --tls self; nil without

	cfg    config.Config
	log    zerolog.Logger
	watch  Observer
	keys   sigv4.Keys // of users; nil: requests are not verified
	issued issuedKeys // of functions, where requests are verified
	logs   *functionlog.Store
	done   context.Context // ends when Close begins
	end    context.CancelFunc
	tls    *tls.Config // nil: no TLS
	server *httpd.Server
	store  *journal.Store
	wasm   *wasm.Engine
	told   functionMetrics

	mu     sync.Mutex
	status string            // of Health
	checks map[string]string // of Health
	routes httpd.Routes
}

// Version is what the build says of itself.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// parts are what Health reports on, in the order in which they are opened.
var parts = []string{"streams", "functions", "deliveries"}

// Open starts a host. The port is open while the rest starts, so that health can be asked for; the
// host is ready when Open returns.
func Open(ctx context.Context, cfg config.Config, log zerolog.Logger, watch Observer) (*Host, error) {
	h := &Host{cfg: cfg, log: log, watch: watch, status: "starting", checks: make(map[string]string)}
	h.done, h.end = context.WithCancel(context.Background())
	for _, p := range parts {
		h.checks[p] = "starting"
	}
	h.routes.Health = h.Health
	h.routes.FunctionMetrics = h.told.write
	if err := h.open(ctx); err != nil {
		if cerr := h.Close(ctx); cerr != nil {
			log.Warn().Err(cerr).Msg("the host did not start, and could not give everything back")
		}
		return nil, err
	}
	return h, nil
}

func (h *Host) open(ctx context.Context) (err error) {
	if err := h.openAccess(); err != nil {
		return err
	}
	h.routes.Verified = h.keys != nil
	if h.server, err = httpd.Listen(ctx, h.cfg.Listen, h.tls, h.currentRoutes); err != nil {
		return errs.Wrap(errs.Unavailable, err, "%s cannot be listened on: stop what uses the port, or choose another with --listen", h.cfg.Listen)
	}
	for i, open := range []func(context.Context) error{h.openStreams, h.openFunctions, h.openConsumers} {
		if err := open(ctx); err != nil {
			return err
		}
		h.check(parts[i], "ok")
	}
	return h.serve(ctx)
}

// openAccess reads the keys and certificates by which clients get in.
func (h *Host) openAccess() (err error) {
	if h.cfg.Auth == "keys" {
		file, err := keyfile.Open(h.cfg.KeyFile, os.Environ(), h.keyEvents())
		if err != nil {
			return err
		}
		h.keys = file
	}
	switch c := h.cfg.TLS; {
	case c.Mode == "self":
		var names []string
		if c.Names != "" {
			names = strings.Split(c.Names, ",")
		}
		if h.Authority, err = localca.Open(filepath.Join(h.cfg.Data, "tls"), names); err != nil {
			return err
		}
		h.tls = h.Authority.Config()
	case c.Cert != "":
		pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return errs.Wrap(errs.Invalid, err, "tls-cert %s and tls-key %s cannot be used", c.Cert, c.Key)
		}
		h.tls = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"h2", "http/1.1"}, Certificates: []tls.Certificate{pair}}
	}
	return nil
}

func (h *Host) dir(name string) (string, error) {
	dir := filepath.Join(h.cfg.Data, name)
	return dir, os.MkdirAll(dir, 0o700)
}

// awsTiming is about as long as AWS's streams stay in the states between, and short enough for tests.
var awsTiming = shards.Timing{Create: 500 * time.Millisecond, Update: 500 * time.Millisecond, Delete: 500 * time.Millisecond}

func (h *Host) openStreams(ctx context.Context) (err error) {
	log := journal.Options{Events: h.journalEvents()}
	if h.cfg.Repair {
		log.Repair = h.repaired
	}
	h.store, err = journal.Open(h.cfg.Data, log)
	if err != nil {
		return err
	}
	keys, err := localkms.Open(filepath.Join(h.cfg.Data, "keys"), localkms.Options{States: h.cfg.KMSKeys, Events: h.kmsEvents()})
	if err != nil {
		return err
	}
	o := shards.Options{Events: h.streamEvents(), Keys: keys}
	if h.cfg.Limits == "aws" {
		o.Throughput = &shards.AWSThroughput
	}
	if h.cfg.Timing == "aws" {
		o.Timing = awsTiming
	}
	h.Streams, err = shards.Open(ctx, h.store, o)
	return err
}

func (h *Host) openFunctions(ctx context.Context) error {
	cache, err := h.dir("cache/wasm")
	if err != nil {
		return err
	}
	scratch, err := h.dir("tmp/functions")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(h.cfg.Plugins, 0o700); err != nil {
		return errs.Wrap(errs.Unavailable, err, "the plugin folder cannot be made")
	}
	runtimes, err := h.dir("runtimes")
	if err != nil {
		return err
	}
	if h.logs, err = functionlog.Open(filepath.Join(h.cfg.Data, "logs", "functions")); err != nil {
		return err
	}
	h.wasm = wasm.New(wasm.Options{CacheDir: cache, Events: h.functionEvents(), Services: runtime.Services{
		State:   functionState{h.store.Meta()},
		Streams: functionStreams{h.Streams, shards.Scope{Account: h.cfg.Account, Region: h.cfg.Region}},
	}})
	handlers := lambda.Options{Dir: scratch, Runtimes: runtimes, Events: h.functionEvents()}
	if h.keys != nil {
		handlers.Credentials = h.issued.issue
	}
	h.Functions, err = plugins.Open(ctx, plugins.Options{
		Dir:      h.cfg.Plugins,
		Versions: filepath.Join(h.cfg.Data, "versions"),
		Engines:  []runtime.Engine{h.wasm, lambda.New(handlers)},
		Limits:   runtime.Limits{Concurrency: h.cfg.Concurrency, Timeout: h.cfg.FunctionTimeout},
		Region:   h.cfg.Region, Account: h.cfg.Account, Endpoint: h.URL(),
		Events: h.pluginEvents(),
	})
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.routes.Plugins = pluginsapi.New(pluginsapi.Options{Functions: h.Functions.List, Logs: h.logs, Keys: h.keys, Account: h.cfg.Account, Done: h.done})
	return nil
}

// openConsumers opens what reads streams.
func (h *Host) openConsumers(ctx context.Context) error {
	if err := h.openDeliveries(ctx); err != nil {
		return err
	}
	return h.openMappings(ctx)
}

func (h *Host) openDeliveries(ctx context.Context) error {
	spool, err := h.dir("tmp/spool")
	if err != nil {
		return err
	}
	if err := h.openObjects(); err != nil {
		return err
	}
	h.Deliveries, err = firehose.Open(ctx, firehose.Options{
		Streams: h.Streams, Meta: h.store.Meta(), Functions: h.Functions,
		Open:     destinations.Open(destinations.Deps{Objects: h.Objects, SpoolDir: spool}),
		SpoolDir: spool, Events: h.deliveryEvents(),
	})
	return err
}

// openMappings starts the event source mappings.
func (h *Host) openMappings(ctx context.Context) (err error) {
	h.Mappings, err = eventsource.Open(ctx, eventsource.Options{
		Streams: h.Streams, Meta: h.store.Meta(), Functions: h.Functions,
		Destination: onfailure.Deps{Streams: h.Streams, Deliveries: h.Deliveries, Functions: h.Functions, Objects: h.Objects}.Find,
		Events:      h.mappingEvents(),
	})
	return err
}

func (h *Host) openObjects() error {
	if s := h.cfg.S3; s.Endpoint != "" {
		remote, err := objects.NewS3(objects.S3Options{Endpoint: s.Endpoint, Region: s.Region, AccessKey: s.AccessKey, SecretKey: s.SecretKey, PathStyle: s.PathStyle})
		if err != nil {
			return err // not into h.Objects: an interface around a nil pointer is not nil
		}
		h.Objects = remote
		return nil
	}
	local, err := objects.OpenDir(filepath.Join(h.cfg.Data, "objects"))
	if err != nil {
		return err
	}
	h.Objects = local
	return nil
}

// serve opens the API.
func (h *Host) serve(ctx context.Context) error {
	kinesis, err := kinesisapi.New(ctx, h.Streams, h.store.Meta(), kinesisapi.Options{Limits: h.cfg.Limits == "aws"})
	if err != nil {
		return err
	}
	keys := h.callers()
	mux := awsapi.NewMux(awsapi.Options{Account: h.cfg.Account, Region: h.cfg.Region, Keys: keys, Failed: h.requestFailed}, kinesis, firehoseapi.New(h.Deliveries))
	buckets, numbers := s3api.New(h.Objects, h.cfg.Region), metrics.Handler(h.Streams)
	if keys != nil {
		buckets, numbers = s3api.Verified(buckets, keys), httpd.Local(numbers)
	}
	functions := lambdaapi.New(lambdaapi.Options{Functions: h.Functions, Mappings: h.Mappings, Region: h.cfg.Region, Account: h.cfg.Account,
		Caller: mux.CallerFrom, Keys: keys, Failed: h.requestFailed})
	h.mu.Lock()
	defer h.mu.Unlock()
	h.routes.Lambda = functions
	h.routes.API, h.routes.S3, h.routes.Metrics = mux, buckets, numbers
	h.status = "ready"
	return nil
}

func (h *Host) currentRoutes() httpd.Routes {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.routes
}

func (h *Host) check(part, state string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.checks[part] = state
}

// Health tells whether the host can be used, and if not, why.
func (h *Host) Health() httpd.Health {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := httpd.Health{Status: h.status, Checks: make(map[string]string), Version: Version()}
	for k, v := range h.checks {
		out.Checks[k] = v
	}
	if h.status == "ready" {
		if err := h.store.Fault(); err != nil {
			out.Status, out.Checks["streams"] = "failing", err.Error()
		}
	}
	return out
}

// URL is where the host is reached.
func (h *Host) URL() string { return "http://" + h.server.Addr() }

// Close drains the host: requests and batches under way are finished until ctx ends, then given
// up. What was acknowledged stays; what was not delivered is delivered after the next Open.
func (h *Host) Close(ctx context.Context) error {
	h.end()
	h.mu.Lock()
	h.status = "stopping"
	h.routes.API, h.routes.S3, h.routes.Metrics, h.routes.Plugins, h.routes.Lambda = nil, nil, nil, nil, nil
	h.mu.Unlock()
	var all []error
	note := func(what string, err error) {
		if err != nil {
			all = append(all, fmt.Errorf("close %s: %w", what, err))
		}
	}
	if h.Mappings != nil {
		note("mappings", h.Mappings.Close())
	}
	if h.Deliveries != nil {
		h.Deliveries.Close(ctx)
	}
	if h.server != nil {
		note("port", h.closePort(ctx))
	}
	if h.Functions != nil {
		note("functions", h.Functions.Close())
	}
	if h.wasm != nil {
		note("workers", h.wasm.Close())
	}
	if h.logs != nil {
		note("logs", h.logs.Close())
	}
	if h.Streams != nil {
		note("streams", h.Streams.Close())
	}
	if c, ok := h.Objects.(interface{ Close() error }); ok {
		note("objects", c.Close())
	}
	if h.store != nil {
		note("journal", h.store.Close())
	}
	return errors.Join(all...)
}

// closePort cuts clients off that have not finished in time: they wait, or have stalled, and no
// acknowledgement was promised to them.
func (h *Host) closePort(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTime)
	defer cancel()
	err := h.server.Close(ctx)
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		h.log.Warn().Msg("clients whose requests had not ended were cut off")
		return nil
	}
	return err
}

// requestTime is how long requests under way get when a host closes. An answer takes milliseconds.
const requestTime = 3 * time.Second

// DrainTime is how long the batches under way get when a host is told to stop.
const DrainTime = 20 * time.Second
