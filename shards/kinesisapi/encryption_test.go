package kinesisapi_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/internal/localkms"
	"github.com/shardmill/shardmill/shards"
	"github.com/shardmill/shardmill/shards/journal"
	"github.com/shardmill/shardmill/shards/kinesisapi"
)

// TestEncryptionToTheLetter shows what clients see of it: EncryptionType is there on what is
// encrypted and on nothing else.
func TestEncryptionToTheLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := open(t, vfs.NewMem())
		defer h.close()
		h.create(t, "s", 1)
		put := func() (one, many string) {
			t.Helper()
			cut := func(a answer) string {
				if a.status != 200 {
					t.Fatal(a)
				}
				var all []string
				for i, part := range strings.Split(a.text, `"SequenceNumber":"`) {
					if i > 0 {
						_, part, _ = strings.Cut(part, `"`)
					}
					all = append(all, part)
				}
				return strings.Join(all, "N")
			}
			return cut(h.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":"aGVsbG8="}`)),
				cut(h.call("PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"k","Data":"aGVsbG8="}]}`))
		}
		const plainOne, plainMany = `{N,"ShardId":"shardId-000000000000"}`, `{"FailedRecordCount":0,"Records":[{N,"ShardId":"shardId-000000000000"}]}`
		is := func(wantOne, wantMany string) {
			t.Helper()
			if one, many := put(); one != wantOne || many != wantMany {
				t.Errorf("got  %s, %s\nwant %s, %s", one, many, wantOne, wantMany)
			}
		}
		is(plainOne, plainMany)
		h.call("StartStreamEncryption", `{"StreamName":"s","EncryptionType":"KMS","KeyId":"alias/aws/kinesis"}`).is(t, 200, "")
		is(`{N,"ShardId":"shardId-000000000000","EncryptionType":"KMS"}`, `{"FailedRecordCount":0,"Records":[{N,"ShardId":"shardId-000000000000"}],"EncryptionType":"KMS"}`)
		for op, whole := range map[string]string{"DescribeStream": "StreamDescription", "DescribeStreamSummary": "StreamDescriptionSummary"} {
			var d map[string]struct{ StreamStatus, EncryptionType, KeyId string }
			h.call(op, `{"StreamName":"s"}`).into(t, &d)
			if d[whole].EncryptionType != "KMS" || d[whole].KeyId != "alias/aws/kinesis" || d[whole].StreamStatus != "ACTIVE" {
				t.Errorf("%s: %+v", op, d)
			}
		}
		h.call("StopStreamEncryption", `{"StreamARN":"`+arnOfS+`","EncryptionType":"KMS","KeyId":"alias/aws/kinesis"}`).is(t, 200, "")
		is(plainOne, plainMany)
		if d := h.call("DescribeStream", `{"StreamName":"s"}`); strings.Contains(d.text, "KeyId") || !strings.Contains(d.text, `"EncryptionType":"NONE"`) {
			t.Errorf("after the end of encryption: %s", d.text)
		}

		w := h.subscribe(t.Context(), `{"ConsumerARN":"`+h.register(t, "app")+`","ShardId":"0","StartingPosition":{"Type":"TRIM_HORIZON"}}`)
		synctest.Wait()
		pushed := w.text()
		got := h.get(t, h.iterator(t, "s", "TRIM_HORIZON", ""))
		for i, want := range []string{"", "", "KMS", "KMS", "", ""} {
			if r := got.Records[i]; string(r.Data) != "hello" || r.EncryptionType != want {
				t.Errorf("record %d: %+v, want EncryptionType %q", i, r, want)
			}
		}
		const record = `"Data":"aGVsbG8=","PartitionKey":"k"`
		if all, sealed := strings.Count(pushed, record), strings.Count(pushed, record+`,"EncryptionType":"KMS"}`); all != 6 || sealed != 2 {
			t.Errorf("%d records were pushed, %d of them encrypted: %s", all, sealed, pushed)
		}
		time.Sleep(5 * time.Minute) // the subscription ends
		<-w.done
	})
}

func TestEncryptionInCBOR(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 1)
	type entry struct {
		Data         []byte
		PartitionKey string
	}
	type named struct{ StreamName string }
	h.callCBOR(t, "StartStreamEncryption", struct{ StreamName, EncryptionType, KeyId string }{"s", "KMS", "alias/a"}, nil)
	var one struct{ SequenceNumber, ShardId, EncryptionType string }
	h.callCBOR(t, "PutRecord", struct {
		named
		entry
	}{named{"s"}, entry{[]byte("a"), "k"}}, &one)
	var many struct {
		FailedRecordCount *int32
		Records           []struct{ SequenceNumber, ShardId string }
		EncryptionType    string
	}
	h.callCBOR(t, "PutRecords", struct {
		named
		Records []entry
	}{named{"s"}, []entry{{[]byte("b"), "k"}}}, &many)
	if one.EncryptionType != "KMS" || one.ShardId == "" || many.EncryptionType != "KMS" || len(many.Records) != 1 {
		t.Errorf("put: %+v, %+v", one, many)
	}
	var got struct {
		Records []struct {
			Data                         []byte
			PartitionKey, EncryptionType string
		}
	}
	h.callCBOR(t, "GetRecords", struct{ ShardIterator string }{h.iterator(t, "s", "TRIM_HORIZON", "")}, &got)
	if len(got.Records) != 2 || string(got.Records[0].Data) != "a" || string(got.Records[1].Data) != "b" ||
		got.Records[0].EncryptionType != "KMS" || got.Records[0].PartitionKey != "k" {
		t.Errorf("%+v", got)
	}
}

func TestLimitsCountThePlainSize(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 1)
	h.call("StartStreamEncryption", `{"StreamName":"s","EncryptionType":"KMS","KeyId":"alias/a"}`).is(t, 200, "")
	record := func(size int) string {
		body, err := json.Marshal(map[string]any{"StreamName": "s", "PartitionKey": "k", "Data": make([]byte, size)})
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	h.call("PutRecord", record(1<<20-1)).into(t, nil)
	h.call("PutRecord", record(1<<20)).refused(t, validationName, "1 validation error detected: Value at 'data' failed to satisfy constraint: Member must have length less than or equal to 1048576")
	if got := h.get(t, h.iterator(t, "s", "TRIM_HORIZON", "")); len(got.Records) != 1 || len(got.Records[0].Data) != 1<<20-1 {
		t.Errorf("%d records", len(got.Records))
	}
}

func TestEncryptionSentences(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 1)
	call := func(op, kind, key string) answer {
		return h.call(op, `{"StreamName":"s","EncryptionType":"`+kind+`","KeyId":"`+key+`"}`)
	}
	for _, op := range []string{"StartStreamEncryption", "StopStreamEncryption"} {
		call(op, "NONE", "alias/a").refused(t, invalidArgument, "EncryptionType NONE cannot be used here: KMS is the only type of encryption. StopStreamEncryption ends it.")
		call(op, "AES", "").refused(t, validationName, "2 validation errors detected: Value 'AES' at 'encryptionType' failed to satisfy constraint: Member must satisfy enum value set: [NONE, KMS]; "+
			"Value '' at 'keyId' failed to satisfy constraint: Member must have length greater than or equal to 1")
		h.call(op, `{"StreamName":"none","EncryptionType":"KMS","KeyId":"alias/a"}`).refused(t, notFoundName, "Stream none under account 000000000000 not found.")
	}
	call("StartStreamEncryption", "KMS", "orders").refused(t, "KMSNotFoundException", "Invalid keyId orders: it is neither a key id, nor an alias that begins with alias/, nor the ARN of one of them.")
	call("StartStreamEncryption", "KMS", "arn:aws:kms:us-east-1:111111111111:alias/a").refused(t, "KMSAccessDeniedException",
		"Key arn:aws:kms:us-east-1:111111111111:alias/a belongs to another account: streams of account 000000000000 can only be encrypted with its own keys.")
	call("StartStreamEncryption", "KMS", "alias/a").is(t, 200, "")
	call("StopStreamEncryption", "KMS", "alias/b").refused(t, invalidArgument, "Stream s under account 000000000000 is encrypted with key alias/a, not with alias/b.")
}

// A key that is marked in the file of states fails every call that needs it, by the six names that
// AWS has, and works again when it is unmarked.
func TestKeysThatCannotBeUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "states.yaml")
		mark := func(state string) {
			t.Helper()
			if err := os.WriteFile(path, []byte("keys:\n  - {key: alias/a, state: "+state+"}\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		mark("enabled")
		fs := vfs.NewMem()
		store, err := journal.Open("data", journal.Options{FS: fs, SegmentSize: 32 << 20})
		if err != nil {
			t.Fatal(err)
		}
		keys, err := localkms.Open("data/keys", localkms.Options{FS: fs, States: path})
		if err != nil {
			t.Fatal(err)
		}
		h := serveWith(t, store, store, shards.Options{Keys: keys}, kinesisapi.Options{}, nil)
		defer h.close()
		h.create(t, "s", 1)
		start := `{"StreamName":"s","EncryptionType":"KMS","KeyId":"alias/a"}`
		h.call("StartStreamEncryption", start).is(t, 200, "")
		h.put(t, "s", 0, "x")
		arn := h.register(t, "app")
		const key = "Key arn:aws:kms:us-east-1:000000000000:alias/a "
		for state, want := range map[string][2]string{
			"disabled":         {"KMSDisabledException", "is disabled."},
			"denied":           {"KMSAccessDeniedException", "may not be used by this account."},
			"missing":          {"KMSNotFoundException", "does not exist."},
			"pending-deletion": {"KMSInvalidStateException", "is pending deletion."},
			"opt-in-required":  {"KMSOptInRequired", "cannot be used: the account has no subscription to the key service."},
			"throttled":        {"KMSThrottlingException", "is asked for too often."},
		} {
			mark(state)
			time.Sleep(5 * time.Second) // after the last subscription
			h.call("StartStreamEncryption", start).refused(t, want[0], "%s", key+want[1])
			h.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":""}`).refused(t, want[0], "%s", key+want[1])
			h.call("PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"k","Data":""}]}`).refused(t, want[0], "%s", key+want[1])
			h.call("GetRecords", `{"ShardIterator":"`+h.iterator(t, "s", "TRIM_HORIZON", "")+`"}`).refused(t, want[0], "%s", key+want[1])
			w := h.subscribe(t.Context(), `{"ConsumerARN":"`+arn+`","ShardId":"0","StartingPosition":{"Type":"TRIM_HORIZON"}}`)
			<-w.done
			if got := w.messages(t); len(got) != 2 || got[1] != want[0]+` {"message":"`+key+want[1]+`"}` {
				t.Errorf("%s: the subscription ended with %q", state, got)
			}
		}
		mark("enabled")
		h.put(t, "s", 0, "y")
		if got := h.get(t, h.iterator(t, "s", "TRIM_HORIZON", "")).data(); got != "x y" {
			t.Errorf("the stream holds %q", got)
		}
		mark("missing") // a marked key can be named all the same to stop
		h.call("StopStreamEncryption", start).is(t, 200, "")
	})
}
