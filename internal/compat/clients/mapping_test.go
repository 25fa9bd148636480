package clients

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shardmill/shardmill/internal/config"
)

// countFunction is a Lambda handler in Python that fails for a poisoned record.
const countFunction = `import base64

def lambda_handler(event, context):
    for record in event["Records"]:
        if base64.b64decode(record["kinesis"]["data"]) == b"poison":
            raise ValueError("poison")
    return {"handled": len(event["Records"])}
`

// boto3 invokes a function, binds it to a stream and finds what it failed for at the failure destination.
func TestEventSourceMapping(t *testing.T) {
	needBoto3(t)
	s := newServerWith(t, func(c *config.Config) {
		plugins := filepath.Join(c.Data, "plugins")
		if err := os.MkdirAll(plugins, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(plugins, "count.py"), []byte(countFunction), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	cmd := exec.CommandContext(t.Context(), "python3", "testdata/mapping.py", "mapped", "count")
	cmd.Env = environ(s.URL())
	if out, err := cmd.CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "ok" {
		t.Fatalf("%v\n%s", err, out)
	}
}
