//go:build unix

package cli

import (
	"os"
	"os/signal"
	"syscall"
)

// forwarded are the signals that a command under ownership gets.
func forwarded() []os.Signal {
	return heeded(syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2)
}

// ending are the signals that end a server.
func ending() []os.Signal { return heeded(syscall.SIGINT, syscall.SIGHUP) }

// heeded is TERM and those of the others that the caller did not have this program
// ignore, as nohup does: listening to an ignored signal would undo that.
func heeded(others ...os.Signal) []os.Signal {
	out := []os.Signal{syscall.SIGTERM}
	for _, s := range others {
		if !signal.Ignored(s) {
			out = append(out, s)
		}
	}
	return out
}

// isUserSignal reports whether a signal means something to the command only.
func isUserSignal(s syscall.Signal) bool { return s == syscall.SIGUSR1 || s == syscall.SIGUSR2 }
