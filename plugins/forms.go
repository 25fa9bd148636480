package plugins

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/plugins/manifest"
	"github.com/shardmill/shardmill/runtime"
)

// javaClient is the class, and part of the name of the jar, with which a Java handler talks to the
// Runtime API (aws-lambda-java-runtime-interface-client).
const (
	javaClientClass = "com/amazonaws/services/lambda/runtime/api/client/AWSLambda.class"
	javaClientJar   = "aws-lambda-java-runtime-interface-client"
)

// found is a form that the files of a task root suggest.
type found struct {
	kind runtime.ArtifactKind
	file string // that suggests it
}

// forms lists what a task root can be by the files that it has. Names are Lambda's defaults.
func (t *tree) forms() (out []found) {
	for _, f := range []found{
		{runtime.KindBootstrap, "bootstrap"},
		{runtime.KindNode, "index.js"}, {runtime.KindNode, "index.mjs"}, {runtime.KindNode, "index.cjs"},
		{runtime.KindPython, "app.py"}, {runtime.KindPython, "lambda_function.py"},
		{runtime.KindJava, javaClientClass},
	} {
		if (t.files[f.file] || f.kind == runtime.KindBootstrap && t.dirs[f.file]) && !slices.ContainsFunc(out, func(g found) bool { return g.kind == f.kind }) {
			out = append(out, f)
		}
	}
	for name := range t.files {
		base := path.Base(name)
		if dir := path.Dir(name); (dir == "." || dir == "lib") && strings.HasPrefix(base, javaClientJar) && strings.HasSuffix(base, ".jar") &&
			!slices.ContainsFunc(out, func(g found) bool { return g.kind == runtime.KindJava }) {
			out = append(out, found{runtime.KindJava, name})
		}
	}
	return out
}

// byHandler finds the form from the file that a handler's name leads to: src/app.handler is
// src/app.js, or src/app.py.
func (t *tree) byHandler(handler string) (out []found) {
	slash := strings.LastIndexByte(handler, '/') + 1
	base, _, _ := strings.Cut(handler[slash:], ".")
	for _, ext := range []string{".js", ".mjs", ".cjs"} {
		if name := path.Clean(handler[:slash] + base + ext); t.files[name] {
			out = append(out, found{runtime.KindNode, name})
			break
		}
	}
	if dot := strings.LastIndexByte(handler, '.'); dot > 0 {
		if name := path.Clean(strings.ReplaceAll(handler[:dot], ".", "/") + ".py"); t.files[name] {
			out = append(out, found{runtime.KindPython, name})
		}
	}
	return out
}

// kind is what the task root is. The .wasm files at the root of an archive count as a form too.
func (t *tree) kind(m *manifest.Manifest) (runtime.ArtifactKind, error) {
	if m != nil && m.Runtime != 0 {
		return m.Runtime, nil
	}
	if m != nil && m.ABI != "" && len(t.modules) > 0 {
		return runtime.KindWasm, nil
	}
	out := t.forms()
	if len(out) == 0 && m != nil && m.Handler != "" {
		out = t.byHandler(m.Handler)
	}
	if len(t.modules) > 0 && !slices.ContainsFunc(out, func(f found) bool { return f.kind == runtime.KindBootstrap }) {
		out = append(out, found{runtime.KindWasm, t.modules[0]})
	}
	switch len(out) {
	case 0:
		return 0, errs.New(errs.Invalid, "%s has nothing at its root to start it by%s: %s", t.file, t.misplaced(), rootForms)
	case 1:
		return out[0].kind, nil
	}
	var names []string
	for _, f := range out {
		names = append(names, printable(f.file)+" ("+f.kind.String()+")")
	}
	slices.Sort(names)
	return 0, errs.New(errs.Invalid, "%s can be started in more than one way, by %s: leave one, or choose with a line such as runtime: provided in a manifest",
		t.file, strings.Join(names, " and "))
}

// misplaced explains the commonest mistake: the folder was packed instead of its content.
func (t *tree) misplaced() string {
	for _, name := range []string{"bootstrap", "index.js", "index.mjs", "index.cjs", "app.py", "lambda_function.py"} {
		for dir := range t.dirs {
			if dir != "." && !strings.Contains(dir, "/") && t.files[dir+"/"+name] {
				return ", but " + name + " in the folder \"" + printable(dir) + "\": pack that folder's content"
			}
		}
	}
	return ""
}

// checkBootstrap refuses a task root of provided.* that the kernel cannot start. The bootstrap may be
// in a layer, which the engine looks at.
func (t *tree) checkBootstrap(m *manifest.Manifest) error {
	f, err := t.root.Open("bootstrap")
	if errors.Is(err, fs.ErrNotExist) && m != nil && len(m.Layers) > 0 {
		return nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return errs.New(errs.Invalid, "%s has no file bootstrap at its root, which runtime provided starts", t.file)
	}
	if err != nil {
		return hostFault(err)
	}
	defer f.Close()
	if t.dirs["bootstrap"] || !isExecutable(f) {
		return errs.New(errs.Invalid, "%s has a bootstrap that is neither an ELF file nor a script that starts with #!", t.file)
	}
	return nil
}

// insideManifest is the file of a folder or archive that is its manifest.
const insideManifest = "shardmill.yaml"

// inside reads the manifest at the root of a task root, nil if there is none. What pins the file,
// and what names files outside, cannot stand in it.
func (t *tree) inside() (*manifest.Manifest, error) {
	if !t.files[insideManifest] {
		return nil, nil
	}
	f, err := t.root.Open(insideManifest)
	if err != nil {
		return nil, hostFault(err)
	}
	defer f.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(io.LimitReader(f, manifest.MaxSize+1)); err != nil {
		return nil, hostFault(err)
	}
	name := t.file + "/" + insideManifest
	m, err := manifest.Parse(name, b.Bytes())
	if err != nil {
		return nil, err
	}
	if err := m.Refuse("sha256", "cannot be in the package that it pins: put it into NAME.yaml beside the package"); err != nil {
		return nil, err
	}
	if err := m.Refuse("layers", "lie in the plugin folder: name them in NAME.yaml beside the package"); err != nil {
		return nil, err
	}
	return m, nil
}
