package awsapi

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Timestamp is a point in time as AWS's services keep it: milliseconds since 1970 UTC. In JSON it
// is a number of seconds with up to three decimals and never an exponent.
type Timestamp int64

// TimestampOf cuts t to whole milliseconds.
func TimestampOf(t time.Time) Timestamp { return Timestamp(t.UnixMilli()) }

// Time is the timestamp in UTC.
func (t Timestamp) Time() time.Time { return time.UnixMilli(int64(t)).UTC() }

// Append appends the JSON number to dst.
func (t Timestamp) Append(dst []byte) []byte {
	ms := uint64(t)
	if t < 0 {
		dst = append(dst, '-')
		ms = -ms
	}
	dst = strconv.AppendUint(dst, ms/1000, 10)
	frac := ms % 1000
	if frac == 0 {
		return dst
	}
	dst = append(dst, '.', byte('0'+frac/100), byte('0'+frac/10%10), byte('0'+frac%10))
	for dst[len(dst)-1] == '0' {
		dst = dst[:len(dst)-1]
	}
	return dst
}

// MarshalJSON is Append for encoding/json.
func (t Timestamp) MarshalJSON() ([]byte, error) { return t.Append(nil), nil }

// UnmarshalJSON reads a JSON number of seconds and rounds it to milliseconds.
func (t *Timestamp) UnmarshalJSON(b []byte) error {
	c := cursor{b: b}
	if !c.skipNumber() || c.i != len(b) {
		return fmt.Errorf("timestamp %.40q is not a number of seconds since 1970", b)
	}
	*t = parseTimestamp(string(b))
	return nil
}

// parseTimestamp reads a JSON number of seconds, rounded to milliseconds: 1459799926.48 as a
// float64 lies just below its value, so cutting it off would lose a millisecond.
func parseTimestamp(number string) Timestamp {
	f, _ := strconv.ParseFloat(number, 64) // out of range is ±Inf
	ms := math.Round(f * 1000)
	switch {
	case ms >= math.MaxInt64:
		return math.MaxInt64
	case ms <= math.MinInt64:
		return math.MinInt64
	}
	return Timestamp(ms)
}
