//go:build unix && !linux

package nodes

import "syscall"

// apart gives a node a process group of its own: Ctrl-C reaches this process alone,
// which then stops the nodes in order. A node that is paused when this process dies
// is woken and hung up on by the kernel, as its group is an orphan then.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
