//go:build linux || darwin

package supervise

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A deadline that moved by less than this is the same one, read a little later.
const sameDeadline = time.Millisecond

// leftoverTick is how often Run looks whether killed processes are gone.
const leftoverTick = 2 * time.Millisecond

// Run runs the command until it ends and nothing of its group is left, or until
// ownership is lost. A *StartError says that nothing of it ran; any other error
// means that it could not be guarded, and that it was ended for this reason if it
// ran. Run waits for everything that it started.
func Run(c Config) (Result, error) {
	if c.Guard == nil {
		var err error
		if c.Guard, err = StartGuard(c.GuardArgs, ""); err != nil {
			return Result{}, err
		}
	}
	g := c.Guard.proc
	k, err := startStub(&c)
	if err != nil {
		g.end()
		return Result{}, &StartError{Path: c.Path, Err: err}
	}
	defer k.gate.Close()
	r := &run{Config: c, guard: g, cmd: k, tty: findTerminal(c.Stdin, c.Stdout, c.Stderr)}
	return r.supervise()
}

type run struct {
	Config
	guard    *guardProc // nil after one died and could not be replaced
	cmd      *command
	tty      terminal
	told     time.Duration // the end of validity that the guard knows
	opened   bool          // the stub was let through the gate
	asked    bool          // TERM was sent because renewals stopped
	hungUp   bool          // a HUP was forwarded
	result   Result
	err      error
	startErr error
}

func (r *run) supervise() (Result, error) {
	at := now()
	r.told = at + r.Remaining()
	if err := r.guard.arm(r.cmd.pid, r.told); err != nil {
		r.err = fmt.Errorf("the guard does not answer: %w", err)
		r.cmd.signal(unix.SIGKILL)
	} else if r.Lost.Err() == nil {
		r.tty.give(r.cmd.pid)
		r.cmd.open()
		r.opened = true
	}
	ws := r.loop()
	if r.Lost.Err() != nil || r.Remaining() <= 0 {
		// The guard may have been quicker than the wrapper, which may just have been resumed.
		r.result.Lost, r.result.Why = true, context.Cause(r.Lost)
	}
	r.result.Code = ws.ExitStatus()
	if ws.Signaled() {
		r.result.Code = 128 + int(ws.Signal())
	}
	r.result.Asked = r.result.Asked || r.diedOfPerson()
	r.leftovers()
	r.tty.takeBack()
	if r.guard != nil {
		r.guard.end()
	}
	if r.startErr != nil {
		return r.result, &StartError{Path: r.Path, Err: r.startErr}
	}
	return r.result, r.err
}

// diedOfPerson reports whether the command ended of a signal that a person's
// terminal sends, to its foreground group and not to this process. Shells and others
// that catch one say so by 128+n.
func (r *run) diedOfPerson() bool {
	switch syscall.Signal(r.result.Code - 128) {
	case unix.SIGINT, unix.SIGQUIT:
		return r.tty.given
	case unix.SIGHUP:
		return r.tty.given || r.hungUp
	}
	return false
}

// loop waits for the command's end and does what must be done before it.
func (r *run) loop() unix.WaitStatus {
	cont := make(chan os.Signal, 1)
	signal.Notify(cont, unix.SIGCONT)
	defer signal.Stop(cont)
	renewal := time.NewTimer(0)
	defer renewal.Stop()
	lost, started := r.Lost.Done(), r.cmd.started
	defer func() {
		if started != nil && r.opened {
			r.startErr = <-started
		}
	}()
	var signals <-chan os.Signal // nil until the stub is the command, which may handle them
	var kill <-chan time.Time
	for {
		select {
		case ws := <-r.cmd.events:
			if ws.Exited() || ws.Signaled() {
				return ws
			}
			r.stopped(ws)
		case err := <-started:
			started, signals, r.startErr = nil, r.Signals, err
		case sig := <-signals:
			r.forward(sig)
		case <-cont:
			r.continued()
		case <-lost:
			lost = nil
			renewal.Stop()
			kill = r.lose()
		case <-kill:
			r.cmd.signal(unix.SIGKILL)
		case <-renewal.C:
			renewal.Reset(r.renew())
		case <-r.guardDied():
			r.replaceGuard()
		}
	}
}

// lose ends the group: ownership is over, and the name may be someone else's any
// moment, or after the grace that its end allows. It returns when to kill.
func (r *run) lose() <-chan time.Time {
	r.result.Lost, r.result.Why = true, context.Cause(r.Lost)
	grace := time.Duration(0)
	if r.LostGrace != nil {
		grace = r.LostGrace(r.result.Why)
	}
	if grace <= 0 {
		r.cmd.signal(unix.SIGKILL)
		return nil
	}
	r.tell(now() + grace)
	r.end(unix.SIGTERM)
	r.notify(fmt.Sprintf("the command has %s to end: %v", grace.Round(100*time.Millisecond), r.result.Why))
	return time.After(grace)
}

// renew tells the guard how long ownership is valid, asks the command to end when
// that is not long any more, and returns when to look again.
func (r *run) renew() time.Duration {
	if r.Lost.Err() != nil {
		return r.Interval // how long the command then has is known to lose alone
	}
	// The clock is read first: a pause in between makes the deadline earlier, never later.
	at := now()
	left := r.Remaining()
	r.tell(at + left)
	if left > r.Grace {
		return min(r.Interval, left-r.Grace)
	}
	if !r.asked {
		r.asked = true
		r.result.Lost = true
		r.end(unix.SIGTERM)
		r.notify(fmt.Sprintf("no renewal was acknowledged, the command has %s to end", max(left, 0).Round(100*time.Millisecond)))
	}
	return r.Interval
}

// tell tells the guard the end of validity if it is another than it knows.
func (r *run) tell(deadline time.Duration) {
	d := deadline - r.told
	if r.guard == nil || (d < sameDeadline && d > -sameDeadline) {
		return
	}
	r.told = deadline
	// A guard that cannot be told is dead or stopped, and is replaced when it has ended.
	if r.guard.renewed(deadline) != nil {
		_ = r.guard.proc.Kill()
	}
}

func (r *run) forward(sig os.Signal) {
	s, ok := sig.(syscall.Signal)
	if !ok {
		return
	}
	switch s {
	case unix.SIGINT, unix.SIGQUIT, unix.SIGTERM:
		r.result.Asked = true
	case unix.SIGHUP: // many a server reads its configuration again
		r.hungUp = true
	}
	r.end(s)
}

// end sends a signal that is meant to be seen by a stopped group too.
func (r *run) end(sig syscall.Signal) {
	r.cmd.signal(sig)
	if sig != unix.SIGUSR1 && sig != unix.SIGUSR2 {
		r.cmd.signal(unix.SIGCONT)
	}
}

// stopped follows the command when the terminal stopped it, so that the shell that
// started the wrapper sees a stopped job and gets its terminal. A plain SIGSTOP,
// sent by whoever wants to look at the command, leaves the wrapper renewing.
func (r *run) stopped(ws unix.WaitStatus) {
	if !r.tty.valid || !ws.Stopped() || ws.StopSignal() == unix.SIGSTOP {
		return
	}
	r.tty.takeBack()
	r.notify("stopped: a stopped job cannot renew, and the command is killed when ownership ends")
	// The whole job, as the terminal would have done it.
	_ = unix.Kill(0, unix.SIGTSTP)
}

// continued wakes the command after the wrapper was stopped and resumed.
func (r *run) continued() {
	r.tty.give(r.cmd.pid)
	r.cmd.signal(unix.SIGCONT)
}

func (r *run) guardDied() <-chan struct{} {
	if r.guard == nil {
		return nil
	}
	return r.guard.died
}

// replaceGuard starts another guard for the same group. Without one the command
// must not run on.
func (r *run) replaceGuard() {
	r.guard.close()
	g, err := startGuard(r.GuardArgs, append(willOrders(r.Guard.will), watchGroup(r.cmd.pid, r.told))...)
	if err == nil {
		if err = g.confirmed(); err == nil {
			r.guard = g
			return
		}
		g.close()
	}
	r.guard = nil
	r.cmd.signal(unix.SIGKILL)
	r.err = fmt.Errorf("the guard died and could not be replaced: %w", err)
}

// leftovers ends what the command left behind in its group: TERM, and KILL after
// Leftover, or at once when ownership was lost.
func (r *run) leftovers() {
	first := unix.SIGTERM
	if r.result.Lost {
		first = unix.SIGKILL
	}
	if !r.cmd.signal(first) || !groupRuns(r.cmd.pid) {
		return
	}
	r.cmd.signal(unix.SIGCONT)
	tick := time.NewTicker(leftoverTick)
	defer tick.Stop()
	kill := time.NewTimer(min(r.Leftover, max(0, r.Remaining()-r.Grace)))
	defer kill.Stop()
	var giveUp <-chan time.Time
	lost, killed := r.Lost.Done(), kill.C
	for groupRuns(r.cmd.pid) {
		select {
		case <-tick.C:
			continue
		case <-lost:
			lost = nil
		case <-killed:
			killed = nil
		case <-giveUp:
			// Killed, and stuck in the kernel: no instruction of theirs runs any more.
			return
		}
		r.cmd.signal(unix.SIGKILL)
		if giveUp == nil {
			giveUp = time.After(killing)
		}
	}
}
