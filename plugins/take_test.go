package plugins

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/shardmill/shardmill/internal/errs"
)

func TestWhatCannotBeTaken(t *testing.T) {
	mkdir := func(p string) { os.MkdirAll(p, 0o755) }
	for what, c := range map[string]struct {
		entry string
		make  func(path string) error
		want  string
	}{
		"link to a module": {"up.wasm", func(p string) error { return os.Symlink("/etc/passwd", p) },
			"up.wasm is a symbolic link, and links are never followed: put the file itself there"},
		"link to a folder": {"up", func(p string) error { return os.Symlink("/etc", p) },
			"up is a symbolic link, and links are never followed: put the file itself there"},
		"link in a folder": {"up", func(p string) error { mkdir(p); return os.Symlink("/etc/passwd", p+"/bootstrap") },
			"up/bootstrap is a symbolic link, and links are never followed: put the file itself there"},
		"link deep in a folder": {"up", func(p string) error { mkdir(p + "/a/b"); return os.Symlink("..", p+"/a/b/c") },
			"up/a/b/c is a symbolic link, and links are never followed: put the file itself there"},
		"pipe":             {"up.wasm", func(p string) error { return syscall.Mkfifo(p, 0o644) }, "up.wasm is a named pipe, not a file: " + accepted},
		"pipe in a folder": {"up", func(p string) error { mkdir(p); return syscall.Mkfifo(p+"/x", 0o644) }, "up/x is a named pipe, not a file: " + accepted},
		"socket":           {"up", listen, "up is a socket, not a file: " + accepted},
		"device":           {"up.zip", func(p string) error { return syscall.Mknod(p, syscall.S_IFCHR|0o666, 1<<8|5) }, "up.zip is a device, not a file: " + accepted},
		"folder.wasm":      {"up.wasm", func(p string) error { return os.Mkdir(p, 0o755) }, "up.wasm is a folder, and a folder's name has no extension: " + accepted},
		"5 GB, sparse":     {"up.wasm", sparse(5_000_000_000), "up.wasm is 5000000000 bytes, over the limit of 268435456 for one file"},
		"5 GB program":     {"up", sparse(5_000_000_000), "up is 5000000000 bytes, over the limit of 268435456 for one file"},
		"5 GB in a folder": {"up", func(p string) error { mkdir(p); return sparse(5_000_000_000)(p + "/x") }, "up/x is 5000000000 bytes, over the limit of 268435456 for one file"},
		"empty":            {"up.wasm", contains(""), "up.wasm is not a WebAssembly module: it does not start with the bytes 00 61 73 6d 01 00 00 00"},
		"wat":              {"up.wasm", contains("(module)"), "up.wasm is not a WebAssembly module: it does not start with the bytes 00 61 73 6d 01 00 00 00"},
		"component":        {"up.wasm", contains("\x00asm\x0d\x00\x01\x00"), "up.wasm is a WebAssembly component, and only core modules run here: build it for wasm32-wasip1"},
		"readme":           {"README", contains("hello"), "README is neither an ELF file nor a script that starts with #!: " + accepted},
		"empty folder":     {"up", func(p string) error { return os.Mkdir(p, 0o755) }, "up has nothing at its root to start it by: " + rootForms},
		"deep tree":        {"up", func(p string) error { mkdir(p + strings.Repeat("/d", 70)); return nil }, "up has folders more than 64 deep, the limit of a task root"},
		"long path": {"up", func(p string) error { mkdir(p + strings.Repeat("/"+strings.Repeat("d", 200), 6)); return nil },
			"up has a path of 1205 bytes, over the limit of 1024"},
		"many files": {"up", manyFiles, "up has more than 10000 files and folders, the limit of a task root"},
	} {
		t.Run(what, func(t *testing.T) {
			tk := newTaker(t)
			if err := c.make(tk.path(c.entry)); errors.Is(err, fs.ErrPermission) {
				t.Skip("making a device needs root")
			} else if err != nil {
				t.Fatal(err)
			}
			_, err := tk.take(c.entry)
			wantErr(t, err, errs.Invalid, c.want)
			tk.clean()
		})
	}
}

func contains(s string) func(string) error {
	return func(p string) error { return os.WriteFile(p, []byte(s), 0o644) }
}

func sparse(size int64) func(string) error {
	return func(p string) error {
		if err := contains(wasm(""))(p); err != nil {
			return err
		}
		return os.Truncate(p, size)
	}
}

func manyFiles(p string) error {
	if err := os.MkdirAll(p, 0o755); err != nil {
		return err
	}
	first := filepath.Join(p, "first")
	if err := os.WriteFile(first, nil, 0o644); err != nil {
		return err
	}
	for i := range maxEntries {
		if err := os.Link(first, filepath.Join(p, fmt.Sprint(i))); err != nil {
			return err
		}
	}
	return nil
}

// listen leaves a socket. Its path may be too long for one, so it is made by a short name.
func listen(p string) error {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/s"})
	if err != nil {
		return err
	}
	defer l.Close()
	return os.Rename(dir+"/s", p)
}

func TestTakingEndsWithItsContext(t *testing.T) {
	tk := newTaker(t)
	tk.put("up.wasm", wasm(""))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir, err := os.Open(tk.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if _, _, err := tk.store.take(ctx, dir, "up.wasm", module, 0o644, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v, want context.Canceled", err)
	}
	tk.clean()
}

// An entry may turn into something else between the look at it and its opening.
func TestOpeningNeverFollowsAndNeverWaits(t *testing.T) {
	dir := t.TempDir()
	d, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := errors.Join(os.Symlink("/etc/passwd", dir+"/link"), os.Symlink("/etc", dir+"/dirlink"), syscall.Mkfifo(dir+"/pipe", 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "dirlink"} {
		if f, err := openChild(d, name); !errors.Is(err, syscall.ELOOP) {
			t.Errorf("%s: %v %v, want ELOOP", name, f, err)
		}
	}
	f, err := openChild(d, "pipe") // returns although nobody writes
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestAStoreThatCannotBeWrittenIsNotThePluginsFault(t *testing.T) {
	tk := newTaker(t)
	tk.put("up.wasm", wasm(""))
	os.RemoveAll(tk.store.dir)
	_, err := tk.take("up.wasm")
	wantErr(t, err, errs.Unavailable, "the plugin cannot be copied into the versions store; once that is put right, touch the plugin: no such file or directory")
}
