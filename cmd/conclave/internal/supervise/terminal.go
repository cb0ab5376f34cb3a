//go:build linux || darwin

package supervise

import (
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// A terminal hands the foreground to the command's group and takes it back. The
// zero value is no terminal.
type terminal struct {
	fd    int
	own   int // the wrapper's group
	valid bool
	given bool
}

// findTerminal looks for the controlling terminal among the command's streams.
func findTerminal(files ...*os.File) terminal {
	for _, f := range files {
		if f == nil {
			continue
		}
		// TIOCGPGRP fails on every terminal but the controlling one.
		if _, err := unix.IoctlGetInt(int(f.Fd()), unix.TIOCGPGRP); err == nil {
			return terminal{fd: int(f.Fd()), own: unix.Getpgrp(), valid: true}
		}
	}
	return terminal{}
}

// give makes pgid the foreground group if the wrapper's own group is: a wrapper in
// the background must not take the terminal from whoever has it.
func (t *terminal) give(pgid int) {
	if !t.valid {
		return
	}
	if fg, err := unix.IoctlGetInt(t.fd, unix.TIOCGPGRP); err != nil || fg != t.own {
		return
	}
	if unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, pgid) == nil {
		t.given = true
	}
}

// takeBack makes the wrapper's group the foreground group again.
func (t *terminal) takeBack() {
	if !t.given {
		return
	}
	t.given = false
	// A background process that sets the foreground group is stopped unless it
	// ignores this signal. Nothing is executed afterwards that could inherit it
	// but a guard, which ignores it too.
	signal.Ignore(unix.SIGTTOU)
	_ = unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, t.own)
}
