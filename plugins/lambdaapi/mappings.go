package lambdaapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/awsapi/rest"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/plugins/eventsource"
)

// Event source mappings: CreateEventSourceMapping, GetEventSourceMapping, ListEventSourceMappings,
// UpdateEventSourceMapping, DeleteEventSourceMapping.

type onFailure struct {
	Destination *string `aws:"min=0,max=350"`
}

type destinationConfig struct {
	OnFailure *onFailure
	OnSuccess *onFailure
}

type filter struct {
	Pattern *string `aws:"min=0,max=4096"`
}

type filterCriteria struct{ Filters []filter }

// absent is a member for other kinds of event sources, or for what this host has not: given, it is
// refused by name.
type absent struct{}

// mappingSettings are the members that may be changed.
type mappingSettings struct {
	BatchSize                      *int32 `aws:"min=1,max=10000"`
	BisectBatchOnFunctionError     *bool
	DestinationConfig              *destinationConfig
	Enabled                        *bool
	FilterCriteria                 *filterCriteria
	FunctionResponseTypes          []string `aws:"min=0,max=1" elem:"enum=ReportBatchItemFailures"`
	MaximumBatchingWindowInSeconds *int32   `aws:"min=0,max=300"`
	MaximumRecordAgeInSeconds      *int32   `aws:"min=-1,max=604800"`
	MaximumRetryAttempts           *int32   `aws:"min=-1,max=10000"`
	ParallelizationFactor          *int32   `aws:"min=1,max=10"`
	TumblingWindowInSeconds        *int32   `aws:"min=0,max=900"`

	KMSKeyArn                           *string
	AmazonManagedKafkaEventSourceConfig *absent
	DocumentDBEventSourceConfig         *absent
	LoggingConfig                       *absent
	MetricsConfig                       *absent
	ProvisionedPollerConfig             *absent
	ScalingConfig                       *absent
	SelfManagedKafkaEventSourceConfig   *absent
	SourceAccessConfigurations          []absent
}

// refuse names a member that cannot be had here.
func (in *mappingSettings) refuse() error {
	for _, m := range []struct {
		name  string
		given bool
	}{
		{"KMSKeyArn", in.KMSKeyArn != nil}, {"MetricsConfig", in.MetricsConfig != nil}, {"LoggingConfig", in.LoggingConfig != nil},
		{"ProvisionedPollerConfig", in.ProvisionedPollerConfig != nil}, {"ScalingConfig", in.ScalingConfig != nil},
		{"AmazonManagedKafkaEventSourceConfig", in.AmazonManagedKafkaEventSourceConfig != nil}, {"SelfManagedKafkaEventSourceConfig", in.SelfManagedKafkaEventSourceConfig != nil},
		{"DocumentDBEventSourceConfig", in.DocumentDBEventSourceConfig != nil}, {"SourceAccessConfigurations", len(in.SourceAccessConfigurations) > 0},
	} {
		if m.given {
			return errs.New(errs.Invalid, "%s is not supported: event sources of this host are streams, and it keeps no metrics of mappings.", m.name)
		}
	}
	if d := in.DestinationConfig; d != nil && d.OnSuccess != nil {
		return errs.New(errs.Invalid, "Unsupported DestinationConfig parameter for given event source mapping type.")
	}
	return nil
}

// into puts what is given into a configuration.
func (in *mappingSettings) into(c *eventsource.Config) {
	for _, n := range []struct {
		from *int32
		to   *int
	}{
		{in.BatchSize, &c.BatchSize}, {in.MaximumBatchingWindowInSeconds, &c.BatchingWindow}, {in.MaximumRecordAgeInSeconds, &c.MaximumAge},
		{in.MaximumRetryAttempts, &c.MaximumRetries}, {in.ParallelizationFactor, &c.Parallelization}, {in.TumblingWindowInSeconds, &c.TumblingWindow},
	} {
		if n.from != nil {
			*n.to = int(*n.from)
		}
	}
	if in.BisectBatchOnFunctionError != nil {
		c.Bisect = *in.BisectBatchOnFunctionError
	}
	if in.Enabled != nil {
		c.Enabled = *in.Enabled
	}
	if in.FunctionResponseTypes != nil {
		c.ReportItemFailures = len(in.FunctionResponseTypes) > 0
	}
	if d := in.DestinationConfig; d != nil {
		c.OnFailure = ""
		if d.OnFailure != nil && d.OnFailure.Destination != nil {
			c.OnFailure = *d.OnFailure.Destination
		}
	}
	if f := in.FilterCriteria; f != nil {
		c.Filters = nil
		for _, one := range f.Filters {
			text := "" // which is no pattern
			if one.Pattern != nil {
				text = *one.Pattern
			}
			c.Filters = append(c.Filters, text)
		}
	}
}

type createMappingIn struct {
	FunctionName              *string `aws:"required,min=1,max=256"`
	EventSourceArn            *string
	StartingPosition          *string `enum:"LATEST,AT_TIMESTAMP,TRIM_HORIZON"`
	StartingPositionTimestamp *awsapi.Timestamp
	mappingSettings

	Queues                 []string
	SelfManagedEventSource *absent
	Tags                   map[string]string
	Topics                 []string
}

func (a *api) createMapping(ctx context.Context, in *createMappingIn) (*mappingOut, error) {
	if in.Queues != nil || in.Topics != nil || in.SelfManagedEventSource != nil || in.EventSourceArn == nil {
		return nil, errs.New(errs.Invalid, "Unrecognized event source.")
	}
	if in.Tags != nil {
		return nil, errs.New(errs.Invalid, "Tags is not supported: mappings of this host have no tags.")
	}
	if err := in.refuse(); err != nil {
		return nil, err
	}
	if in.StartingPosition == nil {
		return nil, errs.New(errs.Invalid, "1 validation error detected: Value null at 'startingPosition' failed to satisfy constraint: Member must not be null.")
	}
	arn, err := a.functionARN(ctx, *in.FunctionName)
	if err != nil {
		return nil, err
	}
	c := eventsource.Defaults()
	c.EventSourceARN, c.StartingPosition = *in.EventSourceArn, *in.StartingPosition
	if in.StartingPositionTimestamp != nil {
		c.StartingMs = int64(*in.StartingPositionTimestamp)
	}
	if err := sameAccount(ctx, c.EventSourceARN); err != nil {
		return nil, err
	}
	in.into(&c)
	m, err := a.o.Mappings.Create(ctx, c, arn)
	if err != nil {
		return nil, err
	}
	return a.describeMapping(m), nil
}

// sameAccount refuses sources of other accounts to callers whose account is known.
func sameAccount(ctx context.Context, arn string) error {
	c := awsapi.CallerOf(ctx)
	if p := strings.SplitN(arn, ":", 6); c.Verified && len(p) == 6 && p[4] != c.Account {
		return errs.New(errs.Denied, "Account %s is not authorized to read %s.", c.Account, arn)
	}
	return nil
}

// functionARN is the ARN of a function that is there.
func (a *api) functionARN(ctx context.Context, name string) (string, error) {
	f, err := a.find(ctx, name, nil)
	if errs.Is(err, errs.NotFound) {
		return "", errs.New(errs.Invalid, "Function does not exist")
	}
	return f.arn, err
}

type mappingRef struct {
	UUID *string `in:"path"`
}

func (a *api) mapping(ctx context.Context, in *mappingRef) (*eventsource.Mapping, error) {
	m, err := a.o.Mappings.Get(strings.ToLower(*in.UUID))
	if err == nil && sameAccount(ctx, m.View().EventSourceARN) != nil {
		err = errs.New(errs.NotFound, "The resource you requested does not exist.")
	}
	return m, err
}

func (a *api) getMapping(ctx context.Context, in *mappingRef) (*mappingOut, error) {
	m, err := a.mapping(ctx, in)
	if err != nil {
		return nil, err
	}
	return a.describeMapping(m), nil
}

type updateMappingIn struct {
	mappingRef
	FunctionName *string `aws:"min=1,max=256"`
	mappingSettings
}

func (a *api) updateMapping(ctx context.Context, in *updateMappingIn) (*mappingOut, error) {
	m, err := a.mapping(ctx, &in.mappingRef)
	if err != nil {
		return nil, err
	}
	if err := in.refuse(); err != nil {
		return nil, err
	}
	arn := m.View().FunctionARN
	if in.FunctionName != nil {
		if arn, err = a.functionARN(ctx, *in.FunctionName); err != nil {
			return nil, err
		}
	}
	err = m.Update(ctx, arn, func(c *eventsource.Config) error {
		in.into(c)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return a.describeMapping(m), nil
}

func (a *api) deleteMapping(ctx context.Context, in *mappingRef) (*mappingOut, error) {
	m, err := a.mapping(ctx, in)
	if err != nil {
		return nil, err
	}
	if err := m.Delete(ctx); err != nil {
		return nil, err
	}
	return a.describeMapping(m), nil
}

type listMappingsIn struct {
	EventSourceArn *string `in:"query"`
	FunctionName   *string `in:"query"`
	Marker         *string `in:"query"`
	MaxItems       *int32  `in:"query" aws:"min=1,max=10000"`
}

type listMappingsOut struct {
	NextMarker          *string
	EventSourceMappings []mappingOut
}

func (a *api) listMappings(ctx context.Context, in *listMappingsIn) (*listMappingsOut, error) {
	limit := 100
	if in.MaxItems != nil {
		limit = min(limit, int(*in.MaxItems))
	}
	arn := ""
	if in.FunctionName != nil {
		f, err := a.find(ctx, *in.FunctionName, nil)
		if err != nil {
			return nil, err
		}
		arn = f.arn
	}
	out := &listMappingsOut{EventSourceMappings: []mappingOut{}}
	for _, m := range a.o.Mappings.List() {
		v := m.View()
		switch {
		case in.Marker != nil && m.UUID <= *in.Marker,
			in.EventSourceArn != nil && *in.EventSourceArn != v.EventSourceARN,
			arn != "" && arn != v.FunctionARN,
			sameAccount(ctx, v.EventSourceARN) != nil:
			continue
		}
		if len(out.EventSourceMappings) == limit {
			out.NextMarker = &out.EventSourceMappings[limit-1].UUID
			break
		}
		out.EventSourceMappings = append(out.EventSourceMappings, *a.describeMapping(m))
	}
	return out, nil
}

type failureOut struct {
	Destination *string
}

type destinationOut struct{ OnFailure failureOut }

type filterOut struct{ Pattern string }

type filtersOut struct{ Filters []filterOut }

type mappingOut struct {
	UUID                           string
	BatchSize                      int32
	BisectBatchOnFunctionError     bool
	DestinationConfig              destinationOut
	EventSourceArn                 string
	EventSourceMappingArn          string
	FilterCriteria                 *filtersOut
	FunctionArn                    string
	FunctionResponseTypes          []string
	LastModified                   awsapi.Timestamp
	LastProcessingResult           string
	MaximumBatchingWindowInSeconds int32
	MaximumRecordAgeInSeconds      int32
	MaximumRetryAttempts           int32
	ParallelizationFactor          int32
	StartingPosition               string
	StartingPositionTimestamp      *awsapi.Timestamp
	State                          string
	StateTransitionReason          string
	TumblingWindowInSeconds        int32
}

func (a *api) describeMapping(m *eventsource.Mapping) *mappingOut {
	v := m.View()
	out := &mappingOut{
		UUID: m.UUID, BatchSize: int32(v.BatchSize), BisectBatchOnFunctionError: v.Bisect, EventSourceArn: v.EventSourceARN,
		EventSourceMappingArn: "arn:aws:lambda:" + a.o.Region + ":" + a.o.Account + ":event-source-mapping:" + m.UUID,
		FunctionArn:           v.FunctionARN, FunctionResponseTypes: []string{}, LastModified: awsapi.TimestampOf(v.Modified), LastProcessingResult: v.Result,
		MaximumBatchingWindowInSeconds: int32(v.BatchingWindow), MaximumRecordAgeInSeconds: int32(v.MaximumAge), MaximumRetryAttempts: int32(v.MaximumRetries),
		ParallelizationFactor: int32(v.Parallelization), StartingPosition: v.StartingPosition, State: string(v.State), StateTransitionReason: "User action",
		TumblingWindowInSeconds: int32(v.TumblingWindow),
	}
	if v.OnFailure != "" {
		out.DestinationConfig.OnFailure.Destination = &v.OnFailure
	}
	if v.ReportItemFailures {
		out.FunctionResponseTypes = append(out.FunctionResponseTypes, eventsource.ReportBatchItemFailures)
	}
	if v.StartingMs != 0 {
		t := awsapi.Timestamp(v.StartingMs)
		out.StartingPositionTimestamp = &t
	}
	for _, p := range v.Filters {
		if out.FilterCriteria == nil {
			out.FilterCriteria = new(filtersOut)
		}
		out.FilterCriteria.Filters = append(out.FilterCriteria.Filters, filterOut{p})
	}
	return out
}

// mappingOps are the operations of this file.
func (a *api) mappingOps() []rest.Op {
	const all, one = "/2015-03-31/event-source-mappings", "/2015-03-31/event-source-mappings/{UUID}"
	return []rest.Op{
		rest.Handle("CreateEventSourceMapping", http.MethodPost, all, http.StatusAccepted, a.createMapping),
		rest.Handle("ListEventSourceMappings", http.MethodGet, all, http.StatusOK, a.listMappings),
		rest.Handle("GetEventSourceMapping", http.MethodGet, one, http.StatusOK, a.getMapping),
		rest.Handle("UpdateEventSourceMapping", http.MethodPut, one, http.StatusAccepted, a.updateMapping),
		rest.Handle("DeleteEventSourceMapping", http.MethodDelete, one, http.StatusAccepted, a.deleteMapping),
	}
}
