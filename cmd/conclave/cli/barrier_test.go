//go:build linux

package cli_test

import (
	"path/filepath"
	"syscall"
	"testing"
)

// With a TTL of an hour, whoever gets past a barrier whose holder was killed, and
// whoever leaves a phase in which one was, was let by the guard.
func TestBarrierPartyKilled(t *testing.T) { bothWays(t, barrierPartyKilled) }

func barrierPartyKilled(t *testing.T, direct bool) {
	h := newHouse(t, direct)
	c := h.client()
	held := filepath.Join(t.TempDir(), "held")
	holder := h.under("barrier hold gate --ttl 1h", "trap '' TERM; echo $$ > "+held+"; "+forever)
	command := pidIn(t, held)
	waiter := h.command("barrier", "wait", "gate")
	h.start(waiter)
	h.signal(holder, syscall.SIGKILL)
	if code := h.code(waiter); code != 0 {
		t.Errorf("exit %d of the one that waited", code)
	}
	if !gone(command) {
		t.Error("the command of the holder runs on")
	}

	inside := filepath.Join(t.TempDir(), "inside")
	one := h.under("barrier enter phase --parties 2 --ttl 1h", "echo $$ > "+inside+"; "+forever)
	other := h.under("barrier enter phase --parties 2 --ttl 1h", "exit 3")
	command = pidIn(t, inside)
	h.signal(one, syscall.SIGKILL)
	if code := h.code(other); code != 3 {
		t.Errorf("exit %d of the one that left, want the command's own 3", code)
	}
	eventually(t, "the command's end", func() bool { return gone(command) })
	eventually(t, "no session", func() bool { _, sessions := left(t, c); return sessions == 0 })
}
