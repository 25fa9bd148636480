package lambdaevent

import (
	"bytes"
	"unicode/utf8"

	"github.com/segmentio/asm/base64"
)

// scanner reads a response of the usual form. Every method returns false for anything else, be it
// valid or not; then the whole response is read again by decode. It never returns true where
// decode would find something different.
type scanner struct {
	in  []byte
	at  int
	out *Response
}

// response reads {"records":[…]}, which must be all there is.
func (s *scanner) response() bool {
	if !s.byte('{') {
		return false
	}
	if name, ok := s.text(); !ok || string(name) != "records" || !s.byte(':') {
		return false
	}
	if !s.list('[', ']', s.answer) || !s.byte('}') {
		return false
	}
	s.space()
	return s.at == len(s.in)
}

// answer reads one element of records.
func (s *scanner) answer() bool {
	var p parts
	var seen [4]bool
	ok := s.members(func(name []byte) bool {
		switch string(name) {
		case "recordId":
			v, ok := s.text()
			p.answer.RecordID = string(v)
			return ok && first(&seen[0])
		case "result":
			v, ok := s.text()
			p.result = resultName(v)
			return ok && first(&seen[1])
		case "data":
			return first(&seen[2]) && (s.word("null") || s.data(&p.answer))
		case "metadata":
			return first(&seen[3]) && (s.word("null") || s.metadata(&p.answer))
		}
		return false
	})
	if !ok || !seen[0] {
		return false
	}
	s.out.add(&p)
	return true
}

// first sets seen and reports whether it was not set before.
func first(seen *bool) bool {
	was := *seen
	*seen = true
	return !was
}

// resultName saves the copy of the values that occur.
func resultName(v []byte) string {
	switch string(v) {
	case "Ok":
		return "Ok"
	case "Dropped":
		return "Dropped"
	case "ProcessingFailed":
		return "ProcessingFailed"
	}
	return "?"
}

// data decodes a string of base64 without line breaks or escapes.
func (s *scanner) data(a *Answer) bool {
	if !s.byte('"') {
		return false
	}
	n := bytes.IndexByte(s.in[s.at:], '"')
	if n < 0 || n%4 != 0 {
		return false
	}
	src := s.in[s.at : s.at+n]
	s.at += n + 1
	want := n / 4 * 3
	for i := 1; i <= 2 && i <= n && src[n-i] == '='; i++ {
		want--
	}
	start := len(s.out.data)
	got, err := base64.StdEncoding.Decode(s.out.data[start:cap(s.out.data)], src)
	if err != nil || got != want { // less than wanted: there were line breaks, which JSON forbids
		return false
	}
	s.out.data = s.out.data[:start+got]
	a.Data = s.out.data[start : start+got : start+got]
	return true
}

func (s *scanner) metadata(a *Answer) bool {
	var seen [2]bool
	return s.members(func(name []byte) bool {
		switch string(name) {
		case "partitionKeys":
			return first(&seen[0]) && (s.word("null") || s.members(func(name []byte) bool { return s.partitionKey(a, name) }))
		case "otfMetadata":
			return first(&seen[1]) && (s.word("null") || s.route(&a.Route))
		}
		return false
	})
}

func (s *scanner) partitionKey(a *Answer, name []byte) bool {
	if _, twice := a.PartitionKeys[string(name)]; twice {
		return false
	}
	if s.word("null") {
		return true
	}
	value, ok := s.scalar()
	if ok {
		a.setKey(string(name), string(value))
	}
	return ok
}

func (s *scanner) route(r *Route) bool {
	var seen [3]bool
	return s.members(func(name []byte) bool {
		var to *string
		i := 0
		switch string(name) {
		case "destinationDatabaseName":
			to, i = &r.Database, 0
		case "destinationTableName":
			to, i = &r.Table, 1
		case "operation":
			to, i = &r.Operation, 2
		default:
			return false
		}
		if s.word("null") {
			return first(&seen[i])
		}
		v, ok := s.text()
		*to = string(v)
		return ok && first(&seen[i])
	})
}

// scalar reads a string, a boolean or a whole number and returns its text.
func (s *scanner) scalar() ([]byte, bool) {
	s.space()
	start := s.at
	if s.word("true") || s.word("false") {
		return s.in[start:s.at], true
	}
	if s.at < len(s.in) && s.in[s.at] == '"' {
		return s.text()
	}
	if s.at < len(s.in) && s.in[s.at] == '-' {
		s.at++
	}
	digits := s.at
	for s.at < len(s.in) && s.in[s.at] >= '0' && s.in[s.at] <= '9' {
		s.at++
	}
	n := s.at - digits
	return s.in[start:s.at], n == 1 || n > 1 && s.in[digits] != '0'
}

// members reads an object and calls value for each member, to read it.
func (s *scanner) members(value func(name []byte) bool) bool {
	return s.list('{', '}', func() bool {
		name, ok := s.text()
		return ok && s.byte(':') && value(name)
	})
}

// list reads elements between open and end.
func (s *scanner) list(open, end byte, element func() bool) bool {
	if !s.byte(open) {
		return false
	}
	if s.byte(end) {
		return true
	}
	for {
		if !element() {
			return false
		}
		if s.byte(end) {
			return true
		}
		if !s.byte(',') {
			return false
		}
	}
}

// text reads a string without escapes. What it returns is a part of the input.
func (s *scanner) text() ([]byte, bool) {
	if !s.byte('"') {
		return nil, false
	}
	start, ascii := s.at, true
	for ; s.at < len(s.in); s.at++ {
		switch c := s.in[s.at]; {
		case plain(c):
		case c >= utf8.RuneSelf:
			ascii = false
		case c == '"':
			v := s.in[start:s.at]
			s.at++
			return v, ascii || utf8.Valid(v)
		default:
			return nil, false
		}
	}
	return nil, false
}

// word reads w if it comes next.
func (s *scanner) word(w string) bool {
	s.space()
	if !bytes.HasPrefix(s.in[s.at:], []byte(w)) {
		return false
	}
	s.at += len(w)
	return true
}

// byte reads c if it comes next.
func (s *scanner) byte(c byte) bool {
	s.space()
	if s.at == len(s.in) || s.in[s.at] != c {
		return false
	}
	s.at++
	return true
}

func (s *scanner) space() {
	for s.at < len(s.in) && (s.in[s.at] == ' ' || s.in[s.at] == '\n' || s.in[s.at] == '\t' || s.in[s.at] == '\r') {
		s.at++
	}
}
