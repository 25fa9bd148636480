package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/goguest"
	"github.com/shardmill/shardmill/sdk"
)

func pluginNewCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "new LANGUAGE NAME",
		Short: "Start a transform: a folder with the language's SDK, a small transform and its build",
		Long: `Make the folder NAME with all that a transform needs: the SDK of the language, which is a file or
two without dependencies, ten lines that work, and build.sh, which makes NAME.wasm.

The languages are ` + strings.Join(sdk.Languages(), ", ") + `.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return errs.New(errs.Invalid, "plugin new takes a language (%s) and a name", strings.Join(sdk.Languages(), ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			name := args[1]
			project, err := sdk.Project(args[0], name)
			if err != nil {
				return err
			}
			if err := writeProject(name, project); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "made %s\nnext: cd %s && sh build.sh, then move %s.wasm into the plugin folder of a host (see README.md)\n", name, name, name)
			return err
		},
	}
}

// writeProject writes a project into a new folder.
func writeProject(dir string, project []sdk.File) error {
	err := os.Mkdir(dir, 0o755)
	switch {
	case errors.Is(err, fs.ErrExist):
		return errs.New(errs.Invalid, "%s is there already: choose another name, or remove it", dir)
	case err != nil:
		return errs.Wrap(errs.Unavailable, err, "the folder %s cannot be made", dir)
	}
	for _, f := range project {
		path := filepath.Join(dir, filepath.FromSlash(f.Name))
		err := os.MkdirAll(filepath.Dir(path), 0o755)
		if err == nil {
			err = os.WriteFile(path, f.Data, 0o644)
		}
		if err != nil {
			return errs.Wrap(errs.Unavailable, err, "%s cannot be written", path)
		}
	}
	return nil
}

func pluginBuildCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "build DIR",
		Short: "Build a plugin from Go: a Lambda handler as it is, or a transform",
		Long: `Build the package main in DIR as a WebAssembly module, with the Go toolchain on the PATH.

A Lambda handler, which imports github.com/aws/aws-lambda-go/lambda, is built unchanged: a file that
bridges Lambda's Runtime API to shardmill is laid over the folder for the build alone. A transform,
which uses shardmill's SDK for Go, is built with the flags it needs.

Inside of the module there are no files, no network and no processes: a handler that calls AWS
services belongs into a folder or zip with a bootstrap executable instead.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errs.New(errs.Invalid, "plugin build takes the folder of a package main")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				dir, err := filepath.Abs(args[0])
				if err != nil {
					return err
				}
				out = filepath.Base(dir) + ".wasm"
			}
			if filepath.Ext(out) != ".wasm" {
				return errs.New(errs.Invalid, "--output: %s does not end in .wasm, by which a host knows a module", out)
			}
			kind, err := goguest.Build(cmd.Context(), args[0], out)
			if err != nil {
				return err
			}
			info, err := os.Stat(out)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "built %s: %.1f MB, %s ABI\nnext: move it into the plugin folder of a host\n", out, float64(info.Size())/1e6, kind)
			return err
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "file to write (default: the folder's name with .wasm, here)")
	return cmd
}
