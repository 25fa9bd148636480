package objects

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/sigv4"
)

// s3Request is one operation. It can be sent many times.
type s3Request struct {
	op          string // S3's name of the operation, for errors
	method      string
	bucket, key string
	query       url.Values
	header      http.Header
	body        io.ReadSeeker
	size        int64
	hash        string // of the body
}

func (r s3Request) String() string {
	switch {
	case r.bucket == "":
		return r.op
	case r.key == "":
		return r.op + " of bucket " + r.bucket
	}
	return r.op + " of " + r.key + " in bucket " + r.bucket
}

const (
	s3Attempts    = 4
	firstS3Pause  = 100 * time.Millisecond // four times longer after each attempt
	maxRetryAfter = 20 * time.Second
)

// do sends a request until there is an answer that another attempt would not change. The
// response is of status 2xx and its body open, unless the request had a body: then the answer has
// been read and closed.
func (s *S3) do(ctx context.Context, r s3Request) (*http.Response, error) {
	pause := firstS3Pause
	for attempt := 1; ; attempt++ {
		resp, err := s.send(ctx, r)
		if !errs.Is(err, errs.Unavailable) || attempt == s3Attempts || ctx.Err() != nil {
			return resp, err
		}
		wait := pause/2 + rand.N(pause) // spread, so that clients do not come back in step
		var refusal *s3Error
		if errors.As(err, &refusal) && refusal.retryAfter > 0 {
			wait = min(refusal.retryAfter, maxRetryAfter)
		}
		pause *= 4
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (s *S3) send(ctx context.Context, r s3Request) (*http.Response, error) {
	req, sent, err := s.build(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		sent.wait()
		return nil, errs.Wrap(errs.Unavailable, err, "the S3 server %s cannot be reached for %s", s.endpoint.Host, r)
	}
	failed := resp.StatusCode/100 != 2
	if !failed && r.body == nil {
		return resp, nil
	}
	answer, readErr := io.ReadAll(io.LimitReader(resp.Body, maxS3ErrorBody))
	resp.Body.Close()
	sent.wait()
	switch {
	case failed:
		return nil, s.refusal(r, resp, answer)
	case readErr != nil:
		return nil, errs.Wrap(errs.Unavailable, readErr, "the answer of the S3 server %s to %s broke off", s.endpoint.Host, r)
	}
	resp.Body = io.NopCloser(bytes.NewReader(answer))
	return resp, nil
}

// build makes the HTTP request and signs it.
func (s *S3) build(ctx context.Context, r s3Request) (*http.Request, *sentBody, error) {
	u := &url.URL{Scheme: s.endpoint.Scheme, Host: s.endpoint.Host, Path: "/", RawQuery: r.query.Encode()}
	if r.bucket != "" {
		if s.pathStyle || strings.Contains(r.bucket, ".") {
			u.Path = "/" + r.bucket
			if r.key != "" {
				u.Path += "/" + r.key
			}
		} else {
			u.Host = r.bucket + "." + u.Host
			u.Path = "/" + r.key
		}
	}
	u.RawPath = sigv4.EscapePath(u.Path)
	req := (&http.Request{Method: r.method, URL: u, Host: u.Host, Header: r.header.Clone()}).WithContext(ctx)
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("User-Agent", "shardmill")
	req.Header.Set("Accept-Encoding", "identity")
	hash, sent := sigv4.EmptyPayload, &sentBody{}
	if r.body != nil {
		hash = r.hash
		req.ContentLength = r.size
		if _, err := r.body.Seek(0, io.SeekStart); err != nil {
			return nil, nil, errs.Wrap(errs.Internal, err, "cannot read the body of %s from its start", r)
		}
		if r.size > 0 {
			sent = &sentBody{Reader: io.LimitReader(r.body, r.size), closed: make(chan struct{})}
			req.Body = sent
		}
	}
	sigv4.Sign(req, hash, s.creds, s.region, "s3", time.Now())
	return req, sent, nil
}

// sentBody is a request's body. net/http may still be reading it when the answer is there;
// wait returns when it has let go, and only then may the reader below be used again.
type sentBody struct {
	io.Reader
	once   sync.Once
	closed chan struct{} // nil if there is no body
}

func (b *sentBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

func (b *sentBody) wait() {
	if b.closed != nil {
		<-b.closed
	}
}

// s3Error is a server's refusal, as it came.
type s3Error struct {
	status     int
	code       string // e.g. NoSuchBucket; "" if the answer had none
	message    string
	retryAfter time.Duration
}

func (e *s3Error) Error() string {
	return strings.TrimSpace(fmt.Sprintf("%d %s %s", e.status, e.code, e.message))
}

// s3Code is the code of the server's refusal in err, or "".
func s3Code(err error) string {
	var e *s3Error
	if errors.As(err, &e) {
		return e.code
	}
	return ""
}

func (s *S3) refusal(r s3Request, resp *http.Response, answer []byte) error {
	var doc struct {
		XMLName               xml.Name `xml:"Error"`
		Code, Message, Region string
	}
	e := &s3Error{status: resp.StatusCode}
	if xml.Unmarshal(answer, &doc) == nil { // a proxy's page is not XML, and HEAD has no body
		e.code, e.message = doc.Code, doc.Message
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil {
		e.retryAfter = time.Duration(seconds) * time.Second
	}
	region := resp.Header.Get("X-Amz-Bucket-Region")
	if region == "" {
		region = doc.Region
	}
	if region != "" && region != s.region && e.status < 500 {
		return errs.Wrap(errs.Invalid, e, "%s failed: the bucket is in region %s, this client is set to %s", r, region, s.region)
	}
	if e.status/100 == 3 {
		return errs.Wrap(errs.Invalid, e, "%s was redirected to %q, which is not followed; make that the endpoint", r, resp.Header.Get("Location"))
	}
	return errs.Wrap(e.kind(), e, "the S3 server %s refused %s", s.endpoint.Host, r)
}

func (e *s3Error) kind() errs.Kind {
	switch e.code {
	case "NoSuchKey", "NoSuchBucket", "NoSuchVersion":
		return errs.NotFound
	case "SlowDown", "RequestTimeout", "OperationAborted", "ServiceUnavailable", "InternalError":
		return errs.Unavailable
	case "ExpiredToken", "InvalidToken", "InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied":
		return errs.Denied
	}
	switch {
	case e.status == http.StatusUnauthorized, e.status == http.StatusForbidden:
		return errs.Denied
	case e.status == http.StatusNotFound:
		return errs.NotFound
	case e.status == http.StatusPreconditionFailed: // of If-Match; other conflicts (409) stay
		return errs.Conflict
	case e.status == http.StatusRequestTimeout, e.status == http.StatusTooManyRequests:
		return errs.Unavailable
	case e.status >= 500 && e.status != http.StatusNotImplemented:
		return errs.Unavailable
	}
	return errs.Invalid
}
