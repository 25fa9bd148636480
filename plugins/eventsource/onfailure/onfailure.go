// Package onfailure is where event source mappings put what they give up: a bucket, a stream, a
// delivery stream or a function of this host, named by its ARN. AWS has queues and topics, too; this
// host has none, and refuses them.
//
// A bucket gets the document with the event in it, under the key that Lambda gives it. The others get
// the same if it fits what they take, and the document alone if not: the records can be read again by
// their sequence numbers for as long as the stream keeps them.
package onfailure

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/objects"
	"github.com/shardmill/shardmill/plugins/eventsource"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/shards"
)

// Deps are what destinations stand on.
type Deps struct {
	Streams    *shards.Streams
	Deliveries *firehose.DeliveryStreams
	Functions  eventsource.Functions
	Objects    objects.Store
}

const (
	maxDelivery = 1000 << 10 // bytes of a record of a delivery stream
	maxPayload  = 1 << 20    // bytes of an asynchronous invocation
	invokeTime  = 15 * time.Minute
)

// Find is the destination of an ARN. One that is not there yet is an error of its Deliver, not of Find.
func (d Deps) Find(arn string) (eventsource.Destination, error) {
	p := strings.SplitN(arn, ":", 6)
	if len(p) != 6 || p[0] != "arn" {
		return nil, errs.New(errs.Invalid, "%s is not an ARN.", arn)
	}
	scope := shards.Scope{Region: p[3], Account: p[4]}
	service, resource := p[2], p[5]
	if name, ok := strings.CutPrefix(resource, "stream/"); ok && service == "kinesis" && !strings.Contains(name, "/") {
		return toStream{d.Streams, scope, name}, nil
	}
	if name, ok := strings.CutPrefix(resource, "deliverystream/"); ok && service == "firehose" {
		return toDelivery{d.Deliveries, scope, name}, nil
	}
	if strings.HasPrefix(resource, "function:") && service == "lambda" {
		return toFunction{d.Functions, arn}, nil
	}
	if service == "s3" && resource != "" && !strings.Contains(resource, "/") {
		return toBucket{d.Objects, resource}, nil
	}
	return nil, errs.New(errs.Invalid, "%s is not supported as a failure destination: this host has buckets (arn:aws:s3:::NAME), streams, delivery streams and functions.", arn)
}

// fitting is the document with the event if that has at most so many bytes, else without.
func fitting(f *eventsource.Failure, most int) ([]byte, error) {
	full, err := f.WithPayload()
	if err == nil && len(full) > most {
		full = f.Document
	}
	return full, err
}

type toBucket struct {
	objects objects.Store
	bucket  string
}

func (t toBucket) Deliver(ctx context.Context, f *eventsource.Failure) error {
	body, err := f.WithPayload()
	if err != nil {
		return err
	}
	return t.objects.Put(ctx, t.bucket, f.Key, bytes.NewReader(body), int64(len(body)), objects.Attributes{ContentType: "application/json"})
}

type toStream struct {
	streams *shards.Streams
	scope   shards.Scope
	name    string
}

func (t toStream) Deliver(ctx context.Context, f *eventsource.Failure) error {
	s, err := t.streams.Get(t.scope, t.name)
	if err != nil {
		return err
	}
	key := []byte(f.ShardID)
	body, err := fitting(f, s.Attributes().MaxRecordSize-len(key))
	if err != nil {
		return err
	}
	out := make([]shards.Placed, 1)
	s.Put(ctx, []shards.PutRecord{{Key: key, Data: body}}, out)
	return out[0].Err
}

type toDelivery struct {
	deliveries *firehose.DeliveryStreams
	scope      shards.Scope
	name       string
}

func (t toDelivery) Deliver(ctx context.Context, f *eventsource.Failure) error {
	d, err := t.deliveries.Get(t.scope, t.name)
	if err != nil {
		return err
	}
	body, err := fitting(f, maxDelivery)
	if err != nil {
		return err
	}
	out := make([]shards.Placed, 1)
	if err := d.Put(ctx, []shards.PutRecord{{Data: body}}, out); err != nil {
		return err
	}
	return out[0].Err
}

type toFunction struct {
	functions eventsource.Functions
	arn       string
}

// Deliver invokes the function and waits: what it does not handle is not delivered.
func (t toFunction) Deliver(ctx context.Context, f *eventsource.Failure) error {
	fn, release, err := t.functions.Function(t.arn)
	if err != nil {
		return err
	}
	defer release()
	body, err := fitting(f, maxPayload)
	if err != nil {
		return err
	}
	res, err := fn.Invoke(ctx, runtime.Invocation{RequestID: uuid.NewString(), FunctionARN: t.arn, Payload: body, Deadline: time.Now().Add(invokeTime)})
	if err == nil && res.FunctionError != "" {
		err = errs.New(errs.Unavailable, "the failure destination %s failed: %s", t.arn, res.Payload)
	}
	return err
}
