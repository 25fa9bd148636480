package plugins

import (
	"errors"
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/shardmill/shardmill/internal/errs"
)

// form is what an entry's file name promises.
type form uint8

const (
	ignored      form = iota // not for us; nobody is told
	foreign                  // nothing that a plugin could be; refused by its name alone
	module                   // NAME.wasm
	archive                  // NAME.zip, NAME.jar
	nodeSource               // NAME.js, NAME.mjs, NAME.cjs
	pythonSource             // NAME.py
	plain                    // NAME: an executable or a folder, which its mode tells
	manifestFile             // NAME.yaml: says more of the plugin NAME, and is none itself
)

const (
	accepted  = "accepted are NAME.wasm, NAME.zip, NAME.jar, NAME.js, NAME.mjs, NAME.cjs, NAME.py, an executable file NAME (ELF or #! script), a folder NAME, and a manifest NAME.yaml beside one of them"
	rootForms = "it needs a bootstrap, an index.js, index.mjs or index.cjs, an app.py or lambda_function.py, or the jar " + javaClientJar + " in it or in its folder lib, or a manifest that names its handler"
)

var (
	functionName = regexp.MustCompile(`^[a-zA-Z0-9-_]{1,64}$`)
	qualifier    = regexp.MustCompile(`^[a-zA-Z0-9$_-]{1,128}$`)
	account      = regexp.MustCompile(`^[0-9]{12}$`)
)

func isAccount(s string) bool { return account.MatchString(s) }

// classify tells from a file name alone which function it claims and in which form. A name that
// claims none is ignored, or foreign with the reason why it is refused.
func classify(file string) (name string, f form, err error) {
	if strings.HasPrefix(file, ".") {
		return "", ignored, nil
	}
	for _, suffix := range []string{".tmp", ".part", "~"} {
		if strings.HasSuffix(file, suffix) {
			return "", ignored, nil
		}
	}
	name, f = file, plain
	if dot := strings.LastIndexByte(file, '.'); dot >= 0 {
		name = file[:dot]
		switch file[dot:] {
		case ".wasm":
			f = module
		case ".zip", ".jar":
			f = archive
		case ".js", ".mjs", ".cjs":
			f = nodeSource
		case ".py":
			f = pythonSource
		case ".yaml":
			f = manifestFile
		case ".yml", ".json":
			return "", foreign, errs.New(errs.Invalid, "%s is not a plugin; if it is a manifest, name it %s.yaml", printable(file), printable(name))
		default:
			return "", foreign, errs.New(errs.Invalid, "%s is not a plugin: %s", printable(file), accepted)
		}
	}
	if !functionName.MatchString(name) {
		return "", foreign, errs.New(errs.Invalid, "%s does not give a function name: use 1 to 64 of the characters a-z, A-Z, 0-9, - and _ before the extension",
			printable(file))
	}
	return name, f, nil
}

// printable returns s with everything that is not a printable character escaped as in a Go
// string, so that a file name cannot steer a terminal. Printable text is returned as it is.
func printable(s string) string {
	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	q := strconv.Quote(s)
	return q[1 : len(q)-1]
}

// cause strips the path from an error of package os: it may hold an unprintable name, and our
// sentences name the input themselves.
func cause(err error) error {
	var p *fs.PathError
	var l *os.LinkError
	switch {
	case errors.As(err, &p):
		return p.Err
	case errors.As(err, &l):
		return l.Err
	}
	return err
}

// arn is the ARN of the function called name.
func (o *Options) arn(name string) string {
	return "arn:aws:lambda:" + o.Region + ":" + o.Account + ":function:" + name
}

// resolve finds the function name in a reference: NAME or its full ARN, either with :$LATEST.
// Well-formed references to what this host does not serve are NotFound, others Invalid.
func (o *Options) resolve(ref string) (string, error) {
	name, qual, qualified := strings.Cut(ref, ":")
	home := true
	if strings.HasPrefix(ref, "arn:") {
		p := strings.Split(ref, ":")
		if len(p) < 7 || len(p) > 8 || p[2] != "lambda" || p[5] != "function" {
			return "", badReference(o, ref)
		}
		home = p[1] == "aws" && p[3] == o.Region && p[4] == o.Account
		name, qualified = p[6], len(p) == 8
		qual = p[len(p)-1]
	}
	if !functionName.MatchString(name) || qualified && !qualifier.MatchString(qual) {
		return "", badReference(o, ref)
	}
	if !home {
		return "", errs.New(errs.NotFound, "Function not found: %s: this host serves region %s of account %s", printable(ref), o.Region, o.Account)
	}
	if qualified && qual != "$LATEST" {
		return "", errs.New(errs.NotFound, "Function not found: %s:%s: plugins have no version or alias but $LATEST", o.arn(name), qual)
	}
	return name, nil
}

func badReference(o *Options, ref string) error {
	const most = 200
	if len(ref) > most {
		ref = ref[:most] + "…"
	}
	return errs.New(errs.Invalid, "%q is neither a function name nor a function ARN: give NAME or %s", ref, o.arn("NAME"))
}
