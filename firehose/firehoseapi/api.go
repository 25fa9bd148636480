// Package firehoseapi speaks the wire protocol of Firehose (2015-08-04) for the room firehose.
//
// Members of the model that this version does not implement are refused by name
// (InvalidArgumentException). Role ARNs are required by the model and mean nothing on a machine
// without IAM: their syntax is checked, they are kept and told again.
package firehoseapi

import (
	"context"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

type api struct {
	streams *firehose.DeliveryStreams
	service *awsapi.Service
}

// New makes the service.
func New(streams *firehose.DeliveryStreams) *awsapi.Service {
	a := &api{streams: streams}
	a.service = &awsapi.Service{
		Name:   "firehose",
		Target: "Firehose_20150804",
		Errors: map[errs.Kind]string{
			errs.Invalid:     "InvalidArgumentException",
			errs.NotFound:    "ResourceNotFoundException",
			errs.InUse:       "ResourceInUseException",
			errs.Limit:       "LimitExceededException",
			errs.Conflict:    "ConcurrentModificationException",
			errs.Throttled:   "ServiceUnavailableException",
			errs.Unavailable: "ServiceUnavailableException",
		},
		Ops: []awsapi.Op{
			awsapi.Handle("CreateDeliveryStream", a.createDeliveryStream),
			awsapi.Handle("DeleteDeliveryStream", a.deleteDeliveryStream),
			awsapi.Handle("DescribeDeliveryStream", a.describeDeliveryStream),
			awsapi.Handle("ListDeliveryStreams", a.listDeliveryStreams),
			awsapi.Raw("PutRecord", a.putRecord),
			awsapi.Raw("PutRecordBatch", a.putRecordBatch),
		},
	}
	return a.service
}

type empty struct{}

func scopeOf(ctx context.Context) shards.Scope {
	c := awsapi.CallerOf(ctx)
	return shards.Scope{Account: c.Account, Region: c.Region}
}

func refuse(member, why string) error {
	return errs.New(errs.Invalid, "%s is not supported: %s", member, why)
}

func invalid(format string, args ...any) error { return errs.New(errs.Invalid, format, args...) }

func ptr[T any](v T) *T { return &v }

func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}
