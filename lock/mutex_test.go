package lock_test

import (
	"context"
	"errors"
	"sync"
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

func TestHandover(t *testing.T) {
	const sessions, rounds = 4, 10
	var wg sync.WaitGroup
	var mu sync.Mutex
	inside, last := 0, core.Token(0)
	for range sessions {
		m := lock.NewMutex(session(t), "handover")
		wg.Go(func() {
			for range rounds {
				h, err := m.Lock(within(t))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				inside++
				if inside != 1 || h.Token() <= last {
					t.Errorf("%d inside, token %d after %d", inside, h.Token(), last)
				}
				last = h.Token()
				inside--
				mu.Unlock()
				if err := h.Unlock(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if left := keysOf(t, "handover"); len(left) > 0 {
		t.Fatalf("left over: %q", left)
	}
}

func TestGoroutinesOfOneSessionExcludeEachOther(t *testing.T) {
	const goroutines, rounds = 16, 20
	for name, opts := range map[string][]lock.Option{
		"plain":    nil,
		"deferred": {lock.WithDeferredRelease()},
		"handover": {lock.WithLocalHandover(8, patience)},
	} {
		t.Run(name, func(t *testing.T) {
			s := session(t)
			var wg sync.WaitGroup
			var mu sync.Mutex
			inside, last := 0, core.Token(0)
			for range goroutines {
				wg.Go(func() {
					m := lock.NewMutex(s, "local-"+name, opts...)
					for range rounds {
						h, err := m.Lock(within(t))
						if err != nil {
							t.Error(err)
							return
						}
						mu.Lock()
						inside++
						if inside != 1 || h.Token() <= last {
							t.Errorf("%d inside, token %d after %d", inside, h.Token(), last)
						}
						last = h.Token()
						inside--
						mu.Unlock()
						if err := h.Unlock(); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			eventually(t, "nothing left over", func() bool { return len(keysOf(t, "local-"+name)) == 0 })
		})
	}
}
