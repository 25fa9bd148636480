package sigv4

import (
	"fmt"
	"net/http"
)

// Reason is why a request is refused.
type Reason uint8

const (
	Missing         Reason = iota // the request is not signed
	Ambiguous                     // it is signed twice, in header and query
	Incomplete                    // a part of the Authorization header is missing or cannot be read
	IncompleteQuery               // the same of a presigned query
	Unsupported                   // the kind of signature is not served
	Skewed                        // it was signed too long ago, or will be signed
	Expired                       // the lifetime of a presigned URL is over
	NotSigned                     // the signature leaves something out that it must cover
	WrongScope                    // it is for another service, day or region
	WrongPayload                  // the body is not the one that was signed
	UnknownKey                    // no such access key, or it is disabled
	WrongToken                    // the session token is not that of the access key
	Mismatch                      // another secret, or another request, was signed
)

// reasons names the reasons as AWS does, for JSON services and for S3. S3's errors have a status of
// their own; those of JSON services all have 400.
var reasons = [...]struct {
	name     string
	s3Status int
	s3Code   string
}{
	Missing:         {"MissingAuthenticationTokenException", http.StatusForbidden, "AccessDenied"},
	Ambiguous:       {"InvalidSignatureException", http.StatusBadRequest, "InvalidArgument"},
	Incomplete:      {"IncompleteSignatureException", http.StatusBadRequest, "AuthorizationHeaderMalformed"},
	IncompleteQuery: {"IncompleteSignatureException", http.StatusBadRequest, "AuthorizationQueryParametersError"},
	Unsupported:     {"IncompleteSignatureException", http.StatusNotImplemented, "NotImplemented"},
	Skewed:          {"InvalidSignatureException", http.StatusForbidden, "RequestTimeTooSkewed"},
	Expired:         {"InvalidSignatureException", http.StatusForbidden, "AccessDenied"},
	NotSigned:       {"InvalidSignatureException", http.StatusForbidden, "AccessDenied"},
	WrongScope:      {"InvalidSignatureException", http.StatusBadRequest, "AuthorizationHeaderMalformed"},
	WrongPayload:    {"InvalidSignatureException", http.StatusBadRequest, "XAmzContentSHA256Mismatch"},
	UnknownKey:      {"UnrecognizedClientException", http.StatusForbidden, "InvalidAccessKeyId"},
	WrongToken:      {"UnrecognizedClientException", http.StatusBadRequest, "InvalidToken"},
	Mismatch:        {"InvalidSignatureException", http.StatusForbidden, "SignatureDoesNotMatch"},
}

// Error is a refusal by a Verifier, in the words of a JSON service: status 400, the error's Name
// and its Message, which is for the caller and holds nothing that the caller has not sent.
type Error struct {
	Reason  Reason
	Name    string // such as InvalidSignatureException
	Message string
}

func refuse(r Reason, format string, args ...any) *Error {
	return &Error{Reason: r, Name: reasons[r].name, Message: fmt.Sprintf(format, args...)}
}

func (e *Error) Error() string { return e.Name + ": " + e.Message }

// S3 is the status and the code of e where the service is S3.
func (e *Error) S3() (status int, code string) {
	r := reasons[e.Reason]
	return r.s3Status, r.s3Code
}
