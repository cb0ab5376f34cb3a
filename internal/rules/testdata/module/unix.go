//go:build unix

package fixture

import "syscall"

var _ = syscall.Getpid
