package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"

	"github.com/shardmill/shardmill/internal/errs"
)

// openDirs makes and locks the folders and makes their names durable.
func (s *Store) openDirs() (err error) {
	names := s.missingNames()
	_, fresh := s.fs.Stat(s.dir)
	for _, d := range []string{s.logDir, s.chunkDir} {
		if err := s.fs.MkdirAll(d, 0o700); err != nil {
			return errs.Wrap(errs.Unavailable, err, "the data folder %s cannot be made", s.dir)
		}
	}
	if s.lock, err = s.fs.Lock(s.fs.PathJoin(s.dir, "LOCK")); err != nil {
		return errs.Wrap(errs.InUse, err, "the data folder %s is in use by another shardmill: stop it, or choose another folder with --data", s.dir)
	}
	for _, d := range names {
		if err := s.syncDir(d); err != nil && (fresh != nil || !errors.Is(err, os.ErrPermission)) {
			return err // a folder made for us may stand in one that we may not open
		}
	}
	for _, d := range []string{s.dir, s.logDir, s.chunkDir} {
		if err := s.syncDir(d); err != nil {
			return err
		}
	}
	s.logHandle, err = s.fs.OpenDir(s.logDir)
	return err
}

// missingNames returns the folders above the data folder that hold a name which is still to be
// made: its parent always, further ones as far as they do not exist themselves.
func (s *Store) missingNames() (parents []string) {
	for d := s.dir; ; {
		parent := s.fs.PathDir(d)
		if parent == d {
			return parents
		}
		parents = append(parents, parent)
		if _, err := s.fs.Stat(parent); err == nil {
			return parents
		}
		d = parent
	}
}

func (s *Store) syncDir(dir string) error {
	d, err := s.fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open folder %s: %w", dir, err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// readFormat reads DIR/FORMAT, or writes it into a new store.
func (s *Store) readFormat() error {
	name := s.fs.PathJoin(s.dir, "FORMAT")
	f, err := s.fs.Open(name)
	if errors.Is(err, os.ErrNotExist) {
		return s.newFormat()
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, &s.format); err != nil {
		return errs.Wrap(errs.Invalid, err, "%s is damaged", name)
	}
	if err := s.format.check(s.dir); err != nil {
		return err
	}
	id, err := uuid.Parse(s.format.StoreID)
	if err != nil {
		return errs.Wrap(errs.Invalid, err, "%s is damaged: its storeId is none", name)
	}
	s.storeID = id
	return nil
}

// newFormat begins a store, unless there are records whose FORMAT is lost.
func (s *Store) newFormat() error {
	if any, err := s.anyVolumes(); err != nil || any {
		return errs.Wrap(errs.Invalid, err, "%s has journal segments but no FORMAT file: it is damaged, or not a data folder", s.dir)
	}
	s.storeID = uuid.New()
	s.format = formatFile{formatVersion, uuid.UUID(s.storeID).String(), time.Now().UTC().Format(time.RFC3339)}
	return s.writeFormat()
}

// upgrade makes a folder of an older format one of the present format. Format 2 only adds chunks to
// format 1: when FORMAT says 2, durably, the first chunk may be written, and from then on a
// shardmill that knows no chunks refuses the folder. It runs when the folder was found to be sound.
func (s *Store) upgrade() error {
	if s.format.Format == formatVersion {
		return nil
	}
	from := s.format.Format
	s.format.Format = formatVersion
	if err := s.writeFormat(); err != nil {
		return err
	}
	if f := s.opts.Events.Upgraded; f != nil {
		f(from, formatVersion)
	}
	return nil
}

func (s *Store) anyVolumes() (bool, error) {
	for _, d := range []string{s.logDir, s.chunkDir} {
		if names, err := s.fs.List(d); err != nil || len(names) > 0 {
			return true, err
		}
	}
	return false, nil
}

func (s *Store) writeFormat() error {
	b, err := json.Marshal(s.format)
	if err != nil {
		return err
	}
	name := s.fs.PathJoin(s.dir, "FORMAT")
	tmp := name + ".tmp"
	f, err := s.fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := s.fs.Rename(tmp, name); err != nil {
		return err
	}
	return s.syncDir(s.dir)
}

// openMeta opens the metadata. Without them, or with those of another store, the records would look
// like those of shards that were deleted, so they must be there if there are any.
func (s *Store) openMeta() (err error) {
	any, err := s.anyVolumes()
	if err != nil {
		return err
	}
	s.meta, err = openMeta(s.fs, s.fs.PathJoin(s.dir, "meta"), s.storeID, any, func(err error) {
		s.stopTaking(errs.Wrap(errs.Unavailable, err, "the metadata in %s are damaged: restore the folder from a copy", s.dir))
	})
	return err
}
