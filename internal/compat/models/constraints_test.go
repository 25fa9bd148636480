package models

import (
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

// For every operation the test sends one request that is good and then, starting from it, one for
// each way to break one member: it is missing, one of its bounds is exceeded, it has another pattern,
// another value than its enum has, another JSON type. Each has to be answered with AWS's name and AWS's
// sentence, which are worked out here from the model alone.

const (
	stream   = "s"
	arn      = "arn:aws:kinesis:us-east-1:000000000000:stream/s"
	required = "Member must not be null"
)

// samples are good values, by name of shape. What is not here has a value of its type.
var samples = map[string]any{
	"StreamName": stream, "StreamARN": arn, "ResourceARN": arn, "ConsumerName": "app", "KeyId": "alias/aws/kinesis", "EncryptionType": "KMS",
	"ShardId": "shardId-000000000000", "ShardIteratorType": "LATEST", "HashKey": "10", "PartitionKey": "k", "TagKey": "k", "TagValue": "v",
	"RetentionPeriodHours": 24, "ScalingType": "UNIFORM_SCALING",
	"Policy":         `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kinesis:*","Resource":"` + arn + `"}]}`,
	"SequenceNumber": "0", "StreamId": "abcdefghij0123456789-abc", "ShardFilterType": "AT_LATEST",
}

// more is what a good request needs beyond what the model requires, and what it needs otherwise than
// samples have it.
var more = map[string]object{
	"CreateStream":             {"StreamName": "new", "ShardCount": 1},
	"MergeShards":              {"AdjacentShardToMerge": "shardId-000000000001"},
	"UpdateShardCount":         {"TargetShardCount": 4},
	"ListShards":               {"StreamName": stream},
	"DeregisterStreamConsumer": {"StreamARN": arn, "ConsumerName": "app"},
	"DescribeStreamConsumer":   {"StreamARN": arn, "ConsumerName": "app"},
	"RegisterStreamConsumer":   {"ConsumerName": "new"},
	"UpdateMaxRecordSize":      {"StreamARN": arn, "MaxRecordSizeInKiB": 1024},
	"SubscribeToShard":         {"ConsumerARN": arn + "/consumer/none:1"},
}

// before is what has to be done so that the good request is one.
var before = map[string][]call{
	"UpdateStreamWarmThroughput": {
		{"UpdateAccountSettings", object{"MinimumThroughputBillingCommitment": object{"Status": "ENABLED"}}},
		{"UpdateStreamMode", object{"StreamARN": arn, "StreamModeDetails": object{"StreamMode": "ON_DEMAND"}}},
	},
	"DeleteResourcePolicy": {{"PutResourcePolicy", object{"ResourceARN": arn, "Policy": samples["Policy"]}}},
	"DeleteStream":         {{"DeregisterStreamConsumer", object{"StreamARN": arn, "ConsumerName": "app"}}},
}

type call struct {
	op string
	in object
}

// goodButRefused are the errors of good requests that name what is not there.
var goodButRefused = map[string]string{
	"GetRecords":       "InvalidArgumentException", // an iterator cannot be made up
	"SubscribeToShard": "ResourceNotFoundException",
}

func TestConstraints(t *testing.T) {
	m := botocore(t)
	served := open(t).operations
	tried := 0
	for _, op := range m.names() {
		if !slices.Contains(served, op) {
			continue
		}
		t.Run(op, func(t *testing.T) {
			h := open(t)
			ready := append([]call{
				{"CreateStream", object{"StreamName": stream, "ShardCount": 2}},
				{"RegisterStreamConsumer", object{"StreamARN": arn, "ConsumerName": "app"}},
			}, before[op]...)
			for _, c := range ready {
				if a := h.call(t, c.op, c.in); a.status != 200 {
					t.Fatalf("%s: %s", c.op, a.body)
				}
			}
			g := &generator{model: m, op: op}
			in := m.Operations[op].Input
			if in == nil {
				t.Fatal("the operation has no input")
			}
			good := func() object {
				v := g.sample(in.Shape).(object)
				if _, has := m.Shapes[in.Shape].Members["StreamName"]; has && v["StreamName"] == nil {
					v["StreamName"] = stream
				}
				maps.Copy(v, more[op])
				return v
			}
			g.structure(m.Shapes[in.Shape], "", good, func(root, inside object) object { return inside })
			for _, b := range g.broken {
				a := h.call(t, op, b.in)
				if a.status != 400 || a.kind != b.kind || normal(a.message) != normal(b.message) {
					t.Errorf("%s\ngot  %d %s %.400s\nwant %s %.400s", b.what, a.status, a.kind, a.message, b.kind, b.message)
				}
			}
			tried += len(g.broken)
			if a := h.call(t, op, good()); a.kind != goodButRefused[op] {
				t.Errorf("the good request %v: %s", good(), a.body)
			}
		})
	}
	t.Logf("%d requests were tried", tried)
	if tried < 900 {
		t.Errorf("only %d requests were tried", tried)
	}
}

var enumSet = regexp.MustCompile(`enum value set: \[[^]]*\]`)

// normal sorts the values of enums: AWS lists them in an order that no model has.
func normal(message string) string {
	return enumSet.ReplaceAllStringFunc(message, func(s string) string {
		values := strings.Split(strings.TrimSuffix(strings.TrimPrefix(s, "enum value set: ["), "]"), ", ")
		slices.Sort(values)
		return "enum value set: [" + strings.Join(values, ", ") + "]"
	})
}

// broken is a request that has to be refused.
type broken struct {
	what          string
	in            object
	kind, message string
}

type generator struct {
	model  *model
	op     string
	broken []broken
}

// sample is a good value of a shape: of structures what they require.
func (g *generator) sample(name string) any {
	if v, ok := samples[name]; ok {
		return v
	}
	s := g.model.Shapes[name]
	switch s.Type {
	case "structure":
		v := object{}
		for _, member := range s.Required {
			v[member] = g.sample(s.Members[member].Shape)
		}
		return v
	case "list":
		return []any{g.sample(s.Member.Shape)}
	case "map":
		return object{"k": "v"}
	case "integer":
		if s.Min != nil {
			return *s.Min
		}
		return 1
	case "boolean":
		return true
	case "blob":
		return "YQ=="
	case "timestamp":
		return 946684800
	}
	if len(s.Enum) > 0 {
		return s.Enum[0]
	}
	return "x"
}

// structure breaks each member of a structure. path is where sentences say that it is; into finds it
// in a request.
func (g *generator) structure(s *shape, path string, good func() object, into func(root, inside object) object) {
	for _, member := range slices.Sorted(maps.Keys(s.Members)) {
		at := path + string(unicode.ToLower(rune(member[0]))) + member[1:]
		with := func(v any) object {
			root := good()
			inside := into(root, root)
			if v == nil {
				delete(inside, member)
			} else {
				inside[member] = v
			}
			return root
		}
		if slices.Contains(s.Required, member) {
			g.add(at+" is missing", with(nil), "Value null at '"+at+"' failed to satisfy constraint: "+required)
		}
		inner := g.model.Shapes[s.Members[member].Shape]
		for what, v := range g.values(inner) {
			if sentences := g.judge(inner, at, v); len(sentences) > 0 {
				g.add(at+" "+what, with(v), sentences...)
			}
		}
		g.types(inner, at, with)
		g.within(inner, s.Members[member].Shape, member, at, good, into)
	}
}

// within breaks the members of the structure that a member is, or lists.
func (g *generator) within(inner *shape, shapeName, member, at string, good func() object, into func(root, inside object) object) {
	element := inner
	if inner.Type == "list" {
		element = g.model.Shapes[inner.Member.Shape]
		at += ".1.member"
	}
	if element.Type != "structure" {
		return
	}
	g.structure(element, at+".", good, func(root, _ object) object {
		outer := into(root, root)
		v, ok := outer[member]
		if !ok {
			v = g.sample(shapeName)
			outer[member] = v
		}
		if list, isList := v.([]any); isList {
			v = list[0]
		}
		return v.(object)
	})
}

func (g *generator) add(what string, in object, sentences ...string) {
	n := "1 validation error"
	if len(sentences) > 1 {
		n = strconv.Itoa(len(sentences)) + " validation errors"
	}
	g.broken = append(g.broken, broken{what, in, "ValidationException", n + " detected: " + strings.Join(sentences, "; ")})
}

// values are those that might break a shape's constraints; judge knows whether they do.
func (g *generator) values(s *shape) map[string]any {
	out := make(map[string]any)
	switch s.Type {
	case "string":
		out["is empty"], out["has no such form"] = "", "!"
		if s.Max != nil {
			out["is too long"] = strings.Repeat("a", *s.Max+1)
		}
	case "integer":
		if s.Min != nil {
			out["is too small"] = *s.Min - 1
		}
		if s.Max != nil {
			out["is too large"] = *s.Max + 1
		}
	case "blob":
		if s.Max != nil {
			out["is too large"] = base64.StdEncoding.EncodeToString(make([]byte, *s.Max+1))
		}
	case "list":
		out["is empty"] = []any{}
		if s.Max != nil {
			many := make([]any, *s.Max+1)
			for i := range many {
				many[i] = g.sample(s.Member.Shape)
			}
			out["is too long"] = many
		}
		if e := g.model.Shapes[s.Member.Shape]; e.Type == "string" {
			for what, v := range g.values(e) {
				out["has an element that "+what] = []any{v}
			}
		}
	case "map":
		out["is empty"] = object{}
		if s.Max != nil {
			many := object{}
			for i := range *s.Max + 1 {
				many[fmt.Sprintf("k%03d", i)] = "v"
			}
			out["has too many entries"] = many
		}
		for what, v := range g.values(g.model.Shapes[s.Key.Shape]) {
			out["has a key that "+what] = object{v.(string): "v"}
		}
		for what, v := range g.values(g.model.Shapes[s.Value.Shape]) {
			out["has a value that "+what] = object{"k": v}
		}
	}
	return out
}

// judge gives the sentences that AWS has about a value.
func (g *generator) judge(s *shape, at string, v any) []string {
	shown, constraints := show(v), g.constraints(s, v)
	switch v := v.(type) {
	case []any:
		e := g.model.Shapes[s.Member.Shape]
		if e.Type == "string" && slices.ContainsFunc(v, func(v any) bool { return len(g.constraints(e, v)) > 0 }) {
			constraints = append(constraints, "Member must satisfy constraint: ["+clauses(e)+"]")
		}
	case object:
		if s.Type == "map" {
			key, value := g.model.Shapes[s.Key.Shape], g.model.Shapes[s.Value.Shape]
			badKey, badValue := false, false
			for k, text := range v {
				badKey = badKey || len(g.constraints(key, k)) > 0
				badValue = badValue || len(g.constraints(value, text)) > 0
			}
			if badKey {
				constraints = append(constraints, "Map keys must satisfy constraint: ["+clauses(key)+"]")
			}
			if badValue {
				constraints = append(constraints, "Map value must satisfy constraint: ["+clauses(value)+"]")
			}
		}
	}
	for i, c := range constraints {
		constraints[i] = "Value" + shown + " at '" + at + "' failed to satisfy constraint: " + c
	}
	return constraints
}

// constraints are those of a shape itself that a value breaks, in AWS's order.
func (g *generator) constraints(s *shape, v any) (out []string) {
	n, what := 0, "length"
	switch v := v.(type) {
	case string:
		if n = len(v); s.Type == "blob" {
			n = base64.StdEncoding.DecodedLen(len(v)) - strings.Count(v, "=")
		}
		if s.Pattern != "" && !regexp.MustCompile("^(?:"+s.Pattern+")$").MatchString(v) {
			out = append(out, "Member must satisfy regular expression pattern: "+s.Pattern)
		}
	case int:
		n, what = v, "value"
	case []any:
		n = len(v)
	case object:
		n = len(v)
	}
	if s.Min != nil && n < *s.Min {
		out = append(out, fmt.Sprintf("Member must have %s greater than or equal to %d", what, *s.Min))
	}
	if s.Max != nil && n > *s.Max {
		out = append(out, fmt.Sprintf("Member must have %s less than or equal to %d", what, *s.Max))
	}
	if text, isText := v.(string); isText && len(s.Enum) > 0 && !slices.Contains(s.Enum, text) {
		out = append(out, "Member must satisfy enum value set: ["+strings.Join(s.Enum, ", ")+"]")
	}
	return out
}

// clauses are all constraints of the strings in a list or map.
func clauses(s *shape) string {
	var all []string
	if s.Max != nil {
		all = append(all, fmt.Sprintf("Member must have length less than or equal to %d", *s.Max))
	}
	if s.Min != nil {
		all = append(all, fmt.Sprintf("Member must have length greater than or equal to %d", *s.Min))
	}
	if s.Pattern != "" {
		all = append(all, "Member must satisfy regular expression pattern: "+s.Pattern)
	}
	if len(s.Enum) > 0 {
		all = append(all, "Member must satisfy enum value set: ["+strings.Join(s.Enum, ", ")+"]")
	}
	return strings.Join(all, ", ")
}

// show is a value as sentences show it.
func show(v any) string {
	switch v := v.(type) {
	case string:
		if n := base64.StdEncoding.DecodedLen(len(v)); len(v) > 1<<21 { // the one blob that is judged
			n -= strings.Count(v, "=")
			return fmt.Sprintf(" 'java.nio.HeapByteBuffer[pos=0 lim=%d cap=%d]'", n, n)
		}
		return " '" + v + "'"
	case int:
		return " '" + strconv.Itoa(v) + "'"
	case []any:
		var all []string
		for _, e := range v {
			text, isText := e.(string)
			if !isText {
				return "" // lists of structures are not shown
			}
			all = append(all, text)
		}
		return " '[" + strings.Join(all, ", ") + "]'"
	case object:
		var all []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			all = append(all, k+"="+v[k].(string))
		}
		return " '{" + strings.Join(all, ", ") + "}'"
	}
	return ""
}

// types sends every JSON type that a member cannot have.
func (g *generator) types(s *shape, at string, with func(any) object) {
	const number = "class com.amazon.coral.value.json.numbers.TruncatingBigNumber"
	const list, structure = "Start of list found where not expected", "Start of structure or map found where not expected."
	const text, boolean = "class java.lang.String", "class java.lang.Boolean"
	wrong := map[string]map[string]string{
		"string":    {"true": boolean + " can not be converted to an String", "12": number + " can not be converted to an String", "[]": list, "{}": structure},
		"integer":   {"true": boolean + " can not be converted to an Integer", "x": text + " can not be converted to an Integer", "[]": list, "{}": structure},
		"boolean":   {"12": number + " can not be converted to an Boolean", "x": "'X' can not be converted to an Boolean", "[]": list, "{}": structure},
		"timestamp": {"x": text + " can not be converted to milliseconds since epoch", "[]": list, "{}": structure},
		"blob": {"12": number + " can not be converted to a Blob", "[]": list, "{}": structure,
			"x": "'x' can not be converted to a Blob: Base64 encoded length is expected a multiple of 4 bytes but found: 1"},
		"list":      {"true": "Expected list or null", "12": "Expected list or null", "x": "Expected list or null", "{}": structure},
		"map":       {"true": "Expected map or null", "12": "Expected map or null", "x": "Expected map or null", "[]": list},
		"structure": {"true": "Expected null", "12": "Expected null", "x": "Expected null", "[]": list},
	}[s.Type]
	if wrong == nil {
		panic("a type that is not known: " + s.Type)
	}
	of := map[string]any{"true": true, "12": 12, "x": "x", "[]": []any{}, "{}": object{}}
	for kind, sentence := range wrong {
		g.broken = append(g.broken, broken{at + " is " + kind, with(of[kind]), "SerializationException", sentence})
	}
}
