// The stdio guest of the conformance kit (../../README.md), with Go's standard library.
package main

import (
	"bufio"
	"bytes"
	"os"
)

func main() {
	in := bufio.NewReader(os.Stdin)
	for {
		event, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		event = bytes.TrimSpace(event)
		does := func(what string) bool { return bytes.HasPrefix(event, []byte(`{"do":"`+what+`"`)) }
		switch {
		case does("exit"):
			os.Exit(3)
		case does("error"):
			os.Stdout.WriteString(`{"errorType":"Oops","errorMessage":"boom"}` + "\n")
			continue
		case does("log"):
			os.Stderr.WriteString("hello\n")
		}
		os.Stdout.Write(append(append([]byte(`{"got":`), event...), "}\n"...))
	}
}
