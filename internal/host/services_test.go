package host

import (
	"context"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/config"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/shards"
)

// grantedKit loads the conformance kit's guest into the host's engine with every grant.
func (w *world) grantedKit() runtime.RecordProcessor {
	w.t.Helper()
	path, err := filepath.Abs("../../sdk/conformance/guests/c.wasm")
	if err != nil {
		w.t.Fatal(err)
	}
	f, err := w.host.wasm.Load(w.t.Context(), runtime.Artifact{Name: "kit", Kind: runtime.KindWasm, Path: path,
		Grants: runtime.Grants{Metrics: true, State: true, Emit: []string{"audit", "gone"}}}, runtime.Limits{})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { f.Close() })
	return f.(runtime.RecordProcessor)
}

func process(t *testing.T, p runtime.RecordProcessor, data ...string) ([]string, error) {
	t.Helper()
	in := runtime.RecordBatch{Invocation: runtime.Invocation{RequestID: "req"}}
	for _, d := range data {
		in.Records = append(in.Records, runtime.InRecord{Data: []byte(d)})
	}
	var out runtime.ProcessedBatch
	err := p.Process(t.Context(), &in, &out)
	var got []string
	for _, r := range out.Records {
		got = append(got, string(r.Data))
	}
	return got, err
}

// What a function emits is in the stream when its batch is answered; its state outlives the host;
// its metrics are on a page.
func TestFunctionsUseWhatTheHostLends(t *testing.T) {
	w := open(t)
	scope := shards.Scope{Account: w.cfg.Account, Region: w.cfg.Region}
	stream, err := w.host.Streams.Create(t.Context(), scope, shards.Spec{Name: "audit", Shards: 2})
	if err != nil {
		t.Fatal(err)
	}
	within(t, 10*time.Second, "active stream", func() bool { return stream.State() == shards.Active })
	kit := w.grantedKit()
	if got, err := process(t, kit, "Eaudit|a|one", "Eaudit|a|two", "Slast=7", `Mdepth{place="é",function="f"}`, "Mx_total"); err != nil || !slices.Equal(got, []string{"0", "0", "0", "", ""}) {
		t.Fatal(got, err)
	}
	if got := read(t, stream); !slices.Equal(got, []string{"a one", "a two"}) {
		t.Errorf("the stream has %q", got)
	}
	if got := w.page("/_shardmill/function-metrics"); got != `# TYPE shardmill_function_depth gauge
shardmill_function_depth{function="kit",exported_function="f",place="é"} 2.5
# TYPE shardmill_function_seen_total counter
shardmill_function_seen_total{function="kit"} 2
# TYPE shardmill_function_x_total counter
shardmill_function_x_total{function="kit"} 2.5
` {
		t.Errorf("metrics:\n%s", got)
	}
	process(t, kit, "Mx_total")
	if got := w.page("/_shardmill/function-metrics"); !strings.Contains(got, "shardmill_function_x_total{function=\"kit\"} 5\n") {
		t.Errorf("a counter does not add up:\n%s", got)
	}

	// A stream that is granted and not there fails the batch, before anything of it happens.
	if _, err := process(t, kit, "Eaudit|a|three", "Egone|a|x", "Slast=8"); err == nil || !strings.Contains(err.Error(), "shardmill.emit: Stream gone under account 000000000000 not found.") {
		t.Errorf("err = %v, want that the stream was not found", err)
	}
	if got := read(t, stream); len(got) != 2 {
		t.Errorf("the stream has %q after a batch that failed", got)
	}

	again := w.cfg
	w.close()
	w = open(t, func(c *config.Config) { *c = again })
	if got, err := process(t, w.grantedKit(), "glast"); err != nil || !slices.Equal(got, []string{"7"}) {
		t.Errorf("after a restart the state is %q (%v), want 7", got, err)
	}
}

func read(t *testing.T, s *shards.Stream) (out []string) {
	t.Helper()
	for _, sh := range s.Shards() {
		recs, _, err := s.Read(t.Context(), sh, 0, shards.Budget{Records: 100, Bytes: 1 << 20}, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range recs {
			out = append(out, string(r.Key)+" "+string(r.Data))
		}
	}
	return out
}

func (w *world) page(path string) string {
	w.t.Helper()
	res, err := http.Get(w.host.URL() + path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(b)
}

func TestFunctionStateIsComparedBeforeItIsSet(t *testing.T) {
	w := open(t)
	s := functionState{w.host.store.Meta()}
	ctx := context.Background()
	if err := s.Store(ctx, "f", []byte("one"), 0); err != nil {
		t.Fatal(err)
	}
	if err := s.Store(ctx, "f", []byte("two"), 0); !errs.Is(err, errs.Conflict) {
		t.Errorf("a second first write: %v, want Conflict", err)
	}
	doc, rev, err := s.Load(ctx, "f")
	if err != nil || string(doc) != "one" {
		t.Fatalf("%q, %v", doc, err)
	}
	if err := s.Store(ctx, "f", nil, rev); err != nil {
		t.Fatal(err)
	}
	if doc, rev, err := s.Load(ctx, "f"); err != nil || doc != nil || rev != 0 {
		t.Errorf("after its removal: %q at %d, %v", doc, rev, err)
	}
}
