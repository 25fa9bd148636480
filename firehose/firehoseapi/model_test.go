package firehoseapi_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// operations is AWS's model (2015-08-04): every operation, and of those that are served every
// member of the input. A structure's members are indented; a list of structures ends in []. What
// is refused as a whole is not opened.
const operations = `
CreateDeliveryStream
	DeliveryStreamName string
	DeliveryStreamType string
	DirectPutSourceConfiguration structure
	KinesisStreamSourceConfiguration structure
		KinesisStreamARN string
		RoleARN string
	DeliveryStreamEncryptionConfigurationInput structure
	S3DestinationConfiguration structure
		RoleARN string
		BucketARN string
		Prefix string
		ErrorOutputPrefix string
		BufferingHints structure
			SizeInMBs integer
			IntervalInSeconds integer
		CompressionFormat string
		EncryptionConfiguration structure
			NoEncryptionConfig string
			KMSEncryptionConfig structure
		CloudWatchLoggingOptions structure
			Enabled boolean
			LogGroupName string
			LogStreamName string
	ExtendedS3DestinationConfiguration structure
		RoleARN string
		BucketARN string
		Prefix string
		ErrorOutputPrefix string
		BufferingHints structure
			SizeInMBs integer
			IntervalInSeconds integer
		CompressionFormat string
		EncryptionConfiguration structure
			NoEncryptionConfig string
			KMSEncryptionConfig structure
		CloudWatchLoggingOptions structure
			Enabled boolean
			LogGroupName string
			LogStreamName string
		ProcessingConfiguration structure
			Enabled boolean
			Processors list
			Processors[]
				Type string
				Parameters list
				Parameters[]
					ParameterName string
					ParameterValue string
		S3BackupMode string
		S3BackupConfiguration structure
		DataFormatConversionConfiguration structure
			SchemaConfiguration structure
			InputFormatConfiguration structure
			OutputFormatConfiguration structure
			Enabled boolean
		DynamicPartitioningConfiguration structure
			RetryOptions structure
			Enabled boolean
		FileExtension string
		CustomTimeZone string
	RedshiftDestinationConfiguration structure
	ElasticsearchDestinationConfiguration structure
	AmazonopensearchserviceDestinationConfiguration structure
	SplunkDestinationConfiguration structure
	HttpEndpointDestinationConfiguration structure
	Tags list
	Tags[]
		Key string
		Value string
	AmazonOpenSearchServerlessDestinationConfiguration structure
	MSKSourceConfiguration structure
	SnowflakeDestinationConfiguration structure
	IcebergDestinationConfiguration structure
	DatabaseSourceConfiguration structure
DeleteDeliveryStream
	DeliveryStreamName string
	AllowForceDelete boolean
DescribeDeliveryStream
	DeliveryStreamName string
	Limit integer
	ExclusiveStartDestinationId string
ListDeliveryStreams
	Limit integer
	DeliveryStreamType string
	ExclusiveStartDeliveryStreamName string
PutRecord
	DeliveryStreamName string
	Record structure
		Data blob
PutRecordBatch
	DeliveryStreamName string
	Records list
	Records[]
		Data blob
ListTagsForDeliveryStream
StartDeliveryStreamEncryption
StopDeliveryStreamEncryption
TagDeliveryStream
UntagDeliveryStream
UpdateDestination
`

// notServed are AWS's operations that this version does not have.
var notServed = []string{"ListTagsForDeliveryStream", "StartDeliveryStreamEncryption", "StopDeliveryStreamEncryption",
	"TagDeliveryStream", "UntagDeliveryStream", "UpdateDestination"}

// A member that the service does not know is ignored silently, which must happen to none of AWS's.
// A value of the wrong type tells: it is an error of the request only where the member is known.
func TestEveryMemberOfTheModelIsKnown(t *testing.T) {
	s := serve(t)
	var served, all []string
	var path []string // of the present line: operation and members
	members := 0
	for line := range strings.Lines(strings.TrimSpace(operations)) {
		depth := len(line) - len(strings.TrimLeft(line, "\t"))
		name, kind, _ := strings.Cut(strings.TrimSpace(line), " ")
		path = append(path[:depth], name)
		switch {
		case depth == 0:
			if all = append(all, name); !slices.Contains(notServed, name) {
				served = append(served, name)
				if a := s.call(name, `{"NoSuchMember":[[]]}`); a.name == "SerializationException" {
					t.Fatalf("%s knows any member: this test tells nothing", name)
				}
			}
		case kind != "":
			members++
			if a := s.call(path[0], wrong(path[1:], kind)); a.name != "SerializationException" {
				t.Errorf("%s: a %s of the wrong type is answered with %d %s: the member is not known", strings.Join(path, "."), kind, a.status, a.name)
			}
		}
	}
	if len(all) != 12 || members != 85 {
		t.Errorf("the table has %d operations and %d members: AWS has 12, and 85 that are looked at here", len(all), members)
	}
	if got := s.service.Operations(); fmt.Sprint(got) != fmt.Sprint(served) {
		t.Errorf("operations:\n got %v\nwant %v", got, served)
	}
	for _, name := range notServed {
		s.refuses(name, `{"DeliveryStreamName":"d"}`, 400, "UnknownOperationException", "")
	}
}

// wrong is a request in which only the member at path is given, with a value of a type that its
// kind cannot be.
func wrong(path []string, kind string) string {
	value := `{}`
	if kind == "structure" {
		value = `[]`
	}
	for _, name := range slices.Backward(path) {
		if list, ok := strings.CutSuffix(name, "[]"); ok {
			name, value = list, `[`+value+`]`
		}
		value = `{"` + name + `":` + value + `}`
	}
	return value
}
