// Package destinations lists the kinds of destination that a delivery stream may have. Each kind
// is a folder of its own with its settings, their validation and its documentation; a new kind is
// that folder and a line here.
package destinations

import (
	"encoding/json"

	"github.com/shardmill/shardmill/firehose"
	"github.com/shardmill/shardmill/firehose/destinations/s3"
	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/objects"
)

// Deps is what the host lends to destinations.
type Deps struct {
	Objects  objects.Store
	SpoolDir string // for bodies too large for memory
}

// Open returns the opener of all kinds.
func Open(d Deps) firehose.Opener {
	kinds := map[string]func(json.RawMessage) (firehose.Destination, error){
		s3.Kind: func(settings json.RawMessage) (firehose.Destination, error) {
			return s3.Open(d.Objects, d.SpoolDir, settings)
		},
	}
	return func(kind string, settings json.RawMessage) (firehose.Destination, error) {
		open := kinds[kind]
		if open == nil {
			return nil, errs.New(errs.Invalid, "destinations of kind %s are not supported", kind)
		}
		return open(settings)
	}
}
