// Five Lambda handlers as one would write them for AWS. The variable HANDLER says which one runs.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

// Names that a file added to the package could run into.
var (
	net, http, bufio = "a", "b", "c"
	next, respond    = "d", "e"
)

// transform is a Firehose transformation.
func transform(_ context.Context, e events.KinesisFirehoseEvent) (events.KinesisFirehoseResponse, error) {
	var out events.KinesisFirehoseResponse
	for _, r := range e.Records {
		answer := events.KinesisFirehoseResponseRecord{RecordID: r.RecordID, Result: events.KinesisFirehoseTransformedStateOk, Data: bytes.ToUpper(r.Data)}
		switch {
		case bytes.HasPrefix(r.Data, []byte("drop")):
			answer.Result = events.KinesisFirehoseTransformedStateDropped
		case bytes.HasPrefix(r.Data, []byte("fail")):
			answer.Result = events.KinesisFirehoseTransformedStateProcessingFailed
		case r.KinesisFirehoseRecordMetadata.PartitionKey != "":
			answer.Metadata.PartitionKeys = map[string]string{"key": r.KinesisFirehoseRecordMetadata.PartitionKey}
		}
		out.Records = append(out.Records, answer)
	}
	return out, nil
}

// consume is a Kinesis consumer that reports the records it could not use.
func consume(ctx context.Context, e events.KinesisEvent) (events.KinesisEventResponse, error) {
	var out events.KinesisEventResponse
	lc, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	fmt.Printf("%s %s %t\n", lc.AwsRequestID, lc.InvokedFunctionArn, time.Until(deadline) > 0)
	for _, r := range e.Records {
		if string(r.Kinesis.Data) == "bad" {
			out.BatchItemFailures = append(out.BatchItemFailures, events.KinesisBatchItemFailure{ItemIdentifier: r.Kinesis.SequenceNumber})
		}
	}
	return out, nil
}

// window sums up what arrives within a time window.
func window(e events.KinesisTimeWindowEvent) (events.KinesisTimeWindowEventResponse, error) {
	state := e.State
	if state == nil {
		state = map[string]string{}
	}
	sum, _ := strconv.Atoi(state["sum"])
	for _, r := range e.Records {
		n, err := strconv.Atoi(string(r.Kinesis.Data))
		if err != nil {
			return events.KinesisTimeWindowEventResponse{}, fmt.Errorf("not a number: %w", err)
		}
		sum += n
	}
	state["sum"] = strconv.Itoa(sum)
	if e.IsFinalInvokeForWindow {
		fmt.Println("final", state["sum"], e.Window.Start.UTC().Format(time.RFC3339))
	}
	return events.KinesisTimeWindowEventResponse{TimeWindowEventResponseProperties: events.TimeWindowEventResponseProperties{State: state}}, nil
}

// output takes what an analytics application puts out.
func output(e events.KinesisAnalyticsOutputDeliveryEvent) (events.KinesisAnalyticsOutputDeliveryResponse, error) {
	var out events.KinesisAnalyticsOutputDeliveryResponse
	for _, r := range e.Records {
		result := events.KinesisAnalyticsOutputDeliveryOK
		if len(r.Data) == 0 {
			result = events.KinesisAnalyticsOutputDeliveryFailed
		}
		out.Records = append(out.Records, events.KinesisAnalyticsOutputDeliveryResponseRecord{RecordID: r.RecordID, Result: result})
	}
	return out, nil
}

// fails shows how a handler can go wrong.
func fails(_ context.Context, how string) (string, error) {
	switch how {
	case "error":
		return "", errors.New("as told")
	case "panic":
		panic("as told")
	case "exit":
		os.Exit(9)
	case "sleep":
		time.Sleep(time.Minute)
	}
	time.Sleep(5 * time.Millisecond)
	return net + http + bufio + next + respond, nil
}

func main() {
	lambda.Start(map[string]any{"transform": transform, "consume": consume, "window": window, "output": output, "fails": fails}[os.Getenv("HANDLER")])
}
