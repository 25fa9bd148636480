//go:build !linux

package plugins

import (
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// openChild opens the entry name of the open directory dir for reading, and not what a link
// there points to. Without openat this is a check before and after the opening.
func openChild(dir *os.File, name string) (*os.File, error) {
	path := filepath.Join(dir.Name(), name)
	before, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() && !before.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	after, err := f.Stat()
	if err == nil && !os.SameFile(before, after) {
		err = &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func identity(fs.FileInfo) (inode uint64, changed time.Duration) { return 0, 0 }

// lock does nothing here: the host's lock on its data directory is the only one.
func lock(*os.File) error { return nil }
