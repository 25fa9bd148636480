package firehose_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/internal/kpl"
	"github.com/shardmill/shardmill/runtime"
)

// The events of a direct put say nothing of Kinesis; those of a Kinesis source do.
func TestWhatAFunctionIsToldOfARecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		h := &handler{answer: upper(func(id string) string { return answerOk(id, "B") })}
		w.functions.byARN[functionARN] = h
		w.open()
		defer w.close()
		arrived := time.Now().UnixMilli()
		placed := w.put(w.create(transformed("d", 0)), "a")[0]
		equal(t, "the event of a direct put", string(withoutID(h.payloads[0])), fmt.Sprintf(
			`{,"deliveryStreamArn":"arn:aws:firehose:us-east-1:000000000000:deliverystream/d","region":"us-east-1",`+
				`"records":[{"recordId":"%s000000","approximateArrivalTimestamp":%d,"data":"YQ=="}]}`, placed.Seq(), arrived))

		source := w.source("s")
		spec := reading("k", source)
		spec.Processor = transformed("k", 0).Processor
		w.create(spec)
		placed = w.putSource(source, "a")[0]
		seq := placed.Seq().String()
		equal(t, "the event of a Kinesis source", string(withoutID(h.payloads[1])), fmt.Sprintf(
			`{,"deliveryStreamArn":"arn:aws:firehose:us-east-1:000000000000:deliverystream/k",`+
				`"sourceKinesisStreamArn":"arn:aws:kinesis:us-east-1:000000000000:stream/s","region":"us-east-1",`+
				`"records":[{"recordId":"%s000000","approximateArrivalTimestamp":%d,"data":"YQ==","kinesisRecordMetadata":`+
				`{"shardId":"shardId-000000000000","partitionKey":"key","sequenceNumber":"%s","subsequenceNumber":0,"approximateArrivalTimestamp":%[2]d}}]}`,
			seq, arrived, seq))
	})
}

func TestAggregatesOfTheProducerLibraryAreTakenApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		h := &handler{answer: reply(func(id, data string) string { return answerOk(id, data) })}
		w.functions.byARN[functionARN] = h
		w.open()
		defer w.close()
		source := w.source("s")
		spec := reading("k", source)
		spec.Processor = transformed("k", 0).Processor
		w.create(spec)
		w.create(reading("plain", source)) // without a function

		aggregate := string(kpl.Aggregate(nil, []kpl.Record{{PartitionKey: "p", Data: []byte("one")}, {PartitionKey: "q", Data: nil}, {PartitionKey: "p", Data: []byte("three")}}))
		damaged := aggregate[:len(aggregate)-1] + "?"
		placed := w.putSource(source, "whole", aggregate, damaged)
		var got []string
		for _, r := range h.events[0].Records {
			k := r.KinesisRecordMetadata
			got = append(got, fmt.Sprintf("%s %s %d %q", r.RecordID, k.PartitionKey, k.SubsequenceNumber, r.Data))
			if r.RecordID[:56] != k.SequenceNumber {
				t.Fatalf("record id %s of sequence number %s", r.RecordID, k.SequenceNumber)
			}
		}
		seq := func(i int) string { return placed[i].Seq().String() }
		equal(t, "records of the event", got, []string{
			seq(0) + `000000 key 0 "whole"`,
			seq(1) + `000000 p 0 "one"`, seq(1) + `000001 q 1 ""`, seq(1) + `000002 p 2 "three"`,
			seq(2) + fmt.Sprintf(`000000 key 0 %q`, damaged)})
		want := fmt.Sprint([][]string{{"whole", "one", "", "three", damaged}})
		equal(t, "data, transformed", w.sink.data("k"), want)
		equal(t, "data, plain", w.sink.data("plain"), want)
		for _, d := range w.log.delivered {
			if d.Records != 5 || d.Ok != 5 || d.Bytes != int64(len("whole"+"one"+"three"+damaged)) {
				t.Fatalf("counts %+v", d)
			}
		}
	})
}

func TestInvocationsAreSplitAtTheProcessorsSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		h := &handler{answer: reply(func(id, data string) string { return answerOk(id, data) })}
		w.functions.byARN[functionARN] = h
		w.open()
		defer w.close()
		spec := transformed("d", 0)
		spec.Processor.Bytes = 10
		w.put(w.create(spec), "1234", "1234", "1234", "12", "12345", "123456789012", "", "1234567890")
		equal(t, "record sizes by invocation", h.sizes(), "[[4 4] [4 2] [5] [12] [0 10]]")
		equal(t, "batches", len(w.log.delivered), 1)
		equal(t, "data", w.sink.data("d"), "[[1234 1234 1234 12 12345 123456789012  1234567890]]")
	})
}

func TestEventsOfMoreThanSixMiBAreSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const mib = 1 << 20
		w := newWorld(t)
		w.segment = 32 * mib
		h := &handler{answer: reply(func(id, data string) string { return `{"recordId":"` + id + `","result":"Dropped"}` })}
		w.functions.byARN[functionARN] = h
		w.open()
		defer w.close()
		source := w.source("s")
		spec := reading("k", source)
		spec.Buffer.Bytes = 64 * mib
		spec.Processor = &firehose.Processor{FunctionARN: functionARN, Retries: 3, Bytes: 64 * mib}
		w.create(spec)
		record := func(n int) string { return strings.Repeat("x", n) }
		// Four thirds of 1 MiB: four records fit into 6 MiB. 4720 KiB do not, not even alone.
		w.putSource(source, record(mib), record(mib), record(mib), record(mib), record(mib), record(4720<<10), record(mib))
		equal(t, "record sizes by invocation", h.sizes(), fmt.Sprintf("[[%[1]d %[1]d %[1]d %[1]d] [%[1]d] [%[1]d]]", mib))
		for _, p := range h.payloads {
			if len(p) > 6*mib {
				t.Fatalf("an event of %d bytes", len(p))
			}
		}
		got := failures(t, w.sink.errors("k"))
		if len(got) != 1 || !strings.HasPrefix(got[0], "xxxx") {
			t.Fatalf("%d error records", len(got))
		}
		equal(t, "the verdict", strings.TrimLeft(got[0], "x"), " 0 Lambda.FunctionError: The record does not fit into an event of 6 MiB.")
		equal(t, "dropped and failed", fmt.Sprint(w.log.delivered[0].Records, w.log.delivered[0].Dropped, w.log.delivered[0].Failed), "7 6 1")
	})
}

// What the function made of a batch may be larger than memory should be used for.
func TestALargeOutcomeGoesThroughAFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.segment = 32 << 20
		w.functions.byARN[functionARN] = &native{process: func(_ int, in *runtime.RecordBatch, out *runtime.ProcessedBatch) error {
			for i := range in.Records {
				if i%2 == 0 {
					out.Records = append(out.Records, runtime.OutRecord{Index: i, Data: []byte(strings.ToUpper(string(in.Records[i].Data)))})
				}
			}
			return nil
		}}
		fails := 2
		w.sink.hinder(func(context.Context, *firehose.Batch) error {
			if fails--; fails >= 0 {
				return errors.New("down")
			}
			return nil
		})
		w.open()
		defer w.close()
		spec := transformed("d", 0)
		spec.Buffer = firehose.Buffer{Bytes: 64 << 20, Interval: time.Second}
		spec.Processor.Bytes = 2 << 20 // two records an invocation
		var data, ok []string
		for i := range 24 {
			s := fmt.Sprintf("%02d", i) + strings.Repeat("x", 900<<10)
			if data = append(data, s); i%2 == 0 {
				ok = append(ok, strings.ToUpper(s))
			}
		}
		d := w.create(spec)
		w.put(d, data[:12]...)
		w.put(d, data[12:]...)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := w.sink.data("d"); len(got) != 1 || strings.Join(got[0], "") != strings.Join(ok, "") || len(got[0]) != len(ok) {
			t.Fatal("the delivered records are not those that the function gave")
		}
		equal(t, "failed records", len(failures(t, w.sink.errors("d"))), 12)
		equal(t, "attempts", w.sink.tries(), 4) // data fails twice, then data and errors
	})
}

// A host that stops does not turn the records under way into failures.
func TestAFunctionThatIsInterruptedFailsNoRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.functions.byARN[functionARN] = blocking{}
		w.open()
		w.put(w.create(transformed("d", 0)), "a")
		w.kill()
		equal(t, "objects", len(w.sink.objects), 0)
		w.functions.byARN[functionARN] = &native{process: answers("A")}
		w.open()
		defer w.close()
		synctest.Wait()
		equal(t, "data", w.sink.data("d"), "[[A]]")
		equal(t, "errors", w.sink.errors("d"), "[]")
	})
}

// Loading a large module takes longer than all retries: it costs none of them.
func TestRecordsWaitForAFunctionThatIsBeingLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.functions.byARN[functionARN] = &native{process: answers("A")}
		w.functions.loading = 100
		w.open()
		defer w.close()
		w.put(w.create(transformed("d", 0)), "a")
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "data", w.sink.data("d"), "[[A]]")
		equal(t, "errors", w.sink.errors("d"), "[]")
	})
}
