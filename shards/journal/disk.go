package journal

import (
	"errors"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/errs"
)

// The disk's last bytes are shared out in steps, so that what frees space works longest: appends
// are refused while less than the reserve is free, sealing while less than a quarter of it would
// be left. Metadata, and with them trimming, have that quarter to themselves.

// checkDisk refuses appends while the disk is nearly full, so that a write never meets a full
// disk. The disk is asked once for every few megabytes.
func (s *Store) checkDisk(size int64) error {
	if s.diskOK.Add(-size) > 0 {
		return nil
	}
	free, err := s.freeBytes()
	if err != nil {
		return err
	}
	if free < s.opts.Reserve {
		return errs.New(errs.Unavailable, "the disk of %s is full: %d MiB are free and %d MiB are kept in reserve", s.dir, free>>20, s.opts.Reserve>>20)
	}
	s.diskOK.Store(int64(min(free-s.opts.Reserve, 16<<20)))
	return nil
}

// checkSealing refuses to write a chunk of size bytes while the disk is all but full.
func (s *Store) checkSealing(size int64) error {
	free, err := s.freeBytes()
	if err != nil {
		return err
	}
	if keep := s.opts.Reserve / 4; free < keep+uint64(size) {
		return errs.New(errs.Unavailable, "the disk of %s is full: %d MiB are free, sealing needs %d MiB and %d MiB are kept for metadata", s.dir, free>>20, size>>20, keep>>20)
	}
	return nil
}

// freeBytes is the free space of the disk; a file system in memory has no end of it.
func (s *Store) freeBytes() (uint64, error) {
	u, err := s.fs.GetDiskUsage(s.dir)
	if errors.Is(err, vfs.ErrUnsupported) {
		return 1 << 62, nil
	}
	if err != nil {
		return 0, errs.Wrap(errs.Unavailable, err, "the free space of %s is not known", s.dir)
	}
	return u.AvailBytes, nil
}
