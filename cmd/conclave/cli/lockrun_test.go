//go:build linux

package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

const forever = "while :; do sleep 0.01; done"

func TestOneJobAfterTheOther(t *testing.T) {
	t.Parallel()
	h := newHouse(t, false)
	dir := t.TempDir()
	log, job := filepath.Join(dir, "log"), filepath.Join(dir, "job.sh")
	script := fmt.Sprintf("#!/bin/sh\necho begin $$ >> %s\nsleep 0.2\necho end $$ >> %s\n", log, log)
	if err := os.WriteFile(job, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	var runs []*exec.Cmd
	for range 4 {
		cmd := h.command("lock", "run", "nightly", "--", "./job.sh")
		cmd.Dir = dir
		h.start(cmd)
		runs = append(runs, cmd)
	}
	for _, cmd := range runs {
		if code := h.code(cmd); code != 0 {
			t.Errorf("exit %d", code)
		}
	}
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != 2*len(runs) {
		t.Fatalf("%d lines of %d jobs: %q", len(lines), len(runs), lines)
	}
	for i := 0; i < len(lines); i += 2 {
		if strings.TrimPrefix(lines[i], "begin ") != strings.TrimPrefix(lines[i+1], "end ") {
			t.Errorf("two jobs ran at once: %q", lines)
		}
	}
}

// With a TTL of an hour, whoever gets the name in time did not get it by the lease's end.
func TestTermFreesTheNameAtOnce(t *testing.T) { bothWays(t, termFreesTheNameAtOnce) }

func termFreesTheNameAtOnce(t *testing.T, direct bool) {
	h := newHouse(t, direct)
	c := h.client()
	ready := filepath.Join(t.TempDir(), "ready")
	first := h.run("x --ttl 1h", "trap 'exit 5' TERM; echo $$ > "+ready+"; "+forever)
	pidIn(t, ready)
	second := h.run("x --ttl 1h", "exit 0")
	eventually(t, "a second lease", func() bool { _, leases := left(t, c); return leases == 2 })
	began := time.Now()
	h.signal(first, syscall.SIGTERM)
	if code := h.code(first); code != 5 {
		t.Errorf("exit %d, want the command's own 5", code)
	}
	if code := h.code(second); code != 0 {
		t.Errorf("the next one: exit %d", code)
	}
	t.Logf("from TERM to the end of the next one's command: %s", time.Since(began))
	if keys, leases := left(t, c); keys != 0 || leases != 0 {
		t.Errorf("%d keys and %d leases are left", keys, leases)
	}
}

func TestTermWhileWaitingLeavesTheLine(t *testing.T) { bothWays(t, termWhileWaitingLeavesTheLine) }

func termWhileWaitingLeavesTheLine(t *testing.T, direct bool) {
	for sig, want := range map[syscall.Signal]int{syscall.SIGTERM: 143, syscall.SIGINT: 130} {
		h := newHouse(t, direct)
		c := h.client()
		ready := filepath.Join(t.TempDir(), "ready")
		h.run("x --ttl 1h", "echo $$ > "+ready+"; "+forever)
		pidIn(t, ready)
		before, _ := left(t, c)
		waiter := h.run("x --ttl 1h", "exit 0")
		eventually(t, "a ticket in line", func() bool { keys, _ := left(t, c); return keys > before })
		h.signal(waiter, sig)
		if code := h.code(waiter); code != want {
			t.Errorf("%s: exit %d, want %d", sig, code, want)
		}
		if keys, leases := left(t, c); keys != before || leases != 1 {
			t.Errorf("%s: %d keys and %d leases, want %d and 1", sig, keys, leases, before)
		}
	}
}

// next runs a command that says whether the process in file is gone when it gets the name.
func (h *house) next(pid int) *exec.Cmd {
	return h.run("x --ttl 5s", fmt.Sprintf(
		"case $(cat /proc/%d/stat 2>/dev/null) in ''|*') Z '*) exit 0;; *) exit 99;; esac", pid))
}

func TestWrapperKilled(t *testing.T) { bothWays(t, wrapperKilled) }

func wrapperKilled(t *testing.T, direct bool) {
	h := newHouse(t, direct)
	ready := filepath.Join(t.TempDir(), "ready")
	cmd := h.run("x --ttl 5s", "trap '' TERM; echo $$ > "+ready+"; "+forever)
	pid := pidIn(t, ready)
	next := h.next(pid)
	h.signal(cmd, syscall.SIGKILL)
	eventually(t, "the command's end", func() bool { return gone(pid) })
	if code := h.code(next); code != 0 {
		t.Errorf("the next one: exit %d, the command before it ran on", code)
	}
}

// With a TTL of an hour, whoever gets the name in time got it from the guard: of an
// owner that was killed, and of one that was killed while it waited.
func TestKilledFreesTheName(t *testing.T) {
	t.Parallel()
	h := newHouse(t, false)
	c := h.client()
	for _, direct := range []bool{false, true} {
		flags := "x --ttl 1h"
		if direct {
			flags += " --endpoints " + h.url
		}
		ready := filepath.Join(t.TempDir(), "ready")
		owner := h.run(flags, "trap '' TERM; echo $$ > "+ready+"; "+forever)
		pidIn(t, ready)
		waiter := h.run(flags, "exit 98")
		eventually(t, "a ticket in line", func() bool { keys, _ := left(t, c); return keys > 1 })
		h.signal(waiter, syscall.SIGKILL)
		eventually(t, "the end of the waiter's session", func() bool { _, sessions := left(t, c); return sessions == 1 })
		began := time.Now()
		h.signal(owner, syscall.SIGKILL)
		if code := h.code(h.run(flags, "exit 0")); code != 0 {
			t.Errorf("direct %v: the next one: exit %d", direct, code)
		}
		t.Logf("direct %v: from KILL to the end of the next one's command: %s", direct, time.Since(began))
		if keys, sessions := left(t, c); keys != 0 || sessions != 0 {
			t.Errorf("direct %v: %d keys and %d sessions are left", direct, keys, sessions)
		}
	}
}

// A host that is killed and comes back within the TTL loses no lock and no place in line.
func TestHostRestarts(t *testing.T) {
	t.Parallel()
	h := newHouse(t, false)
	dir := t.TempDir()
	ready, end := filepath.Join(dir, "ready"), filepath.Join(dir, "end")
	owner := h.run("x --ttl 1h", "echo $$ > "+ready+"; until [ -e "+end+" ]; do sleep 0.01; done; exit 3")
	pid := pidIn(t, ready)
	c := h.client()
	waiter := h.run("x --ttl 1h", "exit 4")
	eventually(t, "a ticket in line", func() bool { keys, _ := left(t, c); return keys > 1 })
	h.restart()
	if gone(pid) {
		t.Fatal("the command was ended")
	}
	tickets, err := h.client().Get(t.Context(), lockKeys+"x/line/", clientv3.WithPrefix())
	if err != nil || len(tickets.Kvs) != 1 {
		t.Errorf("%v after the restart, want the one ticket, %v", tickets, err)
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
}

func TestWrapperStopped(t *testing.T) { bothWays(t, wrapperStopped) }

func wrapperStopped(t *testing.T, direct bool) {
	h := newHouse(t, direct)
	ready := filepath.Join(t.TempDir(), "ready")
	cmd := h.run("x --ttl 5s", "trap '' TERM; echo $$ > "+ready+"; "+forever)
	pid := pidIn(t, ready)
	next := h.next(pid)
	h.signal(cmd, syscall.SIGSTOP)
	if code := h.code(next); code != 0 {
		t.Errorf("the next one: exit %d, the command before it ran on", code)
	}
	h.signal(cmd, syscall.SIGCONT)
	if code := h.code(cmd); code != 7 {
		t.Errorf("exit %d of the one that was stopped, want 7", code)
	}
}

func TestEtcdGone(t *testing.T) { bothWays(t, etcdGone) }

func etcdGone(t *testing.T, direct bool) {
	h := newHouse(t, direct)
	dir := t.TempDir()
	ready, mark := filepath.Join(dir, "ready"), filepath.Join(dir, "mark")
	polite := h.run("x --ttl 5s --grace 1s", "trap 'echo 1 > "+mark+"; exit 0' TERM; echo $$ > "+ready+"; "+forever)
	pidIn(t, ready)
	h.signal(h.dev, syscall.SIGKILL)
	if code := h.code(polite); code != 7 {
		t.Errorf("exit %d, want 7", code)
	}
	pidIn(t, mark)

	// Nothing answers any more, and the state file of the killed dev misleads nobody.
	var stderr bytes.Buffer
	cmd := h.command("lock", "run", "x", "--", "true")
	cmd.Stderr = &stderr
	h.start(cmd)
	if code := h.code(cmd); code != 6 && !strings.Contains(stderr.String(), "127.0.0.1:2378") {
		t.Errorf("exit %d, want 6 from the default address: %s", code, stderr.String())
	}
}

// A command that ends while etcd is away is not held up by its lock.
func TestCommandEndsWhileEtcdIsAway(t *testing.T) { bothWays(t, commandEndsWhileEtcdIsAway) }

func commandEndsWhileEtcdIsAway(t *testing.T, direct bool) {
	h := newHouse(t, direct)
	dir := t.TempDir()
	ready, end := filepath.Join(dir, "ready"), filepath.Join(dir, "end")
	cmd := h.run("x --ttl 1h", "echo $$ > "+ready+"; until [ -e "+end+" ]; do sleep 0.01; done; exit 3")
	pidIn(t, ready)
	h.signal(h.dev, syscall.SIGKILL)
	_ = h.dev.Wait()
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := h.code(cmd); code != 3 {
		t.Errorf("exit %d, want the command's own 3", code)
	}
}

// A wait can be ended while etcd does not answer, whatever the TTL.
func TestTermWhileWaitingAndEtcdIsStopped(t *testing.T) {
	bothWays(t, termWhileWaitingAndEtcdIsStopped)
}

func termWhileWaitingAndEtcdIsStopped(t *testing.T, direct bool) {
	h := newHouse(t, direct)
	c := h.client()
	ready := filepath.Join(t.TempDir(), "ready")
	h.run("x --ttl 1h", "echo $$ > "+ready+"; "+forever)
	pidIn(t, ready)
	before, _ := left(t, c)
	waiter := h.run("x --ttl 1h", "exit 0")
	eventually(t, "a ticket in line", func() bool { keys, _ := left(t, c); return keys > before })
	h.signal(h.dev, syscall.SIGSTOP)
	h.signal(waiter, syscall.SIGTERM)
	if code := h.code(waiter); code != 143 {
		t.Errorf("exit %d, want 143", code)
	}
	// What it had no patience for its guard has.
	h.signal(h.dev, syscall.SIGCONT)
	eventually(t, "the end of the waiter's session", func() bool { _, sessions := left(t, c); return sessions == 1 })
}

func TestLeaseRevokedByHand(t *testing.T) { bothWays(t, leaseRevokedByHand) }

func leaseRevokedByHand(t *testing.T, direct bool) {
	h := newHouse(t, direct)
	c := h.client()
	ready := filepath.Join(t.TempDir(), "ready")
	cmd := h.run("x --ttl 1h", "trap '' TERM; echo $$ > "+ready+"; "+forever)
	pid := pidIn(t, ready)
	grant, err := c.Get(context.Background(), lockKeys+"x/", clientv3.WithPrefix())
	if err != nil || len(grant.Kvs) != 1 {
		t.Fatal(grant, err)
	}
	if _, err := c.Revoke(context.Background(), clientv3.LeaseID(grant.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	if code := h.code(cmd); code != 7 {
		t.Errorf("exit %d, want 7", code)
	}
	if !gone(pid) {
		t.Error("the command runs on")
	}
}

func TestDevUnderNohup(t *testing.T) {
	t.Parallel()
	h := newHouse(t, false)
	nohup := exec.Command("/bin/sh", "-c", "trap '' HUP; exec conclave dev --data-dir "+t.TempDir()+" --api-addr 127.0.0.1:0 --client-addr 127.0.0.1:0 --peer-addr 127.0.0.1:0")
	nohup.Env = h.env
	out, err := nohup.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	h.start(nohup)
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", nohup.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	_, mask, _ := strings.Cut(string(status), "SigIgn:\t")
	mask, _, _ = strings.Cut(mask, "\n")
	ignored, err := strconv.ParseUint(mask, 16, 64)
	if err != nil || ignored&(1<<(syscall.SIGHUP-1)) == 0 {
		t.Errorf("the hangup that its caller ignores is not ignored: mask %s, %v", mask, err)
	}
}

// Only the user may read where a dev of theirs runs.
func TestStateFileIsPrivate(t *testing.T) {
	t.Parallel()
	h := newHouse(t, false)
	files, err := filepath.Glob(filepath.Join(h.cache, "conclave", "run", "dev-*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	info, err := os.Stat(files[0])
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
}

func TestDevStops(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		h := newHouse(t, false)
		h.signal(h.dev, sig)
		if code := h.code(h.dev); code != 0 {
			t.Errorf("%s: exit %d", sig, code)
		}
		files, err := filepath.Glob(filepath.Join(h.cache, "conclave", "run", "*"))
		if err != nil || len(files) > 0 {
			t.Errorf("%s: left behind: %q, %v", sig, files, err)
		}
	}
}

// A forced release tells the holder first and leaves it its grace.
func TestForcedReleaseAsksFirst(t *testing.T) { bothWays(t, forcedReleaseAsksFirst) }

func forcedReleaseAsksFirst(t *testing.T, direct bool) {
	h := newHouse(t, direct)
	dir := t.TempDir()
	ready, mark := filepath.Join(dir, "ready"), filepath.Join(dir, "mark")
	cmd := h.run("x --ttl 1h --grace 8s", "trap 'echo 1 > "+mark+"; exit 0' TERM; echo $$ > "+ready+"; "+forever)
	pid := pidIn(t, ready)
	next := h.next(pid)
	s, err := core.NewSession(t.Context(), h.client())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	if _, err := lock.NewMutex(s, "x").ForceRelease(t.Context(), "maintenance"); err != nil {
		t.Fatal(err)
	}
	if code := h.code(cmd); code != 7 {
		t.Errorf("exit %d, want 7", code)
	}
	pidIn(t, mark)
	if code := h.code(next); code != 0 {
		t.Errorf("the next one: exit %d, the command before it ran on", code)
	}
}
