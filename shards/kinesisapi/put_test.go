package kinesisapi_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/shardmill/shardmill/shards"
)

// base64Of is n bytes as base64.
func base64Of(n int) string { return base64.StdEncoding.EncodeToString(make([]byte, n)) }

// TestOneRequestWrittenInManyWays: however a client spells its JSON, the record is the same.
func TestOneRequestWrittenInManyWays(t *testing.T) {
	const plain = `{"StreamName":"s","PartitionKey":"käy/1","Data":"aGk+Pz8/","ExplicitHashKey":"12"}`
	spellings := []string{
		plain,
		`{"Data":"aGk+Pz8/","ExplicitHashKey":"12","PartitionKey":"käy/1","StreamName":"s"}`,
		" {\n\t\"StreamName\" : \"s\" ,\r\n \"PartitionKey\" : \"käy/1\" , \"Data\" : \"aGk+Pz8/\" , \"ExplicitHashKey\" : \"12\" } \n",
		`{"StreamName":"\u0073","PartitionKey":"k\u00e4y\/1","Data":"aGk+Pz8\/","ExplicitHashKey":"\u00312"}`,
		`{"StreamName":"s","PartitionKey":"käy/1","Data":"aGk\u002bPz8/","ExplicitHashKey":"12","StreamARN":"` + streamARN + `s"}`,
		`{"StreamN\u0061me":"s","PartitionKey":"käy/1","Data":"aGk+Pz8/","ExplicitHashKey":"12"}`,
		`{"StreamName":"t","StreamName":"s","PartitionKey":"x","PartitionKey":"käy/1","Data":"","Data":"aGk+Pz8/","ExplicitHashKey":"12"}`,
		`{"StreamName":"s","PartitionKey":"käy/1","Data":"aGk+Pz8/","ExplicitHashKey":"12","StreamId":"abcdefghij0123456789-abc"}`,
		`{"StreamName":"s","PartitionKey":"käy/1","Data":"aGk+Pz8/","ExplicitHashKey":"12","DryRun":false,"SequenceNumberForOrdering":null}`,
		`{"StreamName":"s","PartitionKey":"käy/1","Data":"aGk+Pz8/","ExplicitHashKey":"12","DryRun":null,"Unknown":{"a":[1,{}]},"data":"other"}`,
	}
	h := open(t, vfs.NewMem())
	h.create(t, "s", 2)
	for _, body := range spellings {
		var p placed
		h.call("PutRecord", body).into(t, &p)
		entry := strings.NewReplacer(`"StreamName":"t",`, "", `"StreamName":"s",`, "", `,"StreamName":"s"`, "").Replace(body)
		var ps puts
		h.call("PutRecords", `{"StreamName":"s","Records":[`+entry+`]}`).into(t, &ps)
		if p.ShardId != "shardId-000000000000" || ps.FailedRecordCount != 0 || len(ps.Records) != 1 || ps.Records[0].ShardId != "shardId-000000000000" {
			t.Errorf("%s: %+v, %+v", body, p, ps)
		}
	}
	got := h.get(t, h.iterator(t, "s", "TRIM_HORIZON", "")).Records
	if len(got) != 2*len(spellings) {
		t.Fatalf("%d records are stored, want %d", len(got), 2*len(spellings))
	}
	for i, r := range got {
		if string(r.Data) != "hi>???" || r.PartitionKey != "käy/1" {
			t.Errorf("record %d, put as %s: %q, key %q", i, spellings[i/2], r.Data, r.PartitionKey)
		}
	}
}

func TestRecordsAtTheLimits(t *testing.T) {
	if testing.Short() {
		t.Skip("moves tens of MiB, which takes long under the race detector")
	}
	h := open(t, vfs.NewMem())
	h.create(t, "s", 1)
	h.call("CreateStream", `{"StreamName":"big","ShardCount":1,"MaxRecordSizeInKiB":10240}`).is(t, 200, "")
	const MiB, validation = 1 << 20, "ValidationException"
	record := func(n int) string { return `"PartitionKey":"кл","Data":"` + base64Of(n-4) + `"` } // the key has four bytes
	batch := func(sizes ...int) string {
		var all []string
		for _, n := range sizes {
			all = append(all, "{"+record(n)+"}")
		}
		return strings.Join(all, ",")
	}
	tooBig := "1 validation error detected: Value at '%s' failed to satisfy constraint: Member must have length less than or equal to %d"

	h.call("PutRecord", `{"StreamName":"s",`+record(MiB)+`}`).into(t, nil)
	h.call("PutRecord", `{"StreamName":"s",`+record(MiB+1)+`}`).refused(t, validation, tooBig, "data", MiB)
	h.call("PutRecords", `{"StreamName":"s","Records":[`+batch(MiB, MiB+1)+`]}`).refused(t, validation, tooBig, "records.2.member.data", MiB)
	h.call("PutRecord", `{"StreamName":"big",`+record(10*MiB)+`}`).into(t, nil)
	h.call("PutRecord", `{"StreamName":"big",`+record(10*MiB+1)+`}`).refused(t, validation, tooBig, "data", 10*MiB)
	h.call("PutRecord", `{"StreamName":"big","PartitionKey":"k","Data":"`+base64Of(10*MiB+1)+`"}`).refused(t, validation,
		"1 validation error detected: Value 'java.nio.HeapByteBuffer[pos=0 lim=10485761 cap=10485761]' at 'data' failed to satisfy constraint: Member must have length less than or equal to 10485760")
	h.call("PutRecords", `{"StreamName":"big","Records":[`+batch(5*MiB, 5*MiB)+`]}`).into(t, nil)
	h.call("PutRecords", `{"StreamName":"big","Records":[`+batch(5*MiB, 5*MiB+1)+`]}`).refused(t, "InvalidArgumentException",
		"The records of this request have 10485761 bytes of data and partition keys together, more than 10485760.")

	key := strings.Repeat("ü", 256)
	h.call("PutRecord", `{"StreamName":"s","PartitionKey":"`+key+`","Data":""}`).into(t, nil)
	h.call("PutRecord", `{"StreamName":"s","PartitionKey":"`+key+`u","Data":""}`).refused(t, validation, "1 validation error detected: Value '%su' at 'partitionKey' failed to satisfy constraint: Member must have length less than or equal to 256", key)
	r := h.get(t, h.iterator(t, "s", "TRIM_HORIZON", ""))
	if len(r.Records) != 2 || len(r.Records[0].Data) != MiB-4 || r.Records[1].PartitionKey != key || r.Records[1].Data == nil {
		t.Errorf("%d records are stored, want the two that were within the limits", len(r.Records))
	}
}

func TestExplicitHashKeyTakesTheKeysPlace(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 2)
	for hash, want := range map[string]string{
		"0": "shardId-000000000000",
		"170141183460469231731687303715884105727": "shardId-000000000000", // 2^127-1
		"170141183460469231731687303715884105728": "shardId-000000000001",
		"340282366920938463463374607431768211455": "shardId-000000000001",
	} {
		var p placed
		h.call("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":"","ExplicitHashKey":"`+hash+`"}`).into(t, &p)
		if p.ShardId != want {
			t.Errorf("hash key %s goes to %s, want %s", hash, p.ShardId, want)
		}
	}
	var p puts
	h.call("PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"a","Data":""},{"PartitionKey":"b","Data":""}]}`).into(t, &p)
	if p.Records[0].ShardId != "shardId-000000000000" || p.Records[1].ShardId != "shardId-000000000001" {
		t.Errorf("keys a and b go to %+v", p.Records)
	}
}

func TestDryRun(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 1)
	it := h.iterator(t, "s", "TRIM_HORIZON", "")
	const missing = "Stream none under account 000000000000 not found."
	for _, c := range []struct{ op, good, bad, name, message string }{
		{"PutRecord", `"StreamName":"s","PartitionKey":"k","Data":"aGk="`, `"StreamName":"none","PartitionKey":"k","Data":"aGk="`, "ResourceNotFoundException", missing},
		{"PutRecords", `"StreamName":"s","Records":[{"PartitionKey":"k","Data":"aGk="}]`, `"StreamName":"none","Records":[{"PartitionKey":"k","Data":"aGk="}]`, "ResourceNotFoundException", missing},
		{"GetShardIterator", `"StreamName":"s","ShardId":"0","ShardIteratorType":"LATEST"`, `"StreamName":"s","ShardId":"1","ShardIteratorType":"LATEST"`, "ResourceNotFoundException", "Shard shardId-000000000001 in stream s under account 000000000000 does not exist"},
		{"GetRecords", `"ShardIterator":"` + it + `"`, `"ShardIterator":"x"`, "InvalidArgumentException", "Invalid ShardIterator."},
	} {
		h.call(c.op, `{"DryRun":true,`+c.good+`}`).refused(t, "DryRunOperationException", "The request would have succeeded, but DryRun was set.")
		h.call(c.op, `{"DryRun":true,`+c.bad+`}`).refused(t, c.name, "%s", c.message)
	}
	if got := h.get(t, it).data(); got != "" {
		t.Errorf("the dry runs stored %q", got)
	}
	h.call("PutRecord", `{"DryRun":false,"StreamName":"s","PartitionKey":"k","Data":"aGk="}`).into(t, nil)
	if got := h.get(t, it).data(); got != "hi" {
		t.Errorf("DryRun false stored %q", got)
	}
}

// TestOrderAndCount: one result for every record of a request, in its order; the records of each
// shard are in that order too, and their numbers grow.
func TestOrderAndCount(t *testing.T) {
	h := open(t, vfs.NewMem())
	h.create(t, "s", 4)
	want := make(map[string][]string) // data by shard
	last := make(map[string]shards.Pos)
	ordering := ""
	for round := range 20 {
		var entries []map[string]any
		for i := range 1 + round*26 { // up to 495
			entries = append(entries, map[string]any{"PartitionKey": fmt.Sprint("k", i%37), "Data": fmt.Appendf(nil, "%d-%d", round, i)})
		}
		body, err := json.Marshal(map[string]any{"StreamName": "s", "Records": entries})
		if err != nil {
			t.Fatal(err)
		}
		var out puts
		h.call("PutRecords", string(body)).into(t, &out)
		if out.FailedRecordCount != 0 || len(out.Records) != len(entries) {
			t.Fatalf("%d results, %d failed, for %d records", len(out.Records), out.FailedRecordCount, len(entries))
		}
		for i, p := range out.Records {
			seq := parse(t, p.SequenceNumber)
			if shards.FormatShardID(seq.Shard) != p.ShardId || seq.Pos != last[p.ShardId]+1 {
				t.Fatalf("record %d of round %d went to %s as %+v after %d", i, round, p.ShardId, seq, last[p.ShardId])
			}
			last[p.ShardId] = seq.Pos
			want[p.ShardId] = append(want[p.ShardId], string(entries[i]["Data"].([]byte)))
			ordering = p.SequenceNumber
		}
	}
	h.call("PutRecord", `{"StreamName":"s","PartitionKey":"k","Data":"","DryRun":true,"SequenceNumberForOrdering":"`+ordering+`"}`).refused(t, "DryRunOperationException", "The request would have succeeded, but DryRun was set.")
	for id, data := range want {
		var out struct{ ShardIterator string }
		h.call("GetShardIterator", `{"StreamName":"s","ShardId":"`+id+`","ShardIteratorType":"TRIM_HORIZON"}`).into(t, &out)
		if got := h.get(t, out.ShardIterator).data(); got != strings.Join(data, " ") {
			t.Errorf("%s does not hold its records in order", id)
		}
	}
	if len(want) != 4 {
		t.Errorf("only the shards %v were used", want)
	}
}

// TestDeletingUnderPutsAndReads: whoever is in the middle of a stream that goes away is told so, and
// never anything else.
func TestDeletingUnderPutsAndReads(t *testing.T) {
	h := open(t, vfs.NewMem())
	var users sync.WaitGroup
	stop := make(chan struct{})
	use := func(try func()) {
		users.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					try()
				}
			}
		})
	}
	gone := func(a answer, whole ...string) {
		for _, w := range whole {
			if a.status == 400 && a.text == w {
				return
			}
		}
		if a.status != 200 || strings.Contains(a.text, "ErrorCode") {
			t.Errorf("%d %s", a.status, a.text)
		}
	}
	const (
		noStream = `{"__type":"ResourceNotFoundException","message":"Stream s under account 000000000000 not found."}`
		noShard  = `{"__type":"ResourceNotFoundException","message":"Shard shardId-000000000001 in stream s under account 000000000000 does not exist"}`
	)
	use(func() {
		gone(h.call("PutRecords", `{"StreamName":"s","Records":[{"PartitionKey":"a","Data":"aGk="},{"PartitionKey":"b","Data":"aGk="}]}`), noStream)
	})
	use(func() { gone(h.call("PutRecord", `{"StreamName":"s","PartitionKey":"b","Data":"aGk="}`), noStream) })
	use(func() {
		a := h.call("GetShardIterator", `{"StreamName":"s","ShardId":"1","ShardIteratorType":"TRIM_HORIZON"}`)
		gone(a, noShard)
		var out struct{ ShardIterator string }
		if json.Unmarshal([]byte(a.text), &out); out.ShardIterator == "" {
			return
		}
		for range 3 {
			a := h.call("GetRecords", `{"ShardIterator":"`+out.ShardIterator+`"}`)
			gone(a, noShard)
			if a.status == 200 && len(a.text) > 100 && bytes.Contains([]byte(a.text), []byte(`"Data":`)) && !strings.Contains(a.text, `"Data":"aGk="`) {
				t.Errorf("read %s", a.text)
			}
		}
	})
	for range 30 {
		h.create(t, "s", 2)
		h.put(t, "s", 1, "hi")
		h.call("DeleteStream", `{"StreamName":"s"}`).is(t, 200, "")
	}
	close(stop)
	users.Wait()
}
