// Command regions is a Firehose transformation: it adds to every earthquake the region where it
// happened, taken from the text of its place ("37km NNE of Amboy, Washington" is in Washington).
// Records are lines of JSON; one that is no JSON object is answered ProcessingFailed.
//
// It is an ordinary Lambda handler for the runtime provided.al2023, and built as one:
//
//	CGO_ENABLED=0 go build -tags lambda.norpc -o bootstrap .
//
// The folder with the file bootstrap is the function.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func main() {
	lambda.Start(handle)
}

func handle(_ context.Context, event events.KinesisFirehoseEvent) (events.KinesisFirehoseResponse, error) {
	var response events.KinesisFirehoseResponse
	for _, record := range event.Records {
		response.Records = append(response.Records, transform(record))
	}
	return response, nil
}

func transform(record events.KinesisFirehoseEventRecord) events.KinesisFirehoseResponseRecord {
	data, err := addRegion(record.Data)
	if err != nil {
		return events.KinesisFirehoseResponseRecord{
			RecordID: record.RecordID,
			Result:   events.KinesisFirehoseTransformedStateProcessingFailed,
			Data:     record.Data,
		}
	}
	return events.KinesisFirehoseResponseRecord{
		RecordID: record.RecordID,
		Result:   events.KinesisFirehoseTransformedStateOk,
		Data:     append(data, '\n'),
	}
}

// addRegion returns the earthquake with its region. The other fields keep their exact values:
// they are not decoded.
func addRegion(line []byte) ([]byte, error) {
	var quake map[string]json.RawMessage
	if err := json.Unmarshal(line, &quake); err != nil {
		return nil, err
	}
	if quake == nil { // null is JSON, but no earthquake
		return nil, errors.New("not a JSON object")
	}
	var place string
	if text, ok := quake["place"]; ok {
		if err := json.Unmarshal(text, &place); err != nil {
			return nil, err
		}
	}
	region, err := json.Marshal(regionOf(place))
	if err != nil {
		return nil, err
	}
	quake["region"] = region
	return json.Marshal(quake)
}

// regionOf is what follows the last comma of a place, or the whole place.
func regionOf(place string) string {
	return strings.TrimSpace(place[strings.LastIndex(place, ",")+1:])
}
