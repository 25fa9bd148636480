package firehose

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/shardmill/shardmill/firehose/lambdaevent"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/kpl"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/shards"
)

const (
	maxEvent       = 6 << 20         // bytes of an event and of an answer
	invokeDeadline = 5 * time.Minute // of one attempt, whatever the function's own time-out
	retryPause     = 200 * time.Millisecond
)

// source is one record on its way into the transform.
type source struct {
	shard    *shards.Shard
	sequence string
	sub      int
	key      []byte
	data     []byte
	arrived  int64
}

// id is the record's id in events: the sequence number and six digits for the place of a user
// record in its KPL aggregate.
func (s *source) id() string {
	sub := strconv.Itoa(s.sub)
	return s.sequence + "000000"[:max(6-len(sub), 0)] + sub
}

// eachSource calls fn with a batch's records, KPL aggregates taken apart.
func eachSource(ctx context.Context, b *shards.Batch, fn func(source) error) error {
	return b.Each(ctx, func(sh *shards.Shard, recs []shards.Record) error {
		for i := range recs {
			r := &recs[i]
			src := source{shard: sh, sequence: sh.Seq(r.Pos, r.Arrived).String(), key: r.Key, data: r.Data, arrived: r.Arrived}
			var err error
			apart := kpl.Deaggregate(r.Data, func(sub int, partitionKey, _ string, data []byte) {
				if err == nil {
					err = fn(source{shard: sh, sequence: src.sequence, sub: sub, key: []byte(partitionKey), data: data, arrived: r.Arrived})
				}
			})
			if !apart {
				err = fn(src)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// outcome is what a batch became: records to deliver, and error records.
type outcome struct {
	ok, failed spool
	what       Delivered
}

func (o *outcome) close() {
	o.ok.close()
	o.failed.close()
}

// transformer runs a batch's records through the delivery stream's function.
type transformer struct {
	d       *DeliveryStream
	p       *Processor
	out     *outcome
	pending []source
	bytes   int64
	attempt int // of the invocation under way, from 1

	answers  runtime.ProcessedBatch
	response lambdaevent.Response
	event    []byte
}

func (t *transformer) add(ctx context.Context, s source) error {
	if len(t.pending) > 0 && t.bytes+int64(len(s.data)) > t.p.Bytes {
		if err := t.flush(ctx); err != nil {
			return err
		}
	}
	t.pending = append(t.pending, s)
	t.bytes += int64(len(s.data))
	return nil
}

// flush sends what is pending through the function, in as many invocations as its size asks for.
func (t *transformer) flush(ctx context.Context) error {
	for len(t.pending) > 0 {
		n, err := t.invoke(ctx, t.pending)
		if err != nil {
			return err
		}
		t.pending = t.pending[n:]
	}
	t.pending, t.bytes = t.pending[:0:0], 0
	return nil
}

// failure is why records could not be transformed, in the words of Firehose's error codes.
type failure struct {
	code, message string
	cause         error
}

// invoke transforms leading records of in and returns how many. Failed attempts are repeated as
// often as the processor says, then the records go to the error output. The error is one of ours:
// ctx has ended or the spool cannot be written.
func (t *transformer) invoke(ctx context.Context, in []source) (n int, err error) {
	for t.attempt = 1; ; t.attempt++ {
		n, fail, err := t.once(ctx, in)
		if err != nil || fail == nil {
			return n, err
		}
		if errs.Is(fail.cause, errs.InUse) { // the function is loading, and will serve or be refused
			if err := sleep(ctx, retryPause); err != nil {
				return 0, err
			}
			t.attempt--
			continue
		}
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		last := t.attempt > t.p.Retries
		if f := t.d.owner.opts.Events.Transform; f != nil {
			f(t.d, t.attempt, last, fmt.Errorf("%s: %w", fail.code, fail.cause))
		}
		if last {
			for i := range in[:n] {
				if err := t.fail(&in[i], fail.code, fail.message, t.attempt); err != nil {
					return 0, err
				}
			}
			return n, nil
		}
		if err := sleep(ctx, retryPause<<min(t.attempt-1, 6)); err != nil {
			return 0, err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// once is one invocation. fail tells that none of the n records it took has an answer.
func (t *transformer) once(ctx context.Context, in []source) (n int, fail *failure, err error) {
	fn, release, err := t.d.owner.opts.Functions.Function(t.p.FunctionARN)
	if err != nil {
		return len(in), hostFailure(err), nil
	}
	defer release()
	inv := runtime.Invocation{RequestID: uuid.NewString(), FunctionARN: t.p.FunctionARN, Deadline: time.Now().Add(invokeDeadline)}
	if native, ok := fn.(runtime.RecordProcessor); ok {
		return t.process(ctx, native, inv, in)
	}
	return t.exchange(ctx, fn, inv, in)
}

// process hands the records over as they are.
func (t *transformer) process(ctx context.Context, fn runtime.RecordProcessor, inv runtime.Invocation, in []source) (int, *failure, error) {
	batch := runtime.RecordBatch{Invocation: inv, Records: make([]runtime.InRecord, len(in)), Facts: map[string]string{
		"deliveryStreamArn": t.d.ARN(), "region": t.d.Region, "sourceKinesisStreamArn": t.d.spec.SourceARN}}
	for i := range in {
		s := &in[i]
		batch.Records[i] = runtime.InRecord{ID: s.id(), PartitionKey: s.key, SequenceNumber: s.sequence,
			SubSequence: uint64(s.sub), ShardID: s.shard.String(), Arrived: s.arrived, Data: s.data}
	}
	t.answers.Reset()
	if err := fn.Process(ctx, &batch, &t.answers); err != nil {
		return len(in), functionFailure(err), nil
	}
	answered := make([]bool, len(in))
	for i := range t.answers.Records {
		a := &t.answers.Records[i]
		first := !answered[a.Index]
		answered[a.Index] = true
		if err := t.take(&in[a.Index], a.Status, a.Data, first); err != nil {
			return 0, nil, err
		}
	}
	return len(in), nil, t.missing(in, answered)
}

// take is one answer of a function.
func (t *transformer) take(s *source, status runtime.Status, data []byte, first bool) error {
	if first {
		t.out.what.Records++
	}
	switch status {
	case runtime.Ok:
		t.out.what.Ok++
		return t.out.ok.add(data)
	case runtime.Dropped:
		t.out.what.Dropped++
		return nil
	}
	t.out.what.Records-- // fail counts it
	return t.fail(s, lambdaevent.MarkedFailed.Code(), lambdaevent.MarkedFailed.Message(), t.attempt)
}

func (t *transformer) missing(in []source, answered []bool) error {
	for i, ok := range answered {
		if !ok {
			if err := t.fail(&in[i], lambdaevent.MissingRecordID.Code(), lambdaevent.MissingRecordID.Message(), t.attempt); err != nil {
				return err
			}
		}
	}
	return nil
}

// fail writes the error record of a record, which holds it as it came.
func (t *transformer) fail(s *source, code, message string, attempts int) error {
	t.out.what.Records++
	t.out.what.Failed++
	return t.out.failed.add(lambdaevent.AppendErrorRecord(nil, &lambdaevent.ErrorRecord{
		RawData: s.data, ErrorCode: code, ErrorMessage: message, AttemptsMade: attempts,
		Arrived: s.arrived, AttemptEnding: time.Now().UnixMilli(), LambdaARN: t.p.FunctionARN,
	}))
}

// exchange hands the records over as Firehose's JSON event.
func (t *transformer) exchange(ctx context.Context, fn runtime.Function, inv runtime.Invocation, in []source) (n int, fail *failure, err error) {
	ev := lambdaevent.Event{InvocationID: inv.RequestID, DeliveryStreamARN: t.d.ARN(), SourceStreamARN: t.d.spec.SourceARN,
		Region: t.d.Region, Records: make([]lambdaevent.Record, len(in))}
	for i := range in {
		s := &in[i]
		ev.Records[i] = lambdaevent.Record{ID: s.id(), Arrived: s.arrived, Data: s.data, ShardID: s.shard.String(),
			PartitionKey: s.key, SequenceNumber: s.sequence, SubSequence: uint64(s.sub)}
	}
	n = lambdaevent.Fit(&ev, maxEvent)
	if n == 0 {
		return 1, nil, t.fail(&in[0], lambdaevent.FunctionError.Code(), "The record does not fit into an event of 6 MiB.", 0)
	}
	ev.Records = ev.Records[:n]
	t.event = lambdaevent.AppendEvent(t.event[:0], &ev)
	inv.Payload = t.event
	res, err := fn.Invoke(ctx, inv)
	if err != nil {
		return n, hostFailure(err), nil
	}
	if res.FunctionError != "" {
		return n, functionFailure(&runtime.FunctionFailure{Type: res.ErrorType, Message: string(res.Payload)}), nil
	}
	if err := lambdaevent.ParseResponse(res.Payload, &t.response); err != nil {
		fault := lambdaevent.NotJSON
		if r, ok := err.(*lambdaevent.ResponseError); ok {
			fault = r.Fault
		}
		for i := range in[:n] { // an answer that has arrived is final, however malformed
			if err := t.fail(&in[i], fault.Code(), fault.Message(), t.attempt); err != nil {
				return 0, nil, err
			}
		}
		return n, nil, nil
	}
	return n, nil, t.match(in[:n], ev.Records)
}

// match finds each record's answer.
func (t *transformer) match(in []source, sent []lambdaevent.Record) error {
	index := make(map[string]int, len(sent))
	for i := range sent {
		index[sent[i].ID] = i
	}
	answers := make([]*lambdaevent.Answer, len(in))
	twice := make([]bool, len(in))
	answered := make([]bool, len(in))
	for i := range t.response.Answers {
		a := &t.response.Answers[i]
		k, known := index[a.RecordID]
		if !known {
			continue // ids that were not sent are ignored
		}
		twice[k] = answers[k] != nil
		answers[k], answered[k] = a, true
	}
	for i, a := range answers {
		var err error
		switch {
		case a == nil:
			continue
		case twice[i]:
			err = t.fail(&in[i], lambdaevent.DuplicatedRecordID.Code(), lambdaevent.DuplicatedRecordID.Message(), t.attempt)
		case a.Fault != lambdaevent.NoFault:
			err = t.fail(&in[i], a.Fault.Code(), a.Fault.Message(), t.attempt)
		case a.Result == lambdaevent.Dropped:
			err = t.take(&in[i], runtime.Dropped, nil, true)
		default:
			err = t.take(&in[i], runtime.Ok, a.Data, true)
		}
		if err != nil {
			return err
		}
	}
	return t.missing(in, answered)
}

// functionFailure names the failure of a whole batch by the function, or a fault of the host.
func functionFailure(err error) *failure {
	var f *runtime.FunctionFailure
	if !errors.As(err, &f) {
		return hostFailure(err)
	}
	if f.Type == runtime.ErrorTimedOut {
		return &failure{"Lambda.FunctionTimedOut", "The Lambda function timed out.", err}
	}
	return &failure{lambdaevent.FunctionError.Code(), lambdaevent.FunctionError.Message(), err}
}

// hostFailure names what kept a function from being invoked.
func hostFailure(err error) *failure {
	switch errs.KindOf(err) {
	case errs.NotFound:
		return &failure{"Lambda.ResourceNotFound", "The Lambda function does not exist.", err}
	case errs.Throttled:
		return &failure{"Lambda.InvokeLimitExceeded", "The Lambda concurrent execution limit is exceeded.", err}
	}
	return &failure{"Lambda.InvocationFailure", "The Lambda function could not be invoked.", err}
}
