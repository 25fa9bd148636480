package lambda

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

func TestNextCarriesTheDocumentedHeaders(t *testing.T) {
	p := newPuppet(t, runtime.Limits{})
	poll := p.ready()
	begun := time.Now()
	result := p.invoke("r-1", `{"a":1}`)
	got := <-poll
	if got.status != 200 || got.body != `{"a":1}` {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	for name, want := range map[string]string{"Lambda-Runtime-Aws-Request-Id": "r-1", "Content-Type": "application/json", "Content-Length": "7",
		"Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:eu-west-1:123456789012:function:f"} {
		if got.header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, got.header.Get(name), want)
		}
	}
	var ms int64
	fmt.Sscan(got.header.Get("Lambda-Runtime-Deadline-Ms"), &ms)
	if d := time.UnixMilli(ms).Sub(begun); d < 59*time.Second || d > 61*time.Second {
		t.Errorf("the deadline is %v away, want the 60 s of the default timeout", d)
	}
	var sec uint32
	var root, parent string
	if n, _ := fmt.Sscanf(got.header.Get("Lambda-Runtime-Trace-Id"), "Root=1-%08x-%24s;Parent=%16s;Sampled=0", &sec, &root, &parent); n != 3 {
		t.Errorf("trace id %q", got.header.Get("Lambda-Runtime-Trace-Id"))
	}
	attempt := got.header.Get("Lambda-Runtime-Invocation-Id")
	p.refused(p.do("POST", answerPath("r-1"), "x", "Lambda-Runtime-Invocation-Id", "another"), 400, "InvalidInvocationId")
	p.accepted(p.do("POST", answerPath("r-1"), "x", "Lambda-Runtime-Invocation-Id", attempt))
	if res := <-result; string(res.Payload) != "x" || res.FunctionError != "" {
		t.Errorf("result %s, %q", res.Payload, res.FunctionError)
	}
}

func TestRequestsOutOfOrderAreRefused(t *testing.T) {
	p := newPuppet(t, runtime.Limits{Concurrency: 1})
	p.refused(p.do("POST", answerPath("r-1"), "x"), 403, "InvalidStateTransition") // before any next
	result := p.running("r-1")
	p.refused(p.do("GET", next, ""), 403, "InvalidStateTransition") // while it works
	p.refused(p.do("POST", "/2018-06-01/runtime/init/error", "{}"), 403, "InvalidStateTransition")
	p.refused(p.do("POST", answerPath("r-2"), "x"), 400, "InvalidRequestID")
	p.refused(p.do("POST", errorPath("r-2"), "x"), 400, "InvalidRequestID")
	p.accepted(p.do("POST", answerPath("r-1"), "x"))
	p.refused(p.do("POST", answerPath("r-1"), "y"), 400, "InvalidRequestID") // repeated
	p.refused(p.do("POST", errorPath("r-1"), "y"), 400, "InvalidRequestID")
	if res := <-result; string(res.Payload) != "x" {
		t.Errorf("result %s", res.Payload)
	}
	poll := p.next()
	result = p.invoke("r-2", `{}`)
	<-poll
	p.refused(p.do("POST", answerPath("r-1"), "late"), 400, "InvalidRequestID")
	p.accepted(p.do("POST", answerPath("r-2"), "z"))
	if res := <-result; string(res.Payload) != "z" {
		t.Errorf("result %s", res.Payload)
	}
}

func TestUnknownPathsGetAnErrorDocument(t *testing.T) {
	p := newPuppet(t, runtime.Limits{})
	for _, r := range []string{"GET /2018-06-01/runtime/restore/next", "POST /2018-06-01/runtime/restore/error", "GET /", "POST " + next,
		"GET " + answerPath("r"), "POST /2018-06-01/runtime/invocation/", "POST /2018-06-01/runtime/invocation/r/response/more",
		"DELETE //2018-06-01//runtime/invocation/next", "GET /2018-06-01/runtime/../runtime/invocation/next"} {
		method, path, _ := strings.Cut(r, " ")
		p.refused(p.do(method, path, ""), 404, "NotFound")
	}
	if got := p.do("GET", "/2018-06-01/ping", ""); got.status != 200 || got.body != "pong" {
		t.Errorf("ping: %d %s", got.status, got.body)
	}
	if got := p.do("PUT", "/2020-08-15/logs", "{}"); got.status != 202 || got.body != `{"errorMessage":"Logs API is not supported","errorType":"Logs.NotSupported"}` {
		t.Errorf("logs: %d %s", got.status, got.body)
	}
	if got := p.do("PUT", "/2022-07-01/telemetry", "{}"); got.status != 202 || got.body != `{"errorMessage":"Telemetry API is not supported","errorType":"Telemetry.NotSupported"}` {
		t.Errorf("telemetry: %d %s", got.status, got.body)
	}
}

func TestInitErrorsFailTheLoad(t *testing.T) {
	p := newPuppet(t, runtime.Limits{})
	p.accepted(p.do("POST", "/2018-06-01/runtime/init/error", `{"errorMessage":"No module named 'numpy'","errorType":"Runtime.ImportModuleError","requestId":"","stackTrace":[]}`))
	err := <-p.load
	if want := "the bootstrap of function f failed to start: Runtime.ImportModuleError: No module named 'numpy'; its last output: API "; !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v\nwant %s", err, want)
	}
	p.rec.waitEnd(t, "init: error")
}

func TestALoadWhoseCallerGivesUpEndsTheProcess(t *testing.T) {
	var rec recorder
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := New(Options{Dir: t.TempDir(), Events: rec.events()}).Load(ctx, artifact(root(t), map[string]string{"INIT": "hang"}), runtime.Limits{})
	if !errs.Is(err, errs.Unavailable) {
		t.Errorf("err = %v, want Unavailable", err)
	}
	rec.waitEnd(t, "init: cancelled")
}

func TestExtensionRegistration(t *testing.T) {
	p := newPuppet(t, runtime.Limits{})
	const register, name = "/2020-01-01/extension/register", "Lambda-Extension-Name"
	p.refused(p.do("POST", register, `{"events":[]}`), 403, "Extension.InvalidExtensionName")
	p.refused(p.do("POST", register, `{"events":["SHUTDOWN"]}`, name, "x"), 403, "Extension.InvalidEventType")
	p.refused(p.do("POST", register, `{"events":["RESTORE"]}`, name, "x"), 403, "Extension.InvalidEventType")
	p.refused(p.do("POST", register, `{"events":7}`, name, "x"), 400, "InvalidRequestFormat")
	got := p.do("POST", register, `{"events":[]}`, name, "x0", "Lambda-Extension-Accept-Feature", "accountId")
	if got.status != 200 || got.body != `{"accountId":"123456789012","functionName":"f","functionVersion":"$LATEST","handler":"bootstrap"}` || len(got.header.Get("Lambda-Extension-Identifier")) != 36 {
		t.Errorf("got %d %s %q", got.status, got.body, got.header)
	}
	p.refused(p.do("POST", register, ``, name, "x0"), 403, "Extension.InvalidExtensionName") // taken
	for i := 1; i < 10; i++ {
		if got := p.do("POST", register, `{"events":null}`, name, fmt.Sprint("x", i)); got.status != 200 {
			t.Errorf("extension %d: %d %s", i, got.status, got.body)
		}
	}
	p.refused(p.do("POST", register, ``, name, "x10"), 403, "Extension.TooManyExtensions")
	p.refused(p.do("GET", "/2020-01-01/extension/event/next", "", "Lambda-Extension-Identifier", "?"), 403, "Extension.UnknownExtensionIdentifier")
	p.ready()
	p.refused(p.do("POST", register, ``, name, "late"), 403, "Extension.RegistrationClosed")
}

func TestErrorTypesComeFromTheHeaderIfThereIsOne(t *testing.T) {
	const header = "Lambda-Runtime-Function-Error-Type"
	for _, c := range []struct{ header, body, want string }{
		{"Function.Broken", `{"errorType":"Other"}`, "Function.Broken"},
		{"Function.x y", `{}`, "Function.Unknown"},
		{"whatever", `{}`, "Runtime.Unknown"},
		{"", `{"errorType":"Mine","errorMessage":"m"}`, "Mine"},
		{"", `no JSON`, "Function.Error"},
		{"", ``, "Function.Error"},
	} {
		p := newPuppet(t, runtime.Limits{})
		result := p.running("r-1")
		p.accepted(p.do("POST", errorPath("r-1"), c.body, header, c.header))
		if res := <-result; res.ErrorType != c.want || res.FunctionError != "Unhandled" || string(res.Payload) != c.body {
			t.Errorf("header %q, body %s: %q, %q, %s; want %s", c.header, c.body, res.ErrorType, res.FunctionError, res.Payload, c.want)
		}
	}
}

func TestResponseModes(t *testing.T) {
	const mode = "Lambda-Runtime-Function-Response-Mode"
	p := newPuppet(t, runtime.Limits{})
	result := p.running("r-1")
	p.refused(p.do("POST", answerPath("r-1"), "x", mode, "carrier pigeon"), 400, "Runtime.InvalidResponseModeHeader")
	if res := <-result; res.ErrorType != "Runtime.InvalidResponseModeHeader" || res.FunctionError != "Unhandled" {
		t.Errorf("got %+v", res)
	}
	poll := p.next()
	result = p.invoke("r-2", `{}`)
	<-poll
	p.accepted(p.do("POST", answerPath("r-2"), "streamed", mode, "streaming"))
	if res := <-result; string(res.Payload) != "streamed" || res.FunctionError != "" {
		t.Errorf("got %s, %q", res.Payload, res.FunctionError)
	}
}

func TestChunkedBodiesWithTrailersAndContinue(t *testing.T) {
	p := newPuppet(t, runtime.Limits{})
	result := p.running("r-1")
	got := p.raw("POST " + answerPath("r-1") + " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\nConnection: close\r\n\r\n" +
		"4\r\nhalf\r\n0\r\nLambda-Runtime-Function-Error-Type: Function.Broken\r\nLambda-Runtime-Function-Error-Body: !\r\n\r\n")
	if !strings.HasPrefix(got, "HTTP/1.1 202 ") {
		t.Errorf("got %q", got)
	}
	if res := <-result; res.ErrorType != "Function.Broken" || string(res.Payload) != `{"errorType":"Function.Broken","errorMessage":"the handler failed while it sent its response"}` {
		t.Errorf("got %s, %q", res.Payload, res.ErrorType)
	}
	poll := p.next()
	result = p.invoke("r-2", `{}`)
	<-poll
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n", answerPath("r-2"))
	if line, _ := in.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q", line)
	}
	io.WriteString(conn, "body")
	if res := <-result; string(res.Payload) != "body" {
		t.Errorf("got %s", res.Payload)
	}
}

func TestHeadersOfAMebibyte(t *testing.T) {
	p := newPuppet(t, runtime.Limits{})
	result := p.running("r-1")
	p.accepted(p.do("POST", errorPath("r-1"), "{}", "Lambda-Runtime-Function-Xray-Error-Cause", strings.Repeat("x", 1<<20-1)))
	<-result
	if got := p.raw("GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\nA: " + strings.Repeat("x", 3<<20) + "\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 431 ") && got != "" {
		t.Errorf("a header of 3 MiB got %.40q", got)
	}
}

func TestATruncatedAnswerIsAnError(t *testing.T) {
	for name, text := range map[string]string{"length": "Content-Length: 10\r\n\r\nhalf", "chunked": "Transfer-Encoding: chunked\r\n\r\n9\r\nhalf"} {
		p := newPuppet(t, runtime.Limits{})
		result := p.running("r-1")
		if got := p.raw("POST " + answerPath("r-1") + " HTTP/1.1\r\nHost: x\r\n" + text); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
			t.Errorf("%s: got %.60q", name, got)
		}
		if res := <-result; res.ErrorType != "Runtime.TruncatedResponse" || res.FunctionError != "Unhandled" {
			t.Errorf("%s: got %+v", name, res)
		}
	}
}

func TestAnAnswerAtTheLimitPassesAndOneAboveIsRefused(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		for size, status := range map[int]int{1000: 202, 1001: 413, 1_000_000: 413} {
			p := newPuppet(t, runtime.Limits{Payload: 1000})
			result := p.running("r-1")
			var body io.Reader = bytes.NewReader(make([]byte, size))
			if chunked {
				body = io.MultiReader(body)
			}
			req, _ := http.NewRequest("POST", "http://"+p.addr+answerPath("r-1"), body)
			got, err := try(req)
			if size > 2000 && err != nil { // more than twice the limit is not read: the connection breaks
				got.status = status
			} else if err != nil {
				t.Fatal(err)
			}
			if got.status != status {
				t.Errorf("%d bytes: status %d, want %d", size, got.status, status)
			}
			res := <-result
			if status == 202 && len(res.Payload) != size || status == 413 && res.ErrorType != runtime.ErrorResponseTooLarge {
				t.Errorf("%d bytes, chunked %v: %d bytes, %q", size, chunked, len(res.Payload), res.ErrorType)
			}
		}
	}
}

func TestAPollThatBreaksOffLosesNoEvent(t *testing.T) {
	p := newPuppet(t, runtime.Limits{Concurrency: 1})
	first := p.ready()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", next)
	conn.Close()
	if got := <-first; got.status != 403 {
		t.Errorf("the poll that a newer one replaced got %d", got.status)
	}
	p.connections(0) // both polls are over, nobody waits for the event
	result := p.invoke("r-1", `{"a":1}`)
	got := p.do("GET", next, "")
	if got.body != `{"a":1}` {
		t.Fatalf("got %d %s", got.status, got.body)
	}
	p.accepted(p.do("POST", answerPath("r-1"), "x"))
	<-result
}

func TestCloseEndsRequestsThatNeverEnd(t *testing.T) {
	p := newPuppet(t, runtime.Limits{})
	p.ready()
	for _, text := range []string{
		"GET " + next + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", // a poll whose body never comes
		"POST " + answerPath("r") + " HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
		"GET /",
	} {
		conn, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, text)
	}
	begun := time.Now()
	p.fn.Close()
	if took := time.Since(begun); took > 2*drainLimit {
		t.Errorf("Close took %v", took)
	}
	if conn, err := net.Dial("tcp", p.addr); err == nil {
		conn.Close()
		t.Error("the listener is still there")
	}
}

func TestAnEarlyAnswerWaitsForTheEventsBytes(t *testing.T) {
	p := newPuppet(t, runtime.Limits{})
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", next)
	if err := <-p.load; err != nil {
		t.Fatal(err)
	}
	result := p.invoke("r-1", strings.Repeat("x", 32<<20)) // more than sockets hold
	in := bufio.NewReader(conn)
	if line, _ := in.ReadString('\n'); line != "HTTP/1.1 200 OK\r\n" {
		t.Fatalf("got %q", line)
	}
	p.accepted(p.do("POST", answerPath("r-1"), "x"))
	select {
	case res := <-result:
		t.Fatalf("the payload was given back while its bytes were still being sent: %+v", res)
	default:
	}
	go io.Copy(io.Discard, in)
	if res := <-result; string(res.Payload) != "x" {
		t.Errorf("got %s", res.Payload)
	}
}
