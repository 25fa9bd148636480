package awsapi

import (
	"fmt"
	"reflect"
	"sync"
	"unicode"
	"unicode/utf8"
)

// wireType is the type of a member in AWS's model.
type wireType uint8

const (
	typeUnsupported wireType = iota
	typeString
	typeBoolean
	typeInteger
	typeLong
	typeDouble
	typeBlob
	typeTimestamp
	typeList
	typeMap
	typeStructure
	typePointer // Go's: a member of the pointed-to type that may be absent
)

// typeOf is the wire type that Go type t stands for.
func typeOf(t reflect.Type) wireType {
	if t == reflect.TypeFor[Timestamp]() {
		return typeTimestamp
	}
	switch t.Kind() {
	case reflect.String:
		return typeString
	case reflect.Bool:
		return typeBoolean
	case reflect.Int32:
		return typeInteger
	case reflect.Int64:
		return typeLong
	case reflect.Float64:
		return typeDouble
	case reflect.Struct:
		return typeStructure
	case reflect.Pointer:
		return typePointer
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return typeBlob
		}
		return typeList
	case reflect.Map:
		if t.Key() == reflect.TypeFor[string]() && t.Elem() == reflect.TypeFor[string]() {
			return typeMap
		}
	}
	return typeUnsupported
}

// plan is what the codecs and Validate know of a struct type.
type plan struct {
	members []*member // in the order of the fields
	byName  map[string]*member
}

// member is one member of a structure.
type member struct {
	name     string // StreamName
	path     string // streamName, as validation sentences write it
	index    []int  // for reflect.Value.FieldByIndex
	required bool
	own      constraint // on the value itself
	inner    []inner    // on the strings inside a list or a map
}

// plans remembers planOf by type; it holds nothing that could not be computed again.
var plans sync.Map // reflect.Type -> *plan

// planOf returns the plan of struct type t. It panics if a field of t, or of a struct within, has
// a type or a tag that it does not know, so a first call at start finds every such mistake.
func planOf(t reflect.Type) *plan {
	if p, ok := plans.Load(t); ok {
		return p.(*plan)
	}
	p := &plan{byName: map[string]*member{}}
	p.addFields(t, nil)
	if len(p.members) == 0 && t.NumField() > 0 { // such as time.Time
		panic(fmt.Sprintf("awsapi: struct %s has no exported field and stands for no AWS type; see DecodeJSON for those that do", t))
	}
	plans.Store(t, p) // before the inner types, which may lead back to t
	for _, m := range p.members {
		if s := structWithin(t.FieldByIndex(m.index).Type); s != nil {
			planOf(s)
		}
	}
	return p
}

func (p *plan) addFields(t reflect.Type, index []int) {
	for i := range t.NumField() {
		f := t.Field(i)
		at := append(index[:len(index):len(index)], i)
		switch {
		case f.Anonymous && f.Type.Kind() == reflect.Struct:
			p.addFields(f.Type, at)
		case f.IsExported():
			checkType(t, f, f.Type)
			m := newMember(t, f, at)
			p.members = append(p.members, m)
			p.byName[m.name] = m
		}
	}
}

// checkType panics unless ft, the type of field f of struct t or a part of it, is supported.
func checkType(t reflect.Type, f reflect.StructField, ft reflect.Type) {
	switch typeOf(ft) {
	case typeUnsupported:
		panic(fmt.Sprintf("awsapi: field %s of %s: type %s stands for no AWS type; see DecodeJSON for those that do", f.Name, t, f.Type))
	case typePointer, typeList:
		checkType(t, f, ft.Elem())
	}
}

// structWithin is the struct type that t is, points to or lists; nil if none.
func structWithin(t reflect.Type) reflect.Type {
	for {
		switch typeOf(t) {
		case typePointer, typeList:
			t = t.Elem()
		case typeStructure:
			return t
		default:
			return nil
		}
	}
}

// lowerFirst makes a member's path out of its name: StreamARN is streamARN.
func lowerFirst(name string) string {
	r, n := utf8.DecodeRuneInString(name)
	return string(unicode.ToLower(r)) + name[n:]
}
