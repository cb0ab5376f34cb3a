//go:build !unix

package nodes

import "syscall"

func apart() *syscall.SysProcAttr { return nil }
