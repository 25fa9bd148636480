package s3api

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAWSCLI reads a bucket with the AWS CLI, signed and with its default settings.
func TestAWSCLI(t *testing.T) {
	if testing.Short() {
		t.Skip("each command of the AWS CLI takes about a second")
	}
	cli, err := exec.LookPath("aws")
	if err != nil {
		t.Skip("the AWS CLI (aws) is not on the PATH")
	}
	keys := []string{"2026/07/13/a.txt", "2026/07/14/b c+d.txt", "2026/ü.txt", "top.gz"}
	srv := httptest.NewServer(New(newStore(t, "events", keys...), "us-east-1"))
	t.Cleanup(srv.Close)
	aws := func(wantOK bool, args ...string) string {
		t.Helper()
		cmd := exec.Command(cli, append([]string{"--endpoint-url", srv.URL, "--region", "us-east-1"}, args...)...)
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=AK", "AWS_SECRET_ACCESS_KEY=SK", "AWS_CONFIG_FILE=/dev/null",
			"AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true", "PYTHONUTF8=1")
		out, err := cmd.CombinedOutput()
		if (err == nil) != wantOK {
			t.Fatalf("aws %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return string(out)
	}
	contains := func(out string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(out, p) {
				t.Errorf("%q is not in\n%s", p, out)
			}
		}
	}
	contains(aws(true, "s3", "ls"), " events\n")
	contains(aws(true, "s3", "ls", "s3://events/"), "PRE 2026/", "5 top.gz\n")
	if out := aws(true, "s3", "ls", "s3://events/2026/07/", "--recursive"); strings.Count(out, "\n") != 2 {
		t.Errorf("ls of a prefix gave\n%s", out)
	} else {
		contains(out, "5 2026/07/13/a.txt\n", "5 2026/07/14/b c+d.txt\n")
	}
	if out := aws(true, "s3", "cp", "s3://events/2026/07/13/a.txt", "-"); out != "hello" {
		t.Errorf("cp gave %q", out)
	}
	target := t.TempDir()
	aws(true, "s3", "sync", "s3://events", target)
	for _, key := range keys {
		if data, err := os.ReadFile(filepath.Join(target, filepath.FromSlash(key))); err != nil || string(data) != "hello" {
			t.Errorf("sync of %s: %q, %v", key, data, err)
		}
	}
	if out := aws(true, "s3", "sync", "s3://events", target); out != "" {
		t.Errorf("a second sync copied again:\n%s", out)
	}
	contains(aws(false, "s3", "cp", filepath.Join(target, "top.gz"), "s3://events/new"), "NotImplemented", "objects are written by delivery streams")
}
