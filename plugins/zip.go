package plugins

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// Bounds on archives beside those of every task root.
const (
	maxDirectory = 4 << 20 // bytes read to list an archive: its central directory
	maxRatio     = 100     // bytes unpacked for one packed, beyond ratioFree
	ratioFree    = 1 << 20
)

// archive unpacks NAME.zip into the staged version.
func (t *taking) archive() (c content, err error) {
	err = t.packed(func(f *os.File, size int64) error {
		c, err = t.unpack(f, size)
		return err
	})
	return c, err
}

// packed hands a copy of the entry, an archive, to use and removes it then: what was checked is what
// is unpacked, whatever becomes of the entry.
func (t *taking) packed(use func(f *os.File, size int64) error) error {
	src, err := t.open(t.dir, t.file, t.file)
	if err != nil {
		return err
	}
	defer src.Close()
	const packed = "packed.zip"
	if t.sum, err = t.copyFile(src, packed); err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(t.staged, packed))
	if err != nil {
		return hostFault(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return hostFault(err)
	}
	if err := use(f, info.Size()); err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		return hostFault(err)
	}
	return nil
}

// unpack extracts an archive into a task root, or into the module that it holds.
func (t *taking) unpack(src io.ReaderAt, size int64) (content, error) {
	return t.tree(0, func(tr *tree) error {
		names, err := t.extractAll(tr, src, size)
		for _, n := range names {
			if strings.HasSuffix(n, ".wasm") && !strings.Contains(n, "/") {
				tr.modules = append(tr.modules, n)
			}
		}
		return err
	})
}

// extractAll extracts an archive and returns the paths in it. Every name is checked before the
// first byte is written.
func (t *taking) extractAll(tr *tree, src io.ReaderAt, size int64) (names []string, err error) {
	m := &meteredReader{r: src, metered: true, left: maxDirectory}
	z, err := zip.NewReader(m, size)
	m.metered = false
	switch {
	case errors.Is(err, errDirectory):
		return nil, errs.New(errs.Invalid, "%s has a list of entries larger than %d bytes, the limit of an archive", tr.file, maxDirectory)
	case err != nil:
		return nil, errs.Wrap(errs.Invalid, err, "%s is not a zip archive: pack it again", tr.file)
	}
	if names, err = checkNames(tr.file, z.File); err != nil {
		return nil, err
	}
	for i, f := range z.File {
		if err := t.extract(tr, m, f, names[i]); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// keepModule makes the module of an unpacked archive the content: the same version as if the
// module had been dropped in by itself.
func (t *taking) keepModule(modules []string) (content, error) {
	if len(modules) > 1 {
		return content{}, errs.New(errs.Invalid, "%s has %d .wasm files at its root and no bootstrap: leave one", printable(t.file), len(modules))
	}
	f, err := os.Open(filepath.Join(t.staged, taskRoot, modules[0]))
	if err != nil {
		return content{}, hostFault(err)
	}
	defer f.Close()
	if err := checkModule(printable(t.file+": "+modules[0]), f); err != nil {
		return content{}, err
	}
	sha, err := t.copyFile(f, moduleFile)
	if err != nil {
		return content{}, err
	}
	if err := os.RemoveAll(filepath.Join(t.staged, taskRoot)); err != nil {
		return content{}, hostFault(err)
	}
	return content{sha: sha, kind: runtime.KindWasm, path: moduleFile}, nil
}

// badEntry is the refusal of an archive for one entry.
func badEntry(file, entry, what string) error {
	const most = 100
	if len(entry) > most {
		entry = entry[:most] + "…"
	}
	return errs.New(errs.Invalid, "%s: entry %q %s: pack it again from inside the folder, with plain files and folders only", file, entry, what)
}

// checkNames returns where each entry goes, as a slash-separated path below the task root
// ("." for the root itself), or refuses the archive.
func checkNames(file string, entries []*zip.File) ([]string, error) {
	if len(entries) > maxEntries {
		return nil, errs.New(errs.Invalid, "%s has %d entries, over the limit of %d", file, len(entries), maxEntries)
	}
	names := make([]string, len(entries))
	seen := archiveNames{}
	for i, f := range entries {
		rel, what := localPath(f.Name)
		if what == "" {
			what = entryType(f)
		}
		if what == "" && rel != "." {
			what = seen.claim(rel, f.Mode().IsDir())
		}
		if what != "" {
			return nil, badEntry(file, f.Name, what)
		}
		names[i] = rel
	}
	return names, nil
}

// localPath checks an entry's name. what says what is wrong with it.
func localPath(name string) (rel, what string) {
	rel = strings.TrimSuffix(strings.TrimPrefix(name, "./"), "/")
	switch {
	case name == "./":
		return ".", ""
	case len(name) > maxPath:
		return "", fmt.Sprintf("has a name of %d bytes, over the limit of %d", len(name), maxPath)
	case strings.ContainsRune(name, 0):
		return "", "has a NUL in its name"
	case strings.Contains(name, `\`):
		return "", "has a backslash in its name"
	case strings.HasPrefix(name, "/"):
		return "", "has an absolute name"
	case len(name) > 1 && name[1] == ':' && unicode.IsLetter(rune(name[0])):
		return "", "names a drive"
	case !utf8.ValidString(name):
		return "", "has a name that is not UTF-8"
	}
	for _, part := range strings.Split(rel, "/") {
		switch {
		case part == "..":
			return "", "leaves the archive's folder"
		case part == "" || part == ".":
			return "", "has an empty part in its name"
		case len(part) > maxName:
			return "", fmt.Sprintf("has a file name of %d bytes, over the limit of %d", len(part), maxName)
		}
	}
	if strings.Count(rel, "/") >= maxDepth {
		return "", fmt.Sprintf("is more than %d folders deep", maxDepth)
	}
	return rel, ""
}

// entryType refuses what is neither a file nor a folder, and what cannot be unpacked.
func entryType(f *zip.File) string {
	switch mode := f.Mode(); {
	case mode&fs.ModeSymlink != 0:
		return "is a link"
	case !mode.IsRegular() && !mode.IsDir():
		return "is a " + special(mode)
	case mode.IsDir() && f.UncompressedSize64 != 0:
		return "is a folder with content"
	case f.Flags&1 != 0:
		return "is encrypted"
	case f.Method != zip.Store && f.Method != zip.Deflate:
		return fmt.Sprintf("is compressed by method %d, not by deflate", f.Method)
	}
	return ""
}

// archiveNames holds the names of an archive, folded, so that names that differ only by case, and would
// overwrite one another on another system, are found.
type archiveNames map[string]claimed

type claimed struct {
	path string
	dir  bool
}

// claim adds a path and the folders above it. It says what is wrong with that.
func (n archiveNames) claim(rel string, dir bool) string {
	key := fold(rel)
	if old, ok := n[key]; ok {
		switch {
		case old.path != rel:
			return fmt.Sprintf("differs only by case from %q", old.path)
		case dir != old.dir:
			return fmt.Sprintf("makes %q both a file and a folder", rel)
		case !dir:
			return "is there twice"
		}
		return ""
	}
	n[key] = claimed{rel, dir}
	if above := path.Dir(rel); above != "." {
		return n.claim(above, true)
	}
	return ""
}

// fold maps runes that differ only by case to the least of them.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, s)
}

// extract writes one entry to the tree.
func (t *taking) extract(tr *tree, m *meteredReader, f *zip.File, rel string) error {
	if rel == "." {
		return nil
	}
	if what := localHeader(m, f); what != "" {
		return badEntry(tr.file, f.Name, what)
	}
	if f.Mode().IsDir() {
		return tr.folder(rel)
	}
	src, err := f.Open()
	if err != nil {
		return badEntry(tr.file, f.Name, "cannot be unpacked ("+err.Error()+")")
	}
	defer src.Close()
	e := &entryReader{t: t, src: src, file: tr.file, entry: f}
	return tr.write(rel, f.Mode()&0o111 != 0, e)
}

// entryReader reads an entry, counting what comes out of it.
type entryReader struct {
	t     *taking
	src   io.Reader
	file  string
	entry *zip.File
	n     int64
}

func (e *entryReader) Read(p []byte) (int, error) {
	if err := e.t.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := e.src.Read(p)
	e.n += int64(n)
	if e.n > ratioFree && uint64(e.n-ratioFree)/maxRatio > e.entry.CompressedSize64 {
		return 0, badEntry(e.file, e.entry.Name, fmt.Sprintf("unpacks to more than %d times its packed size", maxRatio))
	}
	if err != nil && err != io.EOF {
		err = badEntry(e.file, e.entry.Name, "cannot be unpacked ("+err.Error()+")")
	}
	return n, err
}

// localHeader compares an entry's own header with the archive's central directory. Archives in
// which they differ show one content to a scanner and another to the program that unpacks them.
func localHeader(m *meteredReader, f *zip.File) string {
	const fixed = 30
	if _, err := f.DataOffset(); err != nil { // reads the header, and m notes where it is
		return "has no header where the archive's directory says"
	}
	head := make([]byte, fixed+len(f.Name))
	if _, err := m.ReadAt(head, m.last); err != nil || !bytes.HasPrefix(head, []byte("PK\x03\x04")) {
		return "has no header where the archive's directory says"
	}
	flags, method := binary.LittleEndian.Uint16(head[6:]), binary.LittleEndian.Uint16(head[8:])
	nameLen := int(binary.LittleEndian.Uint16(head[26:]))
	if flags&1 != f.Flags&1 || method != f.Method || nameLen != len(f.Name) || string(head[fixed:]) != f.Name {
		return "has a header that disagrees with the archive's directory"
	}
	return ""
}

var errDirectory = errors.New("the archive's directory is too large")

// meteredReader notes where it read last and, while metered, fails beyond left bytes.
type meteredReader struct {
	r       io.ReaderAt
	metered bool
	left    int64
	last    int64
}

func (m *meteredReader) ReadAt(p []byte, off int64) (int, error) {
	m.last = off
	if m.metered {
		if m.left -= int64(len(p)); m.left < 0 {
			return 0, errDirectory
		}
	}
	return m.r.ReadAt(p, off)
}
