package lambda

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	goruntime "runtime"
	"strings"

	"github.com/shardmill/shardmill/internal/errs"
)

// bootstrapName is the file that provided.* runtimes execute.
const bootstrapName = "bootstrap"

// headSize is how much of a bootstrap is read to tell what it is: an ELF header's fixed part, or
// the longest #! line that the kernel honours.
const headSize = 256

// checkBootstrap reports as errs.Invalid why the bootstrap in root cannot be executed here. The
// kernel would say "exec format error" or "no such file or directory" to most of these.
func checkBootstrap(root string) error {
	path := filepath.Join(root, bootstrapName)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errs.New(errs.Invalid, "there is no file named bootstrap in %s: build the handler with go build -o bootstrap", root)
	case err != nil:
		return errs.Wrap(errs.Invalid, err, "the bootstrap in %s cannot be read", root)
	case !info.Mode().IsRegular():
		return errs.New(errs.Invalid, "%s is not a file: it must be the handler's executable", path)
	case info.Mode()&0o111 == 0:
		return errs.New(errs.Invalid, "%s is not executable: run chmod +x on it", path)
	}
	head, err := readHead(path)
	if err != nil {
		return errs.Wrap(errs.Invalid, err, "the bootstrap in %s cannot be read", root)
	}
	if fault := unfit(head, goruntime.GOARCH); fault != "" {
		return errs.New(errs.Invalid, "%s", fault)
	}
	if program := interpreter(head); program != "" {
		if _, err := os.Stat(program); err != nil {
			return errs.New(errs.Invalid, "the bootstrap is a script for %q, which this host does not have: install it or name another interpreter in its first line", program)
		}
	}
	return nil
}

func readHead(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, headSize)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, err
	}
	return head[:n], nil
}

// unfit says why a file that begins with head cannot run on a Linux host of architecture arch,
// or "" if it can as far as its head tells.
func unfit(head []byte, arch string) string {
	hint := "build with GOOS=linux GOARCH=" + arch
	switch {
	case bytes.HasPrefix(head, []byte("#!")):
		return ""
	case bytes.HasPrefix(head, []byte(elf.ELFMAG)):
		return unfitELF(head, arch)
	case len(head) == 0:
		return "the bootstrap is an empty file: " + hint
	case bytes.HasPrefix(head, []byte("MZ")):
		return "the bootstrap is a Windows binary: " + hint
	case isMachO(head):
		return "the bootstrap is a macOS binary: " + hint
	case bytes.HasPrefix(head, []byte("\x00asm")):
		return "the bootstrap is a WebAssembly module: name it NAME.wasm and deploy that file instead of a folder"
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return "the bootstrap is a zip archive: unpack it, the executable inside must be named bootstrap"
	}
	return "the bootstrap is neither a Linux binary (ELF) nor a script that begins with #!: " + hint
}

func isMachO(head []byte) bool {
	if len(head) < 4 {
		return false
	}
	switch binary.LittleEndian.Uint32(head) {
	case 0xfeedface, 0xfeedfacf, 0xcefaedfe, 0xcffaedfe, 0xbebafeca:
		return true
	}
	return false
}

// unfitELF compares the machine in an ELF header with the host's.
func unfitELF(head []byte, arch string) string {
	const machineAt = 18 // e_machine, two bytes in the file's own byte order
	if len(head) < machineAt+2 {
		return "the bootstrap is cut short, its ELF header is incomplete: build or copy it again"
	}
	var order binary.ByteOrder = binary.LittleEndian
	if elf.Data(head[elf.EI_DATA]) == elf.ELFDATA2MSB {
		order = binary.BigEndian
	}
	built := machineName(elf.Machine(order.Uint16(head[machineAt:])))
	if built == arch || built == "386" && arch == "amd64" {
		return ""
	}
	article := "a"
	if strings.ContainsAny(built[:1], "aeiou") {
		article = "an"
	}
	return "the bootstrap is " + article + " " + built + " binary and this host is " + arch + ": build with GOARCH=" + arch
}

// machineName is GOARCH's word for m where it has one.
func machineName(m elf.Machine) string {
	switch m {
	case elf.EM_X86_64:
		return "amd64"
	case elf.EM_AARCH64:
		return "arm64"
	case elf.EM_386:
		return "386"
	case elf.EM_ARM:
		return "arm"
	case elf.EM_RISCV:
		return "riscv64"
	case elf.EM_S390:
		return "s390x"
	case elf.EM_PPC64:
		return "ppc64"
	}
	return strings.ToLower(strings.TrimPrefix(m.String(), "EM_"))
}

// interpreter is the program that a script's first line names, "" when head is no script. A
// carriage return stays part of the name, as it does for the kernel.
func interpreter(head []byte) string {
	line, ok := bytes.CutPrefix(head, []byte("#!"))
	if !ok {
		return ""
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	line = bytes.TrimLeft(line, " \t")
	if i := bytes.IndexAny(line, " \t\x00"); i >= 0 {
		line = line[:i]
	}
	return string(line)
}
