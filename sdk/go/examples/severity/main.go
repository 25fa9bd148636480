// Severity names how strong an earthquake was: it appends "severity": "micro" (below 2), "minor"
// (below 4), "light" (below 5), "moderate" (below 6), "strong" (below 7) or "major" to a JSON object
// with a top-level number "mag". Records without a magnitude are dropped; what is not a JSON object,
// or has a "mag" that is not a number, fails.
package main

import (
	"encoding/binary"
	"math/bits"
	"strconv"

	shardmill "github.com/shardmill/shardmill/sdk/go"
)

func init() { shardmill.Transform(transform) }

func main() {}

func transform(r *shardmill.Record) {
	brace, mag := object(r.Data)
	switch {
	case brace < 0:
		r.Fail()
		return
	case mag == nil || string(mag) == "null":
		r.Drop()
		return
	}
	v, err := strconv.ParseFloat(string(mag), 64)
	if err != nil {
		r.Fail()
		return
	}
	b := append(r.Open(), r.Data[:brace]...)
	b = append(b, `, "severity": "`...)
	b = append(b, severity(v)...)
	r.Close(append(b, "\"}\n"...))
}

func severity(magnitude float64) string {
	switch {
	case magnitude < 2:
		return "micro"
	case magnitude < 4:
		return "minor"
	case magnitude < 5:
		return "light"
	case magnitude < 6:
		return "moderate"
	case magnitude < 7:
		return "strong"
	}
	return "major"
}

// object walks a JSON object: the position of its closing brace, or -1, and the last top-level "mag".
func object(b []byte) (brace int, mag []byte) {
	p := blanks(b, 0)
	if p == len(b) || b[p] != '{' {
		return -1, nil
	}
	p = blanks(b, p+1)
	for p < len(b) && b[p] != '}' {
		key := p
		if b[p] != '"' {
			return -1, nil
		}
		if p = text(b, p); p < 0 {
			return -1, nil
		}
		isMag := string(b[key:p]) == `"mag"`
		if p = blanks(b, p); p == len(b) || b[p] != ':' {
			return -1, nil
		}
		start := blanks(b, p+1)
		if p = value(b, start); p < 0 {
			return -1, nil
		}
		if isMag {
			mag = b[start:p]
		}
		p = blanks(b, p)
		if p < len(b) && b[p] == ',' {
			if p = blanks(b, p+1); p < len(b) && b[p] == '}' {
				return -1, nil
			}
		} else if p < len(b) && b[p] != '}' {
			return -1, nil
		}
	}
	if p < len(b) && blanks(b, p+1) == len(b) {
		return p, mag
	}
	return -1, nil
}

func blanks(b []byte, p int) int {
	for p < len(b) && (b[p] == ' ' || b[p] == '\t' || b[p] == '\n' || b[p] == '\r') {
		p++
	}
	return p
}

// value is the position after any value, or -1. Values inside of objects and lists are only balanced.
func value(b []byte, p int) int {
	if p < len(b) && b[p] != '"' && b[p] != '{' && b[p] != '[' {
		start := p
		for p < len(b) && b[p] != ',' && b[p] != '}' && b[p] > ' ' {
			p++
		}
		if p == start {
			return -1
		}
		return p
	}
	for depth := 0; p < len(b); {
		switch b[p] {
		case '"':
			if p = text(b, p); p < 0 {
				return -1
			}
		case '{', '[':
			depth++
			p++
		case '}', ']':
			depth--
			p++
		default:
			p++
		}
		if depth == 0 {
			return p
		}
	}
	return -1
}

// text is the position after the string that starts at p, or -1.
func text(b []byte, p int) int {
	for p++; ; p += 2 { // past the quote, or past a backslash and what it escapes
		if p = quoteOrBackslash(b, p); p >= len(b) {
			return -1
		}
		if b[p] == '"' {
			return p + 1
		}
	}
}

// quoteOrBackslash is the position of the first one at or after p. It looks at eight bytes at a time.
func quoteOrBackslash(b []byte, p int) int {
	const ones = 0x0101010101010101
	for ; p+8 <= len(b); p += 8 {
		word := binary.LittleEndian.Uint64(b[p:])
		quote, slash := word^ones*'"', word^ones*'\\'
		if hit := ((quote-ones)&^quote | (slash-ones)&^slash) & (ones << 7); hit != 0 {
			return p + bits.TrailingZeros64(hit)/8
		}
	}
	for p < len(b) && b[p] != '"' && b[p] != '\\' {
		p++
	}
	return p
}
