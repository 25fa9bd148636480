package firehose_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
)

var errDisk = errors.New("the disk is gone")

// failing runs fn while the k-th write of metadata fails and, if for good, all that follow. It
// reports whether there was a k-th write.
func (w *world) failing(k int, forGood bool, fn func() error) (reached bool, err error) {
	n := 0
	w.hinder = func(string) error {
		if n++; n == k || forGood && n > k {
			return errDisk
		}
		return nil
	}
	err = fn()
	w.hinder = nil
	if n >= k != errors.Is(err, errDisk) {
		w.t.Fatalf("write %d of %d failed, and the answer is %v", k, n, err)
	}
	return n >= k, err
}

// tryCreate and tryDelete are for failing.
func (w *world) tryCreate(spec firehose.Spec) func() error {
	return func() error { _, err := w.deliveries.Create(w.t.Context(), here, spec); return err }
}

func (w *world) tryDelete(d *firehose.DeliveryStream) func() error {
	return func() error { return w.deliveries.Delete(w.t.Context(), d) }
}

// works fails the test unless the delivery stream takes a record and delivers it.
func (w *world) works(name string, source *shards.Stream, record string) {
	w.t.Helper()
	d := w.get(name)
	equal(w.t, "state", d.State(), "ACTIVE")
	if source != nil {
		w.putSource(source, record)
	} else {
		w.put(d, record)
	}
	if got := w.sink.data(name); !strings.Contains(fmt.Sprint(got), "["+record+"]") {
		w.t.Fatalf("record %s was not delivered: %v", record, got)
	}
}

// kinds are the two kinds of source. prepare returns the source, nil for direct puts.
var kinds = map[string]func(w *world) (*shards.Stream, firehose.Spec){
	"direct puts": func(*world) (*shards.Stream, firehose.Spec) { return nil, direct("d") },
	"a Kinesis source": func(w *world) (*shards.Stream, firehose.Spec) {
		s := w.source("s")
		return s, reading("d", s)
	},
}

// eachStep runs fn for k = 1, 2, … until it reports that there was no k-th step.
func eachStep(t *testing.T, fn func(w *world, kind func(*world) (*shards.Stream, firehose.Spec), k int) (reached bool)) {
	for name, kind := range kinds {
		t.Run(name, func(t *testing.T) {
			k := 1
			for reached := true; reached; k++ {
				synctest.Test(t, func(t *testing.T) { reached = fn(newWorld(t), kind, k) })
			}
			if k < 4 {
				t.Fatalf("only %d steps: the test breaks nothing", k-2)
			}
		})
	}
}

// sourceAgain finds the source after a restart.
func (w *world) sourceAgain(s *shards.Stream) *shards.Stream {
	w.t.Helper()
	if s == nil {
		return nil
	}
	s, err := w.streams.Get(here, s.Name)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// A crash at any step of a creation leaves either nothing or a delivery stream that works.
func TestACrashWhileADeliveryStreamIsCreated(t *testing.T) {
	eachStep(t, func(w *world, kind func(*world) (*shards.Stream, firehose.Spec), k int) bool {
		w.open()
		source, spec := kind(w)
		before := w.metadata()
		reached, _ := w.failing(k, true, w.tryCreate(spec))
		w.hinder = func(string) error { return errDisk } // the host dies with its disk
		w.kill()

		w.hinder = nil
		w.open()
		defer w.close()
		source = w.sourceAgain(source)
		if _, err := w.deliveries.Get(here, "d"); err != nil {
			equal(w.t, "metadata of what does not exist", w.metadata(), before)
			w.create(spec)
		}
		w.works("d", source, "x")
		return reached
	})
}

// A creation that fails while the host goes on is undone, and can be repeated.
func TestACreationThatFailsIsUndone(t *testing.T) {
	eachStep(t, func(w *world, kind func(*world) (*shards.Stream, firehose.Spec), k int) bool {
		w.open()
		defer w.close()
		source, spec := kind(w)
		before := w.metadata()
		reached, err := w.failing(k, false, w.tryCreate(spec))
		if err != nil {
			if _, err := w.deliveries.Get(here, "d"); !errs.Is(err, errs.NotFound) {
				w.t.Fatalf("step %d: the delivery stream is there all the same: %v", k, err)
			}
			equal(w.t, "metadata that is left", w.metadata(), before)
			w.create(spec)
		}
		w.works("d", source, "x")
		return reached
	})
}

// If even the undoing fails, what is left is CREATING, takes no records, and makes room for the
// next creation of that name.
func TestACreationThatCouldNotBeUndoneMakesRoom(t *testing.T) {
	eachStep(t, func(w *world, kind func(*world) (*shards.Stream, firehose.Spec), k int) bool {
		w.open()
		source, spec := kind(w)
		reached, err := w.failing(k, true, w.tryCreate(spec))
		if err != nil {
			if d, err := w.deliveries.Get(here, "d"); err == nil {
				equal(w.t, "state", d.State(), "CREATING")
				if err := d.Put(w.t.Context(), nil, nil); source == nil && (err == nil || err.Error() != "Firehose d is not active in 000000000000 account.") {
					w.t.Fatalf("a put into what is CREATING: %v", err)
				}
			}
			w.create(spec)
		}
		w.works("d", source, "x")
		w.close()
		w.open()
		defer w.close()
		equal(w.t, "delivery streams after a restart", len(w.deliveries.List(here)), 1)
		w.works("d", w.sourceAgain(source), "y")
		return reached
	})
}

// A crash at any step of a deletion leaves nothing behind once the host is up again, or, if
// nothing had been stored yet, a delivery stream that works.
func TestACrashWhileADeliveryStreamIsDeleted(t *testing.T) {
	eachStep(t, func(w *world, kind func(*world) (*shards.Stream, firehose.Spec), k int) bool {
		w.open()
		source, spec := kind(w)
		before := w.metadata()
		d := w.create(spec)
		reached, _ := w.failing(k, true, w.tryDelete(d))
		w.hinder = func(string) error { return errDisk }
		w.kill()

		w.hinder = nil
		w.open()
		defer w.close()
		if _, err := w.deliveries.Get(here, "d"); err == nil {
			equal(w.t, "the step at which it survives", k, 1)
			w.works("d", w.sourceAgain(source), "x")
			return true
		}
		equal(w.t, "metadata that is left", w.metadata(), before)
		return reached
	})
}

// A deletion that fails while the host goes on is repeated by the next Delete. Until then the
// name is taken and puts are refused.
func TestADeletionThatFailsCanBeRepeated(t *testing.T) {
	eachStep(t, func(w *world, kind func(*world) (*shards.Stream, firehose.Spec), k int) bool {
		w.open()
		source, spec := kind(w)
		before := w.metadata()
		d := w.create(spec)
		reached, err := w.failing(k, false, w.tryDelete(d))
		if err != nil {
			if k == 1 {
				w.works("d", source, "x")
			} else {
				equal(w.t, "state", d.State(), "DELETING")
				if _, err := w.deliveries.Create(w.t.Context(), here, spec); !errs.Is(err, errs.InUse) {
					w.t.Fatalf("step %d: a creation of the name: %v", k, err)
				}
			}
			if err := w.deliveries.Delete(w.t.Context(), d); err != nil {
				w.t.Fatalf("step %d: the second Delete: %v", k, err)
			}
		}
		if _, err := w.deliveries.Get(here, "d"); !errs.Is(err, errs.NotFound) {
			w.t.Fatalf("step %d: after Delete: %v", k, err)
		}
		w.close()
		w.open()
		defer w.close()
		equal(w.t, "metadata that is left after a restart", w.metadata(), before)
		return reached
	})
}

// The source was deleted between the crash and the restart: there is nothing to finish.
func TestAHalfCreatedDeliveryStreamWhoseSourceIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.open()
		spec := reading("d", w.source("s"))
		w.failing(2, true, w.tryCreate(spec)) // stored as CREATING, no more
		w.kill()

		store, err := journal.Open("data", journal.Options{FS: w.fs, SegmentSize: w.segment})
		if err != nil {
			t.Fatal(err)
		}
		streams, err := shards.Open(t.Context(), store, shards.Options{})
		if err != nil {
			t.Fatal(err)
		}
		s, err := streams.Get(here, "s")
		if err == nil {
			err = streams.Delete(t.Context(), s)
		}
		if err := errors.Join(err, streams.Close(), store.Close()); err != nil {
			t.Fatal(err)
		}

		w.open()
		defer w.close()
		equal(t, "metadata", w.metadata(), "[]")
	})
}

func TestCreateRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.open()
		defer w.close()
		w.create(direct("taken"))
		before := w.metadata()
		for name, c := range map[string]struct {
			spec firehose.Spec
			kind errs.Kind
			says string
		}{
			"a name that is taken":   {direct("taken"), errs.InUse, "Firehose taken under accountId 000000000000 already exists"},
			"an unknown destination": {firehose.Spec{Name: "x", Type: firehose.DirectPut, Kind: "pigeon"}, errs.Invalid, "destinations of kind pigeon are not supported"},
			"a source that is not there": {firehose.Spec{Name: "x", Type: firehose.KinesisStreamAsSource, Kind: "sink", SourceARN: "arn:aws:kinesis:us-east-1:000000000000:stream/none"},
				errs.Invalid, "The source arn:aws:kinesis:us-east-1:000000000000:stream/none of Firehose x does not exist; create the stream first."},
			"a source that is no stream": {firehose.Spec{Name: "x", Type: firehose.KinesisStreamAsSource, Kind: "sink", SourceARN: "arn:aws:sqs:us-east-1:000000000000:queue"},
				errs.Invalid, "arn:aws:sqs:us-east-1:000000000000:queue is not the ARN of a Kinesis stream"},
		} {
			_, err := w.deliveries.Create(t.Context(), here, c.spec)
			var e *errs.Error
			if !errors.As(err, &e) || e.Kind != c.kind || e.Msg != c.says {
				t.Errorf("%s: %v of kind %v, want %q of kind %v", name, err, errs.KindOf(err), c.says, c.kind)
			}
		}
		equal(t, "metadata after refusals", w.metadata(), before)
	})
}

func TestDeliveryStreamsSurviveARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.open()
		spec := transformed("b", 7)
		spec.Buffer = firehose.Buffer{Bytes: 3 << 20, Interval: time.Minute}
		spec.Tags = map[string]string{"team": "blue"}
		spec.Logging = &firehose.Logging{Group: "g", Stream: "s"}
		spec.Describe = json.RawMessage(`{"told":"again"}`)
		b := w.create(spec)
		w.create(direct("a"))
		elsewhere := shards.Scope{Account: here.Account, Region: "eu-west-1"}
		if _, err := w.deliveries.Create(t.Context(), elsewhere, direct("a")); err != nil {
			t.Fatal(err)
		}
		equal(t, "ARN", b.ARN(), "arn:aws:firehose:us-east-1:000000000000:deliverystream/b")
		w.close()
		time.Sleep(time.Hour)
		w.open()
		defer w.close()
		var names []string
		for _, d := range w.deliveries.List(here) {
			names = append(names, d.Name)
		}
		equal(t, "names", names, "[a b]")
		again := w.get("b")
		told := func(d *firehose.DeliveryStream) string {
			return fmt.Sprint(d.Type, d.Buffer, *d.Processor, d.Kind, string(d.Settings), string(d.Describe), *d.Logging, d.Tags)
		}
		equal(t, "spec", told(again), told(b))
		equal(t, "identity", fmt.Sprint(again.ID, again.Version, again.Created(), again.State()), fmt.Sprint(b.ID, "1", b.Created(), "ACTIVE"))
	})
}

// Delete discards what was not delivered and frees its place; the name can be used again at once,
// and whoever still holds the old delivery stream cannot harm the new one.
func TestDeleteDiscardsAndFrees(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.sink.hinder(downFor(1 << 30))
		w.open()
		defer w.close()
		old := w.create(direct("d"))
		w.put(old, "pending")
		if err := w.deliveries.Delete(t.Context(), old); err != nil {
			t.Fatal(err)
		}
		equal(t, "metadata that is left", w.metadata(), "[]")
		if err := old.Put(t.Context(), nil, nil); err == nil || err.Error() != "Firehose d is not active in 000000000000 account." {
			t.Fatalf("a put into a deleted delivery stream: %v", err)
		}
		w.sink.hinder(nil)
		fresh := w.create(direct("d"))
		if err := w.deliveries.Delete(t.Context(), old); !errs.Is(err, errs.NotFound) {
			t.Fatalf("the old one was deleted twice: %v", err)
		}
		w.put(fresh, "new")
		equal(t, "data", w.sink.data("d"), "[[new]]")
		w.close()
		w.open()
		w.works("d", nil, "newer")
	})
}
