package lock_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

func rlocked(tb testing.TB, m *lock.RWMutex) *lock.Held {
	tb.Helper()
	return must[*lock.Held](tb)(m.RLock(within(tb)))
}

func rlocking(tb testing.TB, m *lock.RWMutex) *call[*lock.Held] {
	tb.Helper()
	ctx := within(tb)
	return inBackground(func() (*lock.Held, error) { return m.RLock(ctx) })
}

func TestReadersShare(t *testing.T) {
	a, b := lock.NewRWMutex(session(t), "rw-share"), lock.NewRWMutex(session(t), "rw-share")
	first, second, third := rlocked(t, a), rlocked(t, b), rlocked(t, a)
	growing(t, first, second, third)
	if _, err := b.TryLock(within(t)); !errors.Is(err, lock.ErrLocked) {
		t.Fatalf("a writer beside readers: %v", err)
	}
	for _, h := range []*lock.Held{second, first, third} {
		if _, err := a.TryLock(within(t)); !errors.Is(err, lock.ErrLocked) {
			t.Fatalf("a writer beside readers: %v", err)
		}
		unlock(t, h)
	}
	unlock(t, must[*lock.Held](t)(b.TryLock(within(t))))
	nothingLeft(t, "rw-share")
}

func TestNoReaderOvertakesAWaitingWriter(t *testing.T) {
	s := session(t)
	reader, writer, late := lock.NewRWMutex(s, "rw-fair"), lock.NewRWMutex(session(t), "rw-fair"), lock.NewRWMutex(session(t), "rw-fair")
	h := rlocked(t, reader)
	w := locking(t, writer)
	waiting(t, reader, 1)
	for _, m := range []*lock.RWMutex{late, reader} {
		if _, err := m.TryRLock(within(t)); !errors.Is(err, lock.ErrLocked) {
			t.Fatalf("a reader passed the writer: %v", err)
		}
	}
	r := rlocking(t, late)
	waiting(t, reader, 2)
	unlock(t, h)
	wh := w.get(t)
	waiting(t, reader, 1)
	unlock(t, wh)
	rh := r.get(t)
	growing(t, h, wh, rh)
	unlock(t, rh)
}

func TestReadersAfterAWriterEnterTogether(t *testing.T) {
	const readers = 5
	s := session(t)
	m := lock.NewRWMutex(s, "rw-batch")
	w := locked(t, m)
	var batch []*call[*lock.Held]
	for i := range readers {
		batch = append(batch, rlocking(t, lock.NewRWMutex(session(t), "rw-batch")))
		waiting(t, m, i+1)
	}
	second := locking(t, lock.NewRWMutex(session(t), "rw-batch"))
	waiting(t, m, readers+1)
	behind := rlocking(t, lock.NewRWMutex(session(t), "rw-batch"))
	waiting(t, m, readers+2)
	unlock(t, w)
	owners := []core.Ownership{w}
	for _, c := range batch { // all at once: none is released before all are in
		owners = append(owners, c.get(t))
	}
	growing(t, owners...)
	waiting(t, m, 2)
	for _, o := range owners[1:] {
		if o.Context().Err() != nil {
			t.Error("a reader's context has ended")
		}
		unlock(t, o.(*lock.Held))
	}
	wh := second.get(t)
	waiting(t, m, 1)
	unlock(t, wh)
	last := behind.get(t)
	growing(t, owners[readers], wh, last)
	unlock(t, last)
}

func TestDowngradeLetsReadersInAndNoWriter(t *testing.T) {
	s := session(t)
	m := lock.NewRWMutex(s, "rw-down")
	w := locked(t, m)
	one := rlocking(t, lock.NewRWMutex(session(t), "rw-down"))
	waiting(t, m, 1)
	two := rlocking(t, lock.NewRWMutex(session(t), "rw-down"))
	waiting(t, m, 2)
	writer := locking(t, lock.NewRWMutex(session(t), "rw-down"))
	waiting(t, m, 3)
	r := must[*lock.Held](t)(w.Downgrade(within(t)))
	isAll(t, ended(t, w), core.ErrReleased)
	h1, h2 := one.get(t), two.get(t)
	growing(t, w, r, h1, h2)
	waiting(t, m, 1)
	if _, err := r.Commit(within(t)); err != nil {
		t.Errorf("the read lock's own transaction: %v", err)
	}
	if _, err := w.Commit(within(t)); !errors.Is(err, lock.ErrLost) {
		t.Errorf("the write lock's transaction after the downgrade: %v", err)
	}
	unlock(t, w) // a release after it was let go
	for _, h := range []*lock.Held{r, h1, h2} {
		waiting(t, m, 1)
		unlock(t, h)
	}
	wh := writer.get(t)
	growing(t, h2, wh)
	unlock(t, wh)
	nothingLeft(t, "rw-down")
}

func TestDowngradeAgainOrOfAReader(t *testing.T) {
	m := lock.NewRWMutex(session(t), "rw-down-again")
	w := locked(t, m)
	r := must[*lock.Held](t)(w.Downgrade(within(t)))
	_, err := w.Downgrade(within(t))
	isAll(t, err, lock.ErrLost, core.ErrReleased)
	_, err = r.Downgrade(within(t))
	isAll(t, err, core.ErrInvalid)
	unlock(t, r)
	set := locked(t, lock.NewMulti(session(t), []string{"rw-down-again", "rw-down-2"}))
	_, err = set.Downgrade(within(t))
	isAll(t, err, core.ErrInvalid)
	if set.Context().Err() != nil {
		t.Error("a refused downgrade ended the ownership")
	}
	unlock(t, set)
}

func TestUpgradeIsRefused(t *testing.T) {
	s := session(t)
	m, other := lock.NewRWMutex(s, "rw-up"), lock.NewRWMutex(s, "rw-up-other")
	r := rlocked(t, m)
	inner, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	for name, try := range map[string]func(context.Context) (*lock.Held, error){"Lock": m.Lock, "TryLock": m.TryLock} {
		if _, err := try(inner); !errors.Is(err, lock.ErrUpgrade) {
			t.Errorf("%s by a reader: %v", name, err)
		}
	}
	unlock(t, must[*lock.Held](t)(other.Lock(inner))) // another name is no upgrade
	unlock(t, r)
	unlock(t, must[*lock.Held](t)(m.TryLock(within(t))))
	// Once the read lock is let go its context does not stand for it any more.
	if _, err := m.TryLock(context.WithoutCancel(r.Context())); errors.Is(err, lock.ErrUpgrade) {
		t.Error("a read lock that was released still refuses")
	}
	if left := keysOf(t, "rw-up"); len(left) > 1 {
		t.Errorf("left over: %q", left)
	}
}

// TestOneNameHasOneLine checks that the kinds of locks on one name exclude
// each other and wait for each other.
func TestOneNameHasOneLine(t *testing.T) {
	kinds := []struct {
		kind string
		make func(s *core.Session, name string) heldLocker
	}{
		{"mutex", func(s *core.Session, n string) heldLocker { return lock.NewMutex(s, n) }},
		{"writer", func(s *core.Session, n string) heldLocker { return lock.NewRWMutex(s, n) }},
		{"reader", func(s *core.Session, n string) heldLocker { return readSide{lock.NewRWMutex(s, n)} }},
		{"set", func(s *core.Session, n string) heldLocker { return lock.NewMulti(s, []string{n + "-beside", n}) }},
		{"set of one", func(s *core.Session, n string) heldLocker { return lock.NewMulti(s, []string{n}) }},
	}
	for _, a := range kinds {
		for _, b := range kinds {
			if a.kind == "reader" && b.kind == "reader" {
				continue
			}
			t.Run(a.kind+" then "+b.kind, func(t *testing.T) {
				t.Parallel()
				name := "one-line-" + a.kind + "-" + b.kind
				s, s2 := session(t), session(t)
				first := locked(t, a.make(s, name))
				if _, err := b.make(s2, name).TryLock(within(t)); !errors.Is(err, lock.ErrLocked) {
					t.Fatalf("both hold: %v", err)
				}
				c := locking(t, b.make(s2, name))
				waiting(t, lock.NewMutex(s, name), 1)
				unlock(t, first)
				second := c.get(t)
				growing(t, first, second)
				unlock(t, second)
				nothingLeft(t, name, name+"-beside")
			})
		}
	}
}

func TestReadersAndWritersInManySessions(t *testing.T) {
	const sessions, rounds = 4, 8
	var mu sync.Mutex
	readers, writers := 0, 0
	enter := func(who *int) {
		mu.Lock()
		defer mu.Unlock()
		*who++
		if writers > 1 || (writers == 1 && readers > 0) {
			t.Errorf("%d writers beside %d readers", writers, readers)
		}
	}
	leave := func(who *int) {
		mu.Lock()
		defer mu.Unlock()
		*who--
	}
	var wg sync.WaitGroup
	for i := range sessions {
		m := lock.NewRWMutex(session(t), "rw-many")
		for _, work := range []struct {
			do  func(context.Context, func(context.Context) error) error
			who *int
		}{{m.Do, &writers}, {m.RDo, &readers}, {m.RDo, &readers}} {
			wg.Go(func() {
				for range rounds {
					err := work.do(within(t), func(context.Context) error {
						enter(work.who)
						defer leave(work.who)
						etcd.Revision(t) // stay a while
						return nil
					})
					if err != nil {
						t.Errorf("session %d: %v", i, err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	nothingLeft(t, "rw-many")
}
