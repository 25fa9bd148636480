package sigv4

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// keyMap is a fixed set of keys.
type keyMap map[string]Key

func (m keyMap) Lookup(accessKey string) (Key, bool) {
	k, found := m[accessKey]
	return k, found
}

var (
	docsKeys = keyMap{docs.AccessKey: {Secret: docs.SecretKey, Account: "123456789012"}}
	s3Keys   = keyMap{s3Docs.AccessKey: {Secret: s3Docs.SecretKey, Account: "123456789012"}}
	docScope = Scope{AccessKey: "AKIDEXAMPLE", Date: "20150830", Region: "us-east-1", Service: "service"}
)

const (
	docAuth    = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders="
	suiteToken = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
)

// received reads the text of a request as net/http's server does. Lines may end in \n alone.
func received(t testing.TB, text string) (*http.Request, []byte) {
	t.Helper()
	head, body, _ := strings.Cut(text, "\n\n")
	r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n" + body)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, b
}

func TestVerifyAcceptsThePublishedSignatures(t *testing.T) {
	const day = "X-Amz-Date:20150830T123600Z\n"
	suite := func(request, headers, signed, signature, body string) string {
		return request + " HTTP/1.1\nHost:example.amazonaws.com\n" + headers + day + "Authorization:" + docAuth + signed + ", Signature=" + signature + "\n\n" + body
	}
	presigned := func(query, more, signature string) string {
		return "GET /?" + query + "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Fus-east-1%2Fservice%2Faws4_request" +
			"&X-Amz-Date=20150830T123600Z&X-Amz-SignedHeaders=host&X-Amz-Expires=3600" + more + "&X-Amz-Signature=" + signature +
			" HTTP/1.1\nHost:example.amazonaws.com\n\n"
	}
	for name, text := range map[string]string{
		"get-vanilla": suite("GET /", "", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", ""),
		"get-header-key-duplicate": suite("GET /", "My-Header1:value2\nMy-Header1:value2\nMy-Header1:value1\n", "host;my-header1;x-amz-date",
			"c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea", ""),
		"get-header-value-order": suite("GET /", "My-Header1:value4\nMy-Header1:value1\nMy-Header1:value3\nMy-Header1:value2\n", "host;my-header1;x-amz-date",
			"08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01", ""),
		"get-header-value-trim": suite("GET /", "My-Header1: value1\nMy-Header2: \"a   b   c\"\n", "host;my-header1;my-header2;x-amz-date",
			"acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736", ""),
		"get-relative-relative":   suite("GET /example1/example2/../..", "", "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31", ""),
		"get-slashes":             suite("GET //example//", "", "host;x-amz-date", "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84", ""),
		"get-slash-pointless-dot": suite("GET /./example", "", "host;x-amz-date", "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5", ""),
		"get-unreserved": suite("GET /-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "", "host;x-amz-date",
			"07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f", ""),
		"get-vanilla-query-order-key-case": suite("GET /?Param2=value2&Param1=value1", "", "host;x-amz-date", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500", ""),
		"get-vanilla-query-order-encoded": suite("GET /?Param-3=Value3&Param=Value2&%E1%88%B4=Value1", "", "host;x-amz-date",
			"371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac", ""),
		"get-vanilla-utf8-query":      suite("GET /?ሴ=bar", "", "host;x-amz-date", "2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04", ""),
		"get-vanilla-empty-query-key": suite("GET /?Param1=value1", "", "host;x-amz-date", "a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb", ""),
		"post-x-www-form-urlencoded": suite("POST /", "Content-Type:application/x-www-form-urlencoded\nContent-Length:13\n"+
			"x-amz-content-sha256:9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e\n", "content-length;content-type;host;x-amz-content-sha256;x-amz-date",
			"d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b", "Param1=value1"),
		"query: get-vanilla-utf8-query": presigned("ሴ=bar&", "", "0bdd809b1519ac4f0c1dc3540e2cc46bd0c7f778eda408b2ebf3b913d21ff600"),
		"query: get-vanilla-query-order-encoded": presigned("Param-3=Value3&Param=Value2&%E1%88%B4=Value1&", "",
			"c5f1848ceec943ac2ca68ee720460c23aaae30a2300586597ada94c4a65e4787"),
	} {
		r, body := received(t, text)
		got, err := NewVerifier("service", docsKeys).Verify(r, body, suiteDay)
		if want := (Identity{docScope, "123456789012"}); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, want)
		}
	}
	withToken := suite("GET /", "X-Amz-Security-Token:"+suiteToken+"\n", "host;x-amz-date;x-amz-security-token",
		"07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8", "")
	r, body := received(t, withToken)
	keys := keyMap{docs.AccessKey: {Secret: docs.SecretKey, SessionToken: suiteToken}}
	if _, err := NewVerifier("service", keys).Verify(r, body, suiteDay); err != nil {
		t.Errorf("get-vanilla-with-session-token: %v", err)
	}
}

// The examples of the S3 documentation; the third is a presigned URL that is good for a day.
func TestVerifyAcceptsThePublishedSignaturesOfS3(t *testing.T) {
	const auth = "Authorization: AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders="
	const presigned = "GET /test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request" +
		"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host" +
		"&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404 HTTP/1.1\nHost: examplebucket.s3.amazonaws.com\n\n"
	for _, text := range []string{
		"GET /test.txt HTTP/1.1\nHost: examplebucket.s3.amazonaws.com\nx-amz-date: 20130524T000000Z\nRange: bytes=0-9\nx-amz-content-sha256: " + EmptyPayload + "\n" +
			auth + "host;range;x-amz-content-sha256;x-amz-date,Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41\n\n",
		"GET /?lifecycle HTTP/1.1\nHost: examplebucket.s3.amazonaws.com\nx-amz-date: 20130524T000000Z\nx-amz-content-sha256: " + EmptyPayload + "\n" +
			auth + "host;x-amz-content-sha256;x-amz-date,Signature=fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543\n\n",
		presigned,
	} {
		r, body := received(t, text)
		if _, err := NewVerifier("s3", s3Keys).Verify(r, body, s3Day); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	r, _ := received(t, presigned)
	v := NewVerifier("s3", s3Keys)
	if _, err := v.Verify(r, nil, s3Day.Add(24*time.Hour)); err != nil {
		t.Errorf("in its last second: %v", err)
	}
	wantRefusal(t, v, r, nil, s3Day.Add(24*time.Hour+time.Second), Expired, "InvalidSignatureException",
		"Signature expired: the URL of 20130524T000000Z was good for 86400 seconds, now it is 20130525T000001Z")
}

func wantRefusal(t *testing.T, v *Verifier, r *http.Request, body []byte, now time.Time, reason Reason, name, message string) {
	t.Helper()
	id, err := v.Verify(r, body, now)
	var got *Error
	if !errors.As(err, &got) || got.Reason != reason || got.Name != name || got.Message != message || id != (Identity{}) {
		t.Errorf("got  %+v, %v\nwant reason %d, %s: %s", id, err, reason, name, message)
	}
}

// signed is a Kinesis request that the server has received, changed before it is signed.
func signed(t testing.TB, change func(*http.Request)) *http.Request {
	r := newRequest(t, "POST", "http://127.0.0.1:4566/", "X-Amz-Target", "Kinesis_20131202.ListStreams", "Content-Type", "application/x-amz-json-1.1")
	r.Host = "127.0.0.1:4566"
	if change != nil {
		change(r)
	}
	Sign(r, digest("{}"), docs, "eu-west-1", "kinesis", ourDay)
	return r
}

func edit(t testing.TB, old, replacement string) *http.Request {
	t.Helper()
	r := signed(t, nil)
	before := r.Header.Get("Authorization")
	after := strings.Replace(before, old, replacement, 1)
	if before == after {
		t.Fatalf("%s has no %q", before, old)
	}
	r.Header.Set("Authorization", after)
	return r
}

func TestRefusalsHaveAWSsNamesAndSentences(t *testing.T) {
	const incomplete, invalid = "IncompleteSignatureException", "InvalidSignatureException"
	query := func(q string) *http.Request { return newRequest(t, "POST", "http://127.0.0.1:4566/?"+q) }
	without := func(names ...string) *http.Request {
		r := signed(t, nil)
		for _, n := range names {
			r.Header.Del(n)
		}
		return r
	}
	with := func(r *http.Request, name, value string) *http.Request { r.Header.Add(name, value); return r }
	auth := signed(t, nil).Header.Get("Authorization")
	for name, c := range map[string]struct {
		r       *http.Request
		reason  Reason
		name    string
		message string
	}{
		"no signature":       {newRequest(t, "POST", "http://h/"), Missing, "MissingAuthenticationTokenException", "Missing Authentication Token"},
		"empty header":       {with(newRequest(t, "POST", "http://h/"), "Authorization", ""), Missing, "MissingAuthenticationTokenException", "Missing Authentication Token"},
		"header and query":   {with(query("X-Amz-Algorithm=x"), "Authorization", auth), Ambiguous, invalid, "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."},
		"nothing in it":      {with(newRequest(t, "POST", "http://h/"), "Authorization", "AWS4-HMAC-SHA256"), Incomplete, incomplete, "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. Authorization=AWS4-HMAC-SHA256"},
		"bearer token":       {with(without("Authorization"), "Authorization", "Bearer abc"), Incomplete, incomplete, "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. Authorization=Bearer abc"},
		"no signature in it": {with(without("Authorization"), "Authorization", strings.Split(auth, ", Signature=")[0]), Incomplete, incomplete, "Authorization header requires 'Signature' parameter. Authorization=" + strings.Split(auth, ", Signature=")[0]},
		"no date":            {without("X-Amz-Date"), Incomplete, incomplete, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. Authorization=" + auth},
		"two headers":        {with(signed(t, nil), "Authorization", auth), Incomplete, incomplete, "There must be one 'Authorization' header, got 2."},
		"unknown parameter":  {edit(t, ", Signature", ", X=1, Signature"), Incomplete, incomplete, "Authorization header does not take a 'X' parameter. Authorization=" + strings.Replace(auth, ", Signature", ", X=1, Signature", 1)},
		"parameter twice":    {edit(t, ", Signature", ", SignedHeaders=host, Signature"), Incomplete, incomplete, "Authorization header takes one 'SignedHeaders' parameter. Authorization=" + strings.Replace(auth, ", Signature", ", SignedHeaders=host, Signature", 1)},
		"no equal sign":      {edit(t, ", Signature", ", X, Signature"), Incomplete, incomplete, "'X' not a valid key=value pair (missing equal-sign) in Authorization header. Authorization=" + strings.Replace(auth, ", Signature", ", X, Signature", 1)},
		"two dates":          {with(signed(t, nil), "X-Amz-Date", "20260713T140506Z"), Incomplete, incomplete, "There must be one 'X-Amz-Date' header, got 2."},
		"date in words":      {with(without("X-Amz-Date"), "X-Amz-Date", "today"), Incomplete, incomplete, "Date must be in ISO-8601 'basic format'. Got 'today'. See http://en.wikipedia.org/wiki/ISO_8601"},
		"date with fraction": {with(without("X-Amz-Date"), "X-Amz-Date", "20260713T140506.5Z"), Incomplete, incomplete, "Date must be in ISO-8601 'basic format'. Got '20260713T140506.5Z'. See http://en.wikipedia.org/wiki/ISO_8601"},
		"algorithm":          {edit(t, "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1"), Incomplete, incomplete, "Unsupported AWS 'algorithm': 'AWS4-HMAC-SHA1' (only AWS4-HMAC-SHA256 for now)."},
		"event signature":    {edit(t, "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256-PAYLOAD"), Incomplete, incomplete, "Unsupported AWS 'algorithm': 'AWS4-HMAC-SHA256-PAYLOAD' (only AWS4-HMAC-SHA256 for now)."},
		"version 4A":         {edit(t, "AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), Unsupported, incomplete, "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256': Signature Version 4A is not served. Tell the client to sign with AWS4-HMAC-SHA256 for one region."},
		"credential":         {edit(t, "/kinesis/aws4_request", "/aws4_request"), Incomplete, incomplete, "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got 'AKIDEXAMPLE/20260713/eu-west-1/aws4_request'"},
		"no access key":      {edit(t, "AKIDEXAMPLE", ""), Incomplete, incomplete, "Credential must have an access key and a region of visible ASCII characters other than ',' and '=', got '/20260713/eu-west-1/kinesis/aws4_request'"},
		"everything else":    {edit(t, "20260713/eu-west-1/kinesis/aws4_request", "20260714/eu-west-1/firehose/aws5_request"), WrongScope, invalid, "Credential should be scoped to correct service: 'kinesis'. Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'. Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20260714' != '20260713', from '20260713T140506Z'."},
		"unknown key":        {edit(t, "AKIDEXAMPLE", "AKIDUNKNOWN"), UnknownKey, "UnrecognizedClientException", "The security token included in the request is invalid."},
		"another region":     {edit(t, "eu-west-1", "eu-west-2"), Mismatch, invalid, "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."},
		"host not signed":    {edit(t, "host;", ""), NotSigned, invalid, "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."},
		"date not signed":    {edit(t, "x-amz-date;", ""), NotSigned, invalid, "'X-Amz-Date' must be a 'SignedHeader' in the AWS Authorization."},
		"headers not signed": {with(with(signed(t, nil), "X-Amz-Zebra", "1"), "X-Amz-Ape", "1"), NotSigned, invalid, "'X-Amz-Ape' must be a 'SignedHeader' in the AWS Authorization. 'X-Amz-Zebra' must be a 'SignedHeader' in the AWS Authorization."},
		"signed, not there":  {without("Content-Type"), NotSigned, invalid, "'content-type' is a 'SignedHeader' in the AWS Authorization, but the request has no such header. If a proxy removes it, tell the client not to sign it."},
		"order of headers":   {edit(t, "content-type;host", "host;content-type"), Incomplete, incomplete, "SignedHeaders must be different lower-case names in ascending order, separated by semicolons, got 'host;content-type;x-amz-date;x-amz-target'."},
		"case of headers":    {edit(t, "content-type;host", "Content-Type;host"), Incomplete, incomplete, "SignedHeaders must be different lower-case names in ascending order, separated by semicolons, got 'Content-Type;host;x-amz-date;x-amz-target'."},
		"header twice":       {edit(t, "content-type;host", "host;host"), Incomplete, incomplete, "SignedHeaders must be different lower-case names in ascending order, separated by semicolons, got 'host;host;x-amz-date;x-amz-target'."},
		"opaque target":      {&http.Request{Method: "POST", URL: parse(t, "kinesis:x?a=1"), Header: signed(t, nil).Header}, Incomplete, incomplete, "The request target must be a path or a URL with one, got 'kinesis:x?a=1'."},
		"query escape":       {query("a=%zz"), IncompleteQuery, incomplete, "'%' must be followed by two hexadecimal digits in the query string, got 'a=%zz'"},
		"query semicolon":    {query("a=1;b=2"), IncompleteQuery, incomplete, "';' must be written %3B in the query string, got 'a=1;b=2'"},
		"query, all missing": {query("X-Amz-Algorithm="), IncompleteQuery, incomplete, "AWS query-string parameters must include 'X-Amz-Algorithm'. AWS query-string parameters must include 'X-Amz-Credential'. AWS query-string parameters must include 'X-Amz-Signature'. AWS query-string parameters must include 'X-Amz-SignedHeaders'. AWS query-string parameters must include 'X-Amz-Date'. Re-examine the query-string parameters."},
		"query, twice":       {query("X-Amz-Algorithm=a&X-Amz-Algorithm=a&X-Amz-Credential=c&X-Amz-Signature=s&X-Amz-SignedHeaders=host&X-Amz-Date=d"), IncompleteQuery, incomplete, "AWS query-string parameters must include 'X-Amz-Algorithm' once. Re-examine the query-string parameters."},
		"query, lifetime":    {query("X-Amz-Algorithm=a&X-Amz-Credential=c&X-Amz-Signature=s&X-Amz-SignedHeaders=host&X-Amz-Date=d&X-Amz-Expires=604801"), IncompleteQuery, incomplete, "X-Amz-Expires must be a number of seconds from 1 to 604800, got '604801'."},
	} {
		t.Run(name, func(t *testing.T) {
			wantRefusal(t, NewVerifier("kinesis", docsKeys), c.r, []byte("{}"), ourDay, c.reason, c.name, c.message)
		})
	}
	if _, err := NewVerifier("kinesis", docsKeys).Verify(signed(t, nil), []byte("{}"), ourDay); err != nil {
		t.Error("the request that the cases spoil is refused:", err)
	}
}

func TestClockSkew(t *testing.T) {
	v := NewVerifier("kinesis", docsKeys)
	for _, d := range []time.Duration{-MaxSkew, 0, MaxSkew} {
		if _, err := v.Verify(signed(t, nil), []byte("{}"), ourDay.Add(d)); err != nil {
			t.Errorf("%s after: %v", d, err)
		}
	}
	wantRefusal(t, v, signed(t, nil), []byte("{}"), ourDay.Add(MaxSkew+time.Second), Skewed, "InvalidSignatureException",
		"Signature expired: 20260713T140506Z is now earlier than 20260713T140507Z (20260713T142007Z - 15 min.)")
	wantRefusal(t, v, signed(t, nil), []byte("{}"), ourDay.Add(-MaxSkew-time.Second), Skewed, "InvalidSignatureException",
		"Signature not yet current: 20260713T140506Z is still later than 20260713T140505Z (20260713T135005Z + 15 min.)")
}

// A client without X-Amz-Date signs Date instead, in either of two forms.
func TestTheDateHeaderWillDo(t *testing.T) {
	for _, date := range []string{"Mon, 13 Jul 2026 14:05:06 GMT", "20260713T140506Z"} {
		r := signed(t, func(r *http.Request) { r.Header.Set("Date", date) })
		r.Header.Del("X-Amz-Date")
		names := "content-type;date;host;x-amz-target"
		lines := "content-type:application/x-amz-json-1.1\ndate:" + date + "\nhost:127.0.0.1:4566\nx-amz-target:Kinesis_20131202.ListStreams\n"
		canonical := "POST\n/\n\n" + lines + "\n" + names + "\n" + digest("{}")
		text := "AWS4-HMAC-SHA256\n20260713T140506Z\n20260713/eu-west-1/kinesis/aws4_request\n" + digest(canonical)
		authorize(r, names, mac(signingKey(docs.SecretKey, "20260713", "eu-west-1", "kinesis"), text))
		if _, err := NewVerifier("kinesis", docsKeys).Verify(r, []byte("{}"), ourDay); err != nil {
			t.Errorf("%s: %v", date, err)
		}
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), ";date", "", 1))
		wantRefusal(t, NewVerifier("kinesis", docsKeys), r, []byte("{}"), ourDay, NotSigned, "InvalidSignatureException",
			"'Date' must be a 'SignedHeader' in the AWS Authorization.")
	}
}

func TestSessionTokens(t *testing.T) {
	const name, message = "UnrecognizedClientException", "The security token included in the request is invalid"
	longTerm, temporary := docsKeys, keyMap{docs.AccessKey: {Secret: docs.SecretKey, SessionToken: "TOKEN/+="}}
	sign := func(token string) *http.Request {
		r, c := signed(t, nil), docs
		c.SessionToken = token
		Sign(r, digest("{}"), c, "eu-west-1", "kinesis", ourDay)
		return r
	}
	if _, err := NewVerifier("kinesis", temporary).Verify(sign("TOKEN/+="), []byte("{}"), ourDay); err != nil {
		t.Error("its own token:", err)
	}
	wantRefusal(t, NewVerifier("kinesis", temporary), sign("TOKEN"), []byte("{}"), ourDay, WrongToken, name, message)
	wantRefusal(t, NewVerifier("kinesis", temporary), sign(""), []byte("{}"), ourDay, WrongToken, name, message)
	wantRefusal(t, NewVerifier("kinesis", longTerm), sign("TOKEN/+="), []byte("{}"), ourDay, WrongToken, name, message)
}

func TestAKeyMaySignForItsRegionsAlone(t *testing.T) {
	for regions, ok := range map[string]bool{"": true, "eu-west-1": true, "us-east-1 eu-west-1": true, "us-east-1": false} {
		keys := keyMap{docs.AccessKey: {Secret: docs.SecretKey, Account: "210987654321", Regions: strings.Fields(regions)}}
		v := NewVerifier("kinesis", keys)
		if !ok {
			wantRefusal(t, v, signed(t, nil), []byte("{}"), ourDay, WrongScope, "InvalidSignatureException", "Credential should be scoped to a valid region, not 'eu-west-1'.")
			continue
		}
		got, err := v.Verify(signed(t, nil), []byte("{}"), ourDay)
		want := Identity{Scope{docs.AccessKey, "20260713", "eu-west-1", "kinesis"}, "210987654321"}
		if err != nil || got != want {
			t.Errorf("regions %q: %+v, %v; want %+v", regions, got, err, want)
		}
	}
}

func TestADisabledKeyAndOneWithoutSecretDoNotExist(t *testing.T) {
	for _, k := range []Key{{Secret: docs.SecretKey, Disabled: true}, {Secret: ""}} {
		r, c := signed(t, nil), docs
		c.SecretKey = k.Secret
		Sign(r, digest("{}"), c, "eu-west-1", "kinesis", ourDay)
		wantRefusal(t, NewVerifier("kinesis", keyMap{docs.AccessKey: k}), r, []byte("{}"), ourDay, UnknownKey, "UnrecognizedClientException",
			"The security token included in the request is invalid.")
	}
}

func TestPayloads(t *testing.T) {
	const body = "hello"
	tests := []struct {
		name, service, hash string
		tls                 bool
		reason              Reason
		message             string // "" if the request is good
	}{
		{"digest", "kinesis", digest(body), false, 0, ""},
		{"digest, S3", "s3", digest(body), false, 0, ""},
		{"digest of something else", "kinesis", digest("other"), false, WrongPayload, "The provided 'x-amz-content-sha256' header does not match what was computed."},
		{"unsigned", "kinesis", UnsignedPayload, false, NotSigned, "x-amz-content-sha256 may be UNSIGNED-PAYLOAD only over TLS or in a presigned URL of S3: tell the client to sign the payload, or use https."},
		{"unsigned, S3", "s3", UnsignedPayload, false, NotSigned, "x-amz-content-sha256 may be UNSIGNED-PAYLOAD only over TLS or in a presigned URL of S3: tell the client to sign the payload, or use https."},
		{"unsigned over TLS", "kinesis", UnsignedPayload, true, 0, ""},
		{"chunked", "s3", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", true, Unsupported, "x-amz-content-sha256 STREAMING-AWS4-HMAC-SHA256-PAYLOAD, a body signed in chunks, is not served: tell the client to sign the payload as a whole."},
		{"chunked with trailer", "kinesis", "STREAMING-UNSIGNED-PAYLOAD-TRAILER", true, Unsupported, "x-amz-content-sha256 STREAMING-UNSIGNED-PAYLOAD-TRAILER, a body signed in chunks, is not served: tell the client to sign the payload as a whole."},
		{"upper case", "kinesis", strings.ToUpper(digest(body)), false, Incomplete, "x-amz-content-sha256 must be UNSIGNED-PAYLOAD or a SHA-256 in lower-case hexadecimal digits, got '" + strings.ToUpper(digest(body)) + "'."},
		{"required", "s3", "required", false, Incomplete, "x-amz-content-sha256 must be UNSIGNED-PAYLOAD or a SHA-256 in lower-case hexadecimal digits, got 'required'."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRequest(t, "POST", "http://127.0.0.1:4566/", "X-Amz-Content-Sha256", tt.hash)
			Sign(r, tt.hash, docs, "eu-west-1", tt.service, ourDay)
			if tt.tls {
				r.TLS = new(tls.ConnectionState)
			}
			v := NewVerifier(tt.service, docsKeys)
			if tt.message == "" {
				if _, err := v.Verify(r, []byte(body), ourDay); err != nil {
					t.Error(err)
				}
				return
			}
			wantRefusal(t, v, r, []byte(body), ourDay, tt.reason, reasons[tt.reason].name, tt.message)
		})
	}
}

// A client that sends its body in chunks signs the Content-Length that it would have sent.
func TestTheLengthOfABodyInChunks(t *testing.T) {
	r := signed(t, func(r *http.Request) { r.Header.Set("Content-Length", "2") })
	r.Header.Del("Content-Length")
	r.ContentLength = -1
	if _, err := NewVerifier("kinesis", docsKeys).Verify(r, []byte("{}"), ourDay); err != nil {
		t.Error(err)
	}
}

func TestEveryReasonHasItsNames(t *testing.T) {
	for r := Missing; r <= Mismatch; r++ {
		e := refuse(r, "x")
		if status, code := e.S3(); e.Name == "" || code == "" || status < 400 {
			t.Errorf("reason %d is %q, for S3 %d %q", r, e.Name, status, code)
		}
	}
	if status, code := refuse(Mismatch, "x").S3(); status != 403 || code != "SignatureDoesNotMatch" {
		t.Errorf("a wrong signature is %d %s for S3", status, code)
	}
}

func TestTheKeyCacheIsBoundedAndKnowsSecretsApart(t *testing.T) {
	var c keyCache
	s := Scope{"AK", "20260713", "r", "kinesis"}
	first := c.get(s, "one")
	if !bytes.Equal(first, signingKey("one", "20260713", "r", "kinesis")) || !bytes.Equal(c.get(s, "one"), first) {
		t.Error("the cached key is not the derived one")
	}
	if bytes.Equal(c.get(s, "two"), first) {
		t.Error("another secret of the access key has the first one's signing key")
	}
	for i := range 5 * generationSize {
		s.Region = strconv.Itoa(i)
		c.get(s, "one")
	}
	if n := len(c.young) + len(c.old); n > 2*generationSize {
		t.Errorf("the cache holds %d keys, its bound is %d", n, 2*generationSize)
	}
}
