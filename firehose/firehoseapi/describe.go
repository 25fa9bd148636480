package firehoseapi

import (
	"context"
	"encoding/json"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/internal/awsapi"
)

// destinationID is the id of a delivery stream's only destination.
const destinationID = "destinationId-000000000001"

const listLimit = 10 // of ListDeliveryStreams when none is given

type deleteDeliveryStreamIn struct {
	DeliveryStreamName *string `aws:"required,min=1,max=64" pattern:"[a-zA-Z0-9_.-]+"`
	AllowForceDelete   *bool   // matters only for customer keys, which there are none of
}

func (a *api) deleteDeliveryStream(ctx context.Context, in *deleteDeliveryStreamIn) (*empty, error) {
	d, err := a.streams.Get(scopeOf(ctx), *in.DeliveryStreamName)
	if err != nil {
		return nil, err
	}
	return &empty{}, a.streams.Delete(ctx, d)
}

type listDeliveryStreamsIn struct {
	Limit                            *int32  `aws:"min=1,max=10000"`
	DeliveryStreamType               *string `enum:"DirectPut,KinesisStreamAsSource,MSKAsSource,DatabaseAsSource"`
	ExclusiveStartDeliveryStreamName *string `aws:"min=1,max=64" pattern:"[a-zA-Z0-9_.-]+"`
}

type listDeliveryStreamsOut struct {
	DeliveryStreamNames    []string
	HasMoreDeliveryStreams bool
}

func (a *api) listDeliveryStreams(ctx context.Context, in *listDeliveryStreamsIn) (*listDeliveryStreamsOut, error) {
	limit := listLimit
	if in.Limit != nil {
		limit = int(*in.Limit)
	}
	out := &listDeliveryStreamsOut{DeliveryStreamNames: []string{}}
	for _, d := range a.streams.List(scopeOf(ctx)) {
		if d.Name <= value(in.ExclusiveStartDeliveryStreamName) || in.DeliveryStreamType != nil && d.Type != *in.DeliveryStreamType {
			continue
		}
		if len(out.DeliveryStreamNames) == limit {
			out.HasMoreDeliveryStreams = true
			break
		}
		out.DeliveryStreamNames = append(out.DeliveryStreamNames, d.Name)
	}
	return out, nil
}

// describeDeliveryStreamIn has paging members, but there is one destination only: every page is
// the same.
type describeDeliveryStreamIn struct {
	DeliveryStreamName          *string `aws:"required,min=1,max=64" pattern:"[a-zA-Z0-9_.-]+"`
	Limit                       *int32  `aws:"min=1,max=10000"`
	ExclusiveStartDestinationId *string `aws:"min=1,max=100" pattern:"[a-zA-Z0-9-]+"`
}

type describeDeliveryStreamOut struct{ DeliveryStreamDescription description }

type description struct {
	DeliveryStreamName                    string
	DeliveryStreamARN                     string
	DeliveryStreamStatus                  string
	DeliveryStreamEncryptionConfiguration *encryptionStatus
	DeliveryStreamType                    string
	VersionId                             string
	CreateTimestamp                       awsapi.Timestamp
	Source                                *sourceDescription
	Destinations                          []destinationDescription
	HasMoreDestinations                   bool
}

type encryptionStatus struct{ Status string }

type sourceDescription struct {
	KinesisStreamSourceDescription kinesisSourceDescription
}

type kinesisSourceDescription struct {
	KinesisStreamARN       string
	RoleARN                *string
	DeliveryStartTimestamp awsapi.Timestamp
}

// destinationDescription tells an S3 destination twice, as AWS does: tools read either.
type destinationDescription struct {
	DestinationId                    string
	S3DestinationDescription         s3Configuration
	ExtendedS3DestinationDescription extendedS3Configuration
}

func (a *api) describeDeliveryStream(ctx context.Context, in *describeDeliveryStreamIn) (*describeDeliveryStreamOut, error) {
	d, err := a.streams.Get(scopeOf(ctx), *in.DeliveryStreamName)
	if err != nil {
		return nil, err
	}
	var st stored
	if err := json.Unmarshal(d.Describe, &st); err != nil {
		return nil, err
	}
	st.S3.EncryptionConfiguration = &encryptionConfiguration{NoEncryptionConfig: ptr("NoEncryption")}
	if st.S3.CloudWatchLoggingOptions == nil {
		st.S3.CloudWatchLoggingOptions = &cloudWatchLoggingOptions{Enabled: ptr(false)}
	}
	if st.S3.S3BackupMode == nil {
		st.S3.S3BackupMode = ptr("Disabled")
	}
	if p := st.S3.ProcessingConfiguration; p != nil && p.Enabled == nil {
		p.Enabled = ptr(false)
	}
	out := description{
		DeliveryStreamName: d.Name, DeliveryStreamARN: d.ARN(), DeliveryStreamStatus: string(d.State()),
		DeliveryStreamType: d.Type, VersionId: d.Version, CreateTimestamp: awsapi.TimestampOf(d.Created()),
		Destinations: []destinationDescription{{destinationID, st.S3.s3Configuration, st.S3}},
	}
	if d.Type == firehose.DirectPut {
		out.DeliveryStreamEncryptionConfiguration = &encryptionStatus{"DISABLED"}
	} else {
		out.Source = &sourceDescription{kinesisSourceDescription{d.SourceARN, st.SourceRoleARN, awsapi.TimestampOf(d.Created())}}
	}
	return &describeDeliveryStreamOut{out}, nil
}
