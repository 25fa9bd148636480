package sigv4

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// parameters are the parameters of a query string, decoded, in the order of the request.
type parameters []struct{ name, value string }

// parseQuery reads a query string as url.ParseQuery does, but refuses what that leaves out: a
// parameter that the signature's canonical text did not show could be added to any request.
func parseQuery(raw string) (parameters, error) {
	var out parameters
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		if strings.Contains(pair, ";") {
			return nil, fmt.Errorf("';' must be written %%3B in the query string, got '%s'", pair)
		}
		n, v, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(n)
		value, err2 := url.QueryUnescape(v)
		if err != nil || err2 != nil {
			return nil, fmt.Errorf("'%%' must be followed by two hexadecimal digits in the query string, got '%s'", pair)
		}
		out = append(out, struct{ name, value string }{name, value})
	}
	return out, nil
}

// get returns the value of a parameter and how often it was given.
func (p parameters) get(name string) (value string, times int) {
	for _, q := range p {
		if q.name == name {
			value = q.value
			times++
		}
	}
	return value, times
}

// canonical is the query string as it is signed, without the parameter left out.
func (p parameters) canonical(leftOut string) string {
	pairs := make([]string, 0, len(p))
	for _, q := range p {
		if q.name != leftOut {
			pairs = append(pairs, escape(q.name, false)+"="+escape(q.value, false))
		}
	}
	slices.SortFunc(pairs, comparePairs)
	return strings.Join(pairs, "&")
}
