//go:build linux

package supervise_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// family starts a command that has a child, and returns the ids of all four.
func family(t *testing.T, flags ...string) (wrapper *exec.Cmd, guard, command, child int) {
	t.Helper()
	dir := t.TempDir()
	parentFile, childFile := filepath.Join(dir, "parent"), filepath.Join(dir, "child")
	// The child is written first: when the parent's file is there, both are.
	script := fmt.Sprintf("trap '' TERM; sleep 1000 & echo $! > %s; echo $$ > %s; wait", childFile, parentFile)
	wrapper = start(t, append(flags, sh, "-c", script)...)
	guard = childOf(t, wrapper.Process.Pid, "play-guard")
	return wrapper, guard, pidIn(t, parentFile), pidIn(t, childFile)
}

func allGone(t *testing.T, pids ...int) {
	t.Helper()
	for _, pid := range pids {
		eventually(t, fmt.Sprintf("end of process %d", pid), func() bool { return gone(pid) })
	}
}

func signalTo(t *testing.T, pid int, sig unix.Signal) {
	t.Helper()
	if err := unix.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

func TestWrapperKilled(t *testing.T) {
	w, guard, command, child := family(t)
	signalTo(t, w.Process.Pid, unix.SIGKILL)
	allGone(t, command, child, guard)
}

// The will is carried out when nothing of the group is left, also by a guard that
// took the place of the first one, and only when the wrapper died.
func TestWill(t *testing.T) {
	for _, replaced := range []bool{false, true} {
		file := filepath.Join(t.TempDir(), "will")
		w, guard, command, child := family(t, "-will", file)
		if replaced {
			signalTo(t, guard, unix.SIGKILL)
			eventually(t, "another guard", func() bool {
				second := childOf(t, w.Process.Pid, "play-guard")
				return second != 0 && second != guard
			})
		}
		signalTo(t, w.Process.Pid, unix.SIGKILL)
		eventually(t, "the will", func() bool { _, err := os.Stat(file); return err == nil })
		if !gone(command) || !gone(child) {
			t.Error("the will was carried out before the group was gone")
		}
	}
	file := filepath.Join(t.TempDir(), "will")
	w := start(t, "-will", file, sh, "-c", "exit 3")
	if err := w.Wait(); w.ProcessState.ExitCode() != 3 {
		t.Error(err)
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("the will of a wrapper that lives was carried out")
	}
}

func TestWrapperStopped(t *testing.T) {
	const valid = 4 * time.Second
	began := time.Now()
	w, guard, command, child := family(t, "-valid", valid.String())
	signalTo(t, w.Process.Pid, unix.SIGSTOP)
	allGone(t, command, child)
	if d := time.Since(began); d < valid {
		t.Errorf("killed after %s, before the end of validity at %s", d, valid)
	}
	if gone(guard) {
		t.Error("the guard left before the wrapper")
	}
	signalTo(t, w.Process.Pid, unix.SIGCONT)
	_ = w.Wait()
	if code := w.ProcessState.ExitCode(); code != 7 {
		t.Errorf("exit %d after the loss, want 7", code)
	}
	allGone(t, guard)
}

func TestGuardKilledIsReplaced(t *testing.T) {
	w, first, command, child := family(t)
	signalTo(t, first, unix.SIGKILL)
	allGone(t, first)
	var second int
	eventually(t, "another guard", func() bool {
		second = childOf(t, w.Process.Pid, "play-guard")
		return second != first
	})
	if gone(command) || gone(child) {
		t.Fatal("the command did not survive its guard")
	}
	signalTo(t, w.Process.Pid, unix.SIGKILL)
	allGone(t, command, child, second)
}

func TestGuardSurvivesSignals(t *testing.T) {
	w, guard, command, child := family(t)
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2} {
		signalTo(t, guard, sig)
	}
	signalTo(t, w.Process.Pid, unix.SIGKILL)
	allGone(t, command, child, guard)
}

func TestKernelKillsTheCommandWhenTheGuardCannot(t *testing.T) {
	w, guard, command, child := family(t)
	signalTo(t, guard, unix.SIGSTOP)
	signalTo(t, w.Process.Pid, unix.SIGKILL)
	allGone(t, command)
	signalTo(t, guard, unix.SIGCONT)
	allGone(t, child, guard)
}

func TestGuardKeepsNothingOpen(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ready := filepath.Join(t.TempDir(), "ready")
	cmd := exec.Command(exe, "play-wrapper", sh, "-c", "echo $$ > "+ready+"; echo through >&5; read x")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{nil, nil, w}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	defer stdin.Close()
	w.Close()
	pidIn(t, ready)
	guard := childOf(t, cmd.Process.Pid, "play-guard")
	want, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/5", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", guard))
	if err != nil || len(fds) == 0 {
		t.Fatal("no files of the guard to look at", err)
	}
	for _, fd := range fds {
		if got, _ := os.Readlink(fd); got == want || strings.Contains(got, "tty") || strings.Contains(got, "pts") {
			t.Errorf("the guard holds %s open: %s", fd, got)
		}
	}
	b := make([]byte, 8)
	if n, err := r.Read(b); err != nil || string(b[:n]) != "through\n" {
		t.Errorf("the command did not get the caller's file 5: %q, %v", b[:n], err)
	}
}

// A wrapper that dies at any moment of the start leaves nothing that runs.
func TestNoUnguardedStart(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 40
	dir := t.TempDir()
	for i := range rounds {
		file := filepath.Join(dir, fmt.Sprint("ran-", i))
		cmd := exec.Command(exe, "play-wrapper", sh, "-c", ": > "+file+"; while :; do sleep 0.01; done")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The moment of death is spread over the start by how long the kill is put off.
		kill := time.AfterFunc(time.Duration(i)*2*time.Millisecond, func() { _ = cmd.Process.Kill() })
		_ = cmd.Wait()
		kill.Stop()
	}
	eventually(t, "end of every process of the test", func() bool {
		lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, line := range lines {
			if b, _ := os.ReadFile(line); strings.Contains(string(b), dir) {
				return false
			}
		}
		return true
	})
	ran, _ := filepath.Glob(filepath.Join(dir, "ran-*"))
	t.Logf("%d of %d commands had started", len(ran), rounds)
}
