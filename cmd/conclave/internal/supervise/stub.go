//go:build linux || darwin

package supervise

import (
	"errors"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// The gate between the wrapper and the stub is one socket: the wrapper writes one
// byte to open it; the stub answers with an errno if it could not become the
// command, and with the end of the stream if it did.
const gateOpen = 'g'

// exitNotOpened is the stub's own exit code when the gate closed instead of
// opening. Nobody waits for it then but the wrapper's last breath.
const exitNotOpened = 125

// Stub waits until the gate opens, then becomes the command: args are the gate's
// file descriptor, the program's path, and its arguments with its name first. It
// returns an exit code only if it did not become the command.
func Stub(args []string) int {
	if len(args) < 3 {
		return exitNotOpened
	}
	fd, err := strconv.Atoi(args[0])
	if err != nil {
		return exitNotOpened
	}
	unix.CloseOnExec(fd)
	gate := os.NewFile(uintptr(fd), "gate")
	var b [1]byte
	if n, err := gate.Read(b[:]); err != nil || n != 1 || b[0] != gateOpen {
		return exitNotOpened
	}
	err = become(args[1], args[2:])
	errno := syscall.EINVAL
	errors.As(err, &errno)
	_, _ = gate.WriteString(strconv.Itoa(int(errno)))
	return exitNotOpened
}

func become(path string, argv []string) error {
	runtime.LockOSThread()
	if err := dieWithParent(); err != nil {
		return err
	}
	return execute(path, argv, os.Environ())
}

// Become makes this process the program at path, with its name first in argv. It
// returns only if it cannot: a *StartError.
func Become(path string, argv, env []string) error {
	return &StartError{Path: path, Err: execute(path, argv, env)}
}

func execute(path string, argv, env []string) error {
	err := syscall.Exec(path, argv, env)
	if !errors.Is(err, syscall.ENOEXEC) {
		return err
	}
	// A script without a "#!" line: shells and execvp(3) hand it to sh.
	return syscall.Exec("/bin/sh", append([]string{"sh", path}, argv[1:]...), env)
}
