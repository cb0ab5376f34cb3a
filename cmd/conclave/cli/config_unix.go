//go:build unix

package cli

import (
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// signalNamed reads HUP, SIGHUP, hup or 1.
func signalNamed(text string) (os.Signal, bool) {
	if n, err := strconv.Atoi(text); err == nil {
		return syscall.Signal(n), n > 0 && unix.SignalName(syscall.Signal(n)) != ""
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	s := unix.SignalNum(name)
	return s, s != 0
}

// terminate asks a process to end.
func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

// likeBefore gives a file the owner and the permissions that another one has.
// Another's file can be kept as it is only by whoever may give files away.
func likeBefore(f *os.File, before os.FileInfo) error {
	if stat, ok := before.Sys().(*syscall.Stat_t); ok && (int(stat.Uid) != os.Geteuid() || int(stat.Gid) != os.Getegid()) {
		if err := f.Chown(int(stat.Uid), int(stat.Gid)); err != nil {
			return err
		}
	}
	return f.Chmod(before.Mode().Perm())
}
