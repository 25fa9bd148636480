package lambda

import (
	"debug/elf"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/runtime"
)

// task is a task root whose bootstrap has this content.
func task(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "bootstrap"), []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return dir
}

func elfHead(m elf.Machine, order binary.ByteOrder) string {
	head := make([]byte, 64)
	copy(head, elf.ELFMAG)
	head[elf.EI_DATA] = byte(elf.ELFDATA2LSB)
	if order == binary.BigEndian {
		head[elf.EI_DATA] = byte(elf.ELFDATA2MSB)
	}
	order.PutUint16(head[18:], uint16(m))
	return string(head)
}

func TestLoadNamesWhatIsWrongWithABootstrap(t *testing.T) {
	empty := t.TempDir()
	folder := t.TempDir()
	if err := os.Mkdir(filepath.Join(folder, "bootstrap"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ root, want string }{
		{empty, "there is no file named bootstrap in " + empty + ": build the handler with go build -o bootstrap"},
		{folder, folder + "/bootstrap is not a file: it must be the handler's executable"},
		{task(t, "", 0o755), "the bootstrap is an empty file: build with GOOS=linux GOARCH=" + goruntime.GOARCH},
		{task(t, "hello", 0o755), "the bootstrap is neither a Linux binary (ELF) nor a script that begins with #!: build with GOOS=linux GOARCH=" + goruntime.GOARCH},
		{task(t, "#!/no/such/python3.9 -u\n", 0o755), `the bootstrap is a script for "/no/such/python3.9", which this host does not have: install it or name another interpreter in its first line`},
		{task(t, "#!/bin/sh\r\n", 0o755), `the bootstrap is a script for "/bin/sh\r", which this host does not have: install it or name another interpreter in its first line`},
	} {
		_, err := New(Options{}).Load(t.Context(), artifact(c.root, nil), runtime.Limits{})
		if !errs.Is(err, errs.Invalid) || err.Error() != c.want {
			t.Errorf("got %v\nwant %s", err, c.want)
		}
	}
	plain := task(t, "#!/bin/sh\n", 0o644)
	if _, err := New(Options{}).Load(t.Context(), artifact(plain, nil), runtime.Limits{}); err == nil || err.Error() != plain+"/bootstrap is not executable: run chmod +x on it" {
		t.Errorf("without x bit: %v", err)
	}
}

func TestBinariesOfOtherMachinesAreNamed(t *testing.T) {
	le, be := binary.ByteOrder(binary.LittleEndian), binary.ByteOrder(binary.BigEndian)
	for _, c := range []struct{ head, arch, want string }{
		{elfHead(elf.EM_AARCH64, le), "amd64", "the bootstrap is an arm64 binary and this host is amd64: build with GOARCH=amd64"},
		{elfHead(elf.EM_X86_64, le), "arm64", "the bootstrap is an amd64 binary and this host is arm64: build with GOARCH=arm64"},
		{elfHead(elf.EM_S390, be), "amd64", "the bootstrap is a s390x binary and this host is amd64: build with GOARCH=amd64"},
		{elfHead(elf.EM_SPARCV9, be), "amd64", "the bootstrap is a sparcv9 binary and this host is amd64: build with GOARCH=amd64"},
		{"\x7fELF", "amd64", "the bootstrap is cut short, its ELF header is incomplete: build or copy it again"},
		{"\xcf\xfa\xed\xfe....", "amd64", "the bootstrap is a macOS binary: build with GOOS=linux GOARCH=amd64"},
		{"MZ....", "amd64", "the bootstrap is a Windows binary: build with GOOS=linux GOARCH=amd64"},
		{elfHead(elf.EM_X86_64, le), "amd64", ""},
		{elfHead(elf.EM_386, le), "amd64", ""},
		{elfHead(elf.EM_AARCH64, le), "arm64", ""},
		{"#!/bin/sh\n", "amd64", ""},
	} {
		if got := unfit([]byte(c.head), c.arch); got != c.want {
			t.Errorf("%.8q on %s: got %q, want %q", c.head, c.arch, got, c.want)
		}
	}
}

func FuzzBootstrapHead(f *testing.F) {
	for _, seed := range []string{"", "\x7fELF", elfHead(elf.EM_X86_64, binary.LittleEndian), "#!", "#! /bin/sh -e\n", "#!/a\x00b", "MZ", "\x00asm"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, head []byte) {
		fault, program := unfit(head, "amd64"), interpreter(head)
		if fault != "" && program != "" {
			t.Errorf("both a fault (%s) and an interpreter (%q)", fault, program)
		}
		if strings.ContainsAny(program, " \t\n\x00") {
			t.Errorf("interpreter %q", program)
		}
	})
}

func TestLoadCarriesTheHandlersOwnErrorText(t *testing.T) {
	for init, want := range map[string]string{
		"fail":  `the bootstrap of function f failed to start: it ended (exit: status 7) before it asked for an event; its last output: cannot reach the \x1b[31mdatabase`,
		"exit":  `the bootstrap of function f failed to start: it ended (exit: status 0) before it asked for an event: main must call lambda.Start and not return`,
		"panic": `panic: no configuration`,
		"hang":  `the bootstrap of function f failed to start: it did not ask for an event (GET /2018-06-01/runtime/invocation/next) within 300ms; its last output: API 127.0.0.1:`,
	} {
		dir := t.TempDir()
		before := goruntime.NumGoroutine()
		_, err := New(Options{Dir: dir}).Load(t.Context(), artifact(root(t), map[string]string{"INIT": init}), runtime.Limits{InitTimeout: 300 * time.Millisecond})
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("INIT=%s: got %v\nwant %s", init, err, want)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("INIT=%s: the failed load left %v", init, left)
		}
		for end := time.Now().Add(5 * time.Second); goruntime.NumGoroutine() > before; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("INIT=%s: %d goroutines before the failed load, %d after", init, before, goruntime.NumGoroutine())
			}
		}
	}
}

func TestLoadRefusesUnusableVariables(t *testing.T) {
	for name, want := range map[string]string{
		"AWS_REGION": "the environment variable AWS_REGION is reserved for the service: choose another name",
		"A-B":        `the environment variable "A-B" has an unusable name: use letters, digits and _, beginning with a letter, two characters at least`,
		"1A":         `the environment variable "1A" has an unusable name: use letters, digits and _, beginning with a letter, two characters at least`,
	} {
		_, err := New(Options{}).Load(t.Context(), artifact(root(t), map[string]string{name: "x"}), runtime.Limits{})
		if !errs.Is(err, errs.Invalid) || err.Error() != want {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := runtime.CheckVariables(map[string]string{"AB": "x\x00"}); !errs.Is(err, errs.Invalid) {
		t.Errorf("a NUL byte: got %v", err)
	}
	fits := map[string]string{"AB": strings.Repeat("x", 4096-len(`{"AB":""}`))}
	if err := runtime.CheckVariables(fits); err != nil {
		t.Errorf("4096 bytes: got %v", err)
	}
	fits["AB"] += "x"
	if err := runtime.CheckVariables(fits); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "exceeded the 4KB limit. String measured: {") {
		t.Errorf("4097 bytes: got %.100v", err)
	}
}

func TestOtherArtifactsAreRefused(t *testing.T) {
	wasm := runtime.Artifact{Name: "f", Kind: runtime.KindWasm}
	if _, err := New(Options{}).Load(t.Context(), wasm, runtime.Limits{}); New(Options{}).Accepts(wasm) || !errs.Is(err, errs.Invalid) {
		t.Errorf("a module was accepted: %v", err)
	}
}

// copyHandler puts the test handler into dir under another name.
func copyHandler(t *testing.T, dir, name string) {
	t.Helper()
	in, err := os.Open(filepath.Join(root(t), "bootstrap"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	out, err := os.OpenFile(filepath.Join(dir, name), os.O_CREATE|os.O_WRONLY, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); err != nil {
		t.Fatal(err)
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestAScriptMayStartTheHandler(t *testing.T) {
	for name, line := range map[string]string{"exec": "exec ./handler", "child": "./handler; exit $?"} {
		t.Run(name, func(t *testing.T) {
			dir := task(t, "#!/bin/sh\nset -e\ncd $LAMBDA_TASK_ROOT\n"+line+"\n", 0o755)
			copyHandler(t, dir, "handler")
			f, err := New(Options{Dir: t.TempDir()}).Load(t.Context(), artifact(dir, nil), runtime.Limits{})
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			answer(t, f, `{"do":"echo"}`, `{"do":"echo"}`)
			pid := number(t, f, `{"do":"pid"}`)
			f.Close()
			waitDead(t, pid)
		})
	}
}

func TestAScriptMaySpeakTheRuntimeAPI(t *testing.T) {
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl, the Runtime API client of shell bootstraps")
	}
	dir := task(t, `#!/bin/sh
api=http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime
while :; do
	event=$(curl -sS -D "$TMPDIR/head" "$api/invocation/next") || exit 1
	id=$(sed -n 's/^Lambda-Runtime-Aws-Request-Id: *//Ip' "$TMPDIR/head" | tr -d '\r')
	case $event in
	*fail*) curl -sS -d '{"errorMessage":"as asked","errorType":"Script.Failure"}' "$api/invocation/$id/error" ;;
	*) curl -sS -d "got $event" "$api/invocation/$id/response" ;;
	esac >/dev/null
done
`, 0o755)
	f, err := New(Options{Dir: t.TempDir()}).Load(t.Context(), artifact(dir, nil), runtime.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	answer(t, f, `{"n":1}`, `got {"n":1}`)
	answer(t, f, `{"n":2}`, `got {"n":2}`)
	if res := invoke(t, f, "", `"fail"`); string(res.Payload) != `{"errorMessage":"as asked","errorType":"Script.Failure"}` || res.ErrorType != "Script.Failure" {
		t.Errorf("got %s, %q", res.Payload, res.ErrorType)
	}
}
