package s3compat

import (
	"cmp"
	"context"
	"errors"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/shardmill/shardmill/internal/objects"
	"github.com/shardmill/shardmill/internal/objects/objectstest"
)

func newClient(t *testing.T, o objects.S3Options) objects.Store {
	t.Helper()
	s, err := objects.NewS3(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestGofakes3(t *testing.T) {
	objectstest.Run(t, func(t *testing.T) objects.Store {
		srv := httptest.NewServer(gofakes3.New(s3mem.New()).Server())
		t.Cleanup(srv.Close)
		return newClient(t, objects.S3Options{Endpoint: srv.URL, AccessKey: "AK", SecretKey: "SK", PathStyle: true})
	}, objectstest.Deviation{Test: "put replaces bytes and attributes",
		Reason: "gofakes3 1.2.0 merges the headers of the replaced object into the new one"})
}

func TestServer(t *testing.T) {
	o := objects.S3Options{Endpoint: os.Getenv("S3_ENDPOINT"), Region: cmp.Or(os.Getenv("S3_REGION"), "us-east-1"),
		AccessKey: os.Getenv("S3_ACCESS_KEY"), SecretKey: os.Getenv("S3_SECRET_KEY"), PathStyle: true}
	if o.Endpoint == "" {
		t.Skip("S3_ENDPOINT names no S3 server to test against")
	}
	admin := newSDK(o.Endpoint, o.Region, o.AccessKey, o.SecretKey)
	objectstest.Run(t, func(t *testing.T) objects.Store {
		for _, bucket := range objectstest.Buckets() {
			dropBucket(t, admin, bucket)
		}
		return newClient(t, o)
	})
}

// newSDK is AWS's own client.
func newSDK(endpoint, region, accessKey, secretKey string) *s3.Client {
	return s3.New(s3.Options{BaseEndpoint: aws.String(endpoint), Region: region, UsePathStyle: true,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}, nil
		})})
}

func dropBucket(t *testing.T, c *s3.Client, bucket string) {
	t.Helper()
	pages := s3.NewListObjectsV2Paginator(c, &s3.ListObjectsV2Input{Bucket: &bucket})
	for pages.HasMorePages() {
		page, err := pages.NextPage(t.Context())
		var none *types.NoSuchBucket
		if errors.As(err, &none) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			if _, err := c.DeleteObject(t.Context(), &s3.DeleteObjectInput{Bucket: &bucket, Key: o.Key}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := c.DeleteBucket(t.Context(), &s3.DeleteBucketInput{Bucket: &bucket}); err != nil {
		t.Fatal(err)
	}
}
