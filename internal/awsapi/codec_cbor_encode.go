package awsapi

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"

	"github.com/shardmill/shardmill/internal/awsapi/cbor"
)

// EncodeCBOR writes an operation's answer, a struct or a pointer to one, by the rules of EncodeJSON:
// members in the order of the fields, nil ones left out, map keys sorted. Blobs are byte strings,
// timestamps tag 1 and integer milliseconds, doubles floats of 64 bits, all lengths definite. A nil
// answer is the empty map. The error, for a float that is no number, is a fault of the program.
//
// It is for the control plane: answers that carry records append their CBOR themselves, with package
// cbor.
func EncodeCBOR(v any) ([]byte, error) {
	rv := reflect.ValueOf(v)
	if !rv.IsValid() || rv.Kind() == reflect.Pointer && rv.IsNil() {
		return cbor.AppendMapHeader(nil, 0), nil
	}
	return appendCBOR(make([]byte, 0, 512), rv)
}

func appendCBOR(dst []byte, v reflect.Value) ([]byte, error) {
	switch typeOf(v.Type()) {
	case typePointer:
		if v.IsNil() {
			return cbor.AppendNull(dst), nil
		}
		return appendCBOR(dst, v.Elem())
	case typeStructure:
		return appendCBORStructure(dst, v)
	case typeList:
		dst = cbor.AppendArrayHeader(dst, v.Len())
		var err error
		for i := 0; i < v.Len() && err == nil; i++ {
			dst, err = appendCBOR(dst, v.Index(i))
		}
		return dst, err
	case typeMap:
		return appendCBORMap(dst, stringsOf(v)), nil
	case typeString:
		return cbor.AppendText(dst, v.String()), nil
	case typeBoolean:
		return cbor.AppendBool(dst, v.Bool()), nil
	case typeInteger, typeLong:
		return cbor.AppendInt(dst, v.Int()), nil
	case typeTimestamp:
		return cbor.AppendTimestamp(dst, v.Int()), nil
	case typeDouble:
		f := v.Float()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return dst, fmt.Errorf("awsapi: %v is no number", f)
		}
		return cbor.AppendFloat(dst, f), nil
	case typeBlob:
		return cbor.AppendBytes(dst, v.Bytes()), nil
	}
	panic(fmt.Sprintf("awsapi: type %s stands for no AWS type; see DecodeJSON for those that do", v.Type()))
}

func appendCBORStructure(dst []byte, v reflect.Value) ([]byte, error) {
	members := planOf(v.Type()).members
	present := 0
	for _, m := range members {
		if !isAbsent(v.FieldByIndex(m.index)) {
			present++
		}
	}
	dst = cbor.AppendMapHeader(dst, present)
	for _, m := range members {
		f := v.FieldByIndex(m.index)
		if isAbsent(f) {
			continue
		}
		var err error
		if dst, err = appendCBOR(cbor.AppendText(dst, m.name), f); err != nil {
			return dst, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return dst, nil
}

func appendCBORMap(dst []byte, m map[string]string) []byte {
	dst = cbor.AppendMapHeader(dst, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		dst = cbor.AppendText(cbor.AppendText(dst, key), m[key])
	}
	return dst
}
