package objects_test

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/objects"
	"github.com/shardmill/shardmill/internal/objects/objectstest"
)

func openDir(t testing.TB, root string) *objects.Dir {
	t.Helper()
	d, err := objects.OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func put(t testing.TB, s objects.Store, bucket, key, body string) {
	t.Helper()
	if err := s.Put(t.Context(), bucket, key, strings.NewReader(body), int64(len(body)), gzipped); err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
}

var gzipped = objects.Attributes{ContentType: "text/plain", ContentEncoding: "gzip", User: map[string]string{"a": "1"}}

// get returns the body, and false if there is no object.
func get(t testing.TB, s objects.Store, bucket, key string) (string, objects.Info, bool) {
	t.Helper()
	r, info, err := s.Get(t.Context(), bucket, key)
	if errs.Is(err, errs.NotFound) {
		return "", info, false
	}
	if err != nil {
		t.Fatalf("Get(%q): %v", key, err)
	}
	defer r.Close()
	body, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(body), info, true
}

// files lists what is below root, without folders and without the attributes of sidecars.
func files(t *testing.T, root string) (names []string) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(root), ".", func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasPrefix(p, ".attributes/") {
			names = append(names, p)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

// eachKeeper runs a test with extended attributes and with sidecars.
func eachKeeper(t *testing.T, test func(t *testing.T, open func(t *testing.T, root string) *objects.Dir)) {
	t.Run("xattrs", func(t *testing.T) { test(t, func(t *testing.T, root string) *objects.Dir { return openDir(t, root) }) })
	t.Run("sidecars", func(t *testing.T) {
		test(t, func(t *testing.T, root string) *objects.Dir {
			d := openDir(t, root)
			d.UseSidecars()
			return d
		})
	})
}

func TestDirConforms(t *testing.T) {
	eachKeeper(t, func(t *testing.T, open func(*testing.T, string) *objects.Dir) {
		objectstest.Run(t, func(t *testing.T) objects.Store { return open(t, t.TempDir()) })
	})
}

func TestObjectsArePlainFiles(t *testing.T) {
	root := filepath.Join(t.TempDir(), "not", "yet", "there")
	d := openDir(t, root)
	put(t, d, "events", "logs/2026/07/part-1.gz", "hello\n")
	put(t, d, "events", "logs//%2F/../x", "odd\n")
	want := []string{"events/logs/%/%252F/%2E./x", "events/logs/2026/07/part-1.gz"}
	if got := files(t, root); !slices.Equal(got, want) {
		t.Fatalf("files are %q, want %q", got, want)
	}
	data, err := os.ReadFile(filepath.Join(root, want[1]))
	if err != nil || string(data) != "hello\n" {
		t.Fatalf("the file holds %q, %v", data, err)
	}
}

func TestFilesMadeByHandAreObjects(t *testing.T) {
	eachKeeper(t, func(t *testing.T, open func(*testing.T, string) *objects.Dir) {
		root := t.TempDir()
		d := open(t, root)
		put(t, d, "events", "stored", "stored")
		write := func(name, body string) {
			if err := os.WriteFile(filepath.Join(root, "events", name), []byte(body), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		write("copied.csv", "a,b\n")
		write("%41", "no key is written like this")
		if body, info, _ := get(t, d, "events", "copied.csv"); body != "a,b\n" || info.ETag != "" || info.ContentType != "application/octet-stream" {
			t.Errorf("got %q, %+v", body, info)
		}
		if _, info, _ := get(t, d, "events", "stored"); info.ContentEncoding != "gzip" || info.ETag == "" {
			t.Errorf("before the edit: %+v", info) // the control
		}
		write("stored", "edited")
		if body, info, _ := get(t, d, "events", "stored"); body != "edited" || info.ETag != "" || info.ContentEncoding != "" {
			t.Errorf("after the edit: %q, %+v; want no ETag and no attributes of the old bytes", body, info)
		}
		infos, err := d.List(t.Context(), "events", "", "", 10)
		if err != nil || len(infos) != 2 || infos[0].Key != "copied.csv" || infos[1].Key != "stored" {
			t.Errorf("List gave %+v, %v", infos, err)
		}
	})
}

func TestNothingLeavesTheRoot(t *testing.T) {
	outside := t.TempDir()
	if err := os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o644); err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	d := openDir(t, root)
	put(t, d, "events", "x", "x")
	for link, target := range map[string]string{"file": filepath.Join(outside, "secret"), "folder": outside, "within": "x", "pipe": ""} {
		name := filepath.Join(root, "events", link)
		err := os.Symlink(target, name)
		if target == "" {
			err = syscall.Mkfifo(name, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"file", "within", "pipe"} {
		if body, _, found := get(t, d, "events", key); found {
			t.Errorf("%s was read as an object: %q", key, body)
		}
	}
	if _, _, err := d.Get(t.Context(), "events", "folder/secret"); err == nil {
		t.Error("a file behind a symbolic link was read")
	}
	if err := d.Put(t.Context(), "events", "folder/new", strings.NewReader("x"), 1, objects.Attributes{}); err == nil {
		t.Error("a file behind a symbolic link was written")
	}
	if got := files(t, outside); !slices.Equal(got, []string{"secret"}) {
		t.Errorf("outside are %q", got)
	}
	if infos, err := d.List(t.Context(), "events", "", "", 10); err != nil || len(infos) != 1 {
		t.Errorf("List gave %+v, %v; want x alone", infos, err)
	}
}

func TestAKeyInTheWayOfAnotherIsRefusedWithARemedy(t *testing.T) {
	d := openDir(t, t.TempDir())
	put(t, d, "events", "a/b", "x")
	for _, key := range []string{"a", "a/b/c", "a/b/c/d"} {
		err := d.Put(t.Context(), "events", key, strings.NewReader("y"), 1, objects.Attributes{})
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "use another key or prefix") {
			t.Errorf("Put(%q): %v", key, err)
		}
	}
	put(t, d, "events", "a/", "a marker of consoles fits beside")
}

func TestOpenRemovesLeftoversUnlessAnotherDirWrites(t *testing.T) {
	root := t.TempDir()
	first := openDir(t, root)
	leftover := filepath.Join(root, ".tmp", "half")
	if err := os.WriteFile(leftover, []byte("half an obj"), 0o644); err != nil {
		t.Fatal(err)
	}
	second := openDir(t, root)
	if _, err := os.Stat(leftover); err != nil {
		t.Fatal("a file that the first Dir could be writing was removed:", err)
	}
	first.Close()
	second.Close()
	openDir(t, root)
	if got := files(t, root); len(got) != 0 {
		t.Fatalf("left are %q", got)
	}
}

func TestFoldersRemovedByHandAreMadeAgain(t *testing.T) {
	root := t.TempDir()
	d := openDir(t, root)
	put(t, d, "events", "a/b/1", "x")
	if err := os.RemoveAll(filepath.Join(root, "events")); err != nil {
		t.Fatal(err)
	}
	put(t, d, "events", "a/b/2", "y")
	if body, _, _ := get(t, d, "events", "a/b/2"); body != "y" {
		t.Fatalf("got %q", body)
	}
}

func TestPutsAndDeletesInOneFolder(t *testing.T) {
	root := t.TempDir()
	d := openDir(t, root)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			key := fmt.Sprintf("a/b/%d", g)
			for range 50 {
				if err := d.Put(t.Context(), "events", key, strings.NewReader("x"), 1, objects.Attributes{}); err != nil {
					t.Errorf("Put: %v", err)
				}
				if err := d.Delete(t.Context(), "events", key); err != nil {
					t.Errorf("Delete: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if entries, err := os.ReadDir(filepath.Join(root, "events")); err != nil || len(entries) != 0 {
		t.Errorf("the bucket holds %v, %v; want empty folders removed", entries, err)
	}
}

func TestSidecarsGoWithTheirObjects(t *testing.T) {
	root := t.TempDir()
	d := openDir(t, root)
	d.UseSidecars()
	put(t, d, "events", "k", "x")
	sidecars := func() int {
		entries, err := os.ReadDir(filepath.Join(root, ".attributes", "events"))
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	if n := sidecars(); n != 1 {
		t.Fatalf("%d sidecars, want 1", n)
	}
	if err := d.Delete(t.Context(), "events", "k"); err != nil {
		t.Fatal(err)
	}
	if n := sidecars(); n != 0 {
		t.Fatalf("%d sidecars after the delete, want 0", n)
	}
}

// FuzzPaths: a key that has a path is read back from it, and the path stays below the bucket.
func FuzzPaths(f *testing.F) {
	for _, key := range []string{"a/b", "", "/", "//a", "../..", ".", "a/./b", "%", "%25", "%2E", "%2E.", "...", "a%2Fb", "é"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		name, err := objects.PathOf("bkt", key)
		if err != nil || objects.CheckKey(key) != nil {
			return
		}
		if !fs.ValidPath(name) || !strings.HasPrefix(name, "bkt/") {
			t.Fatalf("%q lies at %q", key, name)
		}
		var segments []string
		for part := range strings.SplitSeq(strings.TrimPrefix(name, "bkt/"), "/") {
			s, ok := objects.SegmentOf(part)
			if !ok || objects.NameOf(s) != part {
				t.Fatalf("%q lies at %q, whose part %q reads as %q, %v", key, name, part, s, ok)
			}
			segments = append(segments, s)
		}
		if back := strings.Join(segments, "/"); back != key {
			t.Fatalf("%q lies at %q, which reads as %q", key, name, back)
		}
	})
}

func BenchmarkDirPut(b *testing.B) {
	for _, size := range []int{1 << 10, 5 << 20} {
		b.Run(fmt.Sprintf("%dKiB", size>>10), func(b *testing.B) {
			d := openDir(b, b.TempDir())
			body := strings.Repeat("x", size)
			var took []time.Duration
			b.SetBytes(int64(size))
			for i := range b.N {
				start := time.Now()
				put(b, d, "bench", fmt.Sprintf("2026/07/13/%d", i%100), body)
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-median")
		})
	}
}
