package journal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/shards"
)

// mend opens a store with a repair.
func mend(t testing.TB, fs vfs.FS, o Options) (*Store, Repaired) {
	t.Helper()
	var out Repaired
	o.Repair = func(r Repaired) { out = r }
	if o.SegmentSize == 0 {
		o.SegmentSize = 1 << 10
	}
	return open(t, fs, o), out
}

// flip changes one byte of a file.
func flip(t testing.TB, fs vfs.FS, path string, at int) {
	t.Helper()
	b := slurp(t, fs, path)
	b[at] ^= 0x20
	spill(t, fs, path, b)
}

// A damaged record of a chunk is left out, everything else is kept, and the report says what became
// of it. Positions go on behind what was lost; later Opens need no repair.
func TestRepairOfAChunk(t *testing.T) {
	fs, whole := sealedStore(t)
	path := "data/chunks/" + chunkNames(t, fs)[1]
	flip(t, fs, path, chunkHeader+frameHeader+recordHeader+5) // in the first record of shard 1
	s, report := mend(t, fs, Options{})
	if len(report.Files) != 1 || report.Files[0].Path != path || report.Files[0].Offset != chunkHeader || report.Files[0].Unknown != 0 ||
		report.Files[0].What != "a frame fails its checksum" {
		t.Fatalf("%+v", report)
	}
	if len(report.Lost) != 1 || report.Lost[0].From != report.Lost[0].To || report.Lost[0].Shard != 1 || !report.Lost[0].Certain {
		t.Fatalf("%+v", report)
	}
	lost := report.Lost[0].From
	if _, err := fs.Stat(report.Files[0].Aside); err != nil || !strings.HasPrefix(report.Files[0].Aside, "data/damaged/") {
		t.Fatalf("%+v: %v", report, err)
	}
	for range 2 {
		var left []string
		for _, r := range strings.Split(whole, " ") {
			if !strings.HasPrefix(r, fmt.Sprintf("%d=%d", lost, lost-1)) {
				left = append(left, r)
			}
		}
		want(t, "what is left", []string{content(t, s)}, strings.Join(left, " "))
		if b, err := s.Bounds(t.Context(), 1); err != nil || b != (shards.Bounds{Horizon: 1, Last: 8}) {
			t.Fatalf("%+v, %v", b, err)
		}
		settle(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, fs, Options{SegmentSize: 1 << 10})
	}
	if r := put(t, s, 1, "next"); r.First != 9 {
		t.Fatalf("the next record is at %d", r.First)
	}
	if _, report := mend(t, reopened(t, fs), Options{}); len(report.Files)+len(report.Lost) != 0 {
		t.Fatalf("a second repair found %+v", report)
	}
}

// A damaged segment: what is sound before and behind the damage is kept.
func TestRepairOfASegment(t *testing.T) {
	fs := closedStore(t) // shard 1 has 3 to 6, shard 2 has 1
	path := "data/log/" + segments(t, fs)[1]
	b := slurp(t, fs, path)
	at := bytes.Index(b, []byte("3xxx"))
	flip(t, fs, path, at+1)
	refused(t, reopened(t, fs), "serve --repair")
	s, report := mend(t, fs, Options{})
	if len(report.Files) != 1 || report.Files[0].Path != path || report.Files[0].Offset != int64(at-frameHeader-recordHeader-1) {
		t.Fatalf("%+v", report)
	}
	if len(report.Lost) == 0 || report.Lost[0] != (LostRange{1, 4, 4, true}) {
		t.Fatalf("%+v", report)
	}
	if got := read(t, s, 1, 0, everything); len(got) != 3 || got[0][:3] != "3=2" || got[1][:3] != "5=4" || got[2][:3] != "6=5" {
		t.Fatalf("%.20q", got)
	}
}

// The last records of a store are damaged, in an unclean stop or not: their positions are not given
// out again, not even when nothing tells how many they were. Without remembering the gaps they are,
// or the next Open is refused: the control.
func TestRepairNeverGivesAPositionOutTwice(t *testing.T) {
	for _, omit := range []omission{0, omitGaps} {
		fs := vfs.NewMem()
		s := open(t, fs, Options{SegmentSize: 4 << 10, omit: omitSealing})
		create(t, s, 1, 2)
		for i := range 6 {
			put(t, s, 1, fmt.Sprint("r", i+1))
		}
		put(t, s, 2, "tip")
		crashed := reopened(t, fs) // not closed
		path := "data/log/" + segments(t, crashed)[0]
		b := slurp(t, crashed, path)
		clear(b[bytes.Index(b, []byte("r4"))-frameHeader-recordHeader-1 : bytes.Index(b, []byte("tip"))-frameHeader-recordHeader-1])
		spill(t, crashed, path, b)
		s, report := mend(t, crashed, Options{omit: omit})
		if len(report.Files) != 1 || report.Files[0].Unknown < 3*frameHeader || len(report.Lost) != 2 || report.Lost[0].Certain || report.Lost[1].Certain {
			t.Fatalf("%+v", report)
		}
		want(t, "what is left", read(t, s, 1, 0, everything), "1=r1 2=r2 3=r3")
		if b, _ := s.Bounds(t.Context(), 1); b.Last != 3 {
			t.Fatalf("%+v", b)
		}
		killed := reopened(t, crashed)
		s.Close()
		again := open(t, killed, Options{omit: omit})
		r := put(t, again, 1, "next")
		if twice := r.First <= 6; twice != (omit != 0) {
			t.Fatalf("omitting %b, the next record is at %d", omit, r.First)
		}
		if omit == 0 {
			want(t, "reading over the gap", read(t, again, 1, 2, everything), fmt.Sprintf("3=r3 %d=next", r.First))
			again.Close()
			want(t, "and once more", read(t, open(t, killed, Options{}), 1, 2, everything), fmt.Sprintf("3=r3 %d=next", r.First))
		}
	}
}

// Gaps outlive the trimming of what is around them.
func TestGapsAndTrims(t *testing.T) {
	fs, _ := sealedStore(t)
	names := chunkNames(t, fs)
	flip(t, fs, "data/chunks/"+names[1], chunkHeader+frameHeader+recordHeader+5)
	s, report := mend(t, fs, Options{})
	lost := report.Lost[0].From
	for _, to := range []shards.Pos{lost - 1, lost, 8} {
		if err := s.Trim(t.Context(), 1, to); err != nil {
			t.Fatal(err)
		}
		s.Close()
		s = open(t, fs, Options{SegmentSize: 1 << 10})
		b, _ := s.Bounds(t.Context(), 1)
		if got := read(t, s, 1, 0, everything); b != (shards.Bounds{Horizon: to, Last: 8}) || to < lost && len(got) != int(8-lost) {
			t.Fatalf("trimmed to %d: %+v, %.20q", to, b, got)
		}
	}
}

// A missing file cannot be read again, but what is behind it can.
func TestRepairOfAMissingFile(t *testing.T) {
	fs, _ := sealedStore(t)
	if err := fs.Remove("data/chunks/" + chunkNames(t, fs)[1]); err != nil {
		t.Fatal(err)
	}
	s, report := mend(t, fs, Options{})
	if len(report.Files) != 0 || len(report.Lost) == 0 || !report.Lost[0].Certain {
		t.Fatalf("%+v", report)
	}
	s.Close()
	s = open(t, fs, Options{SegmentSize: 1 << 10})
	if b, _ := s.Bounds(t.Context(), 1); b.Last != 8 {
		t.Fatalf("%+v", b)
	}
}

// Damage to FORMAT or the metadata is nothing that a repair could make up for.
func TestRepairRefusesWhatItCannotMend(t *testing.T) {
	for what, spoil := range map[string]func(fs vfs.FS) error{
		"data/FORMAT is damaged": func(fs vfs.FS) error { spill(t, fs, "data/FORMAT", []byte("?")); return nil },
		"are missing":            func(fs vfs.FS) error { return fs.RemoveAll("data/meta") },
	} {
		fs := closedStore(t)
		if err := spoil(fs); err != nil {
			t.Fatal(err)
		}
		s, err := Open("data", Options{FS: fs, Repair: func(Repaired) { t.Error("repaired") }})
		if err == nil {
			s.Close()
		}
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// Any byte of any file may be damaged: after a repair the store opens, serves nothing wrong, lacks
// nothing that the report does not tell of, and needs no other repair.
func TestRepairOfAnyByte(t *testing.T) {
	t.Parallel()
	sealed, whole := sealedStore(t)
	all := strings.Split(whole, " ")
	for _, dir := range []string{"data/chunks/", "data/log/"} {
		names, _ := sealed.List(dir[:len(dir)-1])
		for _, name := range names {
			if strings.HasSuffix(name, freeSuffix) {
				continue
			}
			n := len(slurp(t, sealed, dir+name))
			for at := 0; at < n; at += 1 + 6*int(stride(1)) {
				fs := reopened(t, sealed)
				flip(t, fs, dir+name, at)
				s, report := mend(t, fs, Options{omit: omitSealing})
				got := content(t, s)
				s.Close()
				missing := len(all)
				for _, r := range strings.Fields(got) {
					if !strings.Contains(" "+whole+" ", " "+r+" ") {
						t.Fatalf("%s byte %d: the store serves %.30q", name, at, r)
					}
					missing--
				}
				told := 0
				for _, l := range report.Lost {
					if l.Certain {
						told += int(l.To - l.From + 1)
					}
				}
				if missing > told {
					t.Fatalf("%s byte %d: %d records are missing, %d are reported: %+v", name, at, missing, told, report)
				}
				s, again := mend(t, fs, Options{omit: omitSealing})
				if len(again.Files)+len(again.Lost) != 0 || content(t, s) != got {
					t.Fatalf("%s byte %d: the second repair did %+v", name, at, again)
				}
				s.Close()
			}
		}
	}
}

// A repair that is cut short, before any of its operations, by a kill with or without a power cut,
// is taken up by the next: an Open without --repair is refused or right, and in the end the same is
// lost as without the crash.
func TestARepairThatIsCutShort(t *testing.T) {
	base := vfs.NewCrashableMem()
	sealed, whole := sealedStore(t)
	copyTree(t, sealed, base, "data")
	names := chunkNames(t, base)
	flip(t, base, "data/chunks/"+names[1], chunkHeader+frameHeader+recordHeader+5)
	flip(t, base, "data/log/"+segments(t, base)[0], segmentHeader+frameHeader+recordHeader)
	syncAll(t, base)
	clean := base.CrashClone(vfs.CrashCloneCfg{})
	s, _ := mend(t, clean, Options{omit: omitSealing})
	left := content(t, s)
	if left == whole {
		t.Fatal("nothing was damaged")
	}
	refusals := 0
	for at := int64(0); ; at += stride(1) {
		for _, power := range []bool{false, true} {
			mem := base.CrashClone(vfs.CrashCloneCfg{})
			f := &failing{match: notMeta, at: at, lasting: true}
			if s, err := Open("data", Options{FS: f.over(mem), Repair: func(Repaired) {}, omit: omitSealing}); err == nil {
				f.off.Store(true)
				s.Close()
			}
			if power {
				mem = mem.CrashClone(vfs.CrashCloneCfg{})
			}
			if s, err := Open("data", Options{FS: mem, omit: omitSealing}); err != nil {
				refusals++
			} else if got := content(t, s); got != left {
				t.Fatalf("cut before operation %d, an ordinary Open serves %.60q", at, got)
			} else {
				s.Close()
			}
			s, _ := mend(t, mem, Options{omit: omitSealing})
			if got := content(t, s); got != left {
				t.Fatalf("cut before operation %d, the next repair leaves %.80q, not %.80q", at, got, left)
			}
			s.Close()
			if !f.reached() {
				if refusals == 0 {
					t.Fatal("no Open was refused")
				}
				return
			}
		}
	}
}

// syncAll makes everything durable.
func syncAll(t testing.TB, fs vfs.FS) {
	t.Helper()
	var walk func(dir string)
	walk = func(dir string) {
		names, err := fs.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range names {
			path := fs.PathJoin(dir, n)
			info, err := fs.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.IsDir() {
				walk(path)
				continue
			}
			f, err := fs.OpenReadWrite(path, vfs.WriteCategoryUnspecified)
			if err == nil {
				err = errors.Join(f.Sync(), f.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		d, err := fs.OpenDir(dir)
		if err == nil {
			err = errors.Join(d.Sync(), d.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	walk("")
}

// A disk that cannot read a place loses what is there, not the rest.
func TestRepairOfAnUnreadablePlace(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, fs, Options{SegmentSize: 64 << 10})
	create(t, s, 1, 2)
	fill(t, s, 120, 1000)
	settle(t, s)
	s.Close()
	path := "data/chunks/" + chunkNames(t, fs)[0]
	bad := errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileReadAt && op.Path == path && (op.Offset == 0 && op.Offset != 8192 || op.Offset == 8192) {
			return &os.PathError{Op: "read", Path: op.Path, Err: errors.New("medium error")}
		}
		return nil
	}))
	s, err := Open("data", Options{FS: bad, Repair: func(r Repaired) {
		if len(r.Files) != 1 || r.Files[0].Path != path {
			t.Errorf("%+v", r)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if got := len(read(t, s, 1, 0, everything)) + len(read(t, s, 2, 0, everything)); got < 100 || got == 120 {
		t.Fatalf("%d records of 120", got)
	}
}
