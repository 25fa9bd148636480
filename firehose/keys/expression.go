package keys

import (
	"crypto/sha256"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/shardmill/shardmill/internal/errs"
)

type kind uint8

const (
	literal kind = iota
	timestamp
	randomString
	errorOutputType
	fromQuery
	fromLambda
)

// segment is a piece of a prefix: text as it stands, or one expression.
type segment struct {
	kind    kind
	text    string  // literal: the text. fromQuery, fromLambda: the partition key's name
	pattern pattern // timestamp
}

// expression is a parsed prefix.
type expression struct {
	member   string // "Prefix" or "ErrorOutputPrefix", for messages
	segments []segment
	suffix   []segment // what is appended without being asked for; does not count to the 512 characters
	widest   int       // characters of the segments at most, partition values not counted
	uses     int       // partition values in segments
}

// values are the inputs of one evaluation.
type values struct {
	at        time.Time
	zone      *zone
	seed      uuid.UUID
	randoms   int // random strings drawn so far
	errorType string
	query     map[string]string
	lambda    map[string]string
}

const randomLength = 11

func defaultTime() []segment {
	return []segment{{kind: timestamp, pattern: pattern{
		{letter: 'y', count: 4}, {text: "/"}, {letter: 'M', count: 2}, {text: "/"},
		{letter: 'd', count: 2}, {text: "/"}, {letter: 'H', count: 2}, {text: "/"}}}}
}

func defaultErrorSuffix() []segment {
	return append([]segment{{kind: errorOutputType}, {kind: literal, text: "/"}}, defaultTime()...)
}

// parseExpression splits source at its expressions and checks each of them.
func parseExpression(member, source string, z *zone) (expression, error) {
	e := expression{member: member}
	if n := utf8.RuneCountInString(source); n > maxSource {
		return e, errs.New(errs.Invalid, "%s has %d characters, at most %d are allowed", member, n, maxSource)
	}
	if !utf8.ValidString(source) {
		return e, errs.New(errs.Invalid, "%s %q is not valid UTF-8", member, source)
	}
	for rest := source; rest != ""; {
		text, after, found := strings.Cut(rest, "!{")
		if text != "" {
			e.segments = append(e.segments, segment{kind: literal, text: text})
		}
		if !found {
			break
		}
		body, after, found := strings.Cut(after, "}")
		if !found {
			return e, errs.New(errs.Invalid, "%s %q: the expression that starts with !{%.40s has no closing brace", member, source, body)
		}
		s, err := parseSegment(member, body, z)
		if err != nil {
			return e, err
		}
		e.segments = append(e.segments, s)
		rest = after
	}
	return e, e.measure(z)
}

func parseSegment(member, body string, z *zone) (segment, error) {
	namespace, name, found := strings.Cut(body, ":")
	if !found || name == "" {
		return segment{}, errs.New(errs.Invalid, "%s: !{%s} is not an expression of the form !{namespace:value}", member, body)
	}
	switch namespace {
	case "timestamp":
		p, err := compile(name, z)
		if err != nil {
			return segment{}, errs.New(errs.Invalid, "%s: !{%s}: %s", member, body, err)
		}
		return segment{kind: timestamp, pattern: p}, nil
	case "firehose":
		switch name {
		case "random-string":
			return segment{kind: randomString}, nil
		case "error-output-type":
			return segment{kind: errorOutputType}, nil
		}
		return segment{}, errs.New(errs.Invalid, "%s: !{%s} is unknown; the namespace firehose has random-string and error-output-type", member, body)
	case "partitionKeyFromQuery":
		return segment{kind: fromQuery, text: name}, nil
	case "partitionKeyFromLambda":
		return segment{kind: fromLambda, text: name}, nil
	}
	return segment{}, errs.New(errs.Invalid, "%s: the namespace of !{%s} is unknown; use timestamp, firehose, partitionKeyFromQuery or partitionKeyFromLambda", member, body)
}

// measure finds the widest text that the segments can give and refuses what cannot fit.
func (e *expression) measure(z *zone) error {
	var buf []byte
	for at := range widestInstants(z) {
		n := 0
		for _, s := range e.segments {
			switch s.kind {
			case literal:
				n += utf8.RuneCountInString(s.text)
			case timestamp:
				buf = s.pattern.append(buf[:0], at, z)
				n += runes(buf)
			case randomString:
				n += randomLength
			case errorOutputType:
				n += widestErrorType
			}
		}
		e.widest = max(e.widest, n)
	}
	for _, s := range e.segments {
		if s.kind == fromQuery || s.kind == fromLambda {
			e.uses++
		}
	}
	if n := e.widest + e.uses; n > maxEvaluated {
		return errs.New(errs.Invalid, "%s can evaluate to %d characters, at most %d are allowed", e.member, n, maxEvaluated)
	}
	return nil
}

func (e *expression) hasExpressions() bool {
	return slices.ContainsFunc(e.segments, func(s segment) bool { return s.kind != literal })
}

func (e *expression) has(k kind) bool {
	return slices.ContainsFunc(e.segments, func(s segment) bool { return s.kind == k })
}

// names lists the partition keys of kind k, each once.
func (e *expression) names(k kind) []string {
	var names []string
	for _, s := range e.segments {
		if s.kind == k && !slices.Contains(names, s.text) {
			names = append(names, s.text)
		}
	}
	return names
}

func (e *expression) checkAsPrefix(dynamicPartitioning bool) error {
	switch {
	case e.has(errorOutputType):
		return errs.New(errs.Invalid, "Prefix must not contain !{firehose:error-output-type}; it belongs into ErrorOutputPrefix")
	case e.uses > 0 && !dynamicPartitioning:
		return errs.New(errs.Invalid, "Dynamic Partitioning Namespaces can only be part of a prefix expression when Dynamic Partitioning is enabled.")
	case e.uses == 0 && dynamicPartitioning:
		return errs.New(errs.Invalid, "S3 Prefix should contain Dynamic Partitioning namespaces when Dynamic Partitioning is enabled")
	}
	return nil
}

// checkAsErrorPrefix is for an error prefix that has expressions.
func (e *expression) checkAsErrorPrefix() error {
	if e.uses > 0 {
		return errs.New(errs.Invalid, "ErrorOutputPrefix must not contain partition keys: a record that failed may have none")
	}
	if !e.has(errorOutputType) {
		return errs.New(errs.Invalid, "ErrorOutputPrefix contains expressions but not !{firehose:error-output-type}, which it then needs")
	}
	return nil
}

// append evaluates e after dst, which must be empty.
func (e *expression) append(dst []byte, v *values) ([]byte, error) {
	dst, err := v.appendSegments(dst, e.segments)
	if err != nil {
		return dst, err
	}
	if n := runes(dst); n > maxEvaluated {
		return dst, errs.New(errs.Invalid, "%s evaluates to %d characters, at most %d are allowed (it starts with %.80q)", e.member, n, maxEvaluated, dst)
	}
	return v.appendSegments(dst, e.suffix)
}

func (v *values) appendSegments(dst []byte, segments []segment) ([]byte, error) {
	for _, s := range segments {
		switch s.kind {
		case literal:
			dst = append(dst, s.text...)
		case timestamp:
			dst = s.pattern.append(dst, v.at, v.zone)
		case randomString:
			dst = append(dst, v.random()...)
		case errorOutputType:
			dst = append(dst, v.errorType...)
		case fromQuery, fromLambda:
			value, err := s.value(v.query, v.lambda)
			if err != nil {
				return dst, err
			}
			dst = append(dst, value...)
		}
	}
	return dst, nil
}

// random is the next !{firehose:random-string} of the key: the head of a UUID, dash included.
func (v *values) random() string {
	v.randoms++
	id := uuid.NewHash(sha256.New(), v.seed, strconv.AppendInt([]byte("random-string|"), int64(v.randoms), 10), 8)
	return id.String()[:randomLength]
}

// value is the partition value that s stands for.
func (s *segment) value(query, lambda map[string]string) (string, error) {
	from, namespace := query, "partitionKeyFromQuery"
	if s.kind == fromLambda {
		from, namespace = lambda, "partitionKeyFromLambda"
	}
	value := from[s.text]
	if value == "" {
		return "", errs.New(errs.Invalid, "partitionKeys values must not be null or empty: there is none for !{%s:%s}", namespace, s.text)
	}
	return value, nil
}

func (e *expression) appendPartition(dst []byte, query, lambda map[string]string) ([]byte, error) {
	start, n := len(dst), e.widest
	for i := range e.segments {
		s := &e.segments[i]
		if s.kind != fromQuery && s.kind != fromLambda {
			continue
		}
		value, err := s.value(query, lambda)
		if err != nil {
			return dst[:start], err
		}
		n += utf8.RuneCountInString(value)
		dst = strconv.AppendInt(dst, int64(len(value)), 10) // the length keeps a|bc apart from ab|c
		dst = append(dst, ':')
		dst = append(dst, value...)
	}
	if n > maxEvaluated {
		return dst[:start], errs.New(errs.Invalid, "%s evaluates to %d characters with the partition values of this record, at most %d are allowed", e.member, n, maxEvaluated)
	}
	return dst, nil
}
