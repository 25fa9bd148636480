package wasm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/shardmill/shardmill/runtime"
)

// A function's state is one document, so that what an invocation writes lasts as a whole or not at
// all, and so that a change by somebody else is seen by its revision alone. Its form, number 1:
//
//	u8 1, then for every key in order { u32 n, key, u32 n, value }
//
// An absent or empty document has no keys.
const (
	stateVersion  = 1
	maxStateKey   = 256
	maxStateBytes = 64 << 10 // keys, values and 8 bytes for each pair
)

// stateView is the document as an invocation saw it.
type stateView struct {
	loaded bool
	doc    []byte
	rev    uint64
}

type stateEntry struct {
	key   string
	value []byte
}

func parseState(doc []byte) (map[string][]byte, error) {
	m := map[string][]byte{}
	if len(doc) == 0 {
		return m, nil
	}
	if doc[0] != stateVersion {
		return nil, fmt.Errorf("the state document has the form %d, this version of shardmill knows %d", doc[0], stateVersion)
	}
	c := cutter{b: doc[1:]}
	last := ""
	for len(c.b) > 0 {
		key, value := string(c.bytes()), c.bytes()
		if c.err != nil || key <= last || len(value) == 0 {
			return nil, errors.New("the state document is damaged")
		}
		m[key], last = value, key
	}
	return m, nil
}

// appendState is the inverse of parseState.
func appendState(b []byte, m map[string][]byte) []byte {
	if len(m) == 0 {
		return b
	}
	b = append(b, stateVersion)
	for _, key := range slices.Sorted(maps.Keys(m)) {
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(key))), key...)
		b = append(binary.LittleEndian.AppendUint32(b, uint32(len(m[key]))), m[key]...)
	}
	return b
}

func stateSize(m map[string][]byte) (n int) {
	for k, v := range m {
		n += 8 + len(k) + len(v)
	}
	return n
}

// applyState is the document with a worker's changes.
func applyState(doc []byte, changes []stateEntry) ([]byte, error) {
	m, err := parseState(doc)
	if err != nil {
		return nil, err
	}
	for _, e := range changes {
		if len(e.key) == 0 || len(e.key) > maxStateKey {
			return nil, errors.New("the worker wrote a state key that is empty or too long")
		}
		if len(e.value) == 0 {
			delete(m, e.key)
		} else {
			m[e.key] = e.value
		}
	}
	if stateSize(m) > maxStateBytes {
		return nil, errors.New("the worker wrote more state than it may")
	}
	return appendState(nil, m), nil
}

// series counts the metric series of a function, so that a label with ever new values does not
// fill the host.
type series struct {
	mu    sync.Mutex
	known map[string]bool
	full  bool // it was said that there are too many
}

// tell hands metrics on, as long as there are not too many series.
func (s *series) tell(function string, to runtime.Events, metrics []runtime.Metric) {
	for _, m := range metrics {
		if !s.admit(m) {
			if to.Log != nil && s.first() {
				to.Log(function, "", fmt.Sprintf("WARN the metric %s and further new ones are dropped: a function may have %d series, and every combination of label values is one", m.Name, maxMetrics))
			}
			continue
		}
		if to.Metric != nil {
			to.Metric(function, m)
		}
	}
}

func (s *series) admit(m runtime.Metric) bool {
	key := m.Name
	for _, l := range m.Labels {
		key += "\x00" + l.Name + "\x00" + l.Value
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.known[key]:
	case len(s.known) >= maxMetrics:
		return false
	case s.known == nil:
		s.known = map[string]bool{}
		fallthrough
	default:
		s.known[key] = true
	}
	return true
}

func (s *series) first() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.full
	s.full = true
	return first
}
