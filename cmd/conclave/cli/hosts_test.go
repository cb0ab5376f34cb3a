//go:build linux

package cli_test

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// second starts another host on the etcd of the first one and returns its API.
func (h *house) second() (api string, pid func(syscall.Signal)) {
	h.t.Helper()
	cmd := h.command("serve", "--endpoints", h.url, "--api-addr", "127.0.0.1:0", "--data-dir", h.t.TempDir())
	cmd.Stderr = nil
	out, err := cmd.StdoutPipe()
	if err != nil {
		h.t.Fatal(err)
	}
	h.start(cmd)
	line, err := bufio.NewReader(out).ReadString('\n')
	m := readyLine.FindStringSubmatch(line)
	if err != nil || m == nil {
		h.t.Fatalf("serve printed %q, %v", line, err)
	}
	return m[1], func(sig syscall.Signal) { h.signal(cmd, sig) }
}

// An owner and a waiter outlive the host that they used: one that was killed, and
// one that does not answer any more, which only silence tells.
func TestAnotherHostTakesOver(t *testing.T) {
	t.Parallel()
	for name, sig := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "silent": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, false)
			api, signal := h.second()
			h.env = append(h.env, "CONCLAVE_API="+api+","+h.api)
			dir := t.TempDir()
			ready, end := filepath.Join(dir, "ready"), filepath.Join(dir, "end")
			owner := h.run("x --ttl 15s", "echo $$ > "+ready+"; until [ -e "+end+" ]; do sleep 0.01; done; exit 3")
			pid := pidIn(t, ready)
			c := h.client()
			waiter := h.run("x --ttl 15s", "exit 4")
			eventually(t, "a ticket in line", func() bool { keys, _ := left(t, c); return keys > 1 })
			signal(sig)
			eventually(t, "sessions at the other host", func() bool { return strings.Count(h.sessions(), `"attached":true`) == 2 })
			if gone(pid) {
				t.Fatal("the command was ended")
			}
			if err := os.WriteFile(end, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if code := h.code(owner); code != 3 {
				t.Errorf("exit %d, want the command's own 3", code)
			}
			if code := h.code(waiter); code != 4 {
				t.Errorf("the one that waited: exit %d, want 4", code)
			}
		})
	}
}

// sessions is what the first host says of sessions.
func (h *house) sessions() string {
	h.t.Helper()
	cmd := h.command("call", "SessionService/List", "--api", h.api)
	out, err := cmd.Output()
	if err != nil {
		h.t.Fatal(err)
	}
	return string(out)
}

// Of an etcd that is away nothing is said to be well, and the exit code says so.
func TestEtcdIsAway(t *testing.T) {
	t.Parallel()
	h := newHouse(t, false)
	api, _ := h.second()
	h.signal(h.dev, syscall.SIGKILL)
	_ = h.dev.Wait()
	for args, want := range map[string]struct {
		code          int
		lines, denied []string
	}{
		"status": {6, []string{"etcd\texternal, does not serve, its members are unknown", "authentication\tunknown"}, []string{"authentication\toff"}},
		"doctor": {1, []string{"error\tquorum\t", "skipped\tmembers\tunknown", "skipped\tlogin\tunknown", "skipped\tdatabase\tunknown", "skipped\tsession\t"},
			[]string{"ok\tmembers", "ok\tlogin", "ok\tdatabase"}},
	} {
		cmd := h.command(args, "--api", api)
		out, _ := cmd.Output()
		if code := cmd.ProcessState.ExitCode(); code != want.code {
			t.Errorf("%s: exit %d, want %d", args, code, want.code)
		}
		for _, line := range want.lines {
			if !strings.Contains(string(out), line) {
				t.Errorf("%s does not say %q:\n%s", args, line, out)
			}
		}
		for _, line := range want.denied {
			if strings.Contains(string(out), line) {
				t.Errorf("%s says %q:\n%s", args, line, out)
			}
		}
	}
}
