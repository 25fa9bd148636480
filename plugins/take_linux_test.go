package plugins

import (
	"errors"
	"os"
	"path/filepath"
	goruntime "runtime"
	"syscall"
	"testing"

	"github.com/shardmill/shardmill/internal/errs"
)

func TestAnUnreadableFileIsRefused(t *testing.T) {
	tk := newTaker(t)
	tk.put("up.wasm", wasm(""))
	tk.put("folder/bootstrap", script)
	tk.put("folder/secret", "x")
	if err := errors.Join(os.Chmod(tk.path("up.wasm"), 0), os.Chmod(tk.path("folder/secret"), 0)); err != nil {
		t.Fatal(err)
	}
	asNobody(t, tk, func() {
		_, err := tk.take("up.wasm")
		wantErr(t, err, errs.Invalid, "up.wasm cannot be read: make it readable for the user that shardmill runs as: permission denied")
		_, err = tk.take("folder")
		wantErr(t, err, errs.Invalid, "folder/secret cannot be read: make it readable for the user that shardmill runs as: permission denied")
	})
	tk.clean()
}

// asNobody runs fn without the power to read everything, if this process has it. Only this
// goroutine's thread gives the power up, and ends with it.
func asNobody(t *testing.T, tk *taker, fn func()) {
	if os.Geteuid() != 0 {
		fn()
		return
	}
	const nobody = 65534
	for dir := tk.store.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		goruntime.LockOSThread()
		syscall.RawSyscall(syscall.SYS_SETFSUID, nobody, 0, 0)
		fn()
	}()
	<-done
}
