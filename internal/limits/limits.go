// Package limits measures what the machine itself allows, so that benchmarks can state a ratio to
// it in the same run instead of a number that means nothing elsewhere.
package limits

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// AppendSync appends n blocks of size bytes to a new file in dir, from several clients of whom one
// at a time writes and calls fdatasync, and returns how long that took: the least that any store
// needs which acknowledges each block durably.
func AppendSync(dir string, n, size, clients int) (time.Duration, error) {
	f, err := os.Create(filepath.Join(dir, "append-sync"))
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, size)
	for i := range block {
		block[i] = byte(rand.Uint32())
	}
	var mu sync.Mutex
	var failed error
	took := Share(n, clients, func(int) {
		mu.Lock()
		defer mu.Unlock()
		if failed != nil {
			return
		}
		if _, failed = f.Write(block); failed == nil {
			failed = syscall.Fdatasync(int(f.Fd()))
		}
	})
	return took, failed
}

// Share runs fn n times in all, from all clients at once, and returns how long that took.
func Share(n, clients int, fn func(client int)) time.Duration {
	var wg sync.WaitGroup
	work := make(chan struct{}, n)
	for range n {
		work <- struct{}{}
	}
	close(work)
	start := time.Now()
	for c := range clients {
		wg.Go(func() {
			for range work {
				fn(c)
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

// CPU is the processor time that this process has used.
func CPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
