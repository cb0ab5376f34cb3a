package supervise

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// self is the running binary itself, also after an upgrade replaced or removed
// the file that it was started from.
func self() (string, error) { return "/proc/self/exe", nil }

const openFiles = "/proc/self/fd"

// stubAttr puts the command into a group of its own. The kernel kills it when the
// thread that started it ends, hence the caller stays locked to its thread.
func stubAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// dieWithParent makes the kernel kill this process when the wrapper dies. The mark
// belongs to a thread: the one set at the start is lost when another executes the
// command, so the thread that will execute it sets its own.
func dieWithParent() error {
	return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
}

// groupRuns reports whether a process of the group can still run. Ended processes
// that nobody has waited for (a container whose process 1 does not) count for
// kill(2), but not here.
func groupRuns(pgid int) bool {
	if syscall.Kill(-pgid, 0) != nil {
		return false
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return true
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return true
	}
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		stat, err := os.ReadFile("/proc/" + name + "/stat")
		if err != nil {
			continue
		}
		// The name in parentheses may contain anything; what follows it may not.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 2 && fields[2] == strconv.Itoa(pgid) && fields[0] != "Z" && fields[0] != "X" {
			return true
		}
	}
	return false
}
