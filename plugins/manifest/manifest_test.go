package manifest

import (
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

func TestEveryKey(t *testing.T) {
	m, err := Parse("up.yaml", []byte(`# of a module
abi: stdio
environment: {STAGE: prod, DEBUG: true, LIMIT: 012}   # the text as it is written
memory: 64MiB
timeout: 3s
init-timeout: 500ms
concurrency: 4
idle-after: 1h
grants:
  config: {threshold: 6.5}
  metrics: true
  state: false
  emit: [alerts, audit.v1]
sha256: 93A44BBB96C751218E4C00D479E4C14358122A389ACCA16205B1E4D0DC5F9476
`))
	if err != nil {
		t.Fatal(err)
	}
	want := Manifest{ABI: "stdio", Environment: map[string]string{"STAGE": "prod", "DEBUG": "true", "LIMIT": "012"},
		Limits: runtime.Limits{Memory: 64 << 20, Timeout: 3 * time.Second, InitTimeout: 500 * time.Millisecond, Concurrency: 4, IdleAfter: time.Hour},
		Grants: runtime.Grants{Config: map[string]string{"threshold": "6.5"}, Metrics: true, Emit: []string{"alerts", "audit.v1"}},
		SHA256: "93a44bbb96c751218e4c00d479e4c14358122a389acca16205b1e4d0dc5f9476"}
	want.file, want.lines = m.file, m.lines
	if !reflect.DeepEqual(*m, want) {
		t.Errorf("got  %+v\nwant %+v", *m, want)
	}
	m, err = Parse("up.yaml", []byte(`
runtime: nodejs
handler: src/app.handler
layers: [.layers/common.zip, ./.layers/./fonts]
`))
	if err != nil {
		t.Fatal(err)
	}
	want = Manifest{Runtime: runtime.KindNode, Handler: "src/app.handler", Layers: []string{".layers/common.zip", ".layers/fonts"}}
	want.file, want.lines = m.file, m.lines
	if !reflect.DeepEqual(*m, want) {
		t.Errorf("got  %+v\nwant %+v", *m, want)
	}
	for _, empty := range []string{"", "# nothing yet\n", "{}"} {
		if m, err := Parse("up.yaml", []byte(empty)); err != nil || m.Limits != (runtime.Limits{}) {
			t.Errorf("%q: %+v, %v", empty, m, err)
		}
	}
}

func TestFaultsSayWhereWhatAndHow(t *testing.T) {
	for text, want := range map[string]string{
		"memroy: 64MiB":                             "up.yaml:1: a manifest has no key memroy; did you mean memory?",
		"\nquota: 1":                                "up.yaml:2: a manifest has no key quota; it takes abi, concurrency, environment, event-sources, grants, handler, idle-after, init-timeout, layers, memory, runtime, sha256, timeout",
		"timeout: 3s\ntimeout: 4s":                  "up.yaml:2: timeout was set before, in line 1: leave one",
		"timeout: 3":                                `up.yaml:1: timeout: "3" is not a duration with a unit, such as 3s or 500ms`,
		"timeout: 16m":                              "up.yaml:1: timeout: 16m is not in 100ms..15m",
		"idle-after: 25h":                           "up.yaml:1: idle-after: 25h is not in 1s..24h",
		"memory: 64":                                `up.yaml:1: memory: "64" is not a size with a unit, such as 64MiB or 1GiB`,
		"memory: 64MB":                              `up.yaml:1: memory: "64MB" is not a size with a unit, such as 64MiB or 1GiB`,
		"memory: 1500KiB":                           "up.yaml:1: memory: 1500KiB is not a whole number of MiB",
		"memory: 11GiB":                             "up.yaml:1: memory: 11GiB is not in 1MiB..10GiB",
		"memory: 99999999999GiB":                    "up.yaml:1: memory: 99999999999GiB is not in 1MiB..10GiB",
		"concurrency: 0":                            `up.yaml:1: concurrency: "0" is not a whole number in 1..1000`,
		"abi: wasi":                                 `up.yaml:1: abi: "wasi" is none of native, pull, stdio`,
		"runtime: nodejs20.x":                       `up.yaml:1: runtime: "nodejs20.x" is none of nodejs, python, java, provided`,
		"handler: a b":                              `up.yaml:1: handler: "a b" is not a handler's name such as index.handler: it has no blanks`,
		"environment: [A=1]":                        "up.yaml:1: environment is a mapping of names to texts",
		"environment: {AWS_REGION: mars}":           "up.yaml:1: the environment variable AWS_REGION is reserved for the service: choose another name",
		"environment: {AB: [1]}":                    "up.yaml:1: AB takes one value",
		"environment: {AB: 1, AB: 2}":               "up.yaml:1: AB was set before: leave one",
		"environment: {AB: }":                       "up.yaml:1: AB takes one value",
		"grants: {http: true}":                      "up.yaml:1: grants has no key http; it takes config, emit, metrics, state",
		"grants: {state: yes}":                      `up.yaml:1: state: "yes" is none of true, false`,
		"grants: {emit: alerts}":                    "up.yaml:1: emit is a list of streams such as [alerts]; without any, leave the key out",
		"grants: {emit: [a/b]}":                     `up.yaml:1: a stream of emit: "a/b" is not a stream's name: up to 128 letters, digits, '_', '.' and '-'`,
		"sha256: abc":                               `up.yaml:1: sha256: "abc" is not 64 hexadecimal digits, as sha256sum prints them`,
		"layers: [../x.zip]":                        `up.yaml:1: layer "../x.zip" is not a path below the plugin folder: put the layer there, in a folder such as .layers, and give its path from the plugin folder`,
		"layers: [/opt/x]":                          `up.yaml:1: layer "/opt/x" is not a path below the plugin folder: put the layer there, in a folder such as .layers, and give its path from the plugin folder`,
		"layers: [a, ./a]":                          `up.yaml:1: layer "./a" is given twice: leave one`,
		"layers: [a, b, c, d, e, f]":                "up.yaml:1: layers has 6 items, over the limit of 5",
		"- a":                                       "up.yaml:1: a manifest is a mapping of names to values",
		"timeout: [":                                "up.yaml is not YAML: line 1: did not find expected node content",
		"timeout: 3s\n---\ntimeout: 3s":             "up.yaml has more than one YAML document: leave one",
		"a: &a 1s\ntimeout: *a":                     "up.yaml:1: a manifest has no key a; it takes abi, concurrency, environment, event-sources, grants, handler, idle-after, init-timeout, layers, memory, runtime, sha256, timeout; up.yaml:2: timeout takes one value",
		"timeout: 3\nmemory: 4":                     `up.yaml:1: timeout: "3" is not a duration with a unit, such as 3s or 500ms; up.yaml:2: memory: "4" is not a size with a unit, such as 64MiB or 1GiB`,
		strings.Repeat("#", MaxSize) + "\n":         "up.yaml has 65537 bytes, over the limit of 65536 for a manifest",
		"\"\\e[2J\": 1":                             `up.yaml:1: a manifest has no key \x1b[2J; it takes abi, concurrency, environment, event-sources, grants, handler, idle-after, init-timeout, layers, memory, runtime, sha256, timeout`,
		"event-sources: []":                         "up.yaml:1: event-sources is a list of mappings such as [{stream: quakes, starting-position: LATEST}]; without any, leave the key out",
		"event-sources: [{}]":                       "up.yaml:1: the event source has no stream, which it needs; up.yaml:1: the event source has no starting-position, which it needs",
		source("batch-size: 10001"):                 `up.yaml:1: batch-size: "10001" is not a whole number in 1..10000`,
		source("starting-position: now"):            `up.yaml:1: starting-position was set before, in line 1: leave one`,
		source("maximum-record-age: 30s"):           "up.yaml:1: maximum-record-age: 30s is not in 1m..168h",
		source("tumbling-window: 1500ms"):           "up.yaml:1: tumbling-window: 1500ms is not a whole number of seconds",
		source("filters: ['[1]']"):                  "up.yaml:1: a filter is not a JSON object: write it between single quotes",
		source("on-failure: dead"):                  `up.yaml:1: on-failure: "dead" is not the ARN of a queue, a topic, a bucket, a stream or a delivery stream`,
		source("batchsize: 1"):                      "up.yaml:1: an event source has no key batchsize; did you mean batch-size?",
		"event-sources: [" + one + ", " + one + "]": "up.yaml:1: stream quakes was given before, in line 1: leave one",
		source("starting-position-timestamp: 2026-01-31T12:00:00Z"):     "up.yaml:1: starting-position-timestamp goes with starting-position AT_TIMESTAMP only",
		"event-sources: [{stream: q, starting-position: AT_TIMESTAMP}]": "up.yaml:1: starting-position AT_TIMESTAMP needs a starting-position-timestamp",
	} {
		m, err := Parse("up.yaml", []byte(text))
		if err == nil || err.Error() != want || !errs.Is(err, errs.Invalid) {
			t.Errorf("%.60q: %+v\ngot  %v\nwant %s", text, m, err, want)
		}
	}
}

const one = "{stream: quakes, starting-position: LATEST}"

// source is a manifest with one event source of which more is said.
func source(more string) string {
	return "event-sources: [{stream: quakes, starting-position: LATEST, " + more + "}]"
}

func TestEventSources(t *testing.T) {
	m, err := Parse("up.yaml", []byte(`
event-sources:
  - stream: quakes
    starting-position: TRIM_HORIZON
  - stream: arn:aws:kinesis:us-east-1:000000000000:stream/s/consumer/c:1
    enabled: false
    starting-position: AT_TIMESTAMP
    starting-position-timestamp: 2026-01-31T12:00:00Z
    batch-size: 10
    maximum-batching-window: 5s
    parallelization-factor: 2
    maximum-retry-attempts: 0
    maximum-record-age: 1h
    bisect-batch-on-function-error: true
    tumbling-window: 30s
    report-batch-item-failures: true
    filters: ['{"data": {"mag": [{"numeric": [">", 6]}]}}']
    on-failure: arn:aws:sqs:us-east-1:000000000000:dead
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []EventSource{
		{Stream: "quakes", Enabled: true, StartingPosition: "TRIM_HORIZON", BatchSize: 100, Parallelization: 1, RetryAttempts: -1},
		{Stream: "arn:aws:kinesis:us-east-1:000000000000:stream/s/consumer/c:1", StartingPosition: "AT_TIMESTAMP",
			StartingTimestamp: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), BatchSize: 10, BatchingWindow: 5 * time.Second,
			Parallelization: 2, RecordAge: time.Hour, Bisect: true, TumblingWindow: 30 * time.Second, ReportFailures: true,
			Filters: []string{`{"data": {"mag": [{"numeric": [">", 6]}]}}`}, OnFailure: "arn:aws:sqs:us-east-1:000000000000:dead"},
	}
	if !reflect.DeepEqual(m.EventSources, want) {
		t.Errorf("got  %+v\nwant %+v", m.EventSources, want)
	}
}

func TestWhatAKindOfPluginCannotHave(t *testing.T) {
	for _, c := range []struct {
		kind runtime.ArtifactKind
		text string
		want string // "" is fine
	}{
		{runtime.KindWasm, "abi: stdio\nmemory: 4GiB\ngrants: {state: true}", ""},
		{runtime.KindWasm, "handler: a.b\nlayers: [a]\nruntime: java", "up.yaml:3: runtime is for Lambda handlers, and this plugin is a WebAssembly module: remove it; up.yaml:1: handler is for Lambda handlers, and this plugin is a WebAssembly module: remove it; up.yaml:2: layers are for Lambda handlers, and this plugin is a WebAssembly module: remove them"},
		{runtime.KindWasm, "memory: 5GiB", "up.yaml:1: memory of a WebAssembly module is 4GiB at most"},
		{runtime.KindNode, "handler: a.b\nlayers: [a]\nmemory: 128MiB", ""},
		{runtime.KindNode, "memory: 127MiB", "up.yaml:1: memory of a Lambda handler is 128MiB at least"},
		{runtime.KindBootstrap, "abi: pull\ngrants: {state: true}", "up.yaml:1: abi is for WebAssembly modules, and this plugin is a Lambda handler: remove it; up.yaml:2: grants are for WebAssembly modules, and this plugin is a Lambda handler, which calls the host's API with its own credentials: remove them"},
		{runtime.KindJava, "timeout: 3s", "up.yaml names no handler, and a Java function has no default: say handler: package.Class::method"},
	} {
		m, err := Parse("up.yaml", []byte(c.text))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if err := m.Check(c.kind); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s, %q:\ngot  %s\nwant %s", c.kind, c.text, got, c.want)
		}
	}
}

func TestAManifestSetsWhatItNames(t *testing.T) {
	m, err := Parse("up.yaml", []byte("timeout: 3s\nconcurrency: 7"))
	if err != nil {
		t.Fatal(err)
	}
	got := m.Over(runtime.Limits{Memory: 1 << 30, Timeout: time.Minute, Concurrency: 2})
	if want := (runtime.Limits{Memory: 1 << 30, Timeout: 3 * time.Second, Concurrency: 7}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// FuzzParse: whatever the text, it ends in a manifest within its limits or in printable faults that
// name the file.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"timeout: 3s\nmemory: 64MiB\nenvironment: {AB: c}", "layers: [.layers/a.zip]", source("filters: ['{}']"),
		"grants: {config: {a: b}, emit: [s]}", "a: &a [*a]", "<<: {abi: pull}", "? [a]\n: b", "abi: !!binary AAA=", "\x00", "- 1"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Parse("up.yaml", text)
		if err != nil {
			if s := err.Error(); !strings.HasPrefix(s, "up.yaml") || strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
				t.Errorf("fault %q", s)
			}
			return
		}
		if l := m.Limits; l.Timeout > maxTimeout || l.Memory > maxMemory || l.Memory < 0 || l.Concurrency > maxConcurrency || len(m.Layers) > MaxLayers {
			t.Errorf("%q gave %+v", text, m)
		}
		for _, l := range m.Layers {
			if !isLocal(l) || strings.Contains(l, "..") && strings.HasPrefix(l, "..") {
				t.Errorf("layer %q leaves the folder", l)
			}
		}
	})
}
