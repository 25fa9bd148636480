package firehose_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// Error codes with their messages, as error records carry them.
const (
	statusFailed  = "Lambda.ProcessingFailedStatus: ProcessingFailed status set for record"
	errorResult   = "Lambda.FunctionError: The Lambda function was successfully invoked but it returned an error result."
	badForm       = "Lambda.FunctionError: Check your function and make sure the output is in required format. In addition to that, make sure the processed records contain valid result status of Dropped, Ok, or ProcessingFailed"
	missingID     = "Lambda.MissingRecordId: One or more record Ids were not returned. Ensure that the Lambda function returns all received record Ids."
	duplicatedID  = "Lambda.DuplicatedRecordId: Multiple records were returned with the same record Id. Ensure that the Lambda function returns a unique record Id for each record."
	withoutData   = "Lambda.InvalidReturnFormat: The Lambda function returned the result Ok without data. Ensure that every record with this result has data, which may be empty."
	notJSON       = "Lambda.JsonProcessingException: The Lambda function returned a response that is not JSON."
	timedOut      = "Lambda.FunctionTimedOut: The Lambda function timed out."
	limitExceeded = "Lambda.InvokeLimitExceeded: The Lambda concurrent execution limit is exceeded."
	noFunction    = "Lambda.ResourceNotFound: The Lambda function does not exist."
	hostFault     = "Lambda.InvocationFailure: The Lambda function could not be invoked."
)

// verdict is what becomes of the records a, b and c, put together.
type verdict struct {
	name    string
	answer  func(call int, e event) (runtime.Result, error) // nil: there is no such function
	retries int
	ok      string   // records delivered
	dropped int      // how many
	failed  []string // "record attemptsMade code: message" of every error record
	calls   int
}

// all is the error records of a whole batch.
func all(attempts int, why string) []string {
	return []string{fmt.Sprintf("a %d %s", attempts, why), fmt.Sprintf("b %d %s", attempts, why), fmt.Sprintf("c %d %s", attempts, why)}
}

func TestVerdictsOfAHandler(t *testing.T) {
	for _, v := range []verdict{
		{name: "Ok", ok: "A B C", calls: 1,
			answer: upper(func(id string) string { return answerOk(id, "B") })},
		{name: "Ok with empty data delivers an empty record", ok: "A  C", calls: 1,
			answer: upper(func(id string) string { return answerOk(id, "") })},
		{name: "Ok in another order keeps the batch's order", ok: "A B C", calls: 1,
			answer: func(_ int, e event) (runtime.Result, error) {
				r := e.Records
				return says(`{"records":[`+answerOk(r[2].RecordID, "C")+","+answerOk(r[0].RecordID, "A")+","+answerOk(r[1].RecordID, "B")+`]}`)(1, e)
			}},
		{name: "Dropped", ok: "A C", dropped: 1, calls: 1,
			answer: upper(func(id string) string { return `{"recordId":"` + id + `","result":"Dropped"}` })},
		{name: "ProcessingFailed", ok: "A C", failed: []string{"b 1 " + statusFailed}, calls: 1, retries: 3,
			answer: upper(func(id string) string { return `{"recordId":"` + id + `","result":"ProcessingFailed","data":"eA=="}` })},
		{name: "an unknown id is ignored", ok: "A B C", calls: 1,
			answer: upper(func(id string) string { return answerOk(id, "B") + "," + answerOk("49000", "stranger") })},
		{name: "an id is missing", ok: "A C", failed: []string{"b 1 " + missingID}, calls: 1, retries: 3,
			answer: upper(func(string) string { return "" })},
		{name: "an id comes twice", ok: "A C", failed: []string{"b 1 " + duplicatedID}, calls: 1, retries: 3,
			answer: upper(func(id string) string { return answerOk(id, "B") + "," + answerOk(id, "B2") })},
		{name: "an id comes three times", ok: "A C", failed: []string{"b 1 " + duplicatedID}, calls: 1,
			answer: upper(func(id string) string { return answerOk(id, "B") + "," + answerOk(id, "B") + "," + answerOk(id, "B") })},
		{name: "an id is dropped and delivered", ok: "A C", failed: []string{"b 1 " + duplicatedID}, calls: 1,
			answer: upper(func(id string) string { return `{"recordId":"` + id + `","result":"Dropped"},` + answerOk(id, "B") })},
		{name: "Ok without data", ok: "A C", failed: []string{"b 1 " + withoutData}, calls: 1, retries: 3,
			answer: upper(func(id string) string { return `{"recordId":"` + id + `","result":"Ok"}` })},
		{name: "Ok with null data", ok: "A C", failed: []string{"b 1 " + withoutData}, calls: 1,
			answer: upper(func(id string) string { return `{"recordId":"` + id + `","result":"Ok","data":null}` })},
		{name: "data is not base64", ok: "A C", failed: []string{"b 1 " + badForm}, calls: 1, retries: 3,
			answer: upper(func(id string) string { return `{"recordId":"` + id + `","result":"Ok","data":"not base64"}` })},
		{name: "result is none of the three", ok: "A C", failed: []string{"b 1 " + badForm}, calls: 1, retries: 3,
			answer: upper(func(id string) string { return `{"recordId":"` + id + `","result":"OK","data":"eA=="}` })},
		{name: "the answer is not JSON", failed: all(1, notJSON), calls: 1, retries: 3, answer: says("records: none")},
		{name: "the answer is empty", failed: all(1, notJSON), calls: 1, answer: says("")},
		{name: "no records array", failed: all(1, missingID), calls: 1, retries: 3, answer: says(`{"statusCode":200}`)},
		{name: "an empty records array", failed: all(1, missingID), calls: 1, answer: says(`{"records":[]}`)},

		{name: "function error, no retries", failed: all(1, errorResult), calls: 1, answer: failsWith("Error")},
		{name: "function error, 3 retries", failed: all(4, errorResult), calls: 4, retries: 3, answer: failsWith("Error")},
		{name: "answer too large", failed: all(2, errorResult), calls: 2, retries: 1, answer: failsWith(runtime.ErrorResponseTooLarge)},
		{name: "time-out", failed: all(3, timedOut), calls: 3, retries: 2, answer: failsWith(runtime.ErrorTimedOut)},
		{name: "throttled", failed: all(3, limitExceeded), calls: 3, retries: 2,
			answer: hostSays(errs.New(errs.Throttled, "all 2 execution environments stayed busy"))},
		{name: "could not be started", failed: all(2, hostFault), calls: 2, retries: 1,
			answer: hostSays(errs.New(errs.Unavailable, "the function failed to start"))},
		{name: "a fault of the host", failed: all(2, hostFault), calls: 2, retries: 1, answer: hostSays(errors.New("broken pipe"))},
		{name: "no such function", failed: all(4, noFunction), retries: 3},

		{name: "the third attempt succeeds", ok: "A B C", calls: 3, retries: 3,
			answer: func(call int, e event) (runtime.Result, error) {
				if call < 3 {
					return failsWith("Error")(call, e)
				}
				return upper(func(id string) string { return answerOk(id, "B") })(call, e)
			}},
		{name: "an answer that arrives is final, whatever the attempt", ok: "A C", failed: []string{"b 2 " + missingID}, calls: 2, retries: 3,
			answer: func(call int, e event) (runtime.Result, error) {
				if call < 2 {
					return hostSays(errs.New(errs.Throttled, "busy"))(call, e)
				}
				return upper(func(string) string { return "" })(call, e)
			}},
	} {
		t.Run(v.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				h := &handler{answer: v.answer}
				if v.answer != nil {
					w.functions.byARN[functionARN] = h
				}
				v.check(t, w)
				equal(t, "invocations", len(h.events), v.calls)
				for i := range h.payloads {
					first, again := h.payloads[0], h.payloads[i]
					if i > 0 && h.events[i].InvocationID == h.events[0].InvocationID {
						t.Fatalf("attempt %d has the invocation id of the first", i+1)
					}
					equal(t, "the event of a later attempt, but for its invocation id", string(withoutID(again)), string(withoutID(first)))
				}
			})
		})
	}
}

var invocationID = regexp.MustCompile(`"invocationId":"[0-9a-f-]{36}"`)

func withoutID(payload []byte) []byte { return invocationID.ReplaceAll(payload, nil) }

// check puts a, b and c and compares what became of them.
func (v *verdict) check(t *testing.T, w *world) {
	t.Helper()
	w.open()
	defer w.close()
	d := w.create(transformed("d", v.retries))
	w.put(d, "a", "b", "c")
	time.Sleep(time.Hour) // the pauses between attempts
	synctest.Wait()

	want := [][]string{strings.Split(v.ok, " ")}
	if v.ok == "" {
		want = nil
	}
	equal(t, "data objects", w.sink.data("d"), want)
	equal(t, "error records", failures(t, w.sink.errors("d")), v.failed)
	if len(w.log.delivered) != 1 {
		t.Fatalf("%d batches were delivered, want 1", len(w.log.delivered))
	}
	got := w.log.delivered[0]
	got.Took = 0
	equal(t, "counts", fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", firehose.Delivered{
		Records: 3, Ok: len(strings.Fields(strings.ReplaceAll(v.ok, "  ", " empty "))), Dropped: v.dropped, Failed: len(v.failed), Bytes: 3, Attempts: 1}))
	equal(t, "leases that did not come back", w.functions.leased, 0)
}

// failures reads error objects: "rawData attemptsMade code: message" of each line.
func failures(t *testing.T, objects [][]string) (out []string) {
	t.Helper()
	for _, lines := range objects {
		for _, line := range lines {
			var r struct {
				RawData                                  []byte
				ErrorCode, ErrorMessage, LambdaARN       string
				AttemptsMade                             int
				ArrivalTimestamp, AttemptEndingTimestamp int64
			}
			dec := json.NewDecoder(strings.NewReader(line))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&r); err != nil || !strings.HasSuffix(line, "}\n") || strings.Count(line, "\n") != 1 {
				t.Fatalf("%q is not one JSON document a line: %v", line, err)
			}
			if r.LambdaARN != functionARN || r.AttemptEndingTimestamp < r.ArrivalTimestamp {
				t.Fatalf("wrong ARN or times in %s", line)
			}
			out = append(out, fmt.Sprintf("%s %d %s: %s", r.RawData, r.AttemptsMade, r.ErrorCode, r.ErrorMessage))
		}
	}
	return out
}

func TestVerdictsOfARecordProcessor(t *testing.T) {
	failure := func(errorType string) error { return &runtime.FunctionFailure{Type: errorType, Message: "boom"} }
	for _, v := range []struct {
		verdict
		process func(int, *runtime.RecordBatch, *runtime.ProcessedBatch) error
	}{
		{verdict{name: "Ok", ok: "A B C", calls: 1}, answers("A", "B", "C")},
		{verdict{name: "Dropped", ok: "A C", dropped: 1, calls: 1}, answers("A", "-", "C")},
		{verdict{name: "Failed", ok: "A C", failed: []string{"b 1 " + statusFailed}, calls: 1, retries: 3}, answers("A", "!", "C")},
		{verdict{name: "no answer", ok: "A C", failed: []string{"b 1 " + missingID}, calls: 1, retries: 3}, answers("A", "", "C")},
		{verdict{name: "no answer at all", failed: all(1, missingID), calls: 1, retries: 3}, answers()},
		{verdict{name: "nothing but Dropped", dropped: 3, calls: 1}, answers("-", "-", "-")},
		{verdict{name: "the function said that it failed", failed: all(4, errorResult), calls: 4, retries: 3}, processorSays(failure(runtime.ErrorHandler))},
		{verdict{name: "it trapped", failed: all(1, errorResult), calls: 1}, processorSays(failure(runtime.ErrorExit))},
		{verdict{name: "its answer was too large", failed: all(2, errorResult), calls: 2, retries: 1}, processorSays(failure(runtime.ErrorResponseTooLarge))},
		{verdict{name: "it broke the protocol", failed: all(2, errorResult), calls: 2, retries: 1}, processorSays(failure(runtime.ErrorProtocol))},
		{verdict{name: "time-out", failed: all(3, timedOut), calls: 3, retries: 2}, processorSays(failure(runtime.ErrorTimedOut))},
		{verdict{name: "a failure with a story around it", failed: all(3, timedOut), calls: 3, retries: 2},
			processorSays(fmt.Errorf("worker 7: %w", failure(runtime.ErrorTimedOut)))},
		{verdict{name: "throttled", failed: all(3, limitExceeded), calls: 3, retries: 2}, processorSays(errs.New(errs.Throttled, "busy"))},
		{verdict{name: "could not be started", failed: all(2, hostFault), calls: 2, retries: 1}, processorSays(errs.New(errs.Unavailable, "no bootstrap"))},
		{verdict{name: "a fault of the host", failed: all(2, hostFault), calls: 2, retries: 1}, processorSays(errors.New("broken pipe"))},
		{verdict{name: "an answer that arrives is final, whatever the attempt", ok: "A C", failed: []string{"b 3 " + statusFailed}, calls: 3, retries: 3},
			func(call int, in *runtime.RecordBatch, out *runtime.ProcessedBatch) error {
				if call < 3 {
					return processorSays(failure(runtime.ErrorExit))(call, in, out)
				}
				return answers("A", "!", "C")(call, in, out)
			}},
	} {
		t.Run(v.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				n := &native{process: v.process}
				w.functions.byARN[functionARN] = n
				v.check(t, w)
				equal(t, "invocations", n.calls, v.calls)
				for i, id := range n.ids {
					equal(t, "a record's id in a later attempt", id, n.ids[i%3])
				}
				equal(t, "facts", n.facts, map[string]string{"region": "us-east-1", "sourceKinesisStreamArn": "",
					"deliveryStreamArn": "arn:aws:firehose:us-east-1:000000000000:deliverystream/d"})
			})
		})
	}
}

func TestOneRecordBecomesSeveral(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.functions.byARN[functionARN] = &native{process: answers("ABC", "-", "D", "!")}
		w.open()
		defer w.close()
		w.put(w.create(transformed("d", 0)), "a", "b", "c", "d")
		equal(t, "data", w.sink.data("d"), "[[A B C D]]")
		got := w.log.delivered[0]
		got.Took = 0
		equal(t, "counts", fmt.Sprintf("%+v", got), "{Records:4 Ok:4 Dropped:1 Failed:1 Bytes:4 Attempts:1 Took:0s}")
	})
}

func TestAnErrorRecordHoldsTheRecordAsItCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.functions.byARN[functionARN] = &handler{answer: failsWith("Error")}
		w.open()
		defer w.close()
		arrived := time.Now().UnixMilli()
		w.put(w.create(transformed("d", 2)), "\xff\"b\"")
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "the error record", w.sink.errors("d")[0][0], fmt.Sprintf(`{"rawData":"/yJiIg==","errorCode":"Lambda.FunctionError",`+
			`"errorMessage":"The Lambda function was successfully invoked but it returned an error result.","attemptsMade":3,`+
			`"arrivalTimestamp":%d,"attemptEndingTimestamp":%d,"lambdaARN":"%s"}`+"\n", arrived, arrived+200+400, functionARN))
		equal(t, "what observers were told", w.log.transform, []string{
			`1: Lambda.FunctionError: Error: {"errorMessage":"boom"}`, `2: Lambda.FunctionError: Error: {"errorMessage":"boom"}`,
			`3 last: Lambda.FunctionError: Error: {"errorMessage":"boom"}`})
	})
}
