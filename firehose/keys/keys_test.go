package keys

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/shardmill/shardmill/internal/errs"
)

// sample is the key that the tests evaluate: Monday, 13 July 2026 in UTC.
var sample = Key{
	Stream:  "orders",
	Version: "3",
	Oldest:  time.Date(2026, 7, 13, 14, 5, 9, 987654321, time.UTC),
	ID:      uuid.MustParse("0b7c3a52-41d9-8f10-9a3e-6f2f5f1f9d11"),
	Query:   map[string]string{"customer": "c-17", "year": "2026"},
	Lambda:  map[string]string{"region": "eu"},
}

const sampleName = "orders-3-2026-07-13-14-05-09-0b7c3a52-41d9-8f10-9a3e-6f2f5f1f9d11"

func mustParse(t *testing.T, s Settings) *Template {
	t.Helper()
	tpl, err := Parse(s)
	if err != nil {
		t.Fatalf("Parse(%+v): %v", s, err)
	}
	return tpl
}

func TestObjectKeys(t *testing.T) {
	partitioned := func(prefix string) Settings {
		return Settings{Prefix: prefix, ErrorPrefix: "failed/!{firehose:error-output-type}/", DynamicPartitioning: true}
	}
	withErrors := func(prefix string) Settings { return Settings{Prefix: prefix, ErrorPrefix: "failed/"} }
	tests := map[string]struct {
		settings Settings
		want     string
	}{
		"no prefix: the time":              {Settings{}, "2026/07/13/14/" + sampleName},
		"text: the time, no slash between": {Settings{Prefix: "legacy"}, "legacy2026/07/13/14/" + sampleName},
		"a timestamp: nothing appended":    {withErrors("in/!{timestamp:yyyy}/"), "in/2026/" + sampleName},
		"several timestamps, one instant":  {withErrors("!{timestamp:HH}-!{timestamp:mm}-!{timestamp:ss.SSS}/"), "14-05-09.000/" + sampleName},
		"Hive names by quoted text":        {withErrors("!{timestamp:'year='yyyy'/month='MM/}"), "year=2026/month=07/" + sampleName},
		"random strings, each another":     {withErrors("!{firehose:random-string}/!{firehose:random-string}/"), "d58cce5a-18/5657f097-6a/2026/07/13/14/" + sampleName},
		"random string and timestamp":      {withErrors("!{firehose:random-string}/!{timestamp:yyyy}/"), "d58cce5a-18/2026/" + sampleName},
		"partition keys: no time":          {partitioned("c=!{partitionKeyFromQuery:customer}/r=!{partitionKeyFromLambda:region}/"), "c=c-17/r=eu/" + sampleName},
		"partition keys and time":          {partitioned("!{partitionKeyFromQuery:customer}/!{timestamp:yyyy/MM}/"), "c-17/2026/07/" + sampleName},
		"a brace alone is text":            {Settings{Prefix: "a}b!c{"}, "a}b!c{2026/07/13/14/" + sampleName},
		"default extension":                {Settings{DefaultExtension: ".gz"}, "2026/07/13/14/" + sampleName + ".gz"},
		"own extension":                    {Settings{DefaultExtension: ".gz", Extension: ".json.gz"}, "2026/07/13/14/" + sampleName + ".json.gz"},
		"time zone for prefix and name": {Settings{TimeZone: "Asia/Tokyo"},
			"2026/07/13/23/orders-3-2026-07-13-23-05-09-0b7c3a52-41d9-8f10-9a3e-6f2f5f1f9d11"},
		"time zone across midnight": {Settings{TimeZone: "Pacific/Auckland"},
			"2026/07/14/02/orders-3-2026-07-14-02-05-09-0b7c3a52-41d9-8f10-9a3e-6f2f5f1f9d11"},
	}
	for name, tt := range tests {
		got, err := mustParse(t, tt.settings).Object(sample)
		if err != nil || got != tt.want {
			t.Errorf("%s:\n got %q, %v\nwant %q", name, got, err, tt.want)
		}
	}
}

func TestErrorKeys(t *testing.T) {
	tests := map[string]struct {
		settings Settings
		want     string
	}{
		"nothing given: type and time":             {Settings{}, "processing-failed/2026/07/13/14/"},
		"only Prefix: it, type and time":           {Settings{Prefix: "in/"}, "in/processing-failed/2026/07/13/14/"},
		"text: type and time, no slash between":    {Settings{ErrorPrefix: "errors-"}, "errors-processing-failed/2026/07/13/14/"},
		"expressions: nothing appended":            {Settings{ErrorPrefix: "e/!{firehose:error-output-type}/!{timestamp:yyyy-DDD}/"}, "e/processing-failed/2026-194/"},
		"type alone":                               {Settings{ErrorPrefix: "e/!{firehose:error-output-type}"}, "e/processing-failed"},
		"Prefix with expressions has no influence": {Settings{Prefix: "!{timestamp:yyyy}/", ErrorPrefix: "e/"}, "e/processing-failed/2026/07/13/14/"},
		"time zone": {Settings{ErrorPrefix: "e/", TimeZone: "UTC"}, "e/processing-failed/2026/07/13/14/"},
	}
	for name, tt := range tests {
		tt.settings.DefaultExtension = ".gz"
		got, err := mustParse(t, tt.settings).Error(sample, "processing-failed")
		if want := tt.want + sampleName + ".gz"; err != nil || got != want {
			t.Errorf("%s:\n got %q, %v\nwant %q", name, got, err, want)
		}
	}
}

func TestSettingsThatCanNeverWork(t *testing.T) {
	const okErrors = "failed/!{firehose:error-output-type}/"
	tests := map[string]struct {
		settings Settings
		want     string // a part of the message
	}{
		"unknown namespace":            {Settings{Prefix: "!{date:yyyy}", ErrorPrefix: okErrors}, "the namespace of !{date:yyyy} is unknown"},
		"namespaces are lower case":    {Settings{Prefix: "!{Timestamp:yyyy}", ErrorPrefix: okErrors}, "is unknown"},
		"unknown name in firehose":     {Settings{Prefix: "!{firehose:stream-name}", ErrorPrefix: okErrors}, "!{firehose:stream-name} is unknown"},
		"no colon":                     {Settings{Prefix: "!{timestamp}", ErrorPrefix: okErrors}, "not an expression of the form"},
		"empty pattern":                {Settings{Prefix: "!{timestamp:}", ErrorPrefix: okErrors}, "not an expression of the form"},
		"no closing brace":             {Settings{Prefix: "in/!{timestamp:yyyy", ErrorPrefix: okErrors}, "has no closing brace"},
		"bad time letter":              {Settings{Prefix: "!{timestamp:yyyy-bb}", ErrorPrefix: okErrors}, "the pattern letter b is not supported"},
		"expression in a pattern":      {Settings{Prefix: "!{timestamp:!{x}}", ErrorPrefix: okErrors}, "{ is reserved"},
		"error type in Prefix":         {Settings{Prefix: "!{firehose:error-output-type}/", ErrorPrefix: okErrors}, "Prefix must not contain !{firehose:error-output-type}"},
		"partition key, not enabled":   {Settings{Prefix: "!{partitionKeyFromQuery:k}/", ErrorPrefix: okErrors}, "Dynamic Partitioning Namespaces can only be part of a prefix expression when Dynamic Partitioning is enabled."},
		"enabled, no partition key":    {Settings{Prefix: "!{timestamp:yyyy}/", ErrorPrefix: okErrors, DynamicPartitioning: true}, "S3 Prefix should contain Dynamic Partitioning namespaces when Dynamic Partitioning is enabled"},
		"expressions, no error prefix": {Settings{Prefix: "!{timestamp:yyyy}/"}, "ErrorOutputPrefix must be given"},
		"error prefix without type":    {Settings{ErrorPrefix: "!{timestamp:yyyy}/"}, "not !{firehose:error-output-type}"},
		"error prefix with partition":  {Settings{ErrorPrefix: okErrors + "!{partitionKeyFromLambda:k}"}, "ErrorOutputPrefix must not contain partition keys"},
		"too long before evaluation":   {Settings{Prefix: strings.Repeat("a", 1025)}, "1025 characters, at most 1024"},
		"too long after evaluation":    {Settings{Prefix: strings.Repeat("é", 513)}, "can evaluate to 513 characters, at most 512"},
		"too long in September only":   {Settings{Prefix: strings.Repeat("a", 504) + "!{timestamp:MMMM}", ErrorPrefix: okErrors}, "can evaluate to 513"},
		"too long with any partition":  {Settings{Prefix: strings.Repeat("a", 512) + "!{partitionKeyFromQuery:k}", ErrorPrefix: okErrors, DynamicPartitioning: true}, "can evaluate to 513"},
		"not UTF-8":                    {Settings{Prefix: "a\xff"}, "not valid UTF-8"},
		"extension without a dot":      {Settings{Extension: "gz"}, `FileExtension "gz"`},
		"extension in upper case":      {Settings{Extension: ".GZ"}, `FileExtension ".GZ"`},
		"extension too long":           {Settings{Extension: "." + strings.Repeat("z", 128)}, "FileExtension"},
		"zone without a region":        {Settings{TimeZone: "CET"}, `CustomTimeZone "CET"`},
		"zone of this machine":         {Settings{TimeZone: "Local"}, `CustomTimeZone "Local"`},
		"zone that does not exist":     {Settings{TimeZone: "Europe/Atlantis"}, `CustomTimeZone "Europe/Atlantis" is not known`},
		"zone with digits":             {Settings{TimeZone: "Etc/GMT+5"}, `CustomTimeZone "Etc/GMT+5"`},
		"zone outside the database":    {Settings{TimeZone: "posix/Europe/Paris"}, "CustomTimeZone"},
	}
	for name, tt := range tests {
		_, err := Parse(tt.settings)
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Parse = %v, want Invalid with %q", name, err, tt.want)
		}
	}
	// Just inside the limits.
	mustParse(t, Settings{Prefix: strings.Repeat("é", 512)})
	mustParse(t, Settings{Prefix: strings.Repeat("a", 503) + "!{timestamp:MMMM}", ErrorPrefix: okErrors})
	mustParse(t, Settings{Extension: "." + strings.Repeat("z", 127)})
}

func TestPartitions(t *testing.T) {
	tpl := mustParse(t, Settings{
		Prefix:              "!{partitionKeyFromQuery:a}/!{partitionKeyFromQuery:b}/!{partitionKeyFromLambda:c}/!{partitionKeyFromQuery:a}/",
		ErrorPrefix:         "failed/!{firehose:error-output-type}/",
		DynamicPartitioning: true,
	})
	if got := tpl.QueryKeys(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("QueryKeys = %q, want a and b", got)
	}
	if got := tpl.LambdaKeys(); !slices.Equal(got, []string{"c"}) {
		t.Errorf("LambdaKeys = %q, want c", got)
	}
	partition := func(a, b, c string) string {
		p, err := tpl.AppendPartition(nil, map[string]string{"a": a, "b": b, "unused": "x"}, map[string]string{"c": c})
		if err != nil {
			t.Fatal(err)
		}
		return string(p)
	}
	if one, other := partition("1", "2", "3"), partition("1", "2", "3"); one != other {
		t.Error("equal values gave different partitions")
	}
	if partition("1", "23", "3") == partition("12", "3", "3") || partition("1", "2:2", "3") == partition("1", "2", "2:3") {
		t.Error("different values gave the same partition")
	}

	dst := []byte("kept")
	got, err := tpl.AppendPartition(dst, map[string]string{"a": "1", "b": ""}, map[string]string{"c": "3"})
	if !errs.Is(err, errs.Invalid) || !strings.HasPrefix(err.Error(), "partitionKeys values must not be null or empty: there is none for !{partitionKeyFromQuery:b}") || string(got) != "kept" {
		t.Errorf("empty value: %q, %v", got, err)
	}
	if _, err := tpl.Object(Key{Oldest: sample.Oldest, Query: map[string]string{"a": "1", "b": "2"}}); !errs.Is(err, errs.Invalid) ||
		!strings.Contains(err.Error(), "!{partitionKeyFromLambda:c}") {
		t.Errorf("Object without a value: %v", err)
	}
	// Four slashes, a twice, b and c once: 512 characters are the most.
	long := map[string]string{"a": strings.Repeat("ä", 253), "b": "b"}
	if _, err := tpl.AppendPartition(nil, long, map[string]string{"c": "c"}); err != nil {
		t.Errorf("512 characters: %v", err)
	}
	if _, err := tpl.AppendPartition(nil, long, map[string]string{"c": "cc"}); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "513 characters") {
		t.Errorf("513 characters: %v", err)
	}
	if _, err := tpl.Object(Key{Oldest: sample.Oldest, Query: long, Lambda: map[string]string{"c": "cc"}}); !errs.Is(err, errs.Invalid) {
		t.Errorf("Object of 513 characters: %v", err)
	}
	big := map[string]string{"a": strings.Repeat("語", 252), "b": "b"}
	if _, err := tpl.Object(Key{Oldest: sample.Oldest, Query: big, Lambda: map[string]string{"c": "c"}}); !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), "S3 allows 1024") {
		t.Errorf("Object key beyond 1024 bytes: %v", err)
	}
}

func TestYearsThatKeysCannotHave(t *testing.T) {
	k := sample
	k.Oldest = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := mustParse(t, Settings{}).Object(k); !errs.Is(err, errs.Invalid) {
		t.Errorf("year 10000: %v", err)
	}
}

func TestObjectIDIsTheSameForEver(t *testing.T) {
	id := Identity{DeliveryStream: "ds-1", Version: "1", Ranges: "shardId-000000000000:4959-4960", Kind: "data"}
	if got, want := ObjectID(id).String(), "a07e157e-0ba0-8937-97ba-5801a84e3d91"; got != want {
		t.Errorf("ObjectID = %s, want %s: objects under way at an upgrade would be written twice", got, want)
	}
	if v, r := ObjectID(id).Version(), ObjectID(id).Variant(); v != 8 || r != uuid.RFC4122 {
		t.Errorf("version %d, variant %s", v, r)
	}
	others := []Identity{id, id, id, id, id, id, id}
	others[0].DeliveryStream = "ds-11"
	others[1].Version = "2"
	others[2].Ranges = "shardId-000000000000:4959-4961"
	others[3].Kind = "processing-failed"
	others[4].Partition = "1:x"
	others[5].Part = 1
	others[6].DeliveryStream, others[6].Version = "ds-", "11"
	seen := map[uuid.UUID]bool{ObjectID(id): true}
	for _, o := range others {
		if seen[ObjectID(o)] {
			t.Errorf("%+v has the id of another object", o)
		}
		seen[ObjectID(o)] = true
	}
}

func FuzzParse(f *testing.F) {
	f.Add("in/!{timestamp:yyyy/MM/dd}/!{firehose:random-string}", "e/!{firehose:error-output-type}/", "Europe/Dublin", false)
	f.Add("!{partitionKeyFromQuery:k}!{partitionKeyFromLambda:k}!{timestamp:ppppppe'q'[zzzz]XXX}", "e/!{firehose:error-output-type}/", "", true)
	f.Add("!{", "!{timestamp:'", "UTC", false)
	f.Fuzz(func(t *testing.T, prefix, errorPrefix, zone string, dynamic bool) {
		tpl, err := Parse(Settings{Prefix: prefix, ErrorPrefix: errorPrefix, TimeZone: zone, DefaultExtension: ".gz", DynamicPartitioning: dynamic})
		if err != nil {
			if !errs.Is(err, errs.Invalid) {
				t.Fatalf("%v is not Invalid", err)
			}
			return
		}
		k := sample
		k.Query, k.Lambda = map[string]string{}, map[string]string{}
		for _, name := range tpl.QueryKeys() {
			k.Query[name] = "v"
		}
		for _, name := range tpl.LambdaKeys() {
			k.Lambda[name] = "v"
		}
		if _, err := tpl.AppendPartition(nil, k.Query, k.Lambda); err != nil {
			t.Fatalf("Parse promised that values of one character fit: %v", err)
		}
		for month := range 12 {
			k.Oldest = sample.Oldest.AddDate(0, month, 0)
			a, err := tpl.Object(k)
			if err != nil {
				if !strings.Contains(err.Error(), "S3 allows") {
					t.Fatal(err)
				}
				continue
			}
			if b, _ := tpl.Object(k); a != b || !strings.HasSuffix(a, k.ID.String()+".gz") {
				t.Fatalf("%q, then %q", a, b)
			}
			if _, err := tpl.Error(k, "processing-failed"); err != nil && !strings.Contains(err.Error(), "S3 allows") {
				t.Fatal(err)
			}
		}
	})
}

func BenchmarkAppendPartition(b *testing.B) {
	tpl, err := Parse(Settings{Prefix: "!{partitionKeyFromQuery:customer}/!{timestamp:yyyy}/", ErrorPrefix: "e/", DynamicPartitioning: true})
	if err != nil {
		b.Fatal(err)
	}
	var dst []byte
	b.ReportAllocs()
	for b.Loop() {
		dst, _ = tpl.AppendPartition(dst[:0], sample.Query, sample.Lambda)
	}
}
