package keys

import (
	_ "embed"
	"iter"
	"strings"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
)

// zone is a time zone with the English names that Java has for it. Go's own abbreviations are
// not the same: for São Paulo they are "-03" where Java prints "BRT".
type zone struct {
	id       string
	location *time.Location
	names    *zoneNames // nil for a zone that the table does not know
}

type zoneNames struct{ standardShort, daylightShort, standardFull, daylightFull string }

//go:embed zonenames.tsv
var zoneTable string

// loadZone finds the zone of CustomTimeZone.
func loadZone(id string) (*zone, error) {
	if id == "" || id == "UTC" {
		return &zone{id: "UTC", location: time.UTC, names: findNames("UTC")}, nil
	}
	if len(id) > 50 || !isZoneID(id) {
		return nil, errs.New(errs.Invalid, "CustomTimeZone %q is not a time zone: use UTC or a name such as Europe/Paris, of letters, / and _, at most 50 characters", id)
	}
	l, err := time.LoadLocation(id)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "CustomTimeZone %q is not known to the IANA time zone database", id)
	}
	return &zone{id: id, location: l, names: findNames(id)}, nil
}

// isZoneID accepts Region/City. The folders posix and right of some zone databases hold copies
// that are not zone names.
func isZoneID(id string) bool {
	for _, c := range []byte(id) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '/' || c == '_') {
			return false
		}
	}
	region, city, found := strings.Cut(id, "/")
	return found && region != "" && city != "" && region != "posix" && region != "right"
}

func findNames(id string) *zoneNames {
	for line := range strings.Lines(zoneTable) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(f) != 5 || !strings.Contains(f[4], id) {
			continue
		}
		for other := range strings.FieldsSeq(f[4]) {
			if other == id {
				return &zoneNames{f[0], f[1], f[2], f[3]}
			}
		}
	}
	return nil
}

// name is the zone's name at the instant t, which must be in its location.
func (z *zone) name(t time.Time, full bool) string {
	n := z.names
	switch daylight := isDaylight(t); {
	case daylight && full:
		return n.daylightFull
	case daylight:
		return n.daylightShort
	case full:
		return n.standardFull
	}
	return n.standardShort
}

// isDaylight reports whether t is in the period of the greater offset of a zone that changes its
// clocks. It differs from t.IsDST where the law calls the summer's time the standard and winter
// has a negative saving (Dublin, Casablanca): Java's names are for the usual view.
func isDaylight(t time.Time) bool {
	_, offset := t.Zone()
	if t.IsDST() {
		standard, found := neighbourOffset(t, false)
		return !found || standard <= offset
	}
	daylight, found := neighbourOffset(t, true)
	return found && daylight < offset
}

// neighbourOffset is the offset of the next period (or the last one, for after = false) whose
// IsDST differs from t's. ZoneBounds may end a period at New Year, hence the loop.
func neighbourOffset(t time.Time, after bool) (offset int, found bool) {
	at := t
	for range 3 {
		start, end := at.ZoneBounds()
		bound, at2 := start, start.Add(-time.Second)
		if after {
			bound, at2 = end, end
		}
		if bound.IsZero() {
			return 0, false
		}
		if at = at2; at.IsDST() != t.IsDST() {
			_, offset = at.Zone()
			return offset, true
		}
	}
	return 0, false
}

// widestInstants yields, in the zone, the last second of a day of every weekday in every month:
// whatever a pattern prints, one of them gives its widest text.
func widestInstants(z *zone) iter.Seq[time.Time] {
	return func(yield func(time.Time) bool) {
		for month := time.January; month <= time.December; month++ {
			for day := 22; day <= 28; day++ {
				if !yield(time.Date(2024, month, day, 23, 59, 59, 0, z.location)) {
					return
				}
			}
		}
	}
}
