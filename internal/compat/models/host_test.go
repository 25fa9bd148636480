package models

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/localkms"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
	"github.com/shardmill/shardmill/shards/kinesisapi"
)

// host is the service on a file system in memory, called without sockets.
type host struct {
	operations []string
	api        http.Handler
}

func open(t *testing.T) *host {
	t.Helper()
	fs := vfs.NewMem()
	store, err := journal.Open("data", journal.Options{FS: fs, SegmentSize: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := localkms.Open("data/keys", localkms.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	streams, err := shards.Open(t.Context(), store, shards.Options{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		streams.Close()
		store.Close()
	})
	service, err := kinesisapi.New(t.Context(), streams, store.Meta(), kinesisapi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &host{service.Operations(), awsapi.NewMux(awsapi.Options{Account: "000000000000", Region: "us-east-1"}, service)}
}

// object is a request or a part of one.
type object = map[string]any

// answer is what a call got; kind and message are those of an error.
type answer struct {
	status        int
	kind, message string
	body          string
}

func (h *host) call(t *testing.T, op string, in object) answer {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequestWithContext(t.Context(), "POST", "/", strings.NewReader(string(body)))
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "Kinesis_20131202."+op)
	w := httptest.NewRecorder()
	h.api.ServeHTTP(w, r)
	a := answer{status: w.Code, body: w.Body.String()}
	var fault struct {
		Type    string `json:"__type"`
		Message string // or message: encoding/json takes both
	}
	if a.status != http.StatusOK {
		if err := json.Unmarshal(w.Body.Bytes(), &fault); err != nil {
			t.Fatalf("%s: %s: %v", op, a.body, err)
		}
		a.kind, a.message = fault.Type, fault.Message
	}
	return a
}
