package objects

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/shardmill/shardmill/internal/errs"
)

// Get implements Store.
func (d *Dir) Get(ctx context.Context, bucket, key string) (io.ReadSeekCloser, Info, error) {
	if err := checkNames(bucket, key); err != nil {
		return nil, Info{}, err
	}
	name, err := pathOf(bucket, key)
	if err != nil {
		return nil, Info{}, err
	}
	f, info, err := d.open(name, key)
	if isMissing(err) {
		if err := d.checkExists(bucket); err != nil {
			return nil, Info{}, err
		}
		return nil, Info{}, errs.New(errs.NotFound, "bucket %s holds no object %s", bucket, key)
	}
	if err != nil {
		return nil, Info{}, diskError(err, "cannot read %s from bucket %s", key, bucket)
	}
	return f, info, nil
}

// open opens the regular file of an object; for anything else the error is fs.ErrNotExist.
func (d *Dir) open(name, key string) (*os.File, Info, error) {
	if st, err := d.root.Lstat(name); err != nil {
		return nil, Info{}, err
	} else if !st.Mode().IsRegular() {
		return nil, Info{}, fs.ErrNotExist
	}
	// Not blocking, in case a pipe takes the file's place this very moment.
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, Info{}, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fs.ErrNotExist
	}
	if err != nil {
		f.Close()
		return nil, Info{}, err
	}
	info := Info{Key: key, Size: st.Size(), Modified: st.ModTime()}
	info.ContentType = defaultType
	if r, ok := d.attributes.load(f, name); ok && r.fits(st) {
		r.describe(&info)
	}
	return f, info, nil
}

func (d *Dir) checkExists(bucket string) error {
	info, err := d.root.Lstat(bucket)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return errs.New(errs.NotFound, "there is no bucket %s; the first object stored in it makes it", bucket)
	}
	if err != nil {
		return diskError(err, "cannot look for bucket %s", bucket)
	}
	return nil
}

// isMissing is true if the path does not exist, also because a part of it is a file.
func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) }

// diskError gives err a kind. Errors that have one keep it.
func diskError(err error, format string, args ...any) error {
	var known *errs.Error
	if errors.As(err, &known) {
		return err
	}
	what := errs.New(errs.Unavailable, format, args...).Msg
	switch {
	case errors.Is(err, unix.EISDIR), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST):
		return errs.Wrap(errs.Invalid, err, "%s: a file cannot be an object and a folder of objects; use another key or prefix", what)
	case errors.Is(err, unix.ENAMETOOLONG):
		return errs.Wrap(errs.Invalid, err, "%s: its path is too long", what)
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return errs.Wrap(errs.Unavailable, err, "%s: the disk or its quota is full", what)
	case errors.Is(err, fs.ErrPermission):
		return errs.Wrap(errs.Denied, err, "%s: this process may not; see who owns the folder", what)
	}
	return errs.Wrap(errs.Unavailable, err, "%s", what)
}
