package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestScripts runs testdata/script: the command as people use it, in a folder of its own with the
// files that follow the script (a txtar archive). A line is a command, a comment, or empty. Text
// in single quotes is taken as it is, elsewhere $NAME is looked up. The commands:
//
//	shardmill CODE ARGS…   run the command to its end, which must be with this exit code
//	serve ARGS…            start a host and wait until it says that it is ready; sets $ADDRESS
//	get PATH               ask that host; stdout is the status and the body
//	stop                   end that host with SIGTERM, which must be with exit code 0
//	[!] stdout REGEXP      what the last command wrote matches somewhere; ^ and $ are a line's ends
//	[!] stderr REGEXP
//	cmp stdout|stderr FILE what the last command wrote is this
//	exists PATH…           these are there
//	empty DIR              this has nothing in it
//	env NAME[=VALUE]       set a variable, or remove it
//	cd DIR
//	[CONDITION] COMMAND    only if: short (go test -short) or go (there is a go tool); [!go] if not
//	skip REASON            end the script
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no scripts: ", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScript(t, file) })
	}
}

// script is one script as it runs.
type script struct {
	t              *testing.T
	dir            string // the working directory
	env            []string
	stdout, stderr string // of the last command
	host           *process
}

func runScript(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	work := t.TempDir()
	repo, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	s := &script{t: t, dir: work, env: append(os.Environ(), asCommand+"=1", "WORK="+work, "REPO="+repo, "TMPDIR="+filepath.Join(work, ".tmp"))}
	if err := os.Mkdir(filepath.Join(work, ".tmp"), 0o700); err != nil {
		t.Fatal(err)
	}
	commands := s.unpack(string(text))
	for n, line := range strings.Split(commands, "\n") {
		if done, err := s.line(line); err != nil {
			t.Fatalf("%s:%d: %s\n%v\nstdout:\n%s\nstderr:\n%s", file, n+1, line, err, s.stdout, s.stderr)
		} else if done {
			return
		}
	}
}

var fileMark = regexp.MustCompile(`(?m)^-- (\S+) --\n`)

// unpack writes the files of the archive and returns what stands before them.
func (s *script) unpack(text string) string {
	marks := fileMark.FindAllStringSubmatchIndex(text, -1)
	end := len(text)
	for _, m := range slices.Backward(marks) {
		if err := os.WriteFile(filepath.Join(s.dir, text[m[2]:m[3]]), []byte(text[m[1]:end]), 0o600); err != nil {
			s.t.Fatal(err)
		}
		end = m[0]
	}
	return text[:end]
}

var word = regexp.MustCompile(`'(?:[^']|'')*'|\S+`)

// line runs one line; done tells that the script wants to end.
func (s *script) line(line string) (done bool, err error) {
	if strings.HasPrefix(line, "#") || line == "" {
		return false, nil
	}
	if condition, rest, ok := strings.Cut(line, "] "); ok && line[0] == '[' {
		if met, err := s.condition(condition[1:]); !met || err != nil {
			return false, err
		}
		line = rest
	}
	var words []string
	for _, w := range word.FindAllString(line, -1) {
		if strings.HasPrefix(w, "'") && len(w) > 1 {
			w = strings.ReplaceAll(w[1:len(w)-1], "''", "'")
		} else {
			w = os.Expand(w, s.getenv)
		}
		words = append(words, w)
	}
	not := words[0] == "!"
	if not {
		words = words[1:]
	}
	if words[0] == "skip" {
		s.t.Skip(strings.Join(words[1:], " "))
	}
	return false, s.command(words[0], words[1:], not)
}

func (s *script) condition(c string) (bool, error) {
	name, not := strings.CutPrefix(c, "!")
	switch name {
	case "short":
		return testing.Short() != not, nil
	case "go":
		_, err := exec.LookPath("go")
		return (err == nil) != not, nil
	}
	return false, fmt.Errorf("condition %s does not exist", name)
}

func (s *script) getenv(name string) string {
	for _, kv := range slices.Backward(s.env) {
		if n, v, _ := strings.Cut(kv, "="); n == name {
			return v
		}
	}
	return ""
}

func (s *script) path(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(s.dir, name)
}

func (s *script) command(name string, args []string, not bool) error {
	switch name {
	case "shardmill":
		return s.run(args[0], args[1:])
	case "serve":
		return s.serve(args)
	case "get":
		return s.get(args[0])
	case "stop":
		code := s.host.stop()
		s.stdout, s.stderr = s.host.rest(), s.host.stderr.String()
		if code != 0 {
			return fmt.Errorf("exit code %d, want 0", code)
		}
		return nil
	case "stdout", "stderr":
		return s.match(s.output(name), args[0], not)
	case "cmp":
		want, err := os.ReadFile(s.path(args[1]))
		if err == nil && s.output(args[0]) != string(want) {
			err = fmt.Errorf("%s differs; want:\n%s", args[0], want)
		}
		return err
	case "exists":
		for _, a := range args {
			if _, err := os.Stat(s.path(a)); err != nil {
				return err
			}
		}
		return nil
	case "empty":
		list, err := os.ReadDir(s.path(args[0]))
		if err == nil && len(list) > 0 {
			err = fmt.Errorf("it has %d entries, the first is %s", len(list), list[0].Name())
		}
		return err
	case "env":
		n, _, set := strings.Cut(args[0], "=")
		s.env = slices.DeleteFunc(s.env, func(kv string) bool { return strings.HasPrefix(kv, n+"=") })
		if set {
			s.env = append(s.env, args[0])
		}
		return nil
	case "cd":
		s.dir = s.path(args[0])
		return nil
	}
	return fmt.Errorf("command %s does not exist", name)
}

func (s *script) output(name string) string {
	if name == "stderr" {
		return s.stderr
	}
	return s.stdout
}

func (s *script) match(text, expr string, not bool) error {
	re, err := regexp.Compile("(?m)" + expr)
	if err != nil {
		return err
	}
	if re.MatchString(text) == not {
		return fmt.Errorf("matches: %v", !not)
	}
	return nil
}

func (s *script) run(code string, args []string) error {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(s.t.Context(), os.Args[0], args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = s.dir, s.env, &stdout, &stderr
	err := cmd.Run()
	s.stdout, s.stderr = stdout.String(), stderr.String()
	if cmd.ProcessState == nil {
		return err
	}
	if got := fmt.Sprint(cmd.ProcessState.ExitCode()); got != code {
		return fmt.Errorf("exit code %s, want %s", got, code)
	}
	return nil
}

func (s *script) serve(args []string) error {
	s.host = startHost(s.t, s.dir, s.env, args...)
	s.stdout, s.stderr = s.host.ready, ""
	s.env = append(s.env, "ADDRESS="+strings.TrimPrefix(s.host.url, "http://"))
	return nil
}

func (s *script) get(path string) error {
	res, err := http.Get(s.host.url + path)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	s.stdout, s.stderr = fmt.Sprintf("%d %s", res.StatusCode, body), ""
	return err
}
