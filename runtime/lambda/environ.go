package lambda

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
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

// surroundings are what the environment variables of one process are made of.
type surroundings struct {
	artifact runtime.Artifact
	memory   int64 // bytes
	program  program
	keys     Credentials
	tmp      string // TMPDIR
	api      string // host:port of the Runtime API
	born     time.Time
}

// variables builds the whole environment of a handler's process; nothing of the host's own passes
// on. Later sets win: the user's variables, defaults where the user set none, credentials, and what
// the runtime and the platform define.
func (s *surroundings) variables() []string {
	set := maps.Clone(s.artifact.Env)
	if set == nil {
		set = make(map[string]string)
	}
	for name, value := range s.defaults() {
		if _, ok := set[name]; !ok {
			set[name] = value
		}
	}
	maps.Copy(set, s.platform())
	a := s.artifact
	maps.Copy(set, map[string]string{
		"_HANDLER":                   s.program.handler,
		"LAMBDA_TASK_ROOT":           a.Path,
		"AWS_LAMBDA_LOG_GROUP_NAME":  "/aws/lambda/" + a.Name,
		"AWS_LAMBDA_LOG_STREAM_NAME": logStream(s.born),
	})
	if s.program.execEnv != "" {
		set["AWS_EXECUTION_ENV"] = s.program.execEnv
	}
	if s.program.dir != "" {
		set["LAMBDA_RUNTIME_DIR"] = s.program.dir
	}
	return list(set)
}

// extensionVariables builds the environment of an extension's process: that of a handler without
// what belongs to the runtime (Lambda docs, "Lambda Extensions API").
func (s *surroundings) extensionVariables() []string {
	set := maps.Clone(s.artifact.Env)
	if set == nil {
		set = make(map[string]string)
	}
	for name, value := range s.defaults() {
		if _, ok := set[name]; !ok && !strings.HasPrefix(name, "AWS_XRAY_") {
			set[name] = value
		}
	}
	maps.Copy(set, s.platform())
	return list(set)
}

// defaults are the variables that the user may set to something else.
func (s *surroundings) defaults() map[string]string {
	a := s.artifact
	path, libraries := "/usr/local/bin:/usr/bin:/bin", a.Path+":"+filepath.Join(a.Path, "lib")
	for _, layer := range newestFirst(a.Layers) {
		path += ":" + filepath.Join(layer, "bin")
		libraries += ":" + filepath.Join(layer, "lib")
	}
	if len(a.Layers) == 0 {
		path += ":/opt/bin"
	}
	if s.program.execEnv != "" { // an interpreter, whose own tools come first
		path = filepath.Dir(s.program.path) + ":" + path
	}
	defaults := map[string]string{
		"PATH":                     path,
		"LANG":                     "en_US.UTF-8",
		"TZ":                       ":UTC",
		"TMPDIR":                   s.tmp,
		"LD_LIBRARY_PATH":          libraries,
		"AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
		"GOMAXPROCS":               strconv.FormatInt((s.memory+memoryOfCPU-1)/memoryOfCPU, 10),
	}
	if a.Endpoint != "" {
		defaults["AWS_ENDPOINT_URL"] = a.Endpoint
	}
	maps.Copy(defaults, s.program.vars)
	return defaults
}

// platform are the variables that only the host sets, of handlers and extensions.
func (s *surroundings) platform() map[string]string {
	a := s.artifact
	set := map[string]string{
		"AWS_ACCESS_KEY_ID":     s.keys.AccessKeyID,
		"AWS_SECRET_ACCESS_KEY": s.keys.SecretAccessKey,
		"AWS_SESSION_TOKEN":     s.keys.SessionToken,

		"AWS_REGION":                      a.Region,
		"AWS_DEFAULT_REGION":              a.Region,
		"AWS_LAMBDA_FUNCTION_NAME":        a.Name,
		"AWS_LAMBDA_FUNCTION_VERSION":     latest,
		"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": strconv.FormatInt(s.memory>>20, 10),
		"AWS_LAMBDA_INITIALIZATION_TYPE":  "on-demand",
		"AWS_LAMBDA_RUNTIME_API":          s.api,
	}
	return set
}

func list(set map[string]string) []string {
	out := make([]string, 0, len(set))
	for _, name := range slices.Sorted(maps.Keys(set)) {
		out = append(out, name+"="+set[name])
	}
	return out
}

// logStream is yyyy/MM/dd/[version]32hex, one per environment.
func logStream(now time.Time) string {
	var id [16]byte
	rand.Read(id[:])
	return now.UTC().Format("2006/01/02") + "/[" + latest + "]" + hex.EncodeToString(id[:])
}
