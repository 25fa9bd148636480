package s3api

import (
	"net/http"
	"net/url"
)

// operation is S3's name of the operation that a request asks for. S3 tells operations apart by
// method, by how much of service, bucket and object is named, and by one query parameter or
// header. Parameters that S3 does not know are no part of that; clients add some for their logs.
func operation(r request) string {
	query := r.URL.Query()
	switch {
	case r.bucket == "":
		if r.Method == http.MethodGet {
			return "ListBuckets"
		}
		return r.Method + " without a bucket"
	case r.key == "":
		return bucketOperation(r.Method, query)
	}
	return objectOperation(r.Method, query, r.Header)
}

// special are operations named by a parameter and not after the pattern verb + Bucket|Object +
// noun.
var special = []struct{ method, level, parameter, name string }{
	{"GET", "Bucket", "versions", "ListObjectVersions"},
	{"GET", "Bucket", "uploads", "ListMultipartUploads"},
	{"GET", "Bucket", "list-type", "ListObjectsV2"},
	{"GET", "Bucket", "session", "CreateSession"},
	{"POST", "Bucket", "delete", "DeleteObjects"},
	{"GET", "Object", "uploadId", "ListParts"},
	{"PUT", "Object", "uploadId", "UploadPart"},
	{"POST", "Object", "uploadId", "CompleteMultipartUpload"},
	{"DELETE", "Object", "uploadId", "AbortMultipartUpload"},
	{"POST", "Object", "uploads", "CreateMultipartUpload"},
	{"POST", "Object", "restore", "RestoreObject"},
	{"POST", "Object", "select", "SelectObjectContent"},
}

// nouns are the parameters that name a part of a bucket or object; "?acl" of a bucket makes
// GetBucketAcl, PutBucketAcl and DeleteBucketAcl.
var nouns = []struct{ parameter, noun string }{
	{"accelerate", "AccelerateConfiguration"}, {"acl", "Acl"}, {"analytics", "AnalyticsConfiguration"},
	{"attributes", "Attributes"}, {"cors", "Cors"}, {"encryption", "Encryption"},
	{"intelligent-tiering", "IntelligentTieringConfiguration"}, {"inventory", "InventoryConfiguration"},
	{"legal-hold", "LegalHold"}, {"lifecycle", "LifecycleConfiguration"}, {"location", "Location"},
	{"logging", "Logging"}, {"metrics", "MetricsConfiguration"}, {"notification", "NotificationConfiguration"},
	{"object-lock", "ObjectLockConfiguration"}, {"ownershipControls", "OwnershipControls"}, {"policy", "Policy"},
	{"policyStatus", "PolicyStatus"}, {"publicAccessBlock", "PublicAccessBlock"}, {"replication", "Replication"},
	{"requestPayment", "RequestPayment"}, {"retention", "Retention"}, {"tagging", "Tagging"}, {"torrent", "Torrent"},
	{"versioning", "Versioning"}, {"website", "Website"},
}

var verbs = map[string]string{"GET": "Get", "HEAD": "Get", "PUT": "Put", "POST": "Post", "DELETE": "Delete"}

// named is the operation that a parameter of the query names, or "".
func named(method, level string, query url.Values) string {
	for _, s := range special {
		if s.method == method && s.level == level && query.Has(s.parameter) {
			return s.name
		}
	}
	for _, n := range nouns {
		if query.Has(n.parameter) {
			return verbs[method] + level + n.noun
		}
	}
	return ""
}

func bucketOperation(method string, query url.Values) string {
	if name := named(method, "Bucket", query); name != "" {
		return name
	}
	switch method {
	case "GET":
		return "ListObjects"
	case "HEAD":
		return "HeadBucket"
	case "PUT":
		return "CreateBucket"
	case "DELETE":
		return "DeleteBucket"
	case "POST":
		return "PostObject"
	}
	return method + " of a bucket"
}

func objectOperation(method string, query url.Values, header http.Header) string {
	name := named(method, "Object", query)
	isCopy := header.Get("X-Amz-Copy-Source") != ""
	switch {
	case name == "UploadPart" && isCopy:
		return "UploadPartCopy"
	case name != "":
		return name
	case query.Get("versionId") != "" && query.Get("versionId") != "null":
		return verbs[method] + "ObjectVersion"
	case method == "PUT" && isCopy:
		return "CopyObject"
	}
	switch method {
	case "GET":
		return "GetObject"
	case "HEAD":
		return "HeadObject"
	case "PUT":
		return "PutObject"
	case "DELETE":
		return "DeleteObject"
	}
	return method + " of an object"
}

func refuse(op string) error {
	return &apiError{http.StatusNotImplemented, "NotImplemented",
		op + " is not implemented: buckets are served for reading, and objects are written by delivery streams"}
}
