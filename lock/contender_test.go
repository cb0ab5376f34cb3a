package lock_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/lock"
)

func TestContenders(t *testing.T) {
	const name = "contenders"
	began := time.Now()
	s := session(t, core.WithOwner("first"))
	m := lock.NewMutex(s, name, lock.WithPurpose("nightly backup"))
	if cs := must[[]lock.Contender](t)(m.Contenders(within(t))); len(cs) != 0 {
		t.Fatalf("contenders of a free lock: %+v", cs)
	}
	h := locked(t, m)
	calls, leases := map[string]*call[*lock.Held]{}, map[string]clientv3.LeaseID{"first": s.Lease()}
	for i, w := range []struct {
		owner    string
		priority int
		lock     func(s *core.Session, opts ...lock.Option) heldLocker
	}{
		{"reader", 0, func(s *core.Session, opts ...lock.Option) heldLocker {
			return readSide{lock.NewRWMutex(s, name, opts...)}
		}},
		{"writer", 0, func(s *core.Session, opts ...lock.Option) heldLocker { return lock.NewRWMutex(s, name, opts...) }},
		{"urgent", 5, func(s *core.Session, opts ...lock.Option) heldLocker {
			return lock.NewMulti(s, []string{name, "contenders-2"}, opts...)
		}},
	} {
		s := session(t, core.WithOwner(w.owner))
		leases[w.owner] = s.Lease()
		calls[w.owner] = locking(t, w.lock(s, lock.WithPriority(w.priority), lock.WithPurpose("as "+w.owner)))
		waiting(t, m, i+1)
	}
	host, _ := os.Hostname()
	cs := must[[]lock.Contender](t)(m.Contenders(within(t)))
	want := []lock.Contender{
		{Owner: "first", Purpose: "nightly backup", Mode: "write", Holds: true, Token: h.Token()},
		{Owner: "urgent", Purpose: "as urgent", Mode: "multi"},
		{Owner: "reader", Purpose: "as reader", Mode: "read"},
		{Owner: "writer", Purpose: "as writer", Mode: "write"},
	}
	if len(cs) != len(want) {
		t.Fatalf("%d contenders, want %d: %+v", len(cs), len(want), cs)
	}
	for i, c := range cs {
		if c.Since.Before(began.Add(-time.Second)) || c.Since.After(time.Now().Add(time.Second)) {
			t.Errorf("%s since %v", c.Owner, c.Since)
		}
		w := want[i]
		w.Name, w.Host, w.PID, w.Since, w.Lease, w.Revision = name, host, os.Getpid(), c.Since, leases[c.Owner], c.Revision
		if i > 2 && c.Revision <= cs[i-1].Revision { // within a priority, in the order of their coming
			t.Errorf("contender %d came at revision %d, after the one at %d", i, c.Revision, cs[i-1].Revision)
		}
		if c != w {
			t.Errorf("contender %d is\n%+v, want\n%+v", i, c, w)
		}
	}
	unlock(t, h)
	for _, owner := range []string{"urgent", "reader", "writer"} {
		next := calls[owner].get(t)
		cs := must[[]lock.Contender](t)(m.Contenders(within(t)))
		if cs[0].Owner != owner || !cs[0].Holds || cs[0].Token != next.Token() {
			t.Errorf("the holder is %+v, want %s with token %d", cs[0], owner, next.Token())
		}
		unlock(t, next)
	}
	nothingLeft(t, name, "contenders-2")
}

func TestContendersOfPermitsAndReaders(t *testing.T) {
	sem := lock.NewSemaphore(session(t, core.WithOwner("holder")), "contenders-permits", 3)
	all := permits(t, sem, 3)
	var batch []*call[*lock.Permit]
	for i := range 2 {
		batch = append(batch, acquiring(t, lock.NewSemaphore(session(t, core.WithOwner("waiter")), "contenders-permits", 3), 1))
		waiting(t, sem, i+1)
	}
	cs := must[[]lock.Contender](t)(sem.Contenders(within(t)))
	if len(cs) != 3 || cs[0].Owner != "holder" || cs[0].Permits != 3 || cs[0].Mode != "permits" || cs[1].Permits != 1 || cs[1].Holds {
		t.Fatalf("%+v", cs)
	}
	release(t, all)
	tokens := map[core.Token]bool{}
	for _, c := range batch { // granted in one transaction, yet told apart
		tokens[c.get(t).Token()] = true
	}
	for _, c := range must[[]lock.Contender](t)(sem.Contenders(within(t))) {
		if !c.Holds || !tokens[c.Token] {
			t.Errorf("%+v is not one of the owners %v", c, tokens)
		}
		delete(tokens, c.Token)
	}
	if len(tokens) > 0 {
		t.Errorf("tokens of nobody: %v", tokens)
	}
	for _, c := range batch {
		release(t, c.get(t))
	}
}

// TestTheErrorNamesTheOwner checks what a failed try says.
func TestTheErrorNamesTheOwner(t *testing.T) {
	s := session(t, core.WithOwner("worker-7"))
	h := locked(t, lock.NewMutex(s, "who", lock.WithPurpose("rebuilding the index")))
	for where, m := range map[string]heldLocker{"elsewhere": lock.NewMutex(session(t), "who"), "same session": lock.NewMutex(s, "who"),
		"reader": readSide{lock.NewRWMutex(session(t), "who")}, "set": lock.NewMulti(session(t), []string{"who-2", "who"})} {
		_, err := m.TryLock(within(t))
		isAll(t, err, lock.ErrLocked)
		for _, part := range []string{"worker-7", "rebuilding the index", "who"} {
			if err != nil && !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", where, err, part)
			}
		}
	}
	unlock(t, h)
}

func TestCloseEndsWhatIsHeld(t *testing.T) {
	s := session(t)
	h, r, p := locked(t, lock.NewMutex(s, "close-m")), rlocked(t, lock.NewRWMutex(s, "close-r")), permits(t, lock.NewSemaphore(s, "close-p", 2), 1)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, o := range []core.Ownership{h, r, p} {
		isAll(t, ended(t, o), lock.ErrLost, core.ErrSessionClosed)
	}
	for _, err := range []error{h.Unlock(), h.Unlock(), r.Unlock(), p.Release()} {
		isAll(t, err, lock.ErrLost, core.ErrSessionClosed)
	}
	_, err := h.Commit(within(t))
	isAll(t, err, lock.ErrLost, core.ErrSessionClosed)
	_, err = h.Downgrade(within(t))
	isAll(t, err, lock.ErrLost, core.ErrSessionClosed)
	nothingLeft(t, "close-m", "close-r")
	for _, acquire := range []func(context.Context) (*lock.Held, error){lock.NewMutex(s, "close-m").Lock, lock.NewMutex(s, "close-m").TryLock,
		lock.NewRWMutex(s, "close-r").RLock, lock.NewMulti(s, []string{"close-m", "close-r"}).Lock} {
		_, err := acquire(within(t))
		isAll(t, err, core.ErrSessionClosed)
	}
}

func TestCloseEndsWhoWaits(t *testing.T) {
	other := session(t)
	h := locked(t, lock.NewMutex(other, "close-waiting"))
	s := session(t)
	first := locking(t, lock.NewMutex(s, "close-waiting"))
	waiting(t, lock.NewMutex(other, "close-waiting"), 1)
	second := locking(t, lock.NewMutex(s, "close-waiting")) // in the local line
	third := locking(t, lock.NewMulti(s, []string{"close-waiting", "close-waiting-2"}))
	waiting(t, lock.NewMutex(other, "close-waiting"), 2)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*call[*lock.Held]{first, second, third} {
		_, err := c.result(t)
		isAll(t, err, core.ErrSessionClosed)
	}
	unlock(t, h)
	nothingLeft(t, "close-waiting", "close-waiting-2")
}

// TestCancelledWaitLeavesNoTicket checks the errors of waits that their ctx
// ended, and that their places go.
func TestCancelledWaitLeavesNoTicket(t *testing.T) {
	s := session(t)
	m := lock.NewMutex(s, "cancelled")
	h := locked(t, m)
	for kind, wait := range map[string]func(s *core.Session) heldLocker{
		"mutex":  func(s *core.Session) heldLocker { return lock.NewMutex(s, "cancelled") },
		"reader": func(s *core.Session) heldLocker { return readSide{lock.NewRWMutex(s, "cancelled")} },
		"set":    func(s *core.Session) heldLocker { return lock.NewMulti(s, []string{"cancelled", "cancelled-2"}) },
	} {
		ctx, cancel := context.WithCancelCause(within(t))
		l := wait(session(t))
		c := inBackground(func() (*lock.Held, error) { return l.Lock(ctx) })
		waiting(t, m, 1)
		why := &lostPatienceError{}
		cancel(why)
		_, err := c.result(t)
		isAll(t, err, context.Canceled, why)
		waiting(t, m, 0)
		done, stop := context.WithTimeout(context.Background(), 0)
		_, err = l.Lock(done)
		isAll(t, err, context.DeadlineExceeded)
		_, err = l.TryLock(done)
		isAll(t, err, context.DeadlineExceeded)
		stop()
		if t.Failed() {
			t.Fatalf("as %s", kind)
		}
	}
	local, cancel := context.WithCancel(within(t))
	c := inBackground(func() (*lock.Held, error) { return m.Lock(local) }) // behind h in the local line
	cancel()
	_, err := c.result(t)
	isAll(t, err, context.Canceled)
	unlock(t, h)
	nothingLeft(t, "cancelled", "cancelled-2")
}

type lostPatienceError struct{}

func (*lostPatienceError) Error() string { return "lost patience" }

func TestContendersOfOneSession(t *testing.T) {
	s := session(t, core.WithOwner("one"))
	m := lock.NewMutex(s, "contenders-local")
	first := locked(t, m)
	second, third := locking(t, m), locking(t, m)
	eventually(t, "both wait", func() bool {
		cs := must[[]lock.Contender](t)(m.Contenders(within(t)))
		return len(cs) == 3 && cs[0].Holds && !cs[1].Holds && !cs[2].Holds && cs[2].Owner == "one"
	})
	unlock(t, first)
	for range 2 {
		select {
		case <-second.done:
			unlock(t, second.get(t))
			second = third
		case <-third.done:
			unlock(t, third.get(t))
		}
	}
}

func TestLimitOfOneAgreesWithAMutex(t *testing.T) {
	sem := lock.NewSemaphore(session(t), "one-permit", 1)
	m := lock.NewMutex(session(t), "one-permit")
	held := locked(t, m)
	if _, err := sem.TryAcquire(within(t), 1); !errors.Is(err, lock.ErrLocked) {
		t.Fatalf("error %v, want ErrLocked", err)
	}
	unlock(t, held)
	p := permits(t, sem, 1)
	if _, err := m.TryLock(within(t)); !errors.Is(err, lock.ErrLocked) {
		t.Fatalf("error %v, want ErrLocked", err)
	}
	three := lock.NewSemaphore(session(t), "one-permit", 3)
	if _, err := three.TryAcquire(within(t), 1); !errors.Is(err, lock.ErrLimitMismatch) {
		t.Fatalf("error %v, want ErrLimitMismatch", err)
	}
	release(t, p)
}
