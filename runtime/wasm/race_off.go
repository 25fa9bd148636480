//go:build !race

package wasm

// raceEnabled lifts RLIMIT_CPU and RLIMIT_DATA: the race detector's own memory and slowness
// would break any limit that is fit for production.
const raceEnabled = false
