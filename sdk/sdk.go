// Package sdk holds what authors of plugins start from: the SDK of each language, which is a file
// or two without dependencies, and a small project around it. The SDKs themselves are in the
// folders beside this file, with the contract below them in ABI.md; package conformance checks
// that they keep it.
package sdk

import (
	"embed"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"

	"github.com/shardmill/shardmill/internal/errs"
)

//go:embed c/shardmill.h rust/Cargo.toml rust/src/lib.rs assemblyscript/shardmill.ts zig/shardmill.zig
//go:embed scaffold
var files embed.FS

// File is a file of a new project. Name is slash-separated, below the project's folder.
type File struct {
	Name string
	Data []byte
}

// language says how a project is made up.
type language struct {
	source string            // the file to edit
	kit    string            // the SDK, in the README's words
	copies map[string]string // from the SDK: to, from
}

// The SDK of Go is a module of its own, whose files cannot be embedded: the scaffold has a copy, and
// a test keeps it one.
var languages = map[string]language{
	"c":              {"transform.c", "`shardmill.h`", map[string]string{"shardmill.h": "c/shardmill.h"}},
	"go":             {"main.go", "The package `shardmill`", nil},
	"rust":           {"src/lib.rs", "The crate `shardmill`", map[string]string{"shardmill/Cargo.toml": "rust/Cargo.toml", "shardmill/src/lib.rs": "rust/src/lib.rs"}},
	"assemblyscript": {"transform.ts", "`shardmill.ts`", map[string]string{"shardmill.ts": "assemblyscript/shardmill.ts"}},
	"zig":            {"transform.zig", "`shardmill.zig`", map[string]string{"shardmill.zig": "zig/shardmill.zig"}},
}

// Languages are the languages that have an SDK.
func Languages() []string { return []string{"assemblyscript", "c", "go", "rust", "zig"} }

var projectName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)

// Project is a new project for a transform.
func Project(lang, name string) ([]File, error) {
	l, ok := languages[lang]
	if !ok {
		return nil, errs.New(errs.Invalid, "there is no SDK for %q; there is one for %s", lang, strings.Join(Languages(), ", "))
	}
	if !projectName.MatchString(name) {
		return nil, errs.New(errs.Invalid, "a plugin cannot be called %q: the name is a file's and a package's, 1 to 64 small letters, digits, hyphens and underscores that start with a letter", name)
	}
	fill := strings.NewReplacer("NAME", name, "SOURCE", l.source, "KIT", l.kit).Replace
	var out []File
	add := func(to, from string, fill func(string) string) error {
		b, err := files.ReadFile(from)
		if err == nil {
			out = append(out, File{to, []byte(fill(string(b)))})
		}
		return err
	}
	if err := add("README.md", "scaffold/README.md", fill); err != nil {
		return nil, err
	}
	root := path.Join("scaffold", lang)
	err := fs.WalkDir(files, root, func(from string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		to := strings.TrimSuffix(strings.TrimPrefix(from, root+"/"), ".txt")
		if strings.HasPrefix(to, "shardmill/") { // the SDK itself
			return add(to, from, strings.Clone)
		}
		return add(to, from, fill)
	})
	for to, from := range l.copies {
		if err == nil {
			err = add(to, from, strings.Clone)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("the project for %s: %w", lang, err)
	}
	return out, nil
}
