package lock_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

func TestLockAndUnlock(t *testing.T) {
	m := lock.NewMutex(session(t), "plain")
	h := locked(t, m)
	if h.Context().Err() != nil {
		t.Fatal("held, but the context has ended")
	}
	if tok, ok := core.TokenFrom(h.Context()); !ok || tok != h.Token() {
		t.Fatalf("context carries token %d %v, want %d", tok, ok, h.Token())
	}
	unlock(t, h)
	if cause := context.Cause(h.Context()); !errors.Is(cause, core.ErrReleased) {
		t.Fatalf("cause after Unlock: %v", cause)
	}
	unlock(t, h) // again
	if left := keysOf(t, "plain"); len(left) > 0 {
		t.Fatalf("left over: %q", left)
	}
}

func TestTokensGrow(t *testing.T) {
	a, b := lock.NewMutex(session(t), "tokens"), lock.NewMutex(session(t), "tokens")
	last := core.Token(0)
	for range 5 {
		for _, m := range []*lock.Mutex{a, b} {
			h := locked(t, m)
			if h.Token() <= last {
				t.Fatalf("token %d after %d", h.Token(), last)
			}
			last = h.Token()
			unlock(t, h)
		}
	}
}

func TestTryLockOnHeldLockWritesNothing(t *testing.T) {
	h := locked(t, lock.NewMutex(session(t, core.WithOwner("first")), "tried", lock.WithPurpose("testing")))
	for _, m := range []*lock.Mutex{lock.NewMutex(session(t), "tried")} {
		before := etcd.Revision(t)
		_, err := m.TryLock(within(t))
		if !errors.Is(err, lock.ErrLocked) {
			t.Fatalf("error %v, want ErrLocked", err)
		}
		if after := etcd.Revision(t); after != before {
			t.Fatalf("revision went from %d to %d", before, after)
		}
	}
	unlock(t, h)
}

func TestSessionsExcludeEachOther(t *testing.T) {
	var c crowd
	for range 4 {
		c.join(t, lock.NewMutex(session(t), "handover"), 10)
	}
	c.wg.Wait()
	if left := keysOf(t, "handover"); len(left) > 0 {
		t.Fatalf("left over: %q", left)
	}
}

func TestGoroutinesOfOneSessionExcludeEachOther(t *testing.T) {
	for name, opts := range map[string][]lock.Option{
		"plain":    nil,
		"deferred": {lock.WithDeferredRelease()},
		"handover": {lock.WithLocalHandover(8, patience)},
	} {
		t.Run(name, func(t *testing.T) {
			s := session(t)
			var c crowd
			for range 16 {
				c.join(t, lock.NewMutex(s, "local-"+name, opts...), 20)
			}
			c.wg.Wait()
			eventually(t, "nothing left over", func() bool { return len(keysOf(t, "local-"+name)) == 0 })
		})
	}
}

// A crowd is goroutines that lock one name, and what they see inside. What the
// lock alone protects is not protected otherwise, so the race detector sees too.
type crowd struct {
	wg     sync.WaitGroup
	inside atomic.Int64
	last   core.Token
}

// join locks and unlocks m a number of times.
func (c *crowd) join(t *testing.T, m *lock.Mutex, rounds int) {
	c.wg.Go(func() {
		for range rounds {
			h, err := m.Lock(within(t))
			if err != nil {
				t.Error(err)
				return
			}
			c.visit(t, h)
			if err := h.Unlock(); err != nil {
				t.Error(err)
			}
		}
	})
}

// visit checks that h is alone and newer than all before.
func (c *crowd) visit(t *testing.T, h *lock.Held) {
	if n := c.inside.Add(1); n != 1 {
		t.Errorf("%d are inside", n)
	}
	if h.Token() <= c.last {
		t.Errorf("token %d after %d", h.Token(), c.last)
	}
	c.last = h.Token()
	runtime.Gosched()
	c.inside.Add(-1)
}
