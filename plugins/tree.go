package plugins

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/shardmill/shardmill/internal/errs"
)

// tree is a task root that is being written, from a folder, an archive or one executable. It
// counts what it is given, as sizes that somebody declares are not to be believed, and writes
// through an os.Root, which no path can leave.
//
// Its hash covers paths, content and whether a file is executable, and nothing else: a folder, and
// the zip that was made of it, are the same version.
type tree struct {
	file  string // the entry's file name, for errors; printable
	root  *os.Root
	lines []string // one for each file and folder, sorted and hashed in the end
	dirs  map[string]bool
	files map[string]bool
	bytes int64

	modules []string // the .wasm files at the root of an archive
}

// newTree makes the task root dir and returns it empty.
func newTree(file, dir string) (*tree, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, hostFault(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, hostFault(err)
	}
	return &tree{file: printable(file), root: root, dirs: map[string]bool{".": true}, files: map[string]bool{}}, nil
}

// count refuses what makes the task root too large in any direction but bytes.
func (t *tree) count(rel string) error {
	switch {
	case len(t.lines) >= maxEntries:
		return errs.New(errs.Invalid, "%s has more than %d files and folders, the limit of a task root", t.file, maxEntries)
	case len(rel) > maxPath:
		return errs.New(errs.Invalid, "%s has a path of %d bytes, over the limit of %d", t.file, len(rel), maxPath)
	case len(path.Base(rel)) > maxName:
		return errs.New(errs.Invalid, "%s has a file name of %d bytes, over the limit of %d", t.file, len(path.Base(rel)), maxName)
	case strings.Count(rel, "/") >= maxDepth:
		return errs.New(errs.Invalid, "%s has folders more than %d deep, the limit of a task root", t.file, maxDepth)
	}
	return nil
}

// folder makes a folder and those above it, unless they are there.
func (t *tree) folder(rel string) error {
	if t.dirs[rel] {
		return nil
	}
	if err := t.count(rel); err != nil {
		return err
	}
	if err := t.folder(path.Dir(rel)); err != nil {
		return err
	}
	err := t.root.Mkdir(rel, 0o755)
	if err == nil {
		err = t.root.Chmod(rel, 0o755) // whatever the umask is
	}
	if err != nil {
		return hostFault(err)
	}
	t.dirs[rel] = true
	t.lines = append(t.lines, fmt.Sprintf("%q folder", rel))
	return nil
}

// write makes a file of what src has. An error of src is returned as it is. The modes are 0755
// for executables and for the bootstrap, whatever the packer's system thought of it, and 0644.
func (t *tree) write(rel string, executable bool, src io.Reader) error {
	if err := t.folder(path.Dir(rel)); err != nil {
		return err
	}
	if err := t.count(rel); err != nil {
		return err
	}
	mode := os.FileMode(0o644)
	if executable || rel == "bootstrap" {
		mode = 0o755
	}
	f, err := t.root.OpenFile(rel, os.O_CREATE|os.O_EXCL|os.O_WRONLY, mode)
	if err != nil {
		return hostFault(err)
	}
	sum, n, err := copyHashed(f, src, maxUnpacked-t.bytes)
	t.bytes += n
	if errors.Is(err, errTooLong) {
		err = errs.New(errs.Invalid, "%s is larger than %d bytes unpacked, the limit of a task root", t.file, maxUnpacked)
	}
	if err == nil { // whatever the umask is
		if err = f.Chmod(mode); err != nil {
			err = hostFault(err)
		}
	}
	if cerr := f.Close(); err == nil && cerr != nil {
		err = hostFault(cerr)
	}
	t.lines = append(t.lines, fmt.Sprintf("%q file %o %s", rel, mode, sum))
	t.files[rel] = true
	return err
}

// hash is the hash of the tree as a task root, or as whatever else it is for.
func (t *tree) hash(what string) string {
	slices.Sort(t.lines)
	h := sha256.New()
	io.WriteString(h, "shardmill "+what+" 1\n"+strings.Join(t.lines, "\n"))
	return hex.EncodeToString(h.Sum(nil))
}

func (t *tree) close() { t.root.Close() }

var errTooLong = errors.New("longer than allowed")

// copyHashed copies src to dst and returns the hex sha256 of what it copied. It stops with
// errTooLong at the byte after most. Errors of dst are faults of the store.
func copyHashed(dst io.Writer, src io.Reader, most int64) (sum string, n int64, err error) {
	h := sha256.New()
	n, err = io.Copy(storeWriter{io.MultiWriter(dst, h)}, io.LimitReader(src, most+1))
	if err == nil && n > most {
		err = errTooLong
	}
	return hex.EncodeToString(h.Sum(nil)), n, err
}

// storeWriter marks errors of writing, to tell them from errors of reading.
type storeWriter struct{ w io.Writer }

func (s storeWriter) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		err = hostFault(err)
	}
	return n, err
}

var (
	elfMagic    = []byte("\x7fELF")
	scriptMagic = []byte("#!")
	wasmMagic   = []byte("\x00asm\x01\x00\x00\x00")
	wasmLayers  = []byte("\x00asm\x0d\x00\x01\x00") // a component
)

// isExecutable reports whether the kernel could take f for a program.
func isExecutable(f io.ReaderAt) bool {
	head := magic(f)
	return bytes.HasPrefix(head, elfMagic) || bytes.HasPrefix(head, scriptMagic)
}

// checkModule refuses what is not a core module. file is printable.
func checkModule(file string, f io.ReaderAt) error {
	switch head := magic(f); {
	case bytes.Equal(head, wasmMagic):
		return nil
	case bytes.Equal(head, wasmLayers):
		return errs.New(errs.Invalid, "%s is a WebAssembly component, and only core modules run here: build it for wasm32-wasip1", file)
	}
	return errs.New(errs.Invalid, "%s is not a WebAssembly module: it does not start with the bytes 00 61 73 6d 01 00 00 00", file)
}

// magic returns the first 8 bytes of f, or what there is of them.
func magic(f io.ReaderAt) []byte {
	head := make([]byte, 8)
	n, _ := f.ReadAt(head, 0)
	return head[:n]
}
