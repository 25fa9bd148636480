// Package lambdaapi speaks the wire protocol of the Lambda API (2015-03-31) for the functions of
// package plugins and the mappings of package eventsource.
//
// A function has one version here, $LATEST: what lies in the plugin folder now. It is named as at AWS,
// by its name, by NAME:QUALIFIER, by ACCOUNT:function:NAME or by its ARN.
package lambdaapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/awsapi/rest"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/sigv4"
	"github.com/shardmill/shardmill/plugins"
	"github.com/shardmill/shardmill/plugins/eventsource"
	"github.com/shardmill/shardmill/runtime"
)

// Functions are the functions of the host; plugins.Registry is them.
type Functions interface {
	Function(nameOrARN string) (fn runtime.Function, release func(), err error)
	List() []plugins.Info
}

// Options configure New.
type Options struct {
	Functions Functions
	Mappings  *eventsource.Mappings
	Region    string // of the functions
	Account   string
	Caller    func(*http.Request) awsapi.Caller // as awsapi.Mux.CallerFrom
	Keys      sigv4.Keys                        // nil: requests are not verified
	Failed    func(requestID, operation string, err error)
}

type api struct{ o Options }

// New makes the service.
func New(o Options) *rest.Service {
	a := &api{o}
	s := &rest.Service{
		Name: "lambda", Caller: o.Caller, Keys: o.Keys, Failed: o.Failed,
		Errors: map[errs.Kind]rest.Error{
			errs.Invalid:     {Status: http.StatusBadRequest, Name: "InvalidParameterValueException"},
			errs.NotFound:    {Status: http.StatusNotFound, Name: "ResourceNotFoundException"},
			errs.Conflict:    {Status: http.StatusConflict, Name: "ResourceConflictException"},
			errs.InUse:       {Status: http.StatusConflict, Name: "ResourceConflictException"},
			errs.Throttled:   {Status: http.StatusTooManyRequests, Name: "TooManyRequestsException"},
			errs.Denied:      {Status: http.StatusForbidden, Name: "AccessDeniedException"},
			errs.Unavailable: {Status: http.StatusServiceUnavailable, Name: "ServiceException"},
		},
		Capital: map[string]bool{"ResourceNotFoundException": true, "ResourceInUseException": true, "ServiceException": true},
		Missing: rest.Error{Status: http.StatusNotFound, Name: "UnknownOperationException"},
		Ops:     append(a.mappingOps(), a.functionOps()...),
	}
	return s.Open()
}

// found is a function that a request names.
type found struct {
	arn  string // without a qualifier
	info plugins.Info
}

// find looks a function up by any of its names.
func (a *api) find(ctx context.Context, name string, qualifier *string) (found, error) {
	plain, by, err := parseName(name)
	if err != nil {
		return found{}, err
	}
	if qualifier != nil {
		if by != "" && by != *qualifier {
			return found{}, errs.New(errs.Invalid, "The derived qualifier from the function name does not match the specified qualifier.")
		}
		by = *qualifier
	}
	arn := "arn:aws:lambda:" + a.o.Region + ":" + a.o.Account + ":function:" + plain
	c := awsapi.CallerOf(ctx)
	if by == "" || by == "$LATEST" {
		for _, info := range a.o.Functions.List() {
			if info.Name == plain && (!c.Verified || c.Account == a.o.Account) {
				return found{arn, info}, nil
			}
		}
	} else {
		arn += ":" + by
	}
	return found{}, errs.New(errs.NotFound, "Function not found: %s", arn)
}

// parseName takes a function's reference apart.
func parseName(ref string) (name, qualifier string, err error) {
	rest := ref
	if strings.HasPrefix(ref, "arn:") {
		p := strings.SplitN(ref, ":", 7)
		if len(p) != 7 || p[2] != "lambda" || p[5] != "function" {
			return "", "", errs.New(errs.Invalid, "%s is not the ARN of a function.", ref)
		}
		rest = p[6]
	} else if p := strings.SplitN(ref, ":", 3); len(p) == 3 && p[1] == "function" {
		rest = p[2]
	}
	name, qualifier, _ = strings.Cut(rest, ":")
	if name == "" || strings.Contains(qualifier, ":") {
		return "", "", errs.New(errs.Invalid, "%s does not name a function.", ref)
	}
	return name, qualifier, nil
}
