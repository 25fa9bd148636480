// Package rest is the wire of AWS's rest-json services, such as Lambda: operations are found by method
// and path, members travel in the path, in the query, in headers and in a JSON body.
//
// An operation is a plain function func(ctx, *In) (*Out, error), as in package awsapi, whose codec and
// validation serve here too. Fields of In with a tag `in:"path"`, `in:"query"` or `in:"header=NAME"`
// are taken from there; they are *string, *bool or *int32. All other fields are members of the body.
// An operation with a body of its own kind (an invocation's payload) is Raw.
package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/sigv4"
)

// Op is one operation.
type Op struct {
	Name    string
	Method  string
	Path    string // /2015-03-31/functions/{FunctionName}; a {name} is one segment
	MaxBody int64  // bytes; 0 is 1 MiB

	parts []string
	run   func(ctx context.Context, w http.ResponseWriter, r *http.Request, path map[string]string, body []byte) error
}

// Handle makes an operation of a function. It answers with status, and a JSON body unless Out is nil.
func Handle[In, Out any](name, method, path string, status int, fn func(context.Context, *In) (*Out, error)) Op {
	return Op{Name: name, Method: method, Path: path, run: func(ctx context.Context, w http.ResponseWriter, r *http.Request, vars map[string]string, body []byte) error {
		in := new(In)
		if err := read(in, r, vars, body); err != nil {
			return err
		}
		if err := awsapi.Validate(in); err != nil {
			return err
		}
		out, err := fn(ctx, in)
		if err != nil {
			return err
		}
		if out == nil {
			w.WriteHeader(status)
			return nil
		}
		b, err := awsapi.EncodeJSON(out)
		if err != nil {
			return err
		}
		write(w, status, b)
		return nil
	}}
}

// Raw makes an operation of a function that reads the request and writes the answer itself.
func Raw(name, method, path string, maxBody int64, fn func(ctx context.Context, w http.ResponseWriter, r *http.Request, path map[string]string, body []byte) error) Op {
	return Op{Name: name, Method: method, Path: path, MaxBody: maxBody, run: fn}
}

// Error is an error with its name, status and further members of its document.
type Error struct {
	Status  int
	Name    string
	Message string
	Reason  string
}

func (e *Error) Error() string { return e.Name + ": " + e.Message }

// Service serves operations.
type Service struct {
	Name   string // signing name
	Ops    []Op
	Errors map[errs.Kind]Error // what kinds are called; Message is ignored
	// Capital names the errors whose document says "Message", not "message".
	Capital map[string]bool
	// Missing is the answer to a path that no operation has.
	Missing Error

	Caller func(*http.Request) awsapi.Caller
	Keys   sigv4.Keys // nil: callers are believed
	Failed func(requestID, operation string, err error)

	verifier *sigv4.Verifier
}

const (
	defaultBody = 1 << 20
	// EndOfBody is the most that any request may have: a function's package in base64.
	EndOfBody = 80 << 20
)

// Open prepares the service to serve.
func (s *Service) Open() *Service {
	for i := range s.Ops {
		s.Ops[i].parts = segments(s.Ops[i].Path)
	}
	if s.Keys != nil {
		s.verifier = sigv4.NewVerifier(s.Name, s.Keys)
	}
	return s
}

// segments cuts a path, which may end in a slash.
func segments(path string) []string {
	return strings.Split(strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/"), "/")
}

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	caller := s.Caller(r)
	caller.RequestID = uuid.NewString()
	w.Header().Set("X-Amzn-Requestid", caller.RequestID)
	op, vars, err := s.find(r)
	if err == nil {
		err = s.serve(w, r, op, vars, caller)
	}
	if err != nil {
		s.refuse(w, caller, op, err)
	}
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request, op *Op, vars map[string]string, caller awsapi.Caller) error {
	most := op.MaxBody
	if most == 0 {
		most = defaultBody
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, most))
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return &Error{Status: http.StatusRequestEntityTooLarge, Name: "RequestTooLargeException", Message: "Request must be smaller than " + strconv.FormatInt(most, 10) + " bytes for the " + op.Name + " operation"}
	}
	if err != nil {
		return &Error{Status: http.StatusBadRequest, Name: "InvalidRequestContentException", Message: "The request body ended before its time."}
	}
	if s.verifier != nil {
		id, err := s.verifier.Verify(r, body, time.Now())
		var refused *sigv4.Error
		if errors.As(err, &refused) {
			return &Error{Status: http.StatusForbidden, Name: refused.Name, Message: refused.Message}
		}
		if err != nil {
			return err
		}
		caller.Account, caller.Region, caller.Verified = id.Account, id.Region, true
	}
	return awsapi.Guard(op.Name, func() error { return op.run(awsapi.WithCaller(r.Context(), caller), w, r, vars, body) })
}

// find matches the path as it was sent: a segment may hold an escaped slash or colon.
func (s *Service) find(r *http.Request) (*Op, map[string]string, error) {
	got := segments(r.URL.EscapedPath())
	known := false
	for i := range s.Ops {
		op := &s.Ops[i]
		vars, ok := match(op.parts, got)
		if !ok {
			continue
		}
		if op.Method == r.Method {
			return op, vars, nil
		}
		known = true
	}
	if known {
		return nil, nil, &Error{Status: http.StatusMethodNotAllowed, Name: s.Missing.Name, Message: "The method " + r.Method + " is not one of " + r.URL.Path + "."}
	}
	missing := s.Missing
	missing.Message = "There is no operation at " + r.Method + " " + r.URL.Path + "."
	return nil, nil, &missing
}

func match(want, got []string) (map[string]string, bool) {
	if len(want) != len(got) {
		return nil, false
	}
	vars := make(map[string]string)
	for i, p := range want {
		if !strings.HasPrefix(p, "{") {
			if p != got[i] {
				return nil, false
			}
			continue
		}
		v, err := url.PathUnescape(got[i])
		if err != nil || v == "" {
			return nil, false
		}
		vars[strings.Trim(p, "{}")] = v
	}
	return vars, true
}

// read fills an operation's input.
func read(in any, r *http.Request, vars map[string]string, body []byte) error {
	if len(bytes.TrimSpace(body)) > 0 {
		if err := awsapi.DecodeJSON(body, in); err != nil {
			return err
		}
	}
	v := reflect.ValueOf(in).Elem()
	for _, f := range reflect.VisibleFields(v.Type()) {
		place, name, _ := strings.Cut(f.Tag.Get("in"), "=")
		if place == "" {
			continue
		}
		if name == "" {
			name = f.Name
		}
		var text string
		var given bool
		switch place {
		case "path":
			text, given = vars[name]
		case "query":
			given = r.URL.Query().Has(name)
			text = r.URL.Query().Get(name)
		case "header":
			text = r.Header.Get(name)
			given = text != ""
		}
		field := v.FieldByIndex(f.Index)
		field.SetZero() // whatever the body says
		if given {
			if err := set(field, name, text); err != nil {
				return err
			}
		}
	}
	return nil
}

func set(field reflect.Value, name, text string) error {
	switch p := field.Addr().Interface().(type) {
	case **string:
		*p = &text
	case **bool:
		b, err := strconv.ParseBool(text)
		if err != nil {
			return &awsapi.SerializationError{Message: "'" + text + "' can not be converted to an Boolean: " + name}
		}
		*p = &b
	case **int32:
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return &awsapi.SerializationError{Message: "'" + text + "' can not be converted to an Integer: " + name}
		}
		n32 := int32(n)
		*p = &n32
	default:
		panic("rest: " + field.Type().String() + " cannot stand in a path, a query or a header")
	}
	return nil
}

func write(w http.ResponseWriter, status int, b []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b)))
	w.WriteHeader(status)
	w.Write(b)
}

// refuse writes an error in the shape of rest-json services.
func (s *Service) refuse(w http.ResponseWriter, caller awsapi.Caller, op *Op, err error) {
	e := s.describe(err)
	if e.Status >= 500 && s.Failed != nil && op != nil {
		s.Failed(caller.RequestID, op.Name, err)
	}
	key, kind := "message", "User"
	if s.Capital[e.Name] {
		key = "Message"
	}
	if e.Status >= 500 {
		kind = "Service"
	}
	doc := map[string]string{"Type": kind, key: e.Message}
	if e.Reason != "" {
		doc["Reason"] = e.Reason
	}
	b, err := json.Marshal(doc)
	if err != nil {
		panic(err) // texts
	}
	w.Header().Set("X-Amzn-Errortype", e.Name)
	write(w, e.Status, b)
}

func (s *Service) describe(err error) Error {
	var own *Error
	var ser *awsapi.SerializationError
	var val *awsapi.ValidationError
	var known *errs.Error
	switch {
	case errors.As(err, &own):
		return *own
	case errors.As(err, &ser):
		return Error{Status: http.StatusBadRequest, Name: "SerializationException", Message: ser.Message}
	case errors.As(err, &val):
		return Error{Status: http.StatusBadRequest, Name: "ValidationException", Message: val.Message}
	case errors.As(err, &known):
		if e, named := s.Errors[known.Kind]; named {
			e.Message = known.Msg
			return e
		}
	}
	return Error{Status: http.StatusInternalServerError, Name: "ServiceException", Message: "The host has failed; its log says more."}
}
