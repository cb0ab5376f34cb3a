//go:build !unix

package cli

import (
	"os"
	"syscall"
)

// forwarded are the signals that end a wait.
func forwarded() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM} }

// ending are the signals that end a server.
func ending() []os.Signal { return forwarded() }

// isUserSignal reports whether a signal means something to the command only.
func isUserSignal(syscall.Signal) bool { return false }
