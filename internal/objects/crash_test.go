package objects_test

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/objects"
)

// step is one thing that a write did to the disk.
type step struct{ op, path string }

func record(d *objects.Dir) *[]step {
	steps := &[]step{}
	d.OnStep(func(op, path string) error {
		*steps = append(*steps, step{op, path})
		return nil
	})
	return steps
}

// powerCut reports what a power cut could take from a write that has been acknowledged after
// these steps, or could have mixed up during them. Its disk is a mean one: a file's bytes and
// attributes are safe once the file is synced, a name once its folder is synced, and of what is
// not safe any part may survive.
func powerCut(steps []step) error {
	dirty := map[string]bool{}   // files whose bytes are not synced
	unnamed := map[string]bool{} // names made or changed since their folder was synced
	for i, s := range steps {
		switch s.op {
		case "write", "attach":
			dirty[s.path] = true
		case "sync file":
			delete(dirty, s.path)
		case "mkdir":
			unnamed[s.path] = true
		case "rename":
			if len(dirty) > 0 {
				return fmt.Errorf("step %d renames a file to %s before its bytes are synced", i, s.path)
			}
			if strings.HasPrefix(s.path, "events/") && len(unnamed) > 0 {
				return fmt.Errorf("step %d puts an object at %s while %v may vanish", i, s.path, unnamed)
			}
			unnamed[s.path] = true
		case "sync folder":
			for name := range unnamed {
				if path.Dir(name) == s.path {
					delete(unnamed, name)
				}
			}
		}
	}
	if len(unnamed) > 0 || len(dirty) > 0 {
		return fmt.Errorf("acknowledged while %v may vanish and %v is not synced", unnamed, dirty)
	}
	return nil
}

func TestAnAcknowledgedPutSurvivesAPowerCut(t *testing.T) {
	eachKeeper(t, func(t *testing.T, open func(*testing.T, string) *objects.Dir) {
		d := open(t, t.TempDir())
		var all [][]step
		for _, key := range []string{"a/b/c", "a/b/c", "a/b/d", "top", "a/e/f"} {
			steps := record(d)
			put(t, d, "events", key, "body")
			if err := powerCut(*steps); err != nil {
				t.Errorf("Put(%q): %v in %v", key, err, *steps)
			}
			all = append(all, *steps)
		}
		// A folder is synced into its parent once: the second Put syncs its own folder alone.
		synced := 0
		for _, s := range all[2] {
			if s.op == "sync folder" && strings.HasPrefix(s.path+"/", "events/") {
				synced++
			}
			if s.op == "mkdir" {
				t.Errorf("a known folder was made again: %v", all[2])
			}
		}
		if synced != 1 {
			t.Errorf("%d folder syncs into known folders, want 1: %v", synced, all[2])
		}
		// The control: without any one of its syncs the first Put is found out.
		for i, s := range all[0] {
			if s.op != "sync file" && s.op != "sync folder" || slices.Contains(all[0][i+1:], s) {
				continue // no sync, or one that a later sync of the same folder makes up for
			}
			if err := powerCut(slices.Delete(slices.Clone(all[0]), i, i+1)); err == nil {
				t.Errorf("the loss of step %d, %v, was not noticed in %v", i, s, all[0])
			}
		}
	})
}

// A folder that exists may be the work of a process that died before its sync.
func TestFoldersOfAnEarlierProcessAreSyncedOnce(t *testing.T) {
	root := t.TempDir()
	d := openDir(t, root)
	put(t, d, "events", "a/1", "x")
	d.Close()
	d = openDir(t, root)
	steps := record(d)
	put(t, d, "events", "a/2", "x")
	for _, folder := range []string{".", "events", "events/a"} {
		if !slices.Contains(*steps, step{"sync folder", folder}) {
			t.Errorf("%s was not synced: %v", folder, *steps)
		}
	}
}

var errPower = errors.New("power cut")

// TestAPutCutShortAnywhere ends a Put before each of its steps, as a kill would, and opens the
// folder again: the object is the old one or the new one, with its own attributes.
func TestAPutCutShortAnywhere(t *testing.T) {
	eachKeeper(t, func(t *testing.T, open func(*testing.T, string) *objects.Dir) {
		outcomes := map[string]int{}
		for n, finished := 0, false; !finished; n++ {
			root := t.TempDir()
			d := open(t, root)
			put(t, d, "events", "a/k", "the old object")
			left := n
			d.OnStep(func(op, path string) error {
				if left--; left < 0 {
					return errPower
				}
				return nil
			})
			body := "the new one"
			err := d.Put(t.Context(), "events", "a/k", strings.NewReader(body), int64(len(body)), objects.Attributes{ContentType: "text/new"})
			finished = err == nil
			d.Close()

			d = open(t, root)
			got, info, _ := get(t, d, "events", "a/k")
			wantType := map[string]string{"the old object": "text/plain", body: "text/new"}[got]
			if wantType == "" || info.ContentType != wantType || info.ETag == "" {
				t.Fatalf("cut before step %d: %q with %+v", n, got, info)
			}
			if finished && got != body {
				t.Fatalf("acknowledged, but the object is %q", got)
			}
			if left := files(t, root); !slices.Equal(left, []string{"events/a/k"}) {
				t.Fatalf("cut before step %d: files are %q", n, left)
			}
			outcomes[got]++
		}
		if outcomes["the old object"] < 4 || outcomes["the new one"] != 2 { // before the folder's sync, and never
			t.Errorf("outcomes are %v", outcomes)
		}
	})
}

// TestADiskThatFails fails each kind of step once.
func TestADiskThatFails(t *testing.T) {
	tests := []struct {
		op   string
		err  error
		kind errs.Kind
		text string
		body string // what is there afterwards
	}{
		{"create", syscall.ENOSPC, errs.Unavailable, "the disk or its quota is full", "old"},
		{"write", syscall.ENOSPC, errs.Unavailable, "the disk or its quota is full", "old"},
		{"attach", syscall.EDQUOT, errs.Unavailable, "the disk or its quota is full", "old"},
		{"sync file", syscall.EIO, errs.Unavailable, "cannot store k in bucket events", "old"},
		{"rename", syscall.EACCES, errs.Denied, "see who owns the folder", "old"},
		{"sync folder", syscall.EIO, errs.Unknown, "could not be synced", "new"},
	}
	for _, tt := range tests {
		t.Run(tt.op, func(t *testing.T) {
			root := t.TempDir()
			d := openDir(t, root)
			put(t, d, "events", "k", "old")
			d.OnStep(func(op, path string) error {
				if op == tt.op {
					return tt.err
				}
				return nil
			})
			err := d.Put(t.Context(), "events", "k", strings.NewReader("new"), 3, objects.Attributes{})
			if !errs.Is(err, tt.kind) || !errors.Is(err, tt.err) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("err = %v (%s), want %s about %q", err, errs.KindOf(err), tt.kind, tt.text)
			}
			if got, _, _ := get(t, d, "events", "k"); got != tt.body {
				t.Errorf("the object is %q, want %q", got, tt.body)
			}
			if got := files(t, root); !slices.Equal(got, []string{"events/k"}) {
				t.Errorf("files are %q, want no temporary one", got)
			}
			d.OnStep(nil) // the control: the same Put on a good disk
			put(t, d, "events", "k", "new")
		})
	}
}
