// Package kpl reads and writes the aggregate format of the Kinesis Producer Library, which packs
// many user records into one Kinesis record.
//
// An aggregate is four magic bytes, a protobuf message, and the MD5 of that message:
//
//	F3 89 9A C2 | AggregatedRecord | 16 bytes of MD5
//
//	AggregatedRecord  1 partition_key_table      repeated string
//	                  2 explicit_hash_key_table  repeated string
//	                  3 records                  repeated Record
//	Record            1 partition_key_index      required uint64, into table 1
//	                  2 explicit_hash_key_index  optional uint64, into table 2
//	                  3 data                     required bytes
//	                  4 tags                     repeated; unused by the library, skipped here
//
// A record counts as an aggregate only if all of it is right. Anything else is a plain record
// that happens to start like one, and is passed on untouched: nothing gets lost by guessing.
// A user record's sub-sequence number is its position in records, from 0. Sequence number, shard
// and arrival time are those of the Kinesis record around it.
package kpl

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"strings"
	"unicode/utf8"
)

const magic = "\xf3\x89\x9a\xc2"

// Field numbers; those of the message and those of its records.
const (
	partitionKeyTable = 1
	explicitHashTable = 2
	records           = 3

	partitionKeyIndex = 1
	explicitHashIndex = 2
	data              = 3
)

// Deaggregate calls each for every user record in b, in order, and reports true. If b is not an
// aggregate it reports false without having called each. That is so for a wrong checksum, a
// message that is damaged, incomplete or of another form, an index beyond its table, a key that
// is not UTF-8, and a message without any records, of which nothing would be left.
//
// The data is a part of b. An explicit hash key is "" if the record has none; its text is not
// checked. Memory is taken for the two tables only: at most 8 times the length of b if its keys
// are empty, far less than b for keys in use.
func Deaggregate(b []byte, each func(sub int, partitionKey, explicitHashKey string, data []byte)) bool {
	message, ok := open(b)
	if !ok {
		return false
	}
	a, ok := survey(message)
	if !ok {
		return false
	}
	keys, hashes := a.tables(message)
	sub := 0
	for f := range fields(message) {
		if f.number != records {
			continue
		}
		r, _ := parseRecord(f.bytes)
		hash := ""
		if r.hasHash {
			hash = hashes[r.hash]
		}
		each(sub, keys[r.key], hash, r.data)
		sub++
	}
	return true
}

// open checks the frame and returns the message in it.
func open(b []byte) (message []byte, ok bool) {
	if len(b) < len(magic)+md5.Size || !bytes.HasPrefix(b, []byte(magic)) {
		return nil, false
	}
	message, sum := b[len(magic):len(b)-md5.Size], b[len(b)-md5.Size:]
	return message, md5.Sum(message) == [md5.Size]byte(sum)
}

// aggregate is what must be known of a message before anything in it can be used.
type aggregate struct {
	keys, hashes int // entries of the tables
	text         int // bytes of all entries together
}

// survey goes through the whole message and reports whether it is right.
func survey(message []byte) (a aggregate, ok bool) {
	count := 0
	var keysNeeded, hashesNeeded uint64
	end := len(message)
	for f := range fields(message) {
		end = f.rest
		switch f.number {
		case partitionKeyTable, explicitHashTable:
			if f.wire != wireBytes || !utf8.Valid(f.bytes) {
				return a, false
			}
			a.text += len(f.bytes)
			if f.number == partitionKeyTable {
				a.keys++
			} else {
				a.hashes++
			}
		case records:
			if f.wire != wireBytes {
				return a, false
			}
			r, ok := parseRecord(f.bytes)
			if !ok {
				return a, false
			}
			count++
			keysNeeded = max(keysNeeded, r.key+1)
			if r.hasHash {
				hashesNeeded = max(hashesNeeded, r.hash+1)
			}
		}
	}
	return a, end == 0 && count > 0 && keysNeeded <= uint64(a.keys) && hashesNeeded <= uint64(a.hashes)
}

// tables reads the tables of a message that survey found right. All keys share one string.
func (a *aggregate) tables(message []byte) (keys, hashes []string) {
	table := make([]string, a.keys+a.hashes)
	keys, hashes = table[:0:a.keys], table[a.keys:a.keys]
	var text strings.Builder
	text.Grow(a.text) // and so the strings below are parts of one that does not move
	for f := range fields(message) {
		if f.number != partitionKeyTable && f.number != explicitHashTable {
			continue
		}
		start := text.Len()
		text.Write(f.bytes)
		if key := text.String()[start:]; f.number == partitionKeyTable {
			keys = append(keys, key)
		} else {
			hashes = append(hashes, key)
		}
	}
	return keys, hashes
}

// record is a parsed Record.
type record struct {
	key, hash uint64
	hasHash   bool
	data      []byte
}

// parseRecord reports whether b is a Record; of a field given twice the last one counts. An index
// that would overflow is refused here, so that adding 1 to it is safe.
func parseRecord(b []byte) (r record, ok bool) {
	hasKey, hasData := false, false
	end := len(b)
	for f := range fields(b) {
		end = f.rest
		switch f.number {
		case partitionKeyIndex, explicitHashIndex:
			if f.wire != wireVarint || f.value == 1<<64-1 {
				return r, false
			}
			if f.number == partitionKeyIndex {
				r.key, hasKey = f.value, true
			} else {
				r.hash, r.hasHash = f.value, true
			}
		case data:
			if f.wire != wireBytes {
				return r, false
			}
			r.data, hasData = f.bytes, true
		}
	}
	return r, end == 0 && hasKey && hasData
}

// Record is a user record to be aggregated.
type Record struct {
	PartitionKey    string // 1 to 256 characters of UTF-8
	ExplicitHashKey string // decimal; "" for none
	Data            []byte
}

// Aggregate appends the aggregate of rs to dst. Each distinct key is stored once. No records give
// an aggregate that Deaggregate does not accept.
func Aggregate(dst []byte, rs []Record) []byte {
	dst = append(dst, magic...)
	start := len(dst)
	keys, hashes := map[string]uint64{}, map[string]uint64{}
	for _, r := range rs {
		dst = appendKey(dst, partitionKeyTable, r.PartitionKey, keys)
		if r.ExplicitHashKey != "" {
			dst = appendKey(dst, explicitHashTable, r.ExplicitHashKey, hashes)
		}
	}
	var one []byte
	for _, r := range rs {
		one = appendVarintField(one[:0], partitionKeyIndex, keys[r.PartitionKey])
		if r.ExplicitHashKey != "" {
			one = appendVarintField(one, explicitHashIndex, hashes[r.ExplicitHashKey])
		}
		one = appendBytesField(one, data, r.Data)
		dst = appendBytesField(dst, records, one)
	}
	sum := md5.Sum(dst[start:])
	return append(dst, sum[:]...)
}

// appendKey adds a key to a table, once.
func appendKey(dst []byte, table uint64, key string, known map[string]uint64) []byte {
	if _, ok := known[key]; ok {
		return dst
	}
	known[key] = uint64(len(known))
	return appendBytesField(dst, table, []byte(key))
}

func appendVarintField(dst []byte, number, value uint64) []byte {
	return binary.AppendUvarint(binary.AppendUvarint(dst, number<<3|wireVarint), value)
}

func appendBytesField(dst []byte, number uint64, value []byte) []byte {
	dst = binary.AppendUvarint(binary.AppendUvarint(dst, number<<3|wireBytes), uint64(len(value)))
	return append(dst, value...)
}
