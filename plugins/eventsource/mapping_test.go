package eventsource

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

var errBoom = errors.New("boom")

// poison is a function that fails whenever one of these is among its records.
func poison(bad ...string) func(e *event) (string, error) {
	return func(e *event) (string, error) {
		for _, r := range e.Records {
			if slices.Contains(bad, string(r.Kinesis.Data)) {
				return "", errBoom
			}
		}
		return "", nil
	}
}

func TestBatches(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.put("a", "b", "c")
		m := w.mapping(func(c *Config) { c.BatchSize = 2 })
		w.expect("what was there", "a b", "c")
		w.put("d")
		w.expect("a record at once", "d")
		if v := m.View(); v.State != Enabled || v.Result != "OK" {
			t.Errorf("%s, %s", v.State, v.Result)
		}
		w.restart()
		w.put("e")
		w.expect("after a restart", "e")
	})
}

func TestTheBatchingWindow(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.mapping(func(c *Config) { c.BatchSize, c.BatchingWindow = 3, 10 })
		w.put("a")
		time.Sleep(9 * time.Second)
		w.expect("before the window's end")
		time.Sleep(time.Second)
		w.expect("at its end", "a")
		w.put("b", "c", "d", "e")
		w.expect("a full batch does not wait", "b c d")
		time.Sleep(10 * time.Second)
		w.expect("the rest does", "e")
	})
}

// LATEST is the end of the stream at the time of Create, whenever the first record is read.
func TestStartingPositions(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.put("a")
		time.Sleep(time.Minute)
		at := time.Now().UnixMilli()
		w.put("b")
		latest := w.mapping(func(c *Config) { c.StartingPosition, c.Enabled = Latest, false })
		w.put("c")
		for _, c := range []struct{ position, want string }{{TrimHorizon, "a b c"}, {AtTimestamp, "b c"}} {
			m := w.mappingTo(c.position, at)
			w.expect(c.position, c.want)
			if err := m.Delete(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.restart()
		latest, err := w.Get(latest.UUID)
		if err != nil || latest.View().State != Disabled {
			t.Fatal(err)
		}
		if err := latest.Update(t.Context(), functionARN, func(c *Config) error { c.Enabled = true; return nil }); err != nil {
			t.Fatal(err)
		}
		w.expect(Latest, "c")
	})
}

// mappingTo makes a mapping of its own function name, so that there may be several of one stream.
func (w *world) mappingTo(position string, ms int64) *Mapping {
	return w.mappingOf(functionARN, func(c *Config) {
		if c.StartingPosition = position; position == AtTimestamp {
			c.StartingMs = ms
		}
	})
}

func (w *world) mappingOf(arn string, change func(*Config)) *Mapping {
	w.t.Helper()
	c := Defaults()
	c.EventSourceARN, c.StartingPosition = streamARN, TrimHorizon
	change(&c)
	for _, m := range w.List() {
		if m.View().FunctionARN == arn { // the one of the test itself stays, under another function
			m.mu.Lock()
			m.record.FunctionARN += "-other"
			m.mu.Unlock()
		}
	}
	m, err := w.Create(w.t.Context(), c, arn)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func TestAFailedBatchComesAgainAsItWas(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.answers(poison("a"))
		m := w.mapping(nil)
		w.put("a")
		synctest.Wait()
		w.put("b")
		time.Sleep(10 * time.Second)
		got := w.invocations()
		if len(got) < 4 || len(got) > 12 || slices.ContainsFunc(got, func(s string) bool { return s != "a" }) {
			t.Fatalf("%q", got)
		}
		if v := m.View(); v.Result != "PROBLEM: Function call failed" {
			t.Errorf("%s", v.Result)
		}
		w.answers(poison())
		time.Sleep(time.Minute)
		w.expect("when it works again", "a", "b")
	})
}

func TestRetriesAreLimited(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.answers(poison("b"))
		w.put("a", "b", "c")
		m := w.mapping(func(c *Config) { c.BatchSize, c.MaximumRetries, c.OnFailure = 3, 2, bucketARN })
		time.Sleep(time.Minute)
		w.put("d")
		w.expect("three invocations", "a b c", "a b c", "a b c", "d")
		if len(w.failures) != 1 {
			t.Fatalf("%d failures", len(w.failures))
		}
		f := w.failures[0]
		doc := string(f.Document)
		for pattern, want := range map[string]string{
			`"requestId":"[^"]{36}"`: "1", `"functionArn":"` + functionARN + `"`: "1", `"condition":"RetryAttemptsExhausted"`: "1", `"approximateInvokeCount":3}`: "1",
			`"responseContext":\{"statusCode":200,"executedVersion":"\$LATEST","functionError":"Unhandled"\}`: "1", `"version":"1.0"`: "1", `"timestamp":"2000-01-01T00:00:0\d\.\d{3}Z"`: "1",
			`"KinesisBatchInfo":\{"shardId":"shardId-000000000000","startSequenceNumber":"\d{56}","endSequenceNumber":"\d{56}"`: "1", `"approximateArrivalOfFirstRecord":"2000-01-01T00:00:00.000Z"`: "1",
			`"batchSize":3,"streamArn":"` + streamARN + `"\}`: "1",
		} {
			if n := len(regexp.MustCompile(pattern).FindAllString(doc, -1)); strconv.Itoa(n) != want {
				t.Errorf("%s is %d times in %s", pattern, n, doc)
			}
		}
		if !regexp.MustCompile(`^aws/lambda/` + m.UUID + `/shardId-000000000000/2000/01/01/2000-01-01T00\.00\.0\d-[0-9a-f-]{36}$`).MatchString(f.Key) {
			t.Errorf("key %s", f.Key)
		}
		full, err := f.WithPayload()
		var with struct {
			Payload string
			Version string
		}
		var e event
		if err != nil || json.Unmarshal(full, &with) != nil || with.Version != "1.0" || json.Unmarshal([]byte(with.Payload), &e) != nil || e.data() != "a b c" {
			t.Errorf("%s: %v", full, err)
		}
	})
}

func TestAFailedBatchIsBisected(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.answers(poison("f"))
		w.put("a", "b", "c", "d", "e", "f", "g", "h")
		w.mapping(func(c *Config) { c.Bisect, c.MaximumRetries, c.OnFailure = true, 0, bucketARN })
		time.Sleep(time.Minute)
		w.expect("halves", "a b c d e f g h", "a b c d", "e f g h", "e f", "e", "f", "g h")
		if len(w.failures) != 1 || w.failures[0].Records != 1 {
			t.Fatalf("%d failures", len(w.failures))
		}
	})
}

// The halves that are done are not sent again after a restart.
func TestABisectedBatchGoesOnAfterARestart(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.answers(poison("d"))
		w.put("a", "b", "c", "d")
		w.mapping(func(c *Config) { c.Bisect = true })
		time.Sleep(20 * time.Second)
		before := w.invocations()
		if want := []string{"a b c d", "a b", "c d", "c", "d"}; !slices.Equal(before[:5], want) {
			t.Fatalf("%q", before)
		}
		w.restart()
		time.Sleep(time.Minute)
		if after := w.invocations(); len(after) == 0 || slices.ContainsFunc(after, func(s string) bool { return s != "d" }) {
			t.Fatalf("%q", after)
		}
	})
}

func report(ids ...string) string {
	var items []string
	for _, id := range ids {
		items = append(items, `{"itemIdentifier":"`+id+`"}`)
	}
	return `{"batchItemFailures":[` + strings.Join(items, ",") + `]}`
}

// Six records in batches of three, the last one bad: it is sent five times and given up after four.
func TestReportedFailures(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.answers(func(e *event) (string, error) {
			for _, r := range e.Records {
				if string(r.Kinesis.Data) == "f" {
					return report(r.Kinesis.SequenceNumber), nil
				}
			}
			return report(), nil
		})
		w.put("a", "b", "c", "d", "e", "f")
		w.mapping(func(c *Config) {
			c.BatchSize, c.MaximumRetries, c.ReportItemFailures, c.OnFailure = 3, 3, true, bucketARN
		})
		time.Sleep(5 * time.Minute)
		w.expect("checkpoints at the failure", "a b c", "d e f", "f", "f", "f", "f")
		if len(w.failures) != 1 || !strings.Contains(string(w.failures[0].Document), `"approximateInvokeCount":4`) || !strings.Contains(string(w.failures[0].Document), `"functionError":null`) {
			t.Fatalf("%d failures, %s", len(w.failures), w.failures[0].Document)
		}
	})
}

func TestAnswersWithItemFailures(t *testing.T) {
	for _, c := range []struct {
		answer string
		want   string // "ok", or the records that come again first
	}{
		{``, "ok"}, {`null`, "ok"}, {`[]`, "ok"}, {`{}`, "ok"}, {`""`, "ok"}, {`{"batchItemFailures":[]}`, "ok"}, {`{"batchItemFailures":null}`, "ok"}, {`"text"`, "ok"}, {`{"other":1}`, "ok"},
		{`{"batchItemFailures":[{"itemIdentifier":""}]}`, "a b c"}, {`{"batchItemFailures":[{"itemIdentifier":null}]}`, "a b c"}, {`{"batchItemFailures":[{"x":"y"}]}`, "a b c"},
		{`{"batchItemFailures":[{"itemIdentifier":5}]}`, "a b c"}, {report("49646437577108476416916876405827138351405044374169452546"), "a b c"}, {`{"batchItemFailures":"x"}`, "a b c"},
		{"SECOND", "b c"}, {"THIRD SECOND", "b c"}, {"FIRST", "a b c"},
	} {
		inWorld(t, 1, func(t *testing.T, w *world) {
			first := true
			w.answers(func(e *event) (string, error) {
				if !first {
					return "", nil
				}
				first = false
				if strings.HasPrefix(c.answer, "{") || !regexp.MustCompile(`^[A-Z]`).MatchString(c.answer) {
					return c.answer, nil
				}
				var ids []string
				for _, word := range strings.Fields(c.answer) {
					ids = append(ids, e.Records[map[string]int{"FIRST": 0, "SECOND": 1, "THIRD": 2}[word]].Kinesis.SequenceNumber)
				}
				return report(ids...), nil
			})
			w.put("a", "b", "c")
			w.mapping(func(c *Config) { c.ReportItemFailures = true })
			time.Sleep(time.Second)
			want := []string{"a b c"}
			if c.want != "ok" {
				want = append(want, c.want)
			}
			w.expect(c.answer, want...)
		})
	}
}

func TestOldRecordsAreGivenUp(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		m := w.mapping(func(c *Config) { c.Enabled, c.MaximumAge, c.OnFailure = false, 60, bucketARN })
		w.put("a", "b")
		time.Sleep(time.Minute)
		w.put("c")
		if err := m.Update(t.Context(), functionARN, func(c *Config) error { c.Enabled = true; return nil }); err != nil {
			t.Fatal(err)
		}
		w.expect("what is not too old", "c")
		if len(w.failures) != 1 || w.failures[0].Records != 2 {
			t.Fatalf("%d failures", len(w.failures))
		}
		if doc := string(w.failures[0].Document); !strings.Contains(doc, `"condition":"RecordAgeExceeded","approximateInvokeCount":1}`) || strings.Contains(doc, "responseContext") {
			t.Fatal(doc)
		}
		w.answers(poison("d"))
		w.put("d")
		time.Sleep(2 * time.Minute)
		w.put("e")
		if got := w.invocations(); got[len(got)-1] != "e" || len(w.failures) != 2 {
			t.Fatalf("%q, %d failures", got, len(w.failures))
		}
	})
}

// What is no fault of the function does not count as an attempt.
func TestAFunctionThatCannotBeInvoked(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.answers(func(*event) (string, error) { return "", errs.New(errs.Throttled, "no environment") })
		w.put("a")
		m := w.mapping(func(c *Config) { c.MaximumRetries = 1 })
		time.Sleep(10 * time.Minute)
		if got := w.invocations(); len(got) < 10 {
			t.Fatalf("%d attempts", len(got))
		}
		if r := m.View().Result; r != "PROBLEM: no environment" {
			t.Error(r)
		}
		w.answers(poison())
		time.Sleep(2 * time.Minute)
		w.expect("when it can be", "a")
	})
}

func TestADestinationThatIsDownHoldsTheShard(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.answers(poison("a"))
		w.sinkDown = true
		w.put("a", "b")
		w.mapping(func(c *Config) { c.BatchSize, c.MaximumRetries, c.OnFailure = 1, 0, bucketARN })
		time.Sleep(10 * time.Minute)
		w.expect("nothing moves", "a")
		w.restart()
		time.Sleep(time.Minute)
		if got := w.invocations(); len(got) > 1 {
			t.Fatalf("after a restart: %q", got)
		}
		w.mu.Lock()
		w.sinkDown = false
		w.mu.Unlock()
		time.Sleep(2 * time.Minute)
		w.expect("when it is up", "b")
		if len(w.failures) != 1 {
			t.Fatalf("%d failures", len(w.failures))
		}
	})
}

// Lanes do not wait for each other, and keep the order of each key over a split.
func TestLanesAndResharding(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.answers(poison("k3-0"))
		w.mapping(func(c *Config) { c.Parallelization = 4 })
		var want []string
		for i := range 20 {
			for k := range 8 {
				w.put(fmt.Sprintf("k%d-%d", k, i))
				if laneOf(fmt.Append(nil, "k", k), 4) != laneOf([]byte("k3"), 4) {
					want = append(want, fmt.Sprintf("k%d-%d", k, i))
				}
			}
			if i == 10 {
				if err := w.streams.Split(t.Context(), w.stream(), 0, shards.Hash{Hi: 1 << 63}); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(time.Second)
		var got []string
		for _, batch := range w.invocations() {
			if !strings.Contains(batch, "k3-0") { // that one failed
				got = append(got, strings.Fields(batch)...)
			}
		}
		seen := make(map[string]int)
		for _, d := range got {
			seen[d]++
		}
		for _, d := range want {
			var i int
			fmt.Sscanf(d, d[:2]+"-%d", &i)
			if n := seen[d]; i <= 10 && n != 1 || i > 10 && n != 0 {
				t.Errorf("%s came %d times while a lane of the parent was stuck", d, n)
			}
		}
		w.answers(poison())
		time.Sleep(2 * time.Minute)
		next := make(map[string]int)
		for _, d := range append(got, strings.Fields(strings.Join(w.invocations(), " "))...) {
			key, n, _ := strings.Cut(d, "-")
			if i, _ := strconv.Atoi(n); i != next[key] {
				t.Fatalf("%s when %d was due", d, next[key])
			}
			next[key]++
		}
		for k := range 8 {
			if n := next[fmt.Sprint("k", k)]; n != 20 {
				t.Errorf("k%d: %d records", k, n)
			}
		}
	})
}

func TestAnotherNumberOfLanes(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		m := w.mapping(func(c *Config) { c.Parallelization = 3 })
		w.put("a", "b", "c", "d")
		if got := w.invocations(); len(strings.Fields(strings.Join(got, " "))) != 4 {
			t.Fatalf("%q", got)
		}
		if err := m.Update(t.Context(), functionARN, func(c *Config) error { c.Parallelization = 2; return nil }); err != nil {
			t.Fatal(err)
		}
		w.put("e", "f")
		all := strings.Fields(strings.Join(w.invocations(), " "))
		for _, d := range []string{"e", "f"} {
			if !slices.Contains(all, d) {
				t.Errorf("%s is lost: %q", d, all)
			}
		}
	})
}

func TestMappingsThatCannotBe(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		m := w.mapping(nil)
		for what, c := range map[string]struct {
			change func(*Config)
			want   string
		}{
			"again":               {func(*Config) {}, `The event source arn (" ` + streamARN + ` ") and function (" f ") provided mapping already exists. Please update or delete the existing mapping with UUID ` + m.UUID},
			"no such stream":      {func(c *Config) { c.EventSourceARN += "x" }, "Stream not found: " + streamARN + "x"},
			"no stream":           {func(c *Config) { c.EventSourceARN = "arn:aws:sqs:us-east-1:000000000000:q" }, "Unrecognized event source."},
			"no batch":            {func(c *Config) { c.BatchSize = 0 }, "BatchSize is 0, and must be between 1 and 10000."},
			"too young":           {func(c *Config) { c.MaximumAge = 59 }, "MaximumRecordAgeInSeconds is 59, and must be -1 or at least 60."},
			"in the future":       {func(c *Config) { c.StartingPosition, c.StartingMs = AtTimestamp, time.Now().Add(time.Hour).UnixMilli() }, "StartingPositionTimestamp must not lie in the future."},
			"a time for LATEST":   {func(c *Config) { c.StartingPosition, c.StartingMs = Latest, 1 }, "StartingPositionTimestamp goes with StartingPosition AT_TIMESTAMP only."},
			"a filter":            {func(c *Config) { c.Filters = []string{"{"} }, "Invalid filter pattern definition."},
			"another destination": {func(c *Config) { c.OnFailure = "arn:aws:sqs:us-east-1:000000000000:q" }, "arn:aws:sqs:us-east-1:000000000000:q is no destination"},
		} {
			config := Defaults()
			config.EventSourceARN, config.StartingPosition = streamARN, TrimHorizon
			c.change(&config)
			if _, err := w.Create(t.Context(), config, functionARN); err == nil || err.Error() != c.want {
				t.Errorf("%s: %v", what, err)
			}
		}
		if err := m.Delete(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Get(m.UUID); !errs.Is(err, errs.NotFound) {
			t.Fatal(err)
		}
		for kv, err := range w.store.Meta().Scan(t.Context(), prefix) {
			t.Fatalf("left behind: %s %v", kv.Key, err)
		}
	})
}

// A stream that is made anew is read from the starting position.
func TestAStreamMadeAnew(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.put("a", "b", "c")
		m := w.mapping(nil)
		w.expect("the old one", "a b c")
		if err := w.streams.Delete(t.Context(), w.stream()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if r := m.View().Result; r != "PROBLEM: Stream not found: "+streamARN {
			t.Error(r)
		}
		if _, err := w.streams.Create(t.Context(), here, shards.Spec{Name: "s", Shards: 2}); err != nil {
			t.Fatal(err)
		}
		w.put("d")
		time.Sleep(2 * time.Second)
		w.expect("the new one", "d")
	})
}

// A mapping that was off for longer than the retention says what it has missed.
func TestSkippedRecordsAreTold(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		m := w.mapping(func(c *Config) { c.Enabled = false })
		w.put("a", "b")
		time.Sleep(shards.DefaultRetention + time.Hour)
		w.put("c")
		if err := m.Update(t.Context(), functionARN, func(c *Config) error { c.Enabled = true; return nil }); err != nil {
			t.Fatal(err)
		}
		w.expect("what is left", "c")
		if w.skipped != 2 {
			t.Errorf("%d skipped", w.skipped)
		}
	})
}

func TestTumblingWindows(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		n := 0
		w.answers(func(e *event) (string, error) {
			n += len(e.Records)
			return fmt.Sprintf(`{"state":{"n":%d}}`, n), nil
		})
		w.mapping(func(c *Config) { c.TumblingWindow, c.BatchSize = 30, 2 })
		w.put("a", "b", "c")
		time.Sleep(29 * time.Second)
		w.put("d")
		synctest.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		w.put("e")
		synctest.Wait()
		w.mu.Lock()
		events := w.events
		w.mu.Unlock()
		var got []string
		for _, e := range events {
			got = append(got, fmt.Sprintf("%s|%s|%s %s|%t", e.data(), e.State, e.Window.Start[11:], e.Window.End[11:], e.IsFinalInvokeForWindow))
			if e.ShardID != "shardId-000000000000" {
				t.Error(e.raw)
			}
		}
		want := []string{
			"a b|{}|00:00:00Z 00:00:30Z|false", `c|{"n":2}|00:00:00Z 00:00:30Z|false`, `d|{"n":3}|00:00:00Z 00:00:30Z|false`,
			`|{"n":4}|00:00:00Z 00:00:30Z|true`, "e|{}|00:00:30Z 00:01:00Z|false",
		}
		if !slices.Equal(got, want) {
			t.Fatalf("\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		w.restart() // the state survives
		w.put("f")
		synctest.Wait()
		w.mu.Lock()
		last := w.events[len(w.events)-1]
		w.mu.Unlock()
		if last.data() != "f" || string(last.State) != `{"n":5}` {
			t.Fatal(last.raw)
		}
	})
}

// An answer without a state is a failure; one that is too large ends the window early.
func TestWindowStates(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		answers := []string{`{}`, `{"state":{"x":"` + strings.Repeat("y", maxState) + `"}}`, `{"state":{}}`, `{"state":{"z":1}}`}
		i := 0
		w.answers(func(*event) (string, error) {
			i++
			return answers[min(i, len(answers))-1], nil
		})
		w.mapping(func(c *Config) { c.TumblingWindow = 900 })
		w.put("a")
		time.Sleep(10 * time.Second)
		w.put("b")
		synctest.Wait()
		var got []string
		for _, e := range w.events {
			got = append(got, fmt.Sprintf("%s|%s|%t|%t", e.data(), e.State, e.IsFinalInvokeForWindow, e.IsWindowTerminatedEarly))
		}
		if want := []string{"a|{}|false|false", "a|{}|false|false", "|{}|true|true", "b|{}|false|false"}; !slices.Equal(got, want) {
			t.Fatalf("%q", got)
		}
	})
}

func TestAWindowEndsWithItsShard(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.answers(func(*event) (string, error) { return `{"state":{"s":1}}`, nil })
		w.mapping(func(c *Config) { c.TumblingWindow = 900 })
		w.put("a")
		w.expect("the parent", "a")
		if err := w.streams.Split(t.Context(), w.stream(), 0, shards.Hash{Hi: 1 << 63}); err != nil {
			t.Fatal(err)
		}
		w.put("b")
		synctest.Wait()
		if len(w.events) != 2 || !w.events[0].IsFinalInvokeForWindow || w.events[1].data() != "b" || string(w.events[1].State) != "{}" {
			t.Fatalf("%d events", len(w.events))
		}
	})
}

func TestARecordTooLargeForAnEvent(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		w.put("a")
		w.put("x-" + strings.Repeat("x", 5<<20))
		w.put("b")
		w.mapping(func(c *Config) { c.OnFailure = bucketARN })
		w.expect("around it", "a", "b")
		if len(w.failures) != 1 || !strings.Contains(string(w.failures[0].Document), `"approximateInvokeCount":0}`) {
			t.Fatalf("%d failures", len(w.failures))
		}
	})
}

func TestAConsumerGetsAggregatesApart(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		c, err := w.stream().RegisterConsumer(t.Context(), "app", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		arn := c.ARN(w.stream())
		w.mapping(func(c *Config) { c.EventSourceARN = arn })
		w.put("a")
		synctest.Wait()
		if len(w.events) != 1 || w.events[0].Records[0].EventSourceARN != arn {
			t.Fatalf("%d events", len(w.events))
		}
	})
}
