// Package keys names the objects that a delivery stream writes to a bucket.
//
// An object's key is
//
//	<prefix><stream>-<version>-<yyyy-MM-dd-HH-mm-ss>-<id><extension>
//
// The prefix is text with expressions, which a Template evaluates:
//
//	!{timestamp:PATTERN}           time, by a pattern of java.time.format.DateTimeFormatter
//	!{firehose:random-string}      11 characters, another string at each use
//	!{firehose:error-output-type}  what failed, such as processing-failed; error prefix only
//	!{partitionKeyFromQuery:NAME}  a value that the stream's jq query found in the record
//	!{partitionKeyFromLambda:NAME} a value that the transform function returned for the record
//
// Every time in a key is the arrival of the oldest record in the object, cut to seconds, in the
// stream's time zone. A prefix without expressions gets yyyy/MM/dd/HH/ appended; see appendsTime
// for the precise rule.
//
// Nothing here reads a clock or draws a random number. The same Key always gives the same text,
// and ObjectID derives an object's id from the batch it holds, so that a delivery repeated after
// a crash overwrites its object where a fresh name would duplicate it.
//
// Zones are loaded with time.LoadLocation. A program that must work on hosts without a zone
// database imports time/tzdata.
package keys

import (
	"slices"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/shardmill/shardmill/internal/errs"
)

const (
	maxSource    = 1024 // characters of a prefix before evaluation
	maxEvaluated = 512  // characters of an evaluated prefix, without an implicit time
	maxKey       = 1024 // bytes of an object key in S3

	// widestErrorType is the longest of the error types that destinations use.
	widestErrorType = len("AmazonOpenSearchService-failed")
)

// Settings are the members of an S3 destination that decide about keys. An empty string counts
// as a member that was not given.
type Settings struct {
	Prefix              string // at most 1,024 characters
	ErrorPrefix         string // ErrorOutputPrefix; needed as soon as Prefix has an expression
	TimeZone            string // CustomTimeZone: "UTC" (also the default) or a zone such as "Europe/Paris"
	Extension           string // FileExtension, with its dot; takes the place of DefaultExtension
	DefaultExtension    string // what the compression or the file format brings, e.g. ".gz"
	DynamicPartitioning bool
}

// Template makes keys for one version of a destination's settings. It is safe for concurrent use.
type Template struct {
	prefix      expression
	errorPrefix expression
	zone        *zone
	extension   string
}

// Key is what the keys of one object are made from.
type Key struct {
	Stream  string    // the delivery stream's name
	Version string    // the delivery stream's version id, "1" for a new one
	Oldest  time.Time // arrival of the object's oldest record; the year must be 1 to 9999
	ID      uuid.UUID // from ObjectID; also the seed of !{firehose:random-string}
	Query   map[string]string
	Lambda  map[string]string
}

// Parse checks the settings and prepares them. Everything that could never give a key is refused
// here as errs.Invalid: unknown namespaces, names and time letters, an expression where it is
// not allowed, an evaluated prefix that can exceed 512 characters even if every partition value
// is a single character.
func Parse(s Settings) (*Template, error) {
	z, err := loadZone(s.TimeZone)
	if err != nil {
		return nil, err
	}
	ext := s.Extension
	if ext == "" {
		ext = s.DefaultExtension
	} else if err := checkExtension(ext); err != nil {
		return nil, err
	}
	t := &Template{zone: z, extension: ext}
	if t.prefix, err = parseExpression("Prefix", s.Prefix, z); err != nil {
		return nil, err
	}
	if err := t.prefix.checkAsPrefix(s.DynamicPartitioning); err != nil {
		return nil, err
	}
	if appendsTime(t.prefix) {
		t.prefix.suffix = defaultTime()
	}
	if t.errorPrefix, err = parseErrorPrefix(s.ErrorPrefix, t.prefix, z); err != nil {
		return nil, err
	}
	return t, nil
}

// parseErrorPrefix prepares ErrorOutputPrefix. Without one, or with one that has no expressions,
// the error type and the time are appended; with expressions nothing is.
func parseErrorPrefix(source string, prefix expression, z *zone) (expression, error) {
	if source == "" {
		if prefix.hasExpressions() {
			return expression{}, errs.New(errs.Invalid, "ErrorOutputPrefix must be given because Prefix contains expressions.")
		}
		e := prefix
		e.suffix = defaultErrorSuffix()
		return e, nil
	}
	e, err := parseExpression("ErrorOutputPrefix", source, z)
	if err != nil {
		return e, err
	}
	if !e.hasExpressions() {
		e.suffix = defaultErrorSuffix()
		return e, nil
	}
	return e, e.checkAsErrorPrefix()
}

// appendsTime is the rule for yyyy/MM/dd/HH/ after a Prefix: it is appended unless an expression
// other than !{firehose:random-string} is present. AWS documents the time for every prefix that
// has no timestamp expression; but keys of streams that partition by value show none.
func appendsTime(prefix expression) bool {
	return !slices.ContainsFunc(prefix.segments, func(s segment) bool {
		return s.kind != literal && s.kind != randomString
	})
}

// HasExpressions reports whether Prefix has any expression. Some destinations allow none.
func (t *Template) HasExpressions() bool { return t.prefix.hasExpressions() }

// QueryKeys and LambdaKeys list the partition keys that Prefix uses, each once, in the order of
// their first use.
func (t *Template) QueryKeys() []string { return t.prefix.names(fromQuery) }

// LambdaKeys is described with QueryKeys.
func (t *Template) LambdaKeys() []string { return t.prefix.names(fromLambda) }

// AppendPartition appends a text to dst that two records have in common exactly if the values of
// every partition key in Prefix agree: the records belong into the same object. A value that is
// absent or empty, or values that make the prefix longer than 512 characters, are errs.Invalid
// and dst comes back as it was.
func (t *Template) AppendPartition(dst []byte, query, lambda map[string]string) ([]byte, error) {
	return t.prefix.appendPartition(dst, query, lambda)
}

// Object is the key of a data object. It fails as AppendPartition does, and for a key of more
// than 1,024 bytes.
func (t *Template) Object(k Key) (string, error) {
	return t.key(&t.prefix, k, "")
}

// Error is the key of an object of error records, errorType being a name such as
// "processing-failed". Partition values are not used.
func (t *Template) Error(k Key, errorType string) (string, error) {
	return t.key(&t.errorPrefix, k, errorType)
}

func (t *Template) key(e *expression, k Key, errorType string) (string, error) {
	at := k.Oldest.In(t.zone.location).Truncate(time.Second)
	if at.Year() < 1 || at.Year() > 9999 {
		return "", errs.New(errs.Invalid, "the arrival time %s of the object's oldest record is outside the years 1 to 9999", k.Oldest)
	}
	v := values{at: at, zone: t.zone, seed: k.ID, errorType: errorType, query: k.Query, lambda: k.Lambda}
	dst, err := e.append(make([]byte, 0, 256), &v)
	if err != nil {
		return "", err
	}
	dst = append(dst, k.Stream...)
	dst = append(dst, '-')
	dst = append(dst, k.Version...)
	dst = append(dst, '-')
	dst = at.AppendFormat(dst, "2006-01-02-15-04-05")
	dst = append(dst, '-')
	dst = append(dst, k.ID.String()...)
	dst = append(dst, t.extension...)
	if len(dst) > maxKey {
		return "", errs.New(errs.Invalid, "the object key has %d bytes, S3 allows %d: shorten the prefix or its partition values (key: %.80q…)", len(dst), maxKey, dst)
	}
	return string(dst), nil
}

func checkExtension(ext string) error {
	ok := len(ext) >= 2 && len(ext) <= 128 && ext[0] == '.'
	for i := 1; ok && i < len(ext); i++ {
		c := ext[i]
		ok = c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || slices.Contains([]byte("!-_.*'()"), c)
	}
	if !ok {
		return errs.New(errs.Invalid, "FileExtension %q must be a dot and 1 to 127 of the characters 0-9 a-z ! - _ . * ' ( )", ext)
	}
	return nil
}

func runes(b []byte) int { return utf8.RuneCount(b) }
