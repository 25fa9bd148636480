package policy

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/shardmill/shardmill/internal/errs"
)

const (
	stream = "arn:aws:kinesis:us-east-1:111111111111:stream/s"
	bob    = "222222222222"
)

func with(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

func statementOf(effect, principal, action, resource string) string {
	return fmt.Sprintf(`{"Effect":%q,"Principal":%s,"Action":%s,"Resource":%s}`, effect, principal, action, resource)
}

func TestDecisions(t *testing.T) {
	const me = `{"AWS":"222222222222"}`
	own, all := `"`+stream+`"`, `"kinesis:*"`
	for _, c := range []struct {
		policy string
		action string
		want   Decision
	}{
		{with(statementOf("Allow", me, `"kinesis:PutRecord"`, own)), "PutRecord", Allow},
		{with(statementOf("Allow", me, `"kinesis:putrecord"`, own)), "PutRecord", Allow},
		{with(statementOf("Allow", me, `"kinesis:PutRecord"`, own)), "PutRecords", Silent},
		{with(statementOf("Allow", me, `["kinesis:PutRecord","kinesis:Get*"]`, own)), "GetShardIterator", Allow},
		{with(statementOf("Allow", me, `"kinesis:PutRecor?"`, own)), "PutRecord", Allow},
		{with(statementOf("Allow", me, `"*"`, own)), "ListShards", Allow},
		{with(statementOf("Allow", `{"AWS":"arn:aws:iam::222222222222:root"}`, all, own)), "GetRecords", Allow},
		{with(statementOf("Allow", `{"AWS":["333333333333","222222222222"]}`, all, own)), "GetRecords", Allow},
		{with(statementOf("Allow", `{"AWS":"333333333333"}`, all, own)), "GetRecords", Silent},
		{with(statementOf("Allow", `"*"`, all, own)), "GetRecords", Allow},
		{with(statementOf("Allow", `{"AWS":"*"}`, all, own)), "GetRecords", Allow},
		{with(statementOf("Allow", me, all, `"arn:aws:kinesis:*:111111111111:stream/*"`)), "GetRecords", Allow},
		{with(statementOf("Allow", me, all, `"*"`)), "GetRecords", Allow},
		{with(statementOf("Allow", me, all, own), statementOf("Deny", `"*"`, `"kinesis:Put*"`, own)), "PutRecord", Deny},
		{with(statementOf("Deny", `"*"`, `"kinesis:Put*"`, own), statementOf("Allow", me, all, own)), "PutRecord", Deny},
		{with(statementOf("Allow", me, all, own), statementOf("Deny", `"*"`, `"kinesis:Put*"`, own)), "GetRecords", Allow},
		{with(statementOf("Allow", me, `"*"`, own)), "DeleteStream", Silent}, // cannot be shared
		{with(statementOf("Deny", me, `"kinesis:DeleteStream"`, own)), "DeleteStream", Deny},
		{`{"Statement":` + statementOf("Allow", me, all, own) + `}`, "GetRecords", Allow}, // one alone, of the old version
	} {
		p, err := Parse(c.policy, stream)
		if err != nil {
			t.Errorf("%s: %v", c.policy, err)
			continue
		}
		if got := p.Decide(bob, "kinesis:"+c.action, stream); got != c.want {
			t.Errorf("%s of %s: %d, want %d", c.action, c.policy, got, c.want)
		}
	}
}

func TestRefusals(t *testing.T) {
	good := statementOf("Allow", `"*"`, `"kinesis:*"`, `"`+stream+`"`)
	add := func(member string) string { return with(strings.Replace(good, "{", "{"+member+",", 1)) }
	for text, want := range map[string]string{
		``:                                  "The policy is not a JSON object.",
		`[]`:                                "The policy is not a JSON object.",
		`{"Version":"2012-10-17"`:           "The policy is not a JSON object.",
		`{} {}`:                             "The policy is followed by something else.",
		`{}`:                                "The policy has no Statement.",
		`{"Statement":[]}`:                  "The policy has no Statement.",
		`{"Statement":"x"}`:                 "A Statement of the policy is not a JSON object.",
		`{"Version":"2013","Statement":[]}`: "The policy's Version 2013 is neither 2012-10-17 nor 2008-10-17.",
		`{"Version":1,"Statement":[]}`:      "The policy's Version is not a string.",
		`{"version":"2012-10-17"}`:          "The policy has version, which is not one of Version, Id, Statement.",
		`{"Statement":[],"Statement":[]}`:   "The policy has Statement twice.",
		add(`"Condition":{}`):               "Condition is not supported: nothing here could evaluate it.",
		add(`"condition":{}`):               "A Statement of the policy has condition, which is not one of Sid, Effect, Principal, Action, Resource.",
		add(`"NotAction":"x"`):              "NotAction is not supported: nothing here could evaluate it.",
		add(`"Sid":1`):                      "The Sid of a Statement is not a string.",
		strings.ReplaceAll(with(good), "llow", ""):                                                     "The Effect of a Statement is neither Allow nor Deny.",
		with(statementOf("Allow", `{"AWS":"arn:aws:iam::222222222222:role/r"}`, `"kinesis:*"`, `"*"`)): "Principal arn:aws:iam::222222222222:role/r is not supported: callers here are accounts, so it has to be 12 digits, arn:aws:iam::ACCOUNT:root or *.",
		with(statementOf("Allow", `{"Service":"lambda.amazonaws.com"}`, `"kinesis:*"`, `"*"`)):         "Principal Service is not supported: callers here are accounts.",
		with(statementOf("Allow", `{}`, `"kinesis:*"`, `"*"`)):                                         "A Statement of the policy has no Principal.",
		with(statementOf("Allow", `"me"`, `"kinesis:*"`, `"*"`)):                                       "The Principal of a Statement is not a JSON object.",
		with(statementOf("Allow", `"*"`, `[]`, `"*"`)):                                                 "The Action of a Statement is not a string or a list of strings.",
		with(statementOf("Allow", `"*"`, `null`, `"*"`)):                                               "The Action of a Statement is not a string or a list of strings.",
		with(statementOf("Allow", `"*"`, `["kinesis:*","kinesis:DeleteStream"]`, `"*"`)): "Action kinesis:DeleteStream cannot be shared. What can: kinesis:DescribeStream, kinesis:DescribeStreamSummary, kinesis:ListShards, " +
			"kinesis:PutRecord, kinesis:PutRecords, kinesis:GetShardIterator, kinesis:GetRecords, kinesis:DescribeStreamConsumer, kinesis:SubscribeToShard.",
		with(statementOf("Allow", `"*"`, `"s3:*"`, `"*"`)):                "Action s3:* of a Statement is not one of Kinesis: it does not begin with kinesis:.",
		with(statementOf("Allow", `"*"`, `"kinesis:*"`, `"`+stream+`2"`)): "The Resource of a Statement is not " + stream + ", which the policy is for.",
		strings.Repeat(" ", 20481):                                        "The policy has 20481 bytes, more than 20480.",
	} {
		if _, err := Parse(text, stream); !errs.Is(err, errs.Invalid) || err.Error() != want {
			t.Errorf("%.200s\ngot  %v\nwant %s", text, err, want)
		}
	}
}

// FuzzMatches holds the matcher against a regular expression.
func FuzzMatches(f *testing.F) {
	f.Add("kinesis:*Rec?rd*", "kinesis:PutRecords")
	f.Add("**?", "")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		for i := range len(pattern) + len(text) {
			if (pattern + text)[i] >= 0x80 {
				return // ? stands for a byte, and for a character in regexp
			}
		}
		re := strings.NewReplacer(`\*`, `.*`, `\?`, `.`).Replace(regexp.QuoteMeta(pattern))
		if got, want := matches(pattern, text), regexp.MustCompile("(?s)^"+re+"$").MatchString(text); got != want {
			t.Errorf("matches(%q, %q) is %v", pattern, text, got)
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add(with(statementOf("Allow", `"*"`, `"kinesis:*"`, `"*"`)))
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text, stream)
		if err == nil {
			p.Decide(bob, "kinesis:PutRecord", stream)
		} else if !errs.Is(err, errs.Invalid) {
			t.Error(err)
		}
	})
}
