package s3api

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strconv"

	"github.com/shardmill/shardmill/internal/objects"
)

// stater is a store that can describe an object without opening it.
type stater interface {
	Stat(ctx context.Context, bucket, key string) (objects.Info, error)
}

// overrides are the parameters by which the sender of a link chooses headers of the answer.
var overrides = []struct{ parameter, header string }{
	{"response-cache-control", "Cache-Control"}, {"response-content-disposition", "Content-Disposition"},
	{"response-content-encoding", "Content-Encoding"}, {"response-content-language", "Content-Language"},
	{"response-content-type", "Content-Type"}, {"response-expires", "Expires"},
}

// getObject serves GetObject and HeadObject, with ranges and conditions as http.ServeContent
// knows them.
func (h *handler) getObject(w http.ResponseWriter, r request) error {
	var content io.ReadSeeker
	var info objects.Info
	var err error
	if s, ok := h.store.(stater); ok && r.Method == http.MethodHead {
		info, err = s.Stat(r.Context(), r.bucket, r.key)
		content = io.NewSectionReader(nil, 0, info.Size) // only its size is asked for
	} else {
		var opened io.ReadSeekCloser
		if opened, info, err = h.store.Get(r.Context(), r.bucket, r.key); err == nil {
			defer opened.Close()
		}
		content = opened
	}
	if err != nil {
		return err
	}
	if err := chooseRange(r, info.Size); err != nil {
		return err
	}
	describe(w.Header(), r, info)
	o := &objectWriter{ResponseWriter: w, size: info.Size}
	http.ServeContent(o, r.Request, "", info.Modified, content)
	switch o.refused {
	case http.StatusPreconditionFailed:
		return &apiError{o.refused, "PreconditionFailed", "the object is not as the request's conditions want it"}
	case http.StatusRequestedRangeNotSatisfiable:
		return &apiError{o.refused, "InvalidRange", "the object has " + strconv.FormatInt(info.Size, 10) + " bytes, none of them in the range"}
	}
	return nil
}

func describe(header http.Header, r request, info objects.Info) {
	set := func(name, value string) {
		if value != "" {
			header.Set(name, value)
		}
	}
	set("ETag", info.ETag)
	set("Content-Type", info.ContentType)
	set("Content-Encoding", info.ContentEncoding)
	for name, value := range info.User { // in lower case: clients show the names as they came
		header["x-amz-meta-"+name] = []string{value}
	}
	for _, o := range overrides {
		set(o.header, r.URL.Query().Get(o.parameter))
	}
}

var oneRange = regexp.MustCompile(`^bytes=([0-9]+-[0-9]*|-[0-9]+)$`)

// chooseRange makes the request's Range what S3 would read in it. S3 has no several ranges in one
// answer, and ignores what it cannot read; and every object here is of one part, number 1.
func chooseRange(r request, size int64) error {
	if !oneRange.MatchString(r.Header.Get("Range")) {
		r.Header.Del("Range")
	}
	part := r.URL.Query().Get("partNumber")
	if part == "" {
		return nil
	}
	if part != "1" {
		return &apiError{http.StatusRequestedRangeNotSatisfiable, "InvalidPartNumber", "the object has one part, number 1"}
	}
	if size > 0 {
		r.Header.Set("Range", "bytes=0-")
	}
	return nil
}

// objectWriter is what http.ServeContent writes to. It holds back the texts of refusals, which S3
// writes in XML, and adds the length that ServeContent leaves out where a Content-Encoding is set.
type objectWriter struct {
	http.ResponseWriter
	size    int64
	refused int // the status of a refusal
}

func (o *objectWriter) WriteHeader(status int) {
	switch status {
	case http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		o.refused = status
		return
	case http.StatusOK:
		o.Header().Set("Content-Length", strconv.FormatInt(o.size, 10))
	}
	o.ResponseWriter.WriteHeader(status)
}

func (o *objectWriter) Write(p []byte) (int, error) {
	if o.refused != 0 {
		return len(p), nil
	}
	return o.ResponseWriter.Write(p)
}

// ReadFrom lets the kernel send files.
func (o *objectWriter) ReadFrom(r io.Reader) (int64, error) { return io.Copy(o.ResponseWriter, r) }
