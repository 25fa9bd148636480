package wasm

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// Effects are what an invocation did beyond answering: metrics, state, records emitted. The worker
// collects them and sends them with its answer; the host makes them last once the answer is
// accepted, and forgets them when the invocation failed. An effects block is a list of
//
//	u8 1, u32 n, key, f64 value               metric
//	u8 2, u32 n, key, u32 n, value            state: an empty value removes the key
//	u8 3, u32 n, stream, u32 n, partition key, u32 n, data
//
// Everything in it comes from an untrusted worker and is checked again here.
const (
	effectMetric = iota + 1
	effectState
	effectEmit
)

// Limits of one invocation's effects; sdk/ABI.md lists them.
const (
	maxEffects      = 8 << 20
	maxEmits        = 10_000
	maxEmitBytes    = 6 << 20 // data and partition keys
	maxEmission     = 1 << 20 // data and partition key of one record
	maxPartitionKey = 256     // characters
	maxMetrics      = 100     // series
)

// settleTime is what making effects last may take. It starts after the invocation: the function's
// own time limit does not cut it short.
const settleTime = 30 * time.Second

// maxRepeats is how often an invocation is run whose state somebody else changed meanwhile.
const maxRepeats = 10

type effects struct {
	metrics []runtime.Metric
	state   []stateEntry
	emits   []runtime.Emission
}

// cutEffects splits a RESULT payload with effects.
func cutEffects(payload []byte) (block, reply []byte, err error) {
	c := cutter{b: payload}
	block = c.bytes()
	return block, c.b, c.err
}

// cutter takes a block apart; the first fault stays in err.
type cutter struct {
	b   []byte
	err error
}

func (c *cutter) take(n int) []byte {
	if c.err != nil || n > len(c.b) {
		if c.err == nil {
			c.err = errors.New("the worker's effects are cut short")
		}
		return nil
	}
	v := c.b[:n:n]
	c.b = c.b[n:]
	return v
}

func (c *cutter) bytes() []byte {
	n := c.take(4)
	if c.err != nil {
		return nil
	}
	return c.take(int(binary.LittleEndian.Uint32(n)))
}

// parseEffects checks a block against what the function was granted.
func parseEffects(block []byte, g runtime.Grants) (effects, error) {
	var e effects
	total := 0
	c := cutter{b: block}
	for len(c.b) > 0 && c.err == nil {
		switch kind := c.take(1)[0]; {
		case kind == effectMetric && g.Metrics && len(e.metrics) < maxMetrics:
			key, bits := c.bytes(), c.take(8)
			if c.err != nil {
				break
			}
			m, err := parseMetric(string(key))
			if m.Value = math.Float64frombits(binary.LittleEndian.Uint64(bits)); err == nil {
				err = checkMetric(m)
			}
			c.err = err
			e.metrics = append(e.metrics, m)
		case kind == effectState && g.State:
			e.state = append(e.state, stateEntry{string(c.bytes()), c.bytes()})
		case kind == effectEmit && len(e.emits) < maxEmits:
			r := runtime.Emission{Stream: string(c.bytes()), PartitionKey: string(c.bytes()), Data: c.bytes()}
			total += len(r.PartitionKey) + len(r.Data)
			if c.err == nil && (!slices.Contains(g.Emit, r.Stream) || emissionFault(r.PartitionKey, len(r.Data)) || total > maxEmitBytes) {
				c.err = errors.New("the worker emitted what it may not")
			}
			e.emits = append(e.emits, r)
		default:
			c.err = fmt.Errorf("the worker reported an effect of kind %d out of turn", kind)
		}
	}
	return e, c.err
}

// emissionFault reports whether a record cannot be emitted.
func emissionFault(partitionKey string, data int) bool {
	return partitionKey == "" || !utf8.ValidString(partitionKey) || utf8.RuneCountInString(partitionKey) > maxPartitionKey || len(partitionKey)+data > maxEmission
}

// settle runs one invocation and makes its effects last. accept looks at the answer: ok false says
// that it is the function's own error, err that it breaks the ABI; in both cases the effects are
// forgotten. An invocation whose state changed under it runs again.
func (v *environment) settle(ctx context.Context, call *invocation, accept func(answer) (ok bool, err error)) error {
	for n := 1; ; n++ {
		a, err := v.invoke(ctx, call)
		if err != nil {
			return err
		}
		ok, err := accept(a)
		if err != nil {
			v.kill()
			return &runtime.FunctionFailure{Type: runtime.ErrorProtocol, Message: err.Error()}
		}
		if !ok || a.effects == nil {
			return nil
		}
		err = v.commit(ctx, a.effects)
		switch {
		case !errs.Is(err, errs.Conflict):
			return err
		case n == maxRepeats:
			return errs.Wrap(errs.Throttled, err, "the state of function %q was changed by other invocations %d times while one ran; lower the function's concurrency, or write less state", v.f.name, n)
		case !v.Alive():
			return errs.Wrap(errs.Throttled, err, "the state of function %q was changed by another invocation while this one ran", v.f.name)
		}
	}
}

// commit makes effects last: first the records, then the state, then the metrics. A failure in
// between leaves records that come again when the batch does.
func (v *environment) commit(ctx context.Context, block []byte) error {
	f := v.f
	e, err := parseEffects(block, f.grants)
	if err == nil && len(e.state) > 0 && !v.state.loaded {
		err = errors.New("the worker wrote state that it has not read")
	}
	var doc []byte
	if err == nil && len(e.state) > 0 {
		doc, err = applyState(v.state.doc, e.state)
	}
	if err != nil {
		v.kill()
		return &runtime.FunctionFailure{Type: runtime.ErrorProtocol, Message: err.Error()}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
	defer cancel()
	services := f.engine.options.Services
	if len(e.emits) > 0 {
		if err := services.Streams.Emit(ctx, e.emits); err != nil {
			return emitFailure(f.name, err)
		}
	}
	if len(e.state) > 0 && !bytes.Equal(doc, v.state.doc) {
		if err := services.State.Store(ctx, f.name, doc, v.state.rev); err != nil {
			return storeFailure(f.name, err)
		}
	}
	f.metrics.tell(f.name, f.engine.options.Events, e.metrics)
	return nil
}

// emitFailure is the function's failure when its records can never be put, else a fault of ours.
func emitFailure(function string, err error) error {
	if errs.Is(err, errs.NotFound) || errs.Is(err, errs.Invalid) {
		return &runtime.FunctionFailure{Type: runtime.ErrorHandler, Message: "shardmill.emit: " + err.Error()}
	}
	return errs.Wrap(errs.Unavailable, err, "the records that function %q emitted could not be put", function)
}

func storeFailure(function string, err error) error {
	if errs.Is(err, errs.Conflict) {
		return err
	}
	return errs.Wrap(errs.Unavailable, err, "the state of function %q could not be written", function)
}

// hostCall serves the one question a worker may ask during an invocation: its function's state.
func (v *environment) hostCall(ctx context.Context) error {
	f := v.f
	if !f.grants.State || v.state.loaded {
		return &runtime.FunctionFailure{Type: runtime.ErrorProtocol, Message: "the worker asked for its state out of turn"}
	}
	doc, rev, err := f.engine.options.Services.State.Load(ctx, f.name)
	if err == nil {
		_, err = parseState(doc)
	}
	if err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errs.Wrap(errs.Unavailable, err, "the state of function %q could not be read", f.name)
	}
	v.state = stateView{loaded: true, doc: doc, rev: rev}
	err = v.proc.ch.writeInline(header{kind: kindHostResult, id: v.id}, len(doc), func(dst []byte) { copy(dst, doc) })
	if err != nil {
		<-v.finished // it died
		return &runtime.FunctionFailure{Type: runtime.ErrorExit, Message: v.exitText}
	}
	return nil
}

// Metric keys: a name, and labels in braces: orders_total{region="eu",kind="new"}.

const (
	maxMetricName  = 100 // bytes of a name, of a label's name and of a label's value
	maxMetricLabel = 5
)

// parseMetric reads a metric key. A name that ends in _total is a counter's.
func parseMetric(key string) (runtime.Metric, error) {
	m := runtime.Metric{Name: key}
	if open := strings.IndexByte(key, '{'); open >= 0 {
		m.Name = key[:open]
		rest, ok := strings.CutSuffix(key[open+1:], "}")
		if !ok {
			return m, fmt.Errorf("the metric key %q has no closing brace", clip(key))
		}
		for rest != "" {
			name, after, ok1 := strings.Cut(rest, `="`)
			value, after, ok2 := strings.Cut(after, `"`)
			more, hasMore := strings.CutPrefix(after, ",")
			if !ok1 || !ok2 || hasMore == (more == "") || !hasMore && after != "" {
				return m, fmt.Errorf(`the labels of the metric key %q are not of the form name="value",name="value"`, clip(key))
			}
			m.Labels = append(m.Labels, runtime.Label{Name: name, Value: value})
			rest = more
		}
	}
	m.Counter = strings.HasSuffix(m.Name, "_total")
	slices.SortFunc(m.Labels, func(a, b runtime.Label) int { return strings.Compare(a.Name, b.Name) })
	return m, checkMetricNames(m)
}

func checkMetricNames(m runtime.Metric) error {
	if !metricName(m.Name) {
		return fmt.Errorf("the metric name %q is not 1 to %d letters, digits and underscores that start with no digit", clip(m.Name), maxMetricName)
	}
	if len(m.Labels) > maxMetricLabel {
		return fmt.Errorf("the metric %s has %d labels, the limit is %d", m.Name, len(m.Labels), maxMetricLabel)
	}
	for i, l := range m.Labels {
		switch {
		case !metricName(l.Name):
			return fmt.Errorf("the label name %q of metric %s is not 1 to %d letters, digits and underscores that start with no digit", clip(l.Name), m.Name, maxMetricName)
		case i > 0 && m.Labels[i-1].Name == l.Name:
			return fmt.Errorf("the metric %s has the label %s twice", m.Name, l.Name)
		case len(l.Value) > maxMetricName || strings.ContainsRune(l.Value, '\\') || printable([]byte(l.Value), len(l.Value), false) != l.Value || strings.ContainsRune(l.Value, '\t'):
			return fmt.Errorf("the label %s of metric %s has the value %q; it must be printable text of at most %d bytes without backslashes", l.Name, m.Name, clip(l.Value), maxMetricName)
		}
	}
	return nil
}

func metricName(s string) bool {
	if s == "" || len(s) > maxMetricName || s[0] >= '0' && s[0] <= '9' {
		return false
	}
	return strings.IndexFunc(s, func(r rune) bool {
		return r != '_' && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9')
	}) < 0
}

// checkMetric refuses values that no series can hold.
func checkMetric(m runtime.Metric) error {
	if math.IsNaN(m.Value) || math.IsInf(m.Value, 0) || m.Counter && m.Value < 0 {
		return fmt.Errorf("the metric %s was given the value %v; it must be finite, and not negative for a counter (a name that ends in _total)", m.Name, m.Value)
	}
	return nil
}
