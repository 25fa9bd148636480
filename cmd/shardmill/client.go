package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
)

// client calls a host's JSON services. It is for the verbs of this command; programs use AWS's SDKs.
type client struct {
	url  string
	http http.Client
}

const (
	kinesisTarget  = "Kinesis_20131202."
	firehoseTarget = "Firehose_20150804."
)

// call sends in to an operation such as Kinesis_20131202.PutRecords and decodes the answer into
// out, which may be nil.
func (c *client) call(ctx context.Context, target string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", target)
	res, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s %s", target, res.Status, answer)
	}
	if out == nil || len(answer) == 0 {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// putRecordsAnswer is what a caller of PutRecords must look at.
type putRecordsAnswer struct {
	FailedRecordCount int
	Records           []struct{ ErrorCode, ErrorMessage string }
}
