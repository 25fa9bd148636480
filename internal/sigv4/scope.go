package sigv4

import "strings"

// Scope is what a signature is good for, as its sender claims.
type Scope struct {
	AccessKey string
	Date      string // yyyymmdd
	Region    string
	Service   string // e.g. "kinesis", "s3"
}

// ParseScope reads the scope of an Authorization header, or of the value of the X-Amz-Credential
// query parameter of a presigned request. It verifies nothing. It is false for anything that is
// not Signature Version 4, version 4A included: that one has no region in its scope.
func ParseScope(authorization string) (Scope, bool) {
	credential := authorization
	if rest, isHeader := strings.CutPrefix(authorization, algorithm+" "); isHeader {
		var found bool
		if credential, found = parameter(rest, "Credential"); !found {
			return Scope{}, false
		}
	}
	return scopeOf(strings.Split(credential, "/"))
}

// scopeOf reads the parts of a credential.
func scopeOf(parts []string) (Scope, bool) {
	if len(parts) != 5 || parts[4] != terminator || !isDay(parts[1]) {
		return Scope{}, false
	}
	for _, p := range []string{parts[0], parts[2], parts[3]} {
		if p == "" || strings.ContainsFunc(p, notInScope) {
			return Scope{}, false
		}
	}
	return Scope{AccessKey: parts[0], Date: parts[1], Region: parts[2], Service: parts[3]}, true
}

// parameter finds name=value in a list separated by commas; the space behind a comma is optional.
func parameter(list, name string) (string, bool) {
	for part := range strings.SplitSeq(list, ",") {
		if n, v, ok := strings.Cut(strings.TrimSpace(part), "="); ok && n == name {
			return v, true
		}
	}
	return "", false
}

// notInScope is true for what may not stand in a part of a scope. Scopes end up in logs and ARNs,
// so only visible ASCII passes.
func notInScope(r rune) bool { return r <= ' ' || r > '~' || r == ',' || r == '=' }

func isDay(s string) bool {
	return len(s) == 8 && strings.Trim(s, "0123456789") == ""
}
