// The guest of the host's tests: a Firehose transformation that is good or hostile, as its name
// says, for batches with the word hostile in a record. It is built twice, as a Lambda handler and
// as a stdio module (GOOS=wasip1).
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"
)

type event struct {
	Records []record `json:"records"`
}

type record struct {
	ID     string `json:"recordId"`
	Result string `json:"result"`
	Data   []byte `json:"data"`
}

// answer does what the first word of the function's name says. Other batches than hostile ones are
// answered Ok with the records as they came.
func answer(payload []byte) []byte {
	behaviour, _, _ := strings.Cut(os.Getenv("AWS_LAMBDA_FUNCTION_NAME"), "-")
	var e event
	if err := json.Unmarshal(payload, &e); err != nil {
		panic(err)
	}
	hostile := false
	for i := range e.Records {
		e.Records[i].Result = "Ok"
		hostile = hostile || bytes.Contains(e.Records[i].Data, []byte("hostile"))
	}
	if !hostile {
		behaviour = "good"
	}
	switch behaviour {
	case "good":
	case "slow":
		fmt.Fprintln(os.Stderr, "slow is at work")
		time.Sleep(time.Second)
	case "loops":
		for i := 0; ; i++ {
		}
	case "exits":
		os.Exit(3)
	case "garbage":
		return []byte("<html>no JSON</html>")
	case "foreign":
		for i := range e.Records {
			e.Records[i].ID = fmt.Sprintf("foreign-%d", i)
		}
	case "large":
		e.Records[0].Data = bytes.Repeat([]byte("x"), 7<<20*3/4)
	case "allocates":
		for all := [][]byte{}; ; {
			all = append(all, bytes.Repeat([]byte("x"), 1<<20))
		}
	case "forks":
		fork()
	case "floods":
		line := bytes.Repeat([]byte("log "), 256)
		for range 5000 {
			fmt.Fprintf(os.Stderr, "%s\x1b[2J\n", line)
		}
	default:
		panic("no behaviour " + behaviour)
	}
	out, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return out
}
