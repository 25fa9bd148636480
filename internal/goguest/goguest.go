// Package goguest builds plugins written in Go with the Go toolchain of the machine.
//
// A folder with package main is one of two things. A transform that uses sdk/go, or exports
// shardmill_abi_v1 itself, becomes a native batch module: there is nothing to it but the right
// flags. A Lambda handler that uses aws-lambda-go becomes a pull module, unchanged: a file that
// bridges Lambda's Runtime API to the host (bridge.go.txt) is laid over the folder for the build
// alone (go build -overlay), so that sources, go.mod and vendor tree stay as they are.
package goguest

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/shardmill/shardmill/internal/errs"
)

//go:embed bridge.go.txt
var bridge []byte

// Kind says what was built, in the words of sdk/ABI.md.
type Kind string

// The kinds.
const (
	Native Kind = "native batch"
	Pull   Kind = "pull"
)

const (
	lambdaPackage = "github.com/aws/aws-lambda-go/lambda"
	nativeMark    = "//go:wasmexport shardmill_abi_v1"
	bridgeName    = "zz_shardmill_wasip1.go"
)

// Build builds the package in dir into the file out, which appears when it is complete. Errors are
// errs.Unavailable when there is no Go toolchain, errs.Invalid when dir is at fault.
func Build(ctx context.Context, dir, out string) (Kind, error) {
	tool, err := exec.LookPath("go")
	if err != nil {
		return "", errs.New(errs.Unavailable, "building a plugin in Go needs the Go toolchain: install it from https://go.dev/dl and put go on the PATH")
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return "", err
	}
	if out, err = filepath.Abs(out); err != nil {
		return "", err
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*.go")); len(names) == 0 {
		return "", errs.New(errs.Invalid, "%s has no Go files; name the folder of a package main (plugins in other languages are built by their own tools, see the README beside them)", dir)
	}
	b := builder{tool: tool, dir: dir}
	kind, err := b.kind(ctx)
	if err != nil {
		return "", err
	}
	scratch, err := os.MkdirTemp(filepath.Dir(out), ".shardmill-build-")
	if err != nil {
		return "", errs.Wrap(errs.Unavailable, err, "the folder of %s cannot be written to", out)
	}
	defer os.RemoveAll(scratch)
	made := filepath.Join(scratch, "plugin.wasm")
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", made}
	if kind == Native {
		args = append(args, "-buildmode=c-shared", ".")
	} else {
		overlay, err := b.overlay(scratch)
		if err != nil {
			return "", err
		}
		// Without the RPC mode of old runtimes a module is a third smaller.
		args = append(args, "-tags=lambda.norpc", "-overlay="+overlay, ".")
	}
	if _, err := b.run(ctx, args...); err != nil {
		return "", err
	}
	return kind, os.Rename(made, out)
}

type builder struct{ tool, dir string }

// run runs the go command for the module's target.
func (b builder) run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, b.tool, args...)
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0", "PWD="+b.dir)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case errors.As(err, &exit):
		return "", errs.New(errs.Invalid, "go %s in %s failed:\n%s", args[0], b.dir, strings.TrimSpace(stderr.String()))
	case err != nil:
		return "", errs.Wrap(errs.Unavailable, err, "the Go toolchain %s cannot be run", b.tool)
	}
	return stdout.String(), nil
}

// listed is what go list says of a package.
type listed struct {
	ImportPath string
	Dir        string
	Name       string
	Standard   bool
	GoFiles    []string
}

// kind looks at the package and at what it imports.
func (b builder) kind(ctx context.Context) (Kind, error) {
	text, err := b.run(ctx, "list", "-deps", "-json=ImportPath,Dir,Name,Standard,GoFiles", ".")
	if err != nil {
		return "", err
	}
	var last listed
	lambda := false
	for dec := json.NewDecoder(strings.NewReader(text)); dec.More(); {
		last = listed{}
		if err := dec.Decode(&last); err != nil {
			return "", errs.Wrap(errs.Invalid, err, "go list in %s answered what is no list of packages", b.dir)
		}
		lambda = lambda || last.ImportPath == lambdaPackage
		if !last.Standard && marked(last) {
			return Native, nil
		}
	}
	switch { // the package itself comes last
	case last.Name != "main":
		return "", errs.New(errs.Invalid, "%s holds package %s; a plugin is a package main", b.dir, last.Name)
	case !lambda:
		return "", errs.New(errs.Invalid, "the package in %s is neither a Lambda handler (it does not import %s) nor a transform (nothing exports shardmill_abi_v1); "+
			"for a command that reads events from stdin use GOOS=wasip1 GOARCH=wasm go build -o NAME.wasm", b.dir, lambdaPackage)
	}
	return Pull, nil
}

// marked reports whether a package makes the exports of the native batch ABI.
func marked(p listed) bool {
	for _, name := range p.GoFiles {
		b, err := os.ReadFile(filepath.Join(p.Dir, name))
		if err == nil && bytes.Contains(b, []byte("\n"+nativeMark+"\n")) {
			return true
		}
	}
	return false
}

// overlay writes the bridge and the file that lays it over the package.
func (b builder) overlay(scratch string) (string, error) {
	source := filepath.Join(scratch, "bridge.go")
	if err := os.WriteFile(source, bridge, 0o600); err != nil {
		return "", err
	}
	replace, err := json.Marshal(map[string]map[string]string{"Replace": {filepath.Join(b.dir, bridgeName): source}})
	if err != nil {
		return "", err
	}
	path := filepath.Join(scratch, "overlay.json")
	return path, os.WriteFile(path, replace, 0o600)
}
