package plugins

import (
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/shardmill/shardmill/internal/errs"
)

func TestNamesOfEntries(t *testing.T) {
	const badName = " does not give a function name: use 1 to 64 of the characters a-z, A-Z, 0-9, - and _ before the extension"
	long := strings.Repeat("a", 64)
	for file, want := range map[string]struct {
		name string
		form form
		err  string
	}{
		"upper.wasm":        {"upper", module, ""},
		"upper":             {"upper", plain, ""},
		"upper.zip":         {"upper", archive, ""},
		"A-b_9.wasm":        {"A-b_9", module, ""},
		long:                {long, plain, ""},
		".upper.wasm":       {"", ignored, ""},
		"..":                {"", ignored, ""},
		"upper.wasm.tmp":    {"", ignored, ""},
		"upper.wasm.part":   {"", ignored, ""},
		"upper.wasm~":       {"", ignored, ""},
		"notes.txt":         {"", foreign, "notes.txt is not a plugin: " + accepted},
		"upper.WASM":        {"", foreign, "upper.WASM is not a plugin: " + accepted},
		"upper.":            {"", foreign, "upper. is not a plugin: " + accepted},
		"upper.jar":         {"upper", archive, ""},
		"upper.js":          {"upper", nodeSource, ""},
		"upper.mjs":         {"upper", nodeSource, ""},
		"upper.cjs":         {"upper", nodeSource, ""},
		"upper.py":          {"upper", pythonSource, ""},
		"upper.yaml":        {"upper", manifestFile, ""},
		"upper.yml":         {"", foreign, "upper.yml is not a plugin; if it is a manifest, name it upper.yaml"},
		"upper.json":        {"", foreign, "upper.json is not a plugin; if it is a manifest, name it upper.yaml"},
		"a.b.wasm":          {"", foreign, "a.b.wasm" + badName},
		long + "a.wasm":     {"", foreign, long + "a.wasm" + badName},
		"lost+found":        {"", foreign, "lost+found" + badName},
		"größe":             {"", foreign, "größe" + badName},
		"\x1b]0;x\x07.wasm": {"", foreign, `\x1b]0;x\a.wasm` + badName},
		"a\u202e.txt":       {"", foreign, `a\u202e.txt is not a plugin: ` + accepted},
		"a\xff":             {"", foreign, `a\xff` + badName},
		"a\nb":              {"", foreign, `a\nb` + badName},
	} {
		name, f, err := classify(file)
		if name != want.name || f != want.form {
			t.Errorf("%q is %q, form %d; want %q, %d", file, name, f, want.name, want.form)
		}
		if want.err != "" {
			wantErr(t, err, errs.Invalid, want.err)
		} else if err != nil {
			t.Errorf("%q: %v", file, err)
		}
	}
}

func TestReferencesToFunctions(t *testing.T) {
	o := Options{Region: "us-east-1", Account: "000000000000"}
	const home = "arn:aws:lambda:us-east-1:000000000000:function:"
	for _, ref := range []string{"upper", "upper:$LATEST", home + "upper", home + "upper:$LATEST"} {
		if name, err := o.resolve(ref); name != "upper" || err != nil {
			t.Errorf("%s is %q (%v), want upper", ref, name, err)
		}
	}
	const (
		noAlias = ": plugins have no version or alias but $LATEST"
		away    = ": this host serves region us-east-1 of account 000000000000"
		bad     = " is neither a function name nor a function ARN: give NAME or " + home + "NAME"
	)
	for _, c := range []struct {
		ref  string
		kind errs.Kind
		want string
	}{
		{"upper:prod", errs.NotFound, "Function not found: " + home + "upper:prod" + noAlias},
		{"upper:7", errs.NotFound, "Function not found: " + home + "upper:7" + noAlias},
		{home + "upper:prod", errs.NotFound, "Function not found: " + home + "upper:prod" + noAlias},
		{"arn:aws:lambda:eu-west-1:000000000000:function:upper", errs.NotFound, "Function not found: arn:aws:lambda:eu-west-1:000000000000:function:upper" + away},
		{"arn:aws:lambda:us-east-1:123456789012:function:upper", errs.NotFound, "Function not found: arn:aws:lambda:us-east-1:123456789012:function:upper" + away},
		{"arn:aws-cn:lambda:us-east-1:000000000000:function:upper", errs.NotFound, "Function not found: arn:aws-cn:lambda:us-east-1:000000000000:function:upper" + away},
		{"arn:aws:lambda:eu-\x1b[2J:000000000000:function:upper", errs.NotFound, `Function not found: arn:aws:lambda:eu-\x1b[2J:000000000000:function:upper` + away},
		{"arn:aws:kinesis:us-east-1:000000000000:stream/upper", errs.Invalid, `"arn:aws:kinesis:us-east-1:000000000000:stream/upper"` + bad},
		{"arn:aws:lambda:us-east-1:000000000000:layer:upper", errs.Invalid, `"arn:aws:lambda:us-east-1:000000000000:layer:upper"` + bad},
		{home + "upper:a:b", errs.Invalid, `"` + home + `upper:a:b"` + bad},
		{home, errs.Invalid, `"` + home + `"` + bad},
		{"", errs.Invalid, `""` + bad},
		{"upper:", errs.Invalid, `"upper:"` + bad},
		{"../upper", errs.Invalid, `"../upper"` + bad},
		{strings.Repeat("a", 201), errs.Invalid, `"` + strings.Repeat("a", 200) + `…"` + bad},
	} {
		_, err := o.resolve(c.ref)
		wantErr(t, err, c.kind, c.want)
	}
}

func FuzzNames(f *testing.F) {
	for _, s := range []string{"upper.wasm", "upper:$LATEST", "arn:aws:lambda:us-east-1:000000000000:function:upper", "\x1b[2J", "a\u202e"} {
		f.Add(s)
	}
	valid := regexp.MustCompile(`^[a-zA-Z0-9_-]{1,64}$`)
	o := Options{Region: "us-east-1", Account: "000000000000"}
	f.Fuzz(func(t *testing.T, s string) {
		check := func(name string, err error) {
			if err == nil && name != "" && !valid.MatchString(name) {
				t.Errorf("%q gave the name %q", s, name)
			}
			if err != nil && strings.IndexFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
				t.Errorf("unprintable: %q", err)
			}
		}
		name, _, err := classify(s)
		check(name, err)
		check(o.resolve(s))
	})
}
