package objects

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shardmill/shardmill/internal/errs"
)

// List implements Store. It reads the folders that can hold objects of the page and no others:
// the folder of the prefix, and below it those that are not wholly before the key after.
func (d *Dir) List(ctx context.Context, bucket, prefix, after string, max int) ([]Info, error) {
	if err := CheckBucket(bucket); err != nil {
		return nil, err
	}
	if err := d.checkExists(bucket); err != nil {
		return nil, err
	}
	if prefix != "" && checkKey(prefix) != nil {
		return nil, nil // no key begins so
	}
	// Everything that starts with logs/2026-0 lies in the folder logs.
	folder := prefix[:strings.LastIndexByte(prefix, '/')+1]
	name, err := pathOf(bucket, folder+"x")
	if err != nil {
		return nil, nil
	}
	w := walk{d: d, prefix: prefix, after: after, max: max}
	if err := w.folder(ctx, strings.TrimSuffix(name, "/x"), folder); err != nil {
		return nil, diskError(err, "cannot list bucket %s", bucket)
	}
	return w.found, nil
}

type walk struct {
	d             *Dir
	prefix, after string
	max           int
	found         []Info
}

// folder adds the objects below the folder name, whose keys all start with key.
func (w *walk) folder(ctx context.Context, name, key string) error {
	if len(w.found) >= w.max {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return errs.Wrap(errs.Unavailable, err, "the listing was called off")
	}
	entries, err := w.entries(name, key)
	for _, e := range entries {
		if len(w.found) >= w.max {
			break
		}
		if e.isFolder {
			err = w.folder(ctx, name+"/"+e.name, e.key)
		} else {
			err = w.object(name+"/"+e.name, e.key)
		}
		if err != nil {
			return err
		}
	}
	return err
}

func (w *walk) object(name, key string) error {
	f, info, err := w.d.open(name, key)
	if isMissing(err) { // deleted since the folder was read
		return nil
	}
	if err != nil {
		return err
	}
	f.Close()
	info.Attributes = Attributes{}
	w.found = append(w.found, info)
	return nil
}

// entry is a file or folder. A folder's key ends in a slash and every key below it starts so;
// since siblings compare by these, a-b comes before a/b and a0 behind.
type entry struct {
	name, key string
	isFolder  bool
}

// entries reads the objects and folders of a folder that the listing wants, in order of keys.
func (w *walk) entries(name, key string) ([]entry, error) {
	f, err := w.d.root.Open(name)
	if isMissing(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, de := range all {
		segment, ok := segmentOf(de.Name())
		if !ok {
			continue
		}
		e := entry{name: de.Name(), key: key + segment, isFolder: de.IsDir()}
		if e.isFolder {
			e.key += "/"
		}
		if w.wants(e) && (e.isFolder || de.Type().IsRegular() && checkKey(e.key) == nil) {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.key, b.key) })
	return entries, nil
}

func (w *walk) wants(e entry) bool {
	if !e.isFolder {
		return strings.HasPrefix(e.key, w.prefix) && e.key > w.after
	}
	inPrefix := strings.HasPrefix(e.key, w.prefix) || strings.HasPrefix(w.prefix, e.key)
	return inPrefix && (e.key > w.after || strings.HasPrefix(w.after, e.key))
}

// Buckets implements Store.
func (d *Dir) Buckets(ctx context.Context) ([]Bucket, error) {
	f, err := d.root.Open(".")
	if err != nil {
		return nil, diskError(err, "cannot list the buckets")
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, diskError(err, "cannot list the buckets")
	}
	var buckets []Bucket
	for _, e := range entries {
		if !e.IsDir() || CheckBucket(e.Name()) != nil {
			continue
		}
		created, err := d.created(e.Name())
		if isMissing(err) {
			continue
		}
		if err != nil {
			return nil, diskError(err, "cannot look at bucket %s", e.Name())
		}
		buckets = append(buckets, Bucket{Name: e.Name(), Created: created})
	}
	slices.SortFunc(buckets, func(a, b Bucket) int { return cmp.Compare(a.Name, b.Name) })
	return buckets, nil
}

// created is when a folder was made, or where the file system does not know, last changed.
func (d *Dir) created(name string) (time.Time, error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close()
	var st unix.Statx_t
	err = unix.Statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_BTIME, &st)
	if err == nil && st.Mask&unix.STATX_BTIME != 0 {
		return time.Unix(st.Btime.Sec, int64(st.Btime.Nsec)), nil
	}
	info, err := f.Stat()
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}
