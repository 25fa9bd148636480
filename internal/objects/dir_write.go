package objects

import (
	"context"
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shardmill/shardmill/internal/errs"
)

// Put implements Store. An error of kind Unknown says that the object is in its place and may
// still vanish in a power cut; the same Put again settles it.
func (d *Dir) Put(ctx context.Context, bucket, key string, body io.ReadSeeker, size int64, m Attributes) error {
	if err := checkPut(bucket, key, size, m); err != nil {
		return err
	}
	name, err := pathOf(bucket, key)
	if err != nil {
		return err
	}
	tmp := tmpFolder + "/" + rand.Text()
	r, err := d.writeTemp(ctx, tmp, body, size, m)
	if err == nil {
		err = d.place(tmp, name, r)
	}
	if err == nil {
		return nil
	}
	_ = d.do("remove", tmp, func() error { return d.root.Remove(tmp) }) // gone after the rename
	return diskError(err, "cannot store %s in bucket %s", key, bucket)
}

// writeTemp writes and syncs the object as the file tmp.
func (d *Dir) writeTemp(ctx context.Context, tmp string, body io.ReadSeeker, size int64, m Attributes) (record, error) {
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return record{}, errs.Wrap(errs.Internal, err, "cannot read the object's body from its start")
	}
	var f *os.File
	err := d.do("create", tmp, func() (err error) {
		f, err = d.root.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		return err
	})
	if err != nil {
		return record{}, err
	}
	defer f.Close()
	sum := md5.New()
	err = d.do("write", tmp, func() error {
		return copyBody(ctx, io.MultiWriter(f, sum), body, size)
	})
	if err != nil {
		return record{}, err
	}
	// The clock of the file system ticks in milliseconds; a finer time tells edits apart.
	now := time.Now()
	if err := d.root.Chtimes(tmp, now, now); err != nil {
		return record{}, err
	}
	info, err := f.Stat()
	if err != nil {
		return record{}, err
	}
	r := newRecord(info, hex.EncodeToString(sum.Sum(nil)), m)
	if err := d.do("attach", tmp, func() error { return d.attributes.attach(f, r) }); err != nil {
		return record{}, err
	}
	// fsync and not fdatasync: a new file's inode has to be written anyway, and only fsync
	// promises its extended attributes.
	if err := d.do("sync file", tmp, f.Sync); err != nil {
		return record{}, err
	}
	return r, nil
}

func copyBody(ctx context.Context, to io.Writer, body io.Reader, size int64) error {
	buf := make([]byte, max(1, min(size, 256<<10)))
	for left := size; left > 0; {
		if err := ctx.Err(); err != nil {
			return errs.Wrap(errs.Unavailable, err, "the write was called off")
		}
		n, err := io.ReadFull(body, buf[:min(left, int64(len(buf)))])
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return shortBody(size-left+int64(n), size)
		}
		if err != nil {
			return errs.Wrap(errs.Internal, err, "cannot read the object's body")
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return err
		}
		left -= int64(n)
	}
	return nil
}

func shortBody(got, want int64) error {
	return errs.New(errs.Invalid, "the object's body has %d bytes, %d were announced", got, want)
}

// place moves a synced file to where it is an object and makes that durable.
func (d *Dir) place(tmp, name string, r record) error {
	d.pruning.RLock()
	defer d.pruning.RUnlock()
	folder := path.Dir(name)
	move := func() error {
		return d.do("rename", name, func() error { return d.root.Rename(tmp, name) })
	}
	try := func() error {
		if err := d.ensureFolder(folder); err != nil {
			return err
		}
		return d.attributes.publish(name, r, move)
	}
	err := try()
	if errors.Is(err, fs.ErrNotExist) { // somebody removed a folder that we remember
		d.forgetFolders()
		err = try()
	}
	if err != nil {
		return err
	}
	if err := d.syncFolder(folder); err != nil {
		return errs.Wrap(errs.Unknown, err, "the folder of an object could not be synced")
	}
	return nil
}

// ensureFolder makes a folder and those above it, and makes them durable.
func (d *Dir) ensureFolder(name string) error {
	d.mu.Lock()
	_, ok := d.synced[name]
	d.mu.Unlock()
	if ok || name == "." {
		return nil
	}
	parent := path.Dir(name)
	if err := d.ensureFolder(parent); err != nil {
		return err
	}
	err := d.do("mkdir", name, func() error { return d.root.Mkdir(name, 0o755) })
	if errors.Is(err, fs.ErrExist) {
		var info fs.FileInfo
		if info, err = d.root.Lstat(name); err == nil && !info.IsDir() {
			err = &fs.PathError{Op: "mkdir", Path: name, Err: unix.ENOTDIR}
		}
	}
	if err != nil {
		return err
	}
	// A folder that was there may be the work of a process that died before its sync.
	if err := d.syncFolder(parent); err != nil {
		return err
	}
	d.mu.Lock()
	if len(d.synced) >= maxSynced {
		clear(d.synced)
	}
	d.synced[name] = struct{}{}
	d.mu.Unlock()
	return nil
}

func (d *Dir) forgetFolders() {
	d.mu.Lock()
	clear(d.synced)
	d.mu.Unlock()
}

func (d *Dir) syncFolder(name string) error {
	return d.do("sync folder", name, func() error {
		f, err := d.root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return f.Sync()
	})
}

func (d *Dir) do(op, name string, f func() error) error {
	if d.step != nil {
		if err := d.step(op, name); err != nil {
			return err
		}
	}
	return f()
}

// Delete implements Store. Folders that become empty are removed; the bucket stays.
func (d *Dir) Delete(ctx context.Context, bucket, key string) error {
	if err := checkNames(bucket, key); err != nil {
		return err
	}
	name, err := pathOf(bucket, key)
	if err != nil {
		return err
	}
	d.pruning.Lock()
	defer d.pruning.Unlock()
	if info, err := d.root.Lstat(name); isMissing(err) || err == nil && !info.Mode().IsRegular() {
		return nil
	}
	if err := d.remove(bucket, name); err != nil {
		return diskError(err, "cannot delete %s from bucket %s", key, bucket)
	}
	return nil
}

func (d *Dir) remove(bucket, name string) error {
	err := d.do("remove", name, func() error { return d.root.Remove(name) })
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	folder := path.Dir(name)
	for folder != bucket && d.root.Remove(folder) == nil {
		d.forgetFolders()
		folder = path.Dir(folder)
	}
	if err := d.syncFolder(folder); err != nil {
		return err
	}
	return d.attributes.forget(name)
}
