// Package s3api serves the buckets of an objects.Store over S3's REST protocol, for reading.
//
// It is how people and tools look at what delivery streams have written: aws s3 ls, cp and sync,
// SDKs, query engines. It has ListBuckets, HeadBucket, GetBucketLocation, ListObjectsV2,
// ListObjects, HeadObject and GetObject. Every other operation is refused by its name, since
// objects are written by delivery streams alone.
//
// Requests name the bucket in the path (/bucket/key) or in the host (bucket.host). Whether a host
// starts with a bucket is decided so: in b.localhost and b.s3.example.com it always does, in other
// names if there is a bucket of that name; an IP address never does.
//
// The handler does not check signatures; Verified does. A router must not clean paths
// (http.ServeMux does): a//b is a key.
package s3api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/objects"
	"github.com/shardmill/shardmill/internal/sigv4"
)

// New returns a handler for the buckets of store. Region is what clients are told that the
// buckets are in.
func New(store objects.Store, region string) http.Handler {
	return &handler{store: store, region: region}
}

// Verified lets only requests through that are signed, in header or query, with one of the keys.
// Methods other than GET and HEAD pass: the handler refuses them all by name.
func Verified(next http.Handler, keys sigv4.Keys) http.Handler {
	v := sigv4.NewVerifier("s3", keys)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet || r.Method == http.MethodHead {
			_, err := v.Verify(r, nil, time.Now())
			var refused *sigv4.Error
			if errors.As(err, &refused) {
				status, code := refused.S3()
				writeError(w, r, &apiError{status, code, refused.Message})
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// Matches tells whether a request is for S3: its signature, in header or query, is for the
// service s3, or it is an unsigned GET or HEAD of an AWS client (aws --no-sign-request). Since S3
// owns every path, a router asks only when nothing else of its has claimed the request.
func Matches(r *http.Request) bool {
	credential := r.Header.Get("Authorization")
	if credential == "" {
		credential = r.URL.Query().Get("X-Amz-Credential")
	}
	if credential != "" {
		scope, ok := sigv4.ParseScope(credential)
		return ok && scope.Service == "s3"
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return false
	}
	agent := r.UserAgent()
	for _, client := range []string{"aws-cli/", "Boto3/", "Botocore/", "aws-sdk-"} {
		if strings.HasPrefix(agent, client) {
			return true
		}
	}
	return false
}

type handler struct {
	store  objects.Store
	region string
}

// request is a request once it is known what it is about.
type request struct {
	*http.Request
	bucket, key string
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var id [8]byte
	rand.Read(id[:])
	w.Header().Set("X-Amz-Request-Id", strings.ToUpper(hex.EncodeToString(id[:])))
	w.Header().Set("X-Amz-Id-2", hex.EncodeToString(id[:]))
	if err := h.serve(w, r); err != nil {
		writeError(w, r, err)
	}
}

func (h *handler) serve(w http.ResponseWriter, httpRequest *http.Request) error {
	bucket, key, err := h.address(httpRequest)
	if err != nil {
		return h.explain(httpRequest.Context(), err, "", "")
	}
	r := request{httpRequest, bucket, key}
	switch op := operation(r); op {
	case "ListBuckets":
		err = h.listBuckets(w, r)
	case "HeadBucket":
		err = h.headBucket(w, r)
	case "GetBucketLocation":
		err = h.getBucketLocation(w, r)
	case "ListObjects":
		err = h.listObjects(w, r)
	case "ListObjectsV2":
		err = h.listObjectsV2(w, r)
	case "GetObject", "HeadObject":
		err = h.getObject(w, r)
	default:
		return refuse(op)
	}
	return h.explain(r.Context(), err, bucket, key)
}

// address finds the bucket and the key of a request, "" where there is none.
func (h *handler) address(r *http.Request) (bucket, key string, err error) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	bucket, err = h.bucketOfHost(r.Context(), r.Host)
	if err != nil || bucket != "" {
		return bucket, path, err
	}
	bucket, key, _ = strings.Cut(path, "/")
	return bucket, key, nil
}

func (h *handler) bucketOfHost(ctx context.Context, host string) (string, error) {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil || !strings.Contains(host, ".") {
		return "", nil
	}
	if bucket, ok := strings.CutSuffix(host, ".localhost"); ok {
		if bucket == "s3" {
			return "", nil
		}
		return strings.TrimSuffix(bucket, ".s3"), nil
	}
	if i := strings.Index(host, ".s3."); i > 0 {
		return host[:i], nil
	}
	buckets, err := h.store.Buckets(ctx)
	longest := ""
	for _, b := range buckets {
		if len(b.Name) > len(longest) && strings.HasPrefix(host, b.Name+".") {
			longest = b.Name
		}
	}
	return longest, err
}

func (h *handler) headBucket(w http.ResponseWriter, r request) error {
	w.Header().Set("X-Amz-Bucket-Region", h.region)
	return h.exists(r.Context(), r.bucket)
}

func (h *handler) exists(ctx context.Context, bucket string) error {
	_, err := h.store.List(ctx, bucket, "", "", 1)
	return err
}

func (h *handler) getBucketLocation(w http.ResponseWriter, r request) error {
	if err := h.exists(r.Context(), r.bucket); err != nil {
		return err
	}
	location := h.region
	if location == "us-east-1" { // which S3 has always called nothing
		location = ""
	}
	return writeXML(w, struct {
		XMLName  xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ LocationConstraint"`
		Location string   `xml:",chardata"`
	}{Location: location})
}

// apiError is an error in S3's words.
type apiError struct {
	status  int
	code    string
	message string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func invalidArgument(format string, args ...any) error {
	return &apiError{http.StatusBadRequest, "InvalidArgument", fmt.Sprintf(format, args...)}
}

// explain puts an error of the store into S3's words.
func (h *handler) explain(ctx context.Context, err error, bucket, key string) error {
	var known *apiError
	if err == nil || errors.As(err, &known) {
		return err
	}
	switch errs.KindOf(err) {
	case errs.NotFound:
		if key == "" || errs.Is(h.exists(ctx, bucket), errs.NotFound) {
			return &apiError{http.StatusNotFound, "NoSuchBucket", "there is no bucket " + bucket}
		}
		return &apiError{http.StatusNotFound, "NoSuchKey", fmt.Sprintf("bucket %s holds no object %s", bucket, key)}
	case errs.Invalid:
		if key == "" {
			return &apiError{http.StatusBadRequest, "InvalidBucketName", err.Error()}
		}
		return invalidArgument("%s", err)
	case errs.Denied:
		return &apiError{http.StatusForbidden, "AccessDenied", err.Error()}
	case errs.Conflict:
		return &apiError{http.StatusPreconditionFailed, "PreconditionFailed", err.Error()}
	case errs.Unavailable, errs.Throttled:
		return &apiError{http.StatusServiceUnavailable, "ServiceUnavailable", err.Error()}
	}
	return &apiError{http.StatusInternalServerError, "InternalError", "the object store failed in a way that it should not"}
}

func writeError(w http.ResponseWriter, r *http.Request, err error) {
	var e *apiError
	if !errors.As(err, &e) { // the connection broke while the answer was written
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Del("Content-Length")
	w.WriteHeader(e.status)
	if r.Method == http.MethodHead {
		return
	}
	_ = encode(w, struct {
		XMLName                            xml.Name `xml:"Error"`
		Code, Message, Resource, RequestId string
	}{Code: e.code, Message: e.message, Resource: r.URL.Path, RequestId: w.Header().Get("X-Amz-Request-Id")})
}

func writeXML(w http.ResponseWriter, doc any) error {
	w.Header().Set("Content-Type", "application/xml")
	return encode(w, doc)
}

func encode(w http.ResponseWriter, doc any) error {
	data, err := xml.Marshal(doc)
	if err == nil {
		_, err = w.Write(append([]byte(xml.Header), data...))
	}
	return err
}
