package wasm

import (
	"context"
	"fmt"

	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"
)

// withLinearMemory makes wazero keep the guest's memory in one mapping of its full size instead
// of Go slices. Growing then neither copies nor leaves garbage, which would count against the
// process limit; the kernel provides pages when they are touched.
func withLinearMemory(ctx context.Context) context.Context {
	return experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(func(_, limit uint64) experimental.LinearMemory {
		if limit == 0 {
			return mappedMemory(nil)
		}
		b, err := unix.Mmap(-1, 0, int(limit), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
		if err != nil {
			panic(fmt.Errorf("cannot allocate memory of %d bytes for the module: %w", limit, err))
		}
		return mappedMemory(b)
	}))
}

// mappedMemory never moves.
type mappedMemory []byte

func (m mappedMemory) Reallocate(size uint64) []byte {
	if size > uint64(len(m)) {
		return nil
	}
	return m[:size:size]
}

func (m mappedMemory) Free() {
	if len(m) > 0 {
		unix.Munmap(m)
	}
}
