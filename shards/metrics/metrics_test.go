package metrics

import (
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
)

// TestEveryMetricIsInItsPlace: the tables are read by index. What the numbers are is tested where
// they are counted, in kinesisapi.
func TestEveryMetricIsInItsPlace(t *testing.T) {
	seen := make(map[string]bool)
	for i, f := range families {
		if int(f.metric) != i || f.name == "" || f.help == "" || seen[f.name] {
			t.Errorf("place %d holds %+v", i, f)
		}
		seen[f.name] = true
	}
}

// A name from outside cannot break out of its label.
func TestLabelsAreEscaped(t *testing.T) {
	store, err := journal.Open("data", journal.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	ss, err := shards.Open(t.Context(), store, shards.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer ss.Close()
	if _, err := ss.Create(t.Context(), shards.Scope{Account: "1", Region: "a\"b\\c\nd"}, shards.Spec{Name: "s", Shards: 1}); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := Write(&b, ss); err != nil {
		t.Fatal(err)
	}
	if want := "\n" + `shardmill_incoming_bytes_total{account="1",region="a\"b\\c\nd",stream="s"} 0` + "\n"; !strings.Contains(b.String(), want) {
		t.Errorf("%.300s", b.String())
	}
}
