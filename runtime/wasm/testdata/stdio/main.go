// The stdio guest of the tests. Words in the event say what it does; else it echoes.
package main

import (
	"bufio"
	"bytes"
	"os"
)

func main() {
	in := bufio.NewReaderSize(os.Stdin, 1<<16)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		has := func(word string) bool { return bytes.Contains(line, []byte(`"`+word+`"`)) }
		line = bytes.TrimSuffix(line, []byte("\n"))
		switch {
		case has("exit"):
			os.Exit(3)
		case has("leave"):
			return
		case has("answer and leave"):
			os.Stdout.WriteString("{\"bye\":true}\n")
			return
		case has("error"):
			os.Stdout.WriteString("{\"errorMessage\":\"boom\",\"errorType\":\"Oops\"}\n")
		case has("text"):
			os.Stdout.WriteString("hello \x1b[31m there\n")
		case has("twice"):
			os.Stdout.WriteString("{}\n{}\n")
		case has("silent"):
		case has("log"):
			os.Stderr.WriteString("a line \x1b[2J of log\n")
			os.Stdout.WriteString("{}\n")
		case has("env"):
			os.Stdout.WriteString(`{"env":"` + os.Getenv("COLOR") + `","name":"` + os.Getenv("AWS_LAMBDA_FUNCTION_NAME") + "\"}\n")
		case has("spin"):
			for {
			}
		case has("big"):
			os.Stdout.Write(append(append([]byte(`{"a":"`), bytes.Repeat([]byte{'x'}, 100_000)...), "\"}\n"...))
		default:
			os.Stdout.Write(append(append([]byte(`{"got":`), line...), "}\n"...))
		}
	}
}
