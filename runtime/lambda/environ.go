package lambda

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/shardmill/shardmill/runtime"
)

// memoryOfCPU is the memory with which Lambda gives a function one processor (Lambda docs, "Configure
// Lambda function memory"). A Go handler gets as many threads: small events, which are handed from
// goroutine to goroutine, are then answered in about two thirds of the time, and one function does
// not take every core. Users who want more set GOMAXPROCS.
const memoryOfCPU = 1769 << 20

// latest is the version every environment reports: an artifact carries a content hash, not a
// published version number.
const latest = "$LATEST"

// variables builds the whole environment of one process; nothing of the host's own passes on.
// Later sets win: the user's variables, defaults where the user set none, credentials, and what
// the runtime and the platform define.
func variables(a runtime.Artifact, memory int64, tmp, api string, now time.Time) []string {
	set := maps.Clone(a.Env)
	if set == nil {
		set = make(map[string]string)
	}
	defaults := map[string]string{
		"PATH":                     "/usr/local/bin:/usr/bin:/bin:/opt/bin",
		"LANG":                     "en_US.UTF-8",
		"TZ":                       ":UTC",
		"TMPDIR":                   tmp,
		"LD_LIBRARY_PATH":          a.Path + ":" + filepath.Join(a.Path, "lib"),
		"AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
		"GOMAXPROCS":               strconv.FormatInt((memory+memoryOfCPU-1)/memoryOfCPU, 10),
	}
	if a.Endpoint != "" {
		defaults["AWS_ENDPOINT_URL"] = a.Endpoint
	}
	for name, value := range defaults {
		if _, ok := set[name]; !ok {
			set[name] = value
		}
	}
	maps.Copy(set, map[string]string{
		// The access key is the account: the host's endpoints take the caller's account from it.
		"AWS_ACCESS_KEY_ID":     a.Account,
		"AWS_SECRET_ACCESS_KEY": "shardmill",
		"AWS_SESSION_TOKEN":     "shardmill",

		"_HANDLER":         bootstrapName,
		"LAMBDA_TASK_ROOT": a.Path,

		"AWS_REGION":                      a.Region,
		"AWS_DEFAULT_REGION":              a.Region,
		"AWS_LAMBDA_FUNCTION_NAME":        a.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     latest,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.FormatInt(memory>>20, 10),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_LOG_GROUP_NAME":       "/aws/lambda/" + a.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME":      logStream(now),
		"AWS_LAMBDA_RUNTIME_API":          api,
	})
	list := make([]string, 0, len(set))
	for _, name := range slices.Sorted(maps.Keys(set)) {
		list = append(list, name+"="+set[name])
	}
	return list
}

// logStream is yyyy/MM/dd/[version]32hex, one per environment.
func logStream(now time.Time) string {
	var id [16]byte
	rand.Read(id[:])
	return now.UTC().Format("2006/01/02") + "/[" + latest + "]" + hex.EncodeToString(id[:])
}
