// Package wasm runs WebAssembly functions. It is an engine of package runtime.
//
// Every execution environment is a child process, a worker: the host's own binary, re-executed,
// which instantiates one module with wazero and serves one invocation at a time. The host never
// parses, compiles or runs guest code itself. A module that loops, leaks or breaks its compiler
// is therefore one SIGKILL away from being gone, and the host's garbage collector never waits
// for it. (Compiled guest code cannot be preempted by Go's scheduler: inside the host, one
// endless loop would stop every goroutine at the next collection.)
//
// A version is loaded in three steps, each in a child process:
//
//	compile job   walk the sections (scan.go), refuse what no honest compiler emits, find the
//	              ABIs, compile into CacheDir/<sha256 of the module>/ (cache.go); once a module
//	worker        load the compiled code, lock the process in, instantiate, say READY
//	smoke test    an empty batch (native ABI)
//
// Three ABIs are served; sdk/ABI.md is their contract. A native batch module (it exports
// shardmill_abi_v1) becomes a Function that is also a runtime.RecordProcessor; its Invoke
// refuses JSON events. A pull module (it imports shardmill.next) asks for JSON events in a loop of
// its own, as a Lambda handler does, and a stdio module (a WASI command with _start) gets one a
// line; both become plain Functions.
//
// What a module does beside answering (metrics, state, records to other streams) needs grants. The
// worker collects it and sends it with the answer, and the host makes it last when the answer is
// good (effects.go, state.go).
//
// Host and worker share a socket pair for control and a sealed memory segment for payloads
// (frame.go). The worker is not trusted from the moment guest code runs: the host copies what it
// says before it looks at it, checks all of it, and keeps the deadline itself.
//
// Main must call WorkerMain as its first statement, and so must the TestMain of every test
// binary that loads modules.
package wasm
