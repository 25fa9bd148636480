package firehose_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/shards"
)

var errDown = errors.New("the far side is down")

// downFor makes the far side refuse its first n requests.
func downFor(n int) func(context.Context, *firehose.Batch) error {
	return func(context.Context, *firehose.Batch) error {
		if n--; n >= 0 {
			return errDown
		}
		return nil
	}
}

func TestABatchIsCutBySize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.open()
		defer w.close()
		spec := direct("d")
		spec.Buffer = firehose.Buffer{Bytes: 4, Interval: 15 * time.Minute}
		d := w.create(spec)
		w.put(d, "aa", "b")
		equal(t, "data below the size", w.sink.data("d"), "[]")
		w.put(d, "c", "dd", "e")
		equal(t, "data at the size", w.sink.data("d"), "[[aa b c]]")
	})
}

func TestABatchIsCutByAgeOfItsOldestRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.open()
		defer w.close()
		spec := direct("d")
		spec.Buffer = firehose.Buffer{Bytes: 1 << 20, Interval: time.Minute}
		d := w.create(spec)
		time.Sleep(10 * time.Minute) // an idle stream is no old batch
		oldest := time.Now()
		w.put(d, "a")
		time.Sleep(30 * time.Second)
		w.put(d, "b")
		time.Sleep(30*time.Second - time.Millisecond)
		synctest.Wait()
		equal(t, "data a moment before", w.sink.data("d"), "[]")
		time.Sleep(time.Millisecond)
		synctest.Wait()
		equal(t, "data", w.sink.data("d"), "[[a b]]")
		if name := w.sink.attempts[0]; !strings.Contains(name, fmt.Sprint("/", oldest.UnixMilli(), "/")) {
			t.Fatalf("object %s does not carry the arrival %d of its oldest record", name, oldest.UnixMilli())
		}
	})
}

func TestIntervalZeroDeliversAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.open()
		defer w.close()
		d := w.create(direct("d"))
		start := time.Now()
		w.put(d, "a")
		w.put(d, "b")
		equal(t, "data", w.sink.data("d"), "[[a] [b]]")
		equal(t, "waited", time.Since(start), "0s")
		done, err := d.CaughtUp(t.Context())
		equal(t, "caught up", fmt.Sprint(done, err), "true <nil>")
	})
}

// A destination that fails gets the same batch again, whatever has arrived meanwhile, and the
// function is not asked again.
func TestADestinationThatFailsGetsTheSameBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		h := &handler{answer: upper(func(id string) string { return `{"recordId":"` + id + `","result":"ProcessingFailed"}` })}
		w.functions.byARN[functionARN] = h
		w.sink.hinder(downFor(5))
		w.open()
		defer w.close()
		d := w.create(transformed("d", 3))
		w.put(d, "a", "b")
		w.put(d, "later")
		done, _ := d.CaughtUp(t.Context())
		equal(t, "caught up while the far side is down", done, false)
		equal(t, "attempts at once", w.sink.tries(), 1)
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "data", w.sink.data("d"), "[[A] [LATER]]")
		equal(t, "errors", failures(t, w.sink.errors("d")), []string{"b 1 " + statusFailed})
		for _, name := range w.sink.attempts[:6] {
			equal(t, "the name of a later attempt", name, w.sink.attempts[0])
		}
		equal(t, "invocations", len(h.events), 2) // one a batch
		equal(t, "retries told of", fmt.Sprint(w.log.retries), fmt.Sprint([]error{errDown, errDown, errDown, errDown, errDown}))
		equal(t, "attempts told of", fmt.Sprint(w.log.delivered[0].Attempts, w.log.delivered[1].Attempts), "6 1")
	})
}

// The pauses between attempts grow to half a minute and stay there.
func TestADestinationThatIsDownIsNotHammered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sink.hinder(downFor(1 << 30))
		w.open()
		defer w.kill()
		w.put(w.create(direct("d")), "a")
		time.Sleep(time.Hour)
		if n := w.sink.tries(); n < 80 || n > 260 {
			t.Fatalf("%d attempts in an hour", n)
		}
	})
}

// The checkpoint moves when the data and the error object are stored, not in between.
func TestErrorRecordsAreStoredBeforeTheCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.functions.byARN[functionARN] = &handler{answer: upper(func(id string) string { return `{"recordId":"` + id + `","result":"ProcessingFailed"}` })}
		w.sink.hinder(func(_ context.Context, b *firehose.Batch) error {
			if b.ErrorType != "" {
				return errDown
			}
			return nil
		})
		w.open()
		d := w.create(transformed("d", 0))
		w.put(d, "a", "b")
		equal(t, "data", w.sink.data("d"), "[[A]]")
		if done, _ := d.CaughtUp(t.Context()); done || len(w.log.delivered) != 0 {
			t.Fatal("a batch without its error records counts as delivered")
		}
		w.kill()

		w.sink.hinder(nil)
		w.open()
		defer w.close()
		synctest.Wait()
		equal(t, "data", w.sink.data("d"), "[[A]]")
		equal(t, "errors", failures(t, w.sink.errors("d")), []string{"b 1 " + statusFailed})
		equal(t, "objects", len(w.sink.objects), 2)
	})
}

// The power fails while a batch is delivered, before or after the far side has it, or when
// everything is done. In each case the far side ends up with every record once.
func TestAPowerCutWhileABatchIsDelivered(t *testing.T) {
	for _, c := range []struct {
		name  string
		cut   string // the moment
		tries int    // of the batch, in both lives
	}{
		{"before it is stored", "before", 2},
		{"between storing and checkpoint", "after", 2},
		{"after the checkpoint", "done", 1}, // the control: nothing is repeated without need
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.fs = vfs.NewCrashableMem()
				w.open()
				d := w.create(direct("d"))
				var second *world
				cut := func(moment string) func(context.Context, *firehose.Batch) error {
					return func(context.Context, *firehose.Batch) error {
						if moment == c.cut && second == nil {
							second = w.afterPowerCut()
							if moment == "before" {
								return errDown // the first life gets no further
							}
						}
						return nil
					}
				}
				w.sink.before, w.sink.after = cut("before"), cut("after")
				w.put(d, "a", "b", "c")
				if cut("done")(nil, nil); second == nil {
					t.Fatal("the moment did not come")
				}
				w.kill() // what the first life did after the cut reached no disk that is used again

				w.sink.before, w.sink.after = nil, nil
				second.open()
				defer second.close()
				synctest.Wait()
				second.put(second.get("d"), "d")
				equal(t, "data", w.sink.data("d"), "[[a b c] [d]]")
				equal(t, "objects", len(w.sink.objects), 2)
				equal(t, "attempts", w.sink.tries(), c.tries+1)
			})
		})
	}
}

func TestAPrivateStreamIsTrimmedBehindDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.open()
		defer w.close()
		d := w.create(direct("d"))
		private, err := w.streams.Private(here, "d@"+d.ID)
		if err != nil {
			t.Fatal(err)
		}
		bounds := func() shards.Bounds {
			b, err := w.store.Log().Bounds(t.Context(), private.Shard(0).ID)
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		w.put(d, "a", "b")
		equal(t, "bounds after delivery", bounds(), "{2 2 false}")
		w.sink.hinder(downFor(1))
		w.put(d, "c")
		equal(t, "bounds while a batch waits", bounds(), "{2 3 false}")
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "bounds after its delivery", bounds(), "{3 3 false}")
	})
}

func TestTwoDeliveryStreamsReadOneSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.open()
		defer w.close()
		source := w.source("s")
		w.putSource(source, "before")
		w.create(reading("one", source))
		w.putSource(source, "a")
		w.sink.hinder(func(_ context.Context, b *firehose.Batch) error {
			if b.Stream == "one" {
				return errDown
			}
			return nil
		})
		w.create(reading("two", source)) // from now on
		w.putSource(source, "b")
		equal(t, "data of the one whose far side is down", w.sink.data("one"), "[[a]]")
		equal(t, "data of the other", w.sink.data("two"), "[[b]]")
		w.sink.hinder(nil)
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "data of the first in the end", w.sink.data("one"), "[[a] [b]]")
		if err := w.deliveries.Delete(t.Context(), w.get("one")); err != nil {
			t.Fatal(err)
		}
		w.putSource(source, "c")
		equal(t, "data of the deleted one", w.sink.data("one"), "[[a] [b]]")
		equal(t, "data of the one that is left", w.sink.data("two"), "[[b] [c]]")
		if err := w.get("two").Put(t.Context(), nil, nil); err == nil || err.Error() != "This operation is not permitted on KinesisStreamAsSource delivery stream type." {
			t.Fatalf("a direct put on it: %v", err)
		}
	})
}
