package awsapi

import "net/http"

// Wire is the encoding of a request and of its answer.
type Wire uint8

const (
	JSON Wire = iota // application/x-amz-json-1.1
	CBOR             // application/x-amz-cbor-1.1
)

// Decode reads a request's body, see DecodeJSON and DecodeCBOR.
func (w Wire) Decode(body []byte, into any) error {
	if w == CBOR {
		return DecodeCBOR(body, into)
	}
	return DecodeJSON(body, into)
}

// Encode writes an answer, see EncodeJSON and EncodeCBOR.
func (w Wire) Encode(v any) ([]byte, error) {
	if w == CBOR {
		return EncodeCBOR(v)
	}
	return EncodeJSON(v)
}

func (w Wire) contentType() string {
	if w == CBOR {
		return typeCBOR
	}
	return typeJSON
}

func (w Wire) writeError(rw http.ResponseWriter, status int, name, message string) {
	if w == CBOR {
		writeCBORError(rw, status, name, message)
	} else {
		writeError(rw, status, name, message)
	}
}
