package objects

import (
	"strings"

	"github.com/shardmill/shardmill/internal/errs"
)

// A key becomes a path segment by segment, and most segments are their own name. Three cannot be:
// the empty one (a key with a slash at an end or two in a row), "." and "..". They are written
// behind a percent sign, and so is a percent sign that begins a segment, to stay reversible:
//
//	""    %          "."   %2E        "..."  ...
//	"%a"  %25a       ".."  %2E.       "a%b"  a%b
//
// A name that this rule never writes is no object.

// pathOf is where an object lies below a Dir's root.
func pathOf(bucket, key string) (string, error) {
	segments := strings.Split(key, "/")
	for i, s := range segments {
		segments[i] = nameOf(s)
		if len(segments[i]) > maxNameBytes {
			return "", errs.New(errs.Invalid,
				"the part %.40q… of a key has %d bytes; in a folder the limit between two slashes is %d", s, len(s), maxNameBytes)
		}
	}
	return bucket + "/" + strings.Join(segments, "/"), nil
}

// nameOf is the name of the file or folder for one segment of a key.
func nameOf(segment string) string {
	switch {
	case segment == "":
		return "%"
	case segment == ".":
		return "%2E"
	case segment == "..":
		return "%2E."
	case segment[0] == '%':
		return "%25" + segment[1:]
	}
	return segment
}

// segmentOf is the inverse of nameOf, false for names that nameOf never returns.
func segmentOf(name string) (string, bool) {
	switch {
	case name == "" || name == "." || name == "..":
		return "", false
	case name[0] != '%':
		return name, true
	case name == "%":
		return "", true
	case name == "%2E":
		return ".", true
	case name == "%2E.":
		return "..", true
	case strings.HasPrefix(name, "%25"):
		return "%" + name[3:], true
	}
	return "", false
}
