package objects

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// attributeKeeper keeps the attributes of a Dir's objects so that they change in the same instant
// as the object.
type attributeKeeper interface {
	// attach is called with the object's temporary file before it is synced.
	attach(f *os.File, r record) error
	// publish calls move, which renames the temporary file to the object's place, once r is durable.
	publish(name string, r record, move func() error) error
	// load returns the record of the object open as f, false if there is none.
	load(f *os.File, name string) (record, bool)
	// forget is called after the object was removed.
	forget(name string) error
}

const recordFormat = 1

// record is what is kept beside an object's bytes: format 1 of Dir's documentation.
type record struct {
	Format          int               `json:"format"`
	Size            int64             `json:"size"`
	Modified        int64             `json:"modified"`
	MD5             string            `json:"md5"`
	ContentType     string            `json:"contentType,omitempty"`
	ContentEncoding string            `json:"contentEncoding,omitempty"`
	User            map[string]string `json:"user,omitempty"`
}

func newRecord(info fs.FileInfo, md5 string, m Attributes) record {
	return record{Format: recordFormat, Size: info.Size(), Modified: info.ModTime().UnixNano(), MD5: md5,
		ContentType: m.ContentType, ContentEncoding: m.ContentEncoding, User: m.User}
}

func (r record) fits(info fs.FileInfo) bool {
	return r.Format == recordFormat && r.Size == info.Size() && r.Modified == info.ModTime().UnixNano()
}

func (r record) describe(info *Info) {
	info.ETag = `"` + r.MD5 + `"`
	info.ContentEncoding, info.User = r.ContentEncoding, r.User
	if r.ContentType != "" {
		info.ContentType = r.ContentType
	}
}

// encodeJSON leaves <, > and & as they are: ext4 has about 4,000 bytes for all attributes of a file.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// xattrs keeps the record in an extended attribute of the object's own file.
type xattrs struct{}

const (
	xattrName = "user.shardmill.object"
	maxRecord = 64 << 10 // the kernel's limit of an extended attribute
)

func (xattrs) attach(f *os.File, r record) error {
	value, err := encodeJSON(r)
	if err != nil {
		return err
	}
	return unix.Fsetxattr(int(f.Fd()), xattrName, value, 0)
}

func (xattrs) publish(_ string, _ record, move func() error) error { return move() }

func (xattrs) load(f *os.File, _ string) (r record, ok bool) {
	buf := make([]byte, 1024)
	n, err := unix.Fgetxattr(int(f.Fd()), xattrName, buf)
	if errors.Is(err, unix.ERANGE) {
		buf = make([]byte, maxRecord)
		n, err = unix.Fgetxattr(int(f.Fd()), xattrName, buf)
	}
	if err != nil {
		return record{}, false
	}
	return r, json.Unmarshal(buf[:n], &r) == nil
}

func (xattrs) forget(string) error { return nil }

// sidecars keeps records in files of their own, for file systems without extended attributes.
//
// A sidecar is durable before its object is renamed, and holds two records: the new object's and
// that of the object being replaced. Whichever of the two a crash leaves, its record is found by
// its size and time of modification. It costs a second file and two more syncs a Put.
type sidecars struct {
	d  *Dir
	mu sync.Mutex // one Put at a time between writing the sidecar and the rename
}

const sidecarFolder = ".attributes"

// sidecarOf names the sidecar of bucket/name by a hash, so that it cannot be too long, nor in the
// way of another.
func sidecarOf(name string) string {
	bucket, rest, _ := strings.Cut(name, "/")
	sum := sha256.Sum256([]byte(rest))
	return sidecarFolder + "/" + bucket + "/" + hex.EncodeToString(sum[:])
}

func (s *sidecars) attach(*os.File, record) error { return nil }

func (s *sidecars) publish(name string, r record, move func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	records := []record{r}
	if info, err := s.d.root.Lstat(name); err == nil {
		for _, old := range s.read(name) {
			if old.fits(info) {
				records = append(records, old)
				break
			}
		}
	}
	if err := s.write(sidecarOf(name), records); err != nil {
		return err
	}
	return move()
}

func (s *sidecars) write(name string, records []record) error {
	data, err := encodeJSON(records)
	if err != nil {
		return err
	}
	d, tmp := s.d, tmpFolder+"/"+rand.Text()
	if err := d.ensureFolder(path.Dir(name)); err != nil {
		return err
	}
	err = d.do("create", tmp, func() error {
		f, err := d.root.OpenFile(tmp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := d.do("write", tmp, func() error { _, err := f.Write(data); return err }); err != nil {
			return err
		}
		return d.do("sync file", tmp, f.Sync)
	})
	if err == nil {
		err = d.do("rename", name, func() error { return d.root.Rename(tmp, name) })
	}
	if err == nil {
		return d.syncFolder(path.Dir(name))
	}
	_ = d.do("remove", tmp, func() error { return d.root.Remove(tmp) })
	return err
}

func (s *sidecars) read(name string) (records []record) {
	f, err := s.d.root.Open(sidecarOf(name))
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 2*maxRecord))
	if err != nil || json.Unmarshal(data, &records) != nil {
		return nil
	}
	return records
}

func (s *sidecars) load(f *os.File, name string) (record, bool) {
	info, err := f.Stat()
	if err != nil {
		return record{}, false
	}
	for _, r := range s.read(name) {
		if r.fits(info) {
			return r, true
		}
	}
	return record{}, false
}

func (s *sidecars) forget(name string) error {
	if err := s.d.root.Remove(sidecarOf(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
