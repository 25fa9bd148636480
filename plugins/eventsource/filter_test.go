package eventsource

import (
	"testing"

	"github.com/shardmill/shardmill/shards"
)

func TestFilters(t *testing.T) {
	for _, c := range []struct {
		pattern, data string
		want          bool
	}{
		{`{"data":{"a":["x"]}}`, `{"a":"x"}`, true},
		{`{"data":{"a":["x"]}}`, `{"a":"X"}`, false},
		{`{"data":{"a":["x","y"]}}`, `{"a":"y"}`, true},
		{`{"data":{"a":["x"],"b":[1]}}`, `{"a":"x","b":1}`, true},
		{`{"data":{"a":["x"],"b":[1]}}`, `{"a":"x","b":2}`, false},
		{`{"data":{"a":["x"],"b":[1]}}`, `{"a":"x"}`, false},
		{`{"data":{"a":{"b":[true]}}}`, `{"a":{"b":true}}`, true},
		{`{"data":{"a":{"b":[true]}}}`, `{"a":true}`, false},
		{`{"data":{"a":[null]}}`, `{"a":null}`, true},
		{`{"data":{"a":[null]}}`, `{}`, false},
		{`{"data":{"a":[""]}}`, `{"a":""}`, true},
		{`{"data":{"a":[300]}}`, `{"a":300}`, true},
		{`{"data":{"a":[300]}}`, `{"a":300.0}`, false},
		{`{"data":{"a":[{"numeric":["=",300]}]}}`, `{"a":3.0e2}`, true},
		{`{"data":{"a":[{"numeric":[">",10,"<=",20]}]}}`, `{"a":20}`, true},
		{`{"data":{"a":[{"numeric":[">",10,"<=",20]}]}}`, `{"a":10}`, false},
		{`{"data":{"a":[{"numeric":[">",10,"<=",20]}]}}`, `{"a":"15"}`, false},
		{`{"data":{"a":[{"prefix":"ab"}]}}`, `{"a":"abc"}`, true},
		{`{"data":{"a":[{"suffix":"bc"}]}}`, `{"a":"abc"}`, true},
		{`{"data":{"a":[{"suffix":"ab"}]}}`, `{"a":"abc"}`, false},
		{`{"data":{"a":[{"equals-ignore-case":"ABC"}]}}`, `{"a":"abc"}`, true},
		{`{"data":{"a":[{"anything-but":["x","y"]}]}}`, `{"a":"z"}`, true},
		{`{"data":{"a":[{"anything-but":["x","y"]}]}}`, `{"a":"x"}`, false},
		{`{"data":{"a":[{"anything-but":"x"}]}}`, `{}`, false},
		{`{"data":{"a":[{"anything-but":{"prefix":"x"}}]}}`, `{"a":"xy"}`, false},
		{`{"data":{"a":[{"exists":true}]}}`, `{"a":1}`, true},
		{`{"data":{"a":[{"exists":true}]}}`, `{"a":{"b":1}}`, false},
		{`{"data":{"a":[{"exists":false}]}}`, `{"b":1}`, true},
		{`{"data":{"a":[{"exists":false}]}}`, `{"a":1}`, false},
		{`{"data":{"$or":[{"a":[1]},{"b":[2]}]}}`, `{"b":2}`, true},
		{`{"data":{"$or":[{"a":[1]},{"b":[2]}]}}`, `{"a":2,"b":1}`, false},
		{`{"data":{"c":[3],"$or":[{"a":[1]},{"b":[2]}]}}`, `{"b":2}`, false},
		{`{"data":{"a":["x"]}}`, `{"a":["y","x"]}`, true},
		{`{"data":{"a":["x"]}}`, `not json`, false},
		{`{"partitionKey":["k"]}`, `not json`, true},
		{`{"partitionKey":["l"]}`, `{}`, false},
		{`{"partitionKey":["k"],"data":{"a":[1]}}`, `{"a":1}`, true},
		{`{"data":{"a":["é"]}}`, `{"a":"\u00e9"}`, true},
	} {
		fs, err := compileFilters([]string{c.pattern})
		if err != nil {
			t.Fatalf("%s: %v", c.pattern, err)
		}
		if got := fs.match(&item{seq: shards.Seq{Created: 1700000000, Pos: 1}, key: []byte("k"), data: []byte(c.data)}); got != c.want {
			t.Errorf("%s of %s: %t", c.pattern, c.data, got)
		}
	}
	fs, err := compileFilters([]string{`{"data":{"a":[1]}}`, `{"data":{"b":[2]}}`})
	if err != nil || !fs.match(&item{data: []byte(`{"b":2}`)}) || fs.match(&item{data: []byte(`{"b":1}`)}) {
		t.Errorf("any of two filters: %v", err)
	}
}

func TestPatternsThatCannotBe(t *testing.T) {
	for _, text := range []string{``, `{`, `[]`, `"x"`, `{}`, `{"data":"x"}`, `{"data":{"a":"x"}}`, `{"data":{"a":[]}}`, `{"data":{}}`, `{"data":{"a":[["x"]]}}`, `{"data":{"a":[{"between":1}]}}`,
		`{"data":{"a":[{"numeric":["=","1"]}]}}`, `{"data":{"a":[{"numeric":["!",1]}]}}`, `{"data":{"a":[{"numeric":[">",1,"<"]}]}}`, `{"data":{"a":[{"prefix":1}]}}`, `{"data":{"a":[{"exists":1}]}}`, `{"data":{"$or":[]}}`, `{"data":{"a":[1]}} x`} {
		if _, err := compileFilters([]string{text}); err == nil {
			t.Errorf("%s was taken", text)
		}
	}
}

func FuzzFilters(f *testing.F) {
	f.Add(`{"data":{"a":[{"numeric":["=",300]}],"$or":[{"b":[null]}]}}`, `{"a":[3e2,{"b":1}]}`)
	f.Fuzz(func(t *testing.T, pattern, data string) {
		if fs, err := compileFilters([]string{pattern}); err == nil {
			fs.match(&item{key: []byte("k"), data: []byte(data)})
		}
	})
}
