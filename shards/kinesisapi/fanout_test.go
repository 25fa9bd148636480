package kinesisapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/awsapi/eventstream"
)

func (h *host) register(t *testing.T, name string) (arn string) {
	t.Helper()
	var out struct{ Consumer struct{ ConsumerARN string } }
	h.call("RegisterStreamConsumer", `{"StreamARN":"`+arnOfS+`","ConsumerName":"`+name+`"}`).into(t, &out)
	return out.Consumer.ConsumerARN
}

func TestConsumersOfAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		h := open(t, fs)
		h.create(t, "s", 1)
		arn := h.register(t, "app")
		if arn != arnOfS+"/consumer/app:946684800" { // 2000-01-01, when the test's clock began
			t.Fatal(arn)
		}
		h.call("RegisterStreamConsumer", `{"StreamARN":"`+arnOfS+`","ConsumerName":"app"}`).refused(t, "ResourceInUseException", "Consumer app under stream s, account 000000000000 already exists.")
		h.close()
		h = open(t, fs)
		defer h.close()
		one := `{"ConsumerName":"app","ConsumerARN":"` + arn + `","ConsumerStatus":"ACTIVE","ConsumerCreationTimestamp":946684800`
		h.call("DescribeStreamConsumer", `{"ConsumerARN":"`+arn+`"}`).is(t, 200, `{"ConsumerDescription":`+one+`,"StreamARN":"`+arnOfS+`"}}`)
		h.call("DescribeStreamConsumer", `{"StreamARN":"`+arnOfS+`","ConsumerName":"none"}`).refused(t, notFoundName, "Consumer none under stream s, account 000000000000 not found.")
		h.call("DescribeStreamConsumer", `{"ConsumerName":"app"}`).refused(t, invalidArgument, "Either ConsumerARN or both StreamARN and ConsumerName should be provided.")
		h.call("ListStreamConsumers", `{"StreamARN":"`+arnOfS+`"}`).is(t, 200, `{"Consumers":[`+one+`}]}`)
		h.register(t, "b")
		h.register(t, "c")
		var page struct {
			Consumers []struct{ ConsumerName string }
			NextToken *string
		}
		h.call("ListStreamConsumers", `{"StreamARN":"`+arnOfS+`","MaxResults":2}`).into(t, &page)
		if len(page.Consumers) != 2 || page.NextToken == nil {
			t.Fatalf("%+v", page)
		}
		token := *page.NextToken
		page.NextToken = nil
		h.call("ListStreamConsumers", `{"StreamARN":"`+arnOfS+`","NextToken":"`+token+`"}`).into(t, &page)
		if len(page.Consumers) != 1 || page.Consumers[0].ConsumerName != "c" || page.NextToken != nil {
			t.Fatalf("%+v", page)
		}
		h.call("DeregisterStreamConsumer", `{"ConsumerARN":"`+arn+`"}`).is(t, 200, "")
		time.Sleep(time.Second)
		if again := h.register(t, "app"); again == arn {
			t.Fatal("a consumer that was registered again has its old ARN")
		}
		h.call("DescribeStreamConsumer", `{"ConsumerARN":"`+arn+`"}`).refused(t, notFoundName, "Consumer %s not found.", arn)
		h.call("DeleteStream", `{"StreamName":"s"}`).refused(t, "ResourceInUseException", "DeleteStream can't delete "+arnOfS+" because there are consumers associated with this data stream. "+
			"To delete s anyway, set the EnforceConsumerDeletion parameter to true to force the deletion of all the consumers that are associated with it.")
		h.call("DeleteStream", `{"StreamName":"s","EnforceConsumerDeletion":true}`).is(t, 200, "")
	})
}

// watcher is a subscription's answer as it grows, without a socket.
type watcher struct {
	header http.Header
	mu     sync.Mutex
	b      bytes.Buffer
	done   chan struct{}
}

func (w *watcher) Header() http.Header { return w.header }
func (w *watcher) WriteHeader(int)     {}
func (w *watcher) Flush()              {}
func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// text is what has come so far.
func (w *watcher) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.String()
}

// subscribe starts a subscription; ctx ends it as a client does that goes away.
func (h *host) subscribe(ctx context.Context, body string) *watcher {
	return h.subscribeIn(ctx, "application/x-amz-json-1.1", body)
}

func (h *host) subscribeIn(ctx context.Context, contentType, body string) *watcher {
	w := &watcher{header: make(http.Header), done: make(chan struct{})}
	r := httptest.NewRequest("POST", "/", strings.NewReader(body)).WithContext(ctx)
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("X-Amz-Target", "Kinesis_20131202.SubscribeToShard")
	go func() {
		defer close(w.done)
		h.api.ServeHTTP(w, r)
	}()
	time.Sleep(10 * time.Millisecond) // of the bubble's clock: the head waits a little
	return w
}

// messages are what has come so far: events as their records' data, the rest by its type.
func (w *watcher) messages(t *testing.T) (out []string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for rest := w.b.Bytes(); len(rest) > 0; {
		var m eventstream.Message
		var err error
		if m, rest, err = eventstream.Decode(rest); err != nil {
			t.Fatal(err)
		}
		if m.Header(":event-type") != "SubscribeToShardEvent" {
			out = append(out, m.Header(":event-type")+m.Header(":exception-type")+" "+string(m.Payload))
			continue
		}
		var e struct {
			Records                    []struct{ Data []byte }
			ContinuationSequenceNumber string
			ChildShards                []child
		}
		if err := json.Unmarshal(m.Payload, &e); err != nil || (e.ContinuationSequenceNumber == "") != (len(e.ChildShards) > 0) {
			t.Fatalf("%v %s", err, m.Payload)
		}
		if len(e.ChildShards) > 0 {
			out = append(out, fmt.Sprint("end ", e.ChildShards))
			continue
		}
		data := []string{}
		for _, r := range e.Records {
			data = append(data, string(r.Data))
		}
		out = append(out, "["+strings.Join(data, " ")+"]")
	}
	return out
}

func TestASubscriptionFromItsFirstEventToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		defer h.close()
		h.create(t, "s", 1)
		arn := h.register(t, "app")
		h.put(t, "s", 0, "a")
		w := h.subscribe(t.Context(), `{"ConsumerARN":"`+arn+`","ShardId":"shardId-000000000000","StartingPosition":{"Type":"TRIM_HORIZON"}}`)
		synctest.Wait()
		if got := fmt.Sprint(w.messages(t)); got != "[initial-response {} [a]]" {
			t.Fatal(got)
		}
		h.put(t, "s", 0, "b")
		synctest.Wait()
		if got := w.messages(t); len(got) != 3 || got[2] != "[b]" {
			t.Fatalf("a record was not pushed at once: %v", got)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if got := fmt.Sprint(w.messages(t)[3:]); got != "[[] []]" {
			t.Fatalf("heartbeats: %s", got)
		}
		time.Sleep(5 * time.Minute)
		<-w.done
		if last := w.messages(t); last[len(last)-1] != "[]" {
			t.Fatalf("the stream did not end in peace: %s", last[len(last)-1])
		}
	})
}

// The Java SDK, which sends everything else as CBOR, sends this as JSON; who sends CBOR is understood
// too. The events are JSON either way.
func TestASubscriptionThatIsAskedForInCBOR(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		defer h.close()
		h.create(t, "s", 1)
		h.put(t, "s", 0, "a")
		type position struct {
			Type      string
			Timestamp *awsapi.Timestamp
		}
		in := struct {
			ConsumerARN, ShardId string
			StartingPosition     position
		}{h.register(t, "app"), "shardId-000000000000", position{"AT_TIMESTAMP", new(awsapi.Timestamp)}}
		body, err := awsapi.EncodeCBOR(&in)
		if err != nil {
			t.Fatal(err)
		}
		w := h.subscribeIn(t.Context(), "application/x-amz-cbor-1.1", string(body))
		synctest.Wait()
		if got := fmt.Sprint(w.messages(t)); got != "[initial-response {} [a]]" || w.header.Get("Content-Type") != "application/vnd.amazon.eventstream" {
			t.Errorf("%s of %s", got, w.header.Get("Content-Type"))
		}
		name, message := h.callCBOR(t, "SubscribeToShard", &in, nil)
		if name != "ResourceInUseException" || message != "Another active subscription exists for this consumer: "+in.ConsumerARN {
			t.Errorf("a second one: %s %s", name, message)
		}
	})
}

func TestASubscriptionIsTakenOverAfterFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		defer h.close()
		h.create(t, "s", 2)
		arn := h.register(t, "app")
		body := `{"ConsumerARN":"` + arn + `","ShardId":"shardId-000000000001","StartingPosition":{"Type":"LATEST"}}`
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		first := h.subscribe(ctx, body)
		synctest.Wait()
		h.call("SubscribeToShard", body).refused(t, "ResourceInUseException", "Another active subscription exists for this consumer: %s", arn)
		other := h.subscribe(ctx, strings.Replace(body, "0001", "0000", 1)) // another shard is another subscription
		time.Sleep(5 * time.Second)
		second := h.subscribe(ctx, body)
		<-first.done
		if got := first.messages(t); !strings.HasPrefix(got[len(got)-1], "ResourceInUseException ") {
			t.Fatalf("the old subscription ended with %v", got)
		}
		h.call("DeregisterStreamConsumer", `{"ConsumerARN":"`+arn+`"}`).is(t, 200, "")
		for _, w := range []*watcher{second, other} {
			<-w.done
			if got := w.messages(t); !strings.HasPrefix(got[len(got)-1], "ResourceNotFoundException ") {
				t.Fatalf("after the consumer was deregistered: %v", got)
			}
		}
	})
}

func TestASubscriptionOfADeletedStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		defer h.close()
		h.create(t, "s", 1)
		w := h.subscribe(t.Context(), `{"ConsumerARN":"`+h.register(t, "app")+`","ShardId":"0","StartingPosition":{"Type":"LATEST"}}`)
		synctest.Wait()
		h.call("DeleteStream", `{"StreamName":"s","EnforceConsumerDeletion":true}`).is(t, 200, "")
		<-w.done
		if got := w.messages(t); !strings.HasPrefix(got[len(got)-1], "ResourceNotFoundException ") {
			t.Fatalf("%v", got)
		}
	})
}

// A client that goes away frees its subscription at once; the position it was told goes on where it
// stopped, with AT and with AFTER.
func TestASubscriptionIsContinuedWithoutGapOrDouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		defer h.close()
		h.create(t, "s", 1)
		arn := h.register(t, "app")
		start := `"Type":"TRIM_HORIZON"`
		var got []string
		for i := range 6 {
			h.put(t, "s", 0, fmt.Sprint("r", i))
			ctx, cancel := context.WithCancel(t.Context())
			w := h.subscribe(ctx, `{"ConsumerARN":"`+arn+`","ShardId":"0","StartingPosition":{`+start+`}}`)
			synctest.Wait()
			cancel()
			<-w.done
			got = append(got, w.messages(t)[1:]...)
			kind := []string{"AT", "AFTER"}[i%2]
			start = `"Type":"` + kind + `_SEQUENCE_NUMBER","SequenceNumber":"` + w.continuation(t) + `"`
			time.Sleep(5 * time.Second)
		}
		if fmt.Sprint(got) != "[[r0] [r1] [r2] [r3] [r4] [r5]]" {
			t.Fatal(got)
		}
	})
}

// continuation is the last event's ContinuationSequenceNumber.
func (w *watcher) continuation(t *testing.T) string {
	b := w.text()
	_, last, ok := strings.Cut(b[strings.LastIndex(b, `"ContinuationSequenceNumber":`):], `:"`)
	if !ok {
		t.Fatal(b)
	}
	number, _, _ := strings.Cut(last, `"`)
	return number
}

// The real client of the Go SDK, over a socket.
func TestTheGoSDKSubscribes(t *testing.T) {
	h := open(t, vfs.NewMem())
	server := httptest.NewServer(h.api)
	defer server.Close()
	c := kinesis.New(kinesis.Options{Region: "us-east-1", BaseEndpoint: &server.URL, RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "any", SecretAccessKey: "any"}, nil
		})})
	h.create(t, "s", 1)
	shard := "shardId-000000000000"
	r, err := c.RegisterStreamConsumer(t.Context(), &kinesis.RegisterStreamConsumerInput{StreamARN: aws.String(arnOfS), ConsumerName: aws.String("app")})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := c.SubscribeToShard(t.Context(), &kinesis.SubscribeToShardInput{ConsumerARN: r.Consumer.ConsumerARN, ShardId: &shard,
		StartingPosition: &types.StartingPosition{Type: types.ShardIteratorTypeTrimHorizon}})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.GetStream().Close()
	for i := range 50 {
		h.put(t, "s", 0, fmt.Sprint("r", i))
	}
	var got []string
	for e := range sub.GetStream().Events() {
		for _, r := range e.(*types.SubscribeToShardEventStreamMemberSubscribeToShardEvent).Value.Records {
			got = append(got, string(r.Data))
		}
		if len(got) == 50 {
			break
		}
	}
	for i, d := range got {
		if d != fmt.Sprint("r", i) {
			t.Fatalf("record %d is %s", i, d)
		}
	}
	if len(got) != 50 {
		t.Fatalf("%d records: %v", len(got), sub.GetStream().Err())
	}
}
