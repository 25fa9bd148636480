package host

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"

	"github.com/shardmill/shardmill/internal/config"
	"github.com/shardmill/shardmill/internal/sigv4"
	"github.com/shardmill/shardmill/plugins"
	"github.com/shardmill/shardmill/plugins/pluginsapi"
	"github.com/shardmill/shardmill/runtime"
)

func needs(t testing.TB, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skip("needs " + p)
		}
	}
}

// invoke runs a function of the host.
func (w *world) invoke(name, id, payload string) runtime.Result {
	w.t.Helper()
	fn, release, err := w.host.Functions.Function(name)
	if err != nil {
		w.t.Fatal(err)
	}
	defer release()
	res, err := fn.Invoke(w.t.Context(), runtime.Invocation{RequestID: id, Payload: []byte(payload)})
	if err != nil {
		w.t.Fatal(err)
	}
	return res
}

// withKeys is a host that verifies, with a key of its own account and one of another.
func withKeys(t *testing.T) *world {
	t.Helper()
	file := filepath.Join(t.TempDir(), "keys.yaml")
	err := os.WriteFile(file, []byte(`keys:
  - {access-key: AKIDALICE000000001, secret-key: alice-alice-alice-alice, account: "000000000000"}
  - {access-key: AKIDBOB00000000002, secret-key: bob-bob-bob-bob-bob-bob, account: "222222222222"}
`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return open(t, func(c *config.Config) { c.Auth, c.KeyFile = "keys", file })
}

// A Python handler calls the host back with boto3 and the credentials that it was given, on a host
// that verifies every request. When its version is gone, so are its credentials.
func TestAHandlersOwnCallsAreSigned(t *testing.T) {
	needs(t, "python3")
	if exec.Command("python3", "-c", "import boto3").Run() != nil {
		t.Skip("needs boto3")
	}
	w := withKeys(t)
	alice := caller(w, "AKIDALICE000000001", "alice-alice-alice-alice")
	if _, err := alice.CreateStream(t.Context(), &kinesis.CreateStreamInput{StreamName: aws.String("out"), ShardCount: aws.Int32(1)}); err != nil {
		t.Fatal(err)
	}
	w.drop("forward.yaml", []byte("timeout: 30s\ninit-timeout: 30s\n"))
	w.drop("forward.py", []byte(`
import boto3, os
kinesis = boto3.client("kinesis")
def lambda_handler(event, context):
    put = kinesis.put_record(StreamName="out", PartitionKey="k", Data=event["data"].encode())
    return {"shard": put["ShardId"], "key": os.environ["AWS_ACCESS_KEY_ID"], "secret": os.environ["AWS_SECRET_ACCESS_KEY"], "token": os.environ["AWS_SESSION_TOKEN"]}
`))
	w.awaitActive("forward", "")
	res := w.invoke("forward", "r-1", `{"data": "from the handler"}`)
	var got struct{ Shard, Key, Secret, Token string }
	if err := json.Unmarshal(res.Payload, &got); err != nil || got.Shard != "shardId-000000000000" || !strings.HasPrefix(got.Key, "ASIA") {
		t.Fatalf("the handler answers %s", res.Payload)
	}
	it, err := alice.GetShardIterator(t.Context(), &kinesis.GetShardIteratorInput{StreamName: aws.String("out"), ShardId: &got.Shard, ShardIteratorType: types.ShardIteratorTypeTrimHorizon})
	if err != nil {
		t.Fatal(err)
	}
	records, err := alice.GetRecords(t.Context(), &kinesis.GetRecordsInput{ShardIterator: it.ShardIterator})
	if err != nil || len(records.Records) != 1 || string(records.Records[0].Data) != "from the handler" {
		t.Fatalf("the stream has %+v, %v", records, err)
	}

	keys := sigv4.Credentials{AccessKey: got.Key, SecretKey: got.Secret, SessionToken: got.Token}
	if status, body := w.pluginPage(t, "", &keys); status != http.StatusForbidden {
		t.Errorf("a function's key reads the pages about plugins: %d %s", status, body)
	}
	if _, found := w.host.callers().Lookup(got.Key); !found {
		t.Error("the key is not known while the function serves")
	}
	if err := os.Remove(filepath.Join(w.cfg.Plugins, "forward.py")); err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "end of the key", func() bool { _, found := w.host.callers().Lookup(got.Key); return !found })
}

// pluginPage asks for a page about plugins, signed if there are keys.
func (w *world) pluginPage(t *testing.T, path string, keys *sigv4.Credentials) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", w.host.URL()+pluginsapi.Path+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if keys != nil {
		sigv4.Sign(req, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", *keys, "us-east-1", pluginsapi.Service, time.Now())
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func TestPagesAboutPluginsAreForTheAccountsKeys(t *testing.T) {
	w := withKeys(t)
	for name, c := range map[string]struct {
		keys *sigv4.Credentials
		want int
	}{
		"nobody":         {nil, 403},
		"wrong secret":   {&sigv4.Credentials{AccessKey: "AKIDALICE000000001", SecretKey: "a wrong secret, long enough"}, 403},
		"other account":  {&sigv4.Credentials{AccessKey: "AKIDBOB00000000002", SecretKey: "bob-bob-bob-bob-bob-bob"}, 403},
		"of the account": {&sigv4.Credentials{AccessKey: "AKIDALICE000000001", SecretKey: "alice-alice-alice-alice"}, 200},
	} {
		for _, path := range []string{"", "/x/logs?lines=1"} {
			want := c.want
			if path != "" && want == 200 {
				want = 404 // there is no function x
			}
			if status, body := w.pluginPage(t, path, c.keys); status != want {
				t.Errorf("%s, %q: %d %s", name, path, status, body)
			}
		}
	}
}

// One function of each language, as a file, with what it wrote in its log.
func TestFunctionLogs(t *testing.T) {
	needs(t, "node")
	w := open(t)
	w.drop("hello.yaml", []byte("concurrency: 1"))
	w.drop("hello.mjs", []byte("export const handler = async (event) => { console.log('hello', event.who); return 'hi'; };"))
	w.awaitActive("hello", "")
	for _, id := range []string{"r-1", "r-2"} {
		if res := w.invoke("hello", id, `{"who":"me"}`); string(res.Payload) != `"hi"` {
			t.Fatalf("hello answers %s", res.Payload)
		}
	}
	const stamp, report = `\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z`, `Duration: [\d.]+ ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\tMax Memory Used: [1-9]\d* MB`
	var want strings.Builder
	for _, id := range []string{"r-1", "r-2"} {
		init := ""
		if id == "r-1" {
			init = `\tInit Duration: [\d.]+ ms`
		}
		want.WriteString(stamp + "\t" + id + "\tSTART RequestId: " + id + ` Version: \$LATEST` + "\n" +
			stamp + "\t" + id + "\t" + stamp + "\t" + id + "\tINFO\thello me\n" +
			stamp + "\t" + id + "\tEND RequestId: " + id + "\n" +
			stamp + "\t" + id + "\tREPORT RequestId: " + id + `\t` + report + init + "\n")
	}
	form := regexp.MustCompile("^" + want.String() + "$")
	var body string
	within(t, 10*time.Second, "log", func() bool {
		_, body = w.pluginPage(t, "/hello/logs", nil)
		return strings.Count(body, "REPORT") == 2
	})
	if !form.MatchString(body) {
		t.Errorf("the log is\n%s", body)
	}
	if _, last := w.pluginPage(t, "/hello/logs?lines=1", nil); !strings.HasSuffix(body, last) || strings.Count(last, "\n") != 1 {
		t.Errorf("the last line is %q", last)
	}
	status, list := w.pluginPage(t, "", nil)
	var all pluginsapi.List
	if err := json.Unmarshal([]byte(list), &all); status != 200 || err != nil || len(all.Plugins) != 1 {
		t.Fatalf("%d %s", status, list)
	}
	version := w.function("hello").Version
	if wantOne := (pluginsapi.Plugin{Name: "hello", ARN: "arn:aws:lambda:us-east-1:000000000000:function:hello", State: "Active", Version: version,
		Runtime: "nodejs", MemoryMiB: 128, TimeoutMs: 60000, Concurrency: 1}); all.Plugins[0] != wantOne {
		t.Errorf("got  %+v\nwant %+v", all.Plugins[0], wantOne)
	}
}

// Who follows a log gets lines as they come, and does not hold up the end of the host.
func TestALogIsFollowed(t *testing.T) {
	needs(t, "python3")
	w := open(t)
	w.drop("hello.yaml", []byte("concurrency: 1"))
	w.drop("hello.py", []byte("def handler(event, context): print('hello', event)"))
	w.awaitActive("hello", "")
	res, err := http.Get(w.host.URL() + pluginsapi.Path + "/hello/logs?follow=true")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	in := bufio.NewReader(res.Body)
	for i := range 3 {
		w.invoke("hello", fmt.Sprint("r-", i), fmt.Sprint(i))
		for _, want := range []string{"START", fmt.Sprint("hello ", i), "END", "REPORT"} {
			if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, fmt.Sprint("\tr-", i, "\t", want)) {
				t.Fatalf("line %q, %v; want %s of invocation %d", line, err, want, i)
			}
		}
	}
	begun := time.Now()
	w.close()
	if rest, err := io.ReadAll(in); err != nil || len(rest) > 0 {
		t.Errorf("at the end %q, %v", rest, err)
	}
	if took := time.Since(begun); took > requestTime {
		t.Errorf("the host took %s to close", took)
	}
}

// A Firehose transform by handlers of every language, unmodified.
func TestTransformsInEveryLanguage(t *testing.T) {
	needs(t, "node", "python3")
	t.Parallel()
	w := open(t)
	w.drop("node.js", []byte(`
exports.handler = (event, context, callback) => callback(null, { records: event.records.map((r) => {
  const data = JSON.parse(Buffer.from(r.data, 'base64').toString()); data.by = 'node';
  return { recordId: r.recordId, result: 'Ok', data: Buffer.from(JSON.stringify(data) + '\n').toString('base64') };
}) });`))
	w.drop("python.py", []byte(`
import base64, json
def lambda_handler(event, context):
    out = []
    for r in event["records"]:
        data = json.loads(base64.b64decode(r["data"])); data["by"] = "python"
        out.append({"recordId": r["recordId"], "result": "Ok", "data": base64.b64encode((json.dumps(data) + "\n").encode()).decode()})
    return {"records": out}
`))
	for _, name := range []string{"node", "python"} {
		w.awaitActive(name, "")
		w.create(name, name, 0)
		if got := w.putOne(name, "x"); got != oneOk {
			t.Errorf("%s: %+v, want one record delivered", name, got)
			continue
		}
		got := lines[struct{ ID, By string }](w, name)
		if len(got) != 1 || got[0].ID != "x" || got[0].By != name {
			t.Errorf("%s: delivered %+v", name, got)
		}
	}
	if f := w.function("node"); f.State != plugins.Active {
		t.Errorf("%+v", f)
	}
}
