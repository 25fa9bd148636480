package awsapi

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"

	"github.com/shardmill/shardmill/internal/awsapi/jsonscan"
)

// EncodeJSON writes an operation's answer, a struct or a pointer to one, by the rules of DecodeJSON:
// members in the order of the fields, nil ones left out, empty ones written, zero scalars that are
// no pointers written. A nil answer is {}. Map keys are sorted and nothing is escaped that JSON
// does not demand. The error, for a float that is no number, is a fault of the program.
//
// It is for the control plane: answers that carry records append their JSON themselves, with
// package jsonscan.
func EncodeJSON(v any) ([]byte, error) {
	rv := reflect.ValueOf(v)
	if !rv.IsValid() || rv.Kind() == reflect.Pointer && rv.IsNil() {
		return []byte("{}"), nil
	}
	return appendValue(make([]byte, 0, 512), rv)
}

func appendValue(dst []byte, v reflect.Value) ([]byte, error) {
	switch typeOf(v.Type()) {
	case typePointer:
		if v.IsNil() {
			return append(dst, "null"...), nil
		}
		return appendValue(dst, v.Elem())
	case typeStructure:
		return appendStructure(dst, v)
	case typeList:
		return appendList(dst, v)
	case typeMap:
		return appendMap(dst, v), nil
	case typeString:
		return jsonscan.AppendString(dst, v.String()), nil
	case typeBoolean:
		return strconv.AppendBool(dst, v.Bool()), nil
	case typeInteger, typeLong:
		return strconv.AppendInt(dst, v.Int(), 10), nil
	case typeTimestamp:
		return Timestamp(v.Int()).Append(dst), nil
	case typeDouble:
		f := v.Float()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return dst, fmt.Errorf("awsapi: %v has no JSON form", f)
		}
		return strconv.AppendFloat(dst, f, 'f', -1, 64), nil
	case typeBlob:
		dst = jsonscan.AppendBase64(append(dst, '"'), v.Bytes())
		return append(dst, '"'), nil
	}
	panic(fmt.Sprintf("awsapi: type %s stands for no AWS type; see DecodeJSON for those that do", v.Type()))
}

func appendStructure(dst []byte, v reflect.Value) ([]byte, error) {
	dst = append(dst, '{')
	first := true
	for _, m := range planOf(v.Type()).members {
		f := v.FieldByIndex(m.index)
		if isAbsent(f) {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(jsonscan.AppendString(dst, m.name), ':')
		var err error
		if dst, err = appendValue(dst, f); err != nil {
			return dst, fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return append(dst, '}'), nil
}

func appendList(dst []byte, v reflect.Value) ([]byte, error) {
	dst = append(dst, '[')
	for i := range v.Len() {
		if i > 0 {
			dst = append(dst, ',')
		}
		var err error
		if dst, err = appendValue(dst, v.Index(i)); err != nil {
			return dst, err
		}
	}
	return append(dst, ']'), nil
}

func appendMap(dst []byte, v reflect.Value) []byte {
	dst = append(dst, '{')
	m := stringsOf(v)
	for i, key := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(jsonscan.AppendString(dst, key), ':')
		dst = jsonscan.AppendString(dst, m[key])
	}
	return append(dst, '}')
}

// stringsOf is v, a map of string types, as a map of strings.
func stringsOf(v reflect.Value) map[string]string {
	return v.Convert(reflect.TypeFor[map[string]string]()).Interface().(map[string]string)
}

// isAbsent reports whether v is the value of a member that was not given.
func isAbsent(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return v.IsNil()
	}
	return false
}
