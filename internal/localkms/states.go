package localkms

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/shardmill/shardmill/internal/errs"
)

// The file of states says what is wrong with keys, by the names that requests give them. A key id or
// an alias stands for that key in every account and region, an ARN for one key:
//
//	keys:
//	  - {key: alias/orders, state: disabled}
//	  - {key: "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab", state: missing}
//
// It is looked at when a key is used, at most once a second. A file that has become wrong is told
// once and changes nothing: the states from before stay until it is right again.

// state is a state of a key: what using it fails with.
type state struct {
	kind     errs.Kind
	sentence string // AWS's are not known
}

var stateNames = []string{"enabled", "disabled", "denied", "missing", "pending-deletion", "opt-in-required", "throttled"}

var stateOf = map[string]state{
	"enabled":          {},
	"disabled":         {errs.KeyDisabled, "is disabled."},
	"denied":           {errs.KeyDenied, "may not be used by this account."},
	"missing":          {errs.KeyMissing, "does not exist."},
	"pending-deletion": {errs.KeyState, "is pending deletion."},
	"opt-in-required":  {errs.KeyOptIn, "cannot be used: the account has no subscription to the key service."},
	"throttled":        {errs.KeyThrottled, "is asked for too often."},
}

// lookInterval is the least time between two looks at the file.
const lookInterval = time.Second

// states is an open file of states. The nil states has no state: every key is enabled.
type states struct {
	path   string
	events Events
	opened time.Time
	now    atomic.Pointer[map[name]state] // without account and region: of every one
	next   atomic.Int64                   // when to look again: a time.Duration since opened
	mu     sync.Mutex                     // held by who looks
	text   []byte                         // of the last look
	failed string                         // why it could not be read then
}

func openStates(path string, e Events) (*states, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "the file of key states cannot be read")
	}
	marked, err := parseStates(path, text)
	if err != nil {
		return nil, err
	}
	s := &states{path: path, events: e, opened: time.Now(), text: text}
	s.now.Store(&marked)
	s.next.Store(int64(lookInterval))
	return s, nil
}

// of is what keeps a key from being used, nil if nothing does.
func (s *states) of(n name) error {
	if s == nil {
		return nil
	}
	if int64(time.Since(s.opened)) >= s.next.Load() && s.mu.TryLock() {
		s.look()
		s.next.Store(int64(time.Since(s.opened) + lookInterval))
		s.mu.Unlock()
	}
	marked := *s.now.Load()
	st, ok := marked[n]
	if !ok {
		st = marked[name{local: n.local}]
	}
	if st.sentence == "" {
		return nil
	}
	return errs.New(st.kind, "Key %s %s", n, st.sentence)
}

// look reads the file again if it has changed. Texts are compared, not times: a file may change
// twice within what a file system's clock can tell.
func (s *states) look() {
	text, err := os.ReadFile(s.path)
	failed := ""
	if err != nil {
		failed = err.Error()
	}
	if failed == s.failed && bytes.Equal(text, s.text) {
		return
	}
	s.text, s.failed = text, failed
	var marked map[name]state
	if err == nil {
		marked, err = parseStates(s.path, text)
	}
	if err != nil {
		if s.events.Failed != nil {
			s.events.Failed(errs.Wrap(errs.Invalid, err, "%s has changed and is wrong: the states from before stay in use until it is right", s.path))
		}
		return
	}
	s.now.Store(&marked)
	if s.events.Reloaded != nil {
		s.events.Reloaded(len(marked))
	}
}

// parseStates reads the text of a file of states. All faults are told at once, each with its line.
func parseStates(path string, text []byte) (map[name]state, error) {
	var file struct {
		Keys []struct{ Key, State yaml.Node }
	}
	out := make(map[name]state)
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&file); errors.Is(err, io.EOF) {
		return out, nil // nothing but comments: no key is marked
	} else if err != nil {
		return nil, errs.New(errs.Invalid, "%s: %s; it is a list named keys of entries such as {key: alias/orders, state: disabled}", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errs.New(errs.Invalid, "%s has more than one YAML document: leave one", path)
	}
	var faults []error
	bad := func(n yaml.Node, format string, args ...any) {
		faults = append(faults, errs.New(errs.Invalid, "%s:%d: "+format, append([]any{path, n.Line}, args...)...))
	}
	for i, e := range file.Keys {
		if e.Key.IsZero() || e.State.IsZero() {
			faults = append(faults, errs.New(errs.Invalid, "%s: entry %d of keys needs both key and state", path, i+1))
			continue
		}
		n, known := parseARN(e.Key.Value)
		if !known && isLocal(e.Key.Value) {
			n, known = name{local: e.Key.Value}, true
		}
		st, ok := stateOf[e.State.Value]
		_, twice := out[n]
		switch {
		case !known:
			bad(e.Key, "%q is not a key id, nor an alias that begins with alias/, nor the ARN of one of them", e.Key.Value)
		case twice:
			bad(e.Key, "key %s has a state already: leave one", e.Key.Value)
		case !ok:
			bad(e.State, "%q is none of the states %s", e.State.Value, strings.Join(stateNames, ", "))
		default:
			out[n] = st
		}
	}
	return out, errors.Join(faults...)
}
