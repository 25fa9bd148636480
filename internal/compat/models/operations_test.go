// Package models holds the API of Kinesis against the models that AWS publishes: the operations
// against the AWS SDK for Go and botocore, and the constraints on every member of every input against
// botocore, by sending what breaks them. Nothing of the models is kept here.
package models

import (
	"context"
	"reflect"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kinesis"
)

// pending are the operations of AWS that are not there yet. One that is there has to leave the list.
var pending = []string{
	"CreateChannel", "UpdateChannel", "DeleteChannel", "DescribeChannel", "ListChannels",
}

// missing compares the operations that are served with AWS's.
func missing(t *testing.T, served, aws []string) {
	t.Helper()
	for _, op := range aws {
		switch has, waits := slices.Contains(served, op), slices.Contains(pending, op); {
		case !has && !waits:
			t.Errorf("%s is not served, and nobody says why", op)
		case has && waits:
			t.Errorf("%s is served: take it from the list of those that are pending", op)
		}
	}
}

// TestOperationsOfTheGoSDK: the client has a method for each.
func TestOperationsOfTheGoSDK(t *testing.T) {
	var aws []string
	for m := range reflect.TypeFor[*kinesis.Client]().Methods() {
		if f := m.Type; f.NumIn() == 4 && f.In(1) == reflect.TypeFor[context.Context]() && f.NumOut() == 2 { // receiver, ctx, input, options
			aws = append(aws, m.Name)
		}
	}
	if len(aws) != 45 {
		t.Errorf("the SDK has %d operations, 45 are known: %q", len(aws), aws)
	}
	served := open(t).operations
	missing(t, served, aws)
	for _, op := range served {
		if !slices.Contains(aws, op) {
			t.Errorf("%s is served, and AWS has no such operation", op)
		}
	}
	for _, op := range pending {
		if !slices.Contains(aws, op) {
			t.Errorf("%s is pending, and AWS has no such operation", op)
		}
	}
}

func TestOperationsOfBotocore(t *testing.T) {
	missing(t, open(t).operations, botocore(t).names())
}
