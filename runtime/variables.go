package runtime

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/shardmill/shardmill/internal/errs"
)

// maxVariables is the service's limit on the user's environment variables, in bytes of their JSON.
const maxVariables = 4096

var variableName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_]+$`)

// reserved are the names that only the host may set (Lambda docs, "Working with Lambda environment
// variables"). The last two are what LoggingConfig sets.
var reserved = []string{"_HANDLER", "_X_AMZN_TRACE_ID", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV",
	"AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION",
	"AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME",
	"AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API",
	"LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR", "AWS_LAMBDA_MAX_CONCURRENCY", "AWS_LAMBDA_METADATA_API", "AWS_LAMBDA_METADATA_TOKEN",
	"AWS_LAMBDA_LOG_FORMAT", "AWS_LAMBDA_LOG_LEVEL"}

// CheckVariables refuses, as errs.Invalid, environment variables of the user that a handler could
// not rely on: reserved and unusable names, and more than 4 KB of them.
func CheckVariables(user map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(user)) {
		switch {
		case slices.Contains(reserved, name):
			return errs.New(errs.Invalid, "the environment variable %s is reserved for the service: choose another name", name)
		case !variableName.MatchString(name):
			return errs.New(errs.Invalid, "the environment variable %q has an unusable name: use letters, digits and _, beginning with a letter, two characters at least", name)
		case strings.Contains(user[name], "\x00"):
			return errs.New(errs.Invalid, "the environment variable %s contains a NUL byte: remove it or encode the value", name)
		}
	}
	text, err := json.Marshal(user)
	if err != nil {
		return errs.Wrap(errs.Invalid, err, "the environment variables cannot be measured")
	}
	if user != nil && len(text) > maxVariables {
		return errs.New(errs.Invalid, "Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: %s", text)
	}
	return nil
}
