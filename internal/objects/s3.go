package objects

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/sigv4"
)

// S3 keeps objects on a server that speaks S3's REST protocol: AWS, MinIO, Ceph, Garage, R2 and
// the like.
//
// It uses what all of them have: single-request puts with a Content-Length and a signed SHA-256,
// gets with ranges, ListObjectsV2. There are no multipart uploads, so an object is at most 5 GiB,
// and no checksum trailers, which older servers refuse. It is written on net/http alone since the
// AWS SDK's client adds some 8 MB to the binary.
//
// Requests that met a broken connection or a 5xx answer are repeated up to 3 times, after about
// 0.1, 0.4 and 1.6 seconds or what the server's Retry-After says. No request has a time limit of
// its own but that the answer must begin within a minute of the request's end; the caller's
// context ends it. Redirects are not followed: credentials go to the endpoint and nowhere else.
type S3 struct {
	endpoint  *url.URL
	region    string
	creds     sigv4.Credentials
	pathStyle bool
	client    *http.Client
}

// S3Options say where the server is and who asks.
type S3Options struct {
	Endpoint     string // e.g. http://127.0.0.1:9000; "" is AWS's in Region
	Region       string // "" is us-east-1
	AccessKey    string
	SecretKey    string
	SessionToken string // of temporary credentials; else ""
	// PathStyle puts the bucket into the path (http://host/bucket/key), as most servers but AWS
	// want it, and not before the host name (http://bucket.host/key). It is always so for
	// endpoints that are IP addresses and for buckets with a dot in their name.
	PathStyle bool
	// Transport carries the requests; nil is one of this client's own.
	Transport http.RoundTripper
}

const (
	maxS3Object    = 5 << 30
	maxS3Page      = 1000
	maxS3XML       = 16 << 20 // 1,000 keys of 1,024 bytes, each byte escaped, fit 4 times
	maxS3ErrorBody = 64 << 10
)

// NewS3 returns a client. It does not talk to the server yet.
func NewS3(o S3Options) (*S3, error) {
	if o.AccessKey == "" || o.SecretKey == "" {
		return nil, errs.New(errs.Invalid, "an S3 client needs an access key and a secret key")
	}
	region := cmp.Or(o.Region, "us-east-1")
	endpoint := cmp.Or(o.Endpoint, "https://s3."+region+".amazonaws.com")
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return nil, errs.New(errs.Invalid, "%q is no S3 endpoint: write http:// or https://, a host and nothing behind it", endpoint)
	}
	_, notIP := netip.ParseAddr(u.Hostname())
	s := &S3{endpoint: u, region: region, pathStyle: o.PathStyle || notIP == nil,
		creds: sigv4.Credentials{AccessKey: o.AccessKey, SecretKey: o.SecretKey, SessionToken: o.SessionToken}}
	transport := o.Transport
	if transport == nil {
		transport = &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			ResponseHeaderTimeout: time.Minute,
			MaxIdleConnsPerHost:   16,
			IdleConnTimeout:       90 * time.Second,
			DisableCompression:    true, // objects stored as gzip are wanted as gzip
		}
	}
	s.client = &http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return s, nil
}

// Close closes the connections that are not in use.
func (s *S3) Close() error {
	s.client.CloseIdleConnections()
	return nil
}

// Put implements Store. The body is read twice: once for its SHA-256, once to send it.
func (s *S3) Put(ctx context.Context, bucket, key string, body io.ReadSeeker, size int64, m Attributes) error {
	if err := checkPut(bucket, key, size, m); err != nil {
		return err
	}
	if size > maxS3Object {
		return errs.New(errs.Invalid, "the object %s has %d bytes, the limit of one request to S3 is %d", key, size, int64(maxS3Object))
	}
	hash, err := hashBody(body, size)
	if err != nil {
		return err
	}
	r := s3Request{op: "PutObject", method: http.MethodPut, bucket: bucket, key: key,
		header: http.Header{}, body: body, size: size, hash: hash}
	r.header.Set("Content-Type", cmp.Or(m.ContentType, defaultType))
	if m.ContentEncoding != "" {
		r.header.Set("Content-Encoding", m.ContentEncoding)
	}
	for name, value := range m.User {
		r.header.Set(userHeader+name, value)
	}
	_, err = s.do(ctx, r)
	if s3Code(err) != "NoSuchBucket" {
		return err
	}
	if err := s.createBucket(ctx, bucket); err != nil {
		return err
	}
	_, err = s.do(ctx, r)
	return err
}

const userHeader = "X-Amz-Meta-"

func hashBody(body io.ReadSeeker, size int64) (string, error) {
	if _, err := body.Seek(0, io.SeekStart); err != nil {
		return "", errs.Wrap(errs.Internal, err, "cannot read the object's body from its start")
	}
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(body, size))
	if err != nil {
		return "", errs.Wrap(errs.Internal, err, "cannot read the object's body")
	}
	if n < size {
		return "", shortBody(n, size)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (s *S3) createBucket(ctx context.Context, bucket string) error {
	var body string
	if s.region != "us-east-1" { // where AWS wants no body
		body = `<CreateBucketConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><LocationConstraint>` +
			s.region + `</LocationConstraint></CreateBucketConfiguration>`
	}
	sum := sha256.Sum256([]byte(body))
	_, err := s.do(ctx, s3Request{op: "CreateBucket", method: http.MethodPut, bucket: bucket,
		body: strings.NewReader(body), size: int64(len(body)), hash: hex.EncodeToString(sum[:])})
	if code := s3Code(err); code == "BucketAlreadyOwnedByYou" || code == "BucketAlreadyExists" {
		return nil // another writer made it; if it is a stranger's, the put that follows says so
	}
	return err
}

// Get implements Store. The context covers the reading, too. Seeking is cheap; reading behind a
// seek is another request.
func (s *S3) Get(ctx context.Context, bucket, key string) (io.ReadSeekCloser, Info, error) {
	if err := checkNames(bucket, key); err != nil {
		return nil, Info{}, err
	}
	resp, err := s.do(ctx, s3Request{op: "GetObject", method: http.MethodGet, bucket: bucket, key: key})
	if err != nil {
		return nil, Info{}, err
	}
	info, err := infoOf(key, resp)
	if err != nil {
		resp.Body.Close()
		return nil, Info{}, err
	}
	return &s3Reader{s: s, ctx: ctx, bucket: bucket, info: info, body: resp.Body}, info, nil
}

// Stat is Get without the object's bytes.
func (s *S3) Stat(ctx context.Context, bucket, key string) (Info, error) {
	if err := checkNames(bucket, key); err != nil {
		return Info{}, err
	}
	resp, err := s.do(ctx, s3Request{op: "HeadObject", method: http.MethodHead, bucket: bucket, key: key})
	if err != nil {
		return Info{}, err
	}
	resp.Body.Close()
	return infoOf(key, resp)
}

func infoOf(key string, resp *http.Response) (Info, error) {
	if resp.ContentLength < 0 {
		return Info{}, errs.New(errs.Unavailable, "the S3 server %s does not say how long the object %s is", resp.Request.URL.Host, key)
	}
	h := resp.Header
	info := Info{Key: key, Size: resp.ContentLength, ETag: h.Get("ETag"),
		Attributes: Attributes{ContentType: cmp.Or(h.Get("Content-Type"), defaultType), ContentEncoding: h.Get("Content-Encoding")}}
	// A server that sends no time, or one that is none, leaves it zero.
	info.Modified, _ = http.ParseTime(h.Get("Last-Modified"))
	for name, values := range h {
		if strings.HasPrefix(name, userHeader) {
			if info.User == nil {
				info.User = map[string]string{}
			}
			info.User[strings.ToLower(strings.TrimPrefix(name, userHeader))] = strings.Join(values, ",")
		}
	}
	return info, nil
}

// Delete implements Store.
func (s *S3) Delete(ctx context.Context, bucket, key string) error {
	if err := checkNames(bucket, key); err != nil {
		return err
	}
	resp, err := s.do(ctx, s3Request{op: "DeleteObject", method: http.MethodDelete, bucket: bucket, key: key})
	if errs.Is(err, errs.NotFound) {
		return nil
	}
	if err == nil {
		resp.Body.Close()
	}
	return err
}

// listing is the answer of ListObjectsV2.
type listing struct {
	EncodingType string
	IsTruncated  bool
	Contents     []struct {
		Key, ETag    string
		Size         int64
		LastModified time.Time
	}
}

// List implements Store, with one request for each 1,000 objects.
func (s *S3) List(ctx context.Context, bucket, prefix, after string, max int) ([]Info, error) {
	if err := CheckBucket(bucket); err != nil {
		return nil, err
	}
	var infos []Info
	for len(infos) < max {
		var page listing
		q := url.Values{"list-type": {"2"}, "encoding-type": {"url"}, "max-keys": {strconv.Itoa(min(max-len(infos), maxS3Page))}}
		for name, value := range map[string]string{"prefix": prefix, "start-after": after} {
			if value != "" {
				q.Set(name, value)
			}
		}
		if err := s.getXML(ctx, s3Request{op: "ListObjectsV2", method: http.MethodGet, bucket: bucket, query: q}, &page); err != nil {
			return nil, err
		}
		for _, c := range page.Contents {
			key := c.Key
			if page.EncodingType == "url" {
				var err error
				if key, err = url.QueryUnescape(c.Key); err != nil {
					return nil, errs.Wrap(errs.Unavailable, err, "the S3 server %s lists the key %q, which is not URL encoded", s.endpoint.Host, c.Key)
				}
			}
			if key <= after || len(infos) == max {
				return nil, errs.New(errs.Unavailable, "the S3 server %s does not list bucket %s in pages by key: %q came after %q",
					s.endpoint.Host, bucket, key, after)
			}
			after = key
			infos = append(infos, Info{Key: key, Size: c.Size, Modified: c.LastModified, ETag: c.ETag})
		}
		if !page.IsTruncated || len(page.Contents) == 0 {
			break
		}
	}
	return infos, nil
}

// Buckets implements Store.
func (s *S3) Buckets(ctx context.Context) ([]Bucket, error) {
	var all struct {
		Buckets struct {
			Bucket []struct {
				Name         string
				CreationDate time.Time
			}
		}
	}
	if err := s.getXML(ctx, s3Request{op: "ListBuckets", method: http.MethodGet}, &all); err != nil {
		return nil, err
	}
	var buckets []Bucket
	for _, b := range all.Buckets.Bucket {
		buckets = append(buckets, Bucket{Name: b.Name, Created: b.CreationDate})
	}
	slices.SortFunc(buckets, func(a, b Bucket) int { return cmp.Compare(a.Name, b.Name) })
	return buckets, nil
}

func (s *S3) getXML(ctx context.Context, r s3Request, to any) error {
	resp, err := s.do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxS3XML+1))
	if err == nil && len(data) > maxS3XML {
		err = fmt.Errorf("it has more than %d bytes", maxS3XML)
	}
	if err == nil {
		err = xml.Unmarshal(data, to)
	}
	if err != nil {
		return errs.Wrap(errs.Unavailable, err, "cannot read the answer of the S3 server %s to %s", s.endpoint.Host, r.op)
	}
	return nil
}
