package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/shardmill/shardmill/examples/earthquakes"
)

// endToEnd measures from the put of a record to its object.
func (b *bench) endToEnd(ctx context.Context) error {
	if err := os.WriteFile(filepath.Join(b.work, "data", "plugins", "severity.wasm"), earthquakes.Severity, 0o600); err != nil {
		return err
	}
	err := b.api.call(ctx, firehoseTarget+"CreateDeliveryStream", object{"DeliveryStreamName": "bench",
		"ExtendedS3DestinationConfiguration": object{"RoleARN": quakeRole, "BucketARN": "arn:aws:s3:::bench",
			"BufferingHints": object{"SizeInMBs": 1, "IntervalInSeconds": 0},
			"ProcessingConfiguration": object{"Enabled": true, "Processors": []object{{"Type": "Lambda", "Parameters": []object{
				{"ParameterName": "LambdaArn", "ParameterValue": "severity"}}}}}}}, nil)
	if err != nil {
		return err
	}
	bucket := filepath.Join(b.work, "data", "objects", "bench")
	line, _, _ := bytes.Cut(earthquakes.Feed, []byte("\n"))
	var took []time.Duration
	for i := range b.records + 1 {
		start := time.Now()
		if err := b.api.call(ctx, firehoseTarget+"PutRecord", object{"DeliveryStreamName": "bench", "Record": object{"Data": line}}, nil); err != nil {
			return err
		}
		for countObjects(bucket) <= i {
			if time.Since(start) > 10*time.Second {
				return fmt.Errorf("record %d is not visible after 10 s", i)
			}
			if err := pause(ctx, 500*time.Microsecond); err != nil {
				return err
			}
		}
		took = append(took, time.Since(start))
	}
	took = took[1:] // the first one waited for the plugin to be picked up
	slices.Sort(took)
	fmt.Fprintf(b.out, "put -> WebAssembly plugin -> visible object, one record at a time, interval hint 0, everything fsync'd\n")
	fmt.Fprintf(b.out, "  p50 %.1f ms, p99 %.1f ms\n", took[len(took)/2].Seconds()*1e3, took[len(took)*99/100].Seconds()*1e3)
	return nil
}

func countObjects(dir string) (n int) {
	filepath.WalkDir(dir, func(_ string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			n++
		}
		return nil // a bucket that is not there yet has no objects
	})
	return n
}
