// Package clients runs real clients of AWS against a host, each in its default settings: the AWS
// CLI, boto3 and the AWS SDKs for Go, JavaScript and Java. Every client lives through the same plan
// and tells what it saw; one check holds that against what it put, record by record.
//
// A client that is not installed is skipped; scripts/install-ci.sh installs them all.
package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/internal/config"
	"github.com/shardmill/shardmill/internal/host"
)

// plan is what a client does: create a stream of two shards, put records one by one and in a batch,
// read them with iterators of every type, put one more for the iterators of type LATEST; then create
// a delivery stream without buffering and put lines to it, the first alone, the others in a batch.
type plan struct {
	Stream, Delivery, Bucket string
	Single, Batch            []entry
	Last                     entry
	Lines                    []string
	began                    time.Time
}

type entry struct {
	Key  string
	Data []byte
}

// observed is what the client saw.
type observed struct {
	Status, ARN string
	Shards      []string
	Error       string // the message about a stream that is not there
	Put         []placed
	Reads       []read
}

// placed is where a record went: those of Single, Batch, and Last.
type placed struct{ Shard, Seq string }

// read is what an iterator read. The types with a number or time take those of the record with index
// Pivot in the shard.
type read struct {
	Shard, Type string
	Pivot       int
	Records     []record
}

type record struct {
	Seq, Key string
	Data     []byte
	Arrived  int64 // ms since the epoch
}

func newPlan(client string) plan {
	p := plan{Stream: "stream-" + client, Delivery: "delivery-" + client, Bucket: "bucket-" + client, Last: entry{"последний", []byte("last")}, began: time.Now().Truncate(time.Millisecond)}
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for i := range 4 {
		p.Single = append(p.Single, entry{fmt.Sprint(`"key"/`, i), append(every, byte(i))})
	}
	for i := range 60 {
		p.Batch = append(p.Batch, entry{fmt.Sprint("ключ-", i), fmt.Appendf(nil, `{"n":%d,"text":"zwölf & <b>\u2028"}`, i)})
	}
	for i := range 30 {
		p.Lines = append(p.Lines, fmt.Sprintf("{\"line\":%d,\"text\":\"é\"}\n", i))
	}
	return p
}

// server is a host for one client.
type server struct {
	*host.Host
	mu        sync.Mutex
	delivered int
	changed   chan struct{} // closed and replaced when delivered grows
}

func newServer(t *testing.T) *server {
	t.Helper()
	return newServerWith(t, func(*config.Config) {})
}

func newServerWith(t *testing.T, change func(*config.Config)) *server {
	t.Helper()
	s := &server{changed: make(chan struct{})}
	cfg := config.Config{Listen: "127.0.0.1:0", Data: t.TempDir(), Region: "us-east-1", Account: "000000000000", Concurrency: 1}
	change(&cfg)
	cfg.Plugins = filepath.Join(cfg.Data, "plugins")
	var err error
	s.Host, err = host.Open(t.Context(), cfg, zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel), host.Observer{
		Delivered: func(_ string, what firehose.Delivered) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.delivered += what.Ok
			close(s.changed)
			s.changed = make(chan struct{})
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// awaitDelivery waits until n records are in the bucket.
func (s *server) awaitDelivery(t *testing.T, n int) {
	t.Helper()
	timeout := time.After(15 * time.Second)
	for {
		s.mu.Lock()
		got, changed := s.delivered, s.changed
		s.mu.Unlock()
		if got >= n {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("%d of %d records were delivered within 15 s", got, n)
		}
	}
}

// environ is the environment of a client at url. Nothing of the user's own settings is in it.
func environ(url string) []string {
	var env []string
	foreign := []string{"AWS_", "NODE_", "CBOR_ENABLED=", "JAVA_TOOL_OPTIONS=", "JDK_JAVA_OPTIONS="}
	for _, v := range os.Environ() {
		if !slices.ContainsFunc(foreign, func(prefix string) bool { return strings.HasPrefix(v, prefix) }) {
			env = append(env, v)
		}
	}
	return append(env, "AWS_ENDPOINT_URL="+url, "AWS_ACCESS_KEY_ID=AK", "AWS_SECRET_ACCESS_KEY=SK", "AWS_REGION=us-east-1", "AWS_DEFAULT_REGION=us-east-1",
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true", "PYTHONUTF8=1")
}

// check holds what a client saw against what it put. precision is that of the times it sends.
func (p *plan) check(t *testing.T, got *observed, precision time.Duration) {
	t.Helper()
	if got.Status != "ACTIVE" || got.ARN != "arn:aws:kinesis:us-east-1:000000000000:stream/"+p.Stream ||
		!slices.Equal(got.Shards, []string{"shardId-000000000000", "shardId-000000000001"}) || got.Error != "Stream none under account 000000000000 not found." {
		t.Errorf("the stream is %s with the ARN %s and shards %q; one that is not there has the error %q", got.Status, got.ARN, got.Shards, got.Error)
	}
	put := append(append(slices.Clone(p.Single), p.Batch...), p.Last)
	if len(got.Put) != len(put) {
		t.Fatalf("%d records have a place, want %d", len(got.Put), len(put))
	}
	want := make(map[string][]record) // by shard
	for i, at := range got.Put {
		want[at.Shard] = append(want[at.Shard], record{Seq: at.Seq, Key: put[i].Key, Data: put[i].Data})
	}
	for _, shard := range got.Shards {
		if len(want[shard]) < 4 {
			t.Fatalf("%s holds %d records, too few to test anything", shard, len(want[shard]))
		}
	}
	last := got.Put[len(put)-1].Shard
	arrived, tried := make(map[string][]int64), make(map[string]int)
	for _, r := range got.Reads {
		tried[r.Type]++
		all := want[r.Shard]
		before := len(all) // when Last was not there yet
		if r.Shard == last {
			before--
		}
		wanted := all[:before]
		switch r.Type {
		case "TRIM_HORIZON":
			for _, rec := range r.Records {
				arrived[r.Shard] = append(arrived[r.Shard], rec.Arrived)
			}
		case "AT_SEQUENCE_NUMBER":
			wanted = wanted[r.Pivot:]
		case "AFTER_SEQUENCE_NUMBER":
			wanted = wanted[r.Pivot+1:]
		case "AT_TIMESTAMP":
			from := time.UnixMilli(arrived[r.Shard][r.Pivot]).Truncate(precision).UnixMilli()
			wanted = wanted[slices.IndexFunc(arrived[r.Shard], func(ms int64) bool { return ms >= from }):]
		case "LATEST":
			wanted = all[before:]
		}
		p.compare(t, r, wanted)
	}
	for _, kind := range []string{"TRIM_HORIZON", "LATEST", "AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "AT_TIMESTAMP"} {
		least := 1
		if kind == "TRIM_HORIZON" || kind == "LATEST" {
			least = len(got.Shards)
		}
		if tried[kind] < least {
			t.Errorf("iterators of type %s were tried on %d shards, want %d at least", kind, tried[kind], least)
		}
	}
}

func (p *plan) compare(t *testing.T, r read, want []record) {
	t.Helper()
	for i := range min(len(r.Records), len(want)) {
		if g, w := r.Records[i], want[i]; g.Seq != w.Seq || g.Key != w.Key || string(g.Data) != string(w.Data) {
			t.Errorf("%s %s: record %d is %s %q %q, want %s %q %q", r.Shard, r.Type, i, g.Seq, g.Key, g.Data, w.Seq, w.Key, w.Data)
			return
		}
		if at := time.UnixMilli(r.Records[i].Arrived); at.Before(p.began) || at.After(time.Now()) {
			t.Errorf("%s %s: record %d arrived at %s, and the test began at %s", r.Shard, r.Type, i, at, p.began)
			return
		}
	}
	if len(r.Records) != len(want) {
		t.Errorf("%s %s: %d records, want %d", r.Shard, r.Type, len(r.Records), len(want))
	}
}

// checkObjects checks that the objects' texts are the plan's lines: each once, those of an object in
// a row.
func (p *plan) checkObjects(t *testing.T, objects []string) {
	t.Helper()
	number := func(object string) int {
		first, _, _ := strings.Cut(object, "\n")
		var line struct{ Line int }
		if err := json.Unmarshal([]byte(first), &line); err != nil {
			t.Errorf("an object begins with %q: %v", first, err)
		}
		return line.Line
	}
	slices.SortFunc(objects, func(a, b string) int { return number(a) - number(b) })
	if got, want := strings.Join(objects, ""), strings.Join(p.Lines, ""); got != want {
		t.Errorf("%d objects hold\n%s\nwant\n%s", len(objects), got, want)
	}
}
