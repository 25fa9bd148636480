package lambdaevent

import (
	"encoding/base64"
	"encoding/json"
)

// object is a JSON object. Unlike a struct of encoding/json it tells names apart by case.
type object map[string]json.RawMessage

// parseObject is nil if raw is no object.
func parseObject(raw []byte) object {
	var o object
	if json.Unmarshal(raw, &o) != nil {
		return nil
	}
	return o
}

// parseString accepts nothing but a string.
func parseString(raw []byte) (string, bool) {
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", false
	}
	return s, true
}

// absent reports whether a member was not given, or null.
func absent(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// decode reads any response with encoding/json.
func (r *Response) decode(payload []byte) Fault {
	if !json.Valid(payload) {
		return NotJSON
	}
	var records []json.RawMessage
	if raw := parseObject(payload)["records"]; absent(raw) || json.Unmarshal(raw, &records) != nil {
		return NoRecords
	}
	for _, raw := range records {
		o := parseObject(raw)
		id, ok := parseString(o["recordId"])
		if !ok {
			r.Skipped++
			continue
		}
		p := parts{answer: Answer{RecordID: id}}
		p.result, _ = parseString(o["result"])
		p.badData = !r.decodeData(&p.answer, o["data"])
		p.badMetadata = !p.answer.decodeMetadata(o["metadata"])
		r.add(&p)
	}
	return NoFault
}

func (r *Response) decodeData(a *Answer, raw json.RawMessage) bool {
	if absent(raw) {
		return true
	}
	s, ok := parseString(raw)
	if !ok {
		return false
	}
	data, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return false
	}
	a.Data = r.keep(data)
	return true
}

// decodeMetadata reads all that is right and reports whether all is.
func (a *Answer) decodeMetadata(raw json.RawMessage) bool {
	if absent(raw) {
		return true
	}
	o := parseObject(raw)
	if o == nil {
		return false
	}
	keys, route := a.decodeKeys(o["partitionKeys"]), a.Route.decode(o["otfMetadata"])
	return keys && route
}

func (a *Answer) decodeKeys(raw json.RawMessage) bool {
	if absent(raw) {
		return true
	}
	o := parseObject(raw)
	ok := o != nil
	for name, value := range o {
		switch value[0] {
		case '"':
			s, _ := parseString(value)
			a.setKey(name, s)
		case 'n': // null
		case '{', '[':
			ok = false
		default:
			a.setKey(name, string(value))
		}
	}
	return ok
}

func (r *Route) decode(raw json.RawMessage) bool {
	if absent(raw) {
		return true
	}
	o := parseObject(raw)
	ok := o != nil
	for name, to := range map[string]*string{"destinationDatabaseName": &r.Database, "destinationTableName": &r.Table, "operation": &r.Operation} {
		if absent(o[name]) {
			continue
		}
		s, isString := parseString(o[name])
		*to = s
		ok = ok && isString
	}
	return ok
}
