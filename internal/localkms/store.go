package localkms

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
)

// One file a key, docs/formats/keys.md. A key is given out only when its file will survive a power
// cut: a record sealed with a key that is lost could never be read.

const (
	format    = 1
	extension = ".key"
	aside     = ".tmp" // of a file that is being written; what a crash leaves of it was never given out
)

type document struct {
	Format  int       `json:"format"`
	Number  string    `json:"number"`
	Account string    `json:"account"`
	Region  string    `json:"region"`
	Name    string    `json:"name"`
	Created time.Time `json:"created"`
	Secret  []byte    `json:"secret"`
	Check   string    `json:"check"`
}

func fileName(number uint32) string { return fmt.Sprintf("%08x%s", number, extension) }

// check tells a damaged secret: the first 8 bytes of its SHA-256, which say nothing about 256 random
// bits that could be used.
func check(secret []byte) string {
	sum := sha256.Sum256(secret)
	return hex.EncodeToString(sum[:8])
}

func (s *Service) load() error {
	if err := s.fs.MkdirAll(s.dir, 0o700); err != nil {
		return errs.Wrap(errs.Unavailable, err, "the folder of keys cannot be made")
	}
	if err := s.syncDir(s.fs.PathDir(s.dir)); err != nil {
		return errs.Wrap(errs.Unavailable, err, "the folder of keys cannot be made durable")
	}
	names, err := s.fs.List(s.dir)
	if err != nil {
		return errs.Wrap(errs.Unavailable, err, "the folder of keys cannot be read")
	}
	for _, file := range names {
		path := s.fs.PathJoin(s.dir, file)
		switch {
		case strings.HasSuffix(file, aside):
			if err := s.fs.Remove(path); err != nil {
				return errs.Wrap(errs.Unavailable, err, "a half-written key cannot be removed")
			}
		case strings.HasSuffix(file, extension):
			k, err := s.read(path)
			if err != nil {
				return err
			}
			if fileName(k.number) != file || s.byName[k.name] != nil {
				return errs.New(errs.Invalid, "%s holds key %s with the number %08x, which is not its name or is in another file as well: files of keys must not be renamed or copied", path, k.name, k.number)
			}
			s.byName[k.name], s.byNumber[k.number] = k, k
		}
	}
	return nil
}

func (s *Service) read(path string) (*key, error) {
	f, err := s.fs.Open(path)
	if err != nil {
		return nil, errs.Wrap(errs.Unavailable, err, "the file of a key cannot be read")
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return nil, errs.Wrap(errs.Unavailable, err, "%s cannot be read", path)
	}
	return parseFile(path, text)
}

// parseFile reads the text of a key's file.
func parseFile(path string, text []byte) (*key, error) {
	var d document
	if json.Unmarshal(text, &d) != nil { // the error might show a part of the secret
		return nil, errs.New(errs.Invalid, "%s is damaged: it is not the file of a key; put it back from a backup", path)
	}
	if d.Format != format {
		return nil, errs.New(errs.Invalid, "%s is of format %d, this version reads %d: it was written by a newer shardmill", path, d.Format, format)
	}
	var number uint32
	if n, err := fmt.Sscanf(d.Number, "%08x", &number); n != 1 || err != nil || number == 0 || fmt.Sprintf("%08x", number) != d.Number ||
		len(d.Secret) != secretSize || d.Check != check(d.Secret) || !isLocal(d.Name) {
		return nil, errs.New(errs.Invalid, "%s is damaged: its number, name or secret is not what was written; put it back from a backup", path)
	}
	return &key{name: name{d.Account, d.Region, d.Name}, number: number, secret: d.Secret, created: d.Created}, nil
}

// write makes a key durable: written aside, synced, renamed, its folder synced.
func (s *Service) write(k *key) error {
	text, err := json.Marshal(document{format, fmt.Sprintf("%08x", k.number), k.name.account, k.name.region, k.name.local, k.created, k.secret, check(k.secret)})
	if err != nil {
		return err
	}
	path := s.fs.PathJoin(s.dir, fileName(k.number))
	if err := s.writeFile(path+aside, append(text, '\n')); err != nil {
		return err
	}
	if err := s.fs.Rename(path+aside, path); err != nil {
		return err
	}
	return s.syncDir(s.dir)
}

func (s *Service) syncDir(path string) error {
	dir, err := s.fs.OpenDir(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (s *Service) writeFile(path string, text []byte) (err error) {
	f, err := s.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}()
	if f.Fd() != vfs.InvalidFd { // a file of the machine: nobody else reads it, not even while it is empty
		if err := os.Chmod(path, 0o600); err != nil {
			return err
		}
	}
	if _, err := f.Write(text); err != nil {
		return err
	}
	return f.Sync()
}
