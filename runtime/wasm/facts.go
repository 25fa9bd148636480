package wasm

import (
	"encoding/binary"
	"strconv"

	"github.com/shardmill/shardmill/runtime"
)

// Facts travel ahead of every batch or event: u32 length of the block, then entries
// { u32 keyLen, key, u32 valueLen, value }. The guest reads them as shardmill.config keys that
// start with "invocation."; the worker looks them up only when asked.
const factsPrefix = "invocation."

type fact struct{ key, value string }

// invocationFacts lists what a guest may ask about the invocation under way.
func invocationFacts(dst []fact, in *runtime.Invocation, deadlineMs int64) []fact {
	return append(dst[:0],
		fact{"id", in.RequestID},
		fact{"functionArn", in.FunctionARN},
		fact{"deadlineMs", strconv.FormatInt(deadlineMs, 10)},
	)
}

func factsSize(facts []fact) int {
	n := 4
	for _, f := range facts {
		n += 8 + len(f.key) + len(f.value)
	}
	return n
}

func appendFacts(b []byte, facts []fact) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(factsSize(facts)-4))
	for _, f := range facts {
		b = append(le.AppendUint32(b, uint32(len(f.key))), f.key...)
		b = append(le.AppendUint32(b, uint32(len(f.value))), f.value...)
	}
	return b
}

// cutFacts splits an INVOKE payload. The host wrote it, so it is well-formed.
func cutFacts(payload []byte) (facts, rest []byte) {
	n := 4 + binary.LittleEndian.Uint32(payload)
	return payload[4:n], payload[n:]
}

// lookFact finds a fact by its key without the prefix. Empty facts count as absent.
func lookFact(facts []byte, key string) ([]byte, bool) {
	next := func() []byte {
		n := binary.LittleEndian.Uint32(facts)
		v := facts[4 : 4+n]
		facts = facts[4+n:]
		return v
	}
	for len(facts) > 0 {
		k, v := next(), next()
		if string(k) == key {
			return v, len(v) > 0
		}
	}
	return nil, false
}
