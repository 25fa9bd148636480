package eventsource

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strconv"
	"strings"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// Filters are EventBridge patterns ("Lambda docs: event filtering"). A record passes if any of them
// matches. A pattern is an object: every key must match, by its value: an object goes one level down,
// a list has alternatives, of which one must match. The key data stands for the record's data as JSON;
// beside it are partitionKey, sequenceNumber, approximateArrivalTimestamp, eventID and
// kinesisSchemaVersion. Data that is not JSON passes no pattern that asks for data.

type filters []*pattern

const maxPattern = 4096 // characters

// pattern is an object of a pattern.
type pattern struct {
	keys map[string]node
	or   []*pattern // $or: one of these must match, too
}

// node is what a key must match: an object below, or one of several tests.
type node struct {
	below *pattern
	tests []test
}

// test is one alternative. exists is asked with absent values, too.
type test func(v any, present bool) bool

var errPattern = errs.New(errs.Invalid, "Invalid filter pattern definition.")

// compileFilters reads filters; none at all let everything pass.
func compileFilters(texts []string) (filters, error) {
	var out filters
	for _, text := range texts {
		if len(text) > maxPattern {
			return nil, errPattern
		}
		v, ok := parseJSON([]byte(text))
		object, isObject := v.(map[string]any)
		if !ok || !isObject {
			return nil, errPattern
		}
		if d, given := object["data"]; given {
			switch d.(type) {
			case map[string]any, []any:
			default:
				return nil, errPattern
			}
		}
		p, ok := compile(object)
		if !ok {
			return nil, errPattern
		}
		out = append(out, p)
	}
	return out, nil
}

// parseJSON keeps numbers as they are written.
func parseJSON(b []byte) (v any, ok bool) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return nil, false
	}
	return v, !d.More() && len(bytes.TrimSpace(b[d.InputOffset():])) == 0
}

func compile(object map[string]any) (*pattern, bool) {
	p := &pattern{keys: make(map[string]node)}
	if len(object) == 0 {
		return nil, false
	}
	for key, v := range object {
		switch v := v.(type) {
		case map[string]any:
			below, ok := compile(v)
			if !ok {
				return nil, false
			}
			p.keys[key] = node{below: below}
		case []any:
			if key == "$or" {
				for _, alternative := range v {
					o, _ := alternative.(map[string]any)
					below, ok := compile(o)
					if !ok {
						return nil, false
					}
					p.or = append(p.or, below)
				}
				if len(p.or) == 0 {
					return nil, false
				}
				continue
			}
			tests, ok := compileTests(v)
			if !ok {
				return nil, false
			}
			p.keys[key] = node{tests: tests}
		default:
			return nil, false
		}
	}
	return p, true
}

func compileTests(list []any) (tests []test, ok bool) {
	for _, v := range list {
		t, ok := compileTest(v)
		if !ok {
			return nil, false
		}
		tests = append(tests, t)
	}
	return tests, len(tests) > 0
}

func compileTest(v any) (test, bool) {
	op, isOp := v.(map[string]any)
	if !isOp {
		if _, list := v.([]any); list {
			return nil, false
		}
		return present(func(got any) bool { return got == v }), true // json.Number compares by its text
	}
	if len(op) != 1 {
		return nil, false
	}
	for name, arg := range op {
		return compileOperator(name, arg)
	}
	return nil, false
}

// present makes a test of values that are there.
func present(match func(v any) bool) test {
	return func(v any, there bool) bool { return there && match(v) }
}

func compileOperator(name string, arg any) (test, bool) {
	text, isText := arg.(string)
	onText := func(match func(s string) bool) (test, bool) {
		return present(func(v any) bool { s, ok := v.(string); return ok && match(s) }), isText
	}
	switch name {
	case "prefix":
		return onText(func(s string) bool { return strings.HasPrefix(s, text) })
	case "suffix":
		return onText(func(s string) bool { return strings.HasSuffix(s, text) })
	case "equals-ignore-case":
		return onText(func(s string) bool { return strings.EqualFold(s, text) })
	case "exists":
		want, ok := arg.(bool)
		return func(v any, there bool) bool {
			if _, object := v.(map[string]any); object {
				there = false // leaves only
			}
			return there == want
		}, ok
	case "anything-but":
		return compileAnythingBut(arg)
	case "numeric":
		return compileNumeric(arg)
	}
	return nil, false
}

// compileAnythingBut takes a value, a list of values, or one prefix or suffix.
func compileAnythingBut(arg any) (test, bool) {
	list, isList := arg.([]any)
	if !isList {
		list = []any{arg}
	}
	for _, v := range list {
		if op, isOp := v.(map[string]any); isOp {
			if isList || len(op) != 1 || op["prefix"] == nil && op["suffix"] == nil {
				return nil, false
			}
		}
	}
	but, ok := compileTests(list)
	return present(func(v any) bool {
		for _, t := range but {
			if t(v, true) {
				return false
			}
		}
		return true
	}), ok
}

// compileNumeric takes one or two comparisons: ["=", 5], [">", 0, "<=", 10].
func compileNumeric(arg any) (test, bool) {
	list, ok := arg.([]any)
	if !ok || len(list) != 2 && len(list) != 4 {
		return nil, false
	}
	type bound struct {
		op string
		n  *big.Float
	}
	var bounds []bound
	for i := 0; i < len(list); i += 2 {
		op, _ := list[i].(string)
		n, isNumber := number(list[i+1])
		if !isNumber || !strings.Contains(" = < <= > >= ", " "+op+" ") || op == "" {
			return nil, false
		}
		bounds = append(bounds, bound{op, n})
	}
	return present(func(v any) bool {
		got, ok := number(v)
		if !ok {
			return false
		}
		for _, b := range bounds {
			c := got.Cmp(b.n)
			if !(c == 0 && strings.Contains(b.op, "=") || c < 0 && b.op[0] == '<' || c > 0 && b.op[0] == '>') {
				return false
			}
		}
		return true
	}), true
}

// number reads a JSON number of a size that is worth comparing.
func number(v any) (*big.Float, bool) {
	n, ok := v.(json.Number)
	if !ok || len(n) > 64 {
		return nil, false
	}
	if _, exp, has := strings.Cut(strings.ToLower(string(n)), "e"); has {
		if e, err := strconv.Atoi(exp); err != nil || e > 400 || e < -400 {
			return nil, false
		}
	}
	f, _, err := big.ParseFloat(string(n), 10, 128, big.ToNearestEven)
	return f, err == nil
}

// match reports whether a record passes.
func (fs filters) match(it *item) bool {
	if len(fs) == 0 {
		return true
	}
	seq := it.seq.String()
	event := map[string]any{
		"kinesisSchemaVersion": "1.0", "partitionKey": string(it.key), "sequenceNumber": seq, "eventID": shards.FormatShardID(it.seq.Shard) + ":" + seq,
		"approximateArrivalTimestamp": json.Number(strconv.FormatFloat(float64(it.arrived)/1000, 'f', 3, 64)),
	}
	data, isJSON := parseJSON(it.data)
	if isJSON {
		event["data"] = data
	}
	for _, p := range fs {
		if _, asks := p.keys["data"]; (isJSON || !asks) && p.match(event) {
			return true
		}
	}
	return false
}

func (p *pattern) match(object map[string]any) bool {
	for key, n := range p.keys {
		v, there := object[key]
		if !n.match(v, there) {
			return false
		}
	}
	if len(p.or) == 0 {
		return true
	}
	for _, o := range p.or {
		if o.match(object) {
			return true
		}
	}
	return false
}

// match asks a value; of a list, any element may be the one.
func (n node) match(v any, there bool) bool {
	if list, isList := v.([]any); isList && len(list) > 0 {
		for _, e := range list {
			if n.match(e, true) {
				return true
			}
		}
		return false
	}
	if n.below != nil {
		object, _ := v.(map[string]any) // of what is no object, everything below is absent
		return n.below.match(object)
	}
	for _, t := range n.tests {
		if t(v, there) {
			return true
		}
	}
	return false
}
