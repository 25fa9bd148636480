package plugins

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/shardmill/shardmill/internal/errs"
)

// item is one entry of an archive in a test.
type item struct {
	zip.FileHeader
	content string
}

func file(name, content string) item {
	return item{zip.FileHeader{Name: name, Method: zip.Deflate}, content}
}

// with is file with a mode.
func with(name string, mode fs.FileMode, content string) item {
	i := file(name, content)
	i.SetMode(mode)
	return i
}

func zipOf(t testing.TB, items ...item) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, i := range items {
		f, err := w.CreateHeader(&i.FileHeader)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, i.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// taker is a store and a directory, without anything that watches.
type taker struct {
	t     testing.TB
	dir   string
	store *store
}

func newTaker(t testing.TB) *taker {
	base := t.TempDir()
	tk := &taker{t: t, dir: filepath.Join(base, "plugins")}
	for _, d := range []string{tk.dir, filepath.Join(base, "versions")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	var err error
	if tk.store, err = openStore(filepath.Join(base, "versions")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tk.store.close() })
	return tk
}

func (tk *taker) path(name string) string { return filepath.Join(tk.dir, name) }

func (tk *taker) put(name, content string) {
	tk.t.Helper()
	if err := os.MkdirAll(filepath.Dir(tk.path(name)), 0o755); err != nil {
		tk.t.Fatal(err)
	}
	if err := os.WriteFile(tk.path(name), []byte(content), 0o644); err != nil {
		tk.t.Fatal(err)
	}
}

func (tk *taker) take(name string) (content, error) {
	tk.t.Helper()
	dir, err := os.Open(tk.dir)
	if err != nil {
		tk.t.Fatal(err)
	}
	defer dir.Close()
	info, err := os.Lstat(tk.path(name))
	if err != nil {
		tk.t.Fatal(err)
	}
	_, f, err := classify(name)
	if err != nil {
		tk.t.Fatal(err)
	}
	c, _, err := tk.store.take(context.Background(), dir, name, f, info.Mode(), nil)
	return c, err
}

// clean makes sure that nothing is left in the store and nothing was written beside it.
func (tk *taker) clean() {
	tk.t.Helper()
	for dir, want := range map[string]string{tk.store.dir: "lock", filepath.Dir(tk.store.dir): "plugins versions"} {
		list, err := os.ReadDir(dir)
		if err != nil {
			tk.t.Fatal(err)
		}
		var names []string
		for _, d := range list {
			names = append(names, d.Name())
		}
		if got := strings.Join(names, " "); got != want {
			tk.t.Errorf("%s holds %q, want %q", dir, got, want)
		}
	}
}

func TestHostileArchives(t *testing.T) {
	boot := file("bootstrap", script)
	zeros := strings.Repeat("\x00", 3<<20)
	many := func(n int) (items []item) {
		for i := range n {
			items = append(items, item{zip.FileHeader{Name: fmt.Sprintf("f%d", i)}, ""})
		}
		return items
	}
	good := zipOf(t, boot, file("data", "hello hello hello hello"))
	replace := func(old, new string, n int) []byte { return []byte(strings.Replace(string(good), old, new, n)) }
	const remedy = ": pack it again from inside the folder, with plain files and folders only"
	for what, c := range map[string]struct {
		data []byte
		want string
	}{
		"parent":          {zipOf(t, boot, file("../evil", "x")), `up.zip: entry "../evil" leaves the archive's folder` + remedy},
		"parent inside":   {zipOf(t, boot, file("a/../../evil", "x")), `up.zip: entry "a/../../evil" leaves the archive's folder` + remedy},
		"parent alone":    {zipOf(t, boot, file("..", "x")), `up.zip: entry ".." leaves the archive's folder` + remedy},
		"dot parent":      {zipOf(t, boot, file("./../evil", "x")), `up.zip: entry "./../evil" leaves the archive's folder` + remedy},
		"absolute":        {zipOf(t, boot, file("/etc/passwd", "x")), `up.zip: entry "/etc/passwd" has an absolute name` + remedy},
		"dot absolute":    {zipOf(t, boot, file(".//etc/passwd", "x")), `up.zip: entry ".//etc/passwd" has an empty part in its name` + remedy},
		"backslash":       {zipOf(t, boot, file(`..\evil`, "x")), `up.zip: entry "..\\evil" has a backslash in its name` + remedy},
		"drive":           {zipOf(t, boot, file("C:evil", "x")), `up.zip: entry "C:evil" names a drive` + remedy},
		"NUL":             {zipOf(t, boot, file("a\x00b", "x")), `up.zip: entry "a\x00b" has a NUL in its name` + remedy},
		"not UTF-8":       {zipOf(t, boot, file("a\xffb", "x")), `up.zip: entry "a\xffb" has a name that is not UTF-8` + remedy},
		"empty name":      {zipOf(t, boot, file("", "x")), `up.zip: entry "" has an empty part in its name` + remedy},
		"empty part":      {zipOf(t, boot, file("a//b", "x")), `up.zip: entry "a//b" has an empty part in its name` + remedy},
		"dot":             {zipOf(t, boot, file("a/./b", "x")), `up.zip: entry "a/./b" has an empty part in its name` + remedy},
		"long name":       {zipOf(t, boot, file(strings.Repeat("a/", 600), "")), `up.zip: entry "` + strings.Repeat("a/", 50) + `…" has a name of 1200 bytes, over the limit of 1024` + remedy},
		"long file name":  {zipOf(t, boot, file(strings.Repeat("a", 256), "x")), `up.zip: entry "` + strings.Repeat("a", 100) + `…" has a file name of 256 bytes, over the limit of 255` + remedy},
		"deep":            {zipOf(t, boot, file(strings.Repeat("a/", 64)+"b", "x")), `up.zip: entry "` + strings.Repeat("a/", 50) + `…" is more than 64 folders deep` + remedy},
		"terminal escape": {zipOf(t, boot, file("../\x1b[2J", "x")), `up.zip: entry "../\x1b[2J" leaves the archive's folder` + remedy},
		"link":            {zipOf(t, boot, with("l", fs.ModeSymlink|0o777, "/etc/passwd")), `up.zip: entry "l" is a link` + remedy},
		"bootstrap link":  {zipOf(t, with("bootstrap", fs.ModeSymlink|0o777, "/bin/sh")), `up.zip: entry "bootstrap" is a link` + remedy},
		"device":          {zipOf(t, boot, with("d", fs.ModeDevice|0o666, "")), `up.zip: entry "d" is a device` + remedy},
		"char device":     {zipOf(t, boot, with("d", fs.ModeDevice|fs.ModeCharDevice|0o666, "")), `up.zip: entry "d" is a device` + remedy},
		"pipe":            {zipOf(t, boot, with("p", fs.ModeNamedPipe|0o666, "")), `up.zip: entry "p" is a named pipe` + remedy},
		"socket":          {zipOf(t, boot, with("s", fs.ModeSocket|0o666, "")), `up.zip: entry "s" is a socket` + remedy},
		"duplicate":       {zipOf(t, boot, file("a", "1"), file("a", "2")), `up.zip: entry "a" is there twice` + remedy},
		"two bootstraps":  {zipOf(t, boot, file("./bootstrap", script)), `up.zip: entry "./bootstrap" is there twice` + remedy},
		"folded":          {zipOf(t, boot, file("Lib.so", "1"), file("lib.SO", "2")), `up.zip: entry "lib.SO" differs only by case from "Lib.so"` + remedy},
		"folded Kelvin":   {zipOf(t, boot, file("k", "1"), file("\u212a", "2")), "up.zip: entry \"\u212a\" differs only by case from \"k\"" + remedy},
		"folded folder":   {zipOf(t, boot, file("lib/a", "1"), file("LIB/b", "2")), `up.zip: entry "LIB/b" differs only by case from "lib"` + remedy},
		"file and folder": {zipOf(t, boot, file("a", "1"), file("a/b", "2")), `up.zip: entry "a/b" makes "a" both a file and a folder` + remedy},
		"ratio":           {zipOf(t, boot, file("bomb", zeros)), `up.zip: entry "bomb" unpacks to more than 100 times its packed size` + remedy},
		"10,001 entries":  {zipOf(t, many(10_001)...), "up.zip has 10001 entries, over the limit of 10000"},
		"encrypted":       {replace("PK\x01\x02\x14\x00\x14\x00\x08", "PK\x01\x02\x14\x00\x14\x00\x09", 1), `up.zip: entry "bootstrap" is encrypted` + remedy},
		"headers differ":  {replace("data", "evil", 1), `up.zip: entry "data" has a header that disagrees with the archive's directory` + remedy},
		"header missing":  {replace("PK\x03\x04", "PK\x07\x04", 1), `up.zip: entry "bootstrap" has no header where the archive's directory says` + remedy},
		"corrupt":         {corrupt(t), `up.zip: entry "stored" cannot be unpacked (zip: checksum error)` + remedy},
		"cut":             {good[:len(good)/2], "up.zip is not a zip archive: pack it again: zip: not a valid zip file"},
		"text":            {[]byte("PK\x03\x04 and then nothing"), "up.zip is not a zip archive: pack it again: zip: not a valid zip file"},
		"empty":           {nil, "up.zip is not a zip archive: pack it again: zip: not a valid zip file"},
		"no bootstrap":    {zipOf(t, file("README", "x")), "up.zip has nothing at its root to start it by: " + rootForms},
		"one too deep":    {zipOf(t, file("up/bootstrap", script)), `up.zip has nothing at its root to start it by, but bootstrap in the folder "up": pack that folder's content: ` + rootForms},
		"text bootstrap":  {zipOf(t, file("bootstrap", "hello")), "up.zip has a bootstrap that is neither an ELF file nor a script that starts with #!"},
		"folder for it":   {zipOf(t, with("bootstrap/", fs.ModeDir|0o755, "")), "up.zip has a bootstrap that is neither an ELF file nor a script that starts with #!"},
		"two modules":     {zipOf(t, file("a.wasm", wasm("")), file("b.wasm", wasm(""))), "up.zip has 2 .wasm files at its root and no bootstrap: leave one"},
		"not a module":    {zipOf(t, file("a.wasm", "hello")), "up.zip: a.wasm is not a WebAssembly module: it does not start with the bytes 00 61 73 6d 01 00 00 00"},
	} {
		t.Run(what, func(t *testing.T) {
			tk := newTaker(t)
			tk.put("up.zip", string(c.data))
			_, err := tk.take("up.zip")
			wantErr(t, err, errs.Invalid, c.want)
			tk.clean()
		})
	}
}

// corrupt is an archive with a byte of a stored entry changed.
func corrupt(t testing.TB) []byte {
	data := zipOf(t, file("bootstrap", script), item{zip.FileHeader{Name: "stored", Method: zip.Store}, "original"})
	return bytes.Replace(data, []byte("original"), []byte("0riginal"), 1)
}

func TestAnArchiveThatListsMoreThanItMayIsNotListed(t *testing.T) {
	tk := newTaker(t)
	var items []item
	for i := range 9_000 { // few enough entries, but their names take 9 MB
		items = append(items, item{zip.FileHeader{Name: fmt.Sprintf("%d%s", i, strings.Repeat("n", 1000))}, ""})
	}
	tk.put("up.zip", string(zipOf(t, items...)))
	_, err := tk.take("up.zip")
	wantErr(t, err, errs.Invalid, "up.zip has a list of entries larger than 4194304 bytes, the limit of an archive")
}

func TestAnArchiveIsTheSameVersionAsItsFolder(t *testing.T) {
	tk := newTaker(t)
	tk.put("folder/bootstrap", script)
	tk.put("folder/lib/data", "x")
	os.MkdirAll(tk.path("folder/tmp"), 0o755)
	tk.put("packed.zip", string(zipOf(t, with("./", fs.ModeDir|0o755, ""), with("./tmp/", fs.ModeDir|0o700, ""),
		with("./bootstrap", 0o644, script), with("./lib/data", 0o600, "x"))))
	tk.put("other.zip", string(zipOf(t, with("tmp/", fs.ModeDir|0o755, ""), file("bootstrap", script), with("lib/data", 0o755, "x"))))
	folder, err := tk.take("folder")
	if err != nil {
		t.Fatal(err)
	}
	if packed, err := tk.take("packed.zip"); err != nil || packed != folder {
		t.Errorf("zip %v %v, folder %v: want the same", packed, err, folder)
	}
	if other, err := tk.take("other.zip"); err != nil || other.sha == folder.sha {
		t.Errorf("a file that became executable left the version as it was (%v)", err)
	}
	tk.put("bare.wasm", wasm("m"))
	tk.put("wrapped.zip", string(zipOf(t, file("x.wasm", wasm("m")))))
	bare, err := tk.take("bare.wasm")
	if err != nil {
		t.Fatal(err)
	}
	if wrapped, err := tk.take("wrapped.zip"); err != nil || wrapped != bare {
		t.Errorf("zip %v %v, module %v: want the same", wrapped, err, bare)
	}
}

func TestModesOfAnArchiveAreMasked(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077)) // which must not matter
	tk := newTaker(t)
	tk.put("up.zip", string(zipOf(t, with("bootstrap", 0o600, script), with("tool", fs.ModeSetuid|fs.ModeSetgid|fs.ModeSticky|0o777, "x"),
		with("data", 0o666, "x"), with("d/", fs.ModeDir|fs.ModeSetgid|0o777, ""))))
	c, err := tk.take("up.zip")
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]fs.FileMode{"bootstrap": 0o755, "tool": 0o755, "data": 0o644, "d": fs.ModeDir | 0o755} {
		if info, err := os.Stat(filepath.Join(c.path, name)); err != nil || info.Mode() != want {
			t.Errorf("%s: %v %v, want %v", name, info.Mode(), err, want)
		}
	}
	if list, _ := os.ReadDir(filepath.Dir(c.path)); len(list) != 1 {
		t.Errorf("the version holds %v, want the task root alone", list)
	}
}

func TestTheUnpackedSizeIsCountedNotBelieved(t *testing.T) {
	tr, err := newTree("up.zip", filepath.Join(t.TempDir(), "task"))
	if err != nil {
		t.Fatal(err)
	}
	defer tr.close()
	tr.bytes = maxUnpacked - 4
	if err := tr.write("fits", false, strings.NewReader("1234")); err != nil {
		t.Fatal(err)
	}
	err = tr.write("more", false, strings.NewReader("5"))
	wantErr(t, err, errs.Invalid, "up.zip is larger than 262144000 bytes unpacked, the limit of a task root")
}

func FuzzArchive(f *testing.F) {
	f.Add(zipOf(f, file("bootstrap", script), file("a/b", "x")))
	f.Add(zipOf(f, file("x.wasm", wasm(""))))
	f.Add(zipOf(f, file("../evil", "x"), with("l", fs.ModeSymlink, "/")))
	f.Add(corrupt(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		tk := newTaker(t)
		tk.put("up.zip", string(data))
		c, err := tk.take("up.zip")
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Fatalf("an archive made a fault of ours: %v", err)
			}
			tk.clean()
			return
		}
		filepath.WalkDir(c.path, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.IsDir() && !d.Type().IsRegular() {
				t.Errorf("%s is a %v (%v)", path, d.Type(), err)
			}
			return nil
		})
	})
}
