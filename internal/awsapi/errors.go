package awsapi

import (
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/shardmill/shardmill/internal/awsapi/cbor"
	"github.com/shardmill/shardmill/internal/awsapi/jsonscan"
	"github.com/shardmill/shardmill/internal/errs"
)

// describe gives an error its status, name and sentence on the service's wire.
func (s *Service) describe(err error) (status int, name, message string) {
	var ser *SerializationError
	var val *ValidationError
	var wire *Error
	switch {
	case errors.As(err, &ser):
		return http.StatusBadRequest, "SerializationException", ser.Message
	case errors.As(err, &val):
		return http.StatusBadRequest, "ValidationException", val.Message
	case errors.As(err, &wire):
		return http.StatusBadRequest, wire.Name, wire.Message
	}
	kind := errs.KindOf(err)
	if name = s.Errors[kind]; name != "" {
		return statusOf(name), name, sentence(err)
	}
	if kind == errs.Internal {
		return http.StatusInternalServerError, "InternalFailure", ""
	}
	return http.StatusInternalServerError, "InternalFailure", sentence(err)
}

// statusOf is 400 for everything that a client did wrong or may try again, throttling included.
// The one fault that has a name in a model is Firehose's ServiceUnavailableException.
func statusOf(name string) int {
	if name == "ServiceUnavailableException" {
		return http.StatusServiceUnavailable
	}
	return http.StatusBadRequest
}

// sentence is what a caller is shown of an error: its own sentence, not the causes behind it.
func sentence(err error) string {
	var e *errs.Error
	if errors.As(err, &e) {
		return e.Msg
	}
	return err.Error()
}

// Describe names an error for one record of a batch (PutRecords, PutRecordBatch).
func (s *Service) Describe(err error) (name, message string) {
	_, name, message = s.describe(err)
	return name, message
}

// writeError writes AWS's error document. SerializationException alone spells its member Message.
func writeError(w http.ResponseWriter, status int, name, message string) {
	body := append([]byte(`{"__type":`), jsonscan.AppendString(nil, name)...)
	switch {
	case message != "" && name == "SerializationException":
		body = jsonscan.AppendString(append(body, `,"Message":`...), message)
	case message != "":
		body = jsonscan.AppendString(append(body, `,"message":`...), message)
	}
	body = append(body, '}')
	h := w.Header()
	h.Set("Content-Type", typeJSON)
	h.Set("X-Amzn-Errortype", name)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

// writeCBORError answers in CBOR: a client that expects CBOR reports anything else as an unreadable
// token.
func writeCBORError(w http.ResponseWriter, status int, name, message string) {
	members := []string{"__type", name}
	if message != "" {
		members = append(members, "message", message)
	}
	body := cbor.AppendMapHeader(nil, len(members)/2)
	for _, text := range members {
		body = cbor.AppendText(body, text)
	}
	w.Header().Set("Content-Type", typeCBOR)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	w.Write(body)
}

func writeXML(w http.ResponseWriter, status int, name, message string) {
	w.Header()["Content-Type"] = nil // AWS sends none
	w.WriteHeader(status)
	io.WriteString(w, "<"+name+">\n  <Message>"+message+"</Message>\n</"+name+">\n")
}
