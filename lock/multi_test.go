package lock_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

func namesWith(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return names
}

func TestSetIsAllOrNothing(t *testing.T) {
	s := session(t)
	names := namesWith("multi-all", 3)
	m := lock.NewMulti(s, names)
	for _, name := range names {
		h := locked(t, lock.NewMutex(session(t), name))
		before := etcd.Revision(t)
		if _, err := m.TryLock(within(t)); !errors.Is(err, lock.ErrLocked) {
			t.Fatalf("with %s held by another: %v", name, err)
		}
		if after := etcd.Revision(t); after != before {
			t.Errorf("a try that failed wrote: revision %d to %d", before, after)
		}
		unlock(t, h)
	}
	h := must[*lock.Held](t)(m.TryLock(within(t)))
	for _, name := range names {
		if _, err := lock.NewMutex(s, name).TryLock(within(t)); !errors.Is(err, lock.ErrLocked) {
			t.Errorf("%s is not held: %v", name, err)
		}
	}
	unlock(t, h)
	nothingLeft(t, names...)
}

func TestSetWaitsForAllItsNames(t *testing.T) {
	names := namesWith("multi-wait", 3)
	s := session(t)
	var first []*lock.Held
	for _, name := range names {
		first = append(first, locked(t, lock.NewMutex(session(t), name)))
	}
	c := locking(t, lock.NewMulti(s, names))
	waiting(t, lock.NewMulti(s, names), 3)
	unlock(t, first[1])
	// The free name is the set's, which waits for the others.
	if _, err := lock.NewMutex(session(t), names[1]).TryLock(within(t)); !errors.Is(err, lock.ErrLocked) {
		t.Fatalf("a newcomer passed the set: %v", err)
	}
	behind := locking(t, lock.NewMutex(session(t), names[1]))
	waiting(t, lock.NewMutex(s, names[1]), 2)
	unlock(t, first[0])
	unlock(t, first[2])
	h := c.get(t)
	growing(t, first[0], h)
	growing(t, first[1], h)
	growing(t, first[2], h)
	unlock(t, h)
	b := behind.get(t)
	growing(t, h, b)
	unlock(t, b)
	nothingLeft(t, names...)
}

func TestSetsInOppositeOrdersDoNotDeadlock(t *testing.T) {
	const sessions, rounds = 4, 8
	names := namesWith("multi-opposite", 4)
	owners := make(map[string]int)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for i := range sessions {
		mine := slices.Clone(names)
		if i%2 == 1 {
			slices.Reverse(mine)
		}
		m := lock.NewMulti(session(t), mine[i/2:])
		used := mine[i/2:]
		wg.Go(func() {
			for range rounds {
				err := m.Do(within(t), func(context.Context) error {
					mu.Lock()
					for _, n := range used {
						if owners[n]++; owners[n] > 1 {
							t.Errorf("%d own %s", owners[n], n)
						}
					}
					mu.Unlock()
					etcd.Revision(t) // stay a while
					mu.Lock()
					defer mu.Unlock()
					for _, n := range used {
						owners[n]--
					}
					return nil
				})
				if err != nil {
					t.Errorf("session %d: %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	nothingLeft(t, names...)
}

func TestSetOfThirtyNames(t *testing.T) {
	names := namesWith("multi-thirty", 30)
	s := session(t)
	first := locked(t, lock.NewMulti(s, names, lock.WithLockDelay(patience)))
	c := locking(t, lock.NewMulti(session(t), names, lock.WithLockDelay(patience)))
	waiting(t, lock.NewMulti(s, names), 30)
	unlock(t, first)
	second := c.get(t)
	growing(t, first, second)
	if _, err := second.Commit(within(t)); err != nil {
		t.Error(err)
	}
	unlock(t, second)
	nothingLeft(t, names...)
	before := etcd.Revision(t)
	for _, try := range []func(context.Context) (*lock.Held, error){
		lock.NewMulti(s, append(names, "multi-thirty-30")).Lock,
		lock.NewMulti(s, append(names, "multi-thirty-30")).TryLock,
		lock.NewMulti(s, nil).Lock,
		lock.NewMulti(s, []string{"multi-twice", "multi-twice"}).Lock,
	} {
		_, err := try(within(t))
		isAll(t, err, core.ErrInvalid)
	}
	if after := etcd.Revision(t); after != before {
		t.Errorf("refused sets wrote: revision %d to %d", before, after)
	}
}

func TestOneNameForcedOutEndsTheSet(t *testing.T) {
	names := namesWith("multi-forced", 3)
	for _, forced := range names {
		t.Run(forced, func(t *testing.T) {
			operator := session(t, core.WithOwner("operator"))
			h := locked(t, lock.NewMulti(session(t), names))
			others := make(map[string]*call[*lock.Held])
			for _, n := range names {
				others[n] = locking(t, lock.NewMutex(session(t), n))
				waiting(t, lock.NewMutex(operator, n), 1)
			}
			token := must[core.Token](t)(lock.NewMutex(operator, forced).ForceRelease(within(t), "testing"))
			if token != h.Token() {
				t.Errorf("revoked token %d, want %d", token, h.Token())
			}
			isAll(t, ended(t, h), lock.ErrLost, core.ErrRevoked)
			_, err := h.Commit(within(t))
			isAll(t, err, lock.ErrLost, core.ErrRevoked)
			for _, n := range names { // the set's other names are free too
				next := others[n].get(t)
				growing(t, h, next)
				unlock(t, next)
			}
			isAll(t, h.Unlock(), lock.ErrLost, core.ErrRevoked)
			eventually(t, "nothing of the set stands", func() bool {
				return !slices.ContainsFunc(names, func(n string) bool { return len(standing(t, n)) > 0 })
			})
		})
	}
}

func TestSetOfADeadSession(t *testing.T) {
	names := namesWith("multi-dead", 3)
	s := session(t)
	h := locked(t, lock.NewMulti(s, names))
	other := session(t)
	c := locking(t, lock.NewMulti(other, names[1:]))
	waiting(t, lock.NewMutex(other, names[1]), 1)
	coretest.ExpireLease(t, etcd.Client(t), s.Lease())
	next := c.get(t)
	growing(t, h, next)
	_, err := h.Commit(within(t))
	isAll(t, err, lock.ErrLost)
	unlock(t, next)
	isAll(t, ended(t, h), lock.ErrLost, core.ErrSessionExpired)
	isAll(t, h.Unlock(), lock.ErrLost, core.ErrSessionExpired)
	nothingLeft(t, names...)
}

func TestCancelledSetLeavesNothing(t *testing.T) {
	names := namesWith("multi-cancel", 3)
	s := session(t)
	h := locked(t, lock.NewMutex(session(t), names[2]))
	ctx, cancel := context.WithCancel(within(t))
	m := lock.NewMulti(s, names)
	c := inBackground(func() (*lock.Held, error) { return m.Lock(ctx) })
	waiting(t, m, 3)
	cancel()
	_, err := c.result(t)
	isAll(t, err, context.Canceled)
	eventually(t, "no ticket is left", func() bool { return len(standing(t, names[0])) == 0 })
	unlock(t, h)
	nothingLeft(t, names...)
}
