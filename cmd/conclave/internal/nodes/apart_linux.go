package nodes

import "syscall"

// apart gives a node a process group of its own: Ctrl-C reaches this process alone,
// which then stops the nodes in order. A node that is paused, or is just about to be,
// when this process dies is woken, and finds out.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGCONT}
}
