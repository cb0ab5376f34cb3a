//go:build linux

package cli_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A polity is candidates that run one command, which writes down in a common file
// under which token it runs, all the time.
type polity struct {
	*house
	log   string
	flags string
	run   map[int]*exec.Cmd // by process
}

// A tick is a line that the command wrote.
type tick struct{ token, command, wrapper int }

func newPolity(h *house, flags string, candidates int) *polity {
	p := &polity{house: h, log: filepath.Join(h.t.TempDir(), "log"), flags: flags, run: make(map[int]*exec.Cmd)}
	for range candidates {
		p.join()
	}
	return p
}

// join adds a candidate and returns it.
func (p *polity) join() *exec.Cmd {
	p.t.Helper()
	cmd := p.under("election run "+p.flags, "trap 'exit 0' TERM; while :; do echo $CONCLAVE_TOKEN $$ $PPID >> "+p.log+"; sleep 0.01; done")
	p.run[cmd.Process.Pid] = cmd
	return cmd
}

// ticks returns all that was written, whole lines only, and fails the test if two
// commands ever ran at once: then a smaller token stands behind a larger one.
func (p *polity) ticks() []tick {
	p.t.Helper()
	b, err := os.ReadFile(p.log)
	if err != nil && !os.IsNotExist(err) {
		p.t.Fatal(err)
	}
	b = b[:bytes.LastIndexByte(b, '\n')+1]
	var all []tick
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) != 3 {
			p.t.Fatalf("line %q", line)
		}
		var n [3]int
		for i := range n {
			if n[i], err = strconv.Atoi(f[i]); err != nil {
				p.t.Fatalf("line %q: %v", line, err)
			}
		}
		tk := tick{n[0], n[1], n[2]}
		if i := len(all) - 1; i >= 0 && (tk.token < all[i].token || tk.token == all[i].token && tk.command != all[i].command) {
			p.t.Fatalf("two commands ran at once: %+v after %+v", tk, all[i])
		}
		all = append(all, tk)
	}
	return all
}

// leader waits for a term with a token larger than after.
func (p *polity) leader(after int) tick {
	p.t.Helper()
	var last tick
	eventually(p.t, "the next leader", func() bool {
		if all := p.ticks(); len(all) > 0 {
			last = all[len(all)-1]
		}
		return last.token > after
	})
	return last
}

// Three candidates, one of which is killed, and one told to end, again and again:
// the next one's command starts soon, and never before the last one's has ended.
// With a TTL of an hour no lease's end has helped.
func TestElectionChangesLeaders(t *testing.T) { bothWays(t, electionChangesLeaders) }

func electionChangesLeaders(t *testing.T, direct bool) {
	h := newHouse(t, direct)
	p := newPolity(h, "boss --ttl 1h", 3)
	c := h.client()
	var took [2]time.Duration
	now := p.leader(0)
	rounds := 10
	if soaking() {
		rounds = 100
	}
	for i := range rounds {
		// Both of the others are in line, each with its guard.
		eventually(t, "three sessions", func() bool { _, sessions := left(t, c); return sessions == 3 })
		sig := []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL}[i%2]
		boss := p.run[now.wrapper]
		delete(p.run, now.wrapper)
		began := time.Now()
		h.signal(boss, sig)
		next := p.leader(now.token)
		took[i%2] += time.Since(began)
		if !gone(now.command) {
			t.Errorf("round %d: the command of the leader before runs on", i)
		}
		if code := h.code(boss); sig == syscall.SIGTERM && code != 0 {
			t.Errorf("round %d: exit %d, want the command's own 0", i, code)
		}
		if next.wrapper == now.wrapper || p.run[next.wrapper] == nil {
			t.Fatalf("round %d: %+v leads after %+v", i, next, now)
		}
		now = next
		p.join()
	}
	t.Logf("until the next one's command runs, on average: %s after TERM, %s after KILL", took[0]/time.Duration(rounds/2), took[1]/time.Duration(rounds/2))
	eventually(t, "three sessions", func() bool { _, sessions := left(t, c); return sessions == 3 })
	for _, cmd := range p.run {
		h.signal(cmd, syscall.SIGTERM)
	}
	for _, cmd := range p.run {
		if code := h.code(cmd); code != 0 && code != 143 {
			t.Errorf("exit %d", code)
		}
	}
	p.ticks()
	// On a busy machine a guard may have to end what its wrapper had no patience for.
	eventually(t, "nothing left", func() bool { keys, sessions := left(t, c); return keys == 0 && sessions == 0 })
}

// Without wrapper and guard it is the TTL that ends the term.
func TestElectionWrapperAndGuardKilled(t *testing.T) { bothWays(t, electionWrapperAndGuardKilled) }

func electionWrapperAndGuardKilled(t *testing.T, direct bool) {
	h := newHouse(t, direct)
	p := newPolity(h, "boss --ttl 5s", 3)
	now := p.leader(0)
	guard := guardOf(t, now.wrapper)
	began := time.Now()
	if err := syscall.Kill(guard, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.signal(p.run[now.wrapper], syscall.SIGKILL)
	p.leader(now.token)
	t.Logf("until the next one's command runs: %s with a TTL of 5s", time.Since(began))
	if !gone(now.command) {
		t.Error("the command of the leader before runs on")
	}
}

// Etcd goes away for longer than the TTL: the command is ended, and runs again when
// etcd is back.
func TestElectionGoesOnAfterEtcdWasAway(t *testing.T) { bothWays(t, electionGoesOnAfterEtcdWasAway) }

func electionGoesOnAfterEtcdWasAway(t *testing.T, direct bool) {
	h := newHouse(t, direct)
	p := newPolity(h, "boss --ttl 5s", 2)
	now := p.leader(0)
	c := h.client()
	eventually(t, "both in line", func() bool { _, sessions := left(t, c); return sessions == 2 })
	h.signal(h.dev, syscall.SIGKILL)
	eventually(t, "the command's end", func() bool { return gone(now.command) })
	h.restart()
	p.leader(now.token)
	for wrapper, cmd := range p.run {
		if gone(wrapper) {
			t.Errorf("a candidate ended: exit %d", h.code(cmd))
		}
	}
}

// A command that fails is not run all the time, nor for ever by the same one.
func TestElectionCommandFails(t *testing.T) {
	t.Parallel()
	h := newHouse(t, true)
	c := h.client()
	log := filepath.Join(t.TempDir(), "log")
	fails := h.under("election run boss --ttl 1h --value bad", "echo $CONCLAVE_TOKEN $$ $PPID >> "+log+"; exit 3")
	p := &polity{house: h, log: log}
	first := p.leader(0)
	p.leader(first.token) // it leads again, if nobody else stands
	p.flags, p.run = "boss --ttl 1h", make(map[int]*exec.Cmd)
	p.join()
	eventually(t, "another leader", func() bool { all := p.ticks(); return p.run[all[len(all)-1].wrapper] != nil })
	eventually(t, "both in line", func() bool { _, sessions := left(t, c); return sessions == 2 })
	h.signal(fails, syscall.SIGTERM)
	if code := h.code(fails); code != 143 {
		t.Errorf("exit %d of one that stood, want 143", code)
	}
	if _, sessions := left(t, c); sessions != 1 {
		t.Errorf("%d sessions are left, want 1", sessions)
	}
}

// guardOf returns the guard of a wrapper.
func guardOf(t *testing.T, wrapper int) int {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		b, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(b, []byte("\x00__guard\x00")) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			t.Fatal(err)
		}
		if parentOf(pid) == wrapper {
			return pid
		}
	}
	t.Fatalf("process %d has no guard", wrapper)
	return 0
}

// parentOf returns the parent of a process, 0 if it is gone.
func parentOf(pid int) int {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	if len(f) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(f[1])
	return parent
}
