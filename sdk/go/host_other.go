//go:build !wasip1

package shardmill

const outside = "shardmill: there is no host outside of a WebAssembly module; build with GOOS=wasip1 GOARCH=wasm"

func hostLog(Level, string)              { panic(outside) }
func hostError(string)                   { panic(outside) }
func hostConfig(string, []byte) uint32   { panic(outside) }
func hostMetric(string, float64)         { panic(outside) }
func hostStateGet(string, []byte) uint32 { panic(outside) }
func hostStatePut(string, []byte) uint32 { panic(outside) }
func hostEmit(_, _ string, _ []byte) uint32 {
	panic(outside)
}
