package config

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"

	"github.com/shardmill/shardmill/internal/errs"
	"github.com/shardmill/shardmill/internal/nearest"
)

// FlagError says what is wrong with the flags of any command in the words that variables and config
// files get: err is what parsing fs gave.
func FlagError(fs *pflag.FlagSet, err error) error {
	var missing *pflag.NotExistError
	var value *pflag.InvalidValueError
	switch {
	case errors.As(err, &missing) && missing.GetSpecifiedShortnames() != "":
		return errs.New(errs.Invalid, "flag -%s does not exist; --help lists what does", missing.GetSpecifiedShortnames())
	case errors.As(err, &missing):
		var known []string
		fs.VisitAll(func(f *pflag.Flag) { known = append(known, "--"+f.Name) })
		name := "--" + missing.GetSpecifiedName()
		return unknown("flag "+name, name, known)
	case errors.As(err, &value):
		return errs.New(errs.Invalid, "--%s: %s", value.GetFlag().Name, unfit(value.GetFlag(), value.GetValue()))
	}
	return errs.New(errs.Invalid, "%s", err.Error())
}

// unfit says why f cannot have the value.
func unfit(f *pflag.Flag, value string) string {
	what := "no value for " + f.Name
	switch f.Value.Type() {
	case "int":
		what = "not a whole number"
	case "bool":
		what = "neither true nor false"
	case "duration":
		what = "not a duration such as 60s"
	}
	return fmt.Sprintf("%q is %s", value, what)
}

// unknown complains about a name that does not exist and proposes the nearest that does.
func unknown(what, name string, known []string) error {
	best, dist := "", 4
	for _, n := range known {
		near := min(dist, len(strings.TrimPrefix(n, envPrefix))/2+1) // short names are all alike
		if d := nearest.Distance(strings.ToLower(name), strings.ToLower(n)); d < near {
			best, dist = n, d
		}
	}
	if best != "" {
		return errs.New(errs.Invalid, "%s does not exist; did you mean %s?", what, best)
	}
	return errs.New(errs.Invalid, "%s does not exist; --help lists what does", what)
}
