package kinesisapi

import (
	"errors"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/awsapi/jsonscan"
)

// The general decoding of PutRecord and PutRecords, for what the fast scan does not recognize.

// keysGiven reports whether every entry has a partition key.
func (p *puts) keysGiven() bool {
	for i := range p.scan.Entries {
		if p.scan.Entries[i].PartitionKey == nil {
			return false
		}
	}
	return true
}

func decodeBlobs(p *jsonscan.Put) error {
	var blob *jsonscan.BlobError
	if errors.As(p.Decode(), &blob) {
		return &awsapi.SerializationError{Message: blob.Message}
	}
	return nil
}

func (p *puts) decodeOne(wire awsapi.Wire, body []byte, keyless func(*streamRef) bool) error {
	in := new(putRecordIn)
	if err := wire.Decode(body, in); err != nil {
		return err
	}
	if err := validateKeys(in, &in.streamRef, keyless, func(yield func(**string)) { yield(&in.PartitionKey) }); err != nil {
		return err
	}
	p.take(&in.streamRef, in.DryRun)
	p.scan.SequenceNumberForOrdering = optional(in.SequenceNumberForOrdering)
	p.scan.Entries = append(p.scan.Entries[:0], jsonscan.Entry{Data: in.Data, PartitionKey: optional(in.PartitionKey), ExplicitHashKey: optional(in.ExplicitHashKey)})
	return nil
}

func (p *puts) decodeMany(wire awsapi.Wire, body []byte, keyless func(*streamRef) bool) error {
	in := new(putRecordsIn)
	if err := wire.Decode(body, in); err != nil {
		return err
	}
	keys := func(yield func(**string)) {
		for i := range in.Records {
			yield(&in.Records[i].PartitionKey)
		}
	}
	if err := validateKeys(in, &in.streamRef, keyless, keys); err != nil {
		return err
	}
	p.take(&in.streamRef, in.DryRun)
	p.scan.Entries = p.scan.Entries[:0]
	for i := range in.Records {
		e := &in.Records[i]
		p.scan.Entries = append(p.scan.Entries, jsonscan.Entry{Data: e.Data, PartitionKey: optional(e.PartitionKey), ExplicitHashKey: optional(e.ExplicitHashKey)})
	}
	return nil
}

// validateKeys validates a request whose partition keys may be missing if its stream does without:
// there they count as given for as long as the validation takes.
func validateKeys(in any, ref *streamRef, keyless func(*streamRef) bool, keys func(func(**string))) error {
	missing := false
	keys(func(k **string) { missing = missing || *k == nil })
	if !missing || !keyless(ref) {
		return awsapi.Validate(in)
	}
	given := ptr("-")
	keys(func(k **string) {
		if *k == nil {
			*k = given
		}
	})
	err := awsapi.Validate(in)
	keys(func(k **string) {
		if *k == given {
			*k = nil
		}
	})
	return err
}

func decodeAndValidate(wire awsapi.Wire, body []byte, in any) error {
	if err := wire.Decode(body, in); err != nil {
		return err
	}
	return awsapi.Validate(in)
}

func (p *puts) take(ref *streamRef, dry *bool) {
	p.scan.Stream, p.scan.ARN = optional(ref.StreamName), optional(ref.StreamARN)
	p.scan.SequenceNumberForOrdering, p.scan.DryRun = nil, value(dry)
}

func optional(s *string) []byte {
	if s == nil {
		return nil
	}
	return []byte(*s)
}
