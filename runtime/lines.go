package runtime

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"
)

// The service's own log lines of an invocation, in the words and formats of Lambda's logs. Engines
// hand them to Events.Platform.

// StartLine is the line before everything that a function writes in an invocation.
func StartLine(requestID string) string { return "START RequestId: " + requestID + " Version: $LATEST" }

// EndLines are the lines after everything that a function wrote before its answer. What went wrong
// beyond the function's own error comes first. memory is the limit, in bytes.
func EndLines(requestID string, res *Result, memory int64, now time.Time) []string {
	var lines []string
	status := ""
	switch res.ErrorType {
	case ErrorTimedOut:
		_, message, _ := strings.Cut(documentMessage(res.Payload), "Error: ")
		lines = append(lines, now.UTC().Format("2006-01-02T15:04:05.000Z")+" "+requestID+" "+message)
		status = "\tStatus: timeout"
	case ErrorExit, ErrorExtension:
		lines = append(lines, documentMessage(res.Payload), res.ErrorType)
		status = "\tStatus: error\tError Type: " + res.ErrorType
	}
	ms := float64(res.Duration) / float64(time.Millisecond)
	report := fmt.Sprintf("REPORT RequestId: %s\tDuration: %.2f ms\tBilled Duration: %.0f ms\tMemory Size: %d MB\tMax Memory Used: %d MB",
		requestID, ms, math.Ceil(ms), memory>>20, (res.MaxMemory+1<<20-1)>>20)
	if res.Init > 0 {
		report += fmt.Sprintf("\tInit Duration: %.2f ms", float64(res.Init)/float64(time.Millisecond))
	}
	return append(lines, "END RequestId: "+requestID, report+status)
}

// documentMessage is the errorMessage of an error document, on one line; "" if it has none.
func documentMessage(payload []byte) string {
	var doc struct {
		Message string `json:"errorMessage"`
	}
	json.Unmarshal(payload, &doc)
	return strings.ReplaceAll(doc.Message, "\n", " ")
}
