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
	if unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, pgid) != nil {
		return
	}
	t.given = true
	// From now on the wrapper is in the background: without this it would be
	// stopped when it takes the terminal back, and on some terminals when it
	// writes a line. Only a guard could inherit it, and that ignores it too.
	signal.Ignore(unix.SIGTTOU)
}

// takeBack makes the wrapper's group the foreground group again.
func (t *terminal) takeBack() {
	if !t.given {
		return
	}
	t.given = false
	_ = unix.IoctlSetPointerInt(t.fd, unix.TIOCSPGRP, t.own)
}
