package launcher

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// prepare puts a process into a group of its own, so that signals of a terminal
// reach the host alone. The kernel kills it when the thread that started it is
// gone, which is so when the host is: a second line behind the process's own watch.
func prepare(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// restrict puts the limits on a process that the kernel enforces.
func restrict(pid int, l Limits) error {
	if l.OpenFiles == 0 {
		return nil
	}
	limit := &unix.Rlimit{Cur: l.OpenFiles, Max: l.OpenFiles}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, limit, nil); err != nil {
		return fmt.Errorf("open files: %w", err)
	}
	return nil
}

// clockTick is the unit of processor time in /proc, on every architecture of Go.
const clockTick = 10 * time.Millisecond

// usage returns how much resident memory a process has, in bytes, and how much
// processor time it took; ok is false if that cannot be told.
func usage(pid int) (rss int64, cpu time.Duration, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, false
	}
	// The second field is a name in parentheses, in which anything may stand.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	const utime, stime, resident = 11, 12, 21 // of proc(5)'s, less the three before
	if len(fields) <= resident {
		return 0, 0, false
	}
	var n [3]int64
	for i, at := range []int{utime, stime, resident} {
		if n[i], err = strconv.ParseInt(string(fields[at]), 10, 64); err != nil {
			return 0, 0, false
		}
	}
	return n[2] * int64(os.Getpagesize()), time.Duration(n[0]+n[1]) * clockTick, true
}
