package host

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// A data folder with a damaged record is refused; --repair opens it without that record, says what
// is lost, and puts the damaged file aside.
func TestRepairOpensADamagedFolder(t *testing.T) {
	t.Parallel()
	cfg := newConfig(t)
	h, err := Open(t.Context(), cfg, zerolog.Nop(), Observer{})
	if err != nil {
		t.Fatal(err)
	}
	sc := shards.Scope{Account: "000000000000", Region: "us-east-1"}
	s, err := h.Streams.Create(t.Context(), sc, shards.Spec{Name: "s", Shards: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"first", "second", "third"} {
		var out [1]shards.Placed
		s.Put(t.Context(), []shards.PutRecord{{Key: []byte("k"), Data: []byte(text)}}, out[:])
		if out[0].Err != nil {
			t.Fatal(out[0].Err)
		}
	}
	if err := h.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(cfg.Data, "log", "0000000000000001.wal")
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[bytes.Index(b, []byte("second"))] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), cfg, zerolog.Nop(), Observer{}); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "serve --repair") {
		t.Fatalf("a damaged folder: %v", err)
	}
	cfg.Repair = true
	var log logText
	if h, err = Open(t.Context(), cfg, zerolog.New(&log), Observer{}); err != nil {
		t.Fatal(err)
	}
	defer h.Close(t.Context())
	for _, line := range []string{`"file":"` + file + `"`, `"moved_to":"` + filepath.Join(cfg.Data, "damaged", "0000000000000001.wal.bad") + `"`,
		`"from":2,"to":2,"message":"the records at these positions are lost"`, `"damaged_files":1`} {
		if !strings.Contains(log.String(), line) {
			t.Errorf("the log does not say %s:\n%s", line, log.String())
		}
	}
	if s, err = h.Streams.Get(sc, "s"); err != nil {
		t.Fatal(err)
	}
	recs, _, err := s.Read(t.Context(), s.Shards()[0], 0, shards.Budget{Records: 10, Bytes: 1 << 20}, nil)
	if err != nil || len(recs) != 2 || string(recs[0].Data) != "first" || string(recs[1].Data) != "third" || recs[1].Pos != 3 {
		t.Fatalf("%+v, %v", recs, err)
	}
}
