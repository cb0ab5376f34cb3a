//go:build linux

package supervise_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns a pseudo-terminal: what a person types into and reads, and
// what a program is given.
func openTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	t.Cleanup(func() { master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slave.Close() })
	return master, slave
}

// onTerminal starts a wrapper, or another role, as the leader of a session on a terminal.
func onTerminal(t *testing.T, role string, args ...string) (cmd *exec.Cmd, person *os.File, lines *bufio.Scanner) {
	t.Helper()
	master, slave := openTerminal(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(exe, append([]string{role}, args...)...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, master, bufio.NewScanner(master)
}

// read reads lines until one contains want.
func read(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	var seen []string
	for lines.Scan() {
		seen = append(seen, lines.Text())
		if strings.Contains(lines.Text(), want) {
			return
		}
	}
	t.Fatalf("%q not seen on the terminal, but %q", want, seen)
}

func TestCommandHasTheForeground(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	_, _, lines := onTerminal(t, "play-wrapper", "-foreground", exe, "play-foreground")
	read(t, lines, "command foreground: true")
	read(t, lines, "wrapper foreground: true")
}

func TestInterruptKeyReachesTheCommandOnly(t *testing.T) {
	cmd, person, lines := onTerminal(t, "play-wrapper", sh, "-c", "trap 'echo got int; exit 9' INT; echo ready; while :; do sleep 0.01; done")
	read(t, lines, "ready")
	if _, err := person.Write([]byte{3}); err != nil {
		t.Fatal(err)
	}
	read(t, lines, "got int")
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 9 {
		t.Errorf("exit %d, want the command's own 9", code)
	}
}

// The interrupt key ends the wrapper's work too, although it reaches the command
// only: whether that dies of it or says that it did.
func TestInterruptKeyIsAskingForTheEnd(t *testing.T) {
	for _, script := range []string{"echo ready; exec sleep 600", "trap 'exit 130' INT; echo ready; while :; do sleep 0.01; done"} {
		_, person, lines := onTerminal(t, "play-wrapper", "-asked", sh, "-c", script)
		read(t, lines, "ready")
		if _, err := person.Write([]byte{3}); err != nil {
			t.Fatal(err)
		}
		read(t, lines, "asked: true")
	}
	_, _, lines := onTerminal(t, "play-wrapper", "-asked", sh, "-c", "exit 3")
	read(t, lines, "asked: false")
}

// The stop key stops the whole job, so that the shell sees it; the command goes on
// when the job is brought back.
func TestStopKeyStopsTheJob(t *testing.T) {
	_, person, lines := onTerminal(t, "play-shell", "play-wrapper", sh, "-c", "echo ready; read x; echo got $x; exit 4")
	read(t, lines, "ready")
	if _, err := person.Write([]byte{26}); err != nil {
		t.Fatal(err)
	}
	read(t, lines, "shell: job stopped, terminal back: true")
	if _, err := person.WriteString("this\n"); err != nil {
		t.Fatal(err)
	}
	read(t, lines, "got this")
	read(t, lines, "shell: exit 4")
}
