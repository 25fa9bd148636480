// Package conformance holds what a module of each ABI must do, as data: batches and events with the
// answers that a guest program must give. README.md says what the guest is. The tests of this
// package run the guests below guests/ through the engine; with -guest FILE they run another one,
// say that of an SDK in a new language.
package conformance

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"strings"
)

//go:embed batches.json
var batches []byte

//go:embed events.json
var events []byte

// Batch is a case of the native batch ABI.
type Batch struct {
	Name    string            `json:"name"`
	Records []Record          `json:"records"`
	Want    []string          `json:"want"`    // the answers, "INDEX STATUS DATA" in the order given, long data as Shorten has it; "N times: STATUS DATA" for records 0 to N-1
	Keys    map[string]string `json:"keys"`    // partition keys of the first answer
	Fails   *Failure          `json:"fails"`   // the batch fails as a whole
	Log     []string          `json:"log"`     // lines, "LEVEL TEXT"
	Metrics []string          `json:"metrics"` // "KEY VALUE" in the order reported
	Emitted []string          `json:"emitted"` // "STREAM KEY DATA"
	State   map[string]string `json:"state"`   // of the function, after the batch; state lasts over batches
}

// Record is one or more records of a batch.
type Record struct {
	Data    string `json:"data"`
	Fill    int    `json:"fill"`   // data is repeated after its first byte until it has this many bytes
	Copies  int    `json:"copies"` // the record comes this many times
	Key     string `json:"key"`
	Seq     string `json:"seq"`
	Arrived int64  `json:"arrived"`
}

// Event is a case of the stdio and pull ABIs. Unless it fails, the answer is {"got": EVENT}.
type Event struct {
	Name  string          `json:"name"`
	Event json.RawMessage `json:"event"`
	Fill  int             `json:"fill"` // the event is a string of this many letters
	Fails *Failure        `json:"fails"`
	Log   []string        `json:"log"`
}

// Failure is the failure of a batch or an event.
type Failure struct {
	Type    string `json:"type"`
	Message string `json:"message"` // its beginning
}

// Config is what the guest's function has as config.
var Config = map[string]string{"color": "blue", "long": strings.Repeat("x", 3000)}

// Emit is the stream that the guest's function may emit to.
const Emit = "audit"

// Batches are the cases of the native batch ABI, in order. A guest keeps its state over them.
func Batches() ([]Batch, error) { return decode[Batch](batches) }

// Events are the cases of the stdio and pull ABIs, in order.
func Events() ([]Event, error) { return decode[Event](events) }

func decode[T any](b []byte) (out []T, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err = d.Decode(&out)
	return out, err
}

// Expand is the record's data and how often it comes.
func (r Record) Expand() (data []byte, copies int) {
	data = []byte(r.Data)
	if r.Fill > 0 {
		data = append(data, bytes.Repeat(data[1:], r.Fill/(len(data)-1)+1)...)[:r.Fill]
	}
	return data, max(r.Copies, 1)
}

// Shorten is the one spelling of long data in Want: its length and a checksum.
func Shorten(data []byte) string {
	if len(data) <= 200 {
		return string(data)
	}
	sum := uint32(2166136261) // FNV-1a
	for _, b := range data {
		sum = (sum ^ uint32(b)) * 16777619
	}
	return fmt.Sprintf("%d bytes %08x", len(data), sum)
}
