//go:build unix

package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

const (
	kill   = syscall.SIGKILL
	pause  = syscall.SIGSTOP
	resume = syscall.SIGCONT
)

// signal sends a signal to a plugin's process.
func signal(pid int, s syscall.Signal) error {
	if pid <= 0 {
		return errors.New("it has no process")
	}
	return syscall.Kill(pid, s)
}

// alive reports whether a process runs; one that has ended, and that nobody has
// asked about, does not.
func alive(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%s/stat", strconv.Itoa(pid)))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist) || !procfs()
	}
	_, rest, _ := bytes.Cut(stat, []byte(") "))
	return !bytes.HasPrefix(rest, []byte("Z"))
}

// procfs reports whether this system tells of its processes in files.
func procfs() bool {
	_, err := os.Stat("/proc/self/stat")
	return err == nil
}
