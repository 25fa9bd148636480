package host

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsfirehose "github.com/aws/aws-sdk-go-v2/service/firehose"
	"github.com/aws/aws-sdk-go-v2/service/firehose/types"
	"github.com/rs/zerolog"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/internal/config"
	"github.com/shardmill/shardmill/plugins"
	"github.com/shardmill/shardmill/runtime/wasm"
)

var builtDir string // of the functions that tests build

func TestMain(m *testing.M) {
	wasm.WorkerMain()
	var err error
	if builtDir, err = os.MkdirTemp("", "shardmill-host-test-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(builtDir)
	os.Exit(code)
}

const module = "github.com/shardmill/shardmill/"

var (
	regions      = sync.OnceValues(func() ([]byte, error) { return build("regions", module+"examples/earthquakes/regions") })
	guestHandler = sync.OnceValues(func() ([]byte, error) { return build("guest", module+"internal/host/testdata/guest") })
	guestModule  = sync.OnceValues(func() ([]byte, error) {
		return build("guest.wasm", module+"internal/host/testdata/guest", "GOOS=wasip1", "GOARCH=wasm")
	})
)

func build(name, pkg string, environ ...string) ([]byte, error) {
	out := filepath.Join(builtDir, name)
	cmd := exec.Command("go", "build", "-tags", "lambda.norpc", "-ldflags", "-s -w", "-buildvcs=false", "-o", out, pkg)
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), environ...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, text)
	}
	return os.ReadFile(out)
}

// built is the content of a function that the test has built.
func built(t testing.TB, once func() ([]byte, error)) []byte {
	t.Helper()
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("needs the go tool, to build a function")
	}
	b, err := once()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// world is a running host and a client of it.
type world struct {
	t    testing.TB
	cfg  config.Config
	host *Host
	api  *awsfirehose.Client
	log  *logText

	mu        sync.Mutex
	delivered map[string]firehose.Delivered // sums by delivery stream
}

// logText is a host's log.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newConfig(t testing.TB) config.Config {
	data := t.TempDir()
	return config.Config{Listen: "127.0.0.1:0", Data: data, Plugins: filepath.Join(data, "plugins"), Region: "us-east-1", Account: "000000000000", Concurrency: 2}
}

func open(t testing.TB, adjust ...func(*config.Config)) *world {
	t.Helper()
	w := &world{t: t, cfg: newConfig(t), log: &logText{}, delivered: make(map[string]firehose.Delivered)}
	for _, fn := range adjust {
		fn(&w.cfg)
	}
	var err error
	if w.host, err = Open(t.Context(), w.cfg, zerolog.New(w.log).Level(zerolog.InfoLevel), Observer{Delivered: w.note}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	w.api = awsfirehose.New(awsfirehose.Options{Region: "us-east-1", BaseEndpoint: aws.String(w.host.URL()), RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "any", SecretAccessKey: "any"}, nil
		})})
	return w
}

// close is called once, at the end at the latest.
func (w *world) close() {
	if w.host == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := w.host.Close(ctx); err != nil {
		w.t.Error("the host did not close in peace:", err)
	}
	w.host = nil
	if w.t.Failed() {
		text := w.log.String()
		w.t.Logf("the end of the host's log:\n%s", text[max(0, len(text)-4000):])
	}
}

func (w *world) note(stream string, what firehose.Delivered) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := w.delivered[stream]
	sum.Records += what.Records
	sum.Ok += what.Ok
	sum.Dropped += what.Dropped
	sum.Failed += what.Failed
	w.delivered[stream] = sum
}

func (w *world) sum(stream string) firehose.Delivered {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.delivered[stream]
}

// awaitDelivered waits until n records of the delivery stream have an outcome.
func (w *world) awaitDelivered(stream string, n int) firehose.Delivered {
	w.t.Helper()
	within(w.t, 30*time.Second, fmt.Sprintf("%d records of %s", n, stream), func() bool { return w.sum(stream).Records >= n })
	return w.sum(stream)
}

// within polls until ok, for what nobody tells.
func within(t testing.TB, limit time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !ok() {
		if time.Since(start) > limit {
			t.Fatalf("no %s within %s", what, limit)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return time.Since(start)
}

// create makes a delivery stream of direct puts with interval 0 through a function: data objects
// under NAME/, error objects under errors/NAME/.
func (w *world) create(name, function string, retries int) {
	w.t.Helper()
	parameter := func(name, value string) types.ProcessorParameter {
		return types.ProcessorParameter{ParameterName: types.ProcessorParameterName(name), ParameterValue: &value}
	}
	_, err := w.api.CreateDeliveryStream(w.t.Context(), &awsfirehose.CreateDeliveryStreamInput{DeliveryStreamName: &name,
		ExtendedS3DestinationConfiguration: &types.ExtendedS3DestinationConfiguration{
			RoleARN: aws.String("arn:aws:iam::000000000000:role/firehose"), BucketARN: aws.String("arn:aws:s3:::bucket"),
			Prefix: aws.String(name + "/"), ErrorOutputPrefix: aws.String("errors/" + name + "/!{firehose:error-output-type}/"),
			BufferingHints: &types.BufferingHints{SizeInMBs: aws.Int32(1), IntervalInSeconds: aws.Int32(0)},
			ProcessingConfiguration: &types.ProcessingConfiguration{Enabled: aws.Bool(true), Processors: []types.Processor{{Type: "Lambda",
				Parameters: []types.ProcessorParameter{parameter("LambdaArn", "arn:aws:lambda:us-east-1:000000000000:function:"+function), parameter("NumberOfRetries", fmt.Sprint(retries))}}}},
		}})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) put(ctx context.Context, stream string, data []byte) error {
	_, err := w.api.PutRecord(ctx, &awsfirehose.PutRecordInput{DeliveryStreamName: &stream, Record: &types.Record{Data: data}})
	return err
}

// event is a record that every function of the tests takes.
func event(id string) []byte {
	return fmt.Appendf(nil, `{"id": %q, "mag": 4.5, "place": "5km N of Somewhere, Alaska"}`+"\n", id)
}

// putOne puts one record and waits for its outcome.
func (w *world) putOne(stream, id string) firehose.Delivered {
	w.t.Helper()
	before := w.sum(stream)
	if err := w.put(w.t.Context(), stream, event(id)); err != nil {
		w.t.Fatal(err)
	}
	after := w.awaitDelivered(stream, before.Records+1)
	return firehose.Delivered{Records: after.Records - before.Records, Ok: after.Ok - before.Ok, Dropped: after.Dropped - before.Dropped, Failed: after.Failed - before.Failed}
}

var oneOk, oneFailed = firehose.Delivered{Records: 1, Ok: 1}, firehose.Delivered{Records: 1, Failed: 1}

// drop puts a plugin file in place at once: written aside, then renamed.
func (w *world) drop(file string, content []byte) {
	w.t.Helper()
	aside := filepath.Join(w.cfg.Plugins, "."+file)
	if err := os.WriteFile(aside, content, 0o755); err != nil {
		w.t.Fatal(err)
	}
	if err := os.Rename(aside, filepath.Join(w.cfg.Plugins, file)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) function(name string) plugins.Info {
	for _, f := range w.host.Functions.List() {
		if f.Name == name {
			return f
		}
	}
	return plugins.Info{}
}

// awaitActive waits until a version other than old serves, and returns it and how long that took.
func (w *world) awaitActive(name, old string) (version string, took time.Duration) {
	w.t.Helper()
	took = within(w.t, 60*time.Second, "new version of "+name, func() bool {
		f := w.function(name)
		if f.Reason != "" {
			w.t.Fatalf("%s was refused: %s", name, f.Reason)
		}
		return f.State == plugins.Active && f.Version != old
	})
	return w.function(name).Version, took
}

// lines reads all objects under a prefix as lines of JSON.
func lines[T any](w *world, prefix string) (out []T) {
	w.t.Helper()
	err := filepath.WalkDir(filepath.Join(w.cfg.Data, "objects", "bucket", prefix), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // no object, no folder
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		for r := bufio.NewReader(f); ; {
			line, err := r.ReadBytes('\n')
			if err == io.EOF && len(line) == 0 {
				return nil
			}
			var v T
			if err := json.Unmarshal(line, &v); err != nil {
				return fmt.Errorf("%s: %.200q: %w", path, line, err)
			}
			out = append(out, v)
		}
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// errorRecord is a line of the error output.
type errorRecord struct {
	RawData      []byte `json:"rawData"`
	Code         string `json:"errorCode"`
	AttemptsMade int    `json:"attemptsMade"`
	Arrived      int64  `json:"arrivalTimestamp"`
	LambdaARN    string `json:"lambdaARN"`
}

func (w *world) failed(stream string) []errorRecord {
	w.t.Helper()
	return lines[errorRecord](w, "errors/"+stream+"/processing-failed")
}

// ids counts the delivered records by id.
func (w *world) ids(stream string) map[string]int {
	w.t.Helper()
	found := make(map[string]int)
	for _, r := range lines[struct{ ID string }](w, stream) {
		found[r.ID]++
	}
	return found
}

// load puts records into a delivery stream without a pause until stop, which returns the ids that
// were acknowledged.
func (w *world) load(stream string, writers int) (stop func() []string) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var wg sync.WaitGroup
	acked := make([][]string, writers)
	for i := range writers {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("w%d-%06d", i, n)
				if err := w.put(context.WithoutCancel(ctx), stream, event(id)); err != nil {
					w.t.Errorf("put under load: %v", err)
					return
				}
				acked[i] = append(acked[i], id)
			}
		})
	}
	return func() []string {
		cancel()
		wg.Wait()
		return slices.Concat(acked...)
	}
}

// exactlyOnce fails unless found is want, each once.
func exactlyOnce(t testing.TB, want []string, found map[string]int) {
	t.Helper()
	for _, id := range want {
		if found[id] != 1 {
			t.Errorf("record %s was delivered %d times, want once", id, found[id])
		}
		delete(found, id)
	}
	for _, id := range slices.Sorted(maps.Keys(found)) {
		t.Errorf("record %s was delivered but never acknowledged", id)
	}
}

// processes counts the processes whose command line has the text.
func processes(t testing.TB, text string) (found []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		b, err := os.ReadFile(p)
		if line := string(bytes.ReplaceAll(b, []byte{0}, []byte{' '})); err == nil && strings.Contains(line, text) {
			found = append(found, p+": "+strings.TrimSpace(line))
		}
	}
	return found
}
