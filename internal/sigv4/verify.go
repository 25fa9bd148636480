package sigv4

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// MaxSkew is how far the clock of a signer may be from ours, in either direction.
const MaxSkew = 15 * time.Minute

// Key is an access key as the server knows it.
type Key struct {
	Secret       string
	SessionToken string   // of temporary credentials, whose requests must carry it; else ""
	Account      string   // that the key's requests belong to
	Regions      []string // that it may sign for; none means all
	Disabled     bool     // it is refused as if it did not exist
}

// Keys finds access keys. Lookup is called for every request, from many goroutines.
type Keys interface {
	Lookup(accessKey string) (Key, bool)
}

// Identity is who a verified request is from. The scope has been signed with the key's secret, so
// that the region is the one that the signer meant, and the key may sign for it.
type Identity struct {
	Scope
	Account string
}

// Verifier verifies requests to one service. It is safe for concurrent use.
type Verifier struct {
	service string
	keys    Keys
	decoy   string // signs for keys that do not exist
	cache   keyCache
}

// NewVerifier makes a verifier of requests to the service with the given signing name, such as
// "kinesis" or "s3". Signatures for any other service are refused.
func NewVerifier(service string, keys Keys) *Verifier {
	return &Verifier{service: service, keys: keys, decoy: rand.Text()}
}

// Verify checks the signature of r, a request as net/http's server has read it, whose body was body.
// It takes the header form and the presigned query form. The error is always an *Error.
//
// What is verified is the method, the path, all of the query, the host, every X-Amz- header, all
// other headers that the signer has listed, the body, and the time: within MaxSkew of now, or
// within the lifetime of a presigned URL. The order of the parameters in the query is not, nor are
// empty and dot segments of a path (but for S3, where they count).
//
// The body is not verified where the signer has left it out with UNSIGNED-PAYLOAD: presigned URLs of
// S3, and requests over TLS. A request can be sent again while its time is right, as with AWS.
func (v *Verifier) Verify(r *http.Request, body []byte, now time.Time) (Identity, error) {
	c, err := readClaim(r)
	if err != nil {
		return Identity{}, err
	}
	if err := v.checkTime(c, now); err != nil {
		return Identity{}, err
	}
	names, err := c.names()
	if err != nil {
		return Identity{}, err
	}
	if err := checkCovered(r.Header, c, names); err != nil {
		return Identity{}, err
	}
	scope, err := v.scope(c)
	if err != nil {
		return Identity{}, err
	}
	headers, err := signedHeaderLines(r, names, len(body))
	if err != nil {
		return Identity{}, err
	}
	payload, err := v.payload(r, c, body)
	if err != nil {
		return Identity{}, err
	}
	canonical := strings.Join([]string{r.Method, canonicalPath(r, v.service), c.query.canonical("X-Amz-Signature"),
		headers, c.signedHeaders, payload}, "\n")
	return v.decide(c, scope, canonical)
}

// decide compares the signature with the one that the key's secret gives.
func (v *Verifier) decide(c *claim, scope Scope, canonical string) (Identity, error) {
	key, known := v.keys.Lookup(scope.AccessKey)
	known = known && !key.Disabled && key.Secret != ""
	// A key that does not exist takes the same work, so that the time does not tell.
	secret, signer := key.Secret, scope
	if !known {
		secret, signer.AccessKey = v.decoy, ""
	}
	sum := sha256.Sum256([]byte(canonical))
	text := strings.Join([]string{algorithm, c.stamp, scope.Date + "/" + scope.Region + "/" + scope.Service + "/" + terminator, hex.EncodeToString(sum[:])}, "\n")
	// Compared as text: signatures are lower case, and an upper-case one is not the one that was sent.
	want := hex.EncodeToString(mac(v.cache.get(signer, secret), text))
	right := hmac.Equal([]byte(want), []byte(c.signature))
	switch {
	case !known:
		return Identity{}, refuse(UnknownKey, "The security token included in the request is invalid.")
	case !right:
		return Identity{}, refuse(Mismatch, "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
	case c.tokens > 1 || !hmac.Equal([]byte(c.token), []byte(key.SessionToken)):
		return Identity{}, refuse(WrongToken, "The security token included in the request is invalid")
	case len(key.Regions) > 0 && !slices.Contains(key.Regions, scope.Region):
		return Identity{}, refuse(WrongScope, "Credential should be scoped to a valid region, not '%s'.", scope.Region)
	}
	return Identity{Scope: scope, Account: key.Account}, nil
}

func (v *Verifier) checkTime(c *claim, now time.Time) error {
	signed, err := c.time()
	if err != nil {
		return err
	}
	stamp := func(t time.Time) string { return t.UTC().Format(TimeFormat) }
	if earliest := now.Add(MaxSkew); signed.After(earliest) {
		return refuse(Skewed, "Signature not yet current: %s is still later than %s (%s + 15 min.)", c.stamp, stamp(earliest), stamp(now))
	}
	switch latest := now.Add(-MaxSkew); {
	case c.lifetime > 0 && signed.Add(c.lifetime).Before(now):
		return refuse(Expired, "Signature expired: the URL of %s was good for %d seconds, now it is %s", c.stamp, c.lifetime/time.Second, stamp(now))
	case c.lifetime == 0 && c.presigned && v.service == "s3":
		return refuse(IncompleteQuery, "AWS query-string parameters must include 'X-Amz-Expires'. Re-examine the query-string parameters.")
	case c.lifetime == 0 && signed.Before(latest):
		return refuse(Skewed, "Signature expired: %s is now earlier than %s (%s - 15 min.)", c.stamp, stamp(latest), stamp(now))
	}
	return nil
}

// checkCovered refuses a signature that does not cover what it must: the host, the time, and the
// X-Amz- headers that are there, each of which changes what the request means. Content-Type is not
// among them: the JavaScript SDK 2 does not sign it.
func checkCovered(h http.Header, c *claim, names []string) error {
	has := func(name string) bool { _, found := slices.BinarySearch(names, name); return found }
	if !has("host") && !has(":authority") {
		return refuse(NotSigned, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	if c.dateHeader != "" && !has(c.dateHeader) {
		return refuse(NotSigned, "'%s' must be a 'SignedHeader' in the AWS Authorization.", http.CanonicalHeaderKey(c.dateHeader))
	}
	var open []string
	for name := range h {
		if len(name) > 6 && strings.EqualFold(name[:6], "X-Amz-") && !has(strings.ToLower(name)) {
			open = append(open, fmt.Sprintf("'%s' must be a 'SignedHeader' in the AWS Authorization.", name))
		}
	}
	if open != nil {
		slices.Sort(open)
		return refuse(NotSigned, "%s", strings.Join(open, " "))
	}
	return nil
}

// scope reads what the signature is good for and checks it against what the server is.
func (v *Verifier) scope(c *claim) (Scope, error) {
	switch c.algorithm {
	case algorithm:
	case "AWS4-ECDSA-P256-SHA256":
		return Scope{}, refuse(Unsupported, "Unsupported AWS 'algorithm': '%s': Signature Version 4A is not served. Tell the client to sign with %s for one region.", c.algorithm, algorithm)
	default:
		return Scope{}, refuse(c.incomplete(), "Unsupported AWS 'algorithm': '%s' (only %s for now).", c.algorithm, algorithm)
	}
	parts := strings.Split(c.credential, "/")
	if len(parts) != 5 {
		return Scope{}, refuse(c.incomplete(), "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '%s'", c.credential)
	}
	var wrong []string
	if parts[3] != v.service {
		wrong = append(wrong, fmt.Sprintf("Credential should be scoped to correct service: '%s'.", v.service))
	}
	if parts[4] != terminator {
		wrong = append(wrong, fmt.Sprintf("Credential should be scoped with a valid terminator: '%s', not '%s'.", terminator, parts[4]))
	}
	if day := c.stamp[:8]; parts[1] != day {
		wrong = append(wrong, fmt.Sprintf("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '%s' != '%s', from '%s'.", parts[1], day, c.stamp))
	}
	if wrong != nil {
		return Scope{}, refuse(WrongScope, "%s", strings.Join(wrong, " "))
	}
	scope, ok := scopeOf(parts)
	if !ok {
		return Scope{}, refuse(c.incomplete(), "Credential must have an access key and a region of visible ASCII characters other than ',' and '=', got '%s'", c.credential)
	}
	return scope, nil
}
