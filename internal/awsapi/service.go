// Package awsapi is the wire of AWS's JSON 1.1 services: decoding and validation of requests, error
// names and shapes, and dispatch by the X-Amz-Target header.
//
// An operation is a plain function func(ctx, *In) (*Out, error). In and Out name the model's members
// (decode.go); tags on In carry the model's constraints (validate.go). The function returns errors
// of package errs; a Service says what each kind is called on its wire. Operations whose codec is
// worth writing by hand (PutRecords) are Raw and see the body's bytes.
//
// The order of checks on a request, and the texts, are AWS's as far as they are known; where a
// text is our own, the place says so.
package awsapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/sigv4"
)

// Op is one operation of a service. It has one of run, long and events.
type Op struct {
	Name   string
	run    func(ctx context.Context, body []byte, dst []byte) ([]byte, error)
	long   func(ctx context.Context, body []byte) (*Long, error)
	events func(ctx context.Context, body []byte) (func(context.Context, *EventStream) error, error)
}

// Handle makes an operation of a function. It panics if In or Out have members that cannot be
// on the wire, so that a wrong table fails at start and not at the first request.
func Handle[In, Out any](name string, fn func(context.Context, *In) (*Out, error)) Op {
	planOf(reflect.TypeFor[In]())
	planOf(reflect.TypeFor[Out]())
	return Op{Name: name, run: func(ctx context.Context, body, dst []byte) ([]byte, error) {
		in := new(In)
		wire := CallerOf(ctx).Wire
		if err := wire.Decode(body, in); err != nil {
			return nil, err
		}
		if err := Validate(in); err != nil {
			return nil, err
		}
		out, err := fn(ctx, in)
		if err != nil || out == nil {
			return nil, err
		}
		return wire.Encode(out)
	}}
}

// Raw makes an operation of a function with its own codec: it gets the body, which it may change,
// and appends its answer to dst. In a service that speaks CBOR, the caller's Wire says which of the
// two the body is in and the answer has to be in.
func Raw(name string, fn func(ctx context.Context, body, dst []byte) ([]byte, error)) Op {
	return Op{Name: name, run: fn}
}

// After makes an operation run only when check allows it.
func (o Op) After(check func(context.Context) error) Op {
	run, long, events := o.run, o.long, o.events
	if run != nil {
		o.run = func(ctx context.Context, body, dst []byte) ([]byte, error) {
			if err := check(ctx); err != nil {
				return nil, err
			}
			return run(ctx, body, dst)
		}
	}
	if long != nil {
		o.long = func(ctx context.Context, body []byte) (*Long, error) {
			if err := check(ctx); err != nil {
				return nil, err
			}
			return long(ctx, body)
		}
	}
	if events != nil {
		o.events = func(ctx context.Context, body []byte) (func(context.Context, *EventStream) error, error) {
			if err := check(ctx); err != nil {
				return nil, err
			}
			return events(ctx, body)
		}
	}
	return o
}

// Service is one service of the wire.
type Service struct {
	Name   string               // signing name: "kinesis"
	Target string               // prefix of X-Amz-Target: "Kinesis_20131202"
	Errors map[errs.Kind]string // what kinds are called; kinds that are not named are InternalFailure
	Ops    []Op
	CBOR   bool // beside JSON

	byName   map[string]*Op
	verifier *sigv4.Verifier // nil: callers are believed
}

// Operations lists the names of the operations.
func (s *Service) Operations() []string {
	names := make([]string, len(s.Ops))
	for i := range s.Ops {
		names[i] = s.Ops[i].Name
	}
	return names
}

// Error is an error with its name on the wire, for what has no kind of its own in a service
// (ExpiredNextTokenException beside ExpiredIteratorException).
type Error struct {
	Name    string
	Message string
}

func (e *Error) Error() string { return e.Name + ": " + e.Message }

// Caller is who sends a request: verified if Options.Keys are set, else as the request claims.
type Caller struct {
	Verified  bool // the signature was checked
	Account   string
	Region    string
	RequestID string
	Operation string // that is called: "PutRecord"
	Wire      Wire   // of the request and the answer
}

type callerKey struct{}

// CallerOf is the caller of the request that ctx belongs to.
func CallerOf(ctx context.Context) Caller {
	c, _ := ctx.Value(callerKey{}).(Caller)
	return c
}

// WithCaller is ctx on behalf of c.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// Options configure a Mux.
type Options struct {
	Account, Region string // of callers whose credentials do not say
	// Keys, if set, are what requests must be signed with. The key says the caller's account; its
	// region is the one that was signed. Without keys nothing is verified.
	Keys sigv4.Keys
	// Failed is told of errors that the caller is not shown in full.
	Failed func(requestID, operation string, err error)
	// Served is told of every request that reached an operation.
	Served func(operation, errorName string)
}

// Mux dispatches requests to the services' operations.
type Mux struct {
	opts     Options
	services map[string]*Service
}

// NewMux makes a Mux of services.
func NewMux(o Options, services ...*Service) *Mux {
	m := &Mux{o, make(map[string]*Service)}
	for _, s := range services {
		s.byName = make(map[string]*Op)
		for i := range s.Ops {
			s.byName[s.Ops[i].Name] = &s.Ops[i]
		}
		if o.Keys != nil {
			s.verifier = sigv4.NewVerifier(s.Name, o.Keys)
		}
		m.services[s.Target] = s
	}
	return m
}

// Content types of the protocols.
const (
	typeJSON      = "application/x-amz-json-1.1"
	typePlainJSON = "application/json"
	typeCBOR      = "application/x-amz-cbor-1.1"
	maxBody       = 16<<20 + 64<<10 // 10 MiB of data are 14 MiB of base64
)

// CallerFrom reads the account and region that a request claims: a 12-digit access key is the
// account, the signature's scope names the region.
func (m *Mux) CallerFrom(r *http.Request) Caller {
	c := Caller{Account: m.opts.Account, Region: m.opts.Region}
	text := r.Header.Get("Authorization")
	if text == "" {
		text = r.URL.Query().Get("X-Amz-Credential")
	}
	if scope, ok := sigv4.ParseScope(text); ok {
		c.Region = scope.Region
		if len(scope.AccessKey) == 12 && strings.Trim(scope.AccessKey, "0123456789") == "" {
			c.Account = scope.AccessKey
		}
	}
	return c
}

// ServeHTTP implements http.Handler.
func (m *Mux) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	caller := m.CallerFrom(r)
	caller.RequestID = uuid.NewString()
	h := w.Header()
	h.Set("X-Amzn-Requestid", caller.RequestID)
	h.Set("X-Amz-Id-2", caller.RequestID)
	if r.Method != http.MethodPost {
		writeXML(w, http.StatusForbidden, "AccessDeniedException", "Unable to determine service/operation name to be authorized")
		return
	}
	body, ok := readBody(w, r)
	done := true
	defer func() {
		if done {
			putBuffer(body)
		}
	}()
	if !ok {
		return
	}
	t := m.lookUp(r.Header.Get("X-Amz-Target"))
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	kind = strings.TrimSpace(kind)
	if kind == typeCBOR {
		caller.Wire = CBOR
	}
	if !checkProtocol(w, t, kind, body) || !verify(w, r, t, &caller, body) {
		return
	}
	caller.Operation = t.op.Name
	switch {
	case t.op.events != nil:
		m.stream(w, r, caller, t, body)
	case t.op.long != nil:
		done = false // if it does not return, the answer was broken off
		done = m.runLong(w, r, caller, t, body)
	default:
		done = m.run(w, r, caller, t, body)
	}
}

// verify checks the signature, if signatures are asked for, and writes the complaint if there is
// one. It comes before the operation sees the body, which may be changed then.
func verify(w http.ResponseWriter, r *http.Request, t target, caller *Caller, body []byte) (ok bool) {
	if t.service.verifier == nil {
		return true
	}
	id, err := t.service.verifier.Verify(r, body, time.Now())
	var refused *sigv4.Error
	if errors.As(err, &refused) {
		caller.Wire.writeError(w, http.StatusBadRequest, refused.Name, refused.Message)
		return false
	}
	caller.Account, caller.Region, caller.Verified = id.Account, id.Region, true
	return true
}

// run calls the operation and writes its answer or error. It is false if somebody may still hold
// the body after it, which then must not be used again.
func (m *Mux) run(w http.ResponseWriter, r *http.Request, caller Caller, t target, body []byte) (done bool) {
	dst := takeBuffer(0)
	out, err := t.op.call(WithCaller(r.Context(), caller), body, dst)
	name := ""
	if err != nil {
		name = m.refuse(w, caller, t, err)
	} else {
		w.Header().Set("Content-Type", caller.Wire.contentType())
		w.Header().Set("Content-Length", strconv.Itoa(len(out)))
		// HTTP/2 gives up a write when its stream is reset, while the bytes may still be on their
		// way to the connection. Another request's answer must not take their place.
		if _, lost := w.Write(out); lost == nil {
			giveBack(dst, out)
		}
	}
	return m.finish(t, name, err)
}

// finish tells of a request that reached its operation, and is false if err is a panic: then somebody
// may still hold the body.
func (m *Mux) finish(t target, errorName string, err error) (done bool) {
	if m.opts.Served != nil {
		m.opts.Served(t.op.Name, errorName)
	}
	var p *panicError
	return !errors.As(err, &p)
}

// giveBack gives back the buffer that an operation got for its answer, and the one that the answer
// is in if that is another.
func giveBack(dst, out []byte) {
	if cap(out) > 0 && &out[:1][0] != &dst[:1][0] {
		putBuffer(out)
	}
	putBuffer(dst)
}

// refuse answers with an error and returns its name.
func (m *Mux) refuse(w http.ResponseWriter, caller Caller, t target, err error) string {
	status, name, message := t.service.describe(err)
	if status == http.StatusInternalServerError && m.opts.Failed != nil {
		m.opts.Failed(caller.RequestID, t.op.Name, err)
	}
	caller.Wire.writeError(w, status, name, message)
	return name
}

// panicError is a panic of an operation. What the operation was doing may be half done, and its
// buffers may still be held by others.
type panicError struct {
	op    string
	value any
	stack []byte
}

func (p *panicError) Error() string {
	return fmt.Sprintf("panic in %s: %v\n%s", p.op, p.value, p.stack)
}

// call runs the operation. A panic is a fault of ours that must not end the host.
func (op *Op) call(ctx context.Context, body, dst []byte) (out []byte, err error) {
	err = guard(op.Name, func() (err error) {
		out, err = op.run(ctx, body, dst)
		return err
	})
	return out, err
}

// target is what an X-Amz-Target header names: PREFIX.OPERATION.
type target struct {
	complete bool     // both parts are there
	service  *Service // nil if no service has the prefix
	op       *Op      // nil if the service has no such operation
}

func (m *Mux) lookUp(text string) target {
	prefix, name, _ := strings.Cut(text, ".")
	t := target{complete: prefix != "" && name != "", service: m.services[prefix]}
	if t.service != nil {
		t.op = t.service.byName[name]
	}
	return t
}

// checkProtocol makes the checks that come before the operation is looked at, in AWS's order, and
// writes the complaint if there is one. kind is the request's content type without parameters.
func checkProtocol(w http.ResponseWriter, t target, kind string, body []byte) (ok bool) {
	switch {
	case kind == typeCBOR && t.service != nil && !t.service.CBOR:
		// The sentence is ours.
		writeCBORError(w, http.StatusBadRequest, "UnsupportedProtocolException", "CBOR is not served here. Tell the SDK to send JSON: set CBOR_ENABLED=false or -Daws.cborEnabled=false (Java SDK 2), AWS_CBOR_DISABLE=true (Java SDK 1).")
	case len(body) == 0:
		name := "UnknownOperationException"
		if t.op != nil {
			name = "SerializationException"
		}
		if kind == typeJSON {
			writeError(w, http.StatusBadRequest, name, "")
		} else {
			writeCBORError(w, http.StatusBadRequest, name, "")
		}
	case kind == typeCBOR && t.op == nil:
		name := "UnknownOperationException"
		if DecodeCBOR(body, &struct{}{}) != nil {
			name = "SerializationException"
		}
		writeCBORError(w, http.StatusBadRequest, name, "")
	case kind == typeCBOR:
		return true // an operation finds out by itself whether the body is CBOR
	case kind != typeJSON && kind != typePlainJSON && !t.complete:
		writeXML(w, http.StatusForbidden, "AccessDeniedException", "Unable to determine service/operation name to be authorized")
	case kind != typeJSON && kind != typePlainJSON:
		w.Header()["Content-Type"] = nil // AWS sends none
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, "<UnknownOperationException/>\n")
	case (t.op == nil || kind == typePlainJSON) && !isObject(body): // an operation finds out by itself
		writeError(w, http.StatusBadRequest, "SerializationException", "")
	case kind == typePlainJSON:
		w.Header().Set("Content-Type", typePlainJSON)
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}`)
	case t.op == nil:
		writeError(w, http.StatusBadRequest, "UnknownOperationException", "")
	default:
		return true
	}
	return false
}

func isObject(body []byte) bool {
	var none struct{}
	return DecodeJSON(body, &none) == nil
}
