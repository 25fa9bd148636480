package eventsource

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Why records are given up.
const (
	retriesExhausted = "RetryAttemptsExhausted"
	ageExceeded      = "RecordAgeExceeded"
)

// Failure is a batch that was given up, as failure destinations get it.
type Failure struct {
	Document []byte // JSON: what is known of it, without the records
	Key      string // an object's key, the same if the same batch comes again
	Event    []byte // JSON: the event that the function got

	Condition string
	Records   int
	ShardID   string
}

// WithPayload is the document with the event in it, as objects have it.
func (f *Failure) WithPayload() ([]byte, error) {
	payload, err := json.Marshal(string(f.Event))
	if err != nil {
		return nil, err
	}
	doc := append(f.Document[:len(f.Document)-1:len(f.Document)-1], `,"payload":`...)
	return append(append(doc, payload...), '}'), nil
}

type failureDocument struct {
	RequestContext struct {
		RequestID    string `json:"requestId"`
		FunctionARN  string `json:"functionArn"`
		Condition    string `json:"condition"`
		Approximates int    `json:"approximateInvokeCount"`
	} `json:"requestContext"`
	ResponseContext *responseContext `json:"responseContext,omitempty"`
	Version         string           `json:"version"`
	Timestamp       string           `json:"timestamp"`
	Batch           batchInfo        `json:"KinesisBatchInfo"`
}

type responseContext struct {
	StatusCode      int     `json:"statusCode"`
	ExecutedVersion string  `json:"executedVersion"`
	FunctionError   *string `json:"functionError"`
}

type batchInfo struct {
	ShardID   string `json:"shardId"`
	Start     string `json:"startSequenceNumber"`
	End       string `json:"endSequenceNumber"`
	First     string `json:"approximateArrivalOfFirstRecord"`
	Last      string `json:"approximateArrivalOfLastRecord"`
	Size      int    `json:"batchSize"`
	StreamARN string `json:"streamArn"`
}

const isoMilli = "2006-01-02T15:04:05.000Z"

// failure describes items that are given up after so many invocations.
func (l *lane) failure(items []item, condition string, out outcome, invocations int) *Failure {
	first, last, now := &items[0], &items[len(items)-1], time.Now().UTC()
	var d failureDocument
	d.RequestContext.RequestID = out.requestID
	if out.requestID == "" {
		d.RequestContext.RequestID = uuid.NewString()
	}
	d.RequestContext.FunctionARN, d.RequestContext.Condition, d.RequestContext.Approximates = l.functionARN, condition, invocations
	if condition == retriesExhausted {
		d.ResponseContext = &responseContext{StatusCode: 200, ExecutedVersion: "$LATEST"}
		if out.functionError != "" {
			d.ResponseContext.FunctionError = &out.functionError
		}
	}
	d.Version, d.Timestamp = "1.0", now.Format(isoMilli)
	d.Batch = batchInfo{ShardID: l.shard.String(), Start: first.seq.String(), End: last.seq.String(),
		First: time.UnixMilli(first.arrived).UTC().Format(isoMilli), Last: time.UnixMilli(last.arrived).UTC().Format(isoMilli),
		Size: len(items), StreamARN: l.stream.ARN()}
	doc, err := json.Marshal(&d)
	if err != nil {
		panic(err) // strings and numbers
	}
	id := uuid.NewSHA1(uuid.NameSpaceURL, fmt.Appendf(nil, "%s/%s/%s/%s", l.m.UUID, d.Batch.Start, d.Batch.End, condition))
	return &Failure{Document: doc, Event: l.appendEvent(nil, items, nil), Condition: condition, Records: len(items), ShardID: l.shard.String(),
		Key: fmt.Sprintf("aws/lambda/%s/%s/%s/%s-%s", l.m.UUID, l.shard, now.Format("2006/01/02"), now.Format("2006-01-02T15.04.05"), id)}
}
