package wasm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/bits"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/shardmill/shardmill/runtime"
)

// The example guest, in C: examples/earthquakes/severity.
const (
	severityDir  = "../../examples/earthquakes/severity"
	severityWasm = severityDir + "/severity.wasm"
)

func severityArtifact(path string) runtime.Artifact {
	return runtime.Artifact{Name: "severity", Kind: runtime.KindWasm, Path: path}
}

var severityCases = []struct{ record, want string }{
	{`{"id": "a", "mag": 0.31}`, `ok {"id": "a", "mag": 0.31, "severity": "micro"}`},
	{`{"mag": 1.9999}`, `ok {"mag": 1.9999, "severity": "micro"}`},
	{`{"mag": 2}`, `ok {"mag": 2, "severity": "minor"}`},
	{`{"mag":4.0,"a":1}`, `ok {"mag":4.0,"a":1, "severity": "light"}`},
	{`{"mag": 5}`, `ok {"mag": 5, "severity": "moderate"}`},
	{`{"mag": 6.9}`, `ok {"mag": 6.9, "severity": "strong"}`},
	{`{"mag": 7e0}`, `ok {"mag": 7e0, "severity": "major"}`},
	{`{"mag": 0.65e+1}`, `ok {"mag": 0.65e+1, "severity": "strong"}`},
	{`{"mag": -0.5}`, `ok {"mag": -0.5, "severity": "micro"}`},
	{"  {\"mag\": 3}\n", `ok   {"mag": 3, "severity": "minor"}`},
	{`{"place": "a \"mag\": 9}, {[", "deep": {"mag": 8, "l": [{"x": "}]"}]}, "mag": 1}`, `ok {"place": "a \"mag\": 9}, {[", "deep": {"mag": 8, "l": [{"x": "}]"}]}, "mag": 1, "severity": "micro"}`},
	{`{"mag": null}`, "dropped"},
	{`{"deep": {"mag": 8}}`, "dropped"},
	{`{"magType": "ml"}`, "dropped"},
	{`{}`, "dropped"},
	{`{"mag": "3"}`, "failed"},
	{`{"mag": true}`, "failed"},
	{`{"mag": 3`, "failed"},
	{`{"mag": 3}}`, "failed"},
	{`{"mag" 3}`, "failed"},
	{`{"mag": 3,}`, "failed"},
	{`{"a": "\`, "failed"},
	{`[{"mag": 3}]`, "failed"},
	{`"mag"`, "failed"},
	{``, "failed"},
}

func checkSeverity(t *testing.T, path string) {
	f := load(t, newEngine(t, &recorder{}), severityArtifact(path), runtime.Limits{})
	in := &runtime.RecordBatch{}
	var want []string
	for i, c := range severityCases {
		in.Records = append(in.Records, runtime.InRecord{Data: []byte(c.record), PartitionKey: []byte("p")})
		want = append(want, fmt.Sprintf("%d %s", i, c.want))
	}
	got := answersOf(t, f, in)
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("%s:\n%q\nwant:\n%q", severityCases[i].record, got[min(i, len(got)):], want[i])
		}
	}
	var out runtime.ProcessedBatch
	if err := f.(runtime.RecordProcessor).Process(t.Context(), in, &out); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(out.Records[0].Data, []byte("}\n")) {
		t.Errorf("the record %q does not end with a newline", out.Records[0].Data)
	}
}

func TestSeverity(t *testing.T) { checkSeverity(t, severityWasm) }

// The committed module must be what its source says.
func TestSeverityRebuiltFromSource(t *testing.T) {
	for _, tool := range []string{"clang", "wasm-ld", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is needed to rebuild severity.wasm", tool)
		}
	}
	path := filepath.Join(t.TempDir(), "severity.wasm")
	if out, err := exec.Command("sh", severityDir+"/build.sh", path).CombinedOutput(); err != nil {
		t.Fatalf("build.sh: %v\n%s", err, out)
	}
	checkSeverity(t, path)
	if info, err := os.Stat(severityWasm); err != nil || info.Size() > 8<<10 {
		t.Errorf("severity.wasm has %d bytes (%v); keep it below 8 KiB, it is embedded", info.Size(), err)
	}
}

func TestSeverityAgreesWithGo(t *testing.T) {
	f := load(t, newEngine(t, &recorder{}), severityArtifact(severityWasm), runtime.Limits{})
	in := &runtime.RecordBatch{Records: quakes(500)}
	var out runtime.ProcessedBatch
	if err := f.(runtime.RecordProcessor).Process(t.Context(), in, &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Records) != 500 {
		t.Fatalf("%d answers, want 500", len(out.Records))
	}
	for i, o := range out.Records {
		want, status := goWalk{words: i%2 == 0}.severity(nil, in.Records[i].Data)
		if o.Index != i || o.Status != status || !bytes.Equal(o.Data, want) {
			t.Fatalf("record %s:\n%d %d %s\nwant %d %s", in.Records[i].Data, o.Index, o.Status, o.Data, status, want)
		}
	}
}

// quakes makes n records of 1 KB like those of the earthquake feed; every sixth has no magnitude.
func quakes(n int) []runtime.InRecord {
	records := make([]runtime.InRecord, n)
	for i := range records {
		mag := strconv.FormatFloat(float64(i%85)/10, 'f', 2, 64)
		if i%6 == 5 {
			mag = "null"
		}
		head := fmt.Sprintf(`{"id": "us%06d", "time": 1517363399650, "place": "37km NNE of Amboy, Washington", "notes": "`, i)
		tail := fmt.Sprintf(`", "mag": %s, "magType": "ml", "depth": 3.28, "longitude": -122.197, "latitude": 46.2035, "net": "us", "type": "earthquake", "status": "reviewed", "tsunami": 0}`, mag)
		data := head + strings.Repeat("x", 1024-len(head)-len(tail)) + tail
		records[i] = runtime.InRecord{Data: []byte(data), PartitionKey: []byte("us"), SequenceNumber: "49590338271490256608559692538361571095921575989136588898", Arrived: 1517363399650}
	}
	return records
}

// goWalk is severity.c in Go, the same walk over the record. Strings are passed byte by byte, as
// one would write it first, or with words eight bytes at a time, as severity.c does.
type goWalk struct{ words bool }

// severity appends the answer for a record to dst.
func (w goWalk) severity(dst, b []byte) ([]byte, runtime.Status) {
	var mag []byte
	brace := w.object(b, &mag)
	switch {
	case brace < 0:
		return nil, runtime.Failed
	case mag == nil || string(mag) == "null":
		return nil, runtime.Dropped
	}
	v, err := strconv.ParseFloat(string(mag), 64)
	if err != nil {
		return nil, runtime.Failed
	}
	names := []string{"micro", "minor", "light", "moderate", "strong", "major"}
	i, _ := slices.BinarySearchFunc([]float64{2, 4, 5, 6, 7}, v, func(limit, v float64) int {
		if limit <= v {
			return -1
		}
		return 1
	})
	dst = append(dst, b[:brace]...)
	dst = append(append(dst, `, "severity": "`...), names[i]...)
	return append(dst, "\"}\n"...), runtime.Ok
}

func goBlanks(b []byte, p int) int {
	for p < len(b) && (b[p] == ' ' || b[p] == '\t' || b[p] == '\n' || b[p] == '\r') {
		p++
	}
	return p
}

func (w goWalk) string(b []byte, p int) int {
	for p++; ; p += 2 {
		if w.words {
			p = goFind2(b, p)
		} else {
			for p < len(b) && b[p] != '"' && b[p] != '\\' {
				p++
			}
		}
		if p >= len(b) {
			return -1
		}
		if b[p] == '"' {
			return p + 1
		}
	}
}

// goFind2 is sm_find2 for a quote and a backslash.
func goFind2(b []byte, p int) int {
	const ones = 0x0101010101010101
	for ; p+8 <= len(b); p += 8 {
		word := binary.LittleEndian.Uint64(b[p:])
		quote, slash := word^ones*'"', word^ones*'\\'
		if hit := ((quote-ones)&^quote | (slash-ones)&^slash) & (ones << 7); hit != 0 {
			return p + bits.TrailingZeros64(hit)/8
		}
	}
	for p < len(b) && b[p] != '"' && b[p] != '\\' {
		p++
	}
	return p
}

func (w goWalk) value(b []byte, p int) int {
	if p < len(b) && b[p] != '"' && b[p] != '{' && b[p] != '[' {
		start := p
		for p < len(b) && b[p] != ',' && b[p] != '}' && b[p] > ' ' {
			p++
		}
		if p == start {
			return -1
		}
		return p
	}
	for depth := 0; p < len(b); {
		switch b[p] {
		case '"':
			if p = w.string(b, p); p < 0 {
				return -1
			}
		case '{', '[':
			depth++
			p++
		case '}', ']':
			depth--
			p++
		default:
			p++
		}
		if depth == 0 {
			return p
		}
	}
	return -1
}

func (w goWalk) object(b []byte, mag *[]byte) int {
	p := goBlanks(b, 0)
	if p == len(b) || b[p] != '{' {
		return -1
	}
	p = goBlanks(b, p+1)
	for p < len(b) && b[p] != '}' {
		key := p
		if b[p] != '"' {
			return -1
		}
		if p = w.string(b, p); p < 0 {
			return -1
		}
		isMag := string(b[key:p]) == `"mag"`
		if p = goBlanks(b, p); p == len(b) || b[p] != ':' {
			return -1
		}
		start := goBlanks(b, p+1)
		if p = w.value(b, start); p < 0 {
			return -1
		}
		if isMag {
			*mag = b[start:p]
		}
		p = goBlanks(b, p)
		switch {
		case p < len(b) && b[p] == ',':
			if p = goBlanks(b, p+1); p < len(b) && b[p] == '}' {
				return -1
			}
		case p < len(b) && b[p] != '}':
			return -1
		}
	}
	if p == len(b) || goBlanks(b, p+1) != len(b) {
		return -1
	}
	return p
}
