package supervise

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// now reads the clock on which deadlines are told to the guard. It counts suspend
// and is the same in every process of the machine.
func now() time.Duration {
	var ts unix.Timespec
	// CLOCK_BOOTTIME exists since Linux 2.6.39 and the call cannot fail with a valid pointer.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

// An alarm fires once at a moment on the clock of now, also when that moment fell
// into a suspend: a Go timer would count only the time awake.
type alarm struct {
	f    *os.File
	C    chan struct{}
	done chan struct{}
}

func newAlarm() (*alarm, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("timer: %w", err)
	}
	a := &alarm{f: os.NewFile(uintptr(fd), "alarm"), C: make(chan struct{}, 1), done: make(chan struct{})}
	go a.read()
	return a, nil
}

func (a *alarm) read() {
	defer close(a.done)
	var b [8]byte
	for {
		if _, err := a.f.Read(b[:]); err != nil {
			return
		}
		select {
		case a.C <- struct{}{}:
		default:
		}
	}
}

// set replaces the moment. A moment in the past fires at once.
func (a *alarm) set(at time.Duration) error {
	raw, err := a.f.SyscallConn()
	if err != nil {
		return err
	}
	// A zero value would disarm the timer.
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(int64(at), 1))}
	cerr := raw.Control(func(fd uintptr) {
		err = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME, &spec, nil)
	})
	if cerr != nil {
		return cerr
	}
	return err
}

func (a *alarm) close() {
	_ = a.f.Close()
	<-a.done
}
