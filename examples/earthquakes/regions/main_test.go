package main

import (
	"context"
	"testing"

	"github.com/aws/aws-lambda-go/events"
)

func TestHandle(t *testing.T) {
	cases := []struct{ in, result, out string }{
		{`{"id":"uw1","place":"37km NNE of Amboy, Washington","mag":0.31,"depth":3.280}`, "Ok",
			`{"depth":3.280,"id":"uw1","mag":0.31,"place":"37km NNE of Amboy, Washington","region":"Washington"}` + "\n"},
		{`{"place":"south of the Fiji Islands"}`, "Ok", `{"place":"south of the Fiji Islands","region":"south of the Fiji Islands"}` + "\n"},
		{`{"place":"5km W of A, B,  New Zealand "}`, "Ok", `{"place":"5km W of A, B,  New Zealand ","region":"New Zealand"}` + "\n"},
		{`{"place":"Región de Atacama, Perú"}`, "Ok", `{"place":"Región de Atacama, Perú","region":"Perú"}` + "\n"},
		{`{"mag":1}`, "Ok", `{"mag":1,"region":""}` + "\n"},
		{`{"place":null}`, "Ok", `{"place":null,"region":""}` + "\n"},
		{`{"place":7}`, "ProcessingFailed", `{"place":7}`},
		{`{"place":"cut sho`, "ProcessingFailed", `{"place":"cut sho`},
		{`null`, "ProcessingFailed", `null`},
		{``, "ProcessingFailed", ``},
	}
	var event events.KinesisFirehoseEvent
	for i, c := range cases {
		event.Records = append(event.Records, events.KinesisFirehoseEventRecord{RecordID: string(rune('a' + i)), Data: []byte(c.in)})
	}
	response, err := handle(context.Background(), event)
	if err != nil {
		t.Fatal(err)
	}
	if len(response.Records) != len(cases) {
		t.Fatalf("%d answers to %d records", len(response.Records), len(cases))
	}
	for i, c := range cases {
		got := response.Records[i]
		if got.RecordID != event.Records[i].RecordID || got.Result != c.result || string(got.Data) != c.out {
			t.Errorf("%s: got %q %s %q; want %s %q", c.in, got.RecordID, got.Result, got.Data, c.result, c.out)
		}
	}
}
