package keys

import (
	"strconv"
	"time"
)

// appendBare prints the field without padding, as Java does in the locale en-US: weeks start on
// Sunday and the week of 1 January is week 1.
func (f *field) appendBare(dst []byte, t time.Time, z *zone) []byte {
	switch f.letter {
	case 0:
		return append(dst, f.text...)
	case 'y', 'u':
		return f.appendYear(dst, t.Year())
	case 'Y':
		return f.appendYear(dst, endOfWeek(t).Year())
	case 'M', 'L':
		return f.appendMonth(dst, t.Month())
	case 'Q', 'q':
		return f.appendQuarter(dst, (int(t.Month())+2)/3)
	case 'E', 'e', 'c':
		return f.appendWeekday(dst, t.Weekday())
	case 'G':
		return append(dst, [...]string{"AD", "Anno Domini", "A"}[max(f.count, 3)-3]...)
	case 'a':
		return append(dst, [...]string{"AM", "PM"}[t.Hour()/12]...)
	case 'z', 'V', 'X', 'x', 'Z', 'O':
		return f.appendZone(dst, t, z)
	case 'S': // keys are cut to seconds
		return appendPadded(dst, 0, f.count)
	}
	return appendPadded(dst, f.number(t), f.count)
}

// number is the value of a field that is only ever a number.
func (f *field) number(t time.Time) int {
	hour := t.Hour()
	switch f.letter {
	case 'd':
		return t.Day()
	case 'D':
		return t.YearDay()
	case 'w':
		return weekOfYear(t)
	case 'W':
		return (t.Day()-1+int(firstOfMonth(t)))/7 + 1
	case 'F':
		return alignedDay(t)
	case 'H':
		return hour
	case 'k':
		return (hour+23)%24 + 1
	case 'K':
		return hour % 12
	case 'h':
		return (hour+11)%12 + 1
	case 'm':
		return t.Minute()
	case 's':
		return t.Second()
	case 'A', 'N':
		second := hour*3600 + t.Minute()*60 + t.Second()
		if f.letter == 'A' {
			return second * 1000
		}
		return second * 1e9
	}
	return 0 // n, the nano of the second: keys are cut to seconds
}

func appendPadded(dst []byte, n, width int) []byte {
	start := len(dst)
	dst = strconv.AppendInt(dst, int64(n), 10)
	for len(dst)-start < width {
		dst = append(dst, '0')
		copy(dst[start+1:], dst[start:])
		dst[start] = '0'
	}
	return dst
}

// appendYear needs no sign: keys have years 1 to 9999, and a week-based year just beyond gets
// Java's plus sign when it is wider than a pattern of four letters or more.
func (f *field) appendYear(dst []byte, year int) []byte {
	if f.count == 2 {
		return appendPadded(dst, year%100, 2)
	}
	if year > 9999 && f.count == 4 {
		dst = append(dst, '+')
	}
	return appendPadded(dst, year, f.count)
}

func (f *field) appendMonth(dst []byte, m time.Month) []byte {
	return f.appendText(dst, int(m), m.String())
}

func (f *field) appendQuarter(dst []byte, q int) []byte {
	switch f.count {
	case 3:
		return appendPadded(append(dst, 'Q'), q, 1)
	case 4:
		return append(dst, [...]string{"1st quarter", "2nd quarter", "3rd quarter", "4th quarter"}[q-1]...)
	case 5:
		return appendPadded(dst, q, 1)
	}
	return appendPadded(dst, q, f.count)
}

// appendWeekday prints the name for E in every length, and for e and c from three letters on.
func (f *field) appendWeekday(dst []byte, d time.Weekday) []byte {
	if f.letter == 'E' && f.count < 3 {
		return append(dst, d.String()[:3]...)
	}
	return f.appendText(dst, int(d)+1, d.String())
}

// appendText prints a number for one and two letters, then the short, the full and the
// one-letter name.
func (f *field) appendText(dst []byte, n int, name string) []byte {
	switch f.count {
	case 3:
		return append(dst, name[:3]...)
	case 4:
		return append(dst, name...)
	case 5:
		return append(dst, name[0])
	}
	return appendPadded(dst, n, f.count)
}

// endOfWeek is the Saturday of t's week. Its year is the year that the week belongs to.
func endOfWeek(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day()+int(time.Saturday-t.Weekday()), 0, 0, 0, 0, time.UTC)
}

func weekOfYear(t time.Time) int {
	end := endOfWeek(t)
	return (end.YearDay()-1)/7 + 1
}

// firstOfMonth is the weekday of the first day of t's month, 0 for Sunday.
func firstOfMonth(t time.Time) time.Weekday {
	return time.Weekday((int(t.Weekday()) - (t.Day() - 1) + 35) % 7)
}

// alignedDay is the field F. Up to version 18 Java prints the day's position in its aligned week
// of the month (1 for the days 1, 8, 15 …); from 19 on it prints that week's number.
func alignedDay(t time.Time) int { return (t.Day()-1)%7 + 1 }

func (f *field) appendZone(dst []byte, t time.Time, z *zone) []byte {
	_, offset := t.Zone()
	switch f.letter {
	case 'V':
		return append(dst, z.id...)
	case 'z':
		return append(dst, z.name(t, f.count == 4)...)
	case 'O':
		return appendGMT(dst, offset, f.count == 4)
	case 'X':
		return appendOffset(dst, offset, f.count, "Z")
	case 'x':
		return appendOffset(dst, offset, f.count, [...]string{"+00", "+0000", "+00:00", "+0000", "+00:00"}[f.count-1])
	}
	switch f.count { // Z
	case 4:
		return appendGMT(dst, offset, true)
	case 5:
		return appendOffset(dst, offset, 5, "Z")
	}
	return appendOffset(dst, offset, 2, "+0000")
}

// appendOffset prints an offset of seconds in one of the five widths of the letter X: hours and
// perhaps minutes, +HHmm, +HH:mm, and the last two again with seconds where there are any.
func appendOffset(dst []byte, offset, width int, zero string) []byte {
	if offset == 0 {
		return append(dst, zero...)
	}
	h, m, s := split(&dst, offset)
	dst = appendPadded(dst, h, 2)
	colon := width == 3 || width == 5
	if width > 1 || m > 0 {
		if colon {
			dst = append(dst, ':')
		}
		dst = appendPadded(dst, m, 2)
	}
	if width > 3 && s > 0 {
		if colon {
			dst = append(dst, ':')
		}
		dst = appendPadded(dst, s, 2)
	}
	return dst
}

// appendGMT prints GMT, GMT+1, GMT-3:30 or, in full, GMT+01:00.
func appendGMT(dst []byte, offset int, full bool) []byte {
	dst = append(dst, "GMT"...)
	if offset == 0 {
		return dst
	}
	h, m, s := split(&dst, offset)
	if full {
		dst = appendPadded(dst, h, 2)
	} else {
		dst = appendPadded(dst, h, 1)
	}
	if full || m > 0 || s > 0 {
		dst = appendPadded(append(dst, ':'), m, 2)
	}
	if s > 0 {
		dst = appendPadded(append(dst, ':'), s, 2)
	}
	return dst
}

// split appends the offset's sign and takes the rest apart.
func split(dst *[]byte, offset int) (h, m, s int) {
	sign := byte('+')
	if offset < 0 {
		sign, offset = '-', -offset
	}
	*dst = append(*dst, sign)
	return offset / 3600, offset / 60 % 60, offset % 60
}
