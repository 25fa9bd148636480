package lambdaevent

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-lambda-go/events"
)

// sampleEvent has n records of size bytes of noise.
func sampleEvent(n, size int) *Event {
	r := rand.New(rand.NewPCG(1, 2))
	e := &Event{InvocationID: "8f1c3f6e-0000-4000-8000-000000000001", Region: "eu-west-1",
		DeliveryStreamARN: "arn:aws:firehose:eu-west-1:000000000000:deliverystream/orders",
		SourceStreamARN:   "arn:aws:kinesis:eu-west-1:000000000000:stream/orders"}
	for i := range n {
		data := make([]byte, size)
		for j := range data {
			data[j] = byte(r.Uint32())
		}
		seq := fmt.Sprintf("4957873408644225903749749298062023384040017339048211%04d", i)
		e.Records = append(e.Records, Record{ID: seq + "000000", Arrived: 1507217624302 + int64(i), Data: data,
			ShardID: "shardId-000000000000", PartitionKey: fmt.Appendf(nil, "key-%d", i), SequenceNumber: seq})
	}
	return e
}

func parse(t testing.TB, payload string) *Response {
	t.Helper()
	var r Response
	if err := ParseResponse([]byte(payload), &r); err != nil {
		t.Fatalf("ParseResponse(%s): %v", payload, err)
	}
	return &r
}

func TestAnswers(t *testing.T) {
	tests := map[string]struct {
		record string // an element of records
		want   Answer
	}{
		"Ok":                  {`{"recordId":"1","result":"Ok","data":"aGk="}`, Answer{RecordID: "1", Data: []byte("hi")}},
		"any order and space": {"{ \"data\" : \"aGk=\" ,\n\"result\":\t\"Ok\" , \"recordId\" : \"1\" }", Answer{RecordID: "1", Data: []byte("hi")}},
		"empty data is data":  {`{"recordId":"1","result":"Ok","data":""}`, Answer{RecordID: "1", Data: []byte{}}},
		"Dropped":             {`{"recordId":"1","result":"Dropped"}`, Answer{RecordID: "1", Result: Dropped}},
		"Dropped with data":   {`{"recordId":"1","result":"Dropped","data":"aGk="}`, Answer{RecordID: "1", Result: Dropped, Data: []byte("hi")}},
		"failed":              {`{"recordId":"1","result":"ProcessingFailed","data":null}`, Answer{RecordID: "1", Result: ProcessingFailed, Fault: MarkedFailed}},
		"Ok, no data":         {`{"recordId":"1","result":"Ok"}`, Answer{RecordID: "1", Fault: MissingData}},
		"Ok, null data":       {`{"recordId":"1","result":"Ok","data":null}`, Answer{RecordID: "1", Fault: MissingData}},
		"not base64":          {`{"recordId":"1","result":"Ok","data":"hi there"}`, Answer{RecordID: "1", Fault: InvalidData}},
		"base64 without pad":  {`{"recordId":"1","result":"Ok","data":"aGk"}`, Answer{RecordID: "1", Fault: InvalidData}},
		"URL base64":          {`{"recordId":"1","result":"Ok","data":"-_8="}`, Answer{RecordID: "1", Fault: InvalidData}},
		"data is an object":   {`{"recordId":"1","result":"Ok","data":{"a":1}}`, Answer{RecordID: "1", Fault: InvalidData}},
		"result in lower":     {`{"recordId":"1","result":"ok","data":"aGk="}`, Answer{RecordID: "1", Fault: InvalidResult, Data: []byte("hi")}},
		"no result":           {`{"recordId":"1","data":"aGk="}`, Answer{RecordID: "1", Fault: InvalidResult, Data: []byte("hi")}},
		"result is a number":  {`{"recordId":"1","result":1,"data":"aGk="}`, Answer{RecordID: "1", Fault: InvalidResult, Data: []byte("hi")}},
		"escapes":             {`{"recordId":"\u0031","result":"\u004fk","data":"aG\u006b\u003d"}`, Answer{RecordID: "1", Data: []byte("hi")}},
		"line breaks in data": {`{"recordId":"1","result":"Ok","data":"aG\nk=\r\n"}`, Answer{RecordID: "1", Data: []byte("hi")}},
		"more members":        {`{"recordId":"1","result":"Ok","data":"aGk=","approximateArrivalTimestamp":1}`, Answer{RecordID: "1", Data: []byte("hi")}},
		"names in exact case": {`{"recordId":"1","result":"Ok","Data":"aGk="}`, Answer{RecordID: "1", Fault: MissingData}},
		"the last one counts": {`{"recordId":"0","recordId":"1","result":"Ok","data":"","data":"aGk="}`, Answer{RecordID: "1", Data: []byte("hi")}},
		"partition keys": {`{"recordId":"1","result":"Dropped","metadata":{"partitionKeys":{"s":"ü","n":20.50,"i":-7,"b":true,"none":null,"empty":""}}}`,
			Answer{RecordID: "1", Result: Dropped, PartitionKeys: map[string]string{"s": "ü", "n": "20.50", "i": "-7", "b": "true"}}},
		"what Go handlers send": {`{"recordId":"1","result":"Dropped","data":null,"metadata":{"partitionKeys":null,"otfMetadata":{"destinationDatabaseName":"","destinationTableName":"","operation":""}}}`,
			Answer{RecordID: "1", Result: Dropped}},
		"no metadata":           {`{"recordId":"1","result":"Dropped","metadata":null}`, Answer{RecordID: "1", Result: Dropped}},
		"empty metadata":        {`{"recordId":"1","result":"Dropped","metadata":{"partitionKeys":{}}}`, Answer{RecordID: "1", Result: Dropped}},
		"route":                 {`{"recordId":"1","result":"Dropped","metadata":{"otfMetadata":{"destinationDatabaseName":"d","destinationTableName":"t","operation":"update"}}}`, Answer{RecordID: "1", Result: Dropped, Route: Route{"d", "t", "update"}}},
		"key is an array":       {`{"recordId":"1","result":"Ok","data":"aGk=","metadata":{"partitionKeys":{"a":[1],"b":"x"}}}`, Answer{RecordID: "1", Fault: InvalidMetadata, Data: []byte("hi"), PartitionKeys: map[string]string{"b": "x"}}},
		"keys are a list":       {`{"recordId":"1","result":"Ok","data":"aGk=","metadata":{"partitionKeys":["a"]}}`, Answer{RecordID: "1", Fault: InvalidMetadata, Data: []byte("hi")}},
		"metadata is a string":  {`{"recordId":"1","result":"Ok","data":"aGk=","metadata":"a"}`, Answer{RecordID: "1", Fault: InvalidMetadata, Data: []byte("hi")}},
		"operation is a number": {`{"recordId":"1","result":"Ok","data":"aGk=","metadata":{"otfMetadata":{"operation":1}}}`, Answer{RecordID: "1", Fault: InvalidMetadata, Data: []byte("hi")}},
	}
	for name, tt := range tests {
		// A good neighbour on each side must come through whatever the record is.
		const good = `{"recordId":"good","result":"Ok","data":"Z29vZA=="}`
		r := parse(t, `{"records":[`+good+`,`+tt.record+`,`+good+`]}`)
		neighbour := Answer{RecordID: "good", Data: []byte("good")}
		if want := []Answer{neighbour, tt.want, neighbour}; !reflect.DeepEqual(r.Answers, want) || r.Skipped != 0 {
			t.Errorf("%s:\n got %+v\nwant %+v", name, r.Answers, want)
		}
	}
}

func TestElementsThatNameNoRecord(t *testing.T) {
	for _, element := range []string{`null`, `1`, `"1"`, `[]`, `{}`, `{"recordId":null,"result":"Ok"}`, `{"recordId":1,"result":"Ok"}`, `{"RecordId":"1"}`} {
		r := parse(t, `{"records":[`+element+`,{"recordId":"2","result":"Dropped"}]}`)
		if len(r.Answers) != 1 || r.Answers[0].RecordID != "2" || r.Skipped != 1 {
			t.Errorf("%s: %+v, %d skipped; want only the answer for 2", element, r.Answers, r.Skipped)
		}
	}
}

func TestResponsesWithoutAnyAnswer(t *testing.T) {
	tests := map[string]Fault{
		``: NotJSON, `hello`: NotJSON, `{"records":[`: NotJSON, `{"records":[]} x`: NotJSON, "{\"records\":[{\"data\":\"aGk=\n\"}]}": NotJSON,
		`{"records":[{"recordId":"1",}]}`: NotJSON, `{'records':[]}`: NotJSON,
		`null`: NoRecords, `{}`: NoRecords, `[]`: NoRecords, `"text"`: NoRecords, `1`: NoRecords,
		`{"records":null}`: NoRecords, `{"records":{}}`: NoRecords, `{"Records":[]}`: NoRecords, `{"errorMessage":"x"}`: NoRecords,
	}
	for payload, want := range tests {
		r := Response{Answers: []Answer{{RecordID: "old"}}, Skipped: 3}
		err := ParseResponse([]byte(payload), &r)
		e, ok := errors.AsType[*ResponseError](err)
		if !ok || e.Fault != want || len(r.Answers) != 0 || r.Skipped != 0 {
			t.Errorf("%s: %v with %d answers, want fault %d", payload, err, len(r.Answers), want)
		}
	}
	if r := parse(t, ` { "records" : [ ] } `); len(r.Answers) != 0 {
		t.Errorf("an empty list gave %+v", r.Answers)
	}
}

func TestEveryFaultHasACode(t *testing.T) {
	want := map[Fault]string{
		NoFault: "", MarkedFailed: "Lambda.ProcessingFailedStatus", InvalidResult: "Lambda.FunctionError", InvalidData: "Lambda.FunctionError",
		InvalidMetadata: "Lambda.FunctionError", MissingData: "Lambda.InvalidReturnFormat", MissingRecordID: "Lambda.MissingRecordId",
		DuplicatedRecordID: "Lambda.DuplicatedRecordId", FunctionError: "Lambda.FunctionError", NotJSON: "Lambda.JsonProcessingException",
		NoRecords: "Lambda.MissingRecordId",
	}
	for f := range Fault(len(faults)) {
		if f.Code() != want[f] || (f.Message() == "") != (f == NoFault) {
			t.Errorf("fault %d: %q, %q; want the code %q", f, f.Code(), f.Message(), want[f])
		}
	}
}

// goResponse is what a handler that is built with aws-lambda-go returns for an event.
func goResponse(t testing.TB, e *Event) []byte {
	t.Helper()
	var out events.KinesisFirehoseResponse
	for i, r := range e.Records {
		out.Records = append(out.Records, events.KinesisFirehoseResponseRecord{RecordID: r.ID, Result: events.KinesisFirehoseTransformedStateOk, Data: r.Data,
			Metadata: events.KinesisFirehoseResponseRecordMetadata{PartitionKeys: map[string]string{"n": fmt.Sprint(i)}}})
	}
	b, err := json.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestResponseOfAGoHandlerTakesTheFastWay(t *testing.T) {
	e := sampleEvent(50, 333)
	payload := goResponse(t, e)
	var r Response
	r.reset(len(payload))
	if s := (scanner{in: payload, out: &r}); !s.response() {
		t.Fatalf("the scanner gave up at byte %d", s.at)
	}
	if len(r.Answers) != len(e.Records) {
		t.Fatalf("%d answers, want %d", len(r.Answers), len(e.Records))
	}
	for i, a := range r.Answers {
		want := Answer{RecordID: e.Records[i].ID, Data: e.Records[i].Data, PartitionKeys: map[string]string{"n": fmt.Sprint(i)}}
		if !reflect.DeepEqual(a, want) {
			t.Errorf("answer %d: %+v, want %+v", i, a, want)
		}
	}
	// Python writes a space after every comma and colon.
	python := `{"records": [{"recordId": "1", "result": "Ok", "data": "aGk=", "metadata": {"partitionKeys": {"a": "b", "n": 7, "t": true}}}]}`
	r.reset(len(python))
	if s := (scanner{in: []byte(python), out: &r}); !s.response() {
		t.Errorf("the scanner gave up on Python's form at byte %d", s.at)
	}
}

func TestResponseMemoryIsUsedAgain(t *testing.T) {
	payload := goResponse(t, sampleEvent(20, 1000))
	var r Response
	if err := ParseResponse(payload, &r); err != nil {
		t.Fatal(err)
	}
	first := &r.Answers[0].Data[0]
	if err := ParseResponse(payload, &r); err != nil {
		t.Fatal(err)
	}
	if &r.Answers[0].Data[0] != first {
		t.Error("the second response got new memory")
	}
	a, b := r.Answers[0].Data, bytes.Clone(r.Answers[1].Data)
	if _ = append(a, 'x'); !bytes.Equal(b, r.Answers[1].Data) {
		t.Error("appending to one answer's data changed the next one's")
	}
}

// FuzzParseResponse holds the scanner against encoding/json.
func FuzzParseResponse(f *testing.F) {
	for _, record := range []string{
		`{"recordId":"1","result":"Ok","data":"aGk=","metadata":{"partitionKeys":{"a":"b","n":-12,"t":false,"z":null,"e":""},"otfMetadata":{"destinationDatabaseName":"d","destinationTableName":null,"operation":"insert"}}}`,
		`{"recordId":"ü\ud83d","result":"Dropped","data":null}`,
		`{"recordId":"1","result":"ProcessingFailed","data":"` + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("0123456789"), 20)) + `"}`,
		`{"recordId":"1","recordId":"2","metadata":{"partitionKeys":{"a":"1","a":null}}}`,
		`{"data":"aGk=\n"}`, `{"data":"aG=k"}`, `{"data":"===="}`, `null`, `{}`,
	} {
		f.Add([]byte(`{"records":[` + record + `]}`))
		f.Add([]byte(` {"records" : [` + record + "\n, " + record + `] } `))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		var fast, slow Response
		fast.reset(len(payload))
		slow.reset(len(payload))
		s := scanner{in: payload, out: &fast}
		taken := s.response()
		fault := slow.decode(payload)
		if !taken {
			var r Response
			err := ParseResponse(payload, &r)
			if (err == nil) != (fault == NoFault) {
				t.Fatalf("ParseResponse = %v, decode = %d", err, fault)
			}
			return
		}
		if fault != NoFault || fast.Skipped != slow.Skipped || len(fast.Answers) != len(slow.Answers) {
			t.Fatalf("the scanner took what encoding/json finds different (fault %d):\n%+v\n%+v", fault, fast, slow)
		}
		for i := range fast.Answers {
			if !reflect.DeepEqual(fast.Answers[i], slow.Answers[i]) {
				t.Fatalf("answer %d:\nscanner       %+v\nencoding/json %+v", i, fast.Answers[i], slow.Answers[i])
			}
		}
	})
}

// FuzzBase64 holds the vector code against the standard library where it is fast: long data.
func FuzzBase64(f *testing.F) {
	f.Add(strings.Repeat("QUJD", 40), 77, byte('!'))
	f.Add(strings.Repeat("/+9=", 40), 3, byte('\n'))
	f.Fuzz(func(t *testing.T, data string, at int, c byte) {
		b := []byte(data)
		if len(b) > 0 {
			b[int(uint(at)%uint(len(b)))] = c
		}
		payload := append(append([]byte(`{"records":[{"recordId":"1","result":"Ok","data":"`), b...), `"}]}`...)
		var fast, slow Response
		fast.reset(len(payload))
		slow.reset(len(payload))
		s := scanner{in: payload, out: &fast}
		if !s.response() {
			return
		}
		if fault := slow.decode(payload); fault != NoFault || !reflect.DeepEqual(fast.Answers, slow.Answers) {
			t.Fatalf("%s: fault %d\n%+v\n%+v", payload, fault, fast.Answers, slow.Answers)
		}
	})
}

func BenchmarkAppendEvent(b *testing.B) {
	e := sampleEvent(4000, 1000)
	b.Run("append", func(b *testing.B) {
		var dst []byte
		b.SetBytes(int64(EncodedSize(e)))
		b.ReportAllocs()
		for b.Loop() {
			dst = AppendEvent(dst[:0], e)
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		in := events.KinesisFirehoseEvent{InvocationID: e.InvocationID, DeliveryStreamArn: e.DeliveryStreamARN, SourceKinesisStreamArn: e.SourceStreamARN, Region: e.Region}
		for _, r := range e.Records {
			in.Records = append(in.Records, events.KinesisFirehoseEventRecord{RecordID: r.ID, Data: r.Data,
				KinesisFirehoseRecordMetadata: events.KinesisFirehoseRecordMetadata{ShardID: r.ShardID, PartitionKey: string(r.PartitionKey), SequenceNumber: r.SequenceNumber}})
		}
		b.SetBytes(int64(EncodedSize(e)))
		b.ReportAllocs()
		for b.Loop() {
			json.Marshal(&in)
		}
	})
}

func BenchmarkParseResponse(b *testing.B) {
	payload := goResponse(b, sampleEvent(4000, 1000))
	b.Run("scanner", func(b *testing.B) {
		var r Response
		b.SetBytes(int64(len(payload)))
		b.ReportAllocs()
		for b.Loop() {
			if err := ParseResponse(payload, &r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("fallback", func(b *testing.B) {
		var r Response
		b.SetBytes(int64(len(payload)))
		b.ReportAllocs()
		for b.Loop() {
			r.reset(len(payload))
			r.decode(payload)
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(payload)))
		b.ReportAllocs()
		for b.Loop() {
			var out events.KinesisFirehoseResponse
			if err := json.Unmarshal(payload, &out); err != nil {
				b.Fatal(err)
			}
		}
	})
}
