package firehose_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/shardmill/shardmill/runtime"
)

// event is a transform's input as a handler reads it.
type event struct {
	InvocationID           string        `json:"invocationId"`
	DeliveryStreamArn      string        `json:"deliveryStreamArn"`
	SourceKinesisStreamArn string        `json:"sourceKinesisStreamArn"`
	Region                 string        `json:"region"`
	Records                []eventRecord `json:"records"`
}

type eventRecord struct {
	RecordID                    string `json:"recordId"`
	ApproximateArrivalTimestamp int64  `json:"approximateArrivalTimestamp"`
	Data                        []byte `json:"data"`
	KinesisRecordMetadata       *struct {
		ShardID                     string `json:"shardId"`
		PartitionKey                string `json:"partitionKey"`
		SequenceNumber              string `json:"sequenceNumber"`
		SubsequenceNumber           int    `json:"subsequenceNumber"`
		ApproximateArrivalTimestamp int64  `json:"approximateArrivalTimestamp"`
	} `json:"kinesisRecordMetadata"`
}

// handler is a function that speaks JSON only, as Lambda handlers do.
type handler struct {
	answer func(call int, e event) (runtime.Result, error) // call counts from 1

	mu       sync.Mutex
	payloads [][]byte
	events   []event
}

func (h *handler) Invoke(_ context.Context, in runtime.Invocation) (runtime.Result, error) {
	var e event
	if err := json.Unmarshal(in.Payload, &e); err != nil {
		return runtime.Result{}, err
	}
	h.mu.Lock()
	h.payloads = append(h.payloads, bytes.Clone(in.Payload))
	h.events = append(h.events, e)
	call := len(h.events)
	h.mu.Unlock()
	if e.InvocationID != in.RequestID || in.FunctionARN != functionARN || time.Until(in.Deadline) != 5*time.Minute {
		return runtime.Result{}, fmt.Errorf("a wrong invocation: %+v", in)
	}
	return h.answer(call, e)
}

func (h *handler) Close() error { return nil }

// reply is a handler that answers every record with what one returns for it: an element of the
// answer's records, or several, or "" for none.
func reply(one func(id, data string) string) func(int, event) (runtime.Result, error) {
	return func(_ int, e event) (runtime.Result, error) {
		var all []string
		for _, r := range e.Records {
			if a := one(r.RecordID, string(r.Data)); a != "" {
				all = append(all, a)
			}
		}
		return runtime.Result{Payload: []byte(`{"records":[` + strings.Join(all, ",") + `]}`)}, nil
	}
}

func answerOk(id, data string) string {
	return fmt.Sprintf(`{"recordId":%q,"result":"Ok","data":%q}`, id, base64.StdEncoding.EncodeToString([]byte(data)))
}

// upper answers every record with its upper case, but b with what other says.
func upper(other func(id string) string) func(int, event) (runtime.Result, error) {
	return reply(func(id, data string) string {
		if data == "b" {
			return other(id)
		}
		return answerOk(id, strings.ToUpper(data))
	})
}

func says(text string) func(int, event) (runtime.Result, error) {
	return func(int, event) (runtime.Result, error) { return runtime.Result{Payload: []byte(text)}, nil }
}

func failsWith(errorType string) func(int, event) (runtime.Result, error) {
	return func(int, event) (runtime.Result, error) {
		return runtime.Result{FunctionError: "Unhandled", ErrorType: errorType, Payload: []byte(`{"errorMessage":"boom"}`)}, nil
	}
}

func hostSays(err error) func(int, event) (runtime.Result, error) {
	return func(int, event) (runtime.Result, error) { return runtime.Result{}, err }
}

// native is a function with the door for record batches; its JSON door must stay closed.
type native struct {
	process func(call int, in *runtime.RecordBatch, out *runtime.ProcessedBatch) error

	calls int
	ids   []string // of all calls
	facts map[string]string
}

func (n *native) Invoke(context.Context, runtime.Invocation) (runtime.Result, error) {
	return runtime.Result{}, errors.New("a RecordProcessor was sent JSON")
}

func (n *native) Close() error { return nil }

func (n *native) Process(_ context.Context, in *runtime.RecordBatch, out *runtime.ProcessedBatch) error {
	n.calls++
	n.facts = in.Facts
	for i := range in.Records {
		n.ids = append(n.ids, in.Records[i].ID)
	}
	return n.process(n.calls, in, out)
}

// answers is a processor that gives record i the answers that its string lists: an upper-case
// letter is Ok with that data, - is Dropped, ! is Failed.
func answers(of ...string) func(int, *runtime.RecordBatch, *runtime.ProcessedBatch) error {
	return func(_ int, in *runtime.RecordBatch, out *runtime.ProcessedBatch) error {
		for i, list := range of {
			for _, c := range list {
				a := runtime.OutRecord{Index: i, Data: []byte(string(c))}
				switch c {
				case '-':
					a = runtime.OutRecord{Index: i, Status: runtime.Dropped}
				case '!':
					a = runtime.OutRecord{Index: i, Status: runtime.Failed}
				}
				out.Records = append(out.Records, a)
			}
		}
		return nil
	}
}

func processorSays(err error) func(int, *runtime.RecordBatch, *runtime.ProcessedBatch) error {
	return func(_ int, _ *runtime.RecordBatch, out *runtime.ProcessedBatch) error {
		out.Records = append(out.Records, runtime.OutRecord{Index: 0, Data: []byte("half an answer")})
		return err
	}
}

// sizes lists the lengths of the records of each event.
func (h *handler) sizes() (out [][]int) {
	for _, e := range h.events {
		var one []int
		for _, r := range e.Records {
			one = append(one, len(r.Data))
		}
		out = append(out, one)
	}
	return out
}

// blocking is a function that runs until it is killed.
type blocking struct{}

func (blocking) Close() error { return nil }

func (blocking) Invoke(ctx context.Context, _ runtime.Invocation) (runtime.Result, error) {
	<-ctx.Done()
	return runtime.Result{}, ctx.Err()
}
