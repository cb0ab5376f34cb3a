package supervise

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// now reads the clock on which deadlines are told to the guard. On macOS this
// clock goes on while the machine sleeps.
func now() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return time.Duration(ts.Nano())
}

const alarmTick = 100 * time.Millisecond

// An alarm fires once at a moment on the clock of now. macOS has no timer that
// counts sleep, so it looks at the clock ten times a second.
type alarm struct {
	at   atomic.Int64
	C    chan struct{}
	stop chan struct{}
	done chan struct{}
}

func newAlarm() (*alarm, error) {
	a := &alarm{C: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{})}
	go a.run()
	return a, nil
}

func (a *alarm) run() {
	defer close(a.done)
	t := time.NewTicker(alarmTick)
	defer t.Stop()
	for {
		select {
		case <-a.stop:
			return
		case <-t.C:
		}
		at := a.at.Load()
		if at == 0 || now() < time.Duration(at) || !a.at.CompareAndSwap(at, 0) {
			continue
		}
		select {
		case a.C <- struct{}{}:
		default:
		}
	}
}

// set replaces the moment. A moment in the past fires at the next tick.
func (a *alarm) set(at time.Duration) error {
	a.at.Store(max(int64(at), 1))
	return nil
}

func (a *alarm) close() {
	close(a.stop)
	<-a.done
}
