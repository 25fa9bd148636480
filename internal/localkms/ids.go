package localkms

import (
	"regexp"
	"strings"

	"github.com/shardmill/shardmill/internal/errs"
)

// name is what a key is called: a key id (1234abcd-12ab-34cd-56ef-1234567890ab, or mrk- and 32
// hexadecimal digits) or an alias (alias/orders) in an account and region.
type name struct{ account, region, local string }

// String is the name as an ARN.
func (n name) String() string {
	if strings.HasPrefix(n.local, "alias/") {
		return "arn:aws:kms:" + n.region + ":" + n.account + ":" + n.local
	}
	return "arn:aws:kms:" + n.region + ":" + n.account + ":key/" + n.local
}

var (
	idPattern    = regexp.MustCompile(`^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|mrk-[0-9a-f]{32})$`)
	aliasPattern = regexp.MustCompile(`^alias/[a-zA-Z0-9/_-]{1,250}$`)
	arnPattern   = regexp.MustCompile(`^arn:aws[a-z-]*:kms:([a-z0-9-]+):([0-9]{12}):(?:key/([0-9a-f-]{36}|mrk-[0-9a-f]{32})|(alias/[a-zA-Z0-9/_-]{1,250}))$`)
)

// parseID reads the four forms in which a request of an account in a region names a key: key id,
// key ARN, alias, alias ARN. The sentences are ours: AWS's are not known.
func parseID(account, region, id string) (name, error) {
	if n, ok := parseARN(id); ok {
		switch {
		case n.region != region:
			return name{}, errs.New(errs.KeyMissing, "Key %s is not in region %s.", id, region)
		case n.account != account:
			return name{}, errs.New(errs.KeyDenied, "Key %s belongs to another account: streams of account %s can only be encrypted with its own keys.", id, account)
		}
		return n, nil
	}
	if !isLocal(id) {
		return name{}, errs.New(errs.KeyMissing, "Invalid keyId %s: it is neither a key id, nor an alias that begins with alias/, nor the ARN of one of them.", id)
	}
	return name{account, region, id}, nil
}

func isLocal(id string) bool { return idPattern.MatchString(id) || aliasPattern.MatchString(id) }

func parseARN(arn string) (name, bool) {
	m := arnPattern.FindStringSubmatch(arn)
	if m == nil || m[3] != "" && !idPattern.MatchString(m[3]) {
		return name{}, false
	}
	return name{m[2], m[1], m[3] + m[4]}, true
}
