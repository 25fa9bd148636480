package objects

import (
	"strings"
	"unicode/utf8"

	"github.com/shardmill/shardmill/internal/errs"
)

const (
	maxKeyBytes     = 1024
	maxUserBytes    = 2048 // names and values of Attributes.User
	maxNameBytes    = 255  // of a file or folder, on every Linux file system
	defaultType     = "application/octet-stream"
	lowerDigits     = "abcdefghijklmnopqrstuvwxyz0123456789"
	bucketNameRules = "use 3 to 63 lower-case letters, digits, dots and hyphens, with a letter or digit at both ends and no two dots in a row"
)

// CheckBucket applies S3's rules for the names of new buckets. None of them begins with a dot,
// which keeps buckets apart from a Dir's own folders.
func CheckBucket(name string) error {
	ok := len(name) >= 3 && len(name) <= 63 && strings.Trim(name, lowerDigits+"-.") == "" && !strings.Contains(name, "..") &&
		strings.ContainsRune(lowerDigits, rune(name[0])) && strings.ContainsRune(lowerDigits, rune(name[len(name)-1]))
	if !ok {
		return errs.New(errs.Invalid, "%.80q is no bucket name: %s", name, bucketNameRules)
	}
	return nil
}

func checkKey(key string) error {
	switch {
	case key == "":
		return errs.New(errs.Invalid, "an object's key is empty; give it 1 to %d bytes", maxKeyBytes)
	case len(key) > maxKeyBytes:
		return errs.New(errs.Invalid, "the key %.60q… has %d bytes, the limit is %d", key, len(key), maxKeyBytes)
	case !utf8.ValidString(key):
		return errs.New(errs.Invalid, "the key %q is not UTF-8", key)
	case strings.ContainsRune(key, 0):
		return errs.New(errs.Invalid, "the key %q contains a NUL, which no store keeps", key)
	}
	return nil
}

func checkNames(bucket, key string) error {
	if err := CheckBucket(bucket); err != nil {
		return err
	}
	return checkKey(key)
}

func checkPut(bucket, key string, size int64, m Attributes) error {
	if err := checkNames(bucket, key); err != nil {
		return err
	}
	if size < 0 {
		return errs.New(errs.Invalid, "the object %s cannot have %d bytes", key, size)
	}
	return checkAttributes(m)
}

// checkAttributes refuses what cannot travel in headers.
func checkAttributes(m Attributes) error {
	values := map[string]string{"content type": m.ContentType, "content encoding": m.ContentEncoding}
	total := 0
	for name, value := range m.User {
		total += len(name) + len(value)
		if name == "" || strings.Trim(name, lowerDigits+"-_") != "" {
			return errs.New(errs.Invalid, "%q cannot name user metadata: use lower-case letters, digits, hyphens and underscores", name)
		}
		values["value of the user metadata "+name] = value
	}
	if total > maxUserBytes {
		return errs.New(errs.Invalid, "the object's user metadata has %d bytes, the limit is %d", total, maxUserBytes)
	}
	for what, value := range values {
		if strings.TrimSpace(value) != value || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			return errs.New(errs.Invalid, "the %s %q cannot be a header: use visible ASCII, with no blank at either end", what, value)
		}
	}
	return nil
}
