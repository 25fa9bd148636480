// Package errs is the vocabulary of failure that every room of shardmill shares.
//
// A room says what kind of thing went wrong (NotFound, Invalid, Throttled …) and writes one
// sentence for a person. It knows nothing of wire protocols: only package awsapi turns a kind
// into the name that a service gives it (NotFound is ResourceNotFoundException in Kinesis).
// An error without a kind is Internal: logged in full, shown to callers as one sentence.
package errs

import (
	"errors"
	"fmt"
)

// Kind classifies an error by what the caller can do about it.
type Kind uint8

const (
	Internal    Kind = iota // a fault of ours; the text is for the log only
	Invalid                 // the request can never work as it is
	NotFound                // the thing named does not exist
	InUse                   // the thing named exists already, or is busy
	Limit                   // a quota of the account or the host
	Throttled               // nothing was done; the same request may work later
	Expired                 // an iterator or a token outlived its time
	Denied                  // the caller may not do this
	Unavailable             // nothing was done: the store is full, fenced or closing
	Unknown                 // the outcome is not known: it may have happened, or may still
	Conflict                // a compare-and-set lost against another writer

	// What keeps an encryption key from being used. The data are there; the same request works when
	// the key does.
	KeyMissing   // there is no such key
	KeyDisabled  // it is switched off
	KeyDenied    // the caller may not use it
	KeyState     // its state does not allow it: it waits for its deletion
	KeyOptIn     // the account has not subscribed to the key service
	KeyThrottled // the key service is asked too often
)

var kindNames = [...]string{"internal", "invalid", "not found", "in use", "limit", "throttled",
	"expired", "denied", "unavailable", "outcome unknown", "conflict",
	"key missing", "key disabled", "key denied", "key in the wrong state", "key service not subscribed to", "key throttled"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// Error is an error of a known kind. Msg is one sentence that names the input at fault and, where
// there is one, the remedy; it is sent to callers as it stands unless Kind is Internal.
type Error struct {
	Kind Kind
	Msg  string
	Err  error // the cause, for the log; may be nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Msg
	}
	return e.Msg + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// New makes an error of kind k whose sentence is built as by fmt.Sprintf. A final %w is not
// special: use Wrap to keep a cause.
func New(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Msg: fmt.Sprintf(format, args...)}
}

// Wrap is New with a cause.
func Wrap(k Kind, err error, format string, args ...any) *Error {
	return &Error{Kind: k, Msg: fmt.Sprintf(format, args...), Err: err}
}

// KindOf is the kind of the outermost *Error in err's chain, Internal when there is none.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// IsKey reports whether err is about an encryption key.
func IsKey(err error) bool {
	k := KindOf(err)
	return k >= KeyMissing && k <= KeyThrottled
}

// Is reports whether err is of kind k. A nil error is of no kind.
func Is(err error, k Kind) bool { return err != nil && KindOf(err) == k }
