//go:build !wasip1

package main

import (
	"context"
	"os"
	"os/exec"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

type handler struct{}

func (handler) Invoke(_ context.Context, payload []byte) ([]byte, error) { return answer(payload), nil }

func main() {
	if len(os.Args) > 1 { // a child of fork
		time.Sleep(time.Hour)
	}
	lambda.StartHandler(handler{})
}

// fork leaves children behind, which do not end by themselves.
func fork() {
	for range 3 {
		cmd := exec.Command(os.Args[0], "child", os.Getenv("AWS_LAMBDA_FUNCTION_NAME"))
		if err := cmd.Start(); err != nil {
			panic(err)
		}
	}
}
