package lambda

import (
	"os"
	"syscall"
)

// maxResident is the most memory that a process which has ended had resident, in bytes.
func maxResident(st *os.ProcessState) int64 {
	if ru, ok := st.SysUsage().(*syscall.Rusage); ok {
		return ru.Maxrss << 10 // Linux counts in KiB
	}
	return 0
}
