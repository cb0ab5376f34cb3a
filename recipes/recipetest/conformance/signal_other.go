//go:build !unix

package conformance

import "syscall"

const (
	kill   = syscall.SIGKILL
	pause  = syscall.Signal(0x13)
	resume = syscall.Signal(0x12)
)

// signal refuses: there are no signals here.
func signal(int, syscall.Signal) error { return skip("this system has no signals") }

func alive(int) bool { return false }
