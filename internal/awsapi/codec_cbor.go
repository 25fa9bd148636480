package awsapi

import (
	"math"
	"reflect"

	"github.com/shardmill/shardmill/internal/awsapi/cbor"
	"github.com/shardmill/shardmill/internal/awsapi/jsonscan"
)

// DecodeCBOR reads the body of a CBOR 1.1 request into the struct that into points to, of the types
// that DecodeJSON describes. A request gives the same values in both encodings, and the same
// complaints except for blobs, which are byte strings here and have no base64 to be wrong. The body
// is only read, and nothing in the struct aliases it.
//
// The body has to be one map and nothing after it: well-formed CBOR, text in UTF-8, names of members
// as text, no deeper than 64 arrays and maps. Lengths may be definite or not, integers and floats of
// any width. Undefined is absent like null; tags are passed over. Infinities become the largest
// numbers of their sign; NaN is refused.
//
// A timestamp is a number of milliseconds if it is an integer, as AWS's SDKs send it. A float is
// taken for the seconds of RFC 8949 if it is nearer to 0 than 1e11 (the year 5138; as milliseconds
// that would be 1973), else for milliseconds.
//
// The error is a *SerializationError, without a message when the body is no such map; the struct is
// then half filled.
func DecodeCBOR(body []byte, into any) error {
	v := reflect.ValueOf(into).Elem()
	members := planOf(v.Type())
	check := cbor.NewReader(body)
	if !check.Skip(maxDepth) || !check.AtEnd() {
		return &SerializationError{}
	}
	d := cborDecoder{Reader: cbor.NewReader(body)}
	d.SkipTags()
	if d.Kind() != cbor.Map {
		return &SerializationError{}
	}
	return d.structure(members, v)
}

// cborDecoder fills values from a body that Skip has accepted as a whole, so that what the reader
// returns needs no checks besides its kind.
type cborDecoder struct {
	cbor.Reader
	json decoder // for what does not depend on the encoding: the count of elements, the complaints
}

// value reads the next item into v.
func (d *cborDecoder) value(v reflect.Value) error {
	d.SkipTags()
	if d.Null() {
		v.SetZero()
		return nil
	}
	switch t := typeOf(v.Type()); t {
	case typePointer:
		p := reflect.New(v.Type().Elem())
		v.Set(p)
		return d.value(p.Elem())
	case typeStructure:
		if d.Kind() != cbor.Map {
			return d.mismatch(t)
		}
		v.SetZero()
		return d.structure(planOf(v.Type()), v)
	case typeList:
		return d.list(v)
	case typeMap:
		return d.stringMap(v)
	default:
		return d.scalar(t, v)
	}
}

func (d *cborDecoder) structure(p *plan, v reflect.Value) error {
	for left, _ := d.Map(); d.More(&left); {
		name, _ := d.Text()
		m := p.byName[string(name)]
		if m == nil {
			d.Skip(maxDepth)
			continue
		}
		if err := d.value(v.FieldByIndex(m.index)); err != nil {
			return err
		}
	}
	return nil
}

func (d *cborDecoder) list(v reflect.Value) error {
	if d.Kind() != cbor.Array {
		return d.mismatch(typeList)
	}
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	left, _ := d.Array()
	for n := 0; d.More(&left); n++ {
		if err := d.json.countElement(); err != nil {
			return err
		}
		if n == v.Cap() {
			v.Grow(1)
		}
		v.SetLen(n + 1)
		if err := d.value(v.Index(n)); err != nil {
			return err
		}
	}
	return nil
}

func (d *cborDecoder) stringMap(v reflect.Value) error {
	if d.Kind() != cbor.Map {
		return d.mismatch(typeMap)
	}
	v.Set(reflect.MakeMap(v.Type()))
	for left, _ := d.Map(); d.More(&left); {
		if err := d.json.countElement(); err != nil {
			return err
		}
		name, _ := d.Text()
		key := reflect.ValueOf(string(name))
		d.SkipTags()
		if d.Null() {
			v.SetMapIndex(key, reflect.Value{}) // takes away an earlier entry of this name
			continue
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		if err := d.value(elem); err != nil {
			return err
		}
		v.SetMapIndex(key, elem)
	}
	return nil
}

// scalar reads a string, number or boolean into v, whose type is t.
func (d *cborDecoder) scalar(t wireType, v reflect.Value) error {
	switch kind := d.Kind(); {
	case kind == cbor.Text && t == typeString:
		text, _ := d.Text()
		v.SetString(string(text))
	case kind == cbor.Bytes && t == typeBlob:
		data, _ := d.Bytes()
		v.SetBytes(append([]byte{}, data...))
	case kind == cbor.Bool && t == typeBoolean:
		value, _ := d.Bool()
		v.SetBool(value)
	case kind == cbor.Integer || kind == cbor.Float:
		return d.number(t, v)
	default:
		return d.mismatch(t)
	}
	return nil
}

func (d *cborDecoder) number(t wireType, v reflect.Value) error {
	at := d.Reader
	n, _ := d.Number()
	if n.IsNaN() {
		return &SerializationError{"NaN can not be converted to " + phrases[t]} // the sentence is ours
	}
	switch t {
	case typeInteger:
		v.SetInt(max(math.MinInt32, min(n.Int(), math.MaxInt32)))
	case typeLong:
		v.SetInt(n.Int())
	case typeTimestamp:
		v.SetInt(int64(cborTimestamp(n)))
	case typeDouble:
		v.SetFloat(max(-math.MaxFloat64, min(n.Float(), math.MaxFloat64)))
	default:
		d.Reader = at
		return d.mismatch(t)
	}
	return nil
}

// cborTimestamp reads milliseconds or, from a float that is too small to be meant so, seconds. It
// rounds to milliseconds as parseTimestamp does.
func cborTimestamp(n cbor.Number) Timestamp {
	if !n.IsFloat() {
		return Timestamp(n.Int())
	}
	f := n.Float()
	if math.Abs(f) < 1e11 {
		f *= 1000
	}
	return Timestamp(cbor.ClampInt(math.Round(f)))
}

// mismatch is the complaint about the item that comes next where one of type want belongs: that of
// DecodeJSON about the JSON which stands for the item.
func (d *cborDecoder) mismatch(want wireType) error {
	var found []byte
	switch d.Kind() {
	case cbor.Array:
		found = []byte("[")
	case cbor.Map:
		found = []byte("{")
	case cbor.Bool:
		found = []byte("true")
	case cbor.Integer, cbor.Float:
		found = []byte("0")
	case cbor.Text:
		text, _ := d.Text()
		found = jsonscan.AppendString(nil, text)
	default: // what JSON does not have; the sentences are ours
		phrase := phrases[want]
		if phrase == "" {
			found = []byte("0") // a list, map or structure does not say what it found instead
			break
		}
		class := "simple value"
		if d.Kind() == cbor.Bytes {
			class = "class java.nio.HeapByteBuffer"
		}
		return &SerializationError{class + " can not be converted to " + phrase}
	}
	d.json.cursor = cursor{b: found}
	return d.json.mismatch(want)
}
