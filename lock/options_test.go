package lock_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

func TestPriority(t *testing.T) {
	s := session(t)
	m := lock.NewMutex(s, "prio")
	h := locked(t, m)
	order := []int{0, -5, 10, 0, 127, -128, 10}
	var calls []*call[*lock.Held]
	for i, p := range order {
		calls = append(calls, locking(t, lock.NewMutex(session(t), "prio", lock.WithPriority(p))))
		waiting(t, m, i+1)
	}
	if h.Context().Err() != nil {
		t.Fatal("an urgent waiter interrupted the owner")
	}
	unlock(t, h)
	for _, i := range []int{4, 2, 6, 0, 3, 1, 5} { // the larger first, and by age within one
		next := calls[i].get(t)
		growing(t, h, next)
		h = next
		unlock(t, h)
	}
	nothingLeft(t, "prio")
}

// TestPriorityWithinASession checks that goroutines of one session are served
// in the same order as sessions are.
func TestPriorityWithinASession(t *testing.T) {
	s := session(t)
	m := lock.NewMutex(s, "prio-local")
	h := locked(t, m)
	low := locking(t, lock.NewMutex(s, "prio-local", lock.WithPriority(-1)))
	waiting(t, m, 1)
	high := locking(t, lock.NewMutex(s, "prio-local", lock.WithPriority(1)))
	waiting(t, m, 2)
	unlock(t, h)
	first := high.get(t)
	waiting(t, m, 1)
	unlock(t, first)
	second := low.get(t)
	growing(t, h, first, second)
	unlock(t, second)
}

// TestUrgentNewcomerGoesFirst checks a hint that went stale: somebody more
// urgent came after the owner had learned who is next.
func TestUrgentNewcomerGoesFirst(t *testing.T) {
	s := session(t)
	m := lock.NewMutex(s, "prio-late")
	h := locked(t, m)
	var calls []*call[*lock.Held]
	for i := range 3 {
		calls = append(calls, locking(t, lock.NewMutex(session(t), "prio-late")))
		waiting(t, m, i+1)
	}
	unlock(t, h)
	second := calls[0].get(t) // it was told who is next
	urgent := locking(t, lock.NewMutex(session(t), "prio-late", lock.WithPriority(1)))
	waiting(t, m, 3)
	unlock(t, second)
	u := urgent.get(t)
	waiting(t, m, 2)
	unlock(t, u)
	third := calls[1].get(t)
	unlock(t, third)
	fourth := calls[2].get(t)
	unlock(t, fourth)
	growing(t, h, second, u, third, fourth)
	nothingLeft(t, "prio-late")
}

// TestLockDelay checks that after the owner's death the name stays closed until
// etcd ends the shadow, and opens at once after a release.
func TestLockDelay(t *testing.T) {
	t.Parallel()
	const name = "delay"
	s := session(t, core.WithTTL(5*time.Second))
	h := locked(t, lock.NewMutex(s, name, lock.WithLockDelay(time.Second)))
	other := session(t)
	waiter := locking(t, lock.NewMutex(other, name))
	waiting(t, lock.NewMutex(other, name), 1)
	events := etcd.Record(t, "/conclave/default/lock/"+name+"/")
	coretest.ExpireLease(t, etcd.Client(t), s.Lease())
	isAll(t, ended(t, h), lock.ErrLost, core.ErrSessionExpired)
	if _, err := lock.NewMutex(other, name, lock.WithPriority(1)).TryLock(within(t)); !errors.Is(err, lock.ErrLocked) {
		t.Fatalf("the name was taken during the delay: %v", err)
	}
	next := waiter.get(t)
	growing(t, h, next)
	var shadowGone, granted int64
	for _, ev := range events.Events() {
		switch {
		case ev.Type == clientv3.EventTypeDelete && string(ev.Kv.Key) == "/conclave/default/lock/"+name+"/shadow":
			shadowGone = ev.Kv.ModRevision
		case ev.Type == clientv3.EventTypePut && string(ev.Kv.Key) == "/conclave/default/lock/"+name+"/grant":
			granted = ev.Kv.ModRevision
		}
	}
	if shadowGone == 0 || granted <= shadowGone {
		t.Errorf("granted at %d, the shadow went at %d", granted, shadowGone)
	}
	unlock(t, next)
	nothingLeft(t, name)
}

func TestNoLockDelayAfterARelease(t *testing.T) {
	const name = "delay-released"
	s, other := session(t), session(t)
	a, b := lock.NewMutex(s, name, lock.WithLockDelay(time.Hour)), lock.NewMutex(other, name, lock.WithLockDelay(time.Hour))
	plain := lock.NewMutex(other, name)
	for range 2 {
		h := locked(t, a)
		next := locking(t, b) // handed over, shadow and all
		waiting(t, b, 1)
		unlock(t, h)
		second := next.get(t)
		last := locking(t, lock.NewMutex(s, name))
		waiting(t, b, 1)
		unlock(t, second) // to one without a delay
		unlock(t, last.get(t))
		unlock(t, must[*lock.Held](t)(plain.TryLock(within(t))))
	}
	h := locked(t, a)
	if err := s.Close(); err != nil { // a clean end of the session is no loss
		t.Fatal(err)
	}
	isAll(t, ended(t, h), lock.ErrLost, core.ErrSessionClosed)
	unlock(t, must[*lock.Held](t)(plain.Lock(within(t))))
	nothingLeft(t, name)
}

func TestMaxHold(t *testing.T) {
	t.Parallel()
	s := session(t)
	h := locked(t, lock.NewMutex(s, "max-hold", lock.WithMaxHold(300*time.Millisecond)))
	next := locking(t, lock.NewMutex(session(t), "max-hold"))
	isAll(t, ended(t, h), lock.ErrLost, core.ErrRevoked)
	n := next.get(t)
	growing(t, h, n)
	isAll(t, h.Unlock(), lock.ErrLost, core.ErrRevoked)
	_, err := h.Commit(within(t))
	isAll(t, err, lock.ErrLost, core.ErrRevoked)
	unlock(t, n)
	// One that is let go in time ends as any other.
	h = locked(t, lock.NewMutex(s, "max-hold", lock.WithMaxHold(time.Hour)))
	unlock(t, h)
	isAll(t, ended(t, h), core.ErrReleased)
	nothingLeft(t, "max-hold")
}

// TestDeferredRelease checks that a release that was only queued is seen by the
// next call of the same goroutine, and sent when the session is closed.
func TestDeferredRelease(t *testing.T) {
	deferred := lock.WithDeferredRelease()
	for kind, lockOf := range map[string]func(s *core.Session, name string) heldLocker{
		"mutex":  func(s *core.Session, n string) heldLocker { return lock.NewMutex(s, n, deferred) },
		"writer": func(s *core.Session, n string) heldLocker { return lock.NewRWMutex(s, n, deferred) },
		"set":    func(s *core.Session, n string) heldLocker { return lock.NewMulti(s, []string{n, n + "-2"}, deferred) },
	} {
		t.Run(kind, func(t *testing.T) {
			name := "deferred-" + kind
			s := session(t)
			m := lockOf(s, name)
			h := locked(t, m)
			for range 50 {
				unlock(t, h)
				next := must[*lock.Held](t)(m.TryLock(within(t)))
				growing(t, h, next)
				h = next
			}
			unlock(t, h)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			nothingLeft(t, name, name+"-2")
		})
	}
}

func TestDeferredReleaseOfPermits(t *testing.T) {
	s := session(t)
	m := lock.NewSemaphore(s, "deferred-permits", 2, lock.WithDeferredRelease())
	p := permits(t, m, 2)
	for range 50 {
		release(t, p)
		next := must[*lock.Permit](t)(m.TryAcquire(within(t), 2))
		growing(t, p, next)
		p = next
	}
	release(t, p)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	nothingLeft(t, "deferred-permits")
}

// TestLocalHandover checks that a session passes the lock on without a write,
// with growing tokens, and lets another session in after n owners.
func TestLocalHandover(t *testing.T) {
	const n = 4
	s, other := session(t), session(t)
	m := lock.NewMutex(s, "handover-local", lock.WithLocalHandover(n, patience))
	h := locked(t, m)
	var local []*call[*lock.Held]
	for range 2 * n {
		local = append(local, locking(t, m))
	}
	remote := locking(t, lock.NewMutex(other, "handover-local"))
	waiting(t, lock.NewMutex(other, "handover-local"), 1)
	owners := []core.Ownership{h}
	revision := etcd.Revision(t)
	for range n - 1 {
		unlock(t, h)
		h = anyOfThem(t, local)
		owners = append(owners, h)
	}
	if after := etcd.Revision(t); after != revision {
		t.Errorf("%d handovers within the session cost %d writes", n-1, after-revision)
	}
	if _, err := h.Commit(within(t)); err != nil {
		t.Errorf("the last local owner's transaction: %v", err)
	}
	unlock(t, h) // n owners in a row: now the other session
	r := remote.get(t)
	owners = append(owners, r)
	unlock(t, r)
	for range n + 1 {
		h = anyOfThem(t, local)
		owners = append(owners, h)
		unlock(t, h)
	}
	growing(t, owners...)
	nothingLeft(t, "handover-local")
}

// anyOfThem waits for one of the calls that was not returned yet.
func anyOfThem(tb testing.TB, calls []*call[*lock.Held]) *lock.Held {
	tb.Helper()
	var h *lock.Held
	eventually(tb, "one of the calls returns", func() bool {
		for _, c := range calls {
			select {
			case <-c.done:
				if c.value != nil && !c.taken {
					c.taken, h = true, c.value
					return true
				}
			default:
			}
		}
		return false
	})
	return h
}

func TestForceReleaseDuringLocalHandover(t *testing.T) {
	s := session(t)
	m := lock.NewMutex(s, "handover-forced", lock.WithLocalHandover(100, patience))
	var wg sync.WaitGroup
	operator := lock.NewMutex(session(t), "handover-forced")
	stop := make(chan struct{})
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				h, err := m.Lock(within(t))
				if err != nil {
					t.Error(err)
					return
				}
				// Whoever lost its grant learns it, also when it was handed one
				// that had gone already.
				_, err = h.Commit(within(t))
				if err != nil && !errors.Is(err, lock.ErrLost) {
					t.Error(err)
				}
				if err := h.Unlock(); err != nil && !errors.Is(err, lock.ErrLost) {
					t.Error(err)
				}
			}
		})
	}
	for range 20 {
		if _, err := operator.ForceRelease(within(t), "testing"); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	wg.Wait()
	eventually(t, "nothing stands", func() bool { return len(standing(t, "handover-forced")) == 0 })
}

func TestDo(t *testing.T) {
	s := session(t)
	m := lock.NewMutex(s, "do")
	failed := errors.New("the work failed")
	var held context.Context
	err := m.Do(within(t), func(ctx context.Context) error {
		held = ctx
		if _, ok := core.TokenFrom(ctx); !ok {
			t.Error("no token in the context of the work")
		}
		return failed
	})
	isAll(t, err, failed)
	if held.Err() == nil {
		t.Error("the context of the work outlives the lock")
	}
	ctx, cancel := context.WithCancel(within(t))
	err = m.Do(ctx, func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	isAll(t, err, context.Canceled)
	if errors.Is(err, lock.ErrLost) {
		t.Errorf("the caller's own cancel reads as a loss: %v", err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = m.Do(within(t), func(context.Context) error { panic("the work panics") })
	}()
	err = m.Do(within(t), func(ctx context.Context) error {
		if _, err := lock.NewMutex(session(t), "do").ForceRelease(within(t), "testing"); err != nil {
			t.Error(err)
		}
		<-ctx.Done()
		return nil
	})
	isAll(t, err, lock.ErrLost, core.ErrRevoked)
	coretest.ExpireLease(t, etcd.Client(t), s.Lease())
	err = m.Do(within(t), func(context.Context) error { return nil })
	isAll(t, err, core.ErrSessionExpired)
}
