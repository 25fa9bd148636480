package host

import (
	"crypto/rand"
	"sync"

	"github.com/shardmill/shardmill/internal/sigv4"
	"github.com/shardmill/shardmill/runtime"
	"github.com/shardmill/shardmill/runtime/lambda"
)

// issuedKeys are the keys that functions sign with when they call this host. Each version of a
// function gets its own when it is loaded, of the account that the function belongs to; it is good
// until the version is closed, and never written down. The zero value is ready.
type issuedKeys struct {
	mu   sync.RWMutex
	keys map[string]sigv4.Key
}

// issue makes a key that looks like a temporary one of AWS's.
func (k *issuedKeys) issue(a runtime.Artifact) (lambda.Credentials, func()) {
	c := lambda.Credentials{AccessKeyID: "ASIA" + rand.Text()[:16], SecretAccessKey: rand.Text() + rand.Text(), SessionToken: rand.Text() + rand.Text()}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.keys == nil {
		k.keys = make(map[string]sigv4.Key)
	}
	k.keys[c.AccessKeyID] = sigv4.Key{Secret: c.SecretAccessKey, SessionToken: c.SessionToken, Account: a.Account}
	return c, func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		delete(k.keys, c.AccessKeyID)
	}
}

func (k *issuedKeys) find(accessKey string) (sigv4.Key, bool) {
	k.mu.RLock()
	defer k.mu.RUnlock()
	key, found := k.keys[accessKey]
	return key, found
}

// callers are all keys that may call the API, nil when none is needed: those of users, who come
// first, and those of functions.
func (h *Host) callers() sigv4.Keys {
	if h.keys == nil {
		return nil
	}
	return bothKeys{h.keys, &h.issued}
}

type bothKeys struct {
	users     sigv4.Keys
	functions *issuedKeys
}

func (b bothKeys) Lookup(accessKey string) (sigv4.Key, bool) {
	if key, found := b.users.Lookup(accessKey); found {
		return key, true
	}
	return b.functions.find(accessKey)
}
