package kinesisapi_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/sigv4"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
	"github.com/shardmill/shardmill/shards/kinesisapi"
)

// accounts are the keys of a host: the access key is the account's number with AK before it.
type accounts struct{}

func (accounts) Lookup(accessKey string) (sigv4.Key, bool) {
	account, ok := strings.CutPrefix(accessKey, "AK")
	return sigv4.Key{Secret: "the secret of " + account, Account: account}, ok
}

func openVerified(t *testing.T) *host {
	t.Helper()
	store, err := journal.Open("data", journal.Options{FS: vfs.NewMem(), SegmentSize: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return serveWith(t, store, store, shards.Options{}, kinesisapi.Options{}, accounts{})
}

// signed calls as an account.
func (h *host) signed(account, op, body string) answer {
	r := httptest.NewRequest("POST", "http://localhost/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "Kinesis_20131202."+op)
	sum := sha256.Sum256([]byte(body))
	sigv4.Sign(r, hex.EncodeToString(sum[:]), sigv4.Credentials{AccessKey: "AK" + account, SecretKey: "the secret of " + account}, "us-east-1", "kinesis", time.Now())
	w := httptest.NewRecorder()
	h.api.ServeHTTP(w, r)
	return answer{w.Code, w.Body.String()}
}

const (
	alice = "111111111111"
	bob   = "222222222222"
	hers  = "arn:aws:kinesis:us-east-1:111111111111:stream/s"
)

func notAuthorized(account, op, arn string) string {
	return fmt.Sprintf("User: arn:aws:iam::%s:root is not authorized to perform: kinesis:%s on resource: %s because no resource-based policy allows the kinesis:%[2]s action", account, op, arn)
}

func statement(effect, principal, actions, arn string) string {
	return fmt.Sprintf(`{"Effect":%q,"Principal":%s,"Action":%s,"Resource":%q}`, effect, principal, actions, arn)
}

func (h *host) share(t *testing.T, arn string, statements ...string) {
	t.Helper()
	policy := `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
	h.signed(alice, "PutResourcePolicy", fmt.Sprintf(`{"ResourceARN":%q,"Policy":%q}`, arn, policy)).is(t, 200, "")
}

// Another account may do with a stream what its policy allows, and nothing else.
func TestAStreamIsSharedByItsPolicy(t *testing.T) {
	h := openVerified(t)
	h.signed(alice, "CreateStream", `{"StreamName":"s","ShardCount":1}`).is(t, 200, "")
	put := `{"StreamARN":"` + hers + `","PartitionKey":"k","Data":"YQ=="}`
	iterator := `{"StreamARN":"` + hers + `","ShardId":"0","ShardIteratorType":"TRIM_HORIZON"}`
	refused := func(op, body string) {
		t.Helper()
		h.signed(bob, op, body).refused(t, "AccessDeniedException", "%s", notAuthorized(bob, op, hers))
	}
	refused("PutRecord", put)
	refused("GetShardIterator", iterator)
	refused("DescribeStreamSummary", `{"StreamARN":"`+hers+`"}`)
	refused("PutResourcePolicy", `{"ResourceARN":"`+hers+`","Policy":"{}"}`)
	h.signed(bob, "DescribeStream", `{"StreamARN":"`+hers+`2"}`).refused(t, "AccessDeniedException", "%s", notAuthorized(bob, "DescribeStream", hers+"2")) // is it there or not?
	h.signed(bob, "PutRecord", strings.Replace(put, `"StreamARN":"`+hers, `"StreamName":"s`, 1)).refused(t, notFoundName, "Stream s under account %s not found.", bob)

	h.share(t, hers, statement("Allow", `{"AWS":"`+bob+`"}`, `["kinesis:PutRecord","kinesis:GetShardIterator"]`, hers))
	h.signed(bob, "PutRecord", put).into(t, nil)
	refused("PutRecords", `{"StreamARN":"`+hers+`","Records":[{"PartitionKey":"k","Data":""}]}`)
	h.signed("333333333333", "PutRecord", put).refused(t, "AccessDeniedException", "%s", notAuthorized("333333333333", "PutRecord", hers))
	var it struct{ ShardIterator string }
	h.signed(bob, "GetShardIterator", iterator).into(t, &it)
	get := `{"ShardIterator":"` + it.ShardIterator + `"}`
	refused("GetRecords", get) // an iterator alone allows nothing
	h.share(t, hers, statement("Allow", `{"AWS":"arn:aws:iam::`+bob+`:root"}`, `"kinesis:*"`, hers))
	var got records
	h.signed(bob, "GetRecords", get).into(t, &got)
	if got.data() != "a" {
		t.Errorf("got %q", got.data())
	}
	refused("PutResourcePolicy", `{"ResourceARN":"`+hers+`","Policy":"{}"}`) // for its owner alone, whatever it says
	refused("GetResourcePolicy", `{"ResourceARN":"`+hers+`"}`)

	var page shardPage
	h.signed(alice, "CreateStream", `{"StreamName":"two","ShardCount":2}`).is(t, 200, "")
	h.signed(alice, "ListShards", `{"StreamName":"two","MaxResults":1}`).into(t, &page)
	h.signed(bob, "ListShards", `{"NextToken":"`+page.NextToken+`"}`).refused(t, "AccessDeniedException", "%s",
		notAuthorized(bob, "ListShards", "arn:aws:kinesis:us-east-1:111111111111:stream/two"))
}

// A denial wins over what is allowed, and holds for the owner too, who can always take it back.
func TestDenialsWin(t *testing.T) {
	h := openVerified(t)
	h.signed(alice, "CreateStream", `{"StreamName":"s","ShardCount":1}`).is(t, 200, "")
	put := `{"StreamARN":"` + hers + `","PartitionKey":"k","Data":"YQ=="}`
	h.share(t, hers, statement("Allow", `"*"`, `"*"`, hers), statement("Deny", `"*"`, `"*"`, hers))
	for _, account := range []string{alice, bob} {
		h.signed(account, "PutRecord", put).refused(t, "AccessDeniedException",
			"User: arn:aws:iam::%s:root is not authorized to perform: kinesis:PutRecord on resource: %s with an explicit deny in a resource-based policy", account, hers)
	}
	h.signed(alice, "DeleteResourcePolicy", `{"ResourceARN":"`+hers+`"}`).is(t, 200, "")
	h.signed(alice, "PutRecord", put).into(t, nil)
	h.signed(bob, "PutRecord", put).refused(t, "AccessDeniedException", "%s", notAuthorized(bob, "PutRecord", hers))
}

// What may be done with a consumer is for its own policy to say.
func TestAConsumerIsSharedByItsPolicy(t *testing.T) {
	h := openVerified(t)
	h.signed(alice, "CreateStream", `{"StreamName":"s","ShardCount":1}`).is(t, 200, "")
	var out struct{ Consumer struct{ ConsumerARN string } }
	h.signed(alice, "RegisterStreamConsumer", `{"StreamARN":"`+hers+`","ConsumerName":"app"}`).into(t, &out)
	arn := out.Consumer.ConsumerARN
	describe := `{"ConsumerARN":"` + arn + `"}`
	h.share(t, hers, statement("Allow", `"*"`, `"*"`, hers))
	h.signed(bob, "DescribeStreamConsumer", describe).refused(t, "AccessDeniedException", "%s", notAuthorized(bob, "DescribeStreamConsumer", arn))
	h.share(t, arn, statement("Allow", `"*"`, `["kinesis:SubscribeToShard","kinesis:Describe*"]`, arn))
	h.signed(bob, "DescribeStreamConsumer", describe).into(t, nil)
	h.signed(bob, "SubscribeToShard", `{"ConsumerARN":"`+arn+`","ShardId":"0","StartingPosition":{"Type":"LATEST"},"DryRun":true}`).refused(t, "DryRunOperationException", "The request would have succeeded, but DryRun was set.")
	h.signed(bob, "DeregisterStreamConsumer", describe).refused(t, "AccessDeniedException", "%s", notAuthorized(bob, "DeregisterStreamConsumer", arn))
	h.signed(bob, "DescribeStreamConsumer", `{"StreamARN":"`+hers+`","ConsumerName":"none"}`).refused(t, "AccessDeniedException", "%s", notAuthorized(bob, "DescribeStreamConsumer", hers+"/consumer/none"))
	h.signed(bob, "TagResource", `{"ResourceARN":"`+arn+`","Tags":{"a":"b"}}`).refused(t, "AccessDeniedException", "%s", notAuthorized(bob, "TagResource", arn))
}
