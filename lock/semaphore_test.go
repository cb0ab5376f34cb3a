package lock_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

func permits(tb testing.TB, m *lock.Semaphore, n int) *lock.Permit {
	tb.Helper()
	return must[*lock.Permit](tb)(m.Acquire(within(tb), n))
}

func acquiring(tb testing.TB, m *lock.Semaphore, n int) *call[*lock.Permit] {
	tb.Helper()
	ctx := within(tb)
	return inBackground(func() (*lock.Permit, error) { return m.Acquire(ctx, n) })
}

func release(tb testing.TB, p *lock.Permit) {
	tb.Helper()
	if err := p.Release(); err != nil {
		tb.Fatal(err)
	}
}

func TestSemaphoreGivesNoMoreThanItsLimit(t *testing.T) {
	a, b := lock.NewSemaphore(session(t), "sem-limit", 3), lock.NewSemaphore(session(t), "sem-limit", 3)
	two, one := permits(t, a, 2), permits(t, b, 1)
	growing(t, two, one)
	for _, m := range []*lock.Semaphore{a, b} {
		if _, err := m.TryAcquire(within(t), 1); !errors.Is(err, lock.ErrLocked) {
			t.Fatalf("a fourth permit of three: %v", err)
		}
	}
	release(t, two)
	isAll(t, ended(t, two), core.ErrReleased)
	release(t, two) // again
	for range 2 {
		again := must[*lock.Permit](t)(b.TryAcquire(within(t), 2))
		growing(t, one, again)
		release(t, again)
		again = must[*lock.Permit](t)(a.TryAcquire(within(t), 2))
		release(t, again)
	}
	release(t, one)
	release(t, permits(t, a, 3)) // all at once
	nothingLeft(t, "sem-limit")
}

func TestSemaphoreIsFirstComeFirstServed(t *testing.T) {
	s := session(t)
	m := lock.NewSemaphore(s, "sem-fifo", 4)
	first := permits(t, m, 2)
	large := acquiring(t, lock.NewSemaphore(session(t), "sem-fifo", 4), 3)
	waiting(t, m, 1)
	small := acquiring(t, lock.NewSemaphore(session(t), "sem-fifo", 4), 1)
	waiting(t, m, 2)
	// Two permits are free, but the large request came first.
	if _, err := m.TryAcquire(within(t), 1); !errors.Is(err, lock.ErrLocked) {
		t.Fatalf("a small request passed a large one: %v", err)
	}
	release(t, first)
	l, sm := large.get(t), small.get(t)
	growing(t, first, l, sm)
	release(t, l)
	release(t, sm)
	nothingLeft(t, "sem-fifo")
}

func TestSemaphoreServesAllThatFit(t *testing.T) {
	s := session(t)
	m := lock.NewSemaphore(s, "sem-batch", 5)
	all := permits(t, m, 5)
	var calls []*call[*lock.Permit]
	for i, n := range []int{1, 2, 1, 3, 1} {
		calls = append(calls, acquiring(t, lock.NewSemaphore(session(t), "sem-batch", 5), n))
		waiting(t, m, i+1)
	}
	release(t, all)
	owners := []core.Ownership{all}
	for _, c := range calls[:3] { // 1 + 2 + 1 fit, the 3 after them does not, and the last 1 stays behind it
		owners = append(owners, c.get(t))
	}
	waiting(t, m, 2)
	growing(t, owners...)
	for _, o := range owners[1:] {
		release(t, o.(*lock.Permit))
	}
	four, five := calls[3].get(t), calls[4].get(t)
	growing(t, owners[3], four, five)
	release(t, four)
	release(t, five)
	nothingLeft(t, "sem-batch")
}

func TestLimitMismatch(t *testing.T) {
	s, s2 := session(t), session(t)
	three := lock.NewSemaphore(s, "sem-mismatch", 3)
	held := permits(t, three, 1) // two are free
	for _, other := range []*core.Session{s, s2} {
		for _, limit := range []int{2, 4} {
			m := lock.NewSemaphore(other, "sem-mismatch", limit)
			before := etcd.Revision(t)
			_, err := m.TryAcquire(within(t), 1)
			isAll(t, err, lock.ErrLimitMismatch)
			_, err = m.Acquire(within(t), 1)
			isAll(t, err, lock.ErrLimitMismatch)
			if after := etcd.Revision(t); after != before {
				t.Errorf("a refused limit wrote: revision %d to %d", before, after)
			}
		}
		for kind, m := range map[string]heldLocker{"mutex": lock.NewMutex(other, "sem-mismatch"), "writer": lock.NewRWMutex(other, "sem-mismatch"),
			"reader": readSide{lock.NewRWMutex(other, "sem-mismatch")}, "set": lock.NewMulti(other, []string{"sem-beside", "sem-mismatch"})} {
			t.Run(kind, func(t *testing.T) {
				_, err := m.TryLock(within(t))
				isAll(t, err, lock.ErrLimitMismatch)
				_, err = m.Lock(within(t))
				isAll(t, err, lock.ErrLimitMismatch)
			})
		}
	}
	release(t, held)
	nothingLeft(t, "sem-mismatch", "sem-beside")
}

func TestSemaphoreOnALockedName(t *testing.T) {
	s, s2 := session(t), session(t)
	for kind, m := range map[string]heldLocker{"mutex": lock.NewMutex(s, "sem-locked"), "reader": readSide{lock.NewRWMutex(s, "sem-locked")}} {
		t.Run(kind, func(t *testing.T) {
			h := locked(t, m)
			for _, other := range []*core.Session{s, s2} {
				sem := lock.NewSemaphore(other, "sem-locked", 2)
				_, err := sem.TryAcquire(within(t), 1)
				isAll(t, err, lock.ErrLimitMismatch)
				_, err = sem.Acquire(within(t), 1)
				isAll(t, err, lock.ErrLimitMismatch)
			}
			unlock(t, h)
			release(t, permits(t, lock.NewSemaphore(s2, "sem-locked", 2), 2))
		})
	}
	nothingLeft(t, "sem-locked")
}

func TestIdleNameTakesTheNextLimit(t *testing.T) {
	s, s2 := session(t), session(t)
	for _, limit := range []int{3, 1, 7, 2} {
		for _, other := range []*core.Session{s, s2} {
			m := lock.NewSemaphore(other, "sem-idle", limit)
			p := permits(t, m, limit)
			if _, err := m.TryAcquire(within(t), 1); !errors.Is(err, lock.ErrLocked) {
				t.Fatalf("limit %d: one more: %v", limit, err)
			}
			release(t, p)
			unlock(t, locked(t, lock.NewMutex(other, "sem-idle")))
		}
	}
	nothingLeft(t, "sem-idle")
}

// TestLimitOfTheDead checks that a limit whose users have all died binds nobody.
func TestLimitOfTheDead(t *testing.T) {
	next := map[string]func(s *core.Session, name string) error{
		"semaphore": func(s *core.Session, name string) error {
			p, err := lock.NewSemaphore(s, name, 5).Acquire(within(t), 5)
			if err != nil {
				return err
			}
			return p.Release()
		},
		"mutex":  func(s *core.Session, name string) error { return lockOnce(t, lock.NewMutex(s, name).Lock) },
		"try":    func(s *core.Session, name string) error { return lockOnce(t, lock.NewMutex(s, name).TryLock) },
		"reader": func(s *core.Session, name string) error { return lockOnce(t, lock.NewRWMutex(s, name).RLock) },
		"set": func(s *core.Session, name string) error {
			return lockOnce(t, lock.NewMulti(s, []string{name, name + "-2"}).Lock)
		},
	}
	for kind, use := range next {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			name := "sem-dead-" + kind
			s := session(t)
			p := permits(t, lock.NewSemaphore(s, name, 2), 1)
			coretest.ExpireLease(t, etcd.Client(t), s.Lease())
			if err := use(session(t), name); err != nil {
				t.Fatalf("after the only user died: %v", err)
			}
			isAll(t, ended(t, p), lock.ErrLost, core.ErrSessionExpired)
		})
	}
}

func lockOnce(tb testing.TB, lockIt func(context.Context) (*lock.Held, error)) error {
	tb.Helper()
	h, err := lockIt(within(tb))
	if err != nil {
		return err
	}
	return h.Unlock()
}

// TestSetOfDeadLimits checks that the largest set can take names that all have
// a limit left from a dead semaphore: the request stays within etcd's limits.
func TestSetOfDeadLimits(t *testing.T) {
	dead := session(t)
	var names []string
	for i := range 30 {
		names = append(names, fmt.Sprintf("sem-dead-set-%d", i))
		permits(t, lock.NewSemaphore(dead, names[i], 2), 1)
	}
	coretest.ExpireLease(t, etcd.Client(t), dead.Lease())
	unlock(t, locked(t, lock.NewMulti(session(t), names)))
	nothingLeft(t, names...)
}

func TestSemaphoreInManySessions(t *testing.T) {
	const sessions, goroutines, rounds, limit = 3, 4, 8, 5
	var mu sync.Mutex
	used := 0
	var wg sync.WaitGroup
	for i := range sessions {
		m := lock.NewSemaphore(session(t), "sem-many", limit)
		for g := range goroutines {
			wg.Go(func() {
				for r := range rounds {
					n := 1 + (i+g+r)%limit
					p, err := m.Acquire(within(t), n)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if used += n; used > limit {
						t.Errorf("%d permits of %d are out", used, limit)
					}
					mu.Unlock()
					etcd.Revision(t) // stay a while
					mu.Lock()
					used -= n
					mu.Unlock()
					if err := p.Release(); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	wg.Wait()
	nothingLeft(t, "sem-many")
}
