// Package pluginsapi is the host's own pages about plugins, for the verbs of the command and for
// people with curl. AWS has nothing like them, so the form is ours:
//
//	GET /_shardmill/plugins                                  what each plugin has become, as JSON
//	GET /_shardmill/plugins/NAME/logs?lines=100&follow=true  what it has written, as text
//
// Where requests must be signed, these must be too: for the service "shardmill", with a key of the
// account that the functions belong to. The keys that functions themselves are given do not count.
package pluginsapi

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shardmill/shardmill/internal/functionlog"
	"github.com/shardmill/shardmill/internal/sigv4"
	"github.com/shardmill/shardmill/plugins"
)

// Path is the path of the pages.
const Path = "/_shardmill/plugins"

// Service is the name that requests are signed for.
const Service = "shardmill"

// maxLines bounds what one request may ask for at once.
const maxLines = 1_000_000

// Plugin is one plugin of the list.
type Plugin struct {
	Name        string `json:"name"`
	ARN         string `json:"arn"`
	State       string `json:"state"`             // Pending, Active or Failed
	Reason      string `json:"reason,omitempty"`  // why the newest content does not serve, or nothing does
	Version     string `json:"version,omitempty"` // of the content that serves
	Runtime     string `json:"runtime,omitempty"` // wasm, provided, nodejs, python or java
	Handler     string `json:"handler,omitempty"`
	MemoryMiB   int64  `json:"memoryMiB,omitempty"`
	TimeoutMs   int64  `json:"timeoutMs,omitempty"`
	Concurrency int    `json:"concurrency,omitempty"`
}

// List is the answer to GET /_shardmill/plugins.
type List struct {
	Plugins []Plugin `json:"plugins"`
}

// Options are what the pages show. Keys is nil where requests need no signature.
type Options struct {
	Functions func() []plugins.Info
	Logs      *functionlog.Store
	Keys      sigv4.Keys
	Account   string
	Done      context.Context // ends the requests that follow a log
}

type pages struct {
	Options
	verifier *sigv4.Verifier // nil: nothing is verified
}

// New returns the handler of Path and all below it.
func New(o Options) http.Handler {
	p := &pages{Options: o}
	if o.Keys != nil {
		p.verifier = sigv4.NewVerifier(Service, o.Keys)
	}
	return p
}

func (p *pages) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if p.verifier != nil {
		who, err := p.verifier.Verify(r, nil, time.Now())
		if err != nil {
			refuse(w, http.StatusForbidden, "The request must be signed for the service "+Service+": "+err.Error())
			return
		}
		if who.Account != p.Account {
			refuse(w, http.StatusForbidden, "The functions of this host belong to account "+p.Account+", and the key to account "+who.Account+".")
			return
		}
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, Path+" answers GET and HEAD.")
		return
	}
	rest := strings.TrimPrefix(r.URL.Path, Path)
	name, what, _ := strings.Cut(strings.TrimPrefix(rest, "/"), "/")
	switch {
	case rest == "":
		p.list(w)
	case what == "logs" && name != "":
		p.logs(w, r, name)
	default:
		refuse(w, http.StatusNotFound, "There is no page "+r.URL.Path+"; try "+Path+".")
	}
}

func (p *pages) list(w http.ResponseWriter) {
	out := List{Plugins: []Plugin{}}
	for _, f := range p.Functions() {
		one := Plugin{Name: f.Name, ARN: f.ARN, State: string(f.State), Reason: f.Reason, Version: f.Version, Handler: f.Handler}
		if f.Kind != 0 {
			one.Runtime = f.Kind.String()
			one.MemoryMiB, one.TimeoutMs, one.Concurrency = f.Limits.Memory>>20, f.Limits.Timeout.Milliseconds(), f.Limits.Concurrency
		}
		out.Plugins = append(out.Plugins, one)
	}
	writeJSON(w, http.StatusOK, out)
}

// logs writes a log, and what comes to it for as long as the client stays.
func (p *pages) logs(w http.ResponseWriter, r *http.Request, name string) {
	query := r.URL.Query()
	for key := range query {
		if key != "lines" && key != "follow" && !strings.HasPrefix(key, "X-Amz-") {
			refuse(w, http.StatusBadRequest, "The parameter "+strconv.Quote(key)+" does not exist: lines and follow do.")
			return
		}
	}
	lines, follow, err := 100, false, error(nil)
	if text := query.Get("lines"); text != "" {
		if lines, err = strconv.Atoi(text); err != nil || lines < 0 || lines > maxLines {
			refuse(w, http.StatusBadRequest, "lines is a whole number in 0.."+strconv.Itoa(maxLines)+", not "+strconv.Quote(text)+".")
			return
		}
	}
	if text := query.Get("follow"); text != "" {
		if follow, err = strconv.ParseBool(text); err != nil {
			refuse(w, http.StatusBadRequest, "follow is true or false, not "+strconv.Quote(text)+".")
			return
		}
	}
	known := slices.ContainsFunc(p.Functions(), func(f plugins.Info) bool { return f.Name == name })
	if !known && !p.Logs.Has(name) {
		refuse(w, http.StatusNotFound, "There is no function "+strconv.Quote(name)+", and no log of one; "+Path+" lists the functions.")
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusOK)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(p.Done, cancel)()
	// An error now can only be told by the end of the answer.
	if p.Logs.Copy(ctx, name, lines, follow, &flushing{w, http.NewResponseController(w)}) != nil {
		panic(http.ErrAbortHandler)
	}
}

// flushing sends what is written at once.
type flushing struct {
	w    http.ResponseWriter
	ctrl *http.ResponseController
}

func (f *flushing) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	if err == nil {
		err = f.ctrl.Flush()
	}
	return n, err
}

func refuse(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, map[string]string{"message": message})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
