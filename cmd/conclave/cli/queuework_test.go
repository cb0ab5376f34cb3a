//go:build linux

package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// stats is what the host says of a queue.
func (h *house) stats(name string) (s struct{ Depth, Ready, Delayed, InFlight, Dead int }) {
	h.t.Helper()
	out, err := h.command("queue", "stats", name, "-o", "json").Output()
	if err != nil {
		h.t.Fatal(err)
	}
	if err := json.Unmarshal(out, &s); err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *house) ok(args ...string) string {
	h.t.Helper()
	out, err := h.command(args...).Output()
	if err != nil {
		h.t.Fatalf("%s: %v", strings.Join(args, " "), err)
	}
	return string(out)
}

// A worker that is told to end lets the commands end that do, and gives the items of
// the others back to the front at once, to the front.
func TestQueueWorkDrains(t *testing.T) {
	bothWays(t, func(t *testing.T, direct bool) {
		h := newHouse(t, direct)
		dir := t.TempDir()
		for _, item := range []string{"slow", "quick", "next"} {
			h.ok("queue", "put", "jobs", item)
		}
		// The quick one ends well when it is told to; the slow one does not care.
		w := h.under("queue work jobs --concurrency 2 --grace 1s", `cd `+dir+`; item=$(cat)
			case $item in quick) trap 'exit 0' TERM;; slow) trap '' TERM;; esac
			echo $$ > $item.pid
			while :; do sleep 0.02; done`)
		slow, quick := pidIn(t, filepath.Join(dir, "slow.pid")), pidIn(t, filepath.Join(dir, "quick.pid"))
		h.signal(w, syscall.SIGTERM)
		if code := h.code(w); code != 0 {
			t.Errorf("exit %d, want 0", code)
		}
		if !gone(slow) || !gone(quick) {
			t.Error("a command was left behind")
		}
		if _, err := os.Stat(filepath.Join(dir, "next.pid")); err == nil {
			t.Error("it took another item")
		}
		if s := h.stats("jobs"); s.Ready != 2 || s.Depth != 2 || s.Dead != 0 {
			t.Errorf("left: %+v, want the slow one and the next", s)
		}
		if got := h.ok("queue", "take", "jobs"); got != "slow" {
			t.Errorf("the first one is %q, want the slow one", got)
		}
	})
}

// A worker that is killed takes its commands with it, and the items come back at once.
func TestQueueWorkKilled(t *testing.T) {
	bothWays(t, func(t *testing.T, direct bool) {
		h := newHouse(t, direct)
		dir := t.TempDir()
		for n := range 3 {
			h.ok("queue", "put", "jobs", strconv.Itoa(n))
		}
		w := h.under("queue work jobs --concurrency 3 --ttl 1h --visibility 12h", `cd `+dir+`; echo $$ > $(cat).pid; while :; do sleep 0.02; done`)
		var pids []int
		for n := range 3 {
			pids = append(pids, pidIn(t, filepath.Join(dir, strconv.Itoa(n)+".pid")))
		}
		h.signal(w, syscall.SIGKILL)
		_ = w.Wait()
		for _, pid := range pids {
			eventually(t, "the end of a command", func() bool { return gone(pid) })
		}
		for n := range 3 {
			if got := h.ok("queue", "take", "jobs", "--wait", "60s"); got != strconv.Itoa(n) {
				t.Errorf("item %d is %q", n, got)
			}
		}
		if s := h.stats("jobs"); s.Depth != 0 {
			t.Errorf("left: %+v, want nothing", s)
		}
	})
}

// A command that takes longer than the visibility keeps its item.
func TestQueueWorkExtends(t *testing.T) {
	bothWays(t, func(t *testing.T, direct bool) {
		h := newHouse(t, direct)
		dir := t.TempDir()
		h.ok("queue", "put", "jobs", "long")
		end := filepath.Join(dir, "end")
		// A second worker would be given what is not extended.
		script := `echo $CONCLAVE_ATTEMPT >> ` + filepath.Join(dir, "attempts") + `; echo $$ > ` + filepath.Join(dir, "pid") + `; until [ -e ` + end + ` ]; do sleep 0.02; done`
		first, second := h.under("queue work jobs --visibility 3s", script), h.under("queue work jobs --visibility 3s", script)
		pidIn(t, filepath.Join(dir, "pid"))
		h.ok("queue", "put", "clock", "tick", "--delay", "7s")
		h.ok("queue", "take", "clock") // more than two visibilities later
		if err := os.WriteFile(end, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the item acked", func() bool { return h.stats("jobs").Depth == 0 })
		h.signal(first, syscall.SIGTERM)
		h.signal(second, syscall.SIGTERM)
		if a, b := h.code(first), h.code(second); a != 0 || b != 0 {
			t.Errorf("exit %d and %d, want 0", a, b)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "attempts")); err != nil || string(b) != "1\n" {
			t.Errorf("attempts %q, %v, want one", b, err)
		}
	})
}

// A worker goes on after its host, or etcd, was away.
func TestQueueWorkOutlivesARestart(t *testing.T) {
	bothWays(t, func(t *testing.T, direct bool) {
		h := newHouse(t, direct)
		out := filepath.Join(t.TempDir(), "out")
		w := h.under("queue work jobs", "cat >> "+out+"; echo >> "+out)
		done := func(what string) {
			h.ok("queue", "put", "jobs", what)
			eventually(t, what, func() bool {
				b, err := os.ReadFile(out)
				return err == nil && strings.HasSuffix(string(b), what+"\n")
			})
		}
		done("before")
		h.restart()
		done("after")
		h.signal(w, syscall.SIGTERM)
		if code := h.code(w); code != 0 {
			t.Errorf("exit %d, want 0", code)
		}
	})
}

// Workers that are told to end in the middle of it lose nothing, and do nothing twice.
func TestQueueWorkEndsInTheMiddle(t *testing.T) {
	bothWays(t, func(t *testing.T, direct bool) {
		h := newHouse(t, direct)
		const items, rounds = 40, 4
		done := filepath.Join(t.TempDir(), "done")
		lines := func() []string {
			b, err := os.ReadFile(done)
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			return strings.Fields(string(b))
		}
		put := h.command("queue", "put", "jobs", "--lines")
		var all strings.Builder
		for n := range items {
			all.WriteString(strconv.Itoa(n) + "\n")
		}
		put.Stdin = strings.NewReader(all.String())
		if err := put.Run(); err != nil {
			t.Fatal(err)
		}
		for round := range rounds {
			w := h.under("queue work jobs --concurrency 4 --grace 1m", `trap '' TERM; id=$(cat); sleep 0.02; echo $id >> `+done)
			want := items * (round + 1) / rounds
			eventually(t, strconv.Itoa(want)+" items", func() bool { return len(lines()) >= want })
			h.signal(w, syscall.SIGTERM)
			if code := h.code(w); code != 0 {
				t.Errorf("exit %d, want 0", code)
			}
		}
		times := make(map[string]int)
		for _, id := range lines() {
			if times[id]++; times[id] > 1 {
				t.Errorf("item %s was done %d times", id, times[id])
			}
		}
		if s := h.stats("jobs"); len(times) != items || s.Depth != 0 || s.Dead != 0 {
			t.Errorf("%d of %d items are done, left: %+v", len(times), items, s)
		}
	})
}

// A worker whose session is ended by somebody ends its command at once, and goes on
// with another session.
func TestQueueWorkLosesItsSession(t *testing.T) {
	bothWays(t, func(t *testing.T, direct bool) {
		h := newHouse(t, direct)
		dir := t.TempDir()
		h.ok("queue", "put", "jobs", "x")
		w := h.under("queue work jobs", `cd `+dir+`; echo $CONCLAVE_SESSION > session; echo $$ > $CONCLAVE_ATTEMPT.pid
			while [ $CONCLAVE_ATTEMPT = 1 ]; do sleep 0.02; done`)
		pid := pidIn(t, filepath.Join(dir, "1.pid"))
		b, err := os.ReadFile(filepath.Join(dir, "session"))
		if err != nil {
			t.Fatal(err)
		}
		session := strings.TrimSpace(string(b))
		if direct {
			lease, err := strconv.ParseInt(session, 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := h.client().Revoke(t.Context(), clientv3.LeaseID(lease)); err != nil {
				t.Fatal(err)
			}
		} else {
			h.ok("call", "SessionService/Close", `{"sessionId":"`+session+`"}`)
		}
		eventually(t, "the end of the command", func() bool { return gone(pid) })
		pidIn(t, filepath.Join(dir, "2.pid"))
		eventually(t, "the item acked", func() bool { return h.stats("jobs").Depth == 0 })
		h.signal(w, syscall.SIGTERM)
		if code := h.code(w); code != 0 {
			t.Errorf("exit %d, want 0", code)
		}
	})
}
