package manifest

import (
	"encoding/json"
	"regexp"
	"time"

	"go.yaml.in/yaml/v3"
)

// EventSource is a stream whose records a function is invoked with: the parameters of an event
// source mapping for Kinesis, with Lambda's defaults filled in. No two of a manifest name one stream.
type EventSource struct {
	Stream            string // name, or ARN of a stream or of a consumer
	Enabled           bool
	StartingPosition  string    // TRIM_HORIZON, LATEST or AT_TIMESTAMP
	StartingTimestamp time.Time // of AT_TIMESTAMP
	BatchSize         int
	BatchingWindow    time.Duration
	Parallelization   int
	RetryAttempts     int           // -1: until the records expire
	RecordAge         time.Duration // 0: any
	Bisect            bool
	TumblingWindow    time.Duration // 0: none
	ReportFailures    bool          // ReportBatchItemFailures
	Filters           []string      // patterns, each a JSON object
	OnFailure         string        // ARN of a queue, topic, bucket or stream; "" is none
}

var (
	sourceForm = regexp.MustCompile(`^([a-zA-Z0-9_.-]{1,128}|arn:aws:kinesis:[a-z0-9-]+:[0-9]{12}:stream/[a-zA-Z0-9_.-]{1,128}(/consumer/[a-zA-Z0-9_.-]+:[0-9]+)?)$`)
	sinkForm   = regexp.MustCompile(`^arn:aws:(sqs|sns|s3|kinesis|firehose):[a-z0-9-]*:([0-9]{12})?:\S{1,256}$`)
)

// Limits of event source mappings (Lambda API, CreateEventSourceMapping).
const (
	maxSources = 10
	maxFilters = 5
	maxPattern = 4096
)

func (r *reader) eventSources(n *yaml.Node) (out []EventSource) {
	lines := map[string]int{}
	r.list(n, "event-sources", "mappings such as [{stream: quakes, starting-position: LATEST}]", maxSources, func(n *yaml.Node) {
		s := r.eventSource(n)
		if before := lines[s.Stream]; before > 0 && s.Stream != "" {
			r.bad(n, "stream %s was given before, in line %d: leave one", s.Stream, before)
		}
		lines[s.Stream] = n.Line
		out = append(out, s)
	})
	return out
}

func (r *reader) eventSource(n *yaml.Node) EventSource {
	s := EventSource{Enabled: true, BatchSize: 100, Parallelization: 1, RetryAttempts: -1}
	day := 24 * time.Hour
	given := r.mapping(n, "an event source", map[string]field{
		"stream": func(n *yaml.Node) {
			s.Stream = r.pattern(n, "stream", sourceForm, "the name of a stream, or the ARN of one or of a consumer")
		},
		"enabled": func(n *yaml.Node) { s.Enabled = r.boolean(n, "enabled") },
		"starting-position": func(n *yaml.Node) {
			s.StartingPosition = r.oneOf(n, "starting-position", "TRIM_HORIZON", "LATEST", "AT_TIMESTAMP")
		},
		"starting-position-timestamp": func(n *yaml.Node) { s.StartingTimestamp = r.timestamp(n, "starting-position-timestamp") },
		"batch-size":                  func(n *yaml.Node) { s.BatchSize = r.integer(n, "batch-size", 1, 10_000) },
		"maximum-batching-window":     func(n *yaml.Node) { s.BatchingWindow = r.seconds(n, "maximum-batching-window", 0, 300*time.Second) },
		"parallelization-factor":      func(n *yaml.Node) { s.Parallelization = r.integer(n, "parallelization-factor", 1, 10) },
		"maximum-retry-attempts":      func(n *yaml.Node) { s.RetryAttempts = r.integer(n, "maximum-retry-attempts", -1, 10_000) },
		"maximum-record-age":          func(n *yaml.Node) { s.RecordAge = r.seconds(n, "maximum-record-age", time.Minute, 7*day) },
		"bisect-batch-on-function-error": func(n *yaml.Node) {
			s.Bisect = r.boolean(n, "bisect-batch-on-function-error")
		},
		"tumbling-window":            func(n *yaml.Node) { s.TumblingWindow = r.seconds(n, "tumbling-window", 0, 900*time.Second) },
		"report-batch-item-failures": func(n *yaml.Node) { s.ReportFailures = r.boolean(n, "report-batch-item-failures") },
		"filters":                    func(n *yaml.Node) { s.Filters = r.filters(n) },
		"on-failure": func(n *yaml.Node) {
			s.OnFailure = r.pattern(n, "on-failure", sinkForm, "the ARN of a queue, a topic, a bucket, a stream or a delivery stream")
		},
	})
	if n.Kind != yaml.MappingNode {
		return s
	}
	for _, key := range []string{"stream", "starting-position"} {
		if given[key] == 0 {
			r.bad(n, "the event source has no %s, which it needs", key)
		}
	}
	switch at := given["starting-position-timestamp"] > 0; {
	case s.StartingPosition == "AT_TIMESTAMP" && !at:
		r.bad(n, "starting-position AT_TIMESTAMP needs a starting-position-timestamp")
	case s.StartingPosition != "AT_TIMESTAMP" && at:
		r.bad(n, "starting-position-timestamp goes with starting-position AT_TIMESTAMP only")
	}
	return s
}

// seconds is a duration of whole seconds, as the service has them.
func (r *reader) seconds(n *yaml.Node, name string, least, most time.Duration) time.Duration {
	d := r.duration(n, name, least, most)
	if d%time.Second != 0 {
		r.bad(n, "%s: %s is not a whole number of seconds", name, n.Value)
	}
	return d
}

func (r *reader) timestamp(n *yaml.Node, name string) time.Time {
	s, ok := r.scalar(n, name)
	if !ok {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		r.bad(n, "%s: %q is not a time such as 2026-01-31T12:00:00Z", name, s)
	}
	return t
}

// filters reads patterns, each written as JSON text.
func (r *reader) filters(n *yaml.Node) (out []string) {
	r.list(n, "filters", `patterns such as ['{"data": {"mag": [{"numeric": [">", 6]}]}}']`, maxFilters, func(n *yaml.Node) {
		s, ok := r.scalar(n, "a filter")
		var pattern map[string]json.RawMessage
		switch {
		case !ok:
		case len(s) > maxPattern:
			r.bad(n, "a filter has %d characters, over the limit of %d", len(s), maxPattern)
		case json.Unmarshal([]byte(s), &pattern) != nil || pattern == nil:
			r.bad(n, "a filter is not a JSON object: write it between single quotes")
		default:
			out = append(out, s)
		}
	})
	return out
}
