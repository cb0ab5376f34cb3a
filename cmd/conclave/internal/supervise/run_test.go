//go:build linux

package supervise_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds waiting for a condition that must come true. It is no
// measurement: a busy machine may take long.
const patience = 60 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("not seen in %s: %s", patience, what)
		}
	}
}

// gone reports whether the process has ended, whether or not anybody waited for it.
func gone(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return strings.HasPrefix(rest, "Z") || strings.HasPrefix(rest, "X")
}

// pidIn waits until the file holds a number that ends its line.
func pidIn(t *testing.T, file string) int {
	t.Helper()
	var pid int
	eventually(t, "a process id in "+filepath.Base(file), func() bool {
		b, err := os.ReadFile(file)
		if err != nil || !bytes.HasSuffix(b, []byte("\n")) {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		return err == nil
	})
	return pid
}

// childOf waits for a child of pid that plays the given role.
func childOf(t *testing.T, pid int, role string) int {
	t.Helper()
	var found int
	eventually(t, role+" of the wrapper", func() bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
		for _, task := range tasks {
			more, _ := os.ReadFile(task)
			b = append(append(b, ' '), more...)
		}
		for f := range strings.FieldsSeq(string(b)) {
			line, _ := os.ReadFile("/proc/" + f + "/cmdline")
			if bytes.Contains(line, []byte(role)) {
				found, _ = strconv.Atoi(f)
				return true
			}
		}
		return false
	})
	return found
}

// start starts a wrapper and waits for it at the end of the test.
func start(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return startTo(t, nil, args...)
}

// startTo starts a wrapper that writes to out.
func startTo(t *testing.T, out io.Writer, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, append([]string{"play-wrapper"}, args...)...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

func run(t *testing.T, stdin string, args ...string) (string, int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, append([]string{"play-wrapper"}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

const sh = "/bin/sh"

func TestExitCodeAndStreams(t *testing.T) {
	for _, c := range []struct {
		script string
		code   int
		out    string
	}{
		{"exit 0", 0, ""},
		{"exit 3", 3, ""},
		{"kill -TERM $$", 128 + 15, ""},
		{"kill -KILL $$", 128 + 9, ""},
		{"cat; echo err >&2", 0, "from stdin\nerr\n"},
	} {
		out, code := run(t, "from stdin\n", sh, "-c", c.script)
		if code != c.code || out != c.out {
			t.Errorf("%s: exit %d, output %q; want %d, %q", c.script, code, out, c.code, c.out)
		}
	}
}

func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, []byte("echo \"script $1\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := run(t, "", filepath.Join(dir, "nothing")); code != 99 || !strings.Contains(out, "no such file") {
		t.Errorf("missing program: exit %d, %q", code, out)
	}
	if out, code := run(t, "", plain); code != 99 || !strings.Contains(out, "permission denied") {
		t.Errorf("program without x: exit %d, %q", code, out)
	}
	if err := os.Chmod(plain, 0o700); err != nil {
		t.Fatal(err)
	}
	if out, code := run(t, "", plain, "one"); code != 0 || out != "script one\n" {
		t.Errorf("script without #!: exit %d, %q", code, out)
	}
}

func TestSignalsReachTheGroup(t *testing.T) {
	for _, sig := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2} {
		ready := filepath.Join(t.TempDir(), "ready")
		name := strings.TrimPrefix(unix.SignalName(sig), "SIG")
		cmd := start(t, sh, "-c", fmt.Sprintf("trap 'exit 42' %s; echo $$ > %s; while :; do sleep 0.01; done", name, ready))
		pidIn(t, ready)
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if code := cmd.ProcessState.ExitCode(); code != 42 {
			t.Errorf("%s: exit %d, want the command's own 42", name, code)
		}
	}
}

// Commands that are started at once have nothing of each other: each is reached by
// its own signals, and ends while others go on.
func TestManyAtOnce(t *testing.T) {
	const n = 12
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/exe", "play-many", strconv.Itoa(n), sh, "-c",
		`trap 'exit 0' TERM; echo $$ > `+dir+`/$0; while :; do sleep 0.05; done`)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for i := range n {
		pid := pidIn(t, filepath.Join(dir, strconv.Itoa(i)))
		pids = append(pids, pid)
		fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			if to, _ := os.Readlink(fd); strings.HasPrefix(to, "socket:") {
				t.Errorf("command %d has a gate, its own or another one's: %s", i, filepath.Base(fd))
			}
		}
	}
	if err := cmd.Process.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	for i, pid := range pids {
		if !gone(pid) {
			t.Errorf("command %d still runs", i)
		}
	}
}

// Signals that end programs ask for the end, also of a command that ends in its own
// way. Others do not, nor does a HUP that the command lives with, nor its own death.
func TestAskedForTheEnd(t *testing.T) {
	for _, c := range []struct {
		sig   unix.Signal
		trap  string
		asked bool
	}{
		{unix.SIGTERM, "exit 0", true},
		{unix.SIGINT, "exit 3", true},
		{unix.SIGQUIT, "exit 0", true},
		{unix.SIGHUP, "exit 129", true},
		{unix.SIGHUP, "exit 3", false},
		{unix.SIGUSR1, "exit 138", false},
		{unix.SIGUSR2, "kill -INT $$", false},
	} {
		ready := filepath.Join(t.TempDir(), "ready")
		name := strings.TrimPrefix(unix.SignalName(c.sig), "SIG")
		out := new(strings.Builder)
		cmd := startTo(t, out, "-asked", sh, "-c", fmt.Sprintf("trap '%s' %s; echo $$ > %s; while :; do sleep 0.01; done", c.trap, name, ready))
		pidIn(t, ready)
		if err := cmd.Process.Signal(c.sig); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if want := fmt.Sprintf("asked: %v\n", c.asked); out.String() != want {
			t.Errorf("%s, %s: %q, want %q", name, c.trap, out, want)
		}
	}
}

func TestRenewalsStop(t *testing.T) {
	t.Run("ends itself", func(t *testing.T) {
		ready, mark := filepath.Join(t.TempDir(), "ready"), filepath.Join(t.TempDir(), "mark")
		out, code := run(t, "", "-after", ready, "-valid", "1m", "-grace", "59s", sh, "-c",
			"trap 'echo 1 > "+mark+"; exit 0' TERM; : > "+ready+"; while :; do sleep 0.01; done")
		if code != 7 {
			t.Errorf("exit %d, want 7: %s", code, out)
		}
		pidIn(t, mark)
	})
	t.Run("ignores TERM", func(t *testing.T) {
		ready := filepath.Join(t.TempDir(), "ready")
		began := time.Now()
		out, code := run(t, "", "-after", ready, "-valid", "700ms", "-grace", "500ms", sh, "-c",
			"trap '' TERM; : > "+ready+"; while :; do sleep 0.01; done")
		if code != 7 || !strings.Contains(out, "to end") {
			t.Errorf("exit %d, want 7: %s", code, out)
		}
		if time.Since(began) < 700*time.Millisecond {
			t.Error("killed before the end of validity")
		}
	})
}

// An end that leaves a grace, as a forced release does, asks first and kills later.
func TestLostWithGrace(t *testing.T) {
	dir := t.TempDir()
	ready, mark := filepath.Join(dir, "ready"), filepath.Join(dir, "mark")
	out, code := run(t, "", "-after", ready, "-revoked", "300ms", "-lost-grace", "1m", sh, "-c",
		"trap 'echo 1 > "+mark+"; exit 0' TERM; : > "+ready+"; while :; do sleep 0.01; done")
	if code != 7 {
		t.Errorf("exit %d, want 7: %s", code, out)
	}
	pidIn(t, mark)

	ready = filepath.Join(dir, "again")
	began := time.Now()
	out, code = run(t, "", "-after", ready, "-revoked", "300ms", "-lost-grace", "400ms", sh, "-c",
		"trap '' TERM; : > "+ready+"; while :; do sleep 0.01; done")
	if code != 7 {
		t.Errorf("exit %d, want 7: %s", code, out)
	}
	if time.Since(began) < 700*time.Millisecond {
		t.Error("killed before the grace was over")
	}
}

func TestLeftoversEndBeforeRunReturns(t *testing.T) {
	for _, trap := range []string{"", "trap '' TERM;"} {
		file := filepath.Join(t.TempDir(), "pid")
		_, code := run(t, "", sh, "-c",
			fmt.Sprintf("(%s echo 0; exec sleep 1000) >/dev/null 2>&1 & echo $! > %s", trap, file))
		if code != 0 {
			t.Errorf("exit %d", code)
		}
		if pid := pidIn(t, file); !gone(pid) {
			t.Errorf("process %d of the group outlived Run (trap %q)", pid, trap)
		}
	}
}
