//go:build linux || darwin

package supervise

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// answering bounds how long the wrapper waits for a guard. A guard that does not
// answer is no guard.
const answering = 10 * time.Second

// A guardProc is the wrapper's end of a guard.
type guardProc struct {
	proc   *os.Process
	orders *os.File
	acks   *os.File
	died   chan struct{} // closed when the guard has ended and was waited for
}

// A GuardProcess is a guard that was started before there is a command for it.
type GuardProcess struct {
	proc *guardProc
	will string
}

// StartGuard starts a guard, for [Config.Guard]. When this process dies before End
// or Run ended it, the guard carries out the will: see [Guard]. An empty will asks
// for nothing.
func StartGuard(args []string, will string) (*GuardProcess, error) {
	proc, err := startGuard(args, willOrders(will)...)
	if err != nil {
		return nil, fmt.Errorf("start the guard: %w", err)
	}
	return &GuardProcess{proc, will}, nil
}

// End lets the guard go, for those who do not come to Run. It waits for its end.
func (g *GuardProcess) End() { g.proc.end() }

// Leave lets the guard carry out the will, as if this process were dead, and does
// not wait for it.
func (g *GuardProcess) Leave() { _ = g.proc.orders.Close() }

func willOrders(will string) []string {
	if will == "" {
		return nil
	}
	return []string{orderWill + " " + base64.StdEncoding.EncodeToString([]byte(will))}
}

// startGuard starts a guard whose first orders are in the pipe before it exists: it
// follows them even if the wrapper dies meanwhile.
func startGuard(args []string, orders ...string) (*guardProc, error) {
	exe, err := self()
	if err != nil {
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	ordersR, ordersW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ordersR.Close()
	acksR, acksW, err := os.Pipe()
	if err != nil {
		ordersW.Close()
		return nil, err
	}
	defer acksW.Close()
	g := &guardProc{orders: ordersW, acks: acksR, died: make(chan struct{})}
	for _, line := range orders {
		if err := g.order(line); err != nil {
			g.closePipes()
			return nil, err
		}
	}
	starting.Lock()
	defer starting.Unlock()
	files := append([]*os.File{null, null, null, ordersR, acksW}, closedAfter(acksFD)...)
	g.proc, err = os.StartProcess(exe, append([]string{os.Args[0]}, args...), &os.ProcAttr{
		Dir:   "/",
		Env:   os.Environ(),
		Files: files,
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		g.closePipes()
		return nil, err
	}
	go func() {
		defer close(g.died)
		_, _ = g.proc.Wait()
	}()
	return g, nil
}

// closedAfter returns one nil entry for every file descriptor above last that a
// child would inherit. A guard that kept the caller's pipes open would hold up
// whoever reads from them until their end.
func closedAfter(last int) []*os.File {
	entries, err := os.ReadDir(openFiles)
	if err != nil {
		return nil
	}
	highest := last
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= highest {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			highest = fd
		}
	}
	return make([]*os.File, highest-last)
}

// watchGroup is the order that names the group and the end of validity.
func watchGroup(pgid int, deadline time.Duration) string {
	return fmt.Sprintf("%s %d %d", orderGroup, pgid, int64(deadline))
}

// arm tells the guard which group to watch until when, and waits for its answer.
func (g *guardProc) arm(pgid int, deadline time.Duration) error {
	if err := g.order(watchGroup(pgid, deadline)); err != nil {
		return err
	}
	return g.confirmed()
}

// confirmed waits for the guard's answer to the order that names the group.
func (g *guardProc) confirmed() error {
	if err := g.acks.SetReadDeadline(time.Now().Add(answering)); err != nil {
		return err
	}
	line, err := bufio.NewReader(g.acks).ReadString('\n')
	if err != nil {
		return err
	}
	if strings.TrimSpace(line) != answerOK {
		return fmt.Errorf("guard answered %q", line)
	}
	return nil
}

// renewed tells the guard a new end of validity.
func (g *guardProc) renewed(deadline time.Duration) error {
	return g.order(fmt.Sprintf("%s %d", orderDeadline, int64(deadline)))
}

func (g *guardProc) order(line string) error {
	// A stopped guard must not stop the wrapper through a full pipe.
	if err := g.orders.SetWriteDeadline(time.Now().Add(answering)); err != nil {
		return err
	}
	_, err := fmt.Fprintln(g.orders, line)
	return err
}

// end lets the guard go and waits for it: the group is gone.
func (g *guardProc) end() {
	_ = g.order(orderEnd)
	g.close()
}

// close closes the pipe, upon which the guard kills what is left of the group
// unless it was told the end, and waits for the guard. A guard that does not end
// (stopped, say) is killed.
func (g *guardProc) close() {
	_ = g.orders.Close()
	t := time.NewTimer(answering)
	defer t.Stop()
	select {
	case <-g.died:
	case <-t.C:
		_ = g.proc.Kill()
		<-g.died
	}
	_ = g.acks.Close()
}

func (g *guardProc) closePipes() {
	_ = g.orders.Close()
	_ = g.acks.Close()
}
