//go:build !linux

package wasm

import (
	"io"
	"os"
	"os/exec"
)

// Without Linux there is no shared segment: control and payloads travel through the child's
// stdin and stdout, and the child opens the module by its name.

var fullIsolation = Isolation{}

func (s *spawner) fork(name string, module *os.File) (*process, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var files []*os.File
	pipe := func() (r, w *os.File) {
		if err == nil {
			if r, w, err = os.Pipe(); err == nil {
				files = append(files, r, w)
			}
		}
		return r, w
	}
	childIn, hostOut := pipe()
	hostIn, childOut := pipe()
	logs, stderr := pipe()
	if err != nil {
		closeAll(files...)
		return nil, err
	}
	cmd := exec.Command(exe)
	cmd.Args = []string{name, module.Name()}
	cmd.Env = childEnv()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = childIn, childOut, stderr
	if err := cmd.Start(); err != nil {
		closeAll(files...)
		return nil, err
	}
	closeAll(childIn, childOut, stderr)
	return &process{cmd: cmd, logs: logs, conn: []*os.File{hostIn, hostOut}, ch: channel{rw: pipePair{hostIn, hostOut}}}, nil
}

func (p *process) close() {
	closeAll(p.conn...)
	closeAll(p.logs)
}

// pipePair is a connection of two pipes.
type pipePair struct {
	io.Reader
	io.Writer
}

func inherited(string) (ch channel, module []byte, err error) {
	ch.rw = pipePair{os.Stdin, os.Stdout}
	module, err = os.ReadFile(os.Args[1])
	return ch, module, err
}
