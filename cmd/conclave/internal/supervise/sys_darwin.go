package supervise

import (
	"os"
	"syscall"
)

// self is the running binary.
func self() (string, error) { return os.Executable() }

const openFiles = "/dev/fd"

// stubAttr puts the command into a group of its own.
func stubAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// dieWithParent does nothing: macOS has no such service.
func dieWithParent() error { return nil }

// groupRuns reports whether a process of the group is left.
func groupRuns(pgid int) bool { return syscall.Kill(-pgid, 0) == nil }
