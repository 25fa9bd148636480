package firehoseapi

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"time"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/firehose/destinations/s3"
)

// unsupported is a structure of the model that has no effect here. Its presence is an error.
type unsupported struct{}

type tag struct {
	Key   *string `aws:"required,min=1,max=128" pattern:"^(?!aws:)[\\p{L}\\p{Z}\\p{N}_.:\\/=+\\-@%]*$"`
	Value *string `aws:"min=0,max=256" pattern:"^[\\p{L}\\p{Z}\\p{N}_.:\\/=+\\-@%]*$"`
}

type kinesisSource struct {
	KinesisStreamARN *string `aws:"required,min=1,max=512" pattern:"arn:.*:kinesis:[a-zA-Z0-9\\-]+:\\d{12}:stream/[a-zA-Z0-9_.-]+"`
	RoleARN          *string `aws:"required,min=1,max=512" pattern:"arn:.*:iam::\\d{12}:role/[a-zA-Z_0-9+=,.@\\-_/]+"`
}

type createDeliveryStreamIn struct {
	DeliveryStreamName                                 *string `aws:"required,min=1,max=64" pattern:"[a-zA-Z0-9_.-]+"`
	DeliveryStreamType                                 *string `enum:"DirectPut,KinesisStreamAsSource,MSKAsSource,DatabaseAsSource"`
	DirectPutSourceConfiguration                       *unsupported
	KinesisStreamSourceConfiguration                   *kinesisSource
	DeliveryStreamEncryptionConfigurationInput         *unsupported
	S3DestinationConfiguration                         *s3Configuration
	ExtendedS3DestinationConfiguration                 *extendedS3Configuration
	RedshiftDestinationConfiguration                   *unsupported
	ElasticsearchDestinationConfiguration              *unsupported
	AmazonopensearchserviceDestinationConfiguration    *unsupported
	SplunkDestinationConfiguration                     *unsupported
	HttpEndpointDestinationConfiguration               *unsupported
	Tags                                               []tag `aws:"min=1,max=50"`
	AmazonOpenSearchServerlessDestinationConfiguration *unsupported
	MSKSourceConfiguration                             *unsupported
	SnowflakeDestinationConfiguration                  *unsupported
	IcebergDestinationConfiguration                    *unsupported
	DatabaseSourceConfiguration                        *unsupported
}

type createDeliveryStreamOut struct{ DeliveryStreamARN string }

func (a *api) createDeliveryStream(ctx context.Context, in *createDeliveryStreamIn) (*createDeliveryStreamOut, error) {
	if err := in.refuseUnsupported(); err != nil {
		return nil, err
	}
	dest, err := in.destination()
	if err != nil {
		return nil, err
	}
	spec, err := dest.spec()
	if err != nil {
		return nil, err
	}
	spec.Name = *in.DeliveryStreamName
	spec.Type = firehose.DirectPut
	if in.DeliveryStreamType != nil {
		spec.Type = *in.DeliveryStreamType
	}
	switch src := in.KinesisStreamSourceConfiguration; {
	case spec.Type != firehose.DirectPut && spec.Type != firehose.KinesisStreamAsSource:
		return nil, refuse("DeliveryStreamType "+spec.Type, "use DirectPut or KinesisStreamAsSource.")
	case (spec.Type == firehose.KinesisStreamAsSource) != (src != nil):
		return nil, invalid("DeliveryStreamType KinesisStreamAsSource and KinesisStreamSourceConfiguration need each other.")
	case src != nil:
		spec.SourceARN = *src.KinesisStreamARN
		dest.SourceRoleARN = src.RoleARN
	}
	if spec.Describe, err = json.Marshal(dest); err != nil {
		return nil, err
	}
	for _, t := range in.Tags {
		if spec.Tags == nil {
			spec.Tags = make(map[string]string)
		}
		spec.Tags[*t.Key] = value(t.Value)
	}
	d, err := a.streams.Create(ctx, scopeOf(ctx), *spec)
	if err != nil {
		return nil, err
	}
	return &createDeliveryStreamOut{d.ARN()}, nil
}

func (in *createDeliveryStreamIn) refuseUnsupported() error {
	for _, m := range []struct {
		name  string
		given *unsupported
	}{
		{"DirectPutSourceConfiguration", in.DirectPutSourceConfiguration},
		{"DeliveryStreamEncryptionConfigurationInput", in.DeliveryStreamEncryptionConfigurationInput},
		{"RedshiftDestinationConfiguration", in.RedshiftDestinationConfiguration},
		{"ElasticsearchDestinationConfiguration", in.ElasticsearchDestinationConfiguration},
		{"AmazonopensearchserviceDestinationConfiguration", in.AmazonopensearchserviceDestinationConfiguration},
		{"SplunkDestinationConfiguration", in.SplunkDestinationConfiguration},
		{"HttpEndpointDestinationConfiguration", in.HttpEndpointDestinationConfiguration},
		{"AmazonOpenSearchServerlessDestinationConfiguration", in.AmazonOpenSearchServerlessDestinationConfiguration},
		{"MSKSourceConfiguration", in.MSKSourceConfiguration},
		{"SnowflakeDestinationConfiguration", in.SnowflakeDestinationConfiguration},
		{"IcebergDestinationConfiguration", in.IcebergDestinationConfiguration},
		{"DatabaseSourceConfiguration", in.DatabaseSourceConfiguration},
	} {
		if m.given != nil {
			return refuse(m.name, "this version delivers to S3 (ExtendedS3DestinationConfiguration) from direct puts or a Kinesis stream, without server-side encryption.")
		}
	}
	return nil
}

// destination is the one destination of the request, an old S3 configuration read as an extended one.
func (in *createDeliveryStreamIn) destination() (*stored, error) {
	old, extended := in.S3DestinationConfiguration, in.ExtendedS3DestinationConfiguration
	if (old == nil) == (extended == nil) {
		return nil, invalid("Exactly one destination configuration is supported for a Firehose")
	}
	if old != nil {
		return &stored{S3: extendedS3Configuration{s3Configuration: *old}}, nil
	}
	return &stored{S3: *extended}, nil
}

// stored is what DescribeDeliveryStream tells again.
type stored struct {
	S3            extendedS3Configuration
	SourceRoleARN *string
}

type bufferingHints struct {
	SizeInMBs         *int32 `aws:"min=1,max=128"`
	IntervalInSeconds *int32 `aws:"min=0,max=900"`
}

type encryptionConfiguration struct {
	NoEncryptionConfig  *string `enum:"NoEncryption"`
	KMSEncryptionConfig *unsupported
}

type cloudWatchLoggingOptions struct {
	Enabled       *bool
	LogGroupName  *string `aws:"min=0,max=512" pattern:"[\\.\\-_/#A-Za-z0-9]*"`
	LogStreamName *string `aws:"min=0,max=512" pattern:"[^:*]*"`
}

// s3Configuration is what S3DestinationConfiguration and the extended one have in common.
type s3Configuration struct {
	RoleARN                  *string `aws:"required,min=1,max=512" pattern:"arn:.*:iam::\\d{12}:role/[a-zA-Z_0-9+=,.@\\-_/]+"`
	BucketARN                *string `aws:"required,min=1,max=2048" pattern:"arn:.*:s3:::[\\w\\.\\-]{1,255}"`
	Prefix                   *string `aws:"min=0,max=1024" pattern:".*"`
	ErrorOutputPrefix        *string `aws:"min=0,max=1024" pattern:".*"`
	BufferingHints           *bufferingHints
	CompressionFormat        *string `enum:"UNCOMPRESSED,GZIP,ZIP,Snappy,HADOOP_SNAPPY"`
	EncryptionConfiguration  *encryptionConfiguration
	CloudWatchLoggingOptions *cloudWatchLoggingOptions
}

// dataFormatConversion and dynamicPartitioning can be said to be off, and no more.
type dataFormatConversion struct {
	SchemaConfiguration       *unsupported
	InputFormatConfiguration  *unsupported
	OutputFormatConfiguration *unsupported
	Enabled                   *bool
}

type dynamicPartitioning struct {
	RetryOptions *unsupported
	Enabled      *bool
}

type extendedS3Configuration struct {
	s3Configuration
	ProcessingConfiguration           *processingConfiguration
	S3BackupMode                      *string `enum:"Disabled,Enabled"`
	S3BackupConfiguration             *unsupported
	DataFormatConversionConfiguration *dataFormatConversion
	DynamicPartitioningConfiguration  *dynamicPartitioning
	FileExtension                     *string `aws:"min=0,max=128" pattern:"^$|\\.[0-9a-z!\\-_.*'()]+"`
	CustomTimeZone                    *string `aws:"min=0,max=50" pattern:"^$|[a-zA-Z/_]+"`
}

// Defaults of S3 destinations (Firehose API reference, BufferingHints).
const (
	defaultSizeMBs  = 5
	defaultInterval = 300
)

// spec checks the configuration, fills in its defaults, and makes the room's terms of it.
func (st *stored) spec() (*firehose.Spec, error) {
	c := &st.S3
	if err := c.refuseUnsupported(); err != nil {
		return nil, err
	}
	if c.BufferingHints == nil {
		c.BufferingHints = &bufferingHints{}
	}
	h := c.BufferingHints
	if (h.SizeInMBs == nil) != (h.IntervalInSeconds == nil) {
		return nil, invalid("BufferingHints need both SizeInMBs and IntervalInSeconds, or neither.")
	}
	if h.SizeInMBs == nil {
		h.SizeInMBs, h.IntervalInSeconds = ptr(int32(defaultSizeMBs)), ptr(int32(defaultInterval))
	}
	if c.CompressionFormat == nil {
		c.CompressionFormat = ptr("UNCOMPRESSED")
	}
	settings, err := json.Marshal(s3.Settings{BucketARN: *c.BucketARN, Prefix: value(c.Prefix), ErrorPrefix: value(c.ErrorOutputPrefix),
		Compression: *c.CompressionFormat, Extension: value(c.FileExtension), TimeZone: value(c.CustomTimeZone)})
	if err != nil {
		return nil, err
	}
	spec := &firehose.Spec{Kind: s3.Kind, Settings: settings,
		Buffer: firehose.Buffer{Bytes: int64(*h.SizeInMBs) << 20, Interval: time.Duration(*h.IntervalInSeconds) * time.Second}}
	if spec.Logging, err = c.CloudWatchLoggingOptions.logging(); err != nil {
		return nil, err
	}
	if spec.Processor, err = c.ProcessingConfiguration.processor(*c.RoleARN); err != nil {
		return nil, err
	}
	return spec, nil
}

const secondStream = "let a second delivery stream without processors read the same source."

func (c *extendedS3Configuration) refuseUnsupported() error {
	format, partitioning := c.DataFormatConversionConfiguration, c.DynamicPartitioningConfiguration
	off := func(enabled *bool, settings ...*unsupported) bool {
		given := func(s *unsupported) bool { return s != nil }
		return enabled != nil && !*enabled && !slices.ContainsFunc(settings, given)
	}
	switch {
	case c.EncryptionConfiguration != nil && c.EncryptionConfiguration.KMSEncryptionConfig != nil:
		return refuse("KMSEncryptionConfig", "there is no key service here; use NoEncryptionConfig.")
	case value(c.S3BackupMode) == "Enabled":
		return refuse("S3BackupMode Enabled", secondStream)
	case c.S3BackupConfiguration != nil:
		return refuse("S3BackupConfiguration", secondStream)
	case format != nil && !off(format.Enabled, format.SchemaConfiguration, format.InputFormatConfiguration, format.OutputFormatConfiguration):
		return refuse("DataFormatConversionConfiguration", "this version writes records as they are; leave it out, or give it Enabled false and nothing else.")
	case partitioning != nil && !off(partitioning.Enabled, partitioning.RetryOptions):
		return refuse("DynamicPartitioningConfiguration", "this version writes one object for a batch; leave it out, or give it Enabled false and nothing else.")
	}
	return nil
}

func (o *cloudWatchLoggingOptions) logging() (*firehose.Logging, error) {
	if o == nil || !value(o.Enabled) {
		return nil, nil
	}
	if value(o.LogGroupName) == "" || value(o.LogStreamName) == "" {
		return nil, invalid("CloudWatchLoggingOptions need LogGroupName and LogStreamName when Enabled is true.")
	}
	return &firehose.Logging{Group: *o.LogGroupName, Stream: *o.LogStreamName}, nil
}

type processorParameter struct {
	ParameterName  *string `aws:"required" enum:"LambdaArn,NumberOfRetries,MetadataExtractionQuery,JsonParsingEngine,RoleArn,BufferSizeInMBs,BufferIntervalInSeconds,SubRecordType,Delimiter,CompressionFormat,DataMessageExtraction"`
	ParameterValue *string `aws:"required,min=1,max=5120" pattern:"^(?!\\s*$).+"`
}

type processor struct {
	Type       *string `aws:"required" enum:"RecordDeAggregation,Decompression,CloudWatchLogProcessing,Lambda,MetadataExtraction,AppendDelimiterToRecord"`
	Parameters []processorParameter
}

type processingConfiguration struct {
	Enabled    *bool
	Processors []processor
}

// processor reads the one Lambda processor. BufferIntervalInSeconds is the longest that a record
// waits for its transform; here it never waits longer than for its batch, so any value holds.
func (c *processingConfiguration) processor(roleARN string) (*firehose.Processor, error) {
	if c == nil {
		return nil, nil
	}
	if value(c.Enabled) && (len(c.Processors) < 1 || len(c.Processors) > 5) {
		return nil, invalid("A maximum of 5 and a minimum of 1 processor needs to be supplied when processing is enabled.")
	}
	var out *firehose.Processor
	for i := range c.Processors {
		p := &c.Processors[i]
		if *p.Type != "Lambda" {
			return nil, refuse("Processor of Type "+*p.Type, "this version has the Lambda processor only.")
		}
		if out != nil {
			return nil, invalid("Cannot have more than 1 Lambda processor")
		}
		var err error
		if out, err = p.lambda(roleARN); err != nil {
			return nil, err
		}
	}
	if !value(c.Enabled) {
		return nil, nil
	}
	return out, nil
}

// lambda reads the parameters of a Lambda processor, and completes them in AWS's order.
func (p *processor) lambda(roleARN string) (*firehose.Processor, error) {
	given := map[string]string{"NumberOfRetries": "3", "RoleArn": roleARN, "BufferSizeInMBs": "1", "BufferIntervalInSeconds": "60"}
	order := []string{"LambdaArn", "NumberOfRetries", "RoleArn", "BufferSizeInMBs", "BufferIntervalInSeconds"}
	for i, q := range p.Parameters {
		if slices.ContainsFunc(p.Parameters[:i], func(r processorParameter) bool { return *r.ParameterName == *q.ParameterName }) {
			return nil, invalid("Parameter %s is given twice.", *q.ParameterName)
		}
		if _, known := given[*q.ParameterName]; !known && *q.ParameterName != "LambdaArn" {
			return nil, invalid("Parameter %s does not belong to a Lambda processor.", *q.ParameterName)
		}
		given[*q.ParameterName] = *q.ParameterValue
	}
	arn, ok := given["LambdaArn"]
	if !ok {
		return nil, invalid("A Lambda processor needs the parameter LambdaArn.")
	}
	retries, err := whole("NumberOfRetries", given, 0, 300)
	if err != nil {
		return nil, err
	}
	size, err := strconv.ParseFloat(given["BufferSizeInMBs"], 64)
	if err != nil || !(size >= 0.2 && size <= 3) {
		return nil, invalid("Parameter BufferSizeInMBs must be a number from 0.2 to 3, not %s.", given["BufferSizeInMBs"])
	}
	if _, err := whole("BufferIntervalInSeconds", given, 0, 900); err != nil {
		return nil, err
	}
	p.Parameters = nil
	for _, name := range order {
		p.Parameters = append(p.Parameters, processorParameter{ptr(name), ptr(given[name])})
	}
	return &firehose.Processor{FunctionARN: arn, Retries: retries, Bytes: int64(size * (1 << 20))}, nil
}

func whole(name string, given map[string]string, low, high int) (int, error) {
	n, err := strconv.Atoi(given[name])
	if err != nil || n < low || n > high {
		return 0, invalid("Parameter %s must be a whole number from %d to %d, not %s.", name, low, high, given[name])
	}
	return n, nil
}
