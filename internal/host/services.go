package host

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/shards"
)

// What the host lends to functions that were granted it: state kept as metadata, streams to emit
// to, and a page of their metrics.

// functionState keeps each function's state document under its name.
type functionState struct{ meta shards.Meta }

const statePrefix = "function-state/"

func (s functionState) Load(ctx context.Context, function string) ([]byte, uint64, error) {
	doc, rev, err := s.meta.Get(ctx, statePrefix+function)
	return doc, uint64(rev), err
}

func (s functionState) Store(ctx context.Context, function string, doc []byte, rev uint64) error {
	key := statePrefix + function
	ok, err := s.meta.Txn(ctx, []shards.Cmp{{Key: key, Rev: shards.Rev(rev)}}, []shards.Op{{Key: key, Value: doc, Delete: len(doc) == 0}})
	if err == nil && !ok {
		err = errs.New(errs.Conflict, "the state of function %q changed since it was read", function)
	}
	return err
}

// functionStreams puts what functions emit to the account's streams.
type functionStreams struct {
	streams *shards.Streams
	scope   shards.Scope
}

func (s functionStreams) Emit(ctx context.Context, records []runtime.Emission) error {
	byStream := map[string][]shards.PutRecord{}
	found := map[string]*shards.Stream{}
	for _, r := range records { // first all that can be wrong, then the first side effect
		stream := found[r.Stream]
		if stream == nil {
			var err error
			if stream, err = s.streams.Get(s.scope, r.Stream); err != nil {
				return err
			}
			found[r.Stream] = stream
		}
		if size, limit := len(r.PartitionKey)+len(r.Data), stream.Attributes().MaxRecordSize; size > limit {
			return errs.New(errs.Invalid, "a record of %d bytes of data and partition key is above the limit of stream %s, %d bytes", size, r.Stream, limit)
		}
		byStream[r.Stream] = append(byStream[r.Stream], shards.PutRecord{Key: []byte(r.PartitionKey), Data: r.Data})
	}
	for _, name := range slices.Sorted(maps.Keys(byStream)) {
		placed := make([]shards.Placed, len(byStream[name]))
		found[name].Put(ctx, byStream[name], placed)
		for i := range placed {
			if placed[i].Err != nil {
				return placed[i].Err
			}
		}
	}
	return nil
}

// functionMetrics holds the last values that functions reported. The engine bounds the series.
type functionMetrics struct {
	mu     sync.Mutex
	values map[string]map[string]float64 // by name and type line, by series
}

func (m *functionMetrics) take(function string, r runtime.Metric) {
	kind := "gauge"
	if r.Counter {
		kind = "counter"
	}
	family := "shardmill_function_" + r.Name + " " + kind
	var series strings.Builder
	series.WriteString("shardmill_function_" + r.Name + `{function="` + function + `"`)
	for _, l := range r.Labels {
		name := l.Name
		if name == "function" { // ours
			name = "exported_function"
		}
		series.WriteString("," + name + `="` + l.Value + `"`) // a value has no quotes and no backslashes
	}
	series.WriteString("}")
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values == nil {
		m.values = map[string]map[string]float64{}
	}
	if m.values[family] == nil {
		m.values[family] = map[string]float64{}
	}
	if r.Counter {
		r.Value += m.values[family][series.String()]
	}
	m.values[family][series.String()] = r.Value
}

// write writes the values in Prometheus' text format.
func (m *functionMetrics) write(w io.Writer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, family := range slices.Sorted(maps.Keys(m.values)) {
		fmt.Fprintf(w, "# TYPE %s\n", family)
		for _, series := range slices.Sorted(maps.Keys(m.values[family])) {
			fmt.Fprintf(w, "%s %s\n", series, strconv.FormatFloat(m.values[family][series], 'g', -1, 64))
		}
	}
}
