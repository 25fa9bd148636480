package keys

import (
	"crypto/sha256"
	"strconv"

	"github.com/google/uuid"
)

// Identity tells one object of one batch from every other object there ever was. All of it is
// known as soon as the batch is cut, so it survives a crash with the cut.
type Identity struct {
	DeliveryStream string // the delivery stream's own id; a name that is used again would repeat
	Version        string // the version of the settings that the batch was cut under
	Ranges         string // the batch: its shards and their first and last sequence numbers
	Kind           string // what the object holds: "data", or the type of its error records
	Partition      string // from Template.AppendPartition; empty without dynamic partitioning
	Part           int    // number of the object among those of the same partition, from 0
}

// ObjectID is the object's id: a UUID of version 8 made from SHA-256. It is part of the object's
// name, so changing how it is computed makes every delivery that is under way at an upgrade write
// a duplicate.
func ObjectID(i Identity) uuid.UUID {
	space := uuid.UUID{0x73, 0x68, 0x61, 0x72, 0x64, 0x6d, 0x80, 0x69, 0x80, 0x6c, 0x6c, 0x2e, 0x6b, 0x65, 0x79, 0x73}
	var data []byte
	for _, field := range []string{i.DeliveryStream, i.Version, i.Ranges, i.Kind, i.Partition, strconv.Itoa(i.Part)} {
		data = strconv.AppendInt(data, int64(len(field)), 10) // no two identities share one text
		data = append(data, ':')
		data = append(data, field...)
		data = append(data, '|')
	}
	return uuid.NewHash(sha256.New(), space, data, 8)
}
