package lock_test

import (
	"context"
	"errors"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/conclavehq/conclave/core"
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
