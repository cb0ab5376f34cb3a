//go:build unix

package cli

import (
	"os"
	"os/signal"
	"syscall"
)

// forwarded are the signals that a command under ownership gets. What the caller
// had this program ignore, as nohup does, stays ignored.
func forwarded() []os.Signal {
	var out []os.Signal
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2} {
		if !signal.Ignored(s) {
			out = append(out, s)
		}
	}
	return out
}

// isUserSignal reports whether a signal means something to the command only.
func isUserSignal(s syscall.Signal) bool { return s == syscall.SIGUSR1 || s == syscall.SIGUSR2 }
