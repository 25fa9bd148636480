package wasm

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero/api"

	"github.com/shardmill/shardmill/runtime"
)

// guestEffects collects what the guest does in one invocation beside answering. It goes to the
// host with the answer, in the form of effects.go.
type guestEffects struct {
	metrics map[string]float64
	order   []string // metric keys as they came
	dropped bool     // a series too many was reported, and the guest's author told

	state   map[string][]byte // as the guest sees it; nil until it asks
	changed map[string]bool

	emits     []byte // encoded
	emitted   int
	emitBytes int
}

func (e *guestEffects) reset() { *e = guestEffects{emits: e.emits[:0]} }

// encode gives the effects block; nil when there is nothing in it.
func (e *guestEffects) encode() []byte {
	le := binary.LittleEndian
	var b []byte
	text := func(s string) { b = append(le.AppendUint32(b, uint32(len(s))), s...) }
	for _, key := range e.order {
		b = append(b, effectMetric)
		text(key)
		b = le.AppendUint64(b, math.Float64bits(e.metrics[key]))
	}
	for key := range e.changed {
		b = append(b, effectState)
		text(key)
		text(string(e.state[key]))
	}
	return append(b, e.emits...)
}

// duringInvocation traps the guest that calls a function when nothing is under way.
func (w *worker) duringInvocation(function string, granted bool) {
	switch {
	case !granted:
		panic(fmt.Errorf("%s is not granted", function))
	case !w.busy:
		panic(fmt.Errorf("%s was called while no invocation was under way", function))
	}
}

// hostMetric is metric(keyPtr, keyLen, value).
func (w *worker) hostMetric(m api.Module, stack []uint64) {
	const name = "shardmill.metric"
	w.duringInvocation(name, w.spec.Grants.Metrics)
	raw := bytesAt(m, name, stack[0], stack[1])
	metric, err := parseMetric(string(raw[:min(len(raw), 2048)]))
	if metric.Value = math.Float64frombits(stack[2]); err == nil {
		err = checkMetric(metric)
	}
	if err != nil {
		panic(fmt.Errorf("%s: %w", name, err))
	}
	e := &w.effects
	key := metricKey(metric)
	old, known := e.metrics[key]
	switch {
	case !known && len(e.order) == maxMetrics:
		if !e.dropped {
			w.log.text("WARN", fmt.Appendf(nil, "the metric %s and further ones are dropped: one invocation may report %d series", key, maxMetrics))
		}
		e.dropped = true
		return
	case !known:
		if e.metrics == nil {
			e.metrics = map[string]float64{}
		}
		e.order = append(e.order, key)
	}
	if metric.Counter {
		metric.Value = min(metric.Value+old, math.MaxFloat64)
	}
	e.metrics[key] = metric.Value
}

// metricKey is the one spelling of a series.
func metricKey(m runtime.Metric) string {
	if len(m.Labels) == 0 {
		return m.Name
	}
	labels := make([]string, len(m.Labels))
	for i, l := range m.Labels {
		labels[i] = l.Name + `="` + l.Value + `"`
	}
	return m.Name + "{" + strings.Join(labels, ",") + "}"
}

// loadState asks the host for the function's state, once an invocation.
func (w *worker) loadState() {
	if w.effects.state != nil {
		return
	}
	if w.ch.writeInline(header{kind: kindHostCall, id: w.id}, 0, nil) != nil {
		w.gone()
	}
	h, doc, err := w.ch.read()
	if err != nil || h.kind != kindHostResult {
		w.gone()
	}
	if w.effects.state, err = parseState(doc); err != nil {
		w.fault(faultRefused, err.Error())
	}
}

// hostStateGet is state_get(keyPtr, keyLen, buf, cap) -> needed.
func (w *worker) hostStateGet(m api.Module, stack []uint64) {
	const name = "shardmill.state_get"
	w.duringInvocation(name, w.spec.Grants.State)
	key := bytesAt(m, name, stack[0], stack[1])
	w.loadState()
	value := w.effects.state[string(key)]
	giveBack(m, name, value, len(value) > 0, stack[2:], stack)
}

// hostStatePut is state_put(keyPtr, keyLen, ptr, len) -> 0, or 1 when it is too much.
func (w *worker) hostStatePut(m api.Module, stack []uint64) {
	const name = "shardmill.state_put"
	w.duringInvocation(name, w.spec.Grants.State)
	key, value := string(bytesAt(m, name, stack[0], stack[1])), bytesAt(m, name, stack[2], stack[3])
	w.loadState()
	e := &w.effects
	old := e.state[key]
	size := stateSize(e.state) + len(value) - len(old)
	if old == nil {
		size += 8 + len(key)
	}
	if key == "" || len(key) > maxStateKey || len(value) > 0 && size > maxStateBytes {
		stack[0] = 1
		return
	}
	if len(value) == 0 {
		delete(e.state, key)
	} else {
		e.state[key] = slices.Clone(value)
	}
	if e.changed == nil {
		e.changed = map[string]bool{}
	}
	e.changed[key] = true
	stack[0] = 0
}

// hostEmit is emit(streamPtr, streamLen, keyPtr, keyLen, ptr, len) -> 0; 1 when the record cannot
// be put, 2 when it is one too many.
func (w *worker) hostEmit(m api.Module, stack []uint64) {
	const name = "shardmill.emit"
	grants := w.spec.Grants.Emit
	w.duringInvocation(name, len(grants) > 0)
	stream, key, data := bytesAt(m, name, stack[0], stack[1]), bytesAt(m, name, stack[2], stack[3]), bytesAt(m, name, stack[4], stack[5])
	if !slices.Contains(grants, string(stream)) {
		panic(fmt.Errorf("%s was given the stream %q, which is not granted; granted is %s", name, printable(stream, 128, false), strings.Join(grants, ", ")))
	}
	e := &w.effects
	total := e.emitBytes + len(key) + len(data)
	switch {
	case emissionFault(string(key[:min(len(key), 4*maxPartitionKey+1)]), len(data)):
		stack[0] = 1
		return
	case e.emitted == maxEmits || total > maxEmitBytes:
		stack[0] = 2
		return
	}
	e.emits = append(e.emits, effectEmit)
	for _, part := range [][]byte{stream, key, data} {
		e.emits = append(binary.LittleEndian.AppendUint32(e.emits, uint32(len(part))), part...)
	}
	e.emitted, e.emitBytes = e.emitted+1, total
	stack[0] = 0
}
