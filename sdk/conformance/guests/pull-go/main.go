// The pull guest of the conformance kit (../../README.md): an aws-lambda-go handler as anybody
// would write it, built with "shardmill plugin build".
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/aws/aws-lambda-go/lambda"
)

// Oops is the error's type in the answer.
type Oops struct{}

func (Oops) Error() string { return "boom" }

type event struct {
	Do string `json:"do"`
}

type answer struct {
	Got json.RawMessage `json:"got"`
}

func handle(_ context.Context, raw json.RawMessage) (*answer, error) {
	var e event
	json.Unmarshal(raw, &e) // an event without "do" is answered, whatever it is
	switch e.Do {
	case "exit":
		os.Exit(3)
	case "error":
		return nil, Oops{}
	case "log":
		fmt.Println("hello")
	}
	return &answer{raw}, nil
}

func main() { lambda.Start(handle) }
