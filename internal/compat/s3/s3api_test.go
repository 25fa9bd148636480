package s3compat

import (
	"errors"
	"fmt"
	"io"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/shardmill/shardmill/internal/objects"
	"github.com/shardmill/shardmill/internal/objects/s3api"
)

// newServer serves a folder whose bucket events has the keys given, each holding its own name.
func newServer(t *testing.T, keys ...string) *s3.Client {
	t.Helper()
	d, err := objects.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	m := objects.Attributes{ContentType: "text/plain", User: map[string]string{"first-seq": "49"}}
	for _, key := range keys {
		if err := d.Put(t.Context(), "events", key, strings.NewReader(key), int64(len(key)), m); err != nil {
			t.Fatal(err)
		}
	}
	srv := httptest.NewServer(s3api.New(d, "eu-west-1"))
	t.Cleanup(srv.Close)
	return newSDK(srv.URL, "eu-west-1", "AK", "SK")
}

func TestTheGoSDKReadsOurServer(t *testing.T) {
	c := newServer(t, "a/ü b+c.txt")
	events := aws.String("events")
	buckets, err := c.ListBuckets(t.Context(), &s3.ListBucketsInput{})
	if err != nil || len(buckets.Buckets) != 1 || *buckets.Buckets[0].Name != "events" {
		t.Fatalf("ListBuckets: %+v, %v", buckets, err)
	}
	head, err := c.HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: events})
	if err != nil || *head.BucketRegion != "eu-west-1" {
		t.Fatalf("HeadBucket: %+v, %v", head, err)
	}
	location, err := c.GetBucketLocation(t.Context(), &s3.GetBucketLocationInput{Bucket: events})
	if err != nil || location.LocationConstraint != "eu-west-1" {
		t.Fatalf("GetBucketLocation: %+v, %v", location, err)
	}
	key := aws.String("a/ü b+c.txt")
	object, err := c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: events, Key: key})
	if err != nil || *object.ContentLength != int64(len(*key)) || *object.ContentType != "text/plain" || object.Metadata["first-seq"] != "49" {
		t.Fatalf("HeadObject: %+v, %v", object, err)
	}
	for byteRange, want := range map[string]string{"": *key, "bytes=0-1": "a/", "bytes=-4": ".txt"} {
		in := &s3.GetObjectInput{Bucket: events, Key: key, IfMatch: object.ETag}
		if byteRange != "" {
			in.Range = &byteRange
		}
		out, err := c.GetObject(t.Context(), in)
		if err != nil {
			t.Fatalf("GetObject %q: %v", byteRange, err)
		}
		body, err := io.ReadAll(out.Body)
		out.Body.Close()
		if err != nil || string(body) != want || *out.ETag != *object.ETag {
			t.Errorf("GetObject %q: %q, %v; want %q", byteRange, body, err, want)
		}
	}
}

func TestTheGoSDKListsOurServerInPages(t *testing.T) {
	var want []string
	for i := range 12 {
		want = append(want, fmt.Sprintf("%d/x", i/4), fmt.Sprintf("%d/y%d", i/4, i))
	}
	slices.Sort(want)
	want = slices.Compact(want)
	c := newServer(t, want...)
	var keys, folders []string
	pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: aws.String("events"), MaxKeys: aws.Int32(4)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			keys = append(keys, *o.Key)
		}
	}
	if !slices.Equal(keys, want) {
		t.Errorf("keys are %q, want %q", keys, want)
	}
	pages = s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: aws.String("events"), MaxKeys: aws.Int32(2), Delimiter: aws.String("/")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range page.CommonPrefixes {
			folders = append(folders, *p.Prefix)
		}
	}
	if !slices.Equal(folders, []string{"0/", "1/", "2/"}) {
		t.Errorf("common prefixes are %q", folders)
	}
}

func TestTheGoSDKUnderstandsOurErrors(t *testing.T) {
	c := newServer(t, "k")
	_, err := c.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("events"), Key: aws.String("none")})
	var noKey *types.NoSuchKey
	if !errors.As(err, &noKey) {
		t.Errorf("GetObject of no key: %v", err)
	}
	_, err = c.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("none")})
	var noBucket *types.NoSuchBucket
	if !errors.As(err, &noBucket) {
		t.Errorf("ListObjectsV2 of no bucket: %v", err)
	}
	_, err = c.HeadObject(t.Context(), &s3.HeadObjectInput{Bucket: aws.String("events"), Key: aws.String("none")})
	var notFound *types.NotFound
	if !errors.As(err, &notFound) {
		t.Errorf("HeadObject of no key: %v", err)
	}
	_, err = c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("events"), Key: aws.String("k")}, func(o *s3.Options) { o.RetryMaxAttempts = 1 })
	var refusal smithy.APIError
	if !errors.As(err, &refusal) || refusal.ErrorCode() != "NotImplemented" || !strings.HasPrefix(refusal.ErrorMessage(), "DeleteObject is not implemented") {
		t.Errorf("DeleteObject: %v", err)
	}
}

// A client of S3 over a server of ours over a folder: the chain that two hosts would make.
func TestOurClientReadsOurServer(t *testing.T) {
	d, err := objects.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	keys := []string{"a-b", "a/../c", "a//b", "é %+"}
	for _, key := range keys {
		if err := d.Put(t.Context(), "events", key, strings.NewReader(key), int64(len(key)), objects.Attributes{}); err != nil {
			t.Fatal(err)
		}
	}
	srv := httptest.NewServer(s3api.New(d, "us-east-1"))
	t.Cleanup(srv.Close)
	s := newClient(t, objects.S3Options{Endpoint: srv.URL, AccessKey: "AK", SecretKey: "SK"})
	infos, err := s.List(t.Context(), "events", "", "", 10)
	if err != nil || len(infos) != len(keys) {
		t.Fatalf("List: %+v, %v", infos, err)
	}
	for i, info := range infos {
		r, _, err := s.Get(t.Context(), "events", info.Key)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		r.Close()
		if err != nil || string(body) != keys[i] || info.Key != keys[i] {
			t.Errorf("object %d is %q with %q, %v; want %q", i, info.Key, body, err, keys[i])
		}
	}
}
