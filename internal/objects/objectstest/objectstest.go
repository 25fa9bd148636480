// Package objectstest is the suite that every objects.Store passes, ours and those on real
// servers.
package objectstest

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/objects"
)

const bucket = "conformance-bucket"

// Buckets are the names of the buckets that the suite makes.
func Buckets() []string { return []string{"ant.farm", bucket, "mid-1", "zebra"} }

// Deviation is a test that a server is known to fail, and why the fault is the server's.
type Deviation struct{ Test, Reason string }

// Run runs the suite, less the known deviations. Open returns a store without the suite's
// buckets.
func Run(t *testing.T, open func(t *testing.T) objects.Store, known ...Deviation) {
	tests := []struct {
		name string
		run  func(*testing.T, objects.Store)
	}{
		{"an object comes back as it was put", roundTrip},
		{"put replaces bytes and attributes", replace},
		{"an empty object is an object", empty},
		{"the first put makes the bucket", buckets},
		{"what is not there is NotFound", missing},
		{"delete removes one object and may be repeated", remove},
		{"list is in byte order of keys", listOrder},
		{"list stops at max and goes on after a key", listPages},
		{"odd keys are kept apart", oddKeys},
		{"keys of path syntax are kept or refused", pathKeys},
		{"names that cannot be are Invalid", invalid},
		{"a short body changes nothing", shortBody},
		{"a put called off changes nothing", calledOff},
		{"readers see whole objects", wholeObjects},
		{"an object can be read from anywhere", seeking},
	}
	reasons := map[string]string{}
	for _, d := range known {
		reasons[d.Test] = d.Reason
	}
	for _, tt := range tests {
		reason := reasons[tt.name]
		delete(reasons, tt.name)
		t.Run(tt.name, func(t *testing.T) {
			if reason != "" {
				t.Skip(reason)
			}
			tt.run(t, open(t))
		})
	}
	for name := range reasons {
		t.Errorf("there is no test %q to deviate from", name)
	}
}

func put(t *testing.T, s objects.Store, key, body string) {
	t.Helper()
	if err := s.Put(t.Context(), bucket, key, strings.NewReader(body), int64(len(body)), objects.Attributes{}); err != nil {
		t.Fatalf("Put(%q): %v", key, err)
	}
}

func get(t *testing.T, s objects.Store, key string) (string, objects.Info) {
	t.Helper()
	r, info, err := s.Get(t.Context(), bucket, key)
	if err != nil {
		t.Fatalf("Get(%q): %v", key, err)
	}
	defer r.Close()
	body, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("reading %q: %v", key, err)
	}
	return string(body), info
}

func list(t *testing.T, s objects.Store, prefix, after string, max int) []string {
	t.Helper()
	infos, err := s.List(t.Context(), bucket, prefix, after, max)
	if err != nil {
		t.Fatalf("List(%q, %q, %d): %v", prefix, after, max, err)
	}
	keys := []string{}
	for _, i := range infos {
		keys = append(keys, i.Key)
	}
	return keys
}

func wantKind(t *testing.T, what string, err error, kind errs.Kind) {
	t.Helper()
	if !errs.Is(err, kind) {
		t.Errorf("%s: err = %v (%s), want kind %s", what, err, errs.KindOf(err), kind)
	}
}

func quotedMD5(body string) string {
	sum := md5.Sum([]byte(body))
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func roundTrip(t *testing.T, s objects.Store) {
	body := strings.Repeat("0123456789abcdef", 1<<16) + "end" // 1 MiB and a bit
	m := objects.Attributes{ContentType: "application/x-ndjson", ContentEncoding: "gzip",
		User: map[string]string{"first-seq": "4965", "note": `a "quoted" <value>, with = signs`}}
	const key = "logs/2026/07/13/stream-1-2026-07-13-14-05-06-046b6c7f.gz"
	before := time.Now().Add(-2 * time.Second)
	if err := s.Put(t.Context(), bucket, key, strings.NewReader(body), int64(len(body)), m); err != nil {
		t.Fatal(err)
	}
	got, info := get(t, s, key)
	if got != body {
		t.Errorf("%d bytes came back, want the %d that were put", len(got), len(body))
	}
	if info.Key != key || info.Size != int64(len(body)) || info.ETag != quotedMD5(body) {
		t.Errorf("Info is %q, %d bytes, ETag %s; want %q, %d, %s", info.Key, info.Size, info.ETag, key, len(body), quotedMD5(body))
	}
	if info.ContentType != m.ContentType || info.ContentEncoding != m.ContentEncoding || !maps.Equal(info.User, m.User) {
		t.Errorf("Attributes are %+v, want %+v", info.Attributes, m)
	}
	if info.Modified.Before(before) || info.Modified.After(time.Now().Add(2*time.Second)) {
		t.Errorf("Modified is %v, want about %v", info.Modified, time.Now())
	}
	infos, err := s.List(t.Context(), bucket, "", "", 10)
	if err != nil || len(infos) != 1 {
		t.Fatalf("List gave %v, %v; want one object", infos, err)
	}
	if l := infos[0]; l.Key != key || l.Size != info.Size || l.ETag != info.ETag || l.Modified.Sub(info.Modified).Abs() > time.Second {
		t.Errorf("List says %+v, Get says %+v", l, info)
	}
}

func replace(t *testing.T, s objects.Store) {
	first := objects.Attributes{ContentType: "text/plain", ContentEncoding: "gzip", User: map[string]string{"a": "1"}}
	if err := s.Put(t.Context(), bucket, "k", strings.NewReader("the first, longer body"), 22, first); err != nil {
		t.Fatal(err)
	}
	put(t, s, "k", "the second")
	body, info := get(t, s, "k")
	if body != "the second" || info.Size != 10 || info.ETag != quotedMD5("the second") {
		t.Errorf("got %q, %d bytes, ETag %s", body, info.Size, info.ETag)
	}
	if info.ContentType != "application/octet-stream" || info.ContentEncoding != "" || len(info.User) != 0 {
		t.Errorf("attributes of the replaced object stayed: %+v", info.Attributes)
	}
	// A body is read from its start, wherever it stands, and only as far as announced.
	r := strings.NewReader("the third and more")
	io.CopyN(io.Discard, r, 5)
	if err := s.Put(t.Context(), bucket, "k", r, 9, objects.Attributes{}); err != nil {
		t.Fatal(err)
	}
	if body, _ := get(t, s, "k"); body != "the third" {
		t.Errorf("got %q, want %q", body, "the third")
	}
}

func empty(t *testing.T, s objects.Store) {
	put(t, s, "nothing", "")
	body, info := get(t, s, "nothing")
	if body != "" || info.Size != 0 || info.ETag != quotedMD5("") {
		t.Errorf("got %q, %d bytes, ETag %s", body, info.Size, info.ETag)
	}
}

func buckets(t *testing.T, s objects.Store) {
	want := []string{"ant.farm", "mid-1", "zebra"}
	for _, b := range []string{"zebra", "ant.farm", "mid-1"} {
		if err := s.Put(t.Context(), b, "k", strings.NewReader("x"), 1, objects.Attributes{}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.Buckets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, b := range all {
		if !slices.Contains(want, b.Name) {
			continue // a real server may have others
		}
		names = append(names, b.Name)
		if time.Since(b.Created).Abs() > time.Minute {
			t.Errorf("bucket %s was created at %v", b.Name, b.Created)
		}
	}
	if !slices.Equal(names, want) {
		t.Errorf("buckets are %q, want %q", names, want)
	}
}

func missing(t *testing.T, s objects.Store) {
	_, _, err := s.Get(t.Context(), bucket, "k")
	wantKind(t, "Get from no bucket", err, errs.NotFound)
	_, err = s.List(t.Context(), bucket, "", "", 10)
	wantKind(t, "List of no bucket", err, errs.NotFound)
	if err := s.Delete(t.Context(), bucket, "k"); err != nil {
		t.Errorf("Delete from no bucket: %v", err)
	}
	put(t, s, "k", "x")
	for _, key := range []string{"j", "k/l", "k/"} {
		_, _, err = s.Get(t.Context(), bucket, key)
		wantKind(t, "Get of no key "+key, err, errs.NotFound)
	}
	if keys := list(t, s, "nowhere/", "", 10); len(keys) != 0 {
		t.Errorf("List of an empty prefix gave %q", keys)
	}
}

func remove(t *testing.T, s objects.Store) {
	put(t, s, "a/b/c", "1")
	put(t, s, "a/b/d", "2")
	for range 2 {
		if err := s.Delete(t.Context(), bucket, "a/b/c"); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := s.Get(t.Context(), bucket, "a/b/c")
	wantKind(t, "Get of a deleted object", err, errs.NotFound)
	if keys := list(t, s, "", "", 10); !slices.Equal(keys, []string{"a/b/d"}) {
		t.Errorf("left are %q", keys)
	}
	if err := s.Delete(t.Context(), bucket, "a/b/d"); err != nil {
		t.Fatal(err)
	}
	if keys := list(t, s, "", "", 10); len(keys) != 0 {
		t.Errorf("left are %q", keys)
	}
	put(t, s, "a/b", "where a folder was")
	if body, _ := get(t, s, "a/b"); body != "where a folder was" {
		t.Errorf("got %q", body)
	}
}

func listOrder(t *testing.T, s objects.Store) {
	// A folder's name alone would sort a/b before a-b and a.b.
	want := []string{"B", "a-b/x", "a.b", "a/b", "a/b-c", "a/c/d", "a0", "b", "é", "日本"}
	for _, i := range []int{5, 0, 9, 2, 7, 4, 1, 8, 3, 6} {
		put(t, s, want[i], "x")
	}
	if got := list(t, s, "", "", 100); !slices.Equal(got, want) {
		t.Errorf("order is %q, want %q", got, want)
	}
	prefixes := map[string][]string{
		"a":      {"a-b/x", "a.b", "a/b", "a/b-c", "a/c/d", "a0"},
		"a/":     {"a/b", "a/b-c", "a/c/d"},
		"a/b":    {"a/b", "a/b-c"},
		"a/c/d":  {"a/c/d"},
		"a/c/de": {},
		"日":      {"日本"},
		"c":      {},
	}
	for prefix, want := range prefixes {
		if got := list(t, s, prefix, "", 100); !slices.Equal(got, want) {
			t.Errorf("prefix %q gave %q, want %q", prefix, got, want)
		}
	}
}

func listPages(t *testing.T, s objects.Store) {
	var want []string
	for i := range 23 {
		key := fmt.Sprintf("p/%02d/%d", i%7, i)
		want = append(want, key)
		put(t, s, key, "x")
	}
	slices.Sort(want)
	for _, max := range []int{1, 5, 22, 23, 24} {
		var got []string
		for after := ""; ; after = got[len(got)-1] {
			page := list(t, s, "p/", after, max)
			got = append(got, page...)
			if len(page) < max {
				break
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("pages of %d gave %q, want %q", max, got, want)
		}
	}
	if got := list(t, s, "", "p/03", 1); !slices.Equal(got, []string{"p/03/10"}) {
		t.Errorf("after a key that does not exist came %q", got)
	}
	if got := list(t, s, "", "p/03~", 1); !slices.Equal(got, []string{"p/04/11"}) {
		t.Errorf("behind a folder came %q", got)
	}
	if got := list(t, s, "", "", 0); len(got) != 0 {
		t.Errorf("a page of 0 has %q", got)
	}
}

func oddKeys(t *testing.T, s objects.Store) {
	keys := []string{"a b", "a+b", "a%20b", "a%2Fb", "dt=2026-07-13/h=14", "q?x=1&y=2", "#1", "%", "%2E", "%25", "ü/ß", "~!*'();:@$,[]",
		"back\\slash", `"quoted"<&>`, "...", ".hidden", "trailing.", "tab\tkey", strings.Repeat("n", 255) + "/" + strings.Repeat("ü", 120)}
	for _, key := range keys {
		put(t, s, key, "body of "+key)
	}
	for _, key := range keys {
		if body, _ := get(t, s, key); body != "body of "+key {
			t.Errorf("%q holds %q", key, body)
		}
	}
	slices.Sort(keys)
	if got := list(t, s, "", "", 100); !slices.Equal(got, keys) {
		t.Errorf("List gave %q, want %q", got, keys)
	}
}

// pathKeys: a key that a file system could misread is either refused as Invalid or an object like
// any other. It never touches another object.
func pathKeys(t *testing.T, s objects.Store) {
	put(t, s, "x/y", "bystander")
	want := []string{"x/y"}
	for _, key := range []string{"/lead", "x//y", "x/./y", "x/z/../y", "../escape", "..", ".", "dir/", "//", "x/y/below", "x",
		strings.Repeat("n", 256), strings.Repeat("k", 1024)} {
		err := s.Put(t.Context(), bucket, key, strings.NewReader(key), int64(len(key)), objects.Attributes{})
		if errs.Is(err, errs.Invalid) {
			continue
		}
		if err != nil {
			t.Errorf("Put(%q): %v, want nil or Invalid", key, err)
			continue
		}
		want = append(want, key)
		if body, _ := get(t, s, key); body != key {
			t.Errorf("%q holds %q", key, body)
		}
	}
	if body, _ := get(t, s, "x/y"); body != "bystander" {
		t.Errorf("another key overwrote x/y: %q", body)
	}
	slices.Sort(want)
	if got := list(t, s, "", "", 100); !slices.Equal(got, want) {
		t.Errorf("List gave %q, want %q", got, want)
	}
}

func invalid(t *testing.T, s objects.Store) {
	put := func(bucket, key string, m objects.Attributes) error {
		return s.Put(t.Context(), bucket, key, strings.NewReader("x"), 1, m)
	}
	for _, b := range []string{"", "..", "ab", "a/b", ".tmp", "-abc", "a..b", "a b c", "bucket\x00", strings.Repeat("b", 300)} {
		wantKind(t, fmt.Sprintf("Put into bucket %q", b), put(b, "k", objects.Attributes{}), errs.Invalid)
		_, _, err := s.Get(t.Context(), b, "k")
		wantKind(t, fmt.Sprintf("Get from bucket %q", b), err, errs.Invalid)
		_, err = s.List(t.Context(), b, "", "", 1)
		wantKind(t, fmt.Sprintf("List of bucket %q", b), err, errs.Invalid)
	}
	for _, k := range []string{"", "nul\x00", "\xff", strings.Repeat("k", 1025)} {
		wantKind(t, fmt.Sprintf("Put of key %q", k), put(bucket, k, objects.Attributes{}), errs.Invalid)
		_, _, err := s.Get(t.Context(), bucket, k)
		wantKind(t, fmt.Sprintf("Get of key %q", k), err, errs.Invalid)
		wantKind(t, fmt.Sprintf("Delete of key %q", k), s.Delete(t.Context(), bucket, k), errs.Invalid)
	}
	for _, m := range []objects.Attributes{
		{ContentType: "text/plain\r\nX-Evil: 1"}, {ContentEncoding: "gzîp"}, {User: map[string]string{"Upper": "x"}},
		{User: map[string]string{"": "x"}}, {User: map[string]string{"a b": "x"}}, {User: map[string]string{"a": " padded "}},
		{User: map[string]string{"a": strings.Repeat("x", 2048)}},
	} {
		wantKind(t, fmt.Sprintf("Put with %.60v", m), put(bucket, "k", m), errs.Invalid)
	}
	err := s.Put(t.Context(), bucket, "k", strings.NewReader("x"), -1, objects.Attributes{})
	wantKind(t, "Put of -1 bytes", err, errs.Invalid)
}

func shortBody(t *testing.T, s objects.Store) {
	put(t, s, "k", "old")
	for _, key := range []string{"k", "new"} {
		err := s.Put(t.Context(), bucket, key, strings.NewReader("1234"), 5, objects.Attributes{})
		wantKind(t, "Put of 5 bytes from a body of 4", err, errs.Invalid)
	}
	if body, _ := get(t, s, "k"); body != "old" {
		t.Errorf("the object became %q", body)
	}
	if keys := list(t, s, "", "", 10); !slices.Equal(keys, []string{"k"}) {
		t.Errorf("objects are %q, want only k", keys)
	}
}

func calledOff(t *testing.T, s objects.Store) {
	put(t, s, "k", "old")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Put(ctx, bucket, "k", strings.NewReader("new"), 3, objects.Attributes{}); err == nil {
		t.Error("a Put whose context had ended returned nil")
	}
	if body, _ := get(t, s, "k"); body != "old" {
		t.Errorf("the object became %q", body)
	}
}

// wholeObjects overwrites one key from two sides with bodies of one repeated byte.
func wholeObjects(t *testing.T, s objects.Store) {
	body := func(c byte) []byte { return bytes.Repeat([]byte{c}, 100_000+int(c)) }
	var writers sync.WaitGroup
	put(t, s, "k", string(body('a')))
	for _, c := range []byte("ab") {
		writers.Go(func() {
			for range 10 {
				if err := s.Put(t.Context(), bucket, "k", bytes.NewReader(body(c)), int64(len(body(c))), objects.Attributes{}); err != nil {
					t.Errorf("Put: %v", err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { writers.Wait(); close(done) }()
	for reading := true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		got, info := get(t, s, "k")
		if got != string(body(got[0])) || info.Size != int64(len(got)) || info.ETag != quotedMD5(got) {
			t.Fatalf("read %d bytes starting with %q; Info says %d bytes, ETag %s", len(got), got[0], info.Size, info.ETag)
		}
	}
}

func seeking(t *testing.T, s objects.Store) {
	put(t, s, "k", "0123456789")
	r, _, err := s.Get(t.Context(), bucket, "k")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	steps := []struct {
		offset int64
		whence int
		at     int64
		want   string
	}{{0, io.SeekEnd, 10, ""}, {0, io.SeekStart, 0, "012"}, {2, io.SeekCurrent, 5, "567"}, {-2, io.SeekEnd, 8, "89"}, {3, io.SeekStart, 3, "345"},
		{12, io.SeekStart, 12, ""}}
	for _, st := range steps {
		at, err := r.Seek(st.offset, st.whence)
		if err != nil || at != st.at {
			t.Fatalf("Seek(%d, %d) = %d, %v; want %d", st.offset, st.whence, at, err, st.at)
		}
		buf := make([]byte, max(3, len(st.want)))
		n, err := io.ReadFull(r, buf)
		if string(buf[:n]) != st.want {
			t.Fatalf("at %d: read %q (%v), want %q", st.at, buf[:n], err, st.want)
		}
	}
	if _, err := r.Seek(-1, io.SeekStart); err == nil {
		t.Error("Seek before the start worked")
	}
}
