// Package policy reads and evaluates the resource policies that owners attach to streams and their
// consumers to share them with other accounts.
//
// A policy is AWS's: a list of statements, each of which allows or denies principals to do actions on
// a resource. Where one denies, nothing allows; where none allows, the answer is no. What is
// understood is what a host can judge by what it knows of a caller, which is an account:
//
//	Principal   "*", or {"AWS": …} with account ids, arn:aws:iam::ACCOUNT:root and "*"
//	Action      kinesis:NAME, with the wildcards * and ?, in any case; or "*"
//	Resource    ARNs, with the wildcards
//
// What can be shared are the operations on records and those that describe streams and consumers
// (Shareable), as in AWS's guide: a policy that allows kinesis:* lets nobody delete the stream. What is
// denied may be anything.
//
// Everything else that AWS has (Condition, NotAction, NotResource, NotPrincipal, users, roles,
// services) is refused by name when the policy is put: a condition that nobody looks at would share
// more than its author wrote.
package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/shardmill/shardmill/internal/errs"
)

// maxSize is the most that a policy's text may have, in bytes.
const maxSize = 20 << 10

// Policy is a policy that was understood.
type Policy struct{ statements []statement }

type statement struct {
	allow      bool
	principals []string // account ids, or "*"
	actions    []string // lower case
	resources  []string
}

// Decision is what a policy says to a request.
type Decision uint8

const (
	Silent Decision = iota // no statement is about the request
	Allow
	Deny
)

// Shareable are the actions that another account can be allowed.
var Shareable = []string{"kinesis:DescribeStream", "kinesis:DescribeStreamSummary", "kinesis:ListShards", "kinesis:PutRecord", "kinesis:PutRecords",
	"kinesis:GetShardIterator", "kinesis:GetRecords", "kinesis:DescribeStreamConsumer", "kinesis:SubscribeToShard"}

func isShareable(action string) bool {
	return slices.ContainsFunc(Shareable, func(a string) bool { return strings.EqualFold(a, action) })
}

// Decide is what the policy says to an account that wants to do an action (kinesis:PutRecord) on a
// resource.
func (p *Policy) Decide(account, action, resource string) Decision {
	d := Silent
	for i := range p.statements {
		s := &p.statements[i]
		if !s.covers(account, strings.ToLower(action), resource) {
			continue
		}
		if !s.allow {
			return Deny
		}
		if isShareable(action) {
			d = Allow
		}
	}
	return d
}

func (s *statement) covers(account, action, resource string) bool {
	return (slices.Contains(s.principals, account) || slices.Contains(s.principals, "*")) &&
		matchesAny(s.actions, action) && matchesAny(s.resources, resource)
}

func matchesAny(patterns []string, text string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, text) })
}

// matches compares text with a pattern in which * stands for any text and ? for one byte. It goes
// back to the last * alone, so that no pattern takes more than the product of the two lengths.
func matches(pattern, text string) bool {
	p, t, star, mark := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			p++
			t++
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

func refuse(format string, args ...any) error { return errs.New(errs.Invalid, format, args...) }

// Parse reads the text of a policy of a resource. The sentences are ours: AWS's are not known.
func Parse(text, resource string) (*Policy, error) {
	if len(text) > maxSize {
		return nil, refuse("The policy has %d bytes, more than %d.", len(text), maxSize)
	}
	doc, err := object("The policy", []byte(text), "Version", "Id", "Statement")
	if err != nil {
		return nil, err
	}
	version := "2008-10-17" // what AWS takes for a policy without one
	for name, into := range map[string]*string{"Version": &version, "Id": new(string)} {
		if v, ok := doc[name]; ok && json.Unmarshal(v, into) != nil {
			return nil, refuse("The policy's %s is not a string.", name)
		}
	}
	if version != "2012-10-17" && version != "2008-10-17" {
		return nil, refuse("The policy's Version %s is neither 2012-10-17 nor 2008-10-17.", version)
	}
	if doc["Statement"] == nil {
		return nil, refuse("The policy has no Statement.")
	}
	var list []json.RawMessage
	if json.Unmarshal(doc["Statement"], &list) != nil {
		list = []json.RawMessage{doc["Statement"]} // one alone needs no list
	}
	if len(list) == 0 {
		return nil, refuse("The policy has no Statement.")
	}
	p := new(Policy)
	for _, raw := range list {
		s, err := parseStatement(raw, resource)
		if err != nil {
			return nil, err
		}
		p.statements = append(p.statements, s)
	}
	return p, nil
}

func parseStatement(raw json.RawMessage, resource string) (s statement, err error) {
	for _, name := range []string{"Condition", "NotAction", "NotResource", "NotPrincipal"} {
		var members map[string]json.RawMessage
		if json.Unmarshal(raw, &members) == nil && members[name] != nil {
			return s, refuse("%s is not supported: nothing here could evaluate it.", name)
		}
	}
	doc, err := object("A Statement of the policy", raw, "Sid", "Effect", "Principal", "Action", "Resource")
	if err != nil {
		return s, err
	}
	var effect, sid string
	if v, ok := doc["Sid"]; ok && json.Unmarshal(v, &sid) != nil {
		return s, refuse("The Sid of a Statement is not a string.")
	}
	if json.Unmarshal(doc["Effect"], &effect) != nil || effect != "Allow" && effect != "Deny" {
		return s, refuse("The Effect of a Statement is neither Allow nor Deny.")
	}
	s.allow = effect == "Allow"
	if s.principals, err = principals(doc["Principal"]); err != nil {
		return s, err
	}
	if s.actions, err = texts("Action", doc["Action"]); err != nil {
		return s, err
	}
	for i, a := range s.actions {
		if s.actions[i] = strings.ToLower(a); a != "*" && !strings.HasPrefix(s.actions[i], "kinesis:") {
			return s, refuse("Action %s of a Statement is not one of Kinesis: it does not begin with kinesis:.", a)
		}
		if s.allow && !slices.ContainsFunc(Shareable, func(can string) bool { return matches(s.actions[i], strings.ToLower(can)) }) {
			return s, refuse("Action %s cannot be shared. What can: %s.", a, strings.Join(Shareable, ", "))
		}
	}
	if s.resources, err = texts("Resource", doc["Resource"]); err != nil {
		return s, err
	}
	if !matchesAny(s.resources, resource) {
		return s, refuse("The Resource of a Statement is not %s, which the policy is for.", resource)
	}
	return s, nil
}

var (
	accountPattern = regexp.MustCompile(`^[0-9]{12}$`)
	rootPattern    = regexp.MustCompile(`^arn:aws[a-z-]*:iam::([0-9]{12}):root$`)
)

func principals(raw json.RawMessage) ([]string, error) {
	var everybody string
	if json.Unmarshal(raw, &everybody) == nil && everybody == "*" {
		return []string{"*"}, nil
	}
	doc, err := object("The Principal of a Statement", raw, "AWS", "Service", "Federated", "CanonicalUser")
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{"Service", "Federated", "CanonicalUser"} {
		if doc[kind] != nil {
			return nil, refuse("Principal %s is not supported: callers here are accounts.", kind)
		}
	}
	list, err := texts("Principal", doc["AWS"])
	if err != nil {
		return nil, err
	}
	for i, p := range list {
		root := rootPattern.FindStringSubmatch(p)
		switch {
		case root != nil:
			list[i] = root[1]
		case p != "*" && !accountPattern.MatchString(p):
			return nil, refuse("Principal %s is not supported: callers here are accounts, so it has to be 12 digits, arn:aws:iam::ACCOUNT:root or *.", p)
		}
	}
	return list, nil
}

// texts reads a string or a list of strings, of which there is one at least.
func texts(name string, raw json.RawMessage) ([]string, error) {
	var one string
	var list []string
	switch {
	case raw == nil:
		return nil, refuse("A Statement of the policy has no %s.", name)
	case json.Unmarshal(raw, &one) == nil && !bytes.Equal(raw, []byte("null")):
		return []string{one}, nil
	case json.Unmarshal(raw, &list) != nil || len(list) == 0:
		return nil, refuse("The %s of a Statement is not a string or a list of strings.", name)
	}
	return list, nil
}

// object reads a JSON object that may have the members named, each once. Names count as they are
// written: encoding/json alone would take "condition" for "Condition".
func object(what string, raw []byte, known ...string) (map[string]json.RawMessage, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, refuse("%s is not a JSON object.", what)
	}
	out := make(map[string]json.RawMessage)
	for d.More() {
		t, err := d.Token()
		name, isName := t.(string)
		var v json.RawMessage
		if err != nil || !isName || d.Decode(&v) != nil {
			return nil, refuse("%s is not a JSON object.", what)
		}
		if !slices.Contains(known, name) {
			return nil, refuse("%s has %s, which is not one of %s.", what, name, strings.Join(known, ", "))
		}
		if out[name] != nil {
			return nil, refuse("%s has %s twice.", what, name)
		}
		out[name] = v
	}
	if _, err := d.Token(); err != nil { // the closing brace
		return nil, refuse("%s is not a JSON object.", what)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, refuse("%s is followed by something else.", what)
	}
	return out, nil
}
