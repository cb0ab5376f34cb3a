package lock_test

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/core"
	"github.com/conclavehq/conclave/core/coretest"
	"github.com/conclavehq/conclave/lock"
)

// A host serves sessions of callers, as a host of the API does: all state is on
// its way to etcd or in there.
type host struct {
	*core.Lender
	client *clientv3.Client
}

func newHost(tb testing.TB, dial ...grpc.DialOption) *host {
	tb.Helper()
	c := etcd.Client(tb, dial...)
	h := &host{core.NewLender(c), c}
	tb.Cleanup(h.Close)
	return h
}

// of is the caller's session as the host has it.
func (h *host) of(tb testing.TB, caller *core.Session) *core.Session {
	tb.Helper()
	return must[*core.Session](tb)(h.Session(core.Loan{Lease: caller.Lease(), TTL: caller.TTL(), Owner: caller.Owner(), Namespace: caller.Namespace()}))
}

// mutex is the mutex of a name as the host takes it for a caller.
func (h *host) mutex(tb testing.TB, caller *core.Session, name string, opts ...lock.Option) *lock.Mutex {
	tb.Helper()
	return lock.NewMutex(h.of(tb, caller), name, append(opts, lock.WithOnePerSession())...)
}

// release ends the caller's ownership at the host, by its token alone.
func (h *host) release(tb testing.TB, caller *core.Session, name string, token core.Token) error {
	tb.Helper()
	held, err := lock.Resume(within(tb), h.of(tb, caller), name, token)
	if err != nil {
		return err
	}
	return held.Unlock()
}

func TestAcquiredHereReleasedThere(t *testing.T) {
	one, two, caller := newHost(t), newHost(t), session(t)
	held := locked(t, one.mutex(t, caller, t.Name()))
	must[lock.Place](t)(held.Detach())
	if err := two.release(t, caller, t.Name(), held.Token()+1<<16); !errors.Is(err, lock.ErrLost) || !errors.Is(err, lock.ErrStaleToken) {
		t.Errorf("with another token: %v", err)
	}
	before := etcd.Revision(t)
	if err := two.release(t, session(t), t.Name(), held.Token()); !errors.Is(err, lock.ErrLost) || errors.Is(err, lock.ErrStaleToken) {
		t.Errorf("by another session: %v", err)
	}
	if etcd.Revision(t) != before {
		t.Error("a refused release wrote something")
	}
	if err := two.release(t, caller, t.Name(), held.Token()); err != nil {
		t.Fatal(err)
	}
	if err := two.release(t, caller, t.Name(), held.Token()); !errors.Is(err, lock.ErrLost) || !errors.Is(err, core.ErrReleased) {
		t.Errorf("the second time: %v", err)
	}
	nothingLeft(t, t.Name())
}

func TestRepeatedAcquireHasTheSameToken(t *testing.T) {
	one, two, caller := newHost(t), newHost(t), session(t)
	for _, again := range []*host{one, two, one, newHost(t)} {
		first := locked(t, one.mutex(t, caller, t.Name()))
		h := locked(t, again.mutex(t, caller, t.Name()))
		try := must[*lock.Held](t)(again.mutex(t, caller, t.Name()).TryLock(within(t)))
		if h.Token() != first.Token() || try.Token() != first.Token() {
			t.Errorf("tokens %d, %d and %d", first.Token(), h.Token(), try.Token())
		}
		if _, err := lock.NewRWMutex(again.of(t, caller), t.Name(), lock.WithOnePerSession()).RLock(within(t)); !errors.Is(err, lock.ErrHeldOtherwise) {
			t.Errorf("as a reader: %v", err)
		}
		if _, err := again.mutex(t, session(t), t.Name()).TryLock(within(t)); !errors.Is(err, lock.ErrLocked) {
			t.Errorf("another session: %v", err)
		}
		unlock(t, h)
	}
	nothingLeft(t, t.Name())
}

func TestPlaceLeftByAHostThatDied(t *testing.T) {
	caller, library := session(t), session(t)
	dead, next := newHost(t), newHost(t)
	held := locked(t, lock.NewMutex(library, t.Name()))
	orphan := locking(t, dead.mutex(t, caller, t.Name()))
	waiting(t, lock.NewMutex(library, t.Name()), 1)
	later := locking(t, lock.NewMutex(session(t), t.Name()))
	waiting(t, lock.NewMutex(library, t.Name()), 2)
	dead.Close()
	if _, err := orphan.result(t); !errors.Is(err, core.ErrSessionClosed) {
		t.Fatalf("the wait at the host that stopped: %v", err)
	}
	again := locking(t, next.mutex(t, caller, t.Name()))
	waiting(t, lock.NewMutex(library, t.Name()), 2) // no ticket more, none less
	unlock(t, held)
	h := again.get(t)
	growing(t, held, h)
	unlock(t, h)
	unlock(t, later.get(t))
	nothingLeft(t, t.Name())
}

func TestPlaceThatWasGrantedToNobody(t *testing.T) {
	caller, library := session(t), session(t)
	dead, next := newHost(t), newHost(t)
	held := locked(t, lock.NewMutex(library, t.Name()))
	orphan := locking(t, dead.mutex(t, caller, t.Name()))
	waiting(t, lock.NewMutex(library, t.Name()), 1)
	dead.Close()
	_, _ = orphan.result(t)
	unlock(t, held)
	h := locked(t, next.mutex(t, caller, t.Name()))
	growing(t, held, h)
	unlock(t, h)
	nothingLeft(t, t.Name())
}

func TestCallsOfOneSessionWaitInOnePlace(t *testing.T) {
	one, two, caller, library := newHost(t), newHost(t), session(t), session(t)
	held := locked(t, lock.NewMutex(library, t.Name()))
	ctx, cancel := context.WithCancel(within(t))
	first := inBackground(func() (*lock.Held, error) { return one.mutex(t, caller, t.Name()).Lock(ctx) })
	waiting(t, lock.NewMutex(library, t.Name()), 1)
	second := locking(t, one.mutex(t, caller, t.Name()))
	third := locking(t, two.mutex(t, caller, t.Name()))
	eventually(t, "the other host has taken the place up", func() bool {
		return len(keysOf(t, t.Name())) == 3 // grant, ticket and the record of it
	})
	cancel()
	if _, err := first.result(t); !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	waiting(t, lock.NewMutex(library, t.Name()), 1)
	unlock(t, held)
	a, b := second.get(t), third.get(t)
	if a.Token() != b.Token() {
		t.Errorf("tokens %d and %d", a.Token(), b.Token())
	}
	unlock(t, b)
	nothingLeft(t, t.Name())
}

func TestCancelledCallLeavesThePlaceToTheHostThatTookItUp(t *testing.T) {
	one, two, caller, library := newHost(t), newHost(t), session(t), session(t)
	held := locked(t, lock.NewMutex(library, t.Name()))
	ctx, cancel := context.WithCancel(within(t))
	first := inBackground(func() (*lock.Held, error) { return one.mutex(t, caller, t.Name()).Lock(ctx) })
	waiting(t, lock.NewMutex(library, t.Name()), 1)
	second := locking(t, two.mutex(t, caller, t.Name()))
	eventually(t, "the other host has taken the place up", func() bool { return len(keysOf(t, t.Name())) == 3 })
	later := locking(t, lock.NewMutex(session(t), t.Name()))
	waiting(t, lock.NewMutex(library, t.Name()), 2)
	cancel()
	if _, err := first.result(t); !errors.Is(err, context.Canceled) {
		t.Errorf("the first: %v", err)
	}
	unlock(t, held)
	h := second.get(t) // before the one that came later
	if len(keysOf(t, t.Name())) == 0 {
		t.Error("nobody holds the lock")
	}
	unlock(t, h)
	unlock(t, later.get(t))
	nothingLeft(t, t.Name())
}

func TestOrdinaryCancelGivesThePlaceUp(t *testing.T) {
	one, caller, library := newHost(t), session(t), session(t)
	held := locked(t, lock.NewMutex(library, t.Name()))
	ctx, cancel := context.WithCancel(within(t))
	wait := inBackground(func() (*lock.Held, error) { return one.mutex(t, caller, t.Name()).Lock(ctx) })
	waiting(t, lock.NewMutex(library, t.Name()), 1)
	cancel()
	if _, err := wait.result(t); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	waiting(t, lock.NewMutex(library, t.Name()), 0)
	unlock(t, held)
	nothingLeft(t, t.Name())
}

func TestReadersAndPermitsOfASessionAreOne(t *testing.T) {
	one, two, caller, library := newHost(t), newHost(t), session(t), session(t)
	name := t.Name() + "-permits"
	acquire := func(h *host, n int) (*lock.Permit, error) {
		return lock.NewSemaphore(h.of(t, caller), name, 3, lock.WithOnePerSession()).Acquire(within(t), n)
	}
	first := must[*lock.Permit](t)(acquire(one, 2))
	for _, h := range []*host{one, two} {
		if p := must[*lock.Permit](t)(acquire(h, 2)); p.Token() != first.Token() {
			t.Errorf("tokens %d and %d", first.Token(), p.Token())
		}
		if _, err := acquire(h, 1); !errors.Is(err, lock.ErrHeldOtherwise) {
			t.Errorf("one of three, while it has two: %v", err)
		}
		if _, err := lock.NewSemaphore(h.of(t, caller), name, 4, lock.WithOnePerSession()).TryAcquire(within(t), 2); !errors.Is(err, lock.ErrLimitMismatch) {
			t.Errorf("with another limit: %v", err)
		}
	}
	more := inBackground(func() (*lock.Permit, error) { return lock.NewSemaphore(library, name, 3).Acquire(within(t), 2) })
	waiting(t, lock.NewSemaphore(library, name, 3), 1)
	if err := two.release(t, caller, name, first.Token()); err != nil {
		t.Error(err)
	}
	if err := more.get(t).Release(); err != nil {
		t.Error(err)
	}
	nothingLeft(t, name)

	name = t.Name() + "-readers"
	read := func(h *host, s *core.Session) (*lock.Held, error) {
		return lock.NewRWMutex(h.of(t, s), name, lock.WithOnePerSession()).RLock(within(t))
	}
	held := locked(t, lock.NewMutex(library, name))
	other := session(t)
	a := inBackground(func() (*lock.Held, error) { return read(one, caller) })
	waiting(t, lock.NewMutex(library, name), 1)
	b := inBackground(func() (*lock.Held, error) { return read(one, other) })
	waiting(t, lock.NewMutex(library, name), 2)
	unlock(t, held) // lets both in, in one transaction: their tokens differ in the index
	growing(t, a.get(t), b.get(t))
	for s, h := range map[*core.Session]*lock.Held{caller: a.get(t), other: b.get(t)} {
		if again := must[*lock.Held](t)(read(two, s)); again.Token() != h.Token() {
			t.Errorf("tokens %d and %d", h.Token(), again.Token())
		}
		if err := two.release(t, s, name, h.Token()); err != nil {
			t.Error(err)
		}
	}
	nothingLeft(t, name)
}

func TestUncontendedLockThroughAHostCostsOneRequest(t *testing.T) {
	one, caller := newHost(t), session(t)
	m := one.mutex(t, caller, t.Name())
	unlock(t, locked(t, m)) // finds out that there are no keys that do not count
	before := etcd.RaftIndex(t)
	const n = 20
	for range n {
		held := locked(t, m)
		place := must[lock.Place](t)(held.Detach())
		unlock(t, must[*lock.Held](t)(lock.ResumeAt(one.of(t, caller), t.Name(), place)))
	}
	if cost := etcd.RaftIndex(t) - before; cost > 2*n+2 {
		t.Errorf("%d raft entries for %d locks and unlocks", cost, n)
	}
}

func TestDetached(t *testing.T) {
	s := session(t)
	held := locked(t, lock.NewMutex(s, t.Name(), lock.WithOnePerSession()))
	place := must[lock.Place](t)(held.Detach())
	if again := must[lock.Place](t)(held.Detach()); again != place || place.Token() != held.Token() {
		t.Errorf("places %v and %v of token %d", place, again, held.Token())
	}
	isAll(t, ended(t, held), lock.ErrDetached)
	isAll(t, held.Unlock(), lock.ErrLost, lock.ErrDetached)
	resumed := must[*lock.Held](t)(lock.ResumeAt(s, t.Name(), place))
	if _, err := resumed.Commit(within(t), clientv3.OpPut(etcd.Prefix(t), "")); err != nil || resumed.Token() != held.Token() {
		t.Errorf("resumed with token %d: %v", resumed.Token(), err)
	}
	stale := must[*lock.Held](t)(lock.ResumeAt(s, t.Name(), place))
	unlock(t, resumed)
	next := locked(t, lock.NewMutex(session(t), t.Name()))
	if err := stale.Unlock(); !errors.Is(err, lock.ErrLost) {
		t.Errorf("the second release from one place: %v", err)
	}
	if _, err := stale.Detach(); !errors.Is(err, lock.ErrLost) {
		t.Errorf("detach after a loss: %v", err)
	}
	unlock(t, next)
	if _, err := lock.ResumeAt(s, t.Name(), lock.Place{}); !errors.Is(err, core.ErrInvalid) {
		t.Errorf("the zero place: %v", err)
	}
	plain := locked(t, lock.NewMutex(s, t.Name()))
	if _, err := plain.Detach(); !errors.Is(err, core.ErrInvalid) {
		t.Errorf("an owner in a local line: %v", err)
	}
	unlock(t, plain)
	nothingLeft(t, t.Name())
}

func TestOptionsThatDoNotGoWithOnePerSession(t *testing.T) {
	one, caller := newHost(t), session(t)
	for name, opt := range map[string]lock.Option{
		"lock delay": lock.WithLockDelay(time.Second), "deferred release": lock.WithDeferredRelease(),
		"local handover": lock.WithLocalHandover(1, time.Second), "max hold": lock.WithMaxHold(time.Second),
	} {
		if _, err := one.mutex(t, caller, t.Name(), opt).TryLock(within(t)); !errors.Is(err, core.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := lock.NewMutex(one.of(t, caller), t.Name(), lock.WithLockDelay(time.Second)).TryLock(within(t)); !errors.Is(err, core.ErrInvalid) {
		t.Errorf("lock delay of a borrowed session: %v", err)
	}
	if _, err := lock.NewMulti(caller, []string{t.Name()}, lock.WithOnePerSession()).TryLock(within(t)); !errors.Is(err, core.ErrInvalid) {
		t.Errorf("a multi: %v", err)
	}
	nothingLeft(t, t.Name())
}

func TestForcedReleaseThroughAHost(t *testing.T) {
	one, two, caller, operator := newHost(t), newHost(t), session(t, core.WithOwner("caller")), session(t)
	held := locked(t, one.mutex(t, caller, t.Name()))
	must[lock.Place](t)(held.Detach())
	m := two.mutex(t, operator, t.Name())
	cs := must[[]lock.Contender](t)(m.Contenders(within(t)))
	if len(cs) != 1 || cs[0].Lease != caller.Lease() || cs[0].Token != held.Token() || cs[0].Owner != "caller" {
		t.Errorf("contenders: %+v", cs)
	}
	waits := locking(t, m)
	waiting(t, m, 1)
	if tok := must[core.Token](t)(m.ForceRelease(within(t), "maintenance")); tok != held.Token() {
		t.Errorf("forced %d, held %d", tok, held.Token())
	}
	h := waits.get(t)
	if err := one.release(t, caller, t.Name(), held.Token()); !errors.Is(err, lock.ErrLost) {
		t.Errorf("a release after it: %v", err)
	}
	unlock(t, h)
	nothingLeftButNotices(t, t.Name())
}

func nothingLeftButNotices(tb testing.TB, name string) {
	tb.Helper()
	if left := standing(tb, name); len(left) > 0 {
		tb.Errorf("left over: %q", left)
	}
}

func TestAnotherKindOfCallWithdrawsTheTicket(t *testing.T) {
	dead, two, caller, library := newHost(t), newHost(t), session(t), session(t)
	held := locked(t, lock.NewMutex(library, t.Name()))
	writer := locking(t, dead.mutex(t, caller, t.Name()))
	waiting(t, lock.NewMutex(library, t.Name()), 1)
	rw := lock.NewRWMutex(two.of(t, caller), t.Name(), lock.WithOnePerSession())
	reader := locking(t, readSide{rw})
	if _, err := writer.result(t); !errors.Is(err, lock.ErrHeldOtherwise) {
		t.Errorf("the writer whose place was withdrawn: %v", err)
	}
	if _, err := two.mutex(t, caller, t.Name()).Lock(within(t)); !errors.Is(err, lock.ErrHeldOtherwise) {
		t.Errorf("a writer at the reader's host: %v", err)
	}
	unlock(t, held)
	unlock(t, reader.get(t))
	nothingLeft(t, t.Name())
}

func TestTryGivesUpAPlaceThatWasLeft(t *testing.T) {
	dead, next, caller, library := newHost(t), newHost(t), session(t), session(t)
	held := locked(t, lock.NewMutex(library, t.Name()))
	wait := locking(t, dead.mutex(t, caller, t.Name()))
	waiting(t, lock.NewMutex(library, t.Name()), 1)
	dead.Close()
	_, _ = wait.result(t)
	if _, err := next.mutex(t, caller, t.Name()).TryLock(within(t)); !errors.Is(err, lock.ErrLocked) {
		t.Errorf("a try: %v", err)
	}
	waiting(t, lock.NewMutex(library, t.Name()), 0)
	unlock(t, held)
	nothingLeft(t, t.Name())
}

func TestCallerExpiresWhileItWaitsAtAHost(t *testing.T) {
	one, caller, other, library := newHost(t), session(t), session(t), session(t)
	held := locked(t, lock.NewMutex(library, t.Name()))
	gone, stays := locking(t, one.mutex(t, caller, t.Name())), locking(t, one.mutex(t, other, t.Name()))
	waiting(t, lock.NewMutex(library, t.Name()), 2)
	coretest.ExpireLease(t, one.client, caller.Lease())
	if _, err := gone.result(t); !errors.Is(err, core.ErrSessionExpired) {
		t.Errorf("the wait of the caller that expired: %v", err)
	}
	if _, err := one.mutex(t, caller, t.Name()).TryLock(within(t)); !errors.Is(err, lock.ErrLocked) && !errors.Is(err, core.ErrSessionExpired) {
		t.Errorf("its next try: %v", err)
	}
	unlock(t, held)
	unlock(t, stays.get(t))
	if _, err := one.mutex(t, caller, t.Name()).Lock(within(t)); !errors.Is(err, core.ErrSessionExpired) {
		t.Errorf("its lock of a free name: %v", err)
	}
	nothingLeft(t, t.Name())
}
