package sigv4

import "sync"

// generationSize bounds a keyCache at twice as many keys, below 1 MiB.
const generationSize = 1024

// keyCache remembers signing keys, which take four HMACs to derive and are good for a day. The
// secret is part of what they are found by, so that a new secret of an access key counts at once.
//
// It has two generations. When the young one is full it becomes the old one, and what was not used
// since the last time is gone.
type keyCache struct {
	mu         sync.Mutex
	young, old map[cacheKey][]byte
}

type cacheKey struct {
	Scope
	secret string
}

// get is the signing key of a secret for a scope. It must not be changed.
func (c *keyCache) get(s Scope, secret string) []byte {
	k := cacheKey{s, secret}
	c.mu.Lock()
	key, found := c.young[k]
	if !found {
		if key, found = c.old[k]; found {
			c.put(k, key)
		}
	}
	c.mu.Unlock()
	if found {
		return key
	}
	key = signingKey(secret, s.Date, s.Region, s.Service)
	c.mu.Lock()
	c.put(k, key)
	c.mu.Unlock()
	return key
}

func (c *keyCache) put(k cacheKey, key []byte) {
	if c.young == nil || len(c.young) >= generationSize {
		c.young, c.old = make(map[cacheKey][]byte), c.young
	}
	c.young[k] = key
}
