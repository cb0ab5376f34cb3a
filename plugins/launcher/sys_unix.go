//go:build unix

package launcher

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// killGroup kills a process and all that it started and that did not leave its
// group. Whoever has ended already is no error.
func killGroup(pid int) { _ = syscall.Kill(-pid, syscall.SIGKILL) }

// askForDump makes a program in Go print what its goroutines do, and end.
func askForDump(pid int) {
	if pid != 0 { // which would be everybody in the host's own group
		_ = syscall.Kill(pid, syscall.SIGQUIT)
	}
}

// lockDir keeps others from a folder for as long as the file is open, or says that
// somebody does already.
func lockDir(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: is in use: %w", dir, err), f.Close())
	}
	return f, nil
}

// ownedByUs says that a file belongs to the user who runs this program.
func ownedByUs(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}
