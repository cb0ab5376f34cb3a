//go:build linux || darwin

package supervise

import (
	"errors"
	"io"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// highFD is where the gate's descriptor goes in the stub. Low numbers may carry
// files that the caller wants the command to have.
const highFD = 100

// starting is held while a process is started: the descriptor that is meant for it
// passes to every other one that starts meanwhile. syscall.ForkLock does the same
// for descriptors that the program keeps.
var starting sync.Mutex //nolint:gochecknoglobals // processes inherit from the whole program

// A command is the process that the stub becomes.
type command struct {
	pid     int // and its group
	gate    *os.File
	started chan error           // one value: nil when the stub became the command
	events  chan unix.WaitStatus // stops and continuations, last the end
}

// startStub starts the stub, which waits at the gate.
func startStub(c *Config) (*command, error) {
	exe, err := self()
	if err != nil {
		return nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	unix.CloseOnExec(pair[0])
	unix.CloseOnExec(pair[1])
	defer unix.Close(pair[1])
	starting.Lock()
	defer starting.Unlock()
	inherited, err := unix.FcntlInt(uintptr(pair[1]), unix.F_DUPFD, highFD)
	if err != nil {
		unix.Close(pair[0])
		return nil, os.NewSyscallError("fcntl", err)
	}
	defer unix.Close(inherited)

	args := append([]string{os.Args[0]}, c.StubArgs...)
	args = append(args, strconv.Itoa(inherited), c.Path)
	args = append(args, c.Args...)
	k := &command{
		gate:    os.NewFile(uintptr(pair[0]), "gate"),
		started: make(chan error, 1),
		events:  make(chan unix.WaitStatus),
	}
	ready := make(chan error, 1)
	go k.live(ready, exe, args, &os.ProcAttr{
		Env:   c.Env,
		Files: []*os.File{c.Stdin, c.Stdout, c.Stderr},
		Sys:   stubAttr(),
	})
	if err := <-ready; err != nil {
		k.gate.Close()
		return nil, err
	}
	return k, nil
}

// live starts the process and waits for it. It keeps its thread all that time: on
// Linux the kernel kills the process when the thread that started it ends.
func (k *command) live(ready chan<- error, exe string, args []string, attr *os.ProcAttr) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	proc, err := os.StartProcess(exe, args, attr)
	if err != nil {
		ready <- err
		return
	}
	k.pid = proc.Pid
	// Stops are of interest, and os.Process does not report them.
	_ = proc.Release()
	ready <- nil
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(k.pid, &ws, unix.WUNTRACED, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			// Somebody else waited for our child, so how it ended is not known.
			ws = unix.WaitStatus(1 << 8)
		}
		k.events <- ws
		if err != nil || ws.Exited() || ws.Signaled() {
			return
		}
	}
}

// open lets the stub become the command and reports on started how that went.
func (k *command) open() {
	if _, err := k.gate.Write([]byte{gateOpen}); err != nil {
		k.started <- err
		return
	}
	go func() {
		b, _ := io.ReadAll(k.gate)
		if len(b) == 0 {
			// The end of the stream: executed, or killed before it could be, which
			// may reset the connection. How it ended is known from the process.
			k.started <- nil
			return
		}
		errno, err := strconv.Atoi(string(b))
		if err != nil {
			k.started <- err
			return
		}
		k.started <- syscall.Errno(errno)
	}()
}

// signal sends sig to the command's group and reports whether anything of it is left.
func (k *command) signal(sig syscall.Signal) bool {
	return unix.Kill(-k.pid, sig) == nil
}
