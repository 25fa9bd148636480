package plugins

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/plugins/manifest"
)

// bundle is all that a version is made of: the content of its entry, its manifest and its layers. All of
// them make its id, so that a change of any is a new version.
type bundle struct {
	content
	id       string
	manifest *manifest.Manifest // nil: none
	layers   []content
}

// pinned lists the hashes that the store keeps for b.
func (b *bundle) pinned() (shas []string) {
	for _, l := range b.layers {
		shas = append(shas, l.sha)
	}
	if b.sha != "" {
		shas = append(shas, b.sha)
	}
	return shas
}

// identify names a bundle. One without manifest and layers has the name of its content.
func (b *bundle) identify(manifestText []byte) {
	b.id = b.sha
	if manifestText == nil {
		return
	}
	h := sha256.New()
	sum := sha256.Sum256(manifestText)
	io.WriteString(h, "shardmill version 1\n"+b.sha+"\nmanifest "+hex.EncodeToString(sum[:]))
	for _, l := range b.layers {
		io.WriteString(h, "\nlayer "+l.sha)
	}
	b.id = hex.EncodeToString(h.Sum(nil))
}

// copyAll takes an entry, the manifest beside it and its layers into the store. On an error nothing
// stays pinned.
func (r *Registry) copyAll(ctx context.Context, dir *os.File, e *entry) (b bundle, err error) {
	defer func() {
		if err != nil {
			r.unpin(&b)
		}
	}()
	var text []byte
	if e.manifest != "" {
		if text, err = readManifest(dir, e.manifest); err != nil {
			return b, err
		}
		if b.manifest, err = manifest.Parse(printable(e.manifest), text); err != nil {
			return b, err
		}
	}
	b.content, b.manifest, err = r.store.take(ctx, dir, e.file, e.form, e.mode, b.manifest)
	if err != nil || b.manifest == nil {
		b.identify(nil)
		return b, err
	}
	if !r.o.EventSources {
		if err := b.manifest.Refuse("event-sources", "has no effect on this host, which runs no event source mappings: remove it"); err != nil {
			return b, err
		}
	}
	for _, l := range b.manifest.Layers {
		c, err := r.store.takeLayer(ctx, dir, l)
		if err != nil {
			return b, err
		}
		b.layers = append(b.layers, c)
	}
	b.identify(text)
	return b, nil
}

func (r *Registry) unpin(b *bundle) {
	for _, sha := range b.pinned() {
		r.store.unpin(sha)
	}
}

// readManifest reads a manifest's file, of which more than the limit is not read.
func readManifest(dir *os.File, file string) ([]byte, error) {
	t := taking{dir: dir, file: file}
	f, err := t.open(dir, file, file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, manifest.MaxSize+1))
	if err != nil {
		return nil, t.refuse(err, file)
	}
	return text, nil
}

const (
	layerRoot = "layer" // the folder of a layer in its version
	layerHash = "layer" // names what is hashed
)

// takeLayer copies a folder or an archive, at a path below the plugin folder, into the store.
func (s *store) takeLayer(ctx context.Context, dir *os.File, rel string) (content, error) {
	staged, err := s.stage()
	if err != nil {
		return content{}, err
	}
	defer os.RemoveAll(staged)
	parent, err := openBelow(dir, path.Dir(rel))
	if err != nil {
		return content{}, noLayer(rel, err)
	}
	defer parent.Close()
	info, err := os.Lstat(filepath.Join(parent.Name(), path.Base(rel)))
	if err != nil {
		return content{}, noLayer(rel, err)
	}
	t := taking{ctx: ctx, dir: parent, file: path.Base(rel), staged: staged}
	tr, err := newTree(rel, filepath.Join(staged, layerRoot))
	if err != nil {
		return content{}, err
	}
	defer tr.close()
	if err := t.layer(tr, info); err != nil {
		return content{}, err
	}
	sha := tr.hash(layerHash)
	at, err := s.commit(staged, sha)
	return content{sha: sha, path: filepath.Join(at, layerRoot)}, err
}

// layer writes the layer to the tree.
func (t *taking) layer(tr *tree, info fs.FileInfo) error {
	if info.IsDir() {
		src, err := openChild(t.dir, t.file)
		if err != nil {
			return t.refuse(err, t.file)
		}
		defer src.Close()
		return t.copyFolder(tr, src, "")
	}
	if !strings.HasSuffix(t.file, ".zip") {
		return errs.New(errs.Invalid, "layer %s is neither a folder nor a .zip archive", tr.file)
	}
	return t.packed(func(f *os.File, size int64) error {
		_, err := t.extractAll(tr, f, size)
		return err
	})
}

// openBelow opens the folder at a clean path below dir, following no links.
func openBelow(dir *os.File, rel string) (*os.File, error) {
	at, err := openChild(dir, ".")
	for _, part := range strings.Split(rel, "/") {
		if err != nil || part == "." {
			break
		}
		next, nerr := openChild(at, part)
		at.Close()
		at, err = next, nerr
	}
	return at, err
}

func noLayer(rel string, err error) error {
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENOTDIR) {
		return errs.New(errs.Invalid, "layer %s has a link or a file where a folder must be: links are never followed", printable(rel))
	}
	return errs.Wrap(errs.Invalid, cause(err), "layer %s cannot be read: put it into the plugin folder, at this path", printable(rel))
}
