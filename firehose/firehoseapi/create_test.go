package firehoseapi_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	invalidArgument = "InvalidArgumentException"
	validation      = "ValidationException"
	notFound        = "ResourceNotFoundException"
	inUse           = "ResourceInUseException"
)

var createTime = regexp.MustCompile(`"(CreateTimestamp|DeliveryStartTimestamp)":([0-9.E]+)`)

// describe is the answer of DescribeDeliveryStream with its times, which must be now, taken out.
func (s *server) describe(name string) []byte {
	s.t.Helper()
	body := s.do("DescribeDeliveryStream", `{"DeliveryStreamName":"`+name+`"}`)
	for _, m := range createTime.FindAllSubmatch(body, -1) {
		var at float64
		if err := json.Unmarshal(m[2], &at); err != nil || time.Since(time.UnixMilli(int64(at*1000))).Abs() > time.Minute {
			s.t.Fatalf("%s is not now", m[0])
		}
	}
	return createTime.ReplaceAll(body, []byte(`"$1":0`))
}

func TestDescribeTellsDefaults(t *testing.T) {
	s := serve(t)
	for member, name := range map[string]string{"ExtendedS3DestinationConfiguration": "new", "S3DestinationConfiguration": "old"} {
		body := s.do("CreateDeliveryStream", `{"DeliveryStreamName":"`+name+`","`+member+`":`+s3only+`}`)
		arn := "arn:aws:firehose:us-east-1:000000000000:deliverystream/" + name
		sameJSON(t, "CreateDeliveryStream", body, `{"DeliveryStreamARN":"`+arn+`"}`)
		common := `"RoleARN":"` + role + `","BucketARN":"` + bucket + `","BufferingHints":{"SizeInMBs":5,"IntervalInSeconds":300},
			"CompressionFormat":"UNCOMPRESSED","EncryptionConfiguration":{"NoEncryptionConfig":"NoEncryption"},"CloudWatchLoggingOptions":{"Enabled":false}`
		sameJSON(t, member, s.describe(name), `{"DeliveryStreamDescription":{"DeliveryStreamName":"`+name+`","DeliveryStreamARN":"`+arn+`",
			"DeliveryStreamStatus":"ACTIVE","DeliveryStreamType":"DirectPut","VersionId":"1","CreateTimestamp":0,
			"DeliveryStreamEncryptionConfiguration":{"Status":"DISABLED"},"HasMoreDestinations":false,
			"Destinations":[{"DestinationId":"destinationId-000000000001","S3DestinationDescription":{`+common+`},
				"ExtendedS3DestinationDescription":{`+common+`,"S3BackupMode":"Disabled"}}]}}`)
	}
}

func TestDescribeTellsAllThatWasSet(t *testing.T) {
	s := serve(t)
	arn := s.source("clicks")
	common := `"RoleARN":"` + role + `","BucketARN":"` + bucket + `","Prefix":"p/!{timestamp:yyyy}/","ErrorOutputPrefix":"e/!{firehose:error-output-type}/",
		"BufferingHints":{"SizeInMBs":64,"IntervalInSeconds":0},"CompressionFormat":"GZIP","EncryptionConfiguration":{"NoEncryptionConfig":"NoEncryption"},
		"CloudWatchLoggingOptions":{"Enabled":true,"LogGroupName":"/aws/kinesisfirehose/d","LogStreamName":"S3Delivery"}`
	extended := `,"S3BackupMode":"Disabled","DataFormatConversionConfiguration":{"Enabled":false},"DynamicPartitioningConfiguration":{"Enabled":false},
		"FileExtension":".json.gz","CustomTimeZone":"Europe/Paris"`
	s.do("CreateDeliveryStream", `{"DeliveryStreamName":"d","DeliveryStreamType":"KinesisStreamAsSource",
		"KinesisStreamSourceConfiguration":{"KinesisStreamARN":"`+arn+`","RoleARN":"`+role+`-source"},
		"ExtendedS3DestinationConfiguration":{`+common+extended+`,"ProcessingConfiguration":{"Enabled":true,"Processors":[{"Type":"Lambda","Parameters":[
			{"ParameterName":"BufferSizeInMBs","ParameterValue":"0.2"},{"ParameterName":"LambdaArn","ParameterValue":"arn:f"}]}]}},
		"Tags":[{"Key":"team","Value":"blue"},{"Key":"empty","Value":""},{"Key":"none"}]}`)
	// The parameters of a Lambda processor are told all five, in AWS's order.
	processing := `,"ProcessingConfiguration":{"Enabled":true,"Processors":[{"Type":"Lambda","Parameters":[
		{"ParameterName":"LambdaArn","ParameterValue":"arn:f"},{"ParameterName":"NumberOfRetries","ParameterValue":"3"},
		{"ParameterName":"RoleArn","ParameterValue":"` + role + `"},{"ParameterName":"BufferSizeInMBs","ParameterValue":"0.2"},
		{"ParameterName":"BufferIntervalInSeconds","ParameterValue":"60"}]}]}`
	sameJSON(t, "description", s.describe("d"), `{"DeliveryStreamDescription":{"DeliveryStreamName":"d",
		"DeliveryStreamARN":"arn:aws:firehose:us-east-1:000000000000:deliverystream/d","DeliveryStreamStatus":"ACTIVE",
		"DeliveryStreamType":"KinesisStreamAsSource","VersionId":"1","CreateTimestamp":0,
		"Source":{"KinesisStreamSourceDescription":{"KinesisStreamARN":"`+arn+`","RoleARN":"`+role+`-source","DeliveryStartTimestamp":0}},
		"HasMoreDestinations":false,"Destinations":[{"DestinationId":"destinationId-000000000001",
			"S3DestinationDescription":{`+common+`},"ExtendedS3DestinationDescription":{`+common+extended+processing+`}}]}}`)

	// Every page is the same one, as AWS answers a cursor that it does not know.
	page := s.do("DescribeDeliveryStream", `{"DeliveryStreamName":"d","Limit":1,"ExclusiveStartDestinationId":"destinationId-000000000001"}`)
	sameJSON(t, "the page after the last", createTime.ReplaceAll(page, []byte(`"$1":0`)), string(s.describe("d")))
}

func TestProcessingThatIsSwitchedOffIsToldAgain(t *testing.T) {
	s := serve(t)
	s.do("CreateDeliveryStream", `{"DeliveryStreamName":"d","ExtendedS3DestinationConfiguration":{"RoleARN":"`+role+`","BucketARN":"`+bucket+`",
		"BufferingHints":{"SizeInMBs":1,"IntervalInSeconds":0},"ProcessingConfiguration":{"Processors":[{"Type":"Lambda","Parameters":[
		{"ParameterName":"LambdaArn","ParameterValue":"arn:f"}]}]}}}`)
	if got := string(s.describe("d")); !strings.Contains(got, `"ProcessingConfiguration":{"Enabled":false,"Processors":[{`) {
		t.Fatal(got)
	}
	s.do("PutRecord", `{"DeliveryStreamName":"d","Record":{"Data":"YWJj"}}`)
	s.waitDelivered("d")
	if got := s.contents(); got != "abc" { // the function, which does not exist, was not asked
		t.Fatalf("delivered %q", got)
	}
}

// s3with is a create request whose S3 configuration has one more member.
func s3with(member string) string {
	return `{"DeliveryStreamName":"d","ExtendedS3DestinationConfiguration":{"RoleARN":"` + role + `","BucketARN":"` + bucket + `",` + member + `}}`
}

// with is a create request with one more member.
func with(member string) string {
	return `{"DeliveryStreamName":"d","ExtendedS3DestinationConfiguration":` + s3only + `,` + member + `}`
}

// lambda is a create request with a Lambda processor of these parameters, names and values in turn.
func lambda(params ...string) string {
	return s3with(`"ProcessingConfiguration":{"Enabled":true,"Processors":[` + lambdaProcessor(params...) + `]}`)
}

func lambdaProcessor(params ...string) string {
	var list []string
	for i := 0; i < len(params); i += 2 {
		list = append(list, fmt.Sprintf(`{"ParameterName":%q,"ParameterValue":%q}`, params[i], params[i+1]))
	}
	return `{"Type":"Lambda","Parameters":[` + strings.Join(list, ",") + `]}`
}

func processors(list ...string) string {
	return s3with(`"ProcessingConfiguration":{"Enabled":true,"Processors":[` + strings.Join(list, ",") + `]}`)
}

// Whatever the model has and this version has not is refused with a sentence that names it.
func TestMembersThatAreNotImplementedAreRefused(t *testing.T) {
	s := serve(t)
	const s3only = "this version delivers to S3 (ExtendedS3DestinationConfiguration) from direct puts or a Kinesis stream, without server-side encryption."
	for _, member := range []string{"DirectPutSourceConfiguration", "DeliveryStreamEncryptionConfigurationInput", "RedshiftDestinationConfiguration",
		"ElasticsearchDestinationConfiguration", "AmazonopensearchserviceDestinationConfiguration", "SplunkDestinationConfiguration",
		"HttpEndpointDestinationConfiguration", "AmazonOpenSearchServerlessDestinationConfiguration", "MSKSourceConfiguration",
		"SnowflakeDestinationConfiguration", "IcebergDestinationConfiguration", "DatabaseSourceConfiguration"} {
		s.refuses("CreateDeliveryStream", with(`"`+member+`":{}`), 400, invalidArgument, member+" is not supported: "+s3only)
		s.refuses("CreateDeliveryStream", `{"DeliveryStreamName":"d","`+member+`":{"X":1}}`, 400, invalidArgument, member+" is not supported: "+s3only)
	}
	const (
		second    = "let a second delivery stream without processors read the same source."
		format    = "DataFormatConversionConfiguration is not supported: this version writes records as they are; leave it out, or give it Enabled false and nothing else."
		partition = "DynamicPartitioningConfiguration is not supported: this version writes one object for a batch; leave it out, or give it Enabled false and nothing else."
	)
	for _, c := range []struct{ body, says string }{
		{with(`"DeliveryStreamType":"MSKAsSource"`), "DeliveryStreamType MSKAsSource is not supported: use DirectPut or KinesisStreamAsSource."},
		{with(`"DeliveryStreamType":"DatabaseAsSource"`), "DeliveryStreamType DatabaseAsSource is not supported: use DirectPut or KinesisStreamAsSource."},
		{s3with(`"EncryptionConfiguration":{"KMSEncryptionConfig":{"AWSKMSKeyARN":"arn:aws:kms:us-east-1:000000000000:key/k"}}`),
			"KMSEncryptionConfig is not supported: there is no key service here; use NoEncryptionConfig."},
		{s3with(`"S3BackupMode":"Enabled"`), "S3BackupMode Enabled is not supported: " + second},
		{s3with(`"S3BackupConfiguration":` + `{}`), "S3BackupConfiguration is not supported: " + second},
		{s3with(`"S3BackupMode":"Disabled","S3BackupConfiguration":{}`), "S3BackupConfiguration is not supported: " + second},
		{s3with(`"DataFormatConversionConfiguration":{"Enabled":true}`), format},
		{s3with(`"DataFormatConversionConfiguration":{}`), format}, // absent is true
		{s3with(`"DataFormatConversionConfiguration":{"Enabled":false,"SchemaConfiguration":{}}`), format},
		{s3with(`"DataFormatConversionConfiguration":{"Enabled":false,"InputFormatConfiguration":{}}`), format},
		{s3with(`"DataFormatConversionConfiguration":{"Enabled":false,"OutputFormatConfiguration":{}}`), format},
		{s3with(`"DynamicPartitioningConfiguration":{"Enabled":true}`), partition},
		{s3with(`"DynamicPartitioningConfiguration":{"Enabled":false,"RetryOptions":{"DurationInSeconds":60}}`), partition},
		{processors(`{"Type":"RecordDeAggregation"}`), "Processor of Type RecordDeAggregation is not supported: this version has the Lambda processor only."},
		{processors(`{"Type":"Decompression"}`), "Processor of Type Decompression is not supported: this version has the Lambda processor only."},
		{processors(`{"Type":"CloudWatchLogProcessing"}`), "Processor of Type CloudWatchLogProcessing is not supported: this version has the Lambda processor only."},
		{processors(`{"Type":"MetadataExtraction"}`), "Processor of Type MetadataExtraction is not supported: this version has the Lambda processor only."},
		{processors(`{"Type":"AppendDelimiterToRecord"}`), "Processor of Type AppendDelimiterToRecord is not supported: this version has the Lambda processor only."},
		{processors(lambdaProcessor("LambdaArn", "arn:f"), `{"Type":"AppendDelimiterToRecord"}`), "Processor of Type AppendDelimiterToRecord is not supported: this version has the Lambda processor only."},
		{s3with(`"ProcessingConfiguration":{"Enabled":false,"Processors":[{"Type":"Decompression"}]}`), "Processor of Type Decompression is not supported: this version has the Lambda processor only."},
	} {
		s.refuses("CreateDeliveryStream", c.body, 400, invalidArgument, c.says)
	}
	sameJSON(t, "delivery streams", s.do("ListDeliveryStreams", `{}`), `{"DeliveryStreamNames":[],"HasMoreDeliveryStreams":false}`)
}

func TestRequestsThatCannotWorkAreRefused(t *testing.T) {
	s := serve(t)
	arn := s.source("clicks")
	src := `"KinesisStreamSourceConfiguration":{"KinesisStreamARN":"` + arn + `","RoleARN":"` + role + `"}`
	five := `A maximum of 5 and a minimum of 1 processor needs to be supplied when processing is enabled.`
	p := lambdaProcessor("LambdaArn", "arn:f")
	for _, c := range []struct{ body, says string }{
		{`{"DeliveryStreamName":"d"}`, "Exactly one destination configuration is supported for a Firehose"},
		{with(`"S3DestinationConfiguration":` + s3only), "Exactly one destination configuration is supported for a Firehose"},
		{with(`"DeliveryStreamType":"KinesisStreamAsSource"`), "DeliveryStreamType KinesisStreamAsSource and KinesisStreamSourceConfiguration need each other."},
		{with(src), "DeliveryStreamType KinesisStreamAsSource and KinesisStreamSourceConfiguration need each other."},
		{with(`"DeliveryStreamType":"DirectPut",` + src), "DeliveryStreamType KinesisStreamAsSource and KinesisStreamSourceConfiguration need each other."},
		{with(`"DeliveryStreamType":"KinesisStreamAsSource",` + strings.ReplaceAll(src, "clicks", "none")),
			"The source arn:aws:kinesis:us-east-1:000000000000:stream/none of Firehose d does not exist; create the stream first."},
		{s3with(`"BufferingHints":{"SizeInMBs":5}`), "BufferingHints need both SizeInMBs and IntervalInSeconds, or neither."},
		{s3with(`"BufferingHints":{"IntervalInSeconds":60}`), "BufferingHints need both SizeInMBs and IntervalInSeconds, or neither."},
		{s3with(`"CloudWatchLoggingOptions":{"Enabled":true,"LogGroupName":"g"}`), "CloudWatchLoggingOptions need LogGroupName and LogStreamName when Enabled is true."},
		{s3with(`"CloudWatchLoggingOptions":{"Enabled":true,"LogStreamName":"s"}`), "CloudWatchLoggingOptions need LogGroupName and LogStreamName when Enabled is true."},
		{s3with(`"Prefix":"!{timestamp:yyyy}/"`), "ErrorOutputPrefix must be given because Prefix contains expressions."},
		{s3with(`"CustomTimeZone":"Mars/Olympus"`), `CustomTimeZone "Mars/Olympus" is not known to the IANA time zone database`},
		{s3with(`"ProcessingConfiguration":{"Enabled":true}`), five},
		{processors(), five},
		{processors(p, p, p, p, p, p), five},
		{processors(p, p), "Cannot have more than 1 Lambda processor"},
		{processors(p, p, p), "Cannot have more than 1 Lambda processor"},
		{s3with(`"ProcessingConfiguration":{"Enabled":false,"Processors":[` + p + `,` + p + `]}`), "Cannot have more than 1 Lambda processor"},
		{lambda(), "A Lambda processor needs the parameter LambdaArn."},
		{processors(`{"Type":"Lambda"}`), "A Lambda processor needs the parameter LambdaArn."},
		{lambda("LambdaArn", "arn:f", "Delimiter", "x"), "Parameter Delimiter does not belong to a Lambda processor."},
		{lambda("LambdaArn", "arn:f", "LambdaArn", "arn:g"), "Parameter LambdaArn is given twice."},
		{lambda("LambdaArn", "arn:f", "NumberOfRetries", "301"), "Parameter NumberOfRetries must be a whole number from 0 to 300, not 301."},
		{lambda("LambdaArn", "arn:f", "NumberOfRetries", "-1"), "Parameter NumberOfRetries must be a whole number from 0 to 300, not -1."},
		{lambda("LambdaArn", "arn:f", "NumberOfRetries", "1.5"), "Parameter NumberOfRetries must be a whole number from 0 to 300, not 1.5."},
		{lambda("LambdaArn", "arn:f", "BufferSizeInMBs", "0.1"), "Parameter BufferSizeInMBs must be a number from 0.2 to 3, not 0.1."},
		{lambda("LambdaArn", "arn:f", "BufferSizeInMBs", "3.1"), "Parameter BufferSizeInMBs must be a number from 0.2 to 3, not 3.1."},
		{lambda("LambdaArn", "arn:f", "BufferSizeInMBs", "NaN"), "Parameter BufferSizeInMBs must be a number from 0.2 to 3, not NaN."},
		{lambda("LambdaArn", "arn:f", "BufferSizeInMBs", "much"), "Parameter BufferSizeInMBs must be a number from 0.2 to 3, not much."},
		{lambda("LambdaArn", "arn:f", "BufferIntervalInSeconds", "901"), "Parameter BufferIntervalInSeconds must be a whole number from 0 to 900, not 901."},
	} {
		s.refuses("CreateDeliveryStream", c.body, 400, invalidArgument, c.says)
	}
	sameJSON(t, "delivery streams", s.do("ListDeliveryStreams", `{}`), `{"DeliveryStreamNames":[],"HasMoreDeliveryStreams":false}`)

	// The widest values are good ones.
	s.do("CreateDeliveryStream", lambda("LambdaArn", "arn:f", "NumberOfRetries", "300", "BufferSizeInMBs", "3", "BufferIntervalInSeconds", "900", "RoleArn", role))
}

// fault is one sentence of a ValidationException.
func fault(value, path, constraint string) string {
	return "Value " + value + " at '" + path + "' failed to satisfy constraint: Member must " + constraint
}

func one(f string) string { return "1 validation error detected: " + f }

func TestTheModelsConstraints(t *testing.T) {
	s := serve(t)
	const e = "extendedS3DestinationConfiguration."
	null := func(path string) string { return fault("null", path, "not be null") }
	for _, c := range []struct{ operation, body, says string }{
		{"CreateDeliveryStream", `{}`, one(null("deliveryStreamName"))},
		{"CreateDeliveryStream", `{"DeliveryStreamName":"d","ExtendedS3DestinationConfiguration":{}}`,
			"2 validation errors detected: " + null(e+"roleARN") + "; " + null(e+"bucketARN")},
		{"CreateDeliveryStream", `{"DeliveryStreamName":"d","S3DestinationConfiguration":{"BucketARN":"` + bucket + `"}}`, one(null("s3DestinationConfiguration.roleARN"))},
		{"CreateDeliveryStream", with(`"KinesisStreamSourceConfiguration":{}`),
			"2 validation errors detected: " + null("kinesisStreamSourceConfiguration.kinesisStreamARN") + "; " + null("kinesisStreamSourceConfiguration.roleARN")},
		{"CreateDeliveryStream", with(`"Tags":[{}]`), one(null("tags.1.member.key"))},
		{"CreateDeliveryStream", with(`"Tags":[null]`), one(null("tags.1.member.key"))},
		{"CreateDeliveryStream", processors(`{}`), one(null(e + "processingConfiguration.processors.1.member.type"))},
		{"CreateDeliveryStream", processors(`{"Type":"Lambda","Parameters":[{"ParameterName":"LambdaArn"}]}`),
			one(null(e + "processingConfiguration.processors.1.member.parameters.1.member.parameterValue"))},
		{"DeleteDeliveryStream", `{}`, one(null("deliveryStreamName"))},
		{"DescribeDeliveryStream", `{}`, one(null("deliveryStreamName"))},
		{"PutRecord", `{}`, "2 validation errors detected: " + null("deliveryStreamName") + "; " + null("record")},
		{"PutRecord", `{"DeliveryStreamName":"d","Record":{}}`, one(null("record.data"))},
		{"PutRecordBatch", `{"DeliveryStreamName":"d"}`, one(null("records"))},
		{"PutRecordBatch", `{"DeliveryStreamName":"d","Records":[{"Data":""},{}]}`, one(null("records.2.member.data"))},

		{"CreateDeliveryStream", `{"DeliveryStreamName":"a b","ExtendedS3DestinationConfiguration":` + s3only + `}`,
			one(fault("'a b'", "deliveryStreamName", "satisfy regular expression pattern: [a-zA-Z0-9_.-]+"))},
		{"CreateDeliveryStream", `{"DeliveryStreamName":"` + strings.Repeat("d", 65) + `"}`,
			one(fault("'"+strings.Repeat("d", 65)+"'", "deliveryStreamName", "have length less than or equal to 64"))},
		{"CreateDeliveryStream", with(`"DeliveryStreamType":"directput"`),
			one(fault("'directput'", "deliveryStreamType", "satisfy enum value set: [DirectPut, KinesisStreamAsSource, MSKAsSource, DatabaseAsSource]"))},
		{"CreateDeliveryStream", s3with(`"CompressionFormat":"gzip"`),
			one(fault("'gzip'", e+"compressionFormat", "satisfy enum value set: [UNCOMPRESSED, GZIP, ZIP, Snappy, HADOOP_SNAPPY]"))},
		{"CreateDeliveryStream", s3with(`"BufferingHints":{"SizeInMBs":129,"IntervalInSeconds":-1}`),
			"2 validation errors detected: " + fault("'129'", e+"bufferingHints.sizeInMBs", "have value less than or equal to 128") + "; " +
				fault("'-1'", e+"bufferingHints.intervalInSeconds", "have value greater than or equal to 0")},
		{"CreateDeliveryStream", `{"DeliveryStreamName":"d","ExtendedS3DestinationConfiguration":{"RoleARN":"me","BucketARN":"` + bucket + `"}}`,
			one(fault("'me'", e+"roleARN", `satisfy regular expression pattern: arn:.*:iam::\d{12}:role/[a-zA-Z_0-9+=,.@\-_/]+`))},
		{"CreateDeliveryStream", with(`"Tags":[{"Key":"aws:mine"}]`),
			one(fault("'aws:mine'", "tags.1.member.key", `satisfy regular expression pattern: ^(?!aws:)[\p{L}\p{Z}\p{N}_.:\/=+\-@%]*$`))},
		{"CreateDeliveryStream", with(`"Tags":[{"Key":"k","Value":"<>"}]`),
			one(fault("'<>'", "tags.1.member.value", `satisfy regular expression pattern: ^[\p{L}\p{Z}\p{N}_.:\/=+\-@%]*$`))},
		{"ListDeliveryStreams", `{"Limit":0}`, one(fault("'0'", "limit", "have value greater than or equal to 1"))},
		{"ListDeliveryStreams", `{"Limit":10001}`, one(fault("'10001'", "limit", "have value less than or equal to 10000"))},
		{"DescribeDeliveryStream", `{"DeliveryStreamName":"d","Limit":0}`, one(fault("'0'", "limit", "have value greater than or equal to 1"))},
	} {
		s.refuses(c.operation, c.body, 400, validation, c.says)
	}
}

func TestNamesOfDeliveryStreams(t *testing.T) {
	s := serve(t)
	for operation, body := range map[string]string{
		"DescribeDeliveryStream": `{"DeliveryStreamName":"none"}`,
		"DeleteDeliveryStream":   `{"DeliveryStreamName":"none"}`,
		"PutRecord":              `{"DeliveryStreamName":"none","Record":{"Data":""}}`,
		"PutRecordBatch":         `{"DeliveryStreamName":"none","Records":[{"Data":""}]}`,
	} {
		s.refuses(operation, body, 400, notFound, "Firehose none under account 000000000000 not found.")
	}
	s.create("d")
	s.refuses("CreateDeliveryStream", `{"DeliveryStreamName":"d","S3DestinationConfiguration":`+s3only+`}`, 400, inUse,
		"Firehose d under accountId 000000000000 already exists")
	sameJSON(t, "DeleteDeliveryStream", s.do("DeleteDeliveryStream", `{"DeliveryStreamName":"d","AllowForceDelete":true}`), `{}`)
	s.refuses("DescribeDeliveryStream", `{"DeliveryStreamName":"d"}`, 400, notFound, "Firehose d under account 000000000000 not found.")
	s.create("d")
}

func TestListPagesInTheOrderOfNames(t *testing.T) {
	s := serve(t)
	sameJSON(t, "none", s.do("ListDeliveryStreams", `{}`), `{"DeliveryStreamNames":[],"HasMoreDeliveryStreams":false}`)
	for i := range 12 {
		s.create(fmt.Sprintf("d%02d", 11-i))
	}
	s.do("CreateDeliveryStream", `{"DeliveryStreamName":"k","DeliveryStreamType":"KinesisStreamAsSource","S3DestinationConfiguration":`+s3only+
		`,"KinesisStreamSourceConfiguration":{"KinesisStreamARN":"`+s.source("clicks")+`","RoleARN":"`+role+`"}}`)
	for _, c := range []struct{ in, names, more string }{
		{`{}`, `"d00","d01","d02","d03","d04","d05","d06","d07","d08","d09"`, "true"}, // 10 by default
		{`{"ExclusiveStartDeliveryStreamName":"d09"}`, `"d10","d11","k"`, "false"},
		{`{"ExclusiveStartDeliveryStreamName":"d095"}`, `"d10","d11","k"`, "false"}, // a name that is none
		{`{"Limit":2}`, `"d00","d01"`, "true"},
		{`{"Limit":3,"ExclusiveStartDeliveryStreamName":"d09"}`, `"d10","d11","k"`, "false"},
		{`{"ExclusiveStartDeliveryStreamName":"k"}`, ``, "false"},
		{`{"DeliveryStreamType":"KinesisStreamAsSource"}`, `"k"`, "false"},
		{`{"DeliveryStreamType":"DirectPut","Limit":12}`, `"d00","d01","d02","d03","d04","d05","d06","d07","d08","d09","d10","d11"`, "false"},
		{`{"DeliveryStreamType":"MSKAsSource"}`, ``, "false"},
	} {
		sameJSON(t, c.in, s.do("ListDeliveryStreams", c.in), `{"DeliveryStreamNames":[`+c.names+`],"HasMoreDeliveryStreams":`+c.more+`}`)
	}
}
