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
//	              ABI, compile into CacheDir/<sha256 of the module>/
//	worker        load the compiled code, lock the process in, instantiate, say READY
//	smoke test    an empty batch (native ABI)
//
// Two ABIs are served; sdk/ABI.md is their contract. A native batch module (it exports
// shardmill_abi_v1) becomes a Function that is also a runtime.RecordProcessor; its Invoke
// refuses JSON events. A stdio module (a WASI command with _start) gets one JSON event a line
// and becomes a plain Function.
//
// Host and worker share a socket pair for control and a sealed memory segment for payloads
// (frame.go). The worker is not trusted from the moment guest code runs: the host copies what it
// says before it looks at it, checks all of it, and keeps the deadline itself.
//
// Main must call WorkerMain as its first statement, and so must the TestMain of every test
// binary that loads modules.
package wasm
