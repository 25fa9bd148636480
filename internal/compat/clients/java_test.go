package clients

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shardmill/shardmill/internal/awsapi"
	"github.com/shardmill/shardmill/internal/config"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
	"github.com/shardmill/shardmill/shards/kinesisapi"
)

// notInstalled says what is missing.
type notInstalled string

func (n notInstalled) Error() string { return string(n) }

// javaClasses compiles testdata/java once. It returns what java needs to run a class of it.
var javaClasses = sync.OnceValues(func() (classPath string, err error) {
	sdk, found := os.LookupEnv("SHARDMILL_JAVA_SDK")
	if !found {
		sdk = filepath.Join("..", "..", "..", ".bin", "java-sdk")
	}
	if sdk, err = filepath.Abs(sdk); err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(sdk, "jars.sha256")); err != nil {
		return "", notInstalled("the AWS SDK for Java is not in " + sdk + ": run scripts/install-java-sdk.sh")
	}
	if _, err := exec.LookPath("javac"); err != nil {
		return "", notInstalled("javac is not on the PATH")
	}
	sources, err := filepath.Glob("testdata/java/*.java")
	if err != nil {
		return "", err
	}
	if temporary, err = os.MkdirTemp("", "shardmill-java-"); err != nil {
		return "", err
	}
	jars := filepath.Join(sdk, "*")
	text, err := exec.Command("javac", append([]string{"-Xlint:all", "-Werror", "-proc:none", "-d", temporary, "-cp", jars}, sources...)...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("testdata/java does not compile: %w\n%s", err, text)
	}
	return temporary + string(os.PathListSeparator) + jars, nil
})

// temporary is the folder of compiled classes.
var temporary string

func TestMain(m *testing.M) {
	code := m.Run()
	if temporary != "" {
		os.RemoveAll(temporary)
	}
	os.Exit(code)
}

// java is the arguments that run a class with a short-lived JVM: what it runs once, it need not
// compile well.
func java(t *testing.T, class string, properties ...string) []string {
	t.Helper()
	if testing.Short() {
		t.Skip("runs a program for seconds")
	}
	classPath, err := javaClasses()
	var missing notInstalled
	if errors.As(err, &missing) {
		t.Skip(missing)
	}
	if err != nil {
		t.Fatal(err)
	}
	return append(append([]string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dfile.encoding=UTF-8"}, properties...), "-cp", classPath, class)
}

const (
	inJSON        = "application/x-amz-json-1.1"
	inCBOR        = "application/x-amz-cbor-1.1"
	inEventStream = inJSON + " answered with application/vnd.amazon.eventstream"
)

// checkWire compares what went over the wire, by the request's target, with what is expected.
func checkWire(t *testing.T, got map[string]string, protocol string, want map[string]string) {
	t.Helper()
	for _, target := range slices.Sorted(maps.Keys(got)) {
		encoding, found := want[target]
		if !found {
			encoding = inCBOR
		}
		if got[target] != encoding+" over "+protocol {
			t.Errorf("%s went as %s, want %s over %s", target, got[target], encoding, protocol)
		}
	}
	for target := range want {
		if got[target] == "" {
			t.Errorf("%s was never sent", target)
		}
	}
}

func TestJava(t *testing.T) {
	args := java(t, "Life")
	t.Parallel()
	var p struct {
		plan
		Expired string
	}
	data := t.TempDir()
	p.Expired = iteratorOf2000(t, data)
	h := newServerWith(t, func(c *config.Config) { c.Data = data })
	p.plan = newPlan("java")
	for i := len(p.Batch); i < 500; i++ {
		p.Batch = append(p.Batch, entry{fmt.Sprint("🗝", i), []byte{byte(i), 0xff, 0}[:i%4%3]}) // every second has no data
	}
	s := start(t, h.URL(), p, nil, "java", args...)
	var got struct {
		observed
		Created int64
		Errors  map[string]string
		Wire    map[string]string
	}
	s.next(t, &got)
	s.end(t)
	p.check(t, &got.observed, time.Millisecond)
	h.awaitDelivery(t, len(p.Lines))
	p.checkObjects(t, objectsOf(t, h.URL(), p.Bucket))

	stream, err := h.Streams.Get(shards.Scope{Account: "000000000000", Region: "us-east-1"}, p.Stream)
	if err != nil || stream.Created().UnixMilli() != got.Created {
		t.Errorf("the stream was created at %d ms to the client; the host knows it as %v, %v", got.Created, stream, err)
	}
	checkWire(t, got.Wire, "HTTP/1.1", map[string]string{
		"Firehose_20150804.CreateDeliveryStream": inJSON, "Firehose_20150804.DescribeDeliveryStream": inJSON,
		"Firehose_20150804.PutRecord": inJSON, "Firehose_20150804.PutRecordBatch": inJSON,
		"Kinesis_20131202.PutRecords": inCBOR, "Kinesis_20131202.GetRecords": inCBOR,
	})
	checkErrors(t, got.Errors)
}

// checkErrors checks errors as the client shows them: class, status, sentence.
func checkErrors(t *testing.T, got map[string]string) {
	t.Helper()
	want := map[string]string{
		"missing": "ResourceNotFoundException 400: Stream none under account 000000000000 not found.",
		"exists":  "ResourceInUseException 400: Stream stream-java under account 000000000000 already exists.",
		"name": "ValidationException 400: 2 validation errors detected: Value '0' at 'shardCount' failed to satisfy constraint: Member must have value greater than or equal to 1; " +
			"Value 'ströme & <more>' at 'streamName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z0-9_.-]+",
		"key":      "ValidationException 400: 1 validation error detected: Value '' at 'partitionKey' failed to satisfy constraint: Member must have length greater than or equal to 1",
		"entries":  "ValidationException 400: 1 validation error detected: Value null at 'records.1.member.partitionKey' failed to satisfy constraint: Member must not be null",
		"hash":     "InvalidArgumentException 400: Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was 340282366920938463463374607431768211456",
		"expired":  "ExpiredIteratorException 400: Iterator expired. The iterator was created at time Sat Jan 01 00:00:00 UTC 2000 while right now it is NOW which is further in the future than the tolerated delay of 300000 milliseconds.",
		"iterator": "InvalidArgumentException 400: Invalid ShardIterator.",
		"token":    "InvalidArgumentException 400: The NextToken is not one that ListStreamConsumers has given out for this stream.",
		"dry run":  "DryRunOperationException 400: The request would have succeeded, but DryRun was set.",
		"delivery": "ResourceNotFoundException 400: Firehose none under account 000000000000 not found.",
	}
	now := regexp.MustCompile(`is \w{3} \w{3} \d\d \d\d:\d\d:\d\d UTC 20\d\d which`)
	for what, sentence := range got {
		if sentence = now.ReplaceAllString(sentence, "is NOW which"); sentence != want[what] {
			t.Errorf("%s is refused with\n     %s\nwant %s", what, sentence, want[what])
		}
		delete(want, what)
	}
	for what := range want {
		t.Errorf("%s was not tried", what)
	}
}

// iteratorOf2000 makes a stream called "old" in the folder of a host, in the year 2000, where the
// clocks of synctest begin, and returns an iterator of then.
func iteratorOf2000(t *testing.T, dir string) (iterator string) {
	synctest.Test(t, func(t *testing.T) {
		store, err := journal.Open(dir, journal.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer store.Close()
		streams, err := shards.Open(t.Context(), store, shards.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer streams.Close()
		service, err := kinesisapi.New(t.Context(), streams, store.Meta(), kinesisapi.Options{})
		if err != nil {
			t.Fatal(err)
		}
		api := awsapi.NewMux(awsapi.Options{Account: "000000000000", Region: "us-east-1"}, service)
		call := func(operation, body string) string {
			r := httptest.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, "/", strings.NewReader(body))
			r.Header.Set("Content-Type", inJSON)
			r.Header.Set("X-Amz-Target", "Kinesis_20131202."+operation)
			w := httptest.NewRecorder()
			api.ServeHTTP(w, r)
			if w.Code != http.StatusOK {
				t.Fatalf("%s: %d %s", operation, w.Code, w.Body)
			}
			return w.Body.String()
		}
		call("CreateStream", `{"StreamName":"old","ShardCount":1}`)
		answer := call("GetShardIterator", `{"StreamName":"old","ShardId":"shardId-000000000000","ShardIteratorType":"TRIM_HORIZON"}`)
		iterator = strings.TrimSuffix(strings.TrimPrefix(answer, `{"ShardIterator":"`), `"}`)
	})
	return iterator
}

// Fan-out, over HTTP/2 without TLS and with it. With TLS, requests have to be signed as well.
func TestJavaFanOut(t *testing.T) {
	t.Run("plain", func(t *testing.T) {
		args := java(t, "FanOut")
		t.Parallel()
		h := newServer(t)
		fanOut(t, h.URL(), args, nil)
	})
	t.Run("TLS", func(t *testing.T) {
		args := java(t, "FanOut")
		t.Parallel()
		keys := filepath.Join(t.TempDir(), "keys.yaml")
		const secret = "a secret of the test"
		if err := os.WriteFile(keys, []byte("keys: [{access-key: AKIATEST, secret-key: "+secret+", account: \"000000000000\"}]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		h := newServerWith(t, func(c *config.Config) { c.TLS.Mode, c.Auth, c.KeyFile = "self", "keys", keys })
		url := "https" + strings.TrimPrefix(h.URL(), "http")
		fanOut(t, url, append(trusting(t, h.Authority.File), args...), []string{"AWS_ACCESS_KEY_ID=AKIATEST", "AWS_SECRET_ACCESS_KEY=" + secret})
	})
}

func fanOut(t *testing.T, url string, args, env []string) {
	t.Helper()
	s := start(t, url, map[string]string{"Stream": "fan-out", "ARN": "arn:aws:kinesis:us-east-1:000000000000:stream/fan-out"}, env, "java", args...)
	var got struct {
		Records int
		Wire    map[string]string
	}
	s.next(t, &got)
	s.end(t)
	if got.Records != 45 {
		t.Errorf("%d records were put, want 45", got.Records)
	}
	checkWire(t, got.Wire, "HTTP/2", map[string]string{"Kinesis_20131202.SubscribeToShard": inEventStream, "Kinesis_20131202.PutRecord": inCBOR})
}

// trusting makes a trust store as serve tells users to, and returns the JVM's arguments for it.
func trusting(t *testing.T, authority string) []string {
	t.Helper()
	store := filepath.Join(t.TempDir(), "trust.jks")
	text, err := exec.Command("keytool", "-importcert", "-noprompt", "-file", authority, "-keystore", store, "-storepass", "changeit").CombinedOutput()
	if err != nil {
		t.Fatalf("keytool: %v\n%s", err, text)
	}
	return []string{"-Djavax.net.ssl.trustStore=" + store, "-Djavax.net.ssl.trustStorePassword=changeit"}
}
