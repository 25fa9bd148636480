package awsapi

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/shardmill/shardmill/internal/awsapi/cbor"
	"github.com/shardmill/shardmill/internal/awsapi/jsonscan"
)

// transcode writes a JSON value as the CBOR of the same request, given the type that it is for (nil
// if none knows it). Members stay in their order, repeated and unknown ones too.
func transcode(t *testing.T, dst []byte, d *json.Decoder, typ reflect.Type) []byte {
	t.Helper()
	token, err := d.Token()
	if err != nil {
		t.Fatal(err)
	}
	for typ != nil && typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	switch v := token.(type) {
	case nil:
		return cbor.AppendNull(dst)
	case bool:
		return cbor.AppendBool(dst, v)
	case string:
		if data, fault := jsonscan.DecodeBase64([]byte(v)); fault == "" && typ != nil && typeOf(typ) == typeBlob {
			return cbor.AppendBytes(dst, data)
		}
		return cbor.AppendText(dst, v)
	case json.Number:
		return transcodeNumber(dst, v, typ)
	}
	dst = append(dst, map[json.Delim]byte{'{': 0xbf, '[': 0x9f}[token.(json.Delim)])
	for d.More() {
		inner := typ
		switch {
		case token == json.Delim('['):
			if typ != nil && typeOf(typ) == typeList {
				inner = typ.Elem()
			}
		default:
			name, err := d.Token()
			if err != nil {
				t.Fatal(err)
			}
			dst, inner = cbor.AppendText(dst, name.(string)), nil
			if typ == nil || typeOf(typ) != typeStructure {
				break
			}
			if m := planOf(typ).byName[name.(string)]; m != nil {
				inner = typ.FieldByIndex(m.index).Type
			}
		}
		dst = transcode(t, dst, d, inner)
	}
	if _, err := d.Token(); err != nil {
		t.Fatal(err)
	}
	return append(dst, 0xff)
}

func transcodeNumber(dst []byte, v json.Number, typ reflect.Type) []byte {
	if typ != nil && typeOf(typ) == typeTimestamp {
		return cbor.AppendTimestamp(dst, int64(parseTimestamp(v.String())))
	}
	if n, err := v.Int64(); err == nil {
		return cbor.AppendInt(dst, n)
	}
	f, _ := v.Float64() // out of range is an infinity, which CBOR has
	if typ != nil && typeOf(typ) == typeLong && math.Abs(f) >= 1<<53 && math.Abs(f) < 1<<63 {
		return cbor.AppendInt(dst, parseInteger(v.String(), 64)) // JSON has digits that a float64 has not
	}
	return cbor.AppendFloat(dst, f)
}

// bothWays decodes a JSON request, and the same request in CBOR, and reports a difference in values
// or in complaints.
func bothWays(t *testing.T, body string, in func() any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	binary := transcode(t, nil, d, reflect.TypeOf(in()))
	fromJSON, fromCBOR := in(), in()
	err1, err2 := DecodeJSON([]byte(body), fromJSON), DecodeCBOR(binary, fromCBOR)
	const noBlob = "can not be converted to a Blob"
	if err1 != nil && err2 != nil && strings.Contains(err1.Error(), noBlob) && strings.HasSuffix(err2.Error(), noBlob) {
		return // wrong base64 is told in other words
	}
	if !reflect.DeepEqual(err1, err2) {
		t.Fatalf("%s: DecodeJSON says %v; %x: DecodeCBOR says %v", body, err1, binary, err2)
	}
	if err1 != nil {
		return
	}
	if !reflect.DeepEqual(fromJSON, fromCBOR) {
		t.Fatalf("%s is %+v; %x is %+v", body, fromJSON, binary, fromCBOR)
	}
	if err1, err2 := Validate(fromJSON), Validate(fromCBOR); !reflect.DeepEqual(err1, err2) {
		t.Fatalf("%s: Validate says %v and %v", body, err1, err2)
	}
	encoded, err := EncodeCBOR(fromJSON)
	if err != nil {
		t.Fatal(err)
	}
	back := in()
	if err := DecodeCBOR(encoded, back); err != nil || !reflect.DeepEqual(back, fromJSON) {
		t.Fatalf("%+v is encoded as %x, which is %+v, %v", fromJSON, encoded, back, err)
	}
}

// Requests of several operations, as structs of the shapes that the services use.
type (
	createStreamIn struct {
		StreamName        *string `aws:"required,min=1,max=128" pattern:"[a-zA-Z0-9_.-]+"`
		ShardCount        *int32  `aws:"min=1"`
		StreamModeDetails *struct {
			StreamMode *string `aws:"required" enum:"PROVISIONED,ON_DEMAND"`
		}
		Tags map[string]string `aws:"min=0,max=200" key:"min=1,max=128" value:"min=0,max=256"`
	}
	getShardIteratorIn struct {
		shared
		ShardId                *string `aws:"required,min=1,max=128"`
		ShardIteratorType      *string `aws:"required"`
		StartingSequenceNumber *string
		Timestamp              *Timestamp
	}
	putRecordsIn struct {
		Records []struct {
			Data         []byte  `aws:"required,max=10485760"`
			PartitionKey *string `aws:"required,min=1,max=256"`
		} `aws:"required,min=1,max=500"`
		shared
		DryRun bool
	}
)

var requests = map[string]func() any{
	"everything":       func() any { return new(everything) },
	"CreateStream":     func() any { return new(createStreamIn) },
	"GetShardIterator": func() any { return new(getShardIteratorIn) },
	"PutRecords":       func() any { return new(putRecordsIn) },
}

var requestBodies = []string{
	`{}`,
	`{"StreamName":"s","ShardCount":2,"StreamModeDetails":{"StreamMode":"ON_DEMAND"},"Tags":{"b":"2","a":"","a":"1","n":null}}`,
	`{"StreamName":"a/b","ShardCount":-2.75,"StreamModeDetails":{"StreamMode":"x"},"Tags":{"":"1"}}`,
	`{"ShardCount":99999999999,"StreamName":null}`,
	`{"StreamARN":"arn","ShardId":"shardId-000000000000","ShardIteratorType":"AT_TIMESTAMP","Timestamp":1700000000.123}`,
	`{"Timestamp":-0.5}`, `{"Timestamp":1e400}`, `{"Timestamp":"now"}`, `{"Timestamp":null}`,
	`{"Records":[{"Data":"aGk=","PartitionKey":"ä"},{"Data":"","PartitionKey":""},null,{}],"StreamARN":"arn","DryRun":true}`,
	`{"Records":[{"Data":"%%%%"}]}`, `{"Records":[{"Data":1}]}`, `{"Records":{}}`, `{"Records":[[]]}`, `{"DryRun":"yes"}`,
	`{"String":"a\u0000\"","Boolean":true,"Integer":1.5e3,"Long":-9223372036854775808,"Double":0.1,"Blob":"aGk="}`,
	`{"Integer":1e400,"Long":1e30,"Double":-1e400,"Plain":{"Count":-1e400,"Size":9223372036854775807.5,"Ratio":3}}`,
	`{"List":["a",null],"Map":{"k":"v","k":null},"Structure":{"Inner":{"Name":"x"}},"Records":[{},{"At":1e3}],"Unknown":[[{"x":1.5}]]}`,
	`{"List":"a"}`, `{"Map":[]}`, `{"Map":1}`, `{"Structure":true}`, `{"String":{}}`, `{"Boolean":"no"}`, `{"Boolean":1}`,
}

func TestJSONAndCBORAreEquivalent(t *testing.T) {
	for _, body := range requestBodies {
		for name, in := range requests {
			t.Run(name, func(t *testing.T) { bothWays(t, body, in) })
		}
	}
}

// FuzzJSONAndCBOR is TestJSONAndCBORAreEquivalent on any JSON.
func FuzzJSONAndCBOR(f *testing.F) {
	for _, body := range requestBodies {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		c := cursor{b: []byte(body)}
		if c.peek() != '{' || !c.skip(maxDepth) || c.peek() != 0 || c.i != len(body) {
			return // no JSON, so there is nothing to be equivalent to
		}
		for _, in := range requests {
			bothWays(t, body, in)
		}
	})
}
