package sigv4

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// claim is what a request says about its signature, not verified.
type claim struct {
	presigned     bool // in the query, not in the header
	algorithm     string
	credential    string
	signedHeaders string
	signature     string
	token         string        // session token; "" if there is none
	tokens        int           // how many session tokens there are
	stamp         string        // the time of signing in TimeFormat
	dateHeader    string        // of the time, lower case; "" in the presigned form
	lifetime      time.Duration // of a presigned URL; 0 if it does not say
	query         parameters
}

func (c *claim) incomplete() Reason {
	if c.presigned {
		return IncompleteQuery
	}
	return Incomplete
}

// readClaim finds the signature of a request. All of its parts are there if there is no error.
func readClaim(r *http.Request) (*claim, error) {
	if r.URL.Opaque != "" { // neither path nor query would show it
		return nil, refuse(Incomplete, "The request target must be a path or a URL with one, got '%s'.", r.URL)
	}
	c := new(claim)
	var err error
	if c.query, err = parseQuery(r.URL.RawQuery); err != nil {
		return nil, refuse(IncompleteQuery, "%s", err)
	}
	if n := len(r.Header.Values("Authorization")); n > 1 {
		return nil, refuse(Incomplete, "There must be one 'Authorization' header, got %d.", n)
	}
	authorization := strings.TrimSpace(r.Header.Get("Authorization"))
	_, inQuery := c.query.get("X-Amz-Algorithm")
	switch c.presigned = inQuery > 0; {
	case c.presigned && authorization != "":
		return nil, refuse(Ambiguous, "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.")
	case c.presigned:
		err = c.readQuery()
	case authorization != "":
		err = c.readHeader(r.Header, authorization)
	default:
		err = refuse(Missing, "Missing Authentication Token")
	}
	if err != nil {
		return nil, err
	}
	// A token that stands in both places is not one that anybody meant.
	if values := r.Header.Values("X-Amz-Security-Token"); len(values) > 0 {
		c.token = values[0]
		c.tokens += len(values)
	}
	return c, nil
}

// readHeader reads the header form.
func (c *claim) readHeader(h http.Header, authorization string) error {
	malformed := c.readAuthorization(authorization)
	var missing []string
	for _, p := range []struct{ name, value string }{{"Credential", c.credential}, {"Signature", c.signature}, {"SignedHeaders", c.signedHeaders}} {
		if p.value == "" {
			missing = append(missing, "Authorization header requires '"+p.name+"' parameter.")
		}
	}
	name, dates := "X-Amz-Date", h.Values("X-Amz-Date")
	if len(dates) == 0 {
		name, dates = "Date", h.Values("Date")
	}
	if len(dates) == 0 {
		missing = append(missing, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.")
	}
	switch {
	case missing != nil:
		return refuse(Incomplete, "%s Authorization=%s", strings.Join(missing, " "), authorization)
	case malformed != "":
		return refuse(Incomplete, "%s Authorization=%s", malformed, authorization)
	case len(dates) > 1:
		return refuse(Incomplete, "There must be one '%s' header, got %d.", name, len(dates))
	}
	c.dateHeader, c.stamp = strings.ToLower(name), dates[0]
	if t, err := http.ParseTime(c.stamp); err == nil && name == "Date" {
		c.stamp = t.UTC().Format(TimeFormat)
	}
	return nil
}

// readAuthorization takes the parameters of the header and says what is wrong with it.
func (c *claim) readAuthorization(text string) (malformed string) {
	var rest string
	c.algorithm, rest, _ = strings.Cut(text, " ")
	for part := range strings.SplitSeq(rest, ",") {
		name, value, found := strings.Cut(strings.TrimSpace(part), "=")
		var into *string
		switch name {
		case "Credential":
			into = &c.credential
		case "SignedHeaders":
			into = &c.signedHeaders
		case "Signature":
			into = &c.signature
		}
		switch {
		case !found:
			malformed = "'" + name + "' not a valid key=value pair (missing equal-sign) in Authorization header."
		case into == nil:
			malformed = "Authorization header does not take a '" + name + "' parameter."
		case *into != "":
			malformed = "Authorization header takes one '" + name + "' parameter."
		default:
			*into = value
		}
	}
	return malformed
}

// maxLifetime is the longest that a presigned URL may live.
const maxLifetime = 7 * 24 * time.Hour

// readQuery reads the presigned form.
func (c *claim) readQuery() error {
	var missing, twice []string
	take := func(name string, into *string, required bool) {
		value, times := c.query.get(name)
		if value == "" && required {
			missing = append(missing, "AWS query-string parameters must include '"+name+"'.")
		}
		if times > 1 {
			twice = append(twice, "AWS query-string parameters must include '"+name+"' once.")
		}
		*into = value
	}
	var lifetime string
	take("X-Amz-Algorithm", &c.algorithm, true)
	take("X-Amz-Credential", &c.credential, true)
	take("X-Amz-Signature", &c.signature, true)
	take("X-Amz-SignedHeaders", &c.signedHeaders, true)
	take("X-Amz-Date", &c.stamp, true)
	take("X-Amz-Expires", &lifetime, false)
	take("X-Amz-Security-Token", &c.token, false)
	if wrong := slices.Concat(missing, twice); wrong != nil {
		return refuse(IncompleteQuery, "%s Re-examine the query-string parameters.", strings.Join(wrong, " "))
	}
	_, c.tokens = c.query.get("X-Amz-Security-Token")
	if _, given := c.query.get("X-Amz-Expires"); given > 0 {
		seconds, err := strconv.ParseUint(lifetime, 10, 32)
		c.lifetime = time.Duration(seconds) * time.Second
		if err != nil || c.lifetime < time.Second || c.lifetime > maxLifetime {
			return refuse(IncompleteQuery, "X-Amz-Expires must be a number of seconds from 1 to %d, got '%s'.", maxLifetime/time.Second, lifetime)
		}
	}
	return nil
}

// time reads the time of signing.
func (c *claim) time() (time.Time, error) {
	t, err := time.Parse(TimeFormat, c.stamp)
	if err != nil || t.Format(TimeFormat) != c.stamp { // Parse takes fractions of a second
		return t, refuse(c.incomplete(), "Date must be in ISO-8601 'basic format'. Got '%s'. See http://en.wikipedia.org/wiki/ISO_8601", c.stamp)
	}
	return t, nil
}

// names reads the list of signed headers.
func (c *claim) names() ([]string, error) {
	names := strings.Split(c.signedHeaders, ";")
	for i, n := range names {
		if n == "" || n != strings.ToLower(n) || i > 0 && names[i-1] >= n {
			return nil, refuse(c.incomplete(), "SignedHeaders must be different lower-case names in ascending order, separated by semicolons, got '%s'.", c.signedHeaders)
		}
	}
	return names, nil
}
