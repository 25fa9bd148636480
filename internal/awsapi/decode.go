package awsapi

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"

	"github.com/shardmill/shardmill/internal/awsapi/jsonscan"
)

// SerializationError says that a body could not be read into an operation's input. Message is
// AWS's sentence; it is empty when the body is no JSON object at all, and AWS then sends none.
type SerializationError struct{ Message string }

func (e *SerializationError) Error() string {
	if e.Message == "" {
		return "the request body is not a JSON object"
	}
	return e.Message
}

// DecodeJSON reads the body of a JSON 1.1 request into the struct that into points to. The body
// is only read, and nothing in the struct aliases it.
//
// The struct's exported fields name AWS's members and their types give the members' types:
//
//	*string *bool *int32 *int64 *float64 *Timestamp *struct   scalars and structures; nil is absent
//	[]byte []string []struct … map[string]string              nil is absent, an empty one was given
//	string bool int32 int64 float64 Timestamp struct          where absent and zero mean the same
//
// Embedded structs lend their fields to the outer one. Any other type is a mistake of the program,
// and a panic.
//
// It reads as AWS does: member names are case-sensitive, unknown members are ignored, null is
// absent, the last of equal members wins, fractions of integers are cut off and integers beyond
// their type's range become its nearest end. A null in a list is the element's zero value, for
// Validate to judge; a null in a map is dropped. The whole body has to be strict JSON in UTF-8, no
// deeper than 64 lists and objects; lone surrogate escapes become U+FFFD. A body holds at most 65,536
// list elements and map entries, far above every limit of AWS, so that a body of a few megabytes
// cannot claim hundreds of them in memory.
//
// The error is a *SerializationError; the struct is then half filled.
func DecodeJSON(body []byte, into any) error {
	v := reflect.ValueOf(into).Elem()
	members := planOf(v.Type())
	c := cursor{b: body}
	if c.peek() != '{' || !c.skip(maxDepth) || c.peek() != 0 || c.i != len(body) {
		return &SerializationError{}
	}
	d := decoder{cursor: cursor{b: body}}
	return d.structure(members, v)
}

// decoder fills values from a body that is known to be valid JSON.
type decoder struct {
	cursor
	elements int // list elements and map entries so far
}

const maxElements = 1 << 16

func (d *decoder) countElement() error {
	if d.elements++; d.elements > maxElements {
		return &SerializationError{fmt.Sprintf("The request has more than %d list elements and map entries", maxElements)}
	}
	return nil
}

// value reads the next JSON value into v.
func (d *decoder) value(v reflect.Value) error {
	if d.peek() == 'n' {
		d.skip(maxDepth)
		v.SetZero()
		return nil
	}
	switch t := typeOf(v.Type()); t {
	case typePointer:
		p := reflect.New(v.Type().Elem())
		v.Set(p)
		return d.value(p.Elem())
	case typeStructure:
		if d.peek() != '{' {
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

func (d *decoder) structure(p *plan, v reflect.Value) error {
	return d.object(func(name []byte) error {
		m := p.byName[string(name)]
		if m == nil {
			d.skip(maxDepth)
			return nil
		}
		return d.value(v.FieldByIndex(m.index))
	})
}

func (d *decoder) list(v reflect.Value) error {
	if d.peek() != '[' {
		return d.mismatch(typeList)
	}
	d.i++
	v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	for n := 0; ; n++ {
		switch d.peek() {
		case ']':
			d.i++
			return nil
		case ',':
			d.i++
		}
		if err := d.countElement(); err != nil {
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
}

func (d *decoder) stringMap(v reflect.Value) error {
	if d.peek() != '{' {
		return d.mismatch(typeMap)
	}
	v.Set(reflect.MakeMap(v.Type()))
	return d.object(func(name []byte) error {
		if err := d.countElement(); err != nil {
			return err
		}
		key := reflect.ValueOf(string(name))
		if d.peek() == 'n' {
			d.skip(maxDepth)
			v.SetMapIndex(key, reflect.Value{}) // takes away an earlier entry of this name
			return nil
		}
		elem := reflect.New(v.Type().Elem()).Elem()
		err := d.value(elem)
		v.SetMapIndex(key, elem)
		return err
	})
}

// object calls member for each name of the object that comes next, before the member's value.
func (d *decoder) object(member func(name []byte) error) error {
	d.take('{')
	for !d.take('}') {
		d.take(',')
		name := d.text()
		d.take(':')
		if err := member(name); err != nil {
			return err
		}
	}
	return nil
}

// scalar reads a string, number or boolean into v, whose type is t.
func (d *decoder) scalar(t wireType, v reflect.Value) error {
	c := d.peek()
	switch {
	case c == '"' && t == typeString:
		v.SetString(string(d.text()))
	case c == '"' && t == typeBlob:
		data, fault := jsonscan.DecodeBase64(d.text())
		if fault != "" {
			return &SerializationError{fault}
		}
		v.SetBytes(data)
	case (c == 't' || c == 'f') && t == typeBoolean:
		v.SetBool(c == 't')
		d.skip(maxDepth)
	case c != '-' && (c < '0' || c > '9'):
		return d.mismatch(t)
	case t == typeInteger:
		v.SetInt(parseInteger(d.number(), 32))
	case t == typeLong:
		v.SetInt(parseInteger(d.number(), 64))
	case t == typeTimestamp:
		v.SetInt(int64(parseTimestamp(d.number())))
	case t == typeDouble:
		f, _ := strconv.ParseFloat(d.number(), 64)
		v.SetFloat(max(-math.MaxFloat64, min(f, math.MaxFloat64)))
	default:
		return d.mismatch(t)
	}
	return nil
}

// mismatch is AWS's complaint about the value that comes next where one of type want belongs.
func (d *decoder) mismatch(want wireType) error {
	c := d.peek()
	switch {
	case c == '[':
		return &SerializationError{"Start of list found where not expected"}
	case c == '{':
		return &SerializationError{"Start of structure or map found where not expected."}
	case want == typeList:
		return &SerializationError{"Expected list or null"}
	case want == typeMap:
		return &SerializationError{"Expected map or null"}
	case want == typeStructure:
		return &SerializationError{"Expected null"}
	case want == typeBoolean && c == '"':
		return &SerializationError{"'" + strings.ToUpper(string(d.text())) + "' can not be converted to an Boolean"}
	}
	class := "com.amazon.coral.value.json.numbers.TruncatingBigNumber"
	switch c {
	case '"':
		class = "java.lang.String"
	case 't', 'f':
		class = "java.lang.Boolean"
	}
	return &SerializationError{"class " + class + " can not be converted to " + phrases[want]}
}

// phrases name the target of a conversion; the articles are AWS's.
var phrases = map[wireType]string{
	typeString:    "an String",
	typeBoolean:   "an Boolean",
	typeInteger:   "an Integer",
	typeLong:      "an Long",
	typeDouble:    "an Double",
	typeBlob:      "a Blob",
	typeTimestamp: "milliseconds since epoch",
}

// parseInteger reads a JSON number as an integer of 32 or 64 bits: the fraction is cut off, and a
// number out of range becomes the end of the range next to it.
func parseInteger(number string, bits int) int64 {
	if strings.ContainsAny(number, "eE") {
		f, _ := strconv.ParseFloat(number, 64)             // out of range is ±Inf,
		f = max(-math.MaxFloat64, min(f, math.MaxFloat64)) // which has no digits
		number = strconv.FormatFloat(f, 'f', -1, 64)
	}
	whole, _, _ := strings.Cut(number, ".")
	n, _ := strconv.ParseInt(whole, 10, bits) // out of range is the nearest end, which is what we want
	return n
}
