// Package crashfs is a file system for crash tests: it counts operations, so that a crash can be
// placed before any of them, and its syncs can be made to fail or to lie. Tests put it over
// Pebble's file system in memory, which knows what a power cut would leave (vfs.NewCrashableMem,
// CrashClone).
package crashfs

import (
	"errors"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Lie decides whether a sync does nothing and reports success: the safeguard that a negative
// control takes away. opening is true while Opening is set.
type Lie func(path string, dir, opening bool) bool

// FS wraps a file system. Set the fields before use.
type FS struct {
	vfs.FS
	Folder    string        // only operations on paths with this text in them are counted and broken
	Except    string        // and without this one, unless it is empty
	Lie       Lie           // nil: all syncs are honest
	Before    func()        // runs before every write, sync, create, rename and removal
	SyncDelay time.Duration // how long a sync takes at least, so that commit groups form

	FailSync atomic.Bool // syncs fail
	Killed   atomic.Bool // every further operation fails, as after a kill
	Opening  atomic.Bool
}

// ErrKilled is the error of operations after Killed was set.
var ErrKilled = errors.New("killed")

func (f *FS) ours(path string) bool {
	return strings.Contains(path, f.Folder) && (f.Except == "" || !strings.Contains(path, f.Except))
}

func (f *FS) step(path string) error {
	if !f.ours(path) {
		return nil
	}
	if f.Before != nil && !f.Killed.Load() {
		f.Before()
	}
	if f.Killed.Load() {
		return ErrKilled
	}
	return nil
}

func (f *FS) wrap(file vfs.File, err error, path string, dir bool) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &wrapped{file, f, path, dir}, nil
}

// Create implements vfs.FS.
func (f *FS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.step(name); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name, c)
	return f.wrap(file, err, name, false)
}

// OpenReadWrite implements vfs.FS.
func (f *FS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.OpenReadWrite(name, c, o...)
	return f.wrap(file, err, name, false)
}

// OpenDir implements vfs.FS.
func (f *FS) OpenDir(name string) (vfs.File, error) {
	file, err := f.FS.OpenDir(name)
	return f.wrap(file, err, name, true)
}

// Rename implements vfs.FS.
func (f *FS) Rename(a, b string) error {
	if err := f.step(a); err != nil {
		return err
	}
	return f.FS.Rename(a, b)
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	if err := f.step(name); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

type wrapped struct {
	vfs.File
	fs   *FS
	path string
	dir  bool
}

func (w *wrapped) WriteAt(p []byte, off int64) (int, error) {
	if err := w.fs.step(w.path); err != nil {
		return 0, err
	}
	return w.File.WriteAt(p, off)
}

func (w *wrapped) Write(p []byte) (int, error) {
	if err := w.fs.step(w.path); err != nil {
		return 0, err
	}
	return w.File.Write(p)
}

func (w *wrapped) Sync() error     { return w.sync(w.File.Sync) }
func (w *wrapped) SyncData() error { return w.sync(w.File.SyncData) }

func (w *wrapped) sync(do func() error) error {
	if err := w.fs.step(w.path); err != nil {
		return err
	}
	if w.fs.FailSync.Load() && w.fs.ours(w.path) {
		return errors.New("injected sync failure")
	}
	if w.fs.SyncDelay > 0 && w.fs.ours(w.path) {
		time.Sleep(w.fs.SyncDelay)
	}
	if w.fs.Lie != nil && w.fs.Lie(w.path, w.dir, w.fs.Opening.Load()) {
		return nil
	}
	return do()
}
