package wasm

import "strings"

// Isolation tells which layers lie around workers beside WebAssembly's own sandbox and the
// process boundary.
type Isolation struct {
	Namespaces bool // own user, network, process, mount and IPC namespaces
	Seccomp    bool // system calls are filtered; no new privileges
}

func (i Isolation) String() string {
	layers := []string{"child process"}
	if i.Namespaces {
		layers = append(layers, "namespaces")
	}
	if i.Seccomp {
		layers = append(layers, "seccomp")
	}
	return strings.Join(layers, " + ")
}

// childEnv is a child's whole environment. One processor is enough for one guest and saves the
// scheduler's idle spinning; a crash of the worker needs no stack dump.
func childEnv() []string { return []string{"GOMAXPROCS=1", "GOTRACEBACK=none"} }
