// Package s3compat runs our S3 client against other people's servers, and other people's client
// against our server. It is a module of its own so that its dependencies stay out of shardmill's.
//
//	go test ./...
//
// runs gofakes3 in this process. To run against a real server (MinIO, Ceph, versitygw, AWS) name
// it; the suite's buckets there (conformance-bucket, ant.farm, mid-1, zebra) are emptied and
// deleted first, so use a server or an account without such buckets of yours:
//
//	S3_ENDPOINT=http://127.0.0.1:7070 S3_ACCESS_KEY=… S3_SECRET_KEY=… S3_REGION=… go test -run Server ./...
//
// versitygw 1.8.0, which takes minutes to build and so is no dependency, passes with
//
//	-skip TestServer/keys_of_path_syntax
//
// as it resolves "." and ".." in keys: Put of x/z/../y overwrites x/y there.
package s3compat
