package lambda

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shardmill/shardmill/runtime"
)

const (
	runtimePrefix    = "/2018-06-01/runtime/"
	invocationPrefix = runtimePrefix + "invocation/"

	// maxHeader leaves room for the X-Ray cause that runtimes send with errors, up to 1 MiB.
	maxHeader = 2 << 20

	headerMode = "Lambda-Runtime-Function-Response-Mode"
	// streamLimit is what a streamed answer may have, in bytes. It is delivered whole all the same.
	streamLimit = 20 << 20
)

// Error types of the API's own refusals.
const (
	invalidRequestID       = "InvalidRequestID"
	invalidInvocationID    = "InvalidInvocationId"
	invalidStateTransition = "InvalidStateTransition"
	entityTooLarge         = "RequestEntityTooLarge"
)

// api serves the Runtime API to one process.
type api struct {
	env   *environment
	limit int64 // bytes of one answer
	ln    net.Listener
	srv   *http.Server

	serving sync.WaitGroup
	closing chan struct{} // closed by close
	mu      sync.Mutex
	conns   int
	none    chan struct{} // closed when conns has become 0
}

func newAPI(env *environment, limit int64) (*api, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	a := &api{env: env, limit: limit, ln: ln, closing: make(chan struct{})}
	a.srv = &http.Server{
		Handler:        a,
		MaxHeaderBytes: maxHeader,
		ConnState:      a.count,
		// What net/http would log are protocol faults of the process, which sees them itself.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	return a, nil
}

// address is host:port and nothing else: clients split it at the colon.
func (a *api) address() string { return a.ln.Addr().String() }

func (a *api) serve() { a.serving.Go(func() { a.srv.Serve(a.ln) }) }

// count follows connections. A connection is counted until its last handler has returned.
func (a *api) count(_ net.Conn, s http.ConnState) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch s {
	case http.StateNew:
		if a.conns == 0 {
			a.none = make(chan struct{})
		}
		a.conns++
	case http.StateClosed:
		a.conns--
		if a.conns == 0 {
			close(a.none)
		}
	}
}

// drain waits until the requests of a process that has ended are served, at most for limit.
func (a *api) drain(limit time.Duration) {
	a.mu.Lock()
	conns, none := a.conns, a.none
	a.mu.Unlock()
	if conns == 0 {
		return
	}
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-none:
	case <-timer.C:
	}
}

// close closes the listener and every connection, and returns when no handler runs.
func (a *api) close() {
	close(a.closing)
	a.srv.Close()
	a.ln.Close() // a server that never served does not know it
	a.serving.Wait()
	a.mu.Lock()
	conns, none := a.conns, a.none
	a.mu.Unlock()
	if conns > 0 {
		<-none
	}
}

// refusal is an answer other than the one the process hoped for.
type refusal struct {
	status    int
	errorType string
	message   string
}

func (r refusal) write(w http.ResponseWriter) {
	doc, _ := json.Marshal(errorDocument{r.errorType, r.message})
	writeJSON(w, r.status, doc)
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header()["Content-Type"] = []string{"application/json"}
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	w.Write(body)
}

func accept(w http.ResponseWriter) {
	writeJSON(w, http.StatusAccepted, []byte("{\"status\":\"OK\"}\n"))
}

// ServeHTTP routes by hand: http.ServeMux would answer some faulty requests with redirects or
// plain text, where clients expect an error document.
func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.Method + " " + r.URL.Path {
	case "GET " + invocationPrefix + "next":
		a.next(w, r)
		return
	case "POST " + runtimePrefix + "init/error":
		a.initError(w, r)
		return
	case "GET /2018-06-01/ping":
		io.WriteString(w, "pong")
		return
	case "POST " + extensionPrefix + "register":
		a.registerExtension(w, r)
		return
	case "GET " + extensionPrefix + "event/next":
		a.extensionNext(w, r)
		return
	case "POST " + extensionPrefix + "init/error":
		a.extensionError(w, r, "init")
		return
	case "POST " + extensionPrefix + "exit/error":
		a.extensionError(w, r, "exit")
		return
	case "PUT /2020-08-15/logs":
		a.subscription(w, "Logs")
		return
	case "PUT /2022-07-01/telemetry":
		a.subscription(w, "Telemetry")
		return
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, invocationPrefix); ok && r.Method == http.MethodPost {
		switch id, verb, _ := strings.Cut(rest, "/"); verb {
		case "response":
			a.post(w, r, id, a.response)
			return
		case "error":
			a.post(w, r, id, a.handlerError)
			return
		}
	}
	refusal{http.StatusNotFound, "NotFound", "the Runtime API has no " + r.Method + " " + r.URL.Path}.write(w)
}

// next waits for an event, for ever if none comes.
func (a *api) next(w http.ResponseWriter, r *http.Request) {
	early := refusal{http.StatusForbidden, invalidStateTransition, "the current event has no answer yet, or another poll took this one's place"}
	wake := a.env.poll()
	if wake == nil {
		early.write(w)
		return
	}
	select {
	case <-wake:
	case <-r.Context().Done():
		return
	case <-a.closing: // net/http does not notice a closed connection before the body is read
		return
	}
	if inv := a.env.take(r.Context(), wake); inv != nil {
		a.deliver(w, inv)
		return
	}
	early.write(w)
}

func (a *api) deliver(w http.ResponseWriter, inv *invocation) {
	defer close(inv.delivered)
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(inv.Payload))}
	h["Lambda-Runtime-Aws-Request-Id"] = []string{inv.RequestID}
	h["Lambda-Runtime-Deadline-Ms"] = []string{strconv.FormatInt(inv.Deadline.UnixMilli(), 10)}
	h["Lambda-Runtime-Invoked-Function-Arn"] = []string{inv.FunctionARN}
	h["Lambda-Runtime-Trace-Id"] = []string{inv.TraceID}
	h["Lambda-Runtime-Invocation-Id"] = []string{inv.attempt}
	w.Write(inv.Payload)
}

// lookup finds the running invocation that a post is for.
func (e *environment) lookup(id, attempt string) (*invocation, *refusal) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.current == nil:
		return nil, &refusal{http.StatusForbidden, invalidStateTransition, "no event was handed out yet: ask for one with GET " + invocationPrefix + "next"}
	case e.phase != running || e.current.RequestID != id:
		return nil, &refusal{http.StatusBadRequest, invalidRequestID, "the request id is not the one of the event in progress, or that has its answer already"}
	case attempt != "" && attempt != e.current.attempt:
		return nil, &refusal{http.StatusBadRequest, invalidInvocationID, "the invocation id is not the one that came with the event"}
	}
	return e.current, nil
}

// post takes an answer. read makes the result of it; a refusal it gives goes to the process, its
// result to the caller nonetheless.
func (a *api) post(w http.ResponseWriter, r *http.Request, id string, read func(*http.Request) (runtime.Result, *refusal)) {
	inv, refused := a.env.lookup(id, r.Header.Get("Lambda-Runtime-Invocation-Id"))
	if refused != nil {
		refused.write(w)
		return
	}
	res, refused := read(r)
	if !a.env.complete(inv, res, "") {
		refused = &refusal{http.StatusBadRequest, invalidRequestID, "the event has its answer already"}
	}
	if refused != nil {
		refused.write(w)
		return
	}
	accept(w)
}

// response reads a handler's answer. Streamed answers are collected; trailers tell that a stream
// broke, and only the body's end makes them readable.
func (a *api) response(r *http.Request) (runtime.Result, *refusal) {
	if mode := r.Header.Get(headerMode); mode != "" && mode != "streaming" {
		message := "the response mode " + strconv.Quote(mode) + " is unknown: leave the header out or send streaming"
		return failure(errorMode, message), &refusal{http.StatusBadRequest, errorMode, message}
	}
	limit := a.limit
	if streamed := r.Header.Get(headerMode) != ""; streamed {
		limit = max(limit, streamLimit)
	}
	body, err := readLimited(r, limit)
	if err != nil {
		return unreadable(err, limit)
	}
	errorType, encoded := r.Trailer.Get(trailerErrorType), r.Trailer.Get(trailerErrorBody)
	if errorType == "" && encoded == "" {
		return runtime.Result{Payload: body}, nil
	}
	doc, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(doc) == 0 {
		return failure(knownType(errorType), "the handler failed while it sent its response"), nil
	}
	return reported("", doc), nil
}

func (a *api) handlerError(r *http.Request) (runtime.Result, *refusal) {
	body, err := readLimited(r, a.limit)
	if err != nil {
		return unreadable(err, a.limit)
	}
	return reported(r.Header.Get(trailerErrorType), body), nil
}

var errTooLarge = errors.New("over the limit")

func unreadable(err error, limit int64) (runtime.Result, *refusal) {
	if errors.Is(err, errTooLarge) {
		return tooLarge(limit), &refusal{http.StatusRequestEntityTooLarge, entityTooLarge, "the answer is over " + strconv.FormatInt(limit, 10) + " bytes"}
	}
	const message = "the connection ended before the answer was complete"
	return failure(errorTruncated, message), &refusal{http.StatusBadRequest, errorTruncated, message}
}

// readLimited reads a body of at most limit bytes. Of a larger one it takes as much again, so that
// a client which sends all before it listens hears why it was refused.
func readLimited(r *http.Request, limit int64) ([]byte, error) {
	var body bytes.Buffer
	if n := r.ContentLength; n > 0 && n <= limit {
		body.Grow(int(n) + bytes.MinRead)
	}
	n, err := body.ReadFrom(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if n > limit {
		io.CopyN(io.Discard, r.Body, limit)
		return nil, errTooLarge
	}
	return body.Bytes(), nil
}

// initError takes the report of a runtime that could not load its handler.
func (a *api) initError(w http.ResponseWriter, r *http.Request) {
	body, err := readLimited(r, a.limit)
	if err != nil {
		_, refused := unreadable(err, a.limit)
		refused.write(w)
		return
	}
	var doc errorDocument
	if json.Unmarshal(body, &doc) != nil || doc.Message == "" {
		doc.Message = printable(body[:min(len(body), tailBytes)])
	}
	if t := r.Header.Get(trailerErrorType); t != "" {
		doc.Type = knownType(t)
	}
	if doc.Type == "" {
		doc.Type = errorUnknown
	}
	if !a.env.failInit(printable([]byte(doc.Type + ": " + doc.Message))) {
		refusal{http.StatusForbidden, invalidStateTransition, "the init phase is over: report errors of an event to " + invocationPrefix + "ID/error"}.write(w)
		return
	}
	accept(w)
}
