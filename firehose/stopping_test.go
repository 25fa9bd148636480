package firehose_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/internal/errs"
)

// Close lets the batch under way come to its end.
func TestCloseFinishesTheBatchUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sink.hinder(func(ctx context.Context, _ *firehose.Batch) error {
			select {
			case <-time.After(10 * time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		w.open()
		d := w.create(direct("d"))
		w.put(d, "a")
		w.put(d, "b") // behind it
		start := time.Now()
		w.deliveries.Close(t.Context())
		equal(t, "closing took", time.Since(start), "10s")
		equal(t, "data", w.sink.data("d"), "[[a]]")
		equal(t, "batches delivered", len(w.log.delivered), 1)
		equal(t, "stops told of", len(w.log.stopped), 0)
		if _, err := w.deliveries.Create(t.Context(), here, direct("e")); !errs.Is(err, errs.Unavailable) {
			t.Fatalf("a delivery stream was created while the host stopped: %v", err)
		}
		w.close()

		w.open()
		defer w.close()
		time.Sleep(time.Minute)
		synctest.Wait()
		equal(t, "data after the restart", w.sink.data("d"), "[[a] [b]]")
	})
}

func TestCloseGivesUpABatchThatTakesTooLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sink.hinder(func(ctx context.Context, _ *firehose.Batch) error { <-ctx.Done(); return ctx.Err() })
		w.open()
		w.put(w.create(direct("d")), "a")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		start := time.Now()
		w.stop(ctx)
		equal(t, "closing took", time.Since(start), "20s")
		equal(t, "data", w.sink.data("d"), "[]")

		w.sink.hinder(nil)
		w.open()
		defer w.close()
		synctest.Wait()
		equal(t, "data after the restart", w.sink.data("d"), "[[a]]")
		equal(t, "the object's name", w.sink.attempts[1], w.sink.attempts[0])
	})
}

// While batches are finished, puts that are under way are answered.
func TestPutsAreTakenWhileTheHostStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sink.hinder(func(ctx context.Context, _ *firehose.Batch) error { <-ctx.Done(); return ctx.Err() })
		w.open()
		w.put(w.create(direct("d")), "a")
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		closed := make(chan struct{})
		go func() { defer close(closed); w.deliveries.Close(ctx) }()
		synctest.Wait()
		start := time.Now()
		w.put(w.get("d"), "b")
		equal(t, "the put took", time.Since(start), "0s")
		<-closed
		w.close()
	})
}

// The source goes away. Delivery ends and says so, the delivery stream stays and can be deleted,
// and a source that is made again under the same name is not taken for the old one.
func TestASourceThatIsDeleted(t *testing.T) {
	for _, c := range []struct {
		name string
		spec func(*firehose.Spec)
		down int    // requests that the far side refuses
		data string // what still gets there
	}{
		{name: "while everything is delivered", spec: func(*firehose.Spec) {}, data: "[[a]]"},
		{name: "while a batch waits for its interval", spec: func(s *firehose.Spec) { s.Buffer.Interval = time.Minute }, data: "[]"},
		{name: "while a batch is delivered", spec: func(*firehose.Spec) {}, down: 3, data: "[]"},
		{name: "while a transformed batch is delivered", spec: func(s *firehose.Spec) {
			s.Processor = &firehose.Processor{FunctionARN: functionARN, Bytes: 1 << 20}
		}, down: 3, data: "[[A]]"}, // it is in the spool
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.functions.byARN[functionARN] = &native{process: answers("A")}
				w.sink.hinder(downFor(c.down))
				w.open()
				source := w.source("s")
				spec := reading("d", source)
				c.spec(&spec)
				w.create(spec)
				w.putSource(source, "a")
				if err := w.streams.Delete(t.Context(), source); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Hour)
				synctest.Wait()
				equal(t, "data", w.sink.data("d"), c.data)
				equal(t, "stops told of", len(w.log.stopped), 1)
				equal(t, "state", w.get("d").State(), "ACTIVE")
				if n := len(w.log.retries); n > c.down+1 {
					t.Fatalf("%d retries of a batch that is gone", n)
				}
				w.close()

				w.open() // the host starts without the source
				defer w.close()
				equal(t, "stops told of at the start", len(w.log.stopped), 2)
				equal(t, "why", w.log.stopped[1], "Stream s under account 000000000000 not found.")
				w.putSource(w.source("s"), "another stream's")
				equal(t, "data", w.sink.data("d"), c.data)
				if err := w.deliveries.Delete(t.Context(), w.get("d")); err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

func TestDeleteDoesNotWaitForWhatIsStuck(t *testing.T) {
	stuck := func(ctx context.Context, _ *firehose.Batch) error { <-ctx.Done(); return ctx.Err() }
	for name, prepare := range map[string]func(w *world) firehose.Spec{
		"the far side hangs":     func(w *world) firehose.Spec { w.sink.hinder(stuck); return direct("d") },
		"the far side is down":   func(w *world) firehose.Spec { w.sink.hinder(downFor(1 << 30)); return direct("d") },
		"the function hangs":     func(w *world) firehose.Spec { w.functions.byARN[functionARN] = blocking{}; return transformed("d", 3) },
		"the function is absent": func(w *world) firehose.Spec { return transformed("d", 300) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				spec := prepare(w)
				w.open()
				defer w.close()
				d := w.create(spec)
				w.put(d, "a")
				time.Sleep(10 * time.Second)
				start := time.Now()
				if err := w.deliveries.Delete(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				equal(t, "deleting took", time.Since(start), "0s")
				equal(t, "objects", len(w.sink.objects), 0)
				equal(t, "stops told of", len(w.log.stopped), 0)
				equal(t, "metadata that is left", w.metadata(), "[]")
			})
		})
	}
}
