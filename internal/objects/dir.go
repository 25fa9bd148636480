package objects

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path"
	"sync"

	"golang.org/x/sys/unix"
)

// Dir keeps objects as plain files, to be read with ls and cat: the object k/e/y of a bucket is
// the file ROOT/bucket/k/e/y. A file that people put there is an object too, of the default
// attributes. Symbolic links and devices are none.
//
// # Durability
//
// Put writes a temporary file below ROOT/.tmp, syncs it, renames it to its place and syncs the
// folder. Folders made on the way are synced into their parents before, each once in the life of
// a Dir. So a power cut leaves this:
//
//	before the rename         the old object, and a temporary file that the next OpenDir removes
//	after the rename          the old object or the new one, each whole
//	after the folder's sync   the new object; only now Put returns nil
//
// # Attributes
//
// Where the file system has extended attributes they are kept in one of the file itself,
// user.shardmill.object, set before the file is synced: object and attributes appear in the same
// rename, backups with xattrs (cp -a, rsync -aX, tar --xattrs) carry them along, and ls shows
// nothing. Elsewhere (NFS before 4.2, 9p, FAT) they are in files of their own below
// ROOT/.attributes, named by the SHA-256 of the key; see sidecars for how these keep up with their
// objects. Either holds format 1, a JSON document: format, size, modified (Unix nanoseconds), md5
// (hex), and if set contentType, contentEncoding, user. Size and time of modification are those
// of the file it belongs to. A file that differs was edited by hand, and the document is void.
//
// # Limits
//
// A key's parts between slashes are at most 255 bytes. An object cannot lie where a folder of
// other objects is: with a/b there, Put of a is Invalid, and the other way round.
type Dir struct {
	root       *os.Root
	tmp        *os.File // ROOT/.tmp, locked while this Dir is open
	attributes attributeKeeper

	// pruning keeps Delete from removing a folder that a Put is about to use.
	pruning sync.RWMutex

	mu     sync.Mutex
	synced map[string]struct{} // folders that are durable in their parents

	// step is called before each step of a write; an error fails the step. Only tests set it.
	step func(op, path string) error
}

const (
	tmpFolder = ".tmp"
	maxSynced = 4096 // folders remembered; beyond, all are forgotten and synced once more
)

// OpenDir opens the objects below root, which is made if need be, and removes what writes cut
// short have left. Several processes may have the same root open. Modes of files and folders are
// 0644 and 0755 less the umask: protect records by the mode of root.
func OpenDir(root string) (*Dir, error) {
	if err := makeRoot(root); err != nil {
		return nil, diskError(err, "cannot make the folder %s", root)
	}
	r, err := os.OpenRoot(root)
	if err != nil {
		return nil, diskError(err, "cannot open the folder %s", root)
	}
	d := &Dir{root: r, synced: map[string]struct{}{}}
	if err := d.prepare(); err != nil {
		r.Close()
		return nil, diskError(err, "cannot write below %s", root)
	}
	return d, nil
}

// makeRoot is os.MkdirAll that survives a power cut.
func makeRoot(root string) error {
	err := os.Mkdir(root, 0o755)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeRoot(path.Dir(path.Clean(root))); err != nil {
			return err
		}
		err = os.Mkdir(root, 0o755)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	parent, err := os.Open(path.Dir(path.Clean(root)))
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.Sync()
}

// prepare makes .tmp, empties it unless another Dir is writing there, and finds out where
// attributes can be kept.
func (d *Dir) prepare() (err error) {
	if err := d.root.Mkdir(tmpFolder, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if d.tmp, err = d.root.Open(tmpFolder); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			d.tmp.Close()
		}
	}()
	if unix.Flock(int(d.tmp.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
		names, err := d.tmp.Readdirnames(-1)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := d.root.RemoveAll(tmpFolder + "/" + name); err != nil {
				return err
			}
		}
	}
	// A file system without locks leaves its leftovers where they are.
	_ = unix.Flock(int(d.tmp.Fd()), unix.LOCK_SH)
	return d.chooseAttributes()
}

func (d *Dir) chooseAttributes() error {
	name := tmpFolder + "/" + rand.Text()
	f, err := d.root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer d.root.Remove(name)
	defer f.Close()
	err = xattrs{}.attach(f, record{})
	switch {
	case err == nil:
		d.attributes = xattrs{}
	case errors.Is(err, unix.ENOTSUP):
		d.attributes = &sidecars{d: d}
	default:
		return err
	}
	return nil
}

// Close gives the folder back. Objects that are open stay readable.
func (d *Dir) Close() error { return errors.Join(d.tmp.Close(), d.root.Close()) }
