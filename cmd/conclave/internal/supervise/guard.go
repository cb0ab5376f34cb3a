//go:build linux || darwin

package supervise

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What the wrapper tells the guard, one order a line:
//
//	group PGID DEADLINE    watch this group; answered with "ok"
//	deadline DEADLINE      a renewal was acknowledged
//	will TEXT              what to carry out when the wrapper is gone, in base64
//	end                    the group is gone; there is nothing to kill any more
//
// DEADLINE is nanoseconds on the clock of now. The end of the pipe without "end"
// means that the wrapper is gone.
const (
	orderGroup    = "group"
	orderDeadline = "deadline"
	orderWill     = "will"
	orderEnd      = "end"
	answerOK      = "ok"
)

const (
	ordersFD = 3
	acksFD   = 4
)

// killing bounds how long a group that was killed is looked after. Processes that
// are stuck in the kernel, or that nobody waits for, must not keep the guard.
const (
	killing     = 2 * time.Second
	killingTick = 5 * time.Millisecond
)

// Guard plays the guard until the wrapper says "end" or its end of the pipe closes,
// and returns an exit code. It survives every signal that can be ignored: it must
// end because the wrapper ended, and for no other reason. When the wrapper died and
// nothing of its group is left, carryOut gets the wrapper's will, if it left one.
func Guard(orders io.Reader, acks io.Writer, carryOut func(will string)) int {
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE,
		unix.SIGUSR1, unix.SIGUSR2, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
	a, err := newAlarm()
	if err != nil {
		return 1
	}
	defer a.close()
	g := guard{alarm: a, acks: acks}
	lines := make(chan string)
	go func() {
		defer close(lines)
		for s := bufio.NewScanner(orders); s.Scan(); {
			lines <- s.Text()
		}
	}()
	code := g.run(lines)
	if g.orphaned && g.will != "" {
		carryOut(g.will)
	}
	return code
}

// GuardFiles returns the pipes that a guard process inherits from its wrapper.
func GuardFiles() (orders io.Reader, acks io.Writer) {
	return os.NewFile(ordersFD, "orders"), os.NewFile(acksFD, "acks")
}

type guard struct {
	alarm    *alarm
	acks     io.Writer
	pgid     int
	deadline time.Duration
	will     string
	orphaned bool // the wrapper is gone, and so is all of the group
}

// run reads orders until the wrapper is gone or done. It ends only when lines is
// closed or after "end", so the reader never blocks on it in a process that lives on.
func (g *guard) run(lines <-chan string) int {
	for {
		select {
		case line, ok := <-lines:
			if !ok {
				g.orphaned = g.killUntilGone()
				return 0
			}
			end, err := g.order(line)
			if err != nil {
				g.killUntilGone()
				return 1
			}
			if end {
				return 0
			}
		case <-g.alarm.C:
			// A renewal may have moved the deadline after the alarm was due.
			if now() >= g.deadline {
				g.kill()
			}
		}
	}
}

func (g *guard) order(line string) (end bool, err error) {
	f := strings.Fields(line)
	switch {
	case len(f) == 3 && f[0] == orderGroup:
		if g.pgid, err = strconv.Atoi(f[1]); err != nil || g.pgid <= 1 {
			return false, fmt.Errorf("bad group %q", f[1])
		}
		if err := g.setDeadline(f[2]); err != nil {
			return false, err
		}
		// A wrapper that does not read the answer is gone, which the end of the
		// orders says too: then what it left is to be done as ever.
		_, _ = fmt.Fprintln(g.acks, answerOK)
		return false, nil
	case len(f) == 2 && f[0] == orderDeadline:
		return false, g.setDeadline(f[1])
	case len(f) == 2 && f[0] == orderWill:
		will, err := base64.StdEncoding.DecodeString(f[1])
		g.will = string(will)
		return false, err
	case len(f) == 1 && f[0] == orderEnd:
		return true, nil
	}
	return false, errors.New("unknown order")
}

func (g *guard) setDeadline(s string) error {
	ns, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return err
	}
	g.deadline = time.Duration(ns)
	return g.alarm.set(g.deadline)
}

// kill reports whether anything of the group was left to kill.
func (g *guard) kill() bool {
	return g.pgid > 1 && unix.Kill(-g.pgid, unix.SIGKILL) == nil
}

// killUntilGone reports whether nothing of the group is left.
func (g *guard) killUntilGone() bool {
	if !g.kill() || !groupRuns(g.pgid) {
		return true
	}
	tick := time.NewTicker(killingTick)
	defer tick.Stop()
	for end := time.Now().Add(killing); time.Now().Before(end); <-tick.C {
		if !g.kill() || !groupRuns(g.pgid) {
			return true
		}
	}
	return false
}
