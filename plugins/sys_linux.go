package plugins

import (
	"io/fs"
	"os"
	"syscall"
	"time"
)

// openChild opens the entry name of the open directory dir for reading. It never follows a link
// (ELOOP) and never waits for a FIFO's writer, whatever takes the entry's place meanwhile.
func openChild(dir *os.File, name string) (*os.File, error) {
	conn, err := dir.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var openErr error
	err = conn.Control(func(at uintptr) {
		for {
			fd, openErr = syscall.Openat(int(at), name, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
			if openErr != syscall.EINTR {
				return
			}
		}
	})
	if err == nil {
		err = openErr
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	return os.NewFile(uintptr(fd), dir.Name()+"/"+name), nil
}

// identity is what beside size, mode and mtime tells one state of a file from another: the inode
// and the change time, which no writer can set back.
func identity(info fs.FileInfo) (inode uint64, changed time.Duration) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0
	}
	return st.Ino, time.Duration(st.Ctim.Nano())
}

// lock takes the file for this process until it is closed. It fails when another process holds it.
func lock(f *os.File) error {
	return syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}
