package firehoseapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/firehose/destinations"
	"github.com/shardmill/shardmill/firehose/firehoseapi"
	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/objects"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
)

const (
	account = "000000000000"
	role    = "arn:aws:iam::000000000000:role/delivery"
	bucket  = "arn:aws:s3:::lake"
	s3only  = `{"RoleARN":"` + role + `","BucketARN":"` + bucket + `"}`
)

// server is the wire over a real room, store and folder of objects.
type server struct {
	t       *testing.T
	url     string
	service *awsapi.Service
	streams *shards.Streams
	objects objects.Store

	appendFails atomic.Pointer[errs.Error] // what appends answer instead of storing
	delivered   chan string                // names of delivery streams
}

func serve(t *testing.T) *server {
	t.Helper()
	s := &server{t: t, delivered: make(chan string, 100)}
	store, err := journal.Open("data", journal.Options{FS: vfs.NewMem(), SegmentSize: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if s.streams, err = shards.Open(t.Context(), &breakable{store, s}, shards.Options{}); err != nil {
		t.Fatal(err)
	}
	dir, err := objects.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s.objects = dir
	room, err := firehose.Open(t.Context(), firehose.Options{Streams: s.streams, Meta: store.Meta(), Functions: noFunctions{},
		Open: destinations.Open(destinations.Deps{Objects: dir, SpoolDir: t.TempDir()}), SpoolDir: t.TempDir(),
		Events: firehose.Events{Delivered: func(d *firehose.DeliveryStream, _ uint64, _ firehose.Delivered) { s.delivered <- d.Name }}})
	if err != nil {
		t.Fatal(err)
	}
	s.service = firehoseapi.New(room)
	http := httptest.NewServer(awsapi.NewMux(awsapi.Options{Account: account, Region: "us-east-1",
		Failed: func(_, operation string, err error) {
			if s.appendFails.Load() == nil {
				t.Errorf("%s: %v", operation, err)
			}
		}}, s.service))
	s.url = http.URL
	t.Cleanup(func() {
		http.Close()
		room.Close(context.Background())
		s.streams.Close()
		store.Close()
		dir.Close()
	})
	return s
}

// breakable is a store whose appends can be made to fail.
type breakable struct {
	*journal.Store
	s *server
}

func (b *breakable) Log() shards.Log { return breakableLog{b.Store.Log(), b.s} }

type breakableLog struct {
	shards.Log
	s *server
}

func (l breakableLog) Append(ctx context.Context, runs []shards.Run, results []shards.Result) {
	if err := l.s.appendFails.Load(); err != nil {
		for i := range results {
			results[i] = shards.Result{Err: err}
		}
		return
	}
	l.Log.Append(ctx, runs, results)
}

type noFunctions struct{}

func (noFunctions) Function(arn string) (runtime.Function, func(), error) {
	return nil, nil, errs.New(errs.NotFound, "Function not found: %s", arn)
}

// answer is what the server said.
type answer struct {
	status  int
	name    string // of the error; "" for success
	message string
	body    []byte
}

// call sends one request.
func (s *server) call(operation, body string) answer {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodPost, s.url, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "Firehose_20150804."+operation)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	a := answer{status: res.StatusCode}
	if a.body, err = io.ReadAll(res.Body); err != nil {
		s.t.Fatal(err)
	}
	if a.status != http.StatusOK {
		var e struct {
			Type    string `json:"__type"`
			Message string `json:"message"`
		}
		if err := json.Unmarshal(a.body, &e); err != nil {
			s.t.Fatalf("%s: %d %s", operation, a.status, a.body)
		}
		a.name, a.message = e.Type, e.Message
	}
	return a
}

// do is call for what must succeed.
func (s *server) do(operation, body string) []byte {
	s.t.Helper()
	a := s.call(operation, body)
	if a.status != http.StatusOK {
		s.t.Fatalf("%s %.300s: %d %s: %s", operation, body, a.status, a.name, a.message)
	}
	return a.body
}

// refuses fails the test unless the request is answered with this error. Our own sentences are
// compared as a whole, so that each names its member.
func (s *server) refuses(operation, body string, status int, name, message string) {
	s.t.Helper()
	a := s.call(operation, body)
	if a.status != status || a.name != name || a.message != message {
		s.t.Errorf("%s %.300s:\n got %d %s: %s\nwant %d %s: %s", operation, body, a.status, a.name, a.message, status, name, message)
	}
}

// create makes a delivery stream for direct puts that delivers at once.
func (s *server) create(name string) {
	s.t.Helper()
	s.do("CreateDeliveryStream", `{"DeliveryStreamName":"`+name+`","ExtendedS3DestinationConfiguration":{"RoleARN":"`+role+
		`","BucketARN":"`+bucket+`","BufferingHints":{"SizeInMBs":1,"IntervalInSeconds":0}}}`)
}

// source makes a Kinesis stream and returns its ARN.
func (s *server) source(name string) string {
	s.t.Helper()
	st, err := s.streams.Create(s.t.Context(), shards.Scope{Account: account, Region: "us-east-1"}, shards.Spec{Name: name, Shards: 1})
	if err != nil {
		s.t.Fatal(err)
	}
	return st.ARN()
}

func (s *server) waitDelivered(name string) {
	s.t.Helper()
	select {
	case got := <-s.delivered:
		if got != name {
			s.t.Fatalf("%s delivered, want %s", got, name)
		}
	case <-time.After(10 * time.Second):
		s.t.Fatal("nothing was delivered")
	}
}

// contents is the bucket's objects, one after the other.
func (s *server) contents() string {
	s.t.Helper()
	list, err := s.objects.List(s.t.Context(), "lake", "", "", 1000)
	if err != nil {
		s.t.Fatal(err)
	}
	var all bytes.Buffer
	for _, o := range list {
		f, _, err := s.objects.Get(s.t.Context(), "lake", o.Key)
		if err != nil {
			s.t.Fatal(err)
		}
		if _, err := all.ReadFrom(f); err != nil {
			s.t.Fatal(err)
		}
		f.Close()
	}
	return all.String()
}

// sameJSON compares two documents, whatever the order of their members.
func sameJSON(t *testing.T, what string, got []byte, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("%s: the wanted JSON: %v", what, err)
	}
	if err := json.Unmarshal(got, &g); err != nil || !reflect.DeepEqual(g, w) {
		t.Fatalf("%s: %v\n got %s\nwant %s", what, err, got, want)
	}
}
