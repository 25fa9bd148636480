// The native batch guest of the conformance kit (../../README.md), with sdk/go.
package main

import (
	"bytes"
	"strconv"

	shardmill "github.com/shardmill/shardmill/sdk/go"
)

func init() { shardmill.Transform(transform) }

func main() {}

func found(r *shardmill.Record, value []byte, ok bool) {
	if !ok {
		value = []byte("absent")
	}
	r.Ok(value)
}

func transform(r *shardmill.Record) {
	if len(r.Data) == 0 {
		r.Ok([]byte("empty"))
		return
	}
	arg := r.Data[1:]
	switch r.Data[0] {
	case '=':
		r.Ok(arg)
	case '2':
		r.Ok(append([]byte("a:"), arg...))
		r.Close(append(append(r.Open(), "b:"...), arg...))
	case 'd':
		r.Drop()
	case 'f':
		r.Fail()
	case 's':
	case 'k':
		r.Ok(arg, "day", "01", "straße", string(arg))
	case 'p':
		found(r, r.PartitionKey(), r.PartitionKey() != nil)
	case 'q':
		found(r, []byte(r.SequenceNumber()), r.SequenceNumber() != "")
	case 't':
		found(r, strconv.AppendInt(nil, r.Arrived(), 10), r.Arrived() != 0)
	case 'c':
		v, ok := shardmill.Config(string(arg))
		found(r, []byte(v), ok)
	case 'l':
		shardmill.Log(shardmill.Warn, string(arg))
		r.Drop()
	case '!':
		shardmill.FailBatch(string(arg))
	case 'x':
		panic("as told")
	case 'n':
		b := r.Open()
		for range 1000 {
			b = append(b, arg...)
		}
		r.Close(b)
	default:
		granted(r, r.Data[0], arg)
	}
}

// granted does what needs grants.
func granted(r *shardmill.Record, command byte, arg []byte) {
	code := func(err error, codes map[string]string) {
		if err == nil {
			r.Ok([]byte("0"))
			return
		}
		r.Ok([]byte(codes[err.Error()[:5]]))
	}
	switch command {
	case 'M':
		shardmill.Metric("seen_total", 1)
		shardmill.Metric(string(arg), 2.5)
		r.Drop()
	case 'g':
		v, ok := shardmill.StateGet(string(arg))
		found(r, v, ok)
	case 'S':
		key, value, _ := bytes.Cut(arg, []byte("="))
		code(shardmill.StatePut(string(key), value), map[string]string{"the s": "1"})
	case 'E':
		part := bytes.SplitN(arg, []byte("|"), 3)
		code(shardmill.Emit(string(part[0]), string(part[1]), part[2]), map[string]string{"the p": "1", "the b": "2"})
	default:
		shardmill.FailBatch("unknown command")
	}
}
