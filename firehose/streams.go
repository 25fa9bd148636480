package firehose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// Options configure Open.
type Options struct {
	Streams   *shards.Streams
	Meta      shards.Meta
	Functions Functions
	Open      Opener
	SpoolDir  string // for batches too large for memory; must exist
	Events    Events
}

// DeliveryStreams is all delivery streams of a host.
type DeliveryStreams struct {
	opts Options

	mu     sync.Mutex
	byKey  map[string]*DeliveryStream
	closed bool
}

// DeliveryStream is one delivery stream.
type DeliveryStream struct {
	shards.Scope
	record
	owner *DeliveryStreams
	dest  Destination
	loop  *loop // nil unless it runs

	mu    sync.Mutex
	state State
}

// record is a delivery stream as metadata keeps it, under d/ACCOUNT/REGION/NAME.
type record struct {
	ID        string `json:"id"`
	CreatedMs int64  `json:"createdMs"`
	Version   string `json:"version"`
	State     State  `json:"state"`
	spec
}

type spec = Spec

const keyPrefix = "d/"

func key(sc shards.Scope, name string) string {
	return keyPrefix + sc.Account + "/" + sc.Region + "/" + name
}

// Open reads the delivery streams from metadata, finishes what a crash interrupted and starts
// delivering. Close stops it.
func Open(ctx context.Context, o Options) (*DeliveryStreams, error) {
	ds := &DeliveryStreams{opts: o, byKey: make(map[string]*DeliveryStream)}
	for kv, err := range o.Meta.Scan(ctx, keyPrefix) {
		if err != nil {
			return nil, err
		}
		parts := strings.SplitN(kv.Key, "/", 4)
		if len(parts) != 4 {
			return nil, errs.New(errs.Internal, "metadata key %s has no account, region and name", kv.Key)
		}
		d := &DeliveryStream{Scope: shards.Scope{Account: parts[1], Region: parts[2]}, owner: ds}
		if err := json.Unmarshal(kv.Value, &d.record); err != nil {
			return nil, errs.Wrap(errs.Internal, err, "metadata key %s is damaged", kv.Key)
		}
		d.state = d.record.State
		ds.byKey[kv.Key] = d
	}
	for _, d := range ds.byKey {
		if err := ds.resume(ctx, d); err != nil {
			ds.Close(ctx)
			return nil, err
		}
	}
	return ds, nil
}

func (ds *DeliveryStreams) resume(ctx context.Context, d *DeliveryStream) error {
	switch d.State() {
	case Deleting:
		return ds.finishDelete(ctx, d)
	case Creating:
		err := ds.finishCreate(ctx, d)
		if errs.Is(err, errs.NotFound) { // its source has been deleted meanwhile: nothing to create
			return ds.finishDelete(ctx, d)
		}
		return err
	}
	ds.start(ctx, d)
	return nil
}

// Close stops delivering. Batches under way are finished until ctx ends, then given up; they are
// delivered after the next Open.
func (ds *DeliveryStreams) Close(ctx context.Context) {
	var loops []*loop
	ds.mu.Lock()
	ds.closed = true
	for _, d := range ds.byKey {
		if d.loop != nil {
			loops = append(loops, d.loop)
		}
	}
	ds.mu.Unlock() // puts are taken while batches are finished
	var wg sync.WaitGroup
	for _, l := range loops {
		wg.Go(func() { l.stop(ctx) })
	}
	wg.Wait()
}

// ARN is arn:aws:firehose:REGION:ACCOUNT:deliverystream/NAME.
func (d *DeliveryStream) ARN() string {
	return fmt.Sprintf("arn:aws:firehose:%s:%s:deliverystream/%s", d.Region, d.Account, d.Name)
}

// State is the present state.
func (d *DeliveryStream) State() State {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.state
}

// Created is when the delivery stream was created.
func (d *DeliveryStream) Created() time.Time { return time.UnixMilli(d.CreatedMs) }

// Create makes a delivery stream and starts it; it is ACTIVE when Create returns. For a Kinesis
// source it delivers the records put from now on. A name that is taken is errs.InUse, a source that
// does not exist errs.Invalid. What fails on the way is undone.
func (ds *DeliveryStreams) Create(ctx context.Context, sc shards.Scope, spec Spec) (*DeliveryStream, error) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.closed {
		return nil, errs.New(errs.Unavailable, "Firehose %s cannot be created: the host is stopping", spec.Name)
	}
	k := key(sc, spec.Name)
	if err := ds.free(ctx, k); err != nil {
		return nil, err
	}
	d := &DeliveryStream{Scope: sc, owner: ds, state: Creating}
	d.record = record{ID: uuid.NewString(), CreatedMs: time.Now().UnixMilli(), Version: "1", State: Creating, spec: spec}
	dest, err := ds.opts.Open(spec.Kind, spec.Settings) // refuse bad settings before anything is stored
	if err != nil {
		return nil, err
	}
	d.dest = dest
	if spec.Type == KinesisStreamAsSource {
		if _, err := d.source(); errs.Is(err, errs.NotFound) {
			return nil, errs.Wrap(errs.Invalid, err, "The source %s of Firehose %s does not exist; create the stream first.", spec.SourceARN, spec.Name)
		} else if err != nil {
			return nil, err
		}
	}
	if err := ds.save(ctx, d, Creating); err != nil {
		return nil, err
	}
	ds.byKey[k] = d
	if err := ds.finishCreate(ctx, d); err != nil {
		return nil, errors.Join(err, ds.finishDelete(context.WithoutCancel(ctx), d))
	}
	return d, nil
}

// free makes a name free for Create. Creating is done under ds.mu, so a delivery stream seen here
// as CREATING is what a Create left behind that failed and could not undo it: nobody was told of it.
func (ds *DeliveryStreams) free(ctx context.Context, k string) error {
	switch old := ds.byKey[k]; {
	case old == nil:
		return nil
	case old.State() == Creating:
		return ds.finishDelete(ctx, old)
	default:
		return errs.New(errs.InUse, "Firehose %s under accountId %s already exists", old.Name, old.Account)
	}
}

// finishCreate makes what a delivery stream stored as CREATING needs. Every step may be repeated.
func (ds *DeliveryStreams) finishCreate(ctx context.Context, d *DeliveryStream) error {
	if d.Type == DirectPut {
		if _, err := ds.opts.Streams.Private(d.Scope, d.privateName()); errs.Is(err, errs.NotFound) {
			_, err = ds.opts.Streams.Create(ctx, d.Scope, shards.Spec{Name: d.privateName(), Shards: 1, Private: true})
			if err != nil {
				return err
			}
		}
	}
	src, err := d.source()
	if err != nil {
		return err
	}
	if err := src.Register(ctx, d.reader(), shards.FromLatest); err != nil {
		return err
	}
	if err := ds.save(ctx, d, Active); err != nil {
		return err
	}
	ds.start(ctx, d)
	return nil
}

func (ds *DeliveryStreams) save(ctx context.Context, d *DeliveryStream, to State) error {
	r := d.record
	r.State = to
	v, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := ds.opts.Meta.Txn(ctx, nil, []shards.Op{{Key: key(d.Scope, d.Name), Value: v}}); err != nil {
		return err
	}
	d.mu.Lock()
	d.state = to
	d.mu.Unlock()
	return nil
}

func (d *DeliveryStream) privateName() string { return d.Name + "@" + d.ID } // '@' is in no stream's name

func (d *DeliveryStream) reader() string { return "firehose/" + d.ID }

// source is the stream that d reads.
func (d *DeliveryStream) source() (*shards.Stream, error) {
	if d.Type == DirectPut {
		return d.owner.opts.Streams.Private(d.Scope, d.privateName())
	}
	p := strings.SplitN(d.SourceARN, ":", 6)
	if len(p) != 6 || !strings.HasPrefix(p[5], "stream/") {
		return nil, errs.New(errs.Invalid, "%s is not the ARN of a Kinesis stream", d.SourceARN)
	}
	return d.owner.opts.Streams.Get(shards.Scope{Account: p[4], Region: p[3]}, strings.TrimPrefix(p[5], "stream/"))
}

// Get finds a delivery stream.
func (ds *DeliveryStreams) Get(sc shards.Scope, name string) (*DeliveryStream, error) {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if d := ds.byKey[key(sc, name)]; d != nil {
		return d, nil
	}
	return nil, notFound(sc, name)
}

func notFound(sc shards.Scope, name string) error {
	return errs.New(errs.NotFound, "Firehose %s under account %s not found.", name, sc.Account)
}

// List returns the scope's delivery streams in the order of their names.
func (ds *DeliveryStreams) List(sc shards.Scope) []*DeliveryStream {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	var out []*DeliveryStream
	for _, d := range ds.byKey {
		if d.Scope == sc {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b *DeliveryStream) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Delete removes a delivery stream. Records that were not delivered yet are discarded, as AWS does.
func (ds *DeliveryStreams) Delete(ctx context.Context, d *DeliveryStream) error {
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.byKey[key(d.Scope, d.Name)] != d { // deleted before us; the name may be another's by now
		return notFound(d.Scope, d.Name)
	}
	if err := ds.save(ctx, d, Deleting); err != nil {
		return err
	}
	return ds.finishDelete(ctx, d)
}

func (ds *DeliveryStreams) finishDelete(ctx context.Context, d *DeliveryStream) error {
	if d.loop != nil {
		now, cancel := context.WithCancel(ctx)
		cancel()
		d.loop.stop(now)
	}
	src, err := d.source()
	switch {
	case errs.Is(err, errs.NotFound): // deleted before us, or never made
	case err != nil:
		return err
	case d.Type == DirectPut:
		err = ds.opts.Streams.Delete(ctx, src)
	default:
		err = src.Unregister(ctx, d.reader())
	}
	if err != nil && !errs.Is(err, errs.NotFound) {
		return err
	}
	if _, err := ds.opts.Meta.Txn(ctx, nil, []shards.Op{{Key: key(d.Scope, d.Name), Delete: true}}); err != nil {
		return err
	}
	delete(ds.byKey, key(d.Scope, d.Name))
	return nil
}

// Put stores records of a direct put durably; out has one element a record.
func (d *DeliveryStream) Put(ctx context.Context, recs []shards.PutRecord, out []shards.Placed) error {
	if d.Type != DirectPut {
		return errs.New(errs.Invalid, "This operation is not permitted on KinesisStreamAsSource delivery stream type.")
	}
	src, err := d.source()
	if err != nil || d.State() != Active {
		return errs.New(errs.NotFound, "Firehose %s is not active in %s account.", d.Name, d.Account)
	}
	src.Put(ctx, recs, out)
	return nil
}
