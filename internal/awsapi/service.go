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
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/sigv4"
)

// Op is one operation of a service.
type Op struct {
	Name string
	run  func(ctx context.Context, body []byte, dst []byte) ([]byte, error)
}

// Handle makes an operation of a function. It panics if In or Out have members that cannot be
// on the wire, so that a wrong table fails at start and not at the first request.
func Handle[In, Out any](name string, fn func(context.Context, *In) (*Out, error)) Op {
	planOf(reflect.TypeFor[In]())
	planOf(reflect.TypeFor[Out]())
	return Op{name, func(ctx context.Context, body, dst []byte) ([]byte, error) {
		in := new(In)
		if err := DecodeJSON(body, in); err != nil {
			return nil, err
		}
		if err := Validate(in); err != nil {
			return nil, err
		}
		out, err := fn(ctx, in)
		if err != nil || out == nil {
			return nil, err
		}
		return EncodeJSON(out)
	}}
}

// Raw makes an operation of a function with its own codec: it gets the body, which it may change,
// and appends its answer to dst.
func Raw(name string, fn func(ctx context.Context, body, dst []byte) ([]byte, error)) Op {
	return Op{name, fn}
}

// Service is one service of the wire.
type Service struct {
	Name   string               // signing name: "kinesis"
	Target string               // prefix of X-Amz-Target: "Kinesis_20131202"
	Errors map[errs.Kind]string // what kinds are called; kinds that are not named are InternalFailure
	Ops    []Op

	byName map[string]*Op
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

// Caller is who sends a request. Nothing about it is verified: any credentials are good.
type Caller struct {
	Account   string
	Region    string
	RequestID string
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
		m.services[s.Target] = s
	}
	return m
}

// Content types of the protocols.
const (
	typeJSON    = "application/x-amz-json-1.1"
	typeJSON10  = "application/json"
	typeCBOR    = "application/x-amz-cbor-1.1"
	maxBody     = 16<<20 + 64<<10 // 10 MiB of data are 14 MiB of base64
	poolableMax = 2 << 20         // larger buffers are left to the collector
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

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func putBuffer(b *bytes.Buffer) {
	if b.Cap() <= poolableMax {
		b.Reset()
		buffers.Put(b)
	}
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
	body := buffers.Get().(*bytes.Buffer)
	defer putBuffer(body)
	if ok := readBody(w, r, body); !ok {
		return
	}
	op, operation, known := m.lookUp(r.Header.Get("X-Amz-Target"))
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	if !m.checkProtocol(w, r, strings.TrimSpace(kind), body.Bytes(), known) {
		return
	}
	if op == nil {
		if !isObject(body.Bytes()) {
			writeError(w, http.StatusBadRequest, "SerializationException", "")
			return
		}
		writeError(w, http.StatusBadRequest, "UnknownOperationException", "")
		return
	}
	m.run(w, r, caller, op, operation, body.Bytes())
}

// run calls the operation and writes its answer or error.
func (m *Mux) run(w http.ResponseWriter, r *http.Request, caller Caller, op *Op, operation string, body []byte) {
	answer := buffers.Get().(*bytes.Buffer)
	defer putBuffer(answer)
	ctx := WithCaller(r.Context(), caller)
	out, err := op.call(ctx, body, answer.AvailableBuffer())
	name := ""
	if err != nil {
		prefix, _, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
		var status int
		var message string
		status, name, message = m.services[prefix].describe(err)
		if status == http.StatusInternalServerError && m.opts.Failed != nil {
			m.opts.Failed(caller.RequestID, operation, err)
		}
		writeError(w, status, name, message)
	} else {
		w.Header().Set("Content-Type", typeJSON)
		w.Header().Set("Content-Length", strconv.Itoa(len(out)))
		w.Write(out) // a client that is gone is no error of ours
		if cap(out) <= poolableMax {
			*answer = *bytes.NewBuffer(out[:0]) // keep the larger buffer
		}
	}
	if m.opts.Served != nil {
		m.opts.Served(operation, name)
	}
}

// call runs the operation. A panic is a fault of ours that must not end the host.
func (op *Op) call(ctx context.Context, body, dst []byte) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			out, err = nil, fmt.Errorf("panic in %s: %v", op.Name, p)
		}
	}()
	return op.run(ctx, body, dst)
}

// lookUp finds the operation of a target; known is false when the target names no service or
// operation at all.
func (m *Mux) lookUp(target string) (op *Op, name string, known bool) {
	prefix, name, found := strings.Cut(target, ".")
	if s := m.services[prefix]; s != nil {
		op = s.byName[name]
	}
	return op, name, found && prefix != "" && name != ""
}

func readBody(w http.ResponseWriter, r *http.Request, into *bytes.Buffer) bool {
	if r.ContentLength > maxBody {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return false
	}
	if r.ContentLength > 0 {
		into.Grow(int(r.ContentLength) + bytes.MinRead)
	}
	_, err := into.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		w.WriteHeader(http.StatusRequestEntityTooLarge)
	case err != nil:
		writeError(w, http.StatusBadRequest, "SerializationException", "")
	}
	return err == nil
}

// checkProtocol makes the checks that come before the operation is looked at.
func (m *Mux) checkProtocol(w http.ResponseWriter, r *http.Request, kind string, body []byte, known bool) bool {
	switch {
	case kind == typeCBOR:
		// The sentence is ours.
		writeCBORError(w, "UnsupportedProtocolException", "CBOR is not served here. Tell the SDK to send JSON: set CBOR_ENABLED=false or -Daws.cborEnabled=false (Java SDK 2), AWS_CBOR_DISABLE=true (Java SDK 1).")
	case len(body) == 0 && known:
		writeError(w, http.StatusBadRequest, "SerializationException", "")
	case len(body) == 0:
		writeError(w, http.StatusBadRequest, "UnknownOperationException", "")
	case kind != typeJSON && kind != typeJSON10 && !known:
		writeXML(w, http.StatusForbidden, "AccessDeniedException", "Unable to determine service/operation name to be authorized")
	case kind != typeJSON && kind != typeJSON10:
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, "<UnknownOperationException/>\n")
	case kind == typeJSON10:
		w.Header().Set("Content-Type", typeJSON10)
		w.WriteHeader(http.StatusNotFound)
		io.WriteString(w, `{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}`)
	default:
		return true
	}
	return false
}

func isObject(body []byte) bool {
	var none struct{}
	return DecodeJSON(body, &none) == nil
}
