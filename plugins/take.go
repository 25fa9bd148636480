package plugins

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/plugins/manifest"
	"github.com/shardmill/shardmill/runtime"
)

// content is a version in the store. It is pinned there.
type content struct {
	sha  string
	kind runtime.ArtifactKind
	path string
}

// errMoved means that the entry changed or went while it was read. It is not a refusal: the
// entry is looked at again.
var errMoved = errors.New("the entry changed while it was read")

// errNoPlugin marks the refusal of a plain file that does not even start like a program: a
// README, say. It is no function, and is not listed as one.
type errNoPlugin struct{ error }

func (e errNoPlugin) Unwrap() error { return e.error }

// take copies an entry into the store. The hash is that of the bytes that were copied. beside is
// what the manifest beside the entry says, nil if there is none; the manifest that comes back is
// that one or the one inside the entry, or nil.
func (s *store) take(ctx context.Context, dir *os.File, file string, f form, mode fs.FileMode, beside *manifest.Manifest) (content, *manifest.Manifest, error) {
	staged, err := s.stage()
	if err != nil {
		return content{}, nil, err
	}
	defer os.RemoveAll(staged)
	t := taking{ctx: ctx, dir: dir, file: file, staged: staged, manifest: beside}
	c, err := t.form(f, mode)
	if err != nil {
		return content{}, nil, err
	}
	if t.manifest != nil {
		if err := t.manifest.Check(c.kind); err != nil {
			return content{}, nil, err
		}
		if err := t.checkPin(); err != nil {
			return content{}, nil, err
		}
	}
	at, err := s.commit(staged, c.sha)
	c.path = filepath.Join(at, c.path)
	return c, t.manifest, err
}

// form copies the entry by its form.
func (t *taking) form(f form, mode fs.FileMode) (content, error) {
	switch {
	case f == plain && mode.IsDir():
		return t.folder()
	case f == plain:
		return t.executable()
	case f == module:
		return t.module()
	case f == nodeSource:
		return t.source("index"+filepath.Ext(t.file), runtime.KindNode)
	case f == pythonSource:
		return t.source("lambda_function.py", runtime.KindPython)
	default:
		return t.archive()
	}
}

// checkPin compares the entry's hash with the one that the manifest expects.
func (t *taking) checkPin() error {
	want := t.manifest.SHA256
	switch {
	case want == "" || want == t.sum:
		return nil
	case t.sum == "":
		return t.manifest.Refuse("sha256", "pins one file, and "+printable(t.file)+" is a folder: pack it, or remove the key")
	}
	return t.manifest.Refuse("sha256", "is not that of "+printable(t.file)+", which has "+t.sum+": the file is not the one that was meant, or the manifest is out of date")
}

// taking is the copy of one entry, in progress.
type taking struct {
	ctx    context.Context
	dir    *os.File // the plugin directory
	file   string
	staged string // where the version is written

	manifest *manifest.Manifest // nil: none
	sum      string             // hex sha256 of the entry's file; "" of a folder
}

const (
	moduleFile = "module.wasm"
	taskRoot   = "task"
)

func (t *taking) module() (content, error) {
	src, err := t.open(t.dir, t.file, t.file)
	if err != nil {
		return content{}, err
	}
	defer src.Close()
	if err := checkModule(printable(t.file), src); err != nil {
		return content{}, err
	}
	t.sum, err = t.copyFile(src, moduleFile)
	return content{sha: t.sum, kind: runtime.KindWasm, path: moduleFile}, err
}

// copyFile copies the open entry to a file of the staged version.
func (t *taking) copyFile(src io.Reader, name string) (sha string, err error) {
	dst, err := os.OpenFile(filepath.Join(t.staged, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return "", hostFault(err)
	}
	sha, _, err = copyHashed(dst, t.reader(src), maxFile)
	if errors.Is(err, errTooLong) {
		err = errMoved // it was within the limit when it was opened
	}
	if cerr := dst.Close(); err == nil && cerr != nil {
		err = hostFault(cerr)
	}
	return sha, err
}

func (t *taking) executable() (content, error) {
	src, err := t.open(t.dir, t.file, t.file)
	if err != nil {
		return content{}, err
	}
	defer src.Close()
	if !isExecutable(src) {
		return content{}, errNoPlugin{errs.New(errs.Invalid, "%s is neither an ELF file nor a script that starts with #!: %s", printable(t.file), accepted)}
	}
	return t.tree(runtime.KindBootstrap, func(tr *tree) error { return t.single(tr, "bootstrap", true, src) })
}

// source makes a task root of one file of source code.
func (t *taking) source(name string, kind runtime.ArtifactKind) (content, error) {
	src, err := t.open(t.dir, t.file, t.file)
	if err != nil {
		return content{}, err
	}
	defer src.Close()
	return t.tree(kind, func(tr *tree) error { return t.single(tr, name, false, src) })
}

// single writes the entry's one file to the tree.
func (t *taking) single(tr *tree, name string, executable bool, src io.Reader) error {
	h := sha256.New()
	err := tr.write(name, executable, io.TeeReader(t.reader(src), h))
	t.sum = hex.EncodeToString(h.Sum(nil))
	return err
}

func (t *taking) folder() (content, error) {
	return t.tree(0, func(tr *tree) error {
		src, err := openChild(t.dir, t.file)
		if err != nil {
			return t.refuse(err, t.file)
		}
		defer src.Close()
		return t.copyFolder(tr, src, "")
	})
}

// tree writes a task root and makes it the content. kind is what its file's name says; 0 when its
// files are to tell.
func (t *taking) tree(kind runtime.ArtifactKind, fill func(*tree) error) (content, error) {
	tr, err := newTree(t.file, filepath.Join(t.staged, taskRoot))
	if err != nil {
		return content{}, err
	}
	defer tr.close()
	if err := fill(tr); err != nil {
		return content{}, err
	}
	if kind, err = t.kind(tr, kind); err != nil {
		return content{}, err
	}
	if kind == runtime.KindWasm {
		return t.keepModule(tr.modules)
	}
	return content{sha: tr.hash(taskRootHash), kind: kind, path: taskRoot}, nil
}

const taskRootHash = "task root" // names what is hashed

// kind settles what a finished task root is, with the manifest that may be inside it.
func (t *taking) kind(tr *tree, kind runtime.ArtifactKind) (runtime.ArtifactKind, error) {
	inside, err := tr.inside()
	switch {
	case err != nil:
		return 0, err
	case inside != nil && t.manifest != nil:
		return 0, errs.New(errs.Invalid, "%s has a manifest at its root (%s) and one beside it: leave one", tr.file, insideManifest)
	case inside != nil:
		t.manifest = inside
	}
	if kind == 0 {
		if kind, err = tr.kind(t.manifest); err != nil {
			return 0, err
		}
	} else if m := t.manifest; m != nil && m.Runtime != 0 && m.Runtime != kind {
		return 0, m.Refuse("runtime", "is not the one of "+tr.file+", which is "+kind.String()+" by its form: remove it")
	}
	if kind == runtime.KindBootstrap {
		return kind, tr.checkBootstrap(t.manifest)
	}
	return kind, nil
}

// copyFolder copies what is in the open folder src. Depth is bounded by the tree.
func (t *taking) copyFolder(tr *tree, src *os.File, rel string) error {
	return eachEntry(src, func(d fs.DirEntry) error {
		below := path.Join(rel, d.Name())
		if d.IsDir() {
			if err := tr.folder(below); err != nil {
				return err
			}
			sub, err := openChild(src, d.Name())
			if err != nil {
				return t.refuse(err, path.Join(t.file, below))
			}
			defer sub.Close()
			return t.copyFolder(tr, sub, below)
		}
		f, err := t.open(src, d.Name(), path.Join(t.file, below))
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return errMoved
		}
		return tr.write(below, info.Mode()&0o111 != 0, t.reader(f))
	})
}

// open opens a regular file of at most maxFile bytes. name is its path for errors.
func (t *taking) open(dir *os.File, base, name string) (*os.File, error) {
	info, err := os.Lstat(filepath.Join(dir.Name(), base))
	if err != nil {
		return nil, t.refuse(err, name)
	}
	if err := checkRegular(info, name); err != nil { // before the opening, which a device may notice
		return nil, err
	}
	f, err := openChild(dir, base)
	if err != nil {
		return nil, t.refuse(err, name)
	}
	if info, err = f.Stat(); err != nil || checkRegular(info, name) != nil {
		f.Close()
		return nil, errMoved
	}
	return f, nil
}

// checkRegular refuses everything that is not a file of bounded size.
func checkRegular(info fs.FileInfo, name string) error {
	name = printable(name)
	switch mode := info.Mode(); {
	case mode&fs.ModeSymlink != 0:
		return errs.New(errs.Invalid, "%s is a symbolic link, and links are never followed: put the file itself there", name)
	case mode.IsDir():
		return errs.New(errs.Invalid, "%s is a folder, and a folder's name has no extension: %s", name, accepted)
	case !mode.IsRegular():
		return errs.New(errs.Invalid, "%s is a %s, not a file: %s", name, special(mode), accepted)
	case info.Size() > maxFile:
		return errs.New(errs.Invalid, "%s is %d bytes, over the limit of %d for one file", name, info.Size(), maxFile)
	}
	return nil
}

func special(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeNamedPipe != 0:
		return "named pipe"
	case mode&fs.ModeSocket != 0:
		return "socket"
	case mode&fs.ModeDevice != 0:
		return "device"
	}
	return "special file"
}

// refuse turns an error of reading the entry into a refusal, or errMoved. name is the path at
// fault, below the plugin directory.
func (t *taking) refuse(err error, name string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ELOOP), errors.Is(err, syscall.ENXIO), errors.Is(err, syscall.ENOTDIR):
		return errMoved // it was something else a moment ago
	case errors.Is(err, fs.ErrPermission):
		return errs.Wrap(errs.Invalid, cause(err), "%s cannot be read: make it readable for the user that shardmill runs as", printable(name))
	}
	return errs.Wrap(errs.Unavailable, cause(err), "%s cannot be read; once that is put right, touch it", printable(name))
}

// reader reads src until the taking's context ends.
func (t *taking) reader(src io.Reader) io.Reader { return &sourceReader{t, src} }

type sourceReader struct {
	t   *taking
	src io.Reader
}

func (r *sourceReader) Read(p []byte) (int, error) {
	if err := r.t.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := r.src.Read(p)
	if err != nil && err != io.EOF {
		err = r.t.refuse(err, r.t.file)
	}
	return n, err
}
